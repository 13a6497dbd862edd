"""min over w of ½ w'G w − b'w + λ ‖w‖₁ by an active-set method.

Coordinate descent determines the support, the weights that are not 0. For known signs s the optimum solves
the linear system G_SS w_S = b_S − λ s. If a step towards it takes weights through 0, they stop at 0: all of
them if that reduces the objective, else only the first one, where the step ends (Osborne, Presnell & Turlach,
"A new approach to variable selection in least squares problems", 2000). Both methods alternate until all
gradients satisfy the optimality conditions.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import njit
from scipy.linalg import lapack

from convexsnn.arrays import FloatArray, IntArray

SWEEPS = 10  # of coordinate descent before the steps on the support; every fifth sweep is over all weights
STEPS = 3  # on the support in each round
RIDGE = 1e-13  # relative to the largest diagonal entry: keeps the factor positive definite
PATIENCE = 4  # rounds without a smaller violation of the optimality conditions


@njit(cache=True, nogil=True)
def _descend(gram, gradient, regularization, w, accuracy):  # type: ignore[no-untyped-def]
    """Improve w by coordinate descent, and update gradient = b − G w.

    Ends when no gradient changes by more than `accuracy` times λ in a sweep over all weights.
    """
    change = 0.0
    for sweep in range(SWEEPS):
        every = sweep % 5 == 0
        change = 0.0 if every else change
        for j in range(len(w)):
            curve = gram[j, j]
            if curve <= 0.0 or not (every or w[j] != 0.0):
                continue
            free = gradient[j] + curve * w[j]
            new = np.sign(free) * max(abs(free) - regularization, 0.0) / curve
            step = new - w[j]
            if step != 0.0:
                w[j] = new
                change = max(change, abs(step) * curve)
                for i in range(len(w)):
                    gradient[i] -= step * gram[j, i]
        if change <= accuracy * regularization:
            break


def _towards(gram: FloatArray, right: FloatArray, now: FloatArray) -> FloatArray:
    """Return the step from `now` to the solution of gram x = right, in least squares if gram is singular."""
    ridge = RIDGE * max(float(np.diag(gram).max()), 1e-300)
    for _ in range(8):
        factor, failed = lapack.dpotrf(gram + ridge * np.eye(len(right)), overwrite_a=1)
        if not failed:
            break
        ridge *= 100.0
    else:
        return np.linalg.lstsq(gram, right, rcond=None)[0] - now
    step = lapack.dpotrs(factor, right - gram @ now)[0]
    return step + lapack.dpotrs(factor, right - gram @ (now + step))[0]


def quadratic_l1(
    gram: FloatArray,
    linear: FloatArray,
    regularization: float,
    start: FloatArray,
    tolerance: float = 1e-12,
    rounds: int = 1000,
    late: Callable[[], bool] = lambda: False,
) -> FloatArray:
    """Return the minimiser w (k,); `gram` (k, k) is positive semidefinite, other arrays are (k,).

    Parameters
    ----------
    tolerance : float
        Allowed violation of an optimality condition, relative to λ.
    rounds : int
        Largest number of rounds of coordinate descent and steps on the support.
    late : callable
        Whether to stop after the present round.
    """
    gram, w = np.ascontiguousarray(gram), start.copy()
    gradient, best, stalled = linear - gram @ w, np.inf, 0
    for _ in range(rounds):
        _descend(gram, gradient, regularization, w, tolerance)
        for _ in range(STEPS):
            support = np.flatnonzero(w)
            if not len(support) or not _step(gram, linear, regularization, w, support):
                break
        gradient = linear - gram @ w
        violation = np.where(
            w != 0, gradient - regularization * np.sign(w), np.maximum(abs(gradient) - regularization, 0)
        )
        worst = float(np.abs(violation).max(initial=0.0))
        stalled = 0 if worst < 0.9 * best else stalled + 1
        best = min(best, worst)
        if worst <= tolerance * regularization or stalled > PATIENCE or late():
            break
    return w


def _step(
    gram: FloatArray, linear: FloatArray, regularization: float, w: FloatArray, support: IntArray
) -> bool:
    """Go to the optimum for this support and signs; return True if weights reach 0 before it."""
    now, sign, inner = w[support], np.sign(w[support]), gram[np.ix_(support, support)]
    right = linear[support] - regularization * sign
    ahead = now + _towards(inner, right, now)
    crossing = ahead * sign <= 0
    if not crossing.any():
        w[support] = ahead
        return False
    stopped = np.where(crossing, 0.0, ahead)
    step = stopped - now
    if step @ (0.5 * (inner @ step) + inner @ now - right) < 0:
        w[support] = stopped
        return True
    share = np.where(crossing, now / np.where(crossing, now - ahead, 1.0), np.inf)
    first = float(share.min())
    w[support] = np.where(share <= first, 0.0, now + first * (ahead - now))
    return True
