"""Losses of the margin y z, y = ±1: hinge, squared hinge, logistic."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from scipy import sparse
from scipy.special import entr, expit, xlog1py

from convexsnn.arrays import FloatArray
from convexsnn.errors import ShapeError
from convexsnn.programs.exact import by_row, entropy_below, log_sum_exp_above
from convexsnn.programs.loss import Loss
from convexsnn.programs.rows import (
    OUTPUTS,
    ConeRows,
    ConeStart,
    Costs,
    Kinks,
    QuadraticRows,
    Slack,
    by_output,
    picked,
)

NEWTON_STEPS = 100
STILL = 1e-15  # relative size of a Newton step below which the iteration stops
ON_KINK = 1e-7  # distance of a margin from 1 up to which it is at the kink
LEAST = 1e-12  # smallest probability of a class, so that its logarithm is finite
SHORT = "how far y[i,c] z[i,c] is short of 1"
HINGE_MEANINGS = {
    ("column", "slack"): (OUTPUTS, SHORT),
    ("row", "loss"): (OUTPUTS, "y[i,c] z[i,c] + slack[i,c] >= 1"),
    ("row", "margin"): (OUTPUTS, "y[i,c] z[i,c] + xi[i,c] >= 1"),
    ("row", "slack"): (OUTPUTS, "xi[i,c] >= 0"),
    ("column", "xi"): (OUTPUTS, SHORT),
}


class MarginLoss(Loss):
    """A loss of the margin y z, y = ±1."""

    tasks = ("classification",)
    low_target = -1.0

    def check(self, y: FloatArray) -> None:  # noqa: D102
        if not np.isin(y, (-1.0, 1.0)).all():
            bad = y[~np.isin(y, (-1.0, 1.0))][0]
            raise ShapeError(f"targets: {bad:g}; loss {self.name} takes -1 and +1")


def _at_one_level(
    scale: FloatArray, limit: float, steepest: float, level: float
) -> tuple[FloatArray, FloatArray]:
    """Return outputs and prices of rows of one sign over all patterns; all have the same output and slope.

    `steepest` is |ℓ'(0)|. If λ / Σ s is larger, the outputs are 0.
    """
    share = limit / float(scale.sum())
    if share >= steepest:
        return np.zeros_like(scale), scale * steepest
    return np.full_like(scale, level), scale * share


def _hinge_rows(y: FloatArray) -> list[ConeRows]:
    """Return y z + xi >= 1 and xi >= 0."""
    count, eye, flat = y.size, sparse.eye_array(y.size, format="csc"), by_output(y)
    margin = {"z": -sparse.diags_array(flat, format="csc"), "xi": -eye}
    return [
        ConeRows("margin", "nonnegative", margin, -np.ones(count)),
        ConeRows("slack", "nonnegative", {"xi": -eye}, np.zeros(count)),
    ]


def _hinge_start(xi: FloatArray, share: FloatArray, slope: FloatArray) -> ConeStart:
    """Return the start with slacks xi; the duals of their two rows add up to the slope of their cost."""
    duals = {"margin": by_output(share), "slack": by_output(np.maximum(slope - share, 0.0))}
    return ConeStart({"xi": by_output(xi)}, duals)


class Hinge(MarginLoss):
    """max(0, 1 − y z)."""

    name = "hinge"
    kind = "lp"
    kinked = True
    formula = "max(0, 1 − y z)"
    dual_formula = "u y,  u y / (c a) ∈ [0, 1]"
    meanings = HINGE_MEANINGS

    def value(self, z: FloatArray, y: FloatArray) -> FloatArray:  # noqa: D102
        return np.maximum(0, 1 - y * z).sum(axis=1)

    def residual(self, z: FloatArray, y: FloatArray) -> FloatArray:  # noqa: D102
        return y * (y * z < 1.0)

    def kinks(self, z: FloatArray, y: FloatArray) -> Kinks:  # noqa: D102
        return Kinks(np.abs(1.0 - y * z) < ON_KINK, np.zeros_like(y), y)

    def prox(self, v: FloatArray, y: FloatArray, weight: FloatArray) -> FloatArray:  # noqa: D102
        margin = y * v  # the flat part: unchanged; the slope: plus 1/τ; between them: 1
        return y * np.where(margin >= 1.0, margin, np.minimum(margin + 1.0 / weight, 1.0))

    def dual_value(self, v: FloatArray, y: FloatArray) -> FloatArray:  # noqa: D102
        p = v * y
        return np.where(((p < 0) | (p > 1)).any(axis=1), -np.inf, p.sum(axis=1))

    def project(self, v: FloatArray, y: FloatArray) -> FloatArray:  # noqa: D102
        return y * np.clip(v * y, 0.0, 1.0)

    def quadratic_rows(self, y: FloatArray) -> QuadraticRows:  # noqa: D102
        return QuadraticRows(y, np.ones_like(y), np.full_like(y, np.inf), {"slack": Slack(1.0, 0.0, 1.0)})

    def cone_rows(self, y: FloatArray, cost: FloatArray) -> tuple[list[ConeRows], Costs]:  # noqa: D102
        return _hinge_rows(y), {"xi": (cost, 0.0)}

    def cone_start(self, z: FloatArray, u: FloatArray, y: FloatArray, cost: FloatArray) -> ConeStart:  # noqa: D102
        return _hinge_start(np.maximum(0.0, 1.0 - y * z), y * u, cost)

    def cvxpy(self, Z: Any, y: FloatArray, row_scale: FloatArray) -> Any:  # noqa: D102
        import cvxpy as cp

        return cp.sum(cp.multiply(row_scale, cp.pos(1 - cp.multiply(y, Z))))

    def shattered_side(self, y: FloatArray, scale: FloatArray, limit: float) -> tuple[FloatArray, FloatArray]:  # noqa: D102
        return _at_one_level(scale, limit, 1.0, 1.0)


class SquaredHinge(MarginLoss):
    """½ max(0, 1 − y z)²."""

    name = "squared_hinge"
    kind = "qp"
    formula = "½ max(0, 1 − y z)²"
    dual_formula = "u y − u² / (2 c a),  u y ≥ 0"
    meanings = HINGE_MEANINGS

    def value(self, z: FloatArray, y: FloatArray) -> FloatArray:  # noqa: D102
        return np.sum(np.maximum(0 * z, 1 - y * z) ** 2, axis=1) / 2  # 0 z: a fraction where z is one

    def residual(self, z: FloatArray, y: FloatArray) -> FloatArray:  # noqa: D102
        return y * np.maximum(0.0, 1.0 - y * z)

    def curvature(self, z: FloatArray, y: FloatArray) -> FloatArray:  # noqa: D102
        return (y * z < 1.0).astype(np.float64)

    def prox(self, v: FloatArray, y: FloatArray, weight: FloatArray) -> FloatArray:  # noqa: D102
        margin = y * v
        return y * np.where(margin >= 1.0, margin, (1.0 + weight * margin) / (1.0 + weight))

    def dual_value(self, v: FloatArray, y: FloatArray) -> FloatArray:  # noqa: D102
        p = v * y
        return np.where((p < 0).any(axis=1), -np.inf, np.sum(p - p**2 / 2, axis=1))

    def project(self, v: FloatArray, y: FloatArray) -> FloatArray:  # noqa: D102
        return y * np.maximum(v * y, 0.0)

    def quadratic_rows(self, y: FloatArray) -> QuadraticRows:  # noqa: D102
        return QuadraticRows(y, np.ones_like(y), np.full_like(y, np.inf), {"slack": Slack(1.0, 1.0, 0.0)})

    def cone_rows(self, y: FloatArray, cost: FloatArray) -> tuple[list[ConeRows], Costs]:  # noqa: D102
        return _hinge_rows(y), {"xi": (cost, 1.0)}

    def cone_start(self, z: FloatArray, u: FloatArray, y: FloatArray, cost: FloatArray) -> ConeStart:  # noqa: D102
        xi = np.maximum(0.0, 1.0 - y * z)
        return _hinge_start(xi, y * u, cost * xi)

    def cvxpy(self, Z: Any, y: FloatArray, row_scale: FloatArray) -> Any:  # noqa: D102
        import cvxpy as cp

        return cp.sum_squares(cp.multiply(np.sqrt(row_scale / 2), cp.pos(1 - cp.multiply(y, Z))))

    def shattered_side(self, y: FloatArray, scale: FloatArray, limit: float) -> tuple[FloatArray, FloatArray]:  # noqa: D102
        return _at_one_level(scale, limit, 1.0, 1.0 - limit / float(scale.sum()))


class Logistic(MarginLoss):
    """log(1 + exp(−y z))."""

    name = "logistic"
    kind = "logistic"
    cone_kind = "exponential"
    formula = "log(1 + exp(−y z))"
    dual_formula = "−c a [p log p + (1 − p) log(1 − p)],  p = u y / (c a) ∈ [0, 1]"
    meanings = {
        ("row", "exp(-t)"): (OUTPUTS, "exp(-t[i,c]) <= e0[i,c]"),
        ("row", "exp(-yz-t)"): (OUTPUTS, "exp(-y[i,c] z[i,c] - t[i,c]) <= e1[i,c]"),
        ("row", "sum"): (OUTPUTS, "e0[i,c] + e1[i,c] <= 1"),
        ("column", "t"): (OUTPUTS, "upper bound of the loss of output (i,c)"),
        ("column", "e0"): (OUTPUTS, "upper bound of exp(-t[i,c])"),
        ("column", "e1"): (OUTPUTS, "upper bound of exp(-y[i,c] z[i,c] - t[i,c])"),
    }

    def value(self, z: FloatArray, y: FloatArray) -> FloatArray:  # noqa: D102
        return np.logaddexp(0.0, -y * z).sum(axis=1)

    def residual(self, z: FloatArray, y: FloatArray) -> FloatArray:  # noqa: D102
        return y * expit(-y * z)

    def curvature(self, z: FloatArray, y: FloatArray) -> FloatArray:  # noqa: D102
        p = expit(-y * z)
        return p * (1.0 - p)

    def prox(self, v: FloatArray, y: FloatArray, weight: FloatArray) -> FloatArray:
        """Solve τ (m − c) = σ(−m) for the margin m = y z, c = y v, entry by entry, by Newton's method.

        The difference of the two sides is convex for m < 0 and concave for m > 0. The iteration starts in the
        half-line of the solution, at the end nearer to 0, so that no step goes beyond the solution.
        """
        c = y * v
        above = weight * c + 0.5 > 0.0  # whether the solution is positive
        m = np.where(above, np.maximum(c, 0.0), np.minimum(c + 1.0 / weight, 0.0))
        for _ in range(NEWTON_STEPS):
            p = expit(-m)
            step = (p - weight * (m - c)) / (weight + p * (1.0 - p))
            active = abs(step) > STILL * (1.0 + abs(m))
            m = np.where(active, m + step, m)
            if not active.any():
                break
        return y * m

    def dual_value(self, v: FloatArray, y: FloatArray) -> FloatArray:  # noqa: D102
        p = v * y  # entr and xlog1py are −inf or nan outside [0, 1]
        inside = (p >= 0) & (p <= 1)
        rest = -xlog1py(1.0 - p, -np.where(inside, p, 0.0))  # log1p: 1 − p loses a small p to rounding
        return np.sum(np.where(inside, entr(p) + rest, -np.inf), axis=1)

    def exact_value(self, z: Any, y: Any) -> Any:  # noqa: D102
        return by_row(
            lambda row: sum((log_sum_exp_above([Fraction(0), m]) for m in row), Fraction(0)), -y * z
        )

    def exact_dual_value(self, v: Any, y: Any) -> Any:  # noqa: D102
        def below(shares: list[Fraction]) -> Fraction | None:
            if min(shares) < 0 or max(shares) > 1:
                return None
            return sum((entropy_below(p) + entropy_below(1 - p) for p in shares), Fraction(0))

        return by_row(below, v * y)

    def project(self, v: FloatArray, y: FloatArray) -> FloatArray:  # noqa: D102
        return y * np.clip(v * y, 0.0, 1.0)

    def cone_rows(self, y: FloatArray, cost: FloatArray) -> tuple[list[ConeRows], Costs]:
        """Return exp(−t) + exp(−y z − t) <= 1."""
        count, eye, i = y.size, sparse.eye_array(y.size, format="csc"), np.arange(y.size)
        b, shape = np.tile([0.0, 1.0, 0.0], count), (3 * count, count)
        t, e = picked((3 * i, i), 1.0, shape), picked((3 * i + 2, i), -1.0, shape)
        z = picked((3 * i, i), by_output(y), shape)
        return [
            ConeRows("exp(-t)", "exponential", {"t": t, "e0": e}, b, 3),
            ConeRows("exp(-yz-t)", "exponential", {"t": t, "e1": e, "z": z}, b, 3),
            ConeRows("sum", "nonnegative", {"e0": eye, "e1": eye}, np.ones(count)),
        ], {"t": (cost, 0.0), "e0": (0.0 * cost, 0.0), "e1": (0.0 * cost, 0.0)}

    def cone_start(self, z: FloatArray, u: FloatArray, y: FloatArray, cost: FloatArray) -> ConeStart:  # noqa: D102
        margin, share = y * z, y * u
        t = np.logaddexp(0.0, -margin)
        variables = {"t": t, "e0": np.exp(-t), "e1": np.exp(-margin - t)}
        duals = {
            "exp(-t)": exponential_dual(cost, cost - share),
            "exp(-yz-t)": exponential_dual(cost, share),
            "sum": by_output(cost),
        }
        return ConeStart({name: by_output(value) for name, value in variables.items()}, duals)

    def cvxpy(self, Z: Any, y: FloatArray, row_scale: FloatArray) -> Any:  # noqa: D102
        import cvxpy as cp

        return cp.sum(cp.multiply(row_scale, cp.logistic(-cp.multiply(y, Z))))

    def shattered_side(self, y: FloatArray, scale: FloatArray, limit: float) -> tuple[FloatArray, FloatArray]:  # noqa: D102
        share = limit / float(scale.sum())
        return _at_one_level(scale, limit, 0.5, np.log1p(max(1.0 - 2.0 * share, 0.0) / share))


def exponential_dual(cost: FloatArray, mass: FloatArray) -> FloatArray:
    """Return (−m, m (log(m / c) − 1), c) of every entry, where m is c times its probability."""
    m = np.clip(mass, LEAST * cost, cost)
    return np.stack([by_output(v) for v in (-m, m * (np.log(m / cost) - 1.0), cost)], axis=1).ravel()
