"""Programs with far more columns than rows: solve on a subset, price all columns, add the violated ones.

An optimum needs no more columns than rows (Carathéodory). One product Dᵀu shows whether it is optimal over
all columns. Every solver can solve the small programs; the gap is always that of the full program.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from convexsnn.arrays import IntArray
from convexsnn.programs import L1Program, Point
from convexsnn.programs.penalties import group_norms
from convexsnn.solvers.solver import Solution

LEAST = 2000  # smallest number of columns of the full program
FIRST = 200  # columns at the start, and the least number of new ones in a round
ROUNDS = 100
Solve = Callable[[L1Program, Point | None], Solution]  # of a program on a subset, from a start


def pays(program: L1Program) -> bool:
    """Return whether a program has so many more columns than rows that a subset of them is faster."""
    (rows, columns), penalty = program.dictionary.shape, program.penalty
    priced = penalty.uniform or penalty.euclidean  # `_largest` has no price for others
    return columns > max(LEAST, 8 * rows) and priced and penalty.merges_columns


def solve_restricted(
    program: L1Program,
    solve: Solve,
    tolerance: float,
    start: Point | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Solution:
    """Solve `program` by `solve` on a growing subset of its columns, each time from the last point.

    Returns the best point, certified on the full program; it is as accurate as `solve` allows. Between two
    calls of `solve` it asks `stop` whether to go on.
    """
    subset, used = _largest(program, program.dual_at_zero, FIRST), False
    if start is not None:
        subset = np.union1d(subset, np.flatnonzero(start.weights.any(axis=1)))
    best: Solution | None = None
    for k in range(ROUNDS):
        subset_start = None if start is None else Point(start.weights[subset], start.dual)
        solution = solve(program.take_columns(subset), subset_start)
        used = solution.start_used if k == 0 else used
        weights = np.zeros(program.shape)
        weights[subset] = solution.point.weights
        dual = solution.certificate.dual
        start = Point(weights, dual)
        certificate = program.certify(start)
        if best is None or certificate.gap < best.certificate.gap:
            best = replace(solution, point=start, certificate=certificate, start_used=used)
        if certificate.gap <= tolerance or stop():
            break
        more = max(FIRST, len(subset) // 2)
        new = np.setdiff1d(_largest(program, dual, more, program.regularization), subset)
        if not len(new):
            break
        subset = np.union1d(subset, new)
    assert best is not None
    return best


def _largest(program: L1Program, dual: np.ndarray, count: int, above: float = 0.0) -> IntArray:
    """Return the columns with the highest prices at a dual point, in ascending order."""
    table = program.dictionary.transpose_times(dual)
    groups = program.penalty.groups(program.shape[0])
    norms = np.abs(table).max(axis=1) if groups is None else group_norms(groups, table)[groups]
    count = min(count, int((norms > above).sum()))
    return np.sort(np.argsort(-norms, kind="stable")[:count])
