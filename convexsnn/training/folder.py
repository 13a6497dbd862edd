"""The folder of a result: written completely or not at all; it replaces an earlier one only with `force`.

What is replaced are the files of ours alone (`manifest`); all others stay where they are, and the folder
itself too. The new files are made in a folder of their own. To replace, the old files move aside into it and
the new ones take their place, the manifest last; whatever stops that before the manifest is undone, if need
be by the next run. So at every moment the files of at least one whole result are on the disk.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from convexsnn.errors import ProblemFileError
from convexsnn.files import is_regular, locked, note_appeared, uninterrupted
from convexsnn.training.manifest import CLAIMS, MANIFEST, listed, own_files, write_manifest

ASIDE = "replaced"  # in the folder of the new files: the old ones, while they change places


@contextmanager
def reserved(folder: Path, force: bool) -> Iterator[bool]:
    """Check that a result can be written, and keep other runs from it; yield `force` for `write_folder`.

    It is False where nothing was there: then what another run writes meanwhile stays.

    Raises
    ------
    ProblemFileError
        As `write_folder`, or another run is about to write the folder.
    """
    if folder.is_symlink() or (os.path.lexists(folder) and not folder.is_dir()):
        raise ProblemFileError(f"out: {folder}: exists and is not a folder")
    there = folder.exists()
    if there and not force:
        raise ProblemFileError(f"out: {folder}: exists; choose another folder, or replace it with force")
    parent = folder if there else folder.absolute().parent
    if not parent.is_dir():
        raise ProblemFileError(f"out: {folder}: no such folder {parent}")
    with _alone(folder) if there else nullcontext():
        if there:
            _settle_all(folder, "")
            _owned(folder)
        if not os.access(parent, os.W_OK | os.X_OK):
            raise ProblemFileError(f"out: {folder}: {parent} cannot be written")
        yield there


def _owned(folder: Path) -> Set[str]:
    """Return the names of our files in a folder that may be replaced."""
    found = own_files(folder)
    if found is None and all(_is_made(path, "") for path in folder.iterdir()):
        return set()
    if found is None:
        raise ProblemFileError(
            f"out: {folder}: exists and holds no {' or '.join(CLAIMS)} of ours; force replaces only a saved "
            "result"
        )
    owned, others = found
    _refuse(folder, others)
    return owned


def _refuse(folder: Path, others: Set[str]) -> None:
    if others:
        raise ProblemFileError(
            f"out: {folder}: {', '.join(sorted(others))}: not as convexsnn wrote it; move it, or choose "
            "another folder"
        )


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    with locked(folder) as ours:
        if not ours:
            raise ProblemFileError(f"out: {folder}: another run is about to write it; choose another folder")
        yield


def write_folder(
    folder: Path,
    write: Callable[[Path], None],
    force: bool = False,
    also: Callable[[Path], None] | None = None,
) -> list[str]:
    """Let `write`, and then `also`, fill a new folder, with a manifest; then it becomes `folder`.

    Returns
    -------
    list of str
        Names in the folder that are not ours and stay.

    Raises
    ------
    ProblemFileError
        `folder` exists and `force` is not set, holds no saved result, or a file with the name of a new one
        that we did not write or that was changed since; or it cannot be written. Then nothing is changed.
    """
    try:
        with reserved(folder, force) as there:
            if there:
                return _replace(folder, write, also)
            _write_new(folder, write, also)
            return []
    except OSError as error:
        raise ProblemFileError(f"out: {folder}: {error.strerror or error}") from error


def _fill(made: Path, write: Callable[[Path], None], also: Callable[[Path], None] | None) -> None:
    write(made)
    if also is not None:
        also(made)
    write_manifest(made, [path.name for path in made.iterdir() if is_regular(path)])


@contextmanager
def _making(parent: Path, name: str) -> Iterator[Path]:
    """Make a folder whose name nobody guesses and that nobody else can enter; at the end delete it."""
    _settle_all(parent, name)
    made = parent / f".{name}.{secrets.token_hex(8)}.new"
    made.mkdir(mode=0o700)
    with locked(made):
        try:
            yield made
        finally:
            _clear(made)


def _is_made(path: Path, name: str) -> bool:
    """Return whether `path` has the name, and is the kind, of a folder that `_making` makes."""
    pattern = rf"\.{re.escape(name)}\.[0-9a-f]{{16}}\.new"
    return bool(re.fullmatch(pattern, path.name)) and path.is_dir() and not path.is_symlink()


def _settle_all(parent: Path, name: str) -> None:
    """End what killed processes left: put back what they set aside, delete what they made."""
    for left in [path for path in parent.iterdir() if _is_made(path, name)]:
        with suppress(OSError), locked(left, nested=False) as ours, uninterrupted():
            if ours and left.stat().st_uid == os.geteuid():
                _undo(parent, left)
                _clear(left)


def unfinished(folder: Path) -> str | None:
    """Return in words that a result is being replaced, or that this was killed half-way; None if it is whole.

    Nothing is changed: only a run that may replace the result puts the earlier one back.
    """
    for left in folder.iterdir():
        if _is_made(left, "") and listed(left) is not None and (left / ASIDE).is_dir():
            with suppress(OSError), locked(left, nested=False) as ours:
                if not ours:
                    return "another run is just replacing this result; try again"
            return (
                f"a run that was replacing this result was killed; its files of before lie in {left.name}/"
                f"{ASIDE}, and any run with --out {folder} --force first puts them back"
            )
    return None


def _clear(made: Path) -> None:
    """Delete a folder that we made: its files, those set aside if they are replaced, and nothing deeper."""
    places = [made / ASIDE, made]
    with suppress(OSError):
        if (made / MANIFEST).exists() and (made / ASIDE).exists():
            places[0].rmdir()  # what could not be put back stays
        for place in places:
            for path in place.iterdir() if place.is_dir() and not place.is_symlink() else ():
                if path.is_symlink() or not path.is_dir():
                    path.unlink()
            if place.is_dir():
                place.rmdir()


def _write_new(folder: Path, write: Callable[[Path], None], also: Callable[[Path], None] | None) -> None:
    with _making(folder.absolute().parent, folder.name) as made:
        mode = _mode_of_new(made)
        _fill(made, write, also)
        made.chmod(mode)
        with uninterrupted():
            try:
                os.rename(made, folder)  # fails where another run was first: its folder is not empty
            except OSError as error:
                if not os.path.lexists(folder):
                    raise
                raise ProblemFileError(
                    f"out: {folder}: another run has written it meanwhile; choose another folder"
                ) from error
            note_appeared(folder)


def _mode_of_new(made: Path) -> int:
    """Return the mode that a new folder beside `made`, which is still empty, would have."""
    sample = made / ASIDE
    sample.mkdir()
    mode = sample.stat().st_mode
    sample.rmdir()
    return mode


def _replace(folder: Path, write: Callable[[Path], None], also: Callable[[Path], None] | None) -> list[str]:
    with _making(folder, "") as made:
        _fill(made, write, also)
        owned = _owned(folder)
        new = [path.name for path in made.iterdir()]
        kept = {path.name for path in folder.iterdir() if not _is_made(path, "")} - owned
        _refuse(folder, kept & set(new))
        with uninterrupted():
            try:
                _exchange(folder, made, owned, new)
            except BaseException:
                _undo(folder, made)
                raise
            note_appeared(folder)
        return sorted(kept)


def _last(names: Set[str] | list[str]) -> list[str]:
    """Return names with the manifest last: it tells how far an exchange has come."""
    return sorted(names, key=lambda name: (name == MANIFEST, name))


def _exchange(folder: Path, made: Path, owned: Set[str], new: list[str]) -> None:
    aside = made / ASIDE
    aside.mkdir()
    for name in _last(owned):
        if is_regular(folder / name):
            os.rename(folder / name, aside / name)
    for name in _last(new):
        if os.path.lexists(folder / name):
            raise FileExistsError(errno.EEXIST, f"{name} has appeared meanwhile")
        os.rename(made / name, folder / name)


def _undo(folder: Path, made: Path) -> None:
    """Bring an exchange that stopped before its manifest back to its beginning."""
    new, aside = listed(made), made / ASIDE
    if new is None or not aside.is_dir() or aside.is_symlink():
        return
    for name in new:
        if not os.path.lexists(made / name) and is_regular(folder / name):
            os.rename(folder / name, made / name)
    for path in aside.iterdir():
        if not os.path.lexists(folder / path.name):
            os.rename(path, folder / path.name)
