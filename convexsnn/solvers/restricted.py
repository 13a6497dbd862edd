"""Programs with far more columns than rows: solve on some columns, look at all of them, add what is missing.

An optimum needs no more columns than rows (Carathéodory), and whether it is one over all columns one
product Dᵀu tells. Any solver does for the small programs; the gap is always that of the whole one.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from convexsnn.arrays import IntArray
from convexsnn.programs import L1Program, Point
from convexsnn.solvers.solver import Solution
from convexsnn.solvers.working_set_groups import group_norms

LEAST = 2000  # columns from which on it pays
FIRST = 200  # columns to begin with, and to add at least
ROUNDS = 100
Solve = Callable[[L1Program, Point | None], Solution]  # on some columns, from a start


def pays(program: L1Program) -> bool:
    """Return whether a program has so many more columns than rows that most of them are best left out."""
    (rows, columns), penalty = program.dictionary.shape, program.penalty
    priced = penalty.uniform or penalty.euclidean  # of others `_largest` knows no price
    return columns > max(LEAST, 8 * rows) and priced and penalty.merges_columns


def solve_restricted(
    program: L1Program, solve: Solve, tolerance: float, start: Point | None = None
) -> Solution:
    """Solve `program` by `solve` on a growing choice of its columns, each time from the last point.

    Returns the best point on the whole program, certified there; it is as accurate as `solve` allows.
    """
    chosen, used = _largest(program, program.dual_at_zero, FIRST), False
    if start is not None:
        chosen = np.union1d(chosen, np.flatnonzero(start.weights.any(axis=1)))
    best: Solution | None = None
    for k in range(ROUNDS):
        own = None if start is None else Point(start.weights[chosen], start.dual)
        solution = solve(program.take_columns(chosen), own)
        used = solution.start_used if k == 0 else used
        weights = np.zeros(program.shape)
        weights[chosen] = solution.point.weights
        dual = solution.certificate.dual
        certificate = program.certify(Point(weights, dual))
        whole = Solution(
            Point(weights, dual),
            solution.status,
            certificate,
            solution.solver,
            solution.solver_status,
            solution.iterations,
            used,
            solution.seconds,
        )
        start = whole.point
        if best is None or certificate.gap < best.certificate.gap:
            best = whole
        if certificate.gap <= tolerance:
            break
        more = max(FIRST, len(chosen) // 2)
        new = np.setdiff1d(_largest(program, dual, more, program.regularization), chosen)
        if not len(new):
            break
        chosen = np.union1d(chosen, new)
    assert best is not None
    return best


def _largest(program: L1Program, dual: np.ndarray, count: int, above: float = 0.0) -> IntArray:
    """Return the columns that a dual point prices highest, in order of their numbers."""
    table = program.dictionary.transpose_times(dual)
    groups = program.penalty.groups(program.shape[0])
    norms = np.abs(table).max(axis=1) if groups is None else group_norms(groups, table)[groups]
    count = min(count, int((norms > above).sum()))
    return np.sort(np.argsort(-norms, kind="stable")[:count])
