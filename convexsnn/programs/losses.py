"""The losses by name. Squared and softmax are defined here, the losses of the margin in `margin_losses`.

Here v is the scale-free dual variable (`loss`):

| loss          | ℓ(z, y)              | −ℓ*(−v)                            | domain of v   | v at z         |
|---------------|----------------------|------------------------------------|---------------|----------------|
| squared       | ½ (z − y)²           | v y − ½ v²                         | ℝ             | y − z          |
| hinge         | max(0, 1 − y z)      | v y                                | v y ∈ [0, 1]  | y 1{y z < 1}   |
| squared_hinge | ½ max(0, 1 − y z)²   | v y − ½ v²                         | v y ≥ 0       | y max(0, 1−yz) |
| logistic      | log(1 + exp(−y z))   | −p log p − (1−p) log(1−p), p = v y | p ∈ [0, 1]    | y σ(−y z)      |
| softmax       | logsumexp(z) − z·y   | −Σ q log q, q = y − v              | q ∈ simplex   | y − softmax(z) |

All but softmax are sums over outputs. Sources: [U26, §3]; Boyd & Vandenberghe, Convex Optimization,
§3.3 and §5.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from scipy import sparse
from scipy.special import entr, logsumexp, softmax, wrightomega

from convexsnn.arrays import FloatArray, fraction
from convexsnn.errors import ShapeError, nearest
from convexsnn.programs.duality import check_duality
from convexsnn.programs.exact import SMALLEST, by_row, entropy_below, log_sum_exp_above
from convexsnn.programs.loss import Loss
from convexsnn.programs.margin_losses import NEWTON_STEPS, Hinge, Logistic, SquaredHinge, exponential_dual
from convexsnn.programs.rows import (
    OUTPUTS,
    ROWS,
    ConeRows,
    ConeStart,
    Costs,
    QuadraticRows,
    Slack,
    by_output,
    picked,
)

ROUGH = 1e-8  # relative size of a Newton step below which the iteration stops


class Squared(Loss):
    """½ (z − y)²."""

    name = "squared"
    kind = "qp"
    quadratic = True
    homogeneous = True
    formula = "½ (z − y)²"
    dual_formula = "u y − u² / (2 c a)"
    meanings = {
        ("column", "slack"): (OUTPUTS, "residual z[i,c] - y[i,c]"),
        ("row", "loss"): (OUTPUTS, "z[i,c] - slack[i,c] = y[i,c]"),
        ("row", "residual"): (OUTPUTS, "z[i,c] - r[i,c] = y[i,c]"),
        ("column", "r"): (OUTPUTS, "residual z[i,c] - y[i,c]"),
    }

    def value(self, z: FloatArray, y: FloatArray) -> FloatArray:  # noqa: D102
        return np.sum((z - y) ** 2, axis=1) / 2

    def residual(self, z: FloatArray, y: FloatArray) -> FloatArray:  # noqa: D102
        return y - z

    def curvature(self, z: FloatArray, y: FloatArray) -> FloatArray:  # noqa: D102
        return np.ones_like(z)

    def prox(self, v: FloatArray, y: FloatArray, weight: FloatArray) -> FloatArray:  # noqa: D102
        return (y + weight * v) / (1.0 + weight)

    def dual_value(self, v: FloatArray, y: FloatArray) -> FloatArray:  # noqa: D102
        return np.sum(v * y - v**2 / 2, axis=1)

    def quadratic_rows(self, y: FloatArray) -> QuadraticRows:  # noqa: D102
        return QuadraticRows(np.ones_like(y), y, y, {"slack": Slack(-1.0, 1.0, 0.0, free=True)})

    def cone_rows(self, y: FloatArray, cost: FloatArray) -> tuple[list[ConeRows], Costs]:  # noqa: D102
        eye = sparse.eye_array(y.size, format="csc")
        return [ConeRows("residual", "zero", {"z": eye, "r": -eye}, by_output(y))], {"r": (cost, 1.0)}

    def cone_start(self, z: FloatArray, u: FloatArray, y: FloatArray, cost: FloatArray) -> ConeStart:  # noqa: D102
        return ConeStart({"r": by_output(z - y)}, {"residual": by_output(-u)})

    def cvxpy(self, Z: Any, y: FloatArray, row_scale: FloatArray) -> Any:  # noqa: D102
        import cvxpy as cp

        return cp.sum_squares(cp.multiply(np.sqrt(row_scale / 2), Z - y))

    def shattered_side(self, y: FloatArray, scale: FloatArray, limit: float) -> tuple[FloatArray, FloatArray]:
        """Return outputs and prices of the rows with y > 0, at the cap where the prices sum to λ.

        With δ_i = max(y) − y_i the cap is max(y) − t, where Σ s_i (t − δ_i)₊ = λ. The k smallest δ give
        t <= t_k = (λ + Σ s δ) / Σ s, with equality for one k. All terms are positive, so nothing cancels.
        """
        top = y.max()
        drop = top - y
        order = np.argsort(drop, kind="stable")
        depth = ((limit + np.cumsum((scale * drop)[order])) / np.cumsum(scale[order])).min()
        if depth >= top:
            return np.zeros_like(y), scale * y
        return np.minimum(y, top - depth), scale * np.maximum(depth - drop, 0.0)


class Softmax(Loss):
    """logsumexp(z) − z·y, y one-hot: the cross-entropy of softmax(z)."""

    name = "softmax"
    kind = "exponential"
    cone_kind = "exponential"
    separable = False
    formula = "logsumexp(z) − z·y"
    dual_formula = "−c a Σ q log q,  q = y − u / (c a) ∈ simplex"
    tasks = ("classification",)
    meanings = {
        ("row", "exp(z-zy-t)"): (OUTPUTS, "exp(z[i,c] - z[i,y] - t[i]) <= e[i,c]"),
        ("row", "sum"): (ROWS, "sum over c of e[i,c] <= 1"),
        ("column", "t"): (ROWS, "upper bound of the loss of row i"),
        ("column", "e"): (OUTPUTS, "upper bound of exp(z[i,c] - z[i,y] - t[i]), y the row's class"),
    }

    def value(self, z: FloatArray, y: FloatArray) -> FloatArray:  # noqa: D102
        return logsumexp(z, axis=1) - np.sum(z * y, axis=1)

    def residual(self, z: FloatArray, y: FloatArray) -> FloatArray:  # noqa: D102
        return y - softmax(z, axis=1)

    def curvature(self, z: FloatArray, y: FloatArray) -> FloatArray:  # noqa: D102
        return np.asarray(softmax(z, axis=1))

    def coupling(self, z: FloatArray, y: FloatArray) -> FloatArray:  # noqa: D102
        return np.asarray(softmax(z, axis=1))

    def prox(self, v: FloatArray, y: FloatArray, weight: FloatArray) -> FloatArray:
        """Solve z + q / τ = v + y / τ with q = softmax(z): one unknown a row, then two Newton steps on z.

        For s = logsumexp(z) the probabilities are q = τ ω(v + y / τ − s − log τ), with Wright's function
        ω + log ω = (.). Σ q is decreasing and convex in s, so that Newton's method increases s until Σ q = 1.
        The rounding error is then that of numbers of size 1 / τ. The last two steps have no cancellation and
        reduce it to that of numbers of size z.
        """
        aim, count = v + y / weight, y.shape[1]
        s = np.maximum(
            aim.max(axis=1, keepdims=True) - 1.0 / weight,
            aim.mean(axis=1, keepdims=True) + np.log(count) - 1.0 / (count * weight),
        )
        active = np.ones_like(s, dtype=bool)
        for _ in range(NEWTON_STEPS):
            omega = wrightomega(aim - s - np.log(weight))
            excess = weight * omega.sum(axis=1, keepdims=True) - 1.0
            step = excess / (weight * np.sum(omega / (1.0 + omega), axis=1, keepdims=True))
            s = np.where(active, s + step, s)
            active &= abs(step) > ROUGH * (1.0 + abs(s))
            if not active.any():
                break
        others = np.where(y == 1.0, 0.0, wrightomega(aim - s - np.log(weight)))
        z = v - others + y * others.sum(axis=1, keepdims=True)
        for _ in range(2):
            z = z - self._newton_step(z, v, y, weight)
        return z

    def _newton_step(self, z: FloatArray, v: FloatArray, y: FloatArray, weight: FloatArray) -> FloatArray:
        """Return (diag(q) + τ − q q')⁻¹ times the slope τ (z − v) + q − y, for z of the same mean as v.

        The slopes then sum to 0, and the Sherman-Morrison formula has no cancellation. The 1 − q of the label
        is the sum of the other probabilities.
        """
        q = np.asarray(softmax(z, axis=1))
        others = np.where(y == 1.0, 0.0, q)
        slope = weight * (z - v) + others - y * others.sum(axis=1, keepdims=True)
        share, step = q / (q + weight), slope / (q + weight)
        return step - share * (step.sum(axis=1, keepdims=True) / share.sum(axis=1, keepdims=True))

    def dual_value(self, v: FloatArray, y: FloatArray) -> FloatArray:  # noqa: D102
        q = y - v
        outside = np.abs(q.sum(axis=1) - 1.0) > 1e-12 * q.shape[1]
        return np.where(outside, -np.inf, np.sum(entr(q), axis=1))

    def project(self, v: FloatArray, y: FloatArray) -> FloatArray:  # noqa: D102
        q = np.maximum(y - v, 0.0) + 1e-300
        return y - q / q.sum(axis=1, keepdims=True)

    def exact_value(self, z: Any, y: Any) -> Any:  # noqa: D102
        return by_row(log_sum_exp_above, z) - np.sum(z * y, axis=1)

    def exact_dual_value(self, v: Any, y: Any) -> Any:  # noqa: D102
        def below(q: list[Fraction]) -> Fraction | None:
            return sum(map(entropy_below, q), Fraction(0)) if min(q) >= 0 and sum(q) == 1 else None

        return by_row(below, y - v)

    def exact_project(self, v: FloatArray, y: FloatArray) -> Any:  # noqa: D102
        q = np.maximum(fraction(y) - fraction(v), 0) + SMALLEST
        return fraction(y) - q / q.sum(axis=1, keepdims=True)

    def check(self, y: FloatArray) -> None:  # noqa: D102
        if y.shape[1] < 2 or not (np.isin(y, (0.0, 1.0)).all() and (y.sum(axis=1) == 1.0).all()):
            raise ShapeError(f"targets: loss softmax takes one-hot rows of at least 2 classes, got {y.shape}")

    def cone_rows(self, y: FloatArray, cost: FloatArray) -> tuple[list[ConeRows], Costs]:
        """Return Σ_c exp(z_c − z_y − t) <= 1."""
        n, count, i = len(y), y.size, np.arange(y.size)
        row, of_label = i % n, n * y.argmax(axis=1)[i % n] + i % n
        shape = (3 * count, count)
        parts = {
            "z": picked((3 * i, of_label), 1.0, shape) - picked((3 * i, i), 1.0, shape),
            "t": picked((3 * i, row), 1.0, (3 * count, n)),
            "e": picked((3 * i + 2, i), -1.0, shape),
        }
        return [
            ConeRows("exp(z-zy-t)", "exponential", parts, np.tile([0.0, 1.0, 0.0], count), 3),
            ConeRows("sum", "nonnegative", {"e": picked((row, i), 1.0, (n, count))}, np.ones(n)),
        ], {"t": (cost[:n], 0.0), "e": (0.0 * cost, 0.0)}

    def cone_start(self, z: FloatArray, u: FloatArray, y: FloatArray, cost: FloatArray) -> ConeStart:  # noqa: D102
        t = self.value(z, y)
        shifted = z - np.sum(z * y, axis=1, keepdims=True) - t[:, None]
        duals = {"exp(z-zy-t)": exponential_dual(cost, cost * y - u), "sum": cost[:, 0]}
        return ConeStart({"t": t, "e": by_output(np.exp(shifted))}, duals)

    def cvxpy(self, Z: Any, y: FloatArray, row_scale: FloatArray) -> Any:  # noqa: D102
        import cvxpy as cp

        lifted = cp.log_sum_exp(Z, axis=1) - cp.sum(cp.multiply(y, Z), axis=1)
        return cp.sum(cp.multiply(row_scale[:, 0], lifted))


LOSSES: dict[str, Loss] = {}


def register_loss(loss: Loss) -> None:
    """Register a loss by its name, for programs and problem files.

    Raises
    ------
    ShapeError
        Not a Loss, or another one has its name.
    UnsupportedError
        Its class lacks a part that every loss needs, or its dual is not that of its value (`duality`); the
        message names the part.
    """
    if not isinstance(loss, Loss):
        raise ShapeError(f"loss: expected an instance of a subclass of Loss, got {loss!r}")
    loss.check_complete()
    if loss.name in LOSSES:
        raise ShapeError(f"loss: {loss.name!r} is registered already, as {type(LOSSES[loss.name]).__name__}")
    _check_once(loss)
    LOSSES[loss.name] = loss


def get_loss(loss: str | Loss) -> Loss:
    """Return a loss by its name, or the loss itself.

    Raises
    ------
    ShapeError
        Neither a registered name nor a Loss.
    UnsupportedError
        The class of the loss lacks a part that every loss needs, or its dual is not that of its value.
    """
    if isinstance(loss, Loss):
        loss.check_complete()
        _check_once(loss)
        return loss
    if not isinstance(loss, str) or loss not in LOSSES:
        hint = nearest(loss, LOSSES)
        raise ShapeError(f"loss: expected one of {', '.join(LOSSES)}, got {loss!r}{hint}")
    return LOSSES[loss]


def _check_once(loss: Loss) -> None:
    """Check the dual of a loss when its class comes for the first time."""
    if type(loss) not in CHECKED:
        check_duality(loss)
        CHECKED.add(type(loss))


# the package's own losses pass `check_duality` in the tests, which need not run at every start
LOSSES.update({loss.name: loss for loss in (Squared(), Hinge(), SquaredHinge(), Logistic(), Softmax())})
CHECKED: set[type[Loss]] = {type(loss) for loss in LOSSES.values()}
