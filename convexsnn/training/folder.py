"""The folder of a result: written completely or not at all; it replaces an earlier one only with `force`."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from convexsnn.errors import ProblemFileError

CERTIFICATE = "certificate.json"
PLOT_DATA = "path.json"
ADMM = "admm.json"
MARKS = (CERTIFICATE, PLOT_DATA, ADMM)  # `force` replaces a folder only if it holds one of them


def check_writable(folder: Path, force: bool) -> None:
    """Raise a ProblemFileError if `write_folder` could not write there; a cheap check before long work."""
    parent = folder.absolute().parent
    if not parent.is_dir():
        raise ProblemFileError(f"out: {folder}: no such folder {parent}")
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise ProblemFileError(f"out: {folder}: exists and is not a folder")
    if folder.exists():
        if not force:
            raise ProblemFileError(f"out: {folder}: exists; choose another folder, or replace it with force")
        if any(folder.iterdir()) and not any((folder / mark).exists() for mark in MARKS):
            raise ProblemFileError(
                f"out: {folder}: exists and holds no {' or '.join(MARKS)}; force replaces only a saved result"
            )
    if not os.access(parent, os.W_OK | os.X_OK):
        raise ProblemFileError(f"out: {folder}: {parent} cannot be written")


def write_folder(
    folder: Path,
    write: Callable[[Path], None],
    force: bool = False,
    also: Callable[[Path], None] | None = None,
) -> None:
    """Let `write`, and then `also`, fill a temporary folder beside `folder`, then rename it to `folder`.

    Raises
    ------
    ProblemFileError
        `folder` exists and `force` is not set, holds no saved result, or cannot be written.
    """
    check_writable(folder, force)
    try:
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.absolute().parent))
    except OSError as error:
        raise ProblemFileError(f"out: {folder}: {error.strerror or error}") from error
    try:
        write(temporary)
        if also is not None:
            also(temporary)
        temporary.chmod(0o755)
        if folder.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{folder.name}.old.", dir=folder.absolute().parent))
            os.rename(folder, old / "was")
            try:
                os.rename(temporary, folder)
            except BaseException:  # also after an interrupt: restore the earlier result
                os.rename(old / "was", folder)
                raise
            finally:
                shutil.rmtree(old, ignore_errors=True)
        else:
            os.rename(temporary, folder)
    except OSError as error:
        raise ProblemFileError(f"out: {folder}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
