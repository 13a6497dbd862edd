"""The block of the outputs: a loss plus a quadratic distance to a fixed point.

    primal   min over q ∈ ℝ^{R×C} of  Σ_i a_i ℓ(q_i, y_i) + ½ ρ ‖q − v‖²
    dual     max over u of  −Σ_i a_i ℓ*(−u_i / a_i) − Σ_i (u_i·v_i + ‖u_i‖² / (2 ρ))

With u = −a ℓ'(q) or u = ρ (q − v), moved into the dual domain of the loss, every point has a certified gap.
The minimiser is the proximal operator of the loss (Parikh & Boyd, "Proximal algorithms", 2014).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from convexsnn.arrays import FloatArray, positive, real_array
from convexsnn.errors import ShapeError
from convexsnn.programs.cone_form import ConeForm, by_cone, cones_of
from convexsnn.programs.loss import Loss
from convexsnn.programs.point import Certificate, Point, relative_gap
from convexsnn.programs.program import Block, TableCone, TableQP
from convexsnn.programs.qp_form import QPForm, by_output, slack_columns


@dataclass(frozen=True, eq=False)
class OutputBlock(Block):
    """Outputs of a splitting: a loss plus a quadratic.

    Parameters
    ----------
    loss : Loss
    targets, center : (R, C) arrays
        y, in the form that the loss expects, and v.
    sample_weights : (R,) array
        a > 0.
    penalty : float
        ρ > 0.

    Raises
    ------
    ShapeError
        Shapes do not match, the loss does not accept the targets, or ρ or a weight is not positive.
    """

    name: str
    formula: str
    loss: Loss
    targets: FloatArray
    sample_weights: FloatArray
    center: FloatArray
    penalty: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "targets", real_array("targets", self.targets, ("R", "C")))
        rows, outputs = self.shape
        self.loss.check_complete()
        self.loss.check(self.targets)
        for name, axes in (("center", (("R", rows), ("C", outputs))), ("sample_weights", (("R", rows),))):
            object.__setattr__(self, name, real_array(name, getattr(self, name), axes))
        if self.sample_weights.min() <= 0:
            raise ShapeError(f"sample_weights: {self.sample_weights.min():g}; every weight must be positive")
        positive("penalty", self.penalty)

    @property
    def kind(self) -> str:
        """The kind of program: "qp", or the kind of the loss's cones."""
        return "qp" if self.loss.offers("quadratic_rows") else self.loss.cone_kind

    @property
    def forms(self) -> tuple[str, ...]:
        """The forms, of "qp", "cone" and "cvxpy", that the loss has."""
        parts = {"qp": "quadratic_rows", "cone": "cone_rows", "cvxpy": "cvxpy"}
        return tuple(form for form, part in parts.items() if self.loss.offers(part))

    @property
    def shape(self) -> tuple[int, int]:
        """(R, C), the shape of q."""
        return self.targets.shape[0], self.targets.shape[1]

    def minimize(self, start: FloatArray | None = None, tolerance: float = 1e-10) -> FloatArray:
        """Return the minimiser (R, C) by the loss's proximal operator; `start` and `tolerance` are unused."""
        return self.loss.prox(self.center, self.targets, self.penalty / self.sample_weights[:, None])

    def objective(self, rows: FloatArray) -> float:
        """Return the objective at q (R, C)."""
        losses = self.sample_weights @ self.loss.value(rows, self.targets)
        return float(losses + 0.5 * self.penalty * np.sum((rows - self.center) ** 2))

    def describe(self) -> str:
        """Return the block's mathematics with its sizes."""
        rows, outputs = self.shape
        lines = f"  ℓ(z, y) = {self.loss.formula}  ({self.loss.name})"
        sizes = f"  {rows} rows of {outputs} unknowns, ρ = {self.penalty:.6g}"
        return f"{self.name}\n{self.formula}\n{lines}\n{sizes}"

    def _table(self, point: Point) -> FloatArray:
        return real_array("weights", point.weights, (("R", self.shape[0]), ("C", self.shape[1])))

    def primal_objective(self, point: Point) -> float:
        """Return the objective at a point's weights q."""
        return self.objective(self._table(point))

    def feasible_dual(self, point: Point) -> Point:
        """Return the point with the better of two duals, row by row: the loss's slope, or ρ (q − v).

        Both are moved into the dual domain of the loss. The slope is exact up to rounding where q
        nearly equals v, the difference where the loss has a kink.
        """
        q, a = self._table(point), self.sample_weights[:, None]
        slope = self.loss.project(self.loss.residual(q, self.targets), self.targets)
        difference = self.loss.project(self.penalty * (q - self.center) / a, self.targets)
        better = self._row_bounds(a * slope) > self._row_bounds(a * difference)
        return Point(q, a * np.where(better[:, None], slope, difference))

    def _row_bounds(self, u: FloatArray) -> FloatArray:
        """Return the dual objective of every row, (R,)."""
        losses = self.loss.dual_value(u / self.sample_weights[:, None], self.targets)
        quadratic = np.sum(u * (self.center + u / (2.0 * self.penalty)), axis=1)
        return np.asarray(self.sample_weights * losses - quadratic)

    def dual_objective(self, point: Point) -> float:
        """Return the dual objective at a point's dual; −inf outside the loss's dual domain."""
        if point.dual is None:
            raise ShapeError("dual: the point has none; feasible_dual makes one from its weights")
        u = real_array("dual", point.dual, (("R", self.shape[0]), ("C", self.shape[1])))
        return float(self._row_bounds(u).sum())

    def certify(self, point: Point) -> Certificate:
        """Return objective, lower bound and gap of a point."""
        pair = self.feasible_dual(point)
        objective, bound = self.primal_objective(pair), self.dual_objective(pair)
        return Certificate(objective, bound, relative_gap(objective, bound), np.asarray(pair.dual))

    def _cost(self) -> FloatArray:
        return by_output(np.broadcast_to(self.sample_weights[:, None], self.shape))

    def to_qp(self) -> QPForm:
        """Return the block as a QP in q and slacks; UnsupportedError for logistic and softmax."""
        rows, count = self.loss.quadratic_rows(self.targets), self.targets.size
        slacks = slack_columns(rows, self._cost(), count)
        free = np.full(count + len(slacks.lower), np.inf)
        return TableQP(
            P=sparse.diags_array(
                np.concatenate([np.full(count, self.penalty), slacks.square]), format="csc"
            ).tocsc(),
            q=np.concatenate([-self.penalty * by_output(self.center), slacks.linear]),
            A=sparse.hstack([sparse.diags_array(by_output(rows.sign)), slacks.A], format="csc"),
            row_lower=by_output(rows.lower),
            row_upper=by_output(rows.upper),
            lower=np.concatenate([-free[:count], slacks.lower]),
            upper=free,
            variables={"q": slice(0, count), **slacks.variables},
            rows={"loss": slice(0, count)},
            outputs_to_rows=None,
            shape=self.shape,
        )

    def to_cone(self) -> ConeForm:
        """Return the block in conic form."""
        blocks, costs = self.loss.cone_rows(self.targets, self._cost())
        blocks = by_cone(blocks)
        center, count = by_output(self.center), self.targets.size
        terms = {"z": (-self.penalty * center, np.full(count, self.penalty))}
        terms |= {k: (linear * (q == 0), linear * q) for k, (linear, q) in costs.items()}
        return TableCone(
            P=sparse.diags_array(np.concatenate([square for _, square in terms.values()]), format="csc"),
            q=np.concatenate([linear for linear, _ in terms.values()]),
            A=sparse.block_array([[rows.parts.get(k) for k in terms] for rows in blocks], format="csc"),
            b=np.concatenate([rows.b for rows in blocks]),
            cones=cones_of(blocks),
            variables={"q": slice(0, count)},
            rows={},
            outputs_to_rows=None,
            shape=self.shape,
        )

    def to_cvxpy(self) -> Any:
        """Return a cvxpy.Problem in the variable ``W``, which is q."""
        import cvxpy as cp

        q = cp.Variable(self.shape, name="W")
        near = 0.5 * self.penalty * cp.sum_squares(q - self.center)
        total = self.loss.cvxpy(q, self.targets, self.sample_weights[:, None])
        return cp.Problem(cp.Minimize(total + near))

    @property
    def qp_constant(self) -> float:  # noqa: D102
        return 0.5 * self.penalty * float(np.sum(self.center**2))
