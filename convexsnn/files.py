"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from convexsnn.errors import ProblemFileError


def with_folder(name: str, path: str | os.PathLike[str]) -> Path:
    """Return `path`; raises a ProblemFileError that names the argument if its folder is not there."""
    path = Path(path)
    if not path.absolute().parent.is_dir():
        raise ProblemFileError(f"{name}: {path}: no such folder {path.parent}")
    return path


@contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """Give a name beside `path` to write to; what was written takes the place of `path` at the end.

    If the block raises, or the last step cannot be done, `path` is as it was and nothing else is left.

    Raises
    ------
    OSError
        The folder cannot be written to.
    """
    # the suffix stays: writers of pictures take the format from it
    made = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        yield made
        os.replace(made, path)
    finally:
        made.unlink(missing_ok=True)
