"""The point of a cell that is farthest from its walls.

    max over w, m of  m    subject to  σ_r (g_r·w − h_r) >= m for all rows r,  |w_j| <= B

A linear program with few variables and many rows, nearly all slack: rows are added as they are violated.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import linprog

from convexsnn.arrays import BoolArray, FloatArray

ROWS_AT_A_TIME = 48


def max_margin(
    g: FloatArray, h: FloatArray, fires: BoolArray, box: float, start: FloatArray
) -> tuple[FloatArray, float]:
    """Return the weights of largest margin in the cell of `start`, and that margin.

    Parameters
    ----------
    g, h : (r, d), (r,) arrays
        Rows g·w >= h (fires) or g·w < h; a row with h = ±inf holds for all weights and is left out.
    fires : (r,) bool array
    box : float
        B.
    start : (d,) array
        Weights inside the cell; returned unchanged if no better ones are found.
    """
    real = np.isfinite(h)
    sign = np.where(fires[real], 1.0, -1.0)
    rows, bounds = sign[:, None] * g[real], sign * h[real]
    if not len(bounds):
        return start, np.inf
    slack = rows @ start - bounds
    best, best_margin = start, float(slack.min())
    used = np.argsort(slack)[:ROWS_AT_A_TIME]
    d = len(start)
    for _ in range(100):
        found = linprog(
            np.r_[np.zeros(d), -1.0], np.column_stack([-rows[used], np.ones(len(used))]), -bounds[used],
            bounds=[(-box, box)] * d + [(None, None)],
        )
        if not found.success:
            break
        slack = rows @ found.x[:d] - bounds
        if slack.min() > best_margin:
            best, best_margin = found.x[:d], float(slack.min())
        if slack.min() >= found.x[d] - 1e-9 * (1.0 + abs(found.x[d])):
            break
        worst = np.argsort(slack)[:ROWS_AT_A_TIME]
        used = np.union1d(used, worst)
    return best, best_margin
