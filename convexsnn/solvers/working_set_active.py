"""min over w of ½ w'G w − b'w + λ ‖w‖₁ by its active set.

Coordinate descent finds which weights are not 0. With their signs known the optimum is a linear system,
G_SS w_S = b_S − λ s. A step towards it that takes weights through 0 leaves them there, all at once where
that makes the objective smaller, else at the first of them (Osborne, Presnell & Turlach, "A new approach to
variable selection in least squares problems", 2000). The two take turns until every gradient fits.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from scipy.linalg import lapack

from convexsnn.arrays import FloatArray, IntArray

SWEEPS = 10  # of coordinate descent before each step on the support; every fifth looks at all weights
STEPS = 3  # on the support, in a turn
RIDGE = 1e-13  # of the largest diagonal entry: dependent columns leave the factor positive definite
PATIENCE = 4  # rounds without a better fit of the gradients


@njit(cache=True, nogil=True)
def _descend(gram, gradient, regularization, w, accuracy):  # type: ignore[no-untyped-def]
    """Improve w by coordinate descent, and keep up gradient = b − G w; returns the last sweep's largest move.

    Ends when no gradient moves by more than `accuracy` times λ in a sweep over all.
    """
    moved = 0.0
    for sweep in range(SWEEPS):
        every = sweep % 5 == 0
        moved = 0.0 if every else moved
        for j in range(len(w)):
            curve = gram[j, j]
            if curve <= 0.0 or not (every or w[j] != 0.0):
                continue
            free = gradient[j] + curve * w[j]
            new = np.sign(free) * max(abs(free) - regularization, 0.0) / curve
            step = new - w[j]
            if step != 0.0:
                w[j] = new
                moved = max(moved, abs(step) * curve)
                for i in range(len(w)):
                    gradient[i] -= step * gram[j, i]
        if moved <= accuracy * regularization:
            break


def _towards(gram: FloatArray, right: FloatArray, now: FloatArray) -> FloatArray:
    """Return the step from `now` to the solution of gram x = right, or as far as dependent columns allow."""
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
) -> FloatArray:
    """Return the minimiser over single weights; `gram` (k, k) positive semidefinite, others (k,).

    Parameters
    ----------
    tolerance : float
        How far, relative to λ, a gradient may be from where it belongs.
    rounds : int
        Most turns of coordinate descent and steps on the support.
    """
    gram, w = np.ascontiguousarray(gram), start.copy()
    gradient, best, waited = linear - gram @ w, np.inf, 0
    for _ in range(rounds):
        _descend(gram, gradient, regularization, w, tolerance)
        for _ in range(STEPS):
            support = np.flatnonzero(w)
            if not len(support) or not _step(gram, linear, regularization, w, support):
                break
        gradient = linear - gram @ w
        wrong = np.where(
            w != 0, gradient - regularization * np.sign(w), np.maximum(abs(gradient) - regularization, 0)
        )
        worst = float(np.abs(wrong).max(initial=0.0))
        waited = 0 if worst < 0.9 * best else waited + 1
        best = min(best, worst)
        if worst <= tolerance * regularization or waited > PATIENCE:
            break
    return w


def _step(
    gram: FloatArray, linear: FloatArray, regularization: float, w: FloatArray, support: IntArray
) -> bool:
    """Go to the optimum with this support and signs, or to where weights reach 0: then a step is due."""
    now, sign, inner = w[support], np.sign(w[support]), gram[np.ix_(support, support)]
    right = linear[support] - regularization * sign
    ahead = now + _towards(inner, right, now)
    crossing = ahead * sign <= 0
    if not crossing.any():
        w[support] = ahead
        return False
    stopped = np.where(crossing, 0.0, ahead)
    moved = stopped - now
    if moved @ (0.5 * (inner @ moved) + inner @ now - right) < 0:
        w[support] = stopped
        return True
    share = np.where(crossing, now / np.where(crossing, now - ahead, 1.0), np.inf)
    first = float(share.min())
    w[support] = np.where(share <= first, 0.0, now + first * (ahead - now))
    return True
