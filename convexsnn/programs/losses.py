"""Losses: value, slope and what the dual needs of each.

A loss is written ℓ(z, y) for one row, z and y in ℝ^C. With row weights a and scale c (1/n), the primal
has c Σ a_i ℓ(z_i, y_i) and the dual −c Σ a_i ℓ*(−u_i / (c a_i)). A loss speaks of v_i = u_i / (c a_i), the
dual variable free of scales:

| loss          | ℓ(z, y)              | −ℓ*(−v)                            | domain of v   | v at z         |
|---------------|----------------------|------------------------------------|---------------|----------------|
| squared       | ½ (z − y)²           | v y − ½ v²                         | ℝ             | y − z          |
| hinge         | max(0, 1 − y z)      | v y                                | v y ∈ [0, 1]  | y 1{y z < 1}   |
| squared_hinge | ½ max(0, 1 − y z)²   | v y − ½ v²                         | v y ≥ 0       | y max(0, 1−yz) |
| logistic      | log(1 + exp(−y z))   | −p log p − (1−p) log(1−p), p = v y | p ∈ [0, 1]    | y σ(−y z)      |
| softmax       | logsumexp(z) − z·y   | −Σ q log q, q = y − v              | q ∈ simplex   | y − softmax(z) |

Every domain is star-shaped about 0, so a scaled-down dual point stays in it. All but softmax are sums
over outputs. Sources: [U26, §3]; Boyd & Vandenberghe, Convex Optimization, §3.3 and §5.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.special import entr, expit, logsumexp, softmax, wrightomega, xlog1py

from convexsnn.arrays import FloatArray
from convexsnn.errors import ShapeError, UnsupportedError

NEWTON_STEPS = 100
STILL, ROUGH = 1e-15, 1e-8  # of a number: what a Newton step must exceed to be followed by another


@dataclass(frozen=True)
class QuadraticRows:
    """A loss as c a (½ quadratic s² + linear s) with rows lower <= sign · (D w) + side · s <= upper."""

    sign: FloatArray
    side: float
    lower: FloatArray
    upper: FloatArray
    quadratic: float
    linear: float
    slack_is_free: bool


class Loss(ABC):
    """One loss; arrays are (R, C): outputs z, targets y, scale-free dual v.

    Attributes
    ----------
    kind : str
        Kind of the programs that it makes with a penalty on entries: "lp", "qp", "logistic" or "exponential".
    cone_kind : str
        Kind with a penalty that takes second-order cones: "cone" or "exponential".
    separable : bool
        Whether it is a sum over outputs.
    kinked : bool
        Whether it has kinks, and so no curvature.
    quadratic : bool
        Whether its curvature is the same everywhere.
    homogeneous : bool
        Whether ℓ(σ z, σ y) = σ² ℓ(z, y), so that targets may be given in any unit.
    """

    name: ClassVar[str]
    kind: ClassVar[str]
    cone_kind: ClassVar[str] = "cone"
    separable: ClassVar[bool] = True
    kinked: ClassVar[bool] = False
    quadratic: ClassVar[bool] = False
    homogeneous: ClassVar[bool] = False
    formula: ClassVar[str]
    dual_formula: ClassVar[str]

    @abstractmethod
    def value(self, z: FloatArray, y: FloatArray) -> FloatArray:
        """Return ℓ of every row, (R,)."""

    @abstractmethod
    def residual(self, z: FloatArray, y: FloatArray) -> FloatArray:
        """Return v = −ℓ'(z), the dual variable that the outputs themselves give, (R, C)."""

    def curvature(self, z: FloatArray, y: FloatArray) -> FloatArray:
        """Return h, (R, C): a row's second derivative is diag(h) − q q'.

        Raises
        ------
        UnsupportedError
            The loss has kinks.
        """
        raise UnsupportedError(f"loss {self.name}: has kinks and no curvature")

    def coupling(self, z: FloatArray, y: FloatArray) -> FloatArray | None:
        """Return q, (R, C), or None where outputs are not coupled."""
        return None

    @abstractmethod
    def dual_value(self, v: FloatArray, y: FloatArray) -> FloatArray:
        """Return −ℓ*(−v) of every row, (R,); −inf outside the domain."""

    def project(self, v: FloatArray, y: FloatArray) -> FloatArray:
        """Return a point of the dual domain near v: what a solver's own dual becomes before use."""
        return v

    def check(self, y: FloatArray) -> None:  # noqa: B027 (any real target will do unless a loss says no)
        """Raise a ShapeError where targets are not of the kind this loss takes."""

    @abstractmethod
    def prox(self, v: FloatArray, y: FloatArray, weight: FloatArray) -> FloatArray:
        """Return the minimiser of ℓ(z, y) + ½ τ ‖z − v‖² of every row, (R, C); `weight` τ > 0 is (R, 1)."""

    def quadratic_rows(self, y: FloatArray) -> QuadraticRows:
        """Return the loss as rows of a quadratic program, or raise UnsupportedError."""
        raise UnsupportedError(f"loss {self.name}: not quadratic, has no QP form; use to_cone or to_cvxpy")


