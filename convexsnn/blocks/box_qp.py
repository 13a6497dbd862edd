"""Box-constrained quadratics that share one matrix, all rows at once.

    min ½ x'Q x − b'x   subject to   lower <= x <= upper       for every row b of B

Accelerated projected gradient (Nesterov 1983; Beck & Teboulle 2009) whose momentum each row starts again
where it leads uphill (O'Donoghue & Candès 2015): one product with Q a step, the rest in one pass over the
rows. A row is done when a projected step of length 1/L moves none of its entries by more than the tolerance.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Protocol

import numpy as np
from numba import njit

from convexsnn.arrays import FloatArray
from convexsnn.threads import in_parts

STEPS = 20_000
WORTH = 50_000  # entries that pay for a thread


class Matrix(Protocol):
    """What is needed of Q: products X Q and an upper bound of the eigenvalues."""

    @property
    def largest(self) -> float:
        """An upper bound of the largest eigenvalue."""

    def times(self, rows: FloatArray) -> FloatArray:
        """Return X Q."""


@njit(cache=True, nogil=True)
def _step(product, linear, low, high, rate, ahead, x, momentum, moved, tolerance, start, stop):  # type: ignore[no-untyped-def]
    """Take one projected step of the rows start..stop from `ahead`; new x, new `ahead`, largest move."""
    for i in range(start, stop):
        if moved[i] <= tolerance:  # done: what a row comes to must not depend on its neighbours
            continue
        largest, uphill = 0.0, 0.0
        for j in range(x.shape[1]):
            old = ahead[i, j]
            new = old - (product[i, j] - linear[i, j]) * rate
            new = min(max(new, low[i % low.shape[0], j]), high[i % high.shape[0], j])
            largest = max(largest, abs(new - old))
            uphill += (old - new) * (new - x[i, j])
            product[i, j] = new
        last = 1.0 if uphill > 0 else momentum[i]
        momentum[i] = 0.5 * (1.0 + np.sqrt(1.0 + 4.0 * last * last))
        push = (last - 1.0) / momentum[i]
        for j in range(x.shape[1]):
            new = product[i, j]
            ahead[i, j] = new + push * (new - x[i, j])
            x[i, j] = new
        moved[i] = largest


def box_qp(
    quadratic: Matrix,
    linear: FloatArray,
    lower: Any,
    upper: Any,
    start: FloatArray | None = None,
    tolerance: float = 1e-10,
    steps: int = STEPS,
) -> tuple[FloatArray, int]:
    """Return the minimisers (N, k) and how many products X Q they took.

    Parameters
    ----------
    linear : (N, k) array
        B; its floating-point type is that of the computation.
    lower, upper : float, (k,) or (N, k)
    start : (N, k) array, optional
        Where to begin; the nearest point of the box to 0 if not given.
    tolerance : float
        Largest entry of a projected step at the end.
    """
    dtype, (n, k) = linear.dtype, linear.shape
    low, high = (
        np.atleast_2d(np.broadcast_to(np.asarray(b, dtype), (k,) if np.ndim(b) < 2 else (n, k)))
        for b in (lower, upper)
    )
    low, high = np.ascontiguousarray(low), np.ascontiguousarray(high)
    x = np.array(np.broadcast_to(np.clip(0.0 if start is None else start, low, high), (n, k)), dtype)
    rate = dtype.type(1.0 / max(quadratic.largest, 1e-300))
    open_rows, found, taken = np.arange(n), x, 0
    ahead, b = x.copy(), linear
    momentum: FloatArray = np.ones(n)
    moved: FloatArray = np.full(n, np.inf)
    while taken < steps:
        product = quadratic.times(ahead)
        taken += 1
        step = partial(_step, product, b, low, high, rate, ahead, x, momentum, moved, tolerance)
        in_parts(step, len(x), x.size, WORTH)
        left = np.flatnonzero(moved > tolerance)
        if len(left) > 0.7 * len(x):
            continue
        found[open_rows] = x  # those that are done leave, once it pays to go on without them
        if not len(left):
            break
        open_rows = open_rows[left]
        x, ahead, momentum, moved, b = x[left], ahead[left], momentum[left], moved[left], b[left]
        low, high = (table if len(table) == 1 else table[left] for table in (low, high))
    else:
        found[open_rows] = x
    return found, taken
