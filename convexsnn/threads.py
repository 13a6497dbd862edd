"""The number of threads of the package, and functions that divide work among threads.

The first of these that is set determines the number:

    1  `use_threads(n)`, or ``--threads N`` on the command line
    2  the environment variable CONVEXSNN_THREADS
    3  the environment variable OMP_NUM_THREADS, the usual limit for OpenMP; its first number
    4  the number of processors of the process, or the limit of its control group if that is smaller

The number applies to the kernels of the package, and also to

    BLAS       inside `use_threads`, and in commands if 1 or 2 is set; a smaller limit in a variable of BLAS,
               such as OPENBLAS_NUM_THREADS, still holds. Elsewhere BLAS follows its own variables
    torch      during training, if 1 or 2 is set; kernels never use more threads than torch
    processes  a benchmark runs with the same number; each Dask worker on this machine gets an equal share

Solvers of other packages use one thread, so that their results are repeatable.

Results depend on the number of threads only through the rounding of BLAS and torch: each thread of a kernel
writes only its own entries and adds to no others.
"""

from __future__ import annotations

import os
import sys
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
SAFE = {"PYTHONSAFEPATH": "1"}  # no module is imported from the folder that a process starts in
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
    whole = isinstance(number, Integral) and not isinstance(number, bool)
    if not whole or not 1 <= number <= MOST:  # type: ignore[operator]
        raise ShapeError(f"{name}: expected a whole number of threads from 1 to {MOST}, got {value!r}")
    return int(number)  # type: ignore[arg-type]


def available() -> int:
    """Return the number of threads that the process can run at the same time."""
    try:
        processors = len(os.sched_getaffinity(0))
    except AttributeError:  # systems that cannot bind a process to processors
        processors = os.cpu_count() or 1
    return max(1, min(processors, _quota() or processors))


