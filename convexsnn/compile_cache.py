"""Compiled kernels where nothing can be written: they are compiled in each process and not kept.

Numba keeps what it has compiled beside the source, or in the user's cache folder, and fails if it can write
neither, as in a container with a read-only package and no home.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

PACKAGE = Path(__file__).parent
SAID = "CONVEXSNN_NO_CACHE_SAID"


def can_write(folder: Path) -> bool:
    """Return whether files can be made in a folder, or in one that can be made there."""
    try:
        while not folder.is_dir():
            if folder == folder.parent or os.path.lexists(folder):
                return False
            folder = folder.parent
        if not os.access(folder, os.W_OK | os.X_OK):
            return False
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def cache_folders() -> list[Path]:
    """Return the folders where numba would keep what it compiles, in its order."""
    given = os.environ.get("NUMBA_CACHE_DIR")
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    if sys.platform != "linux":  # the home is above all of its cache folders
        home = os.path.expanduser("~")
    return [*([Path(given)] if given else []), PACKAGE / "__pycache__", Path(home) / "numba"]


def keep_or_do_without() -> None:
    """Let kernels be compiled without a cache if no folder for it can be written, and say so once."""
    if any(map(can_write, cache_folders())):
        return
    from numba.core import dispatcher

    dispatcher.Dispatcher.enable_caching = lambda self: None  # type: ignore[method-assign]
    if SAID not in os.environ:
        os.environ[SAID] = "1"  # the processes that this one starts need not say it again
        print(
            "convexsnn: note: no folder for compiled code can be written, so each process compiles anew; "
            "NUMBA_CACHE_DIR names one",
            file=sys.stderr,
        )