class Squared(Loss):
    """½ (z − y)²."""

    name = "squared"
    kind = "qp"
    quadratic = True
    homogeneous = True
    formula = "½ (z − y)²"
    dual_formula = "u y − u² / (2 c a)"

    def value(self, z: FloatArray, y: FloatArray) -> FloatArray:  # noqa: D102
        return 0.5 * np.sum((z - y) ** 2, axis=1)

    def residual(self, z: FloatArray, y: FloatArray) -> FloatArray:  # noqa: D102
        return y - z

    def curvature(self, z: FloatArray, y: FloatArray) -> FloatArray:  # noqa: D102
        return np.ones_like(z)

    def prox(self, v: FloatArray, y: FloatArray, weight: FloatArray) -> FloatArray:  # noqa: D102
        return (y + weight * v) / (1.0 + weight)

    def dual_value(self, v: FloatArray, y: FloatArray) -> FloatArray:  # noqa: D102
        return np.sum(v * y - 0.5 * v**2, axis=1)

    def quadratic_rows(self, y: FloatArray) -> QuadraticRows:  # noqa: D102
        return QuadraticRows(np.ones_like(y), -1.0, y, y, 1.0, 0.0, slack_is_free=True)


class MarginLoss(Loss):
    """A loss of the margin y z, y = ±1."""

    def check(self, y: FloatArray) -> None:  # noqa: D102
        if not np.isin(y, (-1.0, 1.0)).all():
            bad = y[~np.isin(y, (-1.0, 1.0))][0]
            raise ShapeError(f"targets: {bad:g}; loss {self.name} takes -1 and +1")


class Hinge(MarginLoss):
    """max(0, 1 − y z)."""

    name = "hinge"
    kind = "lp"
    kinked = True
    formula = "max(0, 1 − y z)"
    dual_formula = "u y,  u y / (c a) ∈ [0, 1]"

    def value(self, z: FloatArray, y: FloatArray) -> FloatArray:  # noqa: D102
        return np.maximum(0.0, 1.0 - y * z).sum(axis=1)

    def residual(self, z: FloatArray, y: FloatArray) -> FloatArray:  # noqa: D102
        return y * (y * z < 1.0)

    def prox(self, v: FloatArray, y: FloatArray, weight: FloatArray) -> FloatArray:  # noqa: D102
        margin = y * v  # on the flat part it stays, on the slope it moves by 1/τ, between them it ends at 1
        return y * np.where(margin >= 1.0, margin, np.minimum(margin + 1.0 / weight, 1.0))

    def dual_value(self, v: FloatArray, y: FloatArray) -> FloatArray:  # noqa: D102
        p = v * y
        return np.where(((p < 0) | (p > 1)).any(axis=1), -np.inf, p.sum(axis=1))

    def project(self, v: FloatArray, y: FloatArray) -> FloatArray:  # noqa: D102
        return y * np.clip(v * y, 0.0, 1.0)

    def quadratic_rows(self, y: FloatArray) -> QuadraticRows:  # noqa: D102
        return QuadraticRows(y, 1.0, np.ones_like(y), np.full_like(y, np.inf), 0.0, 1.0, slack_is_free=False)


