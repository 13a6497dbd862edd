"""Files that appear complete or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from convexsnn.errors import ProblemFileError


def with_folder(name: str, path: str | os.PathLike[str]) -> Path:
    """Return `path`; raise a ProblemFileError that names the argument if its folder does not exist."""
    path = Path(path)
    if not path.absolute().parent.is_dir():
        raise ProblemFileError(f"{name}: {path}: no such folder {path.parent}")
    return path


@contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; at the end the file there replaces `path`.

    If the block raises, or the replacement fails, `path` is unchanged and the temporary file is deleted.

    Raises
    ------
    OSError
        The folder cannot be written to.
    """
    # the suffix stays, because writers of pictures read the format from it
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
