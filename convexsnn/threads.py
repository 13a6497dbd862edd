"""The number of threads that the package uses, decided in one place, and the way to share work among them.

The first of these that is set decides:

    1  `use_threads(n)`, or ``--threads N`` on the command line
    2  the environment variable CONVEXSNN_THREADS
    3  the environment variable OMP_NUM_THREADS, the limit that people set for OpenMP; its first number
    4  as many as the process may use: its processors, less where a control group gives it less

Beside the package's own kernels the number governs

    BLAS       inside `use_threads`, and in commands if 1 or 2 is set: so many threads, fewer where its own
               variables say so, as OPENBLAS_NUM_THREADS; elsewhere it follows what it read at its start
    torch      while it trains, if 1 or 2 is set; the kernels never use more threads than torch
    processes  benchmarks run with the same number, Dask workers on this machine with equal shares of it

Solvers of other packages use one thread, so that their results can be repeated.

No result depends on the number, but for the rounding of BLAS and torch: each part of the work writes entries
of its own and adds nothing to others'.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from numbers import Integral
from pathlib import Path
from typing import Any, Generic, TypeVar

from convexsnn.errors import ShapeError

VARIABLE, OPENMP = "CONVEXSNN_THREADS", "OMP_NUM_THREADS"
BLAS = {"openblas": "OPENBLAS_NUM_THREADS", "mkl": "MKL_NUM_THREADS"}  # by their names in threadpoolctl
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
    whole = isinstance(number, Integral) and not isinstance(number, bool)
    if not whole or not 1 <= number <= MOST:  # type: ignore[operator]
        raise ShapeError(f"{name}: expected a whole number of threads from 1 to {MOST}, got {value!r}")
    return int(number)  # type: ignore[arg-type]


def available() -> int:
    """Return how many threads the process may run at once."""
    try:
        processors = len(os.sched_getaffinity(0))
    except AttributeError:  # systems that bind no process to processors
        processors = os.cpu_count() or 1
    return max(1, min(processors, _quota() or processors))


@cache
def _quota(groups: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> int | None:
    """Return the processors that the process's control groups give, rounded up; None without a limit.

    Lines of `membership` are number:controllers:path; version 1 has a tree a controller, version 2 one.
    """
    found: list[int] = []
    with suppress(OSError, ValueError):
        for line in membership.read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers or "cpu" in controllers.split(","):
                root = groups / "cpu" if controllers else groups
                group = root / path.lstrip("/")
                around = (group, *group.parents)
                found += filter(None, map(_limit_of, around[: around.index(root) + 1]))
    return min(found, default=None)


def _limit_of(group: Path) -> int | None:
    """Return the processors that one control group gives: time over period."""
    for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        with suppress(OSError, ValueError, ZeroDivisionError):
            most, period = " ".join((group / name).read_text(encoding="ascii") for name in names).split()
            return -(-int(most) // int(period)) if int(most) > 0 else None
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
    return _first_of(OPENMP) or available()


def _first_of(variable: str) -> int | None:
    """Return the limit that a library's own variable sets, its first number, as the library reads it."""
    first = os.environ.get(variable, "").split(",")[0].strip()  # OpenMP: one number a level of nesting
    return int(first) if first.isdecimal() and 1 <= int(first) <= MOST else None


@contextmanager
def use_threads(count: int) -> Iterator[None]:
    """Use `count` threads inside the block, for this package, BLAS and torch; blocks nest.

    Raises
    ------
    ShapeError
        `count` is not a whole number from 1 to 4096.
    """
    _asked.append(checked("threads", count))
    try:
        with ExitStack() as stack:
            _limit_blas(_asked[-1], stack)
            yield
    finally:
        _asked.pop()


def _limit_blas(number: int, stack: ExitStack) -> None:
    """Limit BLAS to `number` threads until the stack is closed; a lower limit of its own variable holds."""
    import scipy.linalg  # noqa: F401  # scipy has a BLAS of its own, and only what is loaded can be limited
    from threadpoolctl import ThreadpoolController

    libraries = ThreadpoolController()
    for name, variable in BLAS.items():
        limits = min(number, available(), _first_of(variable) or number)
        stack.enter_context(libraries.select(internal_api=name).limit(limits=limits))


