"""min over w of ½ w'G w − b'w + λ ‖w‖₁ by its active set: exact in finitely many steps.

Coordinate descent comes close. With the support S and its signs s known the optimum is a linear system,
G_SS w_S = b_S − λ s. Steps go from one support to the next: towards the solution of the system, stopping
where a weight reaches 0 (it leaves S), and once there adding weights whose gradients exceed λ most. Osborne,
Presnell & Turlach, "A new approach to variable selection in least squares problems" (2000).
"""

from __future__ import annotations

import numpy as np
from numba import njit
from scipy.linalg import cho_factor, cho_solve

from convexsnn.arrays import FloatArray

AT_ONCE = 10  # weights that enter together while steps are long
SWEEPS = 1000
RIDGE = 1e-13  # of the largest diagonal entry: dependent columns leave the factor positive definite


@njit(cache=True, nogil=True)
def _descend(gram, linear, regularization, w, accuracy):  # type: ignore[no-untyped-def]
    """Improve w by coordinate descent, until no gradient moves by more than `accuracy` times λ a sweep."""
    gradient = linear - gram @ w
    for _ in range(SWEEPS):
        moved = 0.0
        for j in range(len(w)):
            curve = gram[j, j]
            if curve <= 0.0:
                continue
            free = gradient[j] + curve * w[j]
            new = np.sign(free) * max(abs(free) - regularization, 0.0) / curve
            step = new - w[j]
            if step != 0.0:
                w[j] = new
                moved = max(moved, abs(step) * curve)
                for i in range(len(w)):
                    gradient[i] -= step * gram[i, j]
        if moved <= accuracy * regularization:
            break


def _towards(gram: FloatArray, right: FloatArray) -> FloatArray:
    ridge = RIDGE * max(float(np.diag(gram).max()), 1e-300)
    for _ in range(8):
        try:
            factor = cho_factor(gram + ridge * np.eye(len(right)), check_finite=False)
            found = cho_solve(factor, right, check_finite=False)
            return found + cho_solve(factor, right - gram @ found, check_finite=False)
        except np.linalg.LinAlgError:
            ridge *= 100.0
    return np.linalg.lstsq(gram, right, rcond=None)[0]


def quadratic_l1(
    gram: FloatArray, linear: FloatArray, regularization: float, start: FloatArray, tolerance: float = 1e-12
) -> FloatArray:
    """Return the minimiser; `gram` (k, k) positive semidefinite, `linear` and `start` (k,).

    Parameters
    ----------
    tolerance : float
        How far, relative to λ, a gradient may stay above λ.
    """
    w = start.copy()
    _descend(np.ascontiguousarray(gram), linear, regularization, w, 1e-6)
    sign = np.sign(w)
    steps, at_once = 10 * len(w) + 100, AT_ONCE
    for _ in range(steps):
        support = np.flatnonzero(sign)
        if len(support):
            inner = gram[np.ix_(support, support)]
            target = _towards(inner, linear[support] - regularization * sign[support])
            crossing = target * sign[support] < 0
            if crossing.any():
                now = w[support]
                moved = np.where(crossing, target - now, 1.0)
                share = np.where(crossing, -now / moved, np.inf)
                step = float(share.min())
                w[support] = now + max(step, 0.0) * (target - now)
                gone = support[share <= step]
                w[gone], sign[gone] = 0.0, 0.0
                at_once = AT_ONCE if step > 0 else 1  # one at a time no weight comes back at once
                continue
            w[support] = target
        gradient = linear - gram[:, support] @ w[support]
        excess = np.where(sign == 0, np.abs(gradient), 0.0) - regularization
        worst = np.argsort(-excess, kind="stable")[:at_once]
        worst = worst[excess[worst] > max(tolerance * regularization, 0.5 * excess[worst[0]])]
        if not len(worst):
            break
        sign[worst] = np.sign(gradient[worst])
    return w
