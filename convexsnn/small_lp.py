"""A linear program with few variables and many rows, as every cell of weight space poses it.

    max m   subject to   a_r·w − κ_r m >= b_r for all rows r,   |w_j| <= box,   m <= cap

Dual simplex: the basis is d + 1 rows that are tight at the present point; the most violated row enters, and
of the rows in the basis the one leaves whose multiplier reaches 0 first. m falls with every pivot, so each
point on the way bounds the optimum from above; adding a row leaves the basis dual feasible, which makes a
cell's program a few pivots away from its parent's. Rows are numbered: r for those given, −1 for the cap,
−2 − 2j and −3 − 2j for w_j >= −box and w_j <= box.
"""

from __future__ import annotations

import numpy as np
from numba import njit

CAP = -1
PIVOTS = 10_000
BLAND_AFTER = 50  # pivots without progress
REFRESH = 40  # pivots between fresh inverses


@njit(cache=True, nogil=True)
def row_of(index, a, kappa, b, box, cap, out):  # type: ignore[no-untyped-def]
    """Write the coefficients of a numbered row on (w, m) to `out`; return its right-hand side."""
    d = len(out) - 1
    if index >= 0:
        out[:d] = a[index]
        out[d] = -kappa[index]
        return b[index]
    out[:] = 0.0
    if index == CAP:
        out[d] = -1.0
        return -cap
    j, high = (-2 - index) // 2, (-2 - index) % 2
    out[j] = -1.0 if high else 1.0
    return -box


@njit(cache=True, nogil=True)
def start_basis(d, basis, inverse, y, point, box, cap):  # type: ignore[no-untyped-def]
    """Fill in the basis of a program without rows: m at its cap, w in the corner nearest to `point`."""
    inverse[:] = 0.0
    for j in range(d):
        high = point[j] > 0
        basis[j] = -3 - 2 * j if high else -2 - 2 * j
        inverse[j, j] = -1.0 if high else 1.0
        y[j] = 0.0
        point[j] = box if high else -box
    basis[d], inverse[d, d], y[d], point[d] = CAP, -1.0, 1.0, cap


@njit(cache=True, nogil=True)
def _refresh(basis, inverse, point, a, kappa, b, box, cap):  # type: ignore[no-untyped-def]
    k = len(basis)
    rows, right = np.empty((k, k)), np.empty(k)
    for i in range(k):
        right[i] = row_of(basis[i], a, kappa, b, box, cap, rows[i])
    inverse[:] = np.linalg.inv(rows)
    for j in range(k):
        point[j] = 0.0
        for i in range(k):
            point[j] += inverse[j, i] * right[i]


@njit(cache=True, nogil=True)
def _most_violated(point, count, a, kappa, b, box, tolerance, bland):  # type: ignore[no-untyped-def]
    """Return the number of a violated row, or a huge number if there is none."""
    d = len(point) - 1
    worst, entering = -tolerance, np.int64(1) << 40
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
def maximise(count, a, kappa, b, box, cap, basis, inverse, y, point, least, tolerance):  # type: ignore[no-untyped-def]
    """Go from a dual feasible basis to the optimum, or until m falls below `least`.

    Returns 1 if `point` is the optimum (within `tolerance` in every row), 0 if m < least or no point is
    feasible, −1 after too many pivots. The multipliers y (of the rows in `basis`) prove it either way.
    """
    k, d = len(basis), len(basis) - 1
    row, share = np.empty(k), np.empty(k)
    stalled = 0
    for pivot in range(PIVOTS):
        if pivot % REFRESH == REFRESH - 1:
            _refresh(basis, inverse, point, a, kappa, b, box, cap)
        if point[d] < least:
            return 0
        entering = _most_violated(point, count, a, kappa, b, box, tolerance, stalled > BLAND_AFTER)
        if entering == np.int64(1) << 40:
            return 1
        right = row_of(entering, a, kappa, b, box, cap, row)
        slack = -right
        for j in range(k):
            slack += row[j] * point[j]
        for i in range(k):
            share[i] = 0.0
            for j in range(k):
                share[i] += row[j] * inverse[j, i]
        step, leaving = np.inf, -1
        for i in range(k):
            if share[i] > 1e-11:
                ratio = max(y[i], 0.0) / share[i]
                if ratio < step or (ratio == step and share[i] > share[leaving]):
                    step, leaving = ratio, i
        if leaving < 0:
            for i in range(k):  # a ray: these multipliers show that no point is feasible
                y[i] = -share[i]
            return 0
        stalled = 0 if step > 0 else stalled + 1
        for i in range(k):
            y[i] -= step * share[i]
        y[leaving] = step
        basis[leaving] = entering
        pivot_value = share[leaving]
        for j in range(k):
            inverse[j, leaving] /= pivot_value
            point[j] -= slack * inverse[j, leaving]
        for i in range(k):
            if i != leaving and share[i] != 0.0:
                for j in range(k):
                    inverse[j, i] -= share[i] * inverse[j, leaving]
    return -1