@cache
def _quota(groups: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> int | None:
    """Return the smallest processor limit of the control groups, rounded up; None without a limit.

    A line of `membership` is number:controllers:path. Version 1 has one tree per controller, version 2 has
    one tree and no controllers in the line.
    """
    limits: list[int] = []
    with suppress(OSError, ValueError):
        for line in membership.read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers or "cpu" in controllers.split(","):
                root = groups / "cpu" if controllers else groups
                group = root / path.lstrip("/")
                around = (group, *group.parents)
                limits += filter(None, map(_limit_of, around[: around.index(root) + 1]))
    return min(limits, default=None)


def _limit_of(group: Path) -> int | None:
    """Return the processor limit of one control group: time divided by period."""
    for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        with suppress(OSError, ValueError, ZeroDivisionError):
            most, period = " ".join((group / name).read_text(encoding="ascii") for name in names).split()
            return -(-int(most) // int(period)) if int(most) > 0 else None
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
        CONVEXSNN_THREADS or OMP_NUM_THREADS, whichever counts, does not hold a number of threads.
    """
    limit = thread_limit()
    return _first_of(OPENMP) or available() if limit is None else limit


def _first_of(variable: str) -> int | None:
    """Return the first number in a variable of another library, or None if it is empty or not set.

    Raises
    ------
    ShapeError
        The variable begins with something else than a number of threads.
    """
    value = os.environ.get(variable, "")
    # OpenMP: one number per level of nesting
    return checked(variable, value.split(",")[0].strip()) if value.strip() else None


@contextmanager
def use_threads(count: int) -> Iterator[None]:
    """Use `count` threads inside the block, for this package, BLAS and torch; blocks nest.

    Raises
    ------
    ShapeError
        `count` is not a whole number from 1 to 4096, or a variable of BLAS does not begin with one.
    """
    _limits.append(checked("threads", count))
    try:
        with ExitStack() as stack:
            _limit_blas(_limits[-1], stack)
            yield
    finally:
        _limits.pop()


def _limit_blas(number: int, stack: ExitStack) -> None:
    """Limit BLAS to `number` threads until the stack closes, or to the smaller limit of its own variable."""
    import scipy.linalg  # noqa: F401  # has its own BLAS; only loaded libraries can be limited
    from threadpoolctl import ThreadpoolController

    libraries = ThreadpoolController()
    for name, variable in BLAS.items():
        limits = min(number, available(), _first_of(variable) or number)
        stack.enter_context(libraries.select(internal_api=name).limit(limits=limits))


def environment() -> dict[str, str]:
    """Return the environment variables for a process that uses the same number of threads.

    Its own child processes do not import from the current folder either.
    """
    number, variables = thread_limit(), {**os.environ, **SAFE}
    if number is None:
        return variables
    limits = dict.fromkeys((OPENMP, "NUMBA_NUM_THREADS", *BLAS.values()), str(number))
    limits |= {name: os.environ[name] for name in BLAS.values() if name in os.environ}
    return {**variables, **limits, VARIABLE: str(number)}


def python(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module of ours in a process of its own.

    Modules are found where the package is installed, never in the current folder: what lies there is data.
    """
    return [sys.executable, "-P", "-m", module, *arguments]


def parts_of(
    size: int, entries: int, worth: int, multiple: int = 1, most: int = MOST
) -> list[tuple[int, int]]:
    """Return ranges (low, high) that divide 0..size among the threads.

    Parameters
    ----------
    entries, worth : int
        Amount of all work, and the amount from which another thread saves time, in the same unit.
    multiple : int
        Every range except the last ends at a multiple of this.
    most : int
        Largest number of ranges.
    """
    count = max(1, min(threads(), most, entries // max(worth, 1), size // multiple))
    edges = [size * k // count // multiple * multiple for k in range(count)] + [size]
    return list(zip(edges, edges[1:], strict=False))


_pool: ThreadPoolExecutor | None = None
_pool_lock = threading.Lock()
_inside = threading.local()  # .work: the _Work whose job this thread runs


def _after_fork() -> None:
    """Drop the pool in a child process: the threads exist only in the parent."""
    global _pool, _pool_lock, _inside
    _pool, _pool_lock, _inside = None, threading.Lock(), threading.local()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _shared_pool() -> ThreadPoolExecutor:
    """Return the pool of the process; a thread starts when it is first needed and then stays."""
    global _pool
    with _pool_lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(MOST, thread_name_prefix="convexsnn")
        return _pool


class _Work(Generic[Job, Answer]):
    """Jobs that several threads run, one after another in order."""

    def __init__(self, work: Callable[[Job], Answer], jobs: Sequence[Job]) -> None:
        self.work, self.jobs, self.next = work, jobs, 0
        self.lock, self.stopped = threading.Lock(), False
        self.answers: dict[int, Answer] = {}
        self.errors: dict[int, BaseException] = {}

    def take(self) -> None:
        """Run jobs until none is left."""
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
        """Return the answers in order, or raise the error of the first failed job; Ctrl-C has priority."""
        if self.errors:
            raise self.errors[min(self.errors, key=lambda k: (isinstance(self.errors[k], Exception), k))]
        return [self.answers[k] for k in range(len(self.jobs))]


def stopping() -> bool:
    """Return whether the result of the current job is no longer needed, for example after Ctrl-C."""
    work = getattr(_inside, "work", None)
    return work is not None and work.stopped


def on_threads(work: Callable[[Job], Answer], jobs: Sequence[Job]) -> list[Answer]:
    """Return ``[work(job) for job in jobs]``, several at a time; `work` releases the interpreter lock.

    The calling thread runs jobs too, so that it never waits for a thread that cannot start. A call inside a
    job stays on the thread of the job. A long job asks `stopping` from time to time.
    """
    count = min(threads(), len(jobs)) if getattr(_inside, "work", None) is None else 1
    if count <= 1:
        return [work(job) for job in jobs]
    shared, others = _Work(work, jobs), list[Future[None]]()
    try:
        others += [_shared_pool().submit(shared.take) for _ in range(count - 1)]
        shared.take()
    except BaseException:  # Ctrl-C between two jobs, or the system starts no more threads
        shared.stopped = True
        raise
    finally:  # no thread may write to the caller's arrays after the return
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
    """Run `work(low, high)` on ranges that cover 0..size, in several threads if that saves time.

    `work` is compiled code that releases the interpreter lock, and writes only to its own range. The other
    arguments are those of `parts_of`.
    """
    if entries < 2 * worth:  # even the number of threads takes microseconds to find out
        work(0, size)
        return
    on_threads(lambda part: work(*part), parts_of(size, entries, worth, multiple, most))
