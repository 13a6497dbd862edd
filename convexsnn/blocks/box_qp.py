"""Box-constrained quadratic programs that share one matrix, for all rows at once.

    min ½ x'Q x − b'x   subject to   lower <= x <= upper       for every row b of B

The method is the accelerated projected gradient method (Nesterov 1983; Beck & Teboulle 2009). The momentum
of a row restarts when it leads uphill (O'Donoghue & Candès 2015). A step takes one product with Q and one
pass over the rows. A row is done when a projected step of length 1/L changes no entry by more than
the tolerance.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Protocol

import numpy as np
from numba import njit

from convexsnn.arrays import FloatArray
from convexsnn.threads import in_parts

STEPS = 20_000
WORTH = 50_000  # smallest number of entries for one more thread


class Matrix(Protocol):
    """The interface of Q: products X Q and an upper bound of the eigenvalues."""

    @property
    def largest(self) -> float:
        """An upper bound of the largest eigenvalue."""

    def times(self, rows: FloatArray) -> FloatArray:
        """Return X Q."""


@njit(cache=True, nogil=True)
def _step(product, linear, low, high, rate, ahead, x, momentum, largest_step, tolerance, start, stop):  # type: ignore[no-untyped-def]
    """Take one projected step of rows start:stop from `ahead`; updates x, `ahead` and `largest_step`."""
    for i in range(start, stop):
        if largest_step[i] <= tolerance:  # done; the result of a row must not depend on the other rows
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
        largest_step[i] = largest


def box_qp(
    quadratic: Matrix,
    linear: FloatArray,
    lower: Any,
    upper: Any,
    start: FloatArray | None = None,
    tolerance: float = 1e-10,
    steps: int = STEPS,
) -> tuple[FloatArray, int]:
    """Return the minimisers (N, k) and the number of products X Q.

    Parameters
    ----------
    linear : (N, k) array
        B; the computation is in its floating-point type.
    lower, upper : float, (k,) or (N, k)
    start : (N, k) array, optional
        Starting point; the point of the box nearest to 0 if not given.
    tolerance : float
        Bound on the entries of the last projected step.
    """
    dtype, (n, k) = linear.dtype, linear.shape
    low, high = (
        np.atleast_2d(np.broadcast_to(np.asarray(b, dtype), (k,) if np.ndim(b) < 2 else (n, k)))
        for b in (lower, upper)
    )
    low, high = np.ascontiguousarray(low), np.ascontiguousarray(high)
    x = np.array(np.broadcast_to(np.clip(0.0 if start is None else start, low, high), (n, k)), dtype)
    rate = dtype.type(1.0 / max(quadratic.largest, 1e-300))
    open_rows, solution, products = np.arange(n), x, 0
    ahead, b = x.copy(), linear
    momentum: FloatArray = np.ones(n)
    largest_step: FloatArray = np.full(n, np.inf)
    while products < steps:
        product = quadratic.times(ahead)
        products += 1
        step = partial(_step, product, b, low, high, rate, ahead, x, momentum, largest_step, tolerance)
        in_parts(step, len(x), x.size, WORTH)
        active = np.flatnonzero(largest_step > tolerance)
        if len(active) > 0.7 * len(x):
            continue
        solution[open_rows] = x  # remove the rows that are done, once they are many enough
        if not len(active):
            break
        open_rows, b = open_rows[active], b[active]
        x, ahead, momentum = x[active], ahead[active], momentum[active]
        largest_step = largest_step[active]
        low, high = (table if len(table) == 1 else table[active] for table in (low, high))
    else:
        solution[open_rows] = x
    return solution, products