def environment() -> dict[str, str]:
    """Return the environment of processes that use as many threads as this package was asked to use."""
    number = asked_threads()
    if number is None:
        return dict(os.environ)
    limits = dict.fromkeys((OPENMP, "NUMBA_NUM_THREADS", *BLAS.values()), str(number))
    limits |= {name: os.environ[name] for name in BLAS.values() if name in os.environ}
    return {**os.environ, **limits, VARIABLE: str(number)}


def parts_of(
    size: int, entries: int, worth: int, multiple: int = 1, most: int = MOST
) -> list[tuple[int, int]]:
    """Return ranges (low, high) that share 0..size among the threads.

    Parameters
    ----------
    entries, worth : int
        Size of the whole work, and of what pays for a thread of its own, in the same unit.
    multiple : int
        Every range but the last ends at a multiple of it.
    most : int
        Ranges, whatever the number of threads.
    """
    count = max(1, min(threads(), most, entries // max(worth, 1), size // multiple))
    edges = [size * k // count // multiple * multiple for k in range(count)] + [size]
    return list(zip(edges, edges[1:], strict=False))


_pool: ThreadPoolExecutor | None = None
_pool_lock = threading.Lock()
_inside = threading.local()  # .work: what this thread has a part in


def _after_fork() -> None:
    """Forget, in a child process, the threads that only its parent has."""
    global _pool, _pool_lock, _inside
    _pool, _pool_lock, _inside = None, threading.Lock(), threading.local()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _shared_pool() -> ThreadPoolExecutor:
    """Return the pool of the process; its threads start when they are first needed, and stay."""
    global _pool
    with _pool_lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(MOST, thread_name_prefix="convexsnn")
        return _pool


class _Work(Generic[Job, Answer]):
    """Jobs that several threads take one at a time, in order."""

    def __init__(self, work: Callable[[Job], Answer], jobs: Sequence[Job]) -> None:
        self.work, self.jobs, self.next = work, jobs, 0
        self.lock, self.stopped = threading.Lock(), False
        self.answers: dict[int, Answer] = {}
        self.errors: dict[int, BaseException] = {}

    def take(self) -> None:
        """Do jobs until none is left."""
        _inside.work = self
        try:
            while True:
                with self.lock:
                    k = self.next
                    if self.stopped or k == len(self.jobs):
                        return
                    self.next += 1
                try:
                    self.answers[k] = self.work(self.jobs[k])
                except BaseException as error:
                    self.errors[k], self.stopped = error, True
        finally:
            _inside.work = None

    def result(self) -> list[Answer]:
        """Return the answers in order, or raise what the first job that failed raised; Ctrl-C goes first."""
        if self.errors:
            raise self.errors[min(self.errors, key=lambda k: (isinstance(self.errors[k], Exception), k))]
        return [self.answers[k] for k in range(len(self.jobs))]


def stopping() -> bool:
    """Return whether nobody waits any more for the job that calls this, as after Ctrl-C; long jobs ask."""
    work = getattr(_inside, "work", None)
    return work is not None and work.stopped


def on_threads(work: Callable[[Job], Answer], jobs: Sequence[Job]) -> list[Answer]:
    """Return ``[work(job) for job in jobs]``, several at once; `work` lets other threads run.

    The calling thread takes jobs as well, so that nobody waits for a thread that never comes. What a job
    itself shares in this way stays on its thread.
    """
    count = min(threads(), len(jobs)) if getattr(_inside, "work", None) is None else 1
    if count <= 1:
        return [work(job) for job in jobs]
    shared, others = _Work(work, jobs), list[Future[None]]()
    try:
        others += [_shared_pool().submit(shared.take) for _ in range(count - 1)]
        shared.take()
    except BaseException:  # Ctrl-C between two jobs, or no more threads to be had
        shared.stopped = True
        raise
    finally:  # when this returns, nobody writes to the caller's arrays any more
        for other in others:
            if not other.cancel():
                other.result()
    return shared.result()


def in_parts(
    work: Callable[[int, int], object],
    size: int,
    entries: int,
    worth: int,
    multiple: int = 1,
    most: int = MOST,
) -> None:
    """Do `work(low, high)` for all of 0..size, in several threads where that pays.

    `work` is compiled code that holds no lock, and writes to its own range. Arguments as `parts_of`.
    """
    if entries < 2 * worth:  # asking for the number of threads takes longer than a small product
        work(0, size)
        return
    on_threads(lambda part: work(*part), parts_of(size, entries, worth, multiple, most))