class SquaredHinge(MarginLoss):
    """½ max(0, 1 − y z)²."""

    name = "squared_hinge"
    kind = "qp"
    formula = "½ max(0, 1 − y z)²"
    dual_formula = "u y − u² / (2 c a),  u y ≥ 0"

    def value(self, z: FloatArray, y: FloatArray) -> FloatArray:  # noqa: D102
        return 0.5 * np.sum(np.maximum(0.0, 1.0 - y * z) ** 2, axis=1)

    def residual(self, z: FloatArray, y: FloatArray) -> FloatArray:  # noqa: D102
        return y * np.maximum(0.0, 1.0 - y * z)

    def curvature(self, z: FloatArray, y: FloatArray) -> FloatArray:  # noqa: D102
        return (y * z < 1.0).astype(np.float64)

    def prox(self, v: FloatArray, y: FloatArray, weight: FloatArray) -> FloatArray:  # noqa: D102
        margin = y * v
        return y * np.where(margin >= 1.0, margin, (1.0 + weight * margin) / (1.0 + weight))

    def dual_value(self, v: FloatArray, y: FloatArray) -> FloatArray:  # noqa: D102
        p = v * y
        return np.where((p < 0).any(axis=1), -np.inf, np.sum(p - 0.5 * p**2, axis=1))

    def project(self, v: FloatArray, y: FloatArray) -> FloatArray:  # noqa: D102
        return y * np.maximum(v * y, 0.0)

    def quadratic_rows(self, y: FloatArray) -> QuadraticRows:  # noqa: D102
        return QuadraticRows(y, 1.0, np.ones_like(y), np.full_like(y, np.inf), 1.0, 0.0, slack_is_free=False)


class Logistic(MarginLoss):
    """log(1 + exp(−y z))."""

    name = "logistic"
    kind = "logistic"
    cone_kind = "exponential"
    formula = "log(1 + exp(−y z))"
    dual_formula = "−c a [p log p + (1 − p) log(1 − p)],  p = u y / (c a) ∈ [0, 1]"

    def value(self, z: FloatArray, y: FloatArray) -> FloatArray:  # noqa: D102
        return np.logaddexp(0.0, -y * z).sum(axis=1)

    def residual(self, z: FloatArray, y: FloatArray) -> FloatArray:  # noqa: D102
        return y * expit(-y * z)

    def curvature(self, z: FloatArray, y: FloatArray) -> FloatArray:  # noqa: D102
        p = expit(-y * z)
        return p * (1.0 - p)

    def prox(self, v: FloatArray, y: FloatArray, weight: FloatArray) -> FloatArray:  # noqa: D102
        """Solve τ (m − c) = σ(−m) for the margin m = y z, c = y v, entry by entry, by Newton's method.

        The difference of the two sides bends upwards where m < 0 and downwards where m > 0. So from that end
        of the solution's own half which lies towards 0, every step goes towards it and none beyond.
        """
        c = y * v
        above = weight * c + 0.5 > 0.0  # the solution is
        m = np.where(above, np.maximum(c, 0.0), np.minimum(c + 1.0 / weight, 0.0))
        for _ in range(NEWTON_STEPS):
            p = expit(-m)
            step = (p - weight * (m - c)) / (weight + p * (1.0 - p))
            going = abs(step) > STILL * (1.0 + abs(m))
            m = np.where(going, m + step, m)
            if not going.any():
                break
        return y * m

    def dual_value(self, v: FloatArray, y: FloatArray) -> FloatArray:  # noqa: D102
        p = v * y  # entr and xlog1py are −inf or nan outside [0, 1]
        inside = (p >= 0) & (p <= 1)
        rest = -xlog1py(1.0 - p, -np.where(inside, p, 0.0))  # log1p: 1 − p loses a small p to rounding
        return np.sum(np.where(inside, entr(p) + rest, -np.inf), axis=1)

    def project(self, v: FloatArray, y: FloatArray) -> FloatArray:  # noqa: D102
        return y * np.clip(v * y, 0.0, 1.0)


