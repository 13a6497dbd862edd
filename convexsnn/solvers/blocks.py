"""The solution of a splitting's block, without reductions, by the first solver that reaches the tolerance."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from convexsnn.errors import SolverFailed
from convexsnn.programs import Block, Point
from convexsnn.solvers.solver import Progress, Solution, Solver, Status


def solve_block(
    solvers: Sequence[Solver],
    block: Block,
    tolerance: float,
    deadline: float | None,
    options: Mapping[str, Any] | None,
    progress: Progress | None,
) -> Solution:
    """Return the best point of the solvers, which run until one has a gap within `tolerance`.

    The block certifies every point; the gap alone decides between OPTIMAL and LIMIT.

    Raises
    ------
    SolverFailed
        No solver returned a point.
    """
    zero = Point(np.zeros(block.shape))
    nothing = Solution(zero, Status.LIMIT, block.certify(zero), solvers[0].name, "time limit")
    best: Solution | None = None
    failure: SolverFailed | None = None
    for solver in solvers:
        seconds = None if deadline is None else deadline - time.perf_counter()
        if seconds is not None and seconds <= 0:
            break
        if progress is not None and progress(f"{solver.name}: {block.name}", 0.0) is True:
            break
        try:
            solution = solver.solve(
                block, tolerance=tolerance, time_limit=seconds, options=options, progress=progress
            )
        except SolverFailed as error:
            failure = error
            continue
        solution = replace(
            solution, point=replace(solution.point, weights=block.inside(solution.point.weights))
        )
        if best is None or solution.certificate.gap < best.certificate.gap:
            best = solution
        if best.certificate.gap <= tolerance:
            return replace(best, status=Status.OPTIMAL)
    if best is None and failure is not None:
        raise failure
    return nothing if best is None else replace(best, status=Status.LIMIT)
