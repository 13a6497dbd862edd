"""The last word on one cell: a program in floats proposes, rational arithmetic decides.

A cell counts as empty only if rational arithmetic proves it. Floats alone say that a cell is not empty where
all its rows hold by far more than rounding; such an error would only weaken a bound.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from convexsnn.arrays import BoolArray, FloatArray, IntArray
from convexsnn.pricing.decisions import Decisions
from convexsnn.pricing.rational import ExactCells
from convexsnn.pricing.small_lp import OPTIMAL, Solved, solved

SURE = 1e-9  # of rows of size 1: a margin above this is not rounding


def scaled_cell(
    unit: Decisions, rows: Sequence[tuple[int, int, bool]]
) -> tuple[FloatArray, FloatArray, BoolArray, FloatArray]:
    """Return a cell as scaled rows a·v >= b, its margin included.

    Returns a (r, d), b (r,), whether the event of a row fires (r,), and the bound on rounding (r,).
    """
    scaled = unit.scaled
    table = np.array(rows, dtype=np.int64).reshape(-1, 3)
    at, fires = (table[:, 0], table[:, 1]), table[:, 2] == 1
    sign = np.where(fires, 1.0, -1.0)
    a, b = sign[:, None] * scaled.g[at], sign * scaled.h[at] + scaled.margin[at]
    return a, b, fires, scaled.error[at]


def weights_of(unit: Decisions, scaled: FloatArray) -> FloatArray:
    """Return weights from scaled weights, exactly, inside the weight box."""
    box = unit.definition.weight_box
    return np.clip(unit.scaled.unit * scaled, -box, box)


def cell_weights(cells: ExactCells, rows: Sequence[tuple[int, int, bool]]) -> FloatArray | None:
    """Return weights (k, d) in a cell, the best first, or None if the cell is certainly empty.

    The cell is given by rows (sample, node, fires). A cell that is not empty may hold no float: then the
    weights are the nearest ones.
    """
    unit, closed = cells.unit, cells.closed
    if not rows:
        return np.zeros((1, unit.dimension))
    a, b, fires, error = scaled_cell(unit, rows)
    box, sure = unit.scaled.box, SURE + 4.0 * error.max()
    strict = solved(a, b, (~fires).astype(np.float64), box) if closed else None
    # a closed cell is empty as soon as its silent rows are
    if strict is not None and not _far(strict, sure) and _refuted(cells, rows, strict):
        return None
    solution = solved(a, b, np.ones(len(b)), box)
    if _far(solution, sure):
        return weights_of(unit, solution.weights)[None]
    if strict is None and _refuted(cells, rows, solution):
        return None
    points = [solution] if strict is None else [solution, strict]
    tried = [weights_of(unit, point.weights) for point in points]
    inside = [weights for weights in tried if cells.holds(rows, weights)]
    if not inside:
        point = cells.point(rows, _basis(points[-1]))
        if point is None:
            return None
        inside = [np.array(point, dtype=np.float64), *tried]
    return np.array(inside)


def _far(solution: Solved, sure: float) -> bool:
    """Return whether the strict rows hold by far more than rounding."""
    return solution.state == OPTIMAL and solution.margin > sure


def _refuted(cells: ExactCells, rows: Sequence[tuple[int, int, bool]], solution: Solved) -> bool:
    exponents = cells.unit.scaled.exponent[tuple(np.array(rows, dtype=np.int64).reshape(-1, 3)[:, :2].T)]
    return cells.refuted(rows, np.ldexp(solution.proof, exponents.min() - exponents))


def _basis(solution: Solved) -> IntArray | None:
    return solution.basis if len(np.unique(solution.basis)) == len(solution.basis) else None