class Softmax(Loss):
    """logsumexp(z) − z·y, y one-hot: the cross-entropy of softmax(z)."""

    name = "softmax"
    kind = "exponential"
    cone_kind = "exponential"
    separable = False
    formula = "logsumexp(z) − z·y"
    dual_formula = "−c a Σ q log q,  q = y − u / (c a) ∈ simplex"

    def value(self, z: FloatArray, y: FloatArray) -> FloatArray:  # noqa: D102
        return logsumexp(z, axis=1) - np.sum(z * y, axis=1)

    def residual(self, z: FloatArray, y: FloatArray) -> FloatArray:  # noqa: D102
        return y - softmax(z, axis=1)

    def curvature(self, z: FloatArray, y: FloatArray) -> FloatArray:  # noqa: D102
        return np.asarray(softmax(z, axis=1))

    def coupling(self, z: FloatArray, y: FloatArray) -> FloatArray:  # noqa: D102
        return np.asarray(softmax(z, axis=1))

    def prox(self, v: FloatArray, y: FloatArray, weight: FloatArray) -> FloatArray:  # noqa: D102
        """Solve z + q / τ = v + y / τ with q = softmax(z): one number a row, then two Newton steps on z.

        For s = logsumexp(z) the probabilities are q = τ ω(v + y / τ − s − log τ), with Wright's function
        ω + log ω = (.); Σ q falls and bends upwards in s, so that Newton's method climbs to Σ q = 1.
        That leaves an error as of numbers of size 1 / τ; the last steps, free of cancellation, one of size z.
        """
        aim, count = v + y / weight, y.shape[1]
        s = np.maximum(
            aim.max(axis=1, keepdims=True) - 1.0 / weight,
            aim.mean(axis=1, keepdims=True) + np.log(count) - 1.0 / (count * weight),
        )
        going = np.ones_like(s, dtype=bool)
        for _ in range(NEWTON_STEPS):
            omega = wrightomega(aim - s - np.log(weight))
            excess = weight * omega.sum(axis=1, keepdims=True) - 1.0
            step = excess / (weight * np.sum(omega / (1.0 + omega), axis=1, keepdims=True))
            s = np.where(going, s + step, s)
            going &= abs(step) > ROUGH * (1.0 + abs(s))
            if not going.any():
                break
        others = np.where(y == 1.0, 0.0, wrightomega(aim - s - np.log(weight)))
        z = v - others + y * others.sum(axis=1, keepdims=True)
        for _ in range(2):
            z = z - self._newton_step(z, v, y, weight)
        return z

    def _newton_step(self, z: FloatArray, v: FloatArray, y: FloatArray, weight: FloatArray) -> FloatArray:
        """Return (diag(q) + τ − q q')⁻¹ times the slope τ (z − v) + q − y, for z of the same mean as v.

        The slopes then sum to 0, which takes the cancellation out of the formula of Sherman and Morrison; the
        label's 1 − q is the sum of the other probabilities.
        """
        q = np.asarray(softmax(z, axis=1))
        others = np.where(y == 1.0, 0.0, q)
        slope = weight * (z - v) + others - y * others.sum(axis=1, keepdims=True)
        share, own = q / (q + weight), slope / (q + weight)
        return own - share * (own.sum(axis=1, keepdims=True) / share.sum(axis=1, keepdims=True))

    def dual_value(self, v: FloatArray, y: FloatArray) -> FloatArray:  # noqa: D102
        q = y - v
        outside = np.abs(q.sum(axis=1) - 1.0) > 1e-12 * q.shape[1]
        return np.where(outside, -np.inf, np.sum(entr(q), axis=1))

    def project(self, v: FloatArray, y: FloatArray) -> FloatArray:  # noqa: D102
        q = np.maximum(y - v, 0.0) + 1e-300
        return y - q / q.sum(axis=1, keepdims=True)

    def check(self, y: FloatArray) -> None:  # noqa: D102
        if y.shape[1] < 2 or not (np.isin(y, (0.0, 1.0)).all() and (y.sum(axis=1) == 1.0).all()):
            raise ShapeError(f"targets: loss softmax takes one-hot rows of at least 2 classes, got {y.shape}")


LOSSES: dict[str, Loss] = {
    loss.name: loss for loss in (Squared(), Hinge(), SquaredHinge(), Logistic(), Softmax())
}
