"""The number of threads that the package uses, decided in one place, and the way to share work among them.

The first of these that is set decides:

    1  `use_threads(n)`, or ``--threads N`` on the command line
    2  the environment variable CONVEXSNN_THREADS
    3  the environment variable OMP_NUM_THREADS, the limit that people set for OpenMP; its first number
    4  as many as the process may use: its processors, less where a control group gives it less

1 and 2 also limit the threads of BLAS and of torch. Without them those follow their own variables, such as
OPENBLAS_NUM_THREADS. Solvers of other packages use one thread, so that their results can be repeated.

No result depends on the number: each part of the work writes entries of its own and adds nothing to others'.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from convexsnn.errors import ShapeError

VARIABLE, OPENMP = "CONVEXSNN_THREADS", "OMP_NUM_THREADS"
MOST = 4096  # a larger number is a mistake rather than a machine

Job = TypeVar("Job")
Answer = TypeVar("Answer")

_asked: list[int] = []  # by `use_threads`, the last one counts


def checked(name: str, value: Any) -> int:
    """Return a number of threads.

    Raises
    ------
    ShapeError
        Not a whole number from 1 to 4096, as such or as text; the message has `name`.
    """
    try:
        number = int(value) if isinstance(value, str) else value
    except ValueError:
        number = None
    whole = isinstance(number, int) and not isinstance(number, bool)
    if not whole or not 1 <= number <= MOST:  # type: ignore[operator]
        raise ShapeError(f"{name}: expected a whole number of threads from 1 to {MOST}, got {value!r}")
    return int(number)  # type: ignore[arg-type]


@cache
def available() -> int:
    """Return how many threads the process may run at once."""
    try:
        processors = len(os.sched_getaffinity(0))
    except AttributeError:  # systems that bind no process to processors
        processors = os.cpu_count() or 1
    return max(1, min(processors, _quota() or processors))


def _quota(file: Path = Path("/sys/fs/cgroup/cpu.max")) -> int | None:
    """Return the processors that a control group (version 2) gives, rounded up; None without a limit."""
    try:
        most, period = file.read_text(encoding="ascii").split()[:2]
        return -(-int(most) // int(period))
    except (OSError, ValueError, ZeroDivisionError):
        return None


def asked_threads() -> int | None:
    """Return the number that was asked for of this package, by `use_threads` or CONVEXSNN_THREADS.

    Raises
    ------
    ShapeError
        The variable holds no number of threads.
    """
    if _asked:
        return _asked[-1]
    value = os.environ.get(VARIABLE)
    return None if value is None else checked(VARIABLE, value)


def threads() -> int:
    """Return the number of threads to use now.

    Raises
    ------
    ShapeError
        CONVEXSNN_THREADS holds no number of threads.
    """
    asked = asked_threads()
    if asked is not None:
        return asked
    first = os.environ.get(OPENMP, "").split(",")[0].strip()  # one number a level of nesting
    return int(first) if first.isdecimal() and 1 <= int(first) <= MOST else available()


@contextmanager
def use_threads(count: int) -> Iterator[None]:
    """Use `count` threads inside the block, for this package, BLAS and torch; blocks nest.

    Raises
    ------
    ShapeError
        `count` is not a whole number from 1 to 4096.
    """
    from threadpoolctl import threadpool_limits

    _asked.append(checked("threads", count))
    try:
        with threadpool_limits(_asked[-1]):
            yield
    finally:
        _asked.pop()


def parts_of(size: int, entries: int, worth: int, multiple: int = 1) -> list[tuple[int, int]]:
    """Return ranges (low, high) that share 0..size among the threads.

    Parameters
    ----------
    entries, worth : int
        Size of the whole work, and of what pays for a thread of its own, in the same unit.
    multiple : int
        Every range but the last ends at a multiple of it.
    """
    count = max(1, min(threads(), entries // max(worth, 1), size // multiple))
    edges = [size * k // count // multiple * multiple for k in range(count)] + [size]
    return list(zip(edges, edges[1:], strict=False))


class Team:
    """Threads for work in many small rounds: made when first needed, let go at the end of the block."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> Team:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown()

    def in_parts(
        self, work: Callable[[int, int], object], size: int, entries: int, worth: int, multiple: int = 1
    ) -> None:
        """Do `work(low, high)` for all of 0..size, in several threads where that pays.

        `work` is compiled code that holds no lock, and writes to its own range. Arguments as `parts_of`.
        """
        parts = parts_of(size, entries, worth, multiple)
        if len(parts) == 1:
            work(0, size)
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(threads())
        for done in [self._pool.submit(work, *part) for part in parts]:
            done.result()


def in_parts(
    work: Callable[[int, int], object], size: int, entries: int, worth: int, multiple: int = 1
) -> None:
    """Do one round of a `Team`."""
    with Team() as team:
        team.in_parts(work, size, entries, worth, multiple)


def on_threads(work: Callable[[Job], Answer], jobs: Sequence[Job]) -> list[Answer]:
    """Return ``[work(job) for job in jobs]``, several at once; `work` lets other threads run."""
    count = min(threads(), len(jobs))
    if count <= 1:
        return [work(job) for job in jobs]
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(work, jobs))
