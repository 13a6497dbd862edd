"""A linear program with few variables and many rows, the form of every cell of weight space.

    max m   subject to   a_r·w − κ_r m >= b_r for all rows r,   |w_j| <= box,   m <= cap      (κ >= 0)

The method is the dual simplex. The basis is d + 1 rows that are tight at the present point. The most violated
row enters the basis. The row whose multiplier reaches 0 first leaves it. m falls with every pivot, so each
point on the way is an upper bound on the optimum. The basis stays dual feasible when a row is added, so the
program of a cell needs only a few pivots from the basis of its parent. Rows have numbers: r for the rows of
the program, −1 for the cap, −2 − 2j and −3 − 2j for w_j >= −box and w_j <= box.

The proof of the result is a set of multipliers y >= 0 of the basis with Σ y_i (row i) = (0, −1): all points
that satisfy the rows have m <= −Σ y_i b_i. If no point satisfies the rows, the proof is a ray with Σ y_i (row
i) = 0 and Σ y_i b_i > 0. Rows should have similar sizes, so that the tolerances have the same meaning in all
of them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from convexsnn.arrays import FloatArray, IntArray

CAP = -1
OPTIMAL, BELOW, FAILED = 1, 0, -1
RAY = 1 << 40  # plus the number of the row that no point satisfies together with the basis
NONE = 1 << 50  # no row
PIVOTS = 10_000
BLAND_AFTER = 50  # pivots without progress
REFRESH = 40  # pivots between fresh inverses
TOLERANCE = 1e-12  # of rows scaled to size 1
SMALL = 1e-11  # relative size of a pivot that counts as 0
TIED = 1e-13  # difference of two ratios that counts as 0


@njit(cache=True, nogil=True)
def row_of(index, a, kappa, b, box, cap, out):  # type: ignore[no-untyped-def]
    """Write the coefficients of a numbered row on (w, m) to `out`; return its right-hand side."""
    d = len(out) - 1
    if index >= 0:
        for j in range(d):
            out[j] = a[index, j]
        out[d] = -kappa[index]
        return b[index]
    for j in range(d + 1):
        out[j] = 0.0
    if index == CAP:
        out[d] = -1.0
        return -cap
    j, high = (-2 - index) // 2, (-2 - index) % 2
    out[j] = -1.0 if high else 1.0
    return -box


@njit(cache=True, nogil=True)
def start_basis(d, basis, inverse, y, point, box, cap):  # type: ignore[no-untyped-def]
    """Write the basis of a program without rows: m at its cap, w in the corner nearest to `point`."""
    for i in range(d + 1):
        for j in range(d + 1):
            inverse[i, j] = 0.0
    for j in range(d):
        high = point[j] > 0
        basis[j] = -3 - 2 * j if high else -2 - 2 * j
        inverse[j, j] = -1.0 if high else 1.0
        y[j] = 0.0
        point[j] = box if high else -box
    basis[d], inverse[d, d], y[d], point[d] = CAP, -1.0, 1.0, cap


@njit(cache=True, nogil=True)
def _invert(rows, inverse):  # type: ignore[no-untyped-def]
    """Write the inverse of `rows`, which is overwritten, to `inverse`; return whether it has one."""
    k = len(rows)
    for i in range(k):
        for j in range(k):
            inverse[i, j] = 1.0 if i == j else 0.0
    for c in range(k):
        p = c
        for i in range(c + 1, k):
            if abs(rows[i, c]) > abs(rows[p, c]):
                p = i
        if rows[p, c] == 0.0:
            return False
        for j in range(k):
            rows[c, j], rows[p, j] = rows[p, j], rows[c, j]
            inverse[c, j], inverse[p, j] = inverse[p, j], inverse[c, j]
        scale = 1.0 / rows[c, c]
        for j in range(k):
            rows[c, j] *= scale
            inverse[c, j] *= scale
        for i in range(k):
            factor = rows[i, c]
            if i != c and factor != 0.0:
                for j in range(k):
                    rows[i, j] -= factor * rows[c, j]
                    inverse[i, j] -= factor * inverse[c, j]
    return True


@njit(cache=True, nogil=True)
def refresh(basis, inverse, y, point, a, kappa, b, box, cap):  # type: ignore[no-untyped-def]
    """Recompute inverse, multipliers and point from the basis; return whether the basis is regular."""
    k = len(basis)
    rows, right = np.empty((k, k)), np.empty(k)
    for i in range(k):
        right[i] = row_of(basis[i], a, kappa, b, box, cap, rows[i])
    if not _invert(rows, inverse):
        return False
    for j in range(k):
        point[j] = 0.0
        y[j] = max(-inverse[k - 1, j], 0.0)
        for i in range(k):
            point[j] += inverse[j, i] * right[i]
    return True


@njit(cache=True, nogil=True)
def _off(basis, point, a, kappa, b, box, cap, row):  # type: ignore[no-untyped-def]
    """Return the largest distance of `point` from a row of its basis: 0 up to rounding."""
    worst = 0.0
    for index in basis:
        slack = -row_of(index, a, kappa, b, box, cap, row)
        for j in range(len(row)):
            slack += row[j] * point[j]
        worst = max(worst, abs(slack))
    return worst


@njit(cache=True, nogil=True)
def _violated(point, count, a, kappa, b, box, tolerance, bland):  # type: ignore[no-untyped-def]
    """Return the number of the most violated row (the first violated one with `bland`), or NONE."""
    d = len(point) - 1
    worst, entering = -tolerance, NONE
    for j in range(d):
        for high in range(2):
            slack = box - point[j] if high else point[j] + box
            if slack < worst:
                worst, entering = slack, -2 - 2 * j - high
                if bland:
                    return entering
    for r in range(count):
        slack = -b[r] - kappa[r] * point[d]
        for j in range(d):
            slack += a[r, j] * point[j]
        if slack < worst:
            worst, entering = slack, r
            if bland:
                return entering
    return entering


@njit(cache=True, nogil=True)
def _first(one, other):  # type: ignore[no-untyped-def]
    """Return whether `_violated` checks row `one` before row `other`."""
    return one < other if one >= 0 and other >= 0 else one > other if one < 0 and other < 0 else one < 0


@njit(cache=True, nogil=True)
def leaving_row(basis, y, share, bland):  # type: ignore[no-untyped-def]
    """Return the index in the basis of the leaving row, for an entering row with these shares; −1 if none.

    Of nearly equal ratios, the largest share is the most accurate; the first row never cycles (Bland 1977).
    """
    largest, least, leaving = 0.0, np.inf, -1
    for i in range(len(y)):
        largest = max(largest, abs(share[i]))
    for i in range(len(y)):
        if share[i] > SMALL * largest:
            least = min(least, y[i] / share[i])
    for i in range(len(y)):
        if share[i] > SMALL * largest and y[i] / share[i] <= least + TIED:
            if leaving < 0 or (_first(basis[i], basis[leaving]) if bland else share[i] > share[leaving]):
                leaving = i
    return leaving


@njit(cache=True, nogil=True)
def _pivot(leaving, slack, share, inverse, y, point):  # type: ignore[no-untyped-def]
    """Replace the leaving row by the entering one, which has this slack and these shares."""
    k, step = len(y), y[leaving] / share[leaving]
    for i in range(k):
        y[i] = max(y[i] - step * share[i], 0.0)
    y[leaving] = step
    for j in range(k):
        inverse[j, leaving] /= share[leaving]
        point[j] -= slack * inverse[j, leaving]
        for i in range(k):
            if i != leaving:
                inverse[j, i] -= share[i] * inverse[j, leaving]


@njit(cache=True, nogil=True)
def maximise(count, a, kappa, b, box, cap, basis, inverse, y, point, least, tolerance):  # type: ignore[no-untyped-def]
    """Pivot from a dual feasible basis to the optimum, or until m falls below `least`.

    Returns OPTIMAL if `point` is the optimum (within `tolerance` in every row), BELOW if m < least, RAY + r
    if no point satisfies row r and the basis, FAILED after too many pivots or at a singular basis. The proof
    is the multipliers y of the rows in `basis`; on a ray, row r also has the multiplier 1.
    """
    k = len(basis)
    row, share = np.empty(k), np.empty(k)
    stalled, fresh, lowest = 0, -1, np.inf
    for pivot in range(PIVOTS):
        if pivot % REFRESH == REFRESH - 1:
            fresh = pivot
            if not refresh(basis, inverse, y, point, a, kappa, b, box, cap):
                return FAILED
        stalled = 0 if point[k - 1] < lowest - TIED * abs(lowest) else stalled + 1
        lowest = min(lowest, point[k - 1])
        bland = stalled > BLAND_AFTER
        below = point[k - 1] < least
        entering = NONE if below else _violated(point, count, a, kappa, b, box, tolerance, bland)
        if entering != NONE:
            slack = -row_of(entering, a, kappa, b, box, cap, row)
            for j in range(k):
                slack += row[j] * point[j]
            for i in range(k):
                share[i] = 0.0
                for j in range(k):
                    share[i] += row[j] * inverse[j, i]
            leaving = leaving_row(basis, y, share, bland)
            if leaving >= 0:
                _pivot(leaving, slack, share, inverse, y, point)
                basis[leaving] = entering
                continue
        # the end, unless the updates of the inverse have accumulated too much rounding
        if fresh != pivot and _off(basis, point, a, kappa, b, box, cap, row) > 0.5 * tolerance:
            fresh = pivot + 1
            if not refresh(basis, inverse, y, point, a, kappa, b, box, cap):
                return FAILED
            continue
        if entering == NONE:
            return BELOW if below else OPTIMAL
        for i in range(k):
            y[i] = max(-share[i], 0.0)
        return RAY + entering
    return FAILED


class Solved(NamedTuple):
    """The result of a program: `maximise`'s state, w (d,) and m, the basis (d + 1,) and its multipliers.

    `proof` (r,) has the multipliers of all rows, that of a row which no point satisfies included.
    """

    state: int
    weights: FloatArray
    margin: float
    basis: IntArray
    multipliers: FloatArray
    proof: FloatArray


def solved(
    rows: FloatArray,
    bounds: FloatArray,
    kappa: FloatArray,
    box: float,
    start: FloatArray | None = None,
    cap: float | None = None,
) -> Solved:
    """Solve one program; parameters as in `largest_margin`, multipliers of its rows without scaling."""
    count, d = rows.shape
    size = box * np.abs(rows).sum(axis=1) + np.abs(bounds)
    size[size == 0] = 1.0
    a, b, k = rows / size[:, None], bounds / size, kappa / size
    if cap is None:
        cap = 1.0 + float((size[kappa > 0] / kappa[kappa > 0]).min(initial=np.inf))
        cap = cap if np.isfinite(cap) else 1.0
    basis, inverse = np.zeros(d + 1, np.int64), np.zeros((d + 1, d + 1))
    y, point = np.zeros(d + 1), np.zeros(d + 1)
    if start is not None:
        point[:d] = start
    start_basis(d, basis, inverse, y, point, box, cap)
    state = maximise(count, a, k, b, box, cap, basis, inverse, y, point, -np.inf, TOLERANCE)
    real, proof = basis >= 0, np.zeros(count)
    y[real] /= size[basis[real]]
    proof[basis[real]] = y[real]
    if 0 <= state - RAY < count:
        proof[state - RAY] = 1.0 / size[state - RAY]
    return Solved(state, np.clip(point[:d], -box, box), float(point[d]), basis, y, proof)


def largest_margin(
    rows: FloatArray,
    bounds: FloatArray,
    kappa: FloatArray,
    box: float,
    start: FloatArray | None = None,
    cap: float | None = None,
) -> tuple[FloatArray, float]:
    """Return w (d,) and m of the program above; if it is infeasible, m = −inf and w is the last point.

    Parameters
    ----------
    rows, bounds, kappa : (r, d), (r,), (r,) arrays
        a, b and κ.
    box : float
    start : (d,) array, optional
        A guess of the optimum: the search starts in its corner of the box.
    cap : float, optional
        Upper limit of m; by default more than m of any point of the box, or 1 if no κ is positive.
    """
    solution = solved(rows, bounds, kappa, box, start, cap)
    return solution.weights, solution.margin if solution.state == OPTIMAL else -np.inf
