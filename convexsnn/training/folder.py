"""A solved problem as a folder: written whole or not at all, never over another one unasked."""

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
MARKS = (CERTIFICATE, PLOT_DATA, ADMM)  # a folder that holds one of them is ours to replace


def check_writable(folder: Path, force: bool) -> None:
    """Raise a ProblemFileError if `write_folder` could not write there; costs nothing, so ask first."""
    parent = folder.absolute().parent
    if not parent.is_dir():
        raise ProblemFileError(f"out: {folder}: no such folder {parent}")
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise ProblemFileError(f"out: {folder}: exists and is not a folder")
    if folder.exists():
        if not force:
            raise ProblemFileError(f"out: {folder}: exists; choose another folder, or --force to replace it")
        if any(folder.iterdir()) and not any((folder / mark).exists() for mark in MARKS):
            raise ProblemFileError(
                f"out: {folder}: exists and holds no {' or '.join(MARKS)}; not replaced, even with --force"
            )
    if not os.access(parent, os.W_OK | os.X_OK):
        raise ProblemFileError(f"out: {folder}: {parent} cannot be written")


def write_folder(
    folder: Path,
    write: Callable[[Path], None],
    force: bool = False,
    also: Callable[[Path], None] | None = None,
) -> None:
    """Let `write`, and `also` after it, fill a new folder beside `folder`, then put it in its place.

    Raises
    ------
    ProblemFileError
        `folder` exists (without `force`), is not one of ours, or cannot be written.
    """
    check_writable(folder, force)
    try:
        made = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.absolute().parent))
    except OSError as error:
        raise ProblemFileError(f"out: {folder}: {error.strerror or error}") from error
    try:
        write(made)
        if also is not None:
            also(made)
        made.chmod(0o755)
        if folder.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{folder.name}.old.", dir=folder.absolute().parent))
            os.rename(folder, old / "was")
            try:
                os.rename(made, folder)
            except BaseException:  # an interrupt too: the earlier result goes back to its place
                os.rename(old / "was", folder)
                raise
            finally:
                shutil.rmtree(old, ignore_errors=True)
        else:
            os.rename(made, folder)
    except OSError as error:
        raise ProblemFileError(f"out: {folder}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(made, ignore_errors=True)
