"""Files: those written appear complete or not at all; those read are regular files within a size.

A problem file is the user's own, but result folders, networks, checkpoints and arrays may come from anybody.
So nothing here follows what a name may hide: a pipe or a device is refused before it is read, and a file that
is written is new, under a name that nobody can guess.
"""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import shutil
import signal
import stat
import tempfile
import threading
import tomllib
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from convexsnn.errors import ProblemFileError

LARGEST_TEXT = 1 << 26  # bytes of a TOML or JSON file
MOST_PARTS = 1000  # of a dotted key
LARGEST_WHOLE = (1 << 63) - 1  # TOML has 64 bits; what is larger is no size, number or seed of ours
STOPS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))

try:
    import fcntl
except ImportError:  # a system without locks on files: two runs at once are the user's concern
    fcntl = None  # type: ignore[assignment]


def with_folder(name: str, path: str | os.PathLike[str]) -> Path:
    """Return `path`; raise a ProblemFileError that names the argument if its folder does not exist."""
    path = Path(path)
    if not path.absolute().parent.is_dir():
        raise ProblemFileError(f"{name}: {path}: no such folder {path.parent}")
    return path


def is_regular(path: Path) -> bool:
    """Return whether `path` is itself a regular file: no link, folder, pipe or device."""
    with suppress(OSError, ValueError):
        return stat.S_ISREG(path.lstat().st_mode)
    return False


@contextmanager
def reading(path: Path, most: int) -> Iterator[BinaryIO]:
    """Open a regular file of at most `most` bytes; what is no file is refused without waiting for it.

    Raises
    ------
    ProblemFileError
        Missing, a folder, pipe or device, too large, or it cannot be read; the message begins with the path.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except (OSError, ValueError) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else _reason(error)
        raise ProblemFileError(f"{path}: {reason}") from error
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            kind = "a folder" if stat.S_ISDIR(found.st_mode) else "a pipe or a device"
            raise ProblemFileError(f"{path}: is {kind}, expected a file")
        if found.st_size > most:
            raise ProblemFileError(f"{path}: {found.st_size} bytes, at most {most} are read")
        with open(descriptor, "rb", closefd=False) as file:
            yield file
    finally:
        os.close(descriptor)


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)


def read_text(path: Path, most: int = LARGEST_TEXT) -> str:
    """Return the text of a regular file; errors as `reading`, or the file is not UTF-8."""
    with reading(path, most) as file:
        try:
            return file.read().decode("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ProblemFileError(f"{path}: {_reason(error)}") from error


def read_json(path: Path, finite: bool = True) -> dict[str, Any]:
    """Return the object of a JSON file, whose whole numbers have 64 bits; `finite` as `parse_json`.

    Raises
    ------
    ProblemFileError
        As `read_text`; or no JSON, no object, a key twice, nested too deeply, or such a number.
    """
    text = read_text(path)
    try:
        found = parse_json(text, finite)
    except ValueError as error:
        raise ProblemFileError(f"{path}: {error}") from error
    if not isinstance(found, dict):
        raise ProblemFileError(f"{path}: expected an object, got {type(found).__name__}")
    return found


def parse_json(text: str, finite: bool = True) -> Any:
    """Return the value of a JSON text; without `finite` its numbers may be NaN and infinite.

    Raises
    ------
    ValueError
        No JSON, a key twice, nested too deeply, a number that is not finite or has more than 64 bits.
    """
    try:
        number = _finite if finite else float
        return json.loads(
            text, parse_int=_whole, parse_float=number, parse_constant=number, object_pairs_hook=_object
        )
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _whole(text: str) -> int:
    if len(text) > 20 or abs(int(text)) > LARGEST_WHOLE:
        raise ValueError(f"{text[:20]}… has more than 64 bits")
    return int(text)


def _finite(text: str) -> float:
    number = float(text)
    if number - number != 0.0:
        raise ValueError(f"{text[:20]} is not a finite number")
    return number


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


def read_toml(path: Path) -> dict[str, Any]:
    """Return the tables of a TOML file, whose whole numbers have 64 bits.

    Raises
    ------
    ProblemFileError
        As `read_text`; or no TOML, nested too deeply, or such a number; the message begins with the path.
    """
    try:
        tables = parse_toml(read_text(path))
        _check_wholes(tables)
    except ProblemFileError:
        raise
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else error
        raise ProblemFileError(f"{path}: {reason}") from error
    return tables


def parse_toml(text: str) -> dict[str, Any]:
    """Return the tables of a TOML text.

    Raises
    ------
    ValueError
        No TOML, or a key of so many parts that `tomllib`, whose time is quadratic in them, would not end.
    RecursionError
        Nested too deeply.
    """
    if any(part.count(".") > MOST_PARTS for part in re.split(r"[\[\]{},=\n]", text)):
        raise ValueError(f"a key or a line of more than {MOST_PARTS} parts with dots")
    return tomllib.loads(text)


def _check_wholes(value: Any, name: str = "") -> None:
    if isinstance(value, int) and abs(value) > LARGEST_WHOLE:
        raise ValueError(f"{name}: a whole number of more than 64 bits")
    if isinstance(value, dict):
        for key, one in value.items():
            _check_wholes(one, f"{name}.{key}" if name else key)
    elif isinstance(value, list):
        for one in value:
            _check_wholes(one, name)


_appeared: dict[Path, None] = {}  # what this process has put in its place, in order


def note_appeared(path: Path) -> None:
    """Note that a file or folder is in its place; to be called where no signal comes between."""
    _appeared[path] = None


def appeared() -> list[Path]:
    """Return the files and folders that this process has put in their places, and that are still there."""
    return [path for path in _appeared if os.path.lexists(path)]


@contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; at the end the file there replaces `path`.

    If the block raises, or the replacement fails, `path` is unchanged and the temporary file is deleted. What
    a killed process left of the same file is deleted too.

    Raises
    ------
    OSError
        The folder cannot be written to, or `path` is a folder, a pipe or a device.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EEXIST, "exists and is not a file", str(path))
    # the suffix stays, because writers of pictures read the format from it
    partial = path.with_name(f".{path.stem}.{secrets.token_hex(8)}.partial{path.suffix}")
    new = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0)
    descriptor = os.open(partial, new, 0o666)
    try:
        _lock(descriptor, wait=True)  # tells others that a living process is at it
        _sweep(path)
        yield partial
        with uninterrupted():
            os.replace(partial, path)
            note_appeared(path)
    finally:
        os.close(descriptor)
        partial.unlink(missing_ok=True)


def _sweep(path: Path) -> None:
    """Delete the temporary files of `path` that no living process holds."""
    pattern = re.compile(rf"\.{re.escape(path.stem)}\.[0-9a-f]{{16}}\.partial{re.escape(path.suffix)}")
    if fcntl is None:
        return
    for left in path.parent.glob(".*.partial*"):
        if pattern.fullmatch(left.name) and is_regular(left):
            with suppress(OSError), _descriptor(left, os.O_RDONLY | os.O_NOFOLLOW) as descriptor:
                # empty: perhaps made just now, and not locked yet
                if os.fstat(descriptor).st_size and _lock(descriptor, wait=False):
                    left.unlink(missing_ok=True)


@contextmanager
def _descriptor(path: Path, flags: int) -> Iterator[int]:
    descriptor = os.open(path, flags)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _lock(descriptor: int, wait: bool) -> bool:
    """Lock an open file or folder until it is closed; False if another process has it."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        pass
    return True


