"""The number of threads of the package, and functions that divide work among threads.

The first of these that is set determines the number:

    1  `use_threads(n)`, or ``--threads N`` on the command line
    2  the environment variable CONVEXSNN_THREADS
    3  the environment variable OMP_NUM_THREADS, the usual limit for OpenMP; its first number
    4  the number of processors of the process, or the limit of its control group if that is smaller

1 and 2 also limit the threads of BLAS and of torch. Without 1 and 2, they follow their own variables, such
as OPENBLAS_NUM_THREADS. Solvers of other packages use one thread, so that their results are repeatable.

No result depends on the number of threads: each thread writes only its own entries and adds to no others.
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

_limits: list[int] = []  # of the `use_threads` blocks that are open; the last one counts


def checked(name: str, value: Any) -> int:
    """Return a number of threads.

    Raises
    ------
    ShapeError
        `value` is neither a whole number from 1 to 4096 nor such a number as text; the message has `name`.
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
    """Return the number of threads that the process can run at the same time."""
    try:
        processors = len(os.sched_getaffinity(0))
    except AttributeError:  # systems that cannot bind a process to processors
        processors = os.cpu_count() or 1
    return max(1, min(processors, _quota() or processors))


def _quota(file: Path = Path("/sys/fs/cgroup/cpu.max")) -> int | None:
    """Return the processor limit of the control group (version 2), rounded up; None without a limit."""
    try:
        most, period = file.read_text(encoding="ascii").split()[:2]
        return -(-int(most) // int(period))
    except (OSError, ValueError, ZeroDivisionError):
        return None


def thread_limit() -> int | None:
    """Return the number of threads set by `use_threads` or CONVEXSNN_THREADS, or None if neither is set.

    Raises
    ------
    ShapeError
        The variable does not hold a number of threads.
    """
    if _limits:
        return _limits[-1]
    value = os.environ.get(VARIABLE)
    return None if value is None else checked(VARIABLE, value)


def threads() -> int:
    """Return the number of threads to use now.

    Raises
    ------
    ShapeError
        CONVEXSNN_THREADS does not hold a number of threads.
    """
    limit = thread_limit()
    if limit is not None:
        return limit
    first = os.environ.get(OPENMP, "").split(",")[0].strip()  # one number per level of nesting
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

    _limits.append(checked("threads", count))
    try:
        with threadpool_limits(_limits[-1]):
            yield
    finally:
        _limits.pop()


def parts_of(size: int, entries: int, worth: int, multiple: int = 1) -> list[tuple[int, int]]:
    """Return ranges (low, high) that divide 0..size among the threads.

    Parameters
    ----------
    entries, worth : int
        Amount of all work, and the amount from which another thread saves time, in the same unit.
    multiple : int
        Every range except the last ends at a multiple of this.
    """
    count = max(1, min(threads(), entries // max(worth, 1), size // multiple))
    edges = [size * k // count // multiple * multiple for k in range(count)] + [size]
    return list(zip(edges, edges[1:], strict=False))


class Team:
    """A pool of threads for many small rounds of work: starts at the first use, ends with the block."""

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
        """Run `work(low, high)` on ranges that cover 0..size, in several threads if that saves time.

        `work` is compiled code that releases the interpreter lock, and writes only to its own range. The
        other arguments are those of `parts_of`.
        """
        parts = parts_of(size, entries, worth, multiple)
        if len(parts) == 1:
            work(0, size)
            return
        if self._pool is None:
            self._pool = ThreadPoolExecutor(threads())
        for future in [self._pool.submit(work, *part) for part in parts]:
            future.result()


def in_parts(
    work: Callable[[int, int], object], size: int, entries: int, worth: int, multiple: int = 1
) -> None:
    """Run one round of work as `Team.in_parts`."""
    with Team() as team:
        team.in_parts(work, size, entries, worth, multiple)


def on_threads(work: Callable[[Job], Answer], jobs: Sequence[Job]) -> list[Answer]:
    """Return ``[work(job) for job in jobs]``, several at a time; `work` releases the interpreter lock."""
    count = min(threads(), len(jobs))
    if count <= 1:
        return [work(job) for job in jobs]
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(work, jobs))
