"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
