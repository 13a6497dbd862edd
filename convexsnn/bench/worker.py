"""The process that runs one solver on one problem; ``python -m convexsnn.bench.worker JSON``.

It writes one JSON object per line: "ready" when the problem is made and the solver is warm, "run" after every
measured run, "failed". Output of the solver goes to standard error.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from convexsnn.bench.machine import memory_bytes
from convexsnn.bench.problems import ALONE, FULL, QUICK, BenchProblem, BitProducts, find_problems
from convexsnn.bits import PackedBits
from convexsnn.programs import L1Program
from convexsnn.solvers import Solution, get_solver, solve
from convexsnn.threads import on_threads, threads

Tell = Callable[[dict[str, Any]], None]


def peak_memory() -> float | None:
    """Return the peak memory of this process so far, in GB."""
    with suppress(OSError, StopIteration):  # getrusage would include the parent's peak
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024 / 1e9
    return None


def call(name: str, program: L1Program, tolerance: float, time_limit: float) -> Solution:
    """Solve through our presolve, or by the solver alone if its name begins with "alone:"."""
    if name.startswith(ALONE):
        solver = get_solver(name.removeprefix(ALONE))
        return solver.solve(program, tolerance=tolerance, time_limit=time_limit)
    return solve(program, name, tolerance=tolerance, time_limit=time_limit)


def measure_solver(problem: BenchProblem, name: str, request: dict[str, Any], tell: Tell) -> None:
    """Warm up, make the program, report every run; the gap is computed after the time is taken."""
    limits = {"tolerance": request["tolerance"], "time_limit": request["time_limit"]}
    call(name, problem.warm_up(), **limits)
    program, total = problem.make(), 0.0
    tell({"event": "ready"})
    for _ in range(request["repeat"]):
        begun = time.perf_counter()
        solution = call(name, program, **limits)
        seconds = time.perf_counter() - begun
        memory, certificate = peak_memory(), program.certify(solution.point)
        tell({
            "event": "run", "seconds": seconds, "gap": certificate.gap, "objective": certificate.objective,
            "lower_bound": certificate.lower_bound, "words": solution.solver_status, "memory_gb": memory,
        })  # fmt: skip
        total += seconds
        if total > request["time_limit"]:
            break


def measure_products(problem: BitProducts, request: dict[str, Any], tell: Tell) -> None:
    """Report the seconds of D w, of Dᵀu, and of one read of the bits by as many threads."""
    rng = np.random.default_rng(0)
    packed = np.frombuffer(rng.bytes(problem.columns * problem.rows // 8), np.uint8)
    bits = PackedBits(packed.reshape(problem.columns, -1), problem.rows)
    w, u = rng.standard_normal(problem.columns), rng.standard_normal(problem.rows)
    shares = np.array_split(bits.packed.reshape(-1).view(np.uint64), threads())
    actions: dict[str, Callable[[], object]] = {
        "read": lambda: on_threads(np.bitwise_xor.reduce, shares),
        "product": lambda: bits @ w,
        "transposed": lambda: bits.transpose_times(u),
    }
    for action in actions.values():
        action()
    tell({"event": "ready"})
    seconds = {name: min(_timed(action) for _ in range(7)) for name, action in actions.items()}
    ratios = {name: seconds[name] / seconds["read"] for name in ("product", "transposed")}
    whole = seconds["product"] + seconds["transposed"]
    tell({"event": "run", "seconds": whole, "parts": seconds, "ratios": ratios, "memory_gb": peak_memory()})


def _timed(action: Callable[[], object]) -> float:
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun


def limit_memory() -> None:
    """Limit this process to the machine's memory, so that a solver that needs more fails."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        memory, (_, hard) = memory_bytes(), resource.getrlimit(resource.RLIMIT_AS)
        if memory is not None and hard in (resource.RLIM_INFINITY, -1):
            resource.setrlimit(resource.RLIMIT_AS, (memory, hard))


def leave_with_parent() -> None:
    """End this process when standard input ends, that is, when the parent process has ended."""

    def wait() -> None:
        while os.read(0, 4096):  # without the lock of `sys.stdin`, which the end of the process asks for
            pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def main() -> None:
    """Run the measurement of the first argument."""
    request = json.loads(sys.argv[1])
    lines = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # output of a solver goes to standard error

    def tell(event: dict[str, Any]) -> None:
        print(json.dumps(event), file=lines, flush=True)

    leave_with_parent()
    limit_memory()
    (problem,) = find_problems([request["problem"]], [*FULL, *QUICK])
    try:
        if isinstance(problem, BitProducts):
            measure_products(problem, request, tell)
        else:
            measure_solver(problem, request["solver"], request, tell)
    except MemoryError:
        tell({"event": "failed", "reason": "out of memory"})
    except Exception as error:  # a solver may fail in any way; the benchmark continues
        tell({"event": "failed", "reason": f"{type(error).__name__}: {error}".splitlines()[0]})


if __name__ == "__main__":
    main()
