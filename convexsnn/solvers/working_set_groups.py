"""Group penalties on a working set of columns: block descent for the groups, Newton's method for the weights.

The norm of a group is smooth where the group is not 0. For all such groups together, Newton steps minimise

    c Σ a ℓ(X W, y) + λ Σ_g ‖W_g‖ ,     X (R, m): the working set's columns,

by conjugate gradients. The preconditioner is a Gram matrix at the mean curvature of all outputs. Before that,
proximal block descent on the same Newton model determines which groups are 0 (Yuan & Lin 2006; Simon &
Tibshirani 2012).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import njit
from scipy.linalg import cho_factor, cho_solve

from convexsnn.arrays import FloatArray, IntArray
from convexsnn.programs import L1Program
from convexsnn.programs.penalties import group_norms

SWEEPS = 30
STEPS, CLOSE_STEPS = 2, 10  # of Newton's method, far from the optimum and close to it
INNER = 100  # conjugate gradient steps in each
SHARES = (0.1, 1e-3)  # relative residual of a Newton step, far from the optimum and close to it
FLAT = 1e-10  # least curvature, relative to the largest
RIDGE = 1e-12
ROUNDING = 1e-14


@njit(cache=True, nogil=True)
def _descend(rows, ends, slope, h, q, scale, regularization, w, order, starts, bound, accuracy):  # type: ignore[no-untyped-def]
    """Improve w (m, C) group by group on the Newton model, whose column j is 1 in rows[ends[j]:ends[j + 1]].

    Group g has the columns order[starts[g]:starts[g + 1]]; the curvature of its block is at most bound[g].
    """
    outputs = w.shape[1]
    bent, free = np.zeros(h.shape), np.empty((len(w), outputs))  # bent: effect of the steps on the slope
    for _ in range(SWEEPS):
        change = 0.0
        for g in range(len(bound)):
            norm = 0.0
            for k in range(starts[g], starts[g + 1]):
                j = order[k]
                free[j] = slope[j]
                for r in rows[ends[j] : ends[j + 1]]:
                    for c in range(outputs):
                        free[j, c] -= bent[r, c]
                for c in range(outputs):
                    free[j, c] = w[j, c] + free[j, c] / bound[g]
                    norm += free[j, c] ** 2
            norm = np.sqrt(norm)
            shrink = max(1.0 - regularization / (bound[g] * norm), 0.0) if norm > 0.0 else 0.0
            for k in range(starts[g], starts[g + 1]):
                j = order[k]
                largest = 0.0
                for c in range(outputs):
                    step = shrink * free[j, c] - w[j, c]
                    w[j, c] += step
                    free[j, c] = step
                    largest = max(largest, abs(step))
                change = max(change, largest * bound[g])
                if largest == 0.0:
                    continue
                for r in rows[ends[j] : ends[j + 1]]:
                    along = 0.0
                    for c in range(outputs):
                        along += q[r, c] * free[j, c]
                    for c in range(outputs):
                        bent[r, c] += h[r, c] * free[j, c] - scale[r] * q[r, c] * along
        if change <= accuracy * regularization:
            break


class GroupModel:
    """The program on some columns, all those of some groups, at weights W (m, C) and outputs z (R, C)."""

    def __init__(
        self,
        program: L1Program,
        columns: IntArray,
        index: IntArray,
        regularization: float,
        weights: FloatArray,
        z: FloatArray,
    ) -> None:
        """Unpack the columns; `index` (m,) has their groups, `weights` and `z` are the present point."""
        self.program, self.regularization = program, regularization
        self.x = program.dictionary.toarray(columns).astype(np.float64)
        self.group = np.unique(index, return_inverse=True)[1]
        self.weights, self.z = weights.copy(), z.copy()
        mean = self._curvature()[0].mean(axis=1, keepdims=True)
        self.gram = self.x.T @ (self.x * mean)

    def norms(self, weights: FloatArray) -> FloatArray:
        """Return the norm of every group of a table (m, C)."""
        return group_norms(self.group, weights)

    def objective(self, weights: FloatArray, z: FloatArray) -> float:
        """Return the program's objective."""
        losses = self.program.loss.value(z, self.program.targets)
        return float(self.program.row_scale[:, 0] @ losses + self.regularization * self.norms(weights).sum())

    def slopes(self) -> FloatArray:
        """Return Xᵀu at the present point, (m, C)."""
        residual = self.program.loss.residual(self.z, self.program.targets)
        return self.x.T @ (self.program.row_scale * residual)

    def _curvature(self) -> tuple[FloatArray, FloatArray | None]:
        """Return h, times the scale of the rows, and q of the loss, (R, C)."""
        loss, scale = self.program.loss, self.program.row_scale
        h = scale * loss.curvature(self.z, self.program.targets)
        q = loss.coupling(self.z, self.program.targets)
        return np.maximum(h, FLAT * max(float(h.max()), float(scale.max()) * FLAT)), q

    def descend(self, accuracy: float) -> bool:
        """Determine the zero groups by block descent on the model; return whether the objective fell."""
        h, q = self._curvature()
        order = np.argsort(self.group, kind="stable")
        starts = np.searchsorted(self.group[order], np.arange(self.group.max() + 2))
        reach = (self.x.T @ h).max(axis=1)  # curvature of each column; that of a group is at most their sum
        bound = np.bincount(self.group, reach)
        column, rows = np.nonzero(self.x.T)
        ends = np.searchsorted(column, np.arange(len(self.weights) + 1))
        target, coupling = self.weights.copy(), np.zeros_like(h) if q is None else q
        scale = self.program.row_scale[:, 0]
        _descend(
            rows, ends, self.slopes(), h, coupling, scale, self.regularization,
            target, order, starts, np.maximum(bound, 1e-300), accuracy,
        )  # fmt: skip
        return self._line_search(target - self.weights)

    def _step_to_zero(self, direction: FloatArray) -> bool:
        """Take a full step, with groups that pass through 0 set to 0; return whether the objective fell."""
        weights = self.weights + direction
        back = np.bincount(self.group, (weights * self.weights).sum(axis=1)) <= 0
        weights[back[self.group]] = 0.0
        z = self.z + self.x @ (weights - self.weights)
        value = self.objective(self.weights, self.z)
        # near the optimum the objective is flat up to rounding
        better = self.objective(weights, z) <= value + ROUNDING * abs(value)
        if better:
            self.weights, self.z = weights, z
        return better

    def _line_search(self, direction: FloatArray) -> bool:
        """Halve the step in a direction until the objective falls; return whether it does."""
        ahead, value, step = self.x @ direction, self.objective(self.weights, self.z), 1.0
        while step > 1e-8:
            weights, z = self.weights + step * direction, self.z + step * ahead
            new = self.objective(weights, z)
            if new < value or (step == 1.0 and new <= value + ROUNDING * abs(value)):
                self.weights, self.z = weights, z
                return True
            step *= 0.5
        return False

    def newton(self, accuracy: float, close: bool, late: Callable[[], bool] = lambda: False) -> bool:
        """Take Newton steps on the nonzero groups until their slopes are within `accuracy` times λ.

        It stops early when it is `late`. Returns whether it took a step.
        """
        stepped = False
        for _ in range(CLOSE_STEPS if close else STEPS):
            length = self.norms(self.weights)[self.group]
            on = np.flatnonzero(length > 0)
            if not len(on) or late():
                break
            unit = self.weights[on] / length[on, None]
            slope = self.slopes()[on] - self.regularization * unit
            if np.abs(slope).max() <= accuracy * self.regularization:
                break
            direction = np.zeros_like(self.weights)
            direction[on] = self._newton_step(on, unit, length[on], slope, SHARES[close])
            if not self._step_to_zero(direction) and not self._line_search(direction):
                break
            stepped = True
        return stepped

    def _newton_step(
        self, on: IntArray, unit: FloatArray, length: FloatArray, slope: FloatArray, share: float
    ) -> FloatArray:
        """Solve the Newton system on some rows by preconditioned conjugate gradients."""
        (h, q), x, group = self._curvature(), self.x[:, on], self.group[on]
        scale, bend = self.program.row_scale, self.regularization / length[:, None]

        def times(v: FloatArray) -> FloatArray:
            ahead = x @ v
            rows = h * ahead if q is None else h * ahead - scale * q * (q * ahead).sum(axis=1, keepdims=True)
            inner = np.bincount(group, (unit * v).sum(axis=1), self.group.max() + 1)[group]
            return x.T @ rows + bend * (v - unit * inner[:, None])

        gram = self.gram[np.ix_(on, on)] + np.diag(bend[:, 0])
        gram[np.diag_indices(len(on))] += RIDGE * gram.diagonal().max()
        factor = cho_factor(gram, overwrite_a=True, check_finite=False)

        def preconditioned(v: FloatArray) -> FloatArray:
            return np.asarray(cho_solve(factor, v, check_finite=False))

        solution, rest = np.zeros_like(slope), slope.copy()
        z = preconditioned(rest)
        p, rho = z, float((rest * z).sum())
        first = rho
        for _ in range(INNER):
            ahead = times(p)
            curve = float((p * ahead).sum())
            if curve <= 0:
                break
            alpha = rho / curve
            solution, rest = solution + alpha * p, rest - alpha * ahead
            z = preconditioned(rest)
            rho, before = float((rest * z).sum()), rho
            if rho <= share**2 * first:
                break
            p = z + rho / before * p
        return solution