class TemporaryFolder:
    """A folder of this user alone that goes with the object, or with its process.

    What a killed process left of such a folder goes when the next one is made in the same place.

    Attributes
    ----------
    path : Path
    """

    def __init__(self, parent: Path | None = None) -> None:
        """Make a folder in `parent`; if not given, where the system has its temporary files."""
        parent = Path(tempfile.gettempdir()) if parent is None else parent
        _sweep_folders(parent)
        while True:
            self.path = parent / f".convexsnn.{secrets.token_hex(8)}.temporary"
            self.path.mkdir(mode=0o700)
            descriptor = None if fcntl is None else os.open(self.path, os.O_RDONLY)
            self.remove = weakref.finalize(self, _remove, self.path, descriptor)
            if descriptor is None or (_lock(descriptor, wait=False) and self.path.is_dir()):
                return
            self.remove()  # another process has swept it before it was locked


def _remove(folder: Path, descriptor: int | None) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    if descriptor is not None:
        os.close(descriptor)


def _sweep_folders(parent: Path) -> None:
    """Delete the temporary folders of this user that no living process holds."""
    if fcntl is None:
        return
    for left in parent.glob(".convexsnn.*.temporary"):
        with suppress(OSError):
            found = left.lstat()
            ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
            if ours and re.fullmatch(r"\.convexsnn\.[0-9a-f]{16}\.temporary", left.name):
                with _descriptor(left, os.O_RDONLY | os.O_NOFOLLOW) as descriptor:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # an error: held, or unknown
                    shutil.rmtree(left, ignore_errors=True)


_held: set[tuple[int, int, int]] = set()  # folders that a thread of this process has locked


@contextmanager
def locked(folder: Path, wait: bool = False, nested: bool = True) -> Iterator[bool]:
    """Lock a folder against other processes for the block; yield whether it is ours.

    The lock ends with the process, however that ends, and leaves no file. With `nested` a block inside a
    block of the same folder and thread has the lock already.
    """
    if fcntl is None:
        yield True
        return
    with _descriptor(folder, os.O_RDONLY) as descriptor:
        found = os.fstat(descriptor)
        key = (threading.get_ident(), found.st_dev, found.st_ino)
        if nested and key in _held:
            yield True
        elif not _lock(descriptor, wait):
            yield False
        else:
            _held.add(key)
            try:
                yield True
            finally:
                _held.discard(key)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Put off Ctrl-C and the signals that end a process until the end of a short block."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    before = {one: signal.signal(one, lambda number, _: came.append(number)) for one in STOPS}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, signal.SIG_DFL if handler is None else handler)
        if came:
            signal.raise_signal(came[0])
