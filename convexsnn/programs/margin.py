"""The point of a cell that is farthest from its boundaries.

    max over w, m of  m    subject to  σ_r (g_r·w − h_r) >= m for all rows r,  |w_j| <= B

The linear program has few variables and many rows, and nearly all rows are slack. So a row is added only when
it is violated.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from convexsnn.arrays import BoolArray, FloatArray

ROWS_AT_A_TIME = 48
ROUNDS = 200
LEAST = 1e-9  # at a smaller distance from a boundary, rounding decides the side of a point


def _model(d: int, box: float) -> Any:
    """Return a HiGHS model of max m over |w_j| <= box, without rows yet."""
    import highspy

    model = highspy.Highs()
    model.setOptionValue("output_flag", False)
    model.setOptionValue("threads", 1)
    model.setOptionValue("presolve", "off")  # for a few new rows the last basis is the better start
    bound = np.r_[np.full(d, box), highspy.kHighsInf]
    model.addVars(d + 1, -bound, bound)
    model.changeColCost(d, -1.0)
    return model


def _add_rows(model: Any, rows: FloatArray, bounds: FloatArray) -> None:
    """Add rows·w − m >= bounds."""
    count, d = rows.shape
    values = np.column_stack([rows, -np.ones(count)])
    index = np.tile(np.arange(d + 1, dtype=np.int32), count)
    starts = np.arange(count, dtype=np.int32) * (d + 1)
    model.addRows(count, bounds, np.full(count, np.inf), values.size, starts, index, values.ravel())


def max_margin(
    g: FloatArray, h: FloatArray, fires: BoolArray, box: float, start: FloatArray
) -> tuple[FloatArray, float]:
    """Return the weights of largest margin in the cell of `start`, and that margin.

    Parameters
    ----------
    g, h : (r, d), (r,) arrays
        Rows g·w >= h (fires) or g·w < h; a row with h = ±inf holds for all weights and is ignored.
    fires : (r,) bool array
    box : float
        B.
    start : (d,) array
        Weights inside the cell; returned unchanged if the method has no better ones.
    """
    real = np.isfinite(h)
    sign = np.where(fires[real], 1.0, -1.0)
    rows, bounds = sign[:, None] * g[real], sign * h[real]
    if not len(bounds):
        return start, np.inf
    slack = rows @ start - bounds
    best, best_margin = start, float(slack.min())
    d = len(start)
    at_once = max(ROWS_AT_A_TIME, d)
    model, used = _model(d, box), np.zeros(len(bounds), bool)
    for _ in range(ROUNDS):
        worst = np.argpartition(slack, min(at_once, len(slack)) - 1)[:at_once]
        new = worst[~used[worst]]
        if not len(new):
            break
        used[new] = True
        _add_rows(model, rows[new], bounds[new])
        model.run()
        x = np.array(model.getSolution().col_value)
        if len(x) != d + 1 or not np.isfinite(x).all():
            break
        weights = np.clip(x[:d], -box, box)
        slack = rows @ weights - bounds
        if slack.min() > max(best_margin, LEAST):
            best, best_margin = weights, float(slack.min())
        if slack.min() >= x[d] - 1e-9 * (1.0 + abs(x[d])):
            break
    return best, best_margin
