"""The interface of a loss: its value, its slope, its dual, and its part of each form.

A loss is written ℓ(z, y) for one row, z and y in ℝ^C. With row weights a and scale c (1/n), the primal
has c Σ a_i ℓ(z_i, y_i) and the dual −c Σ a_i ℓ*(−u_i / (c a_i)). The methods of a loss use the scale-free
dual variable v_i = u_i / (c a_i). Its domain must be star-shaped about 0, so that a dual point stays in it
when it is scaled down.
"""

from __future__ import annotations

from functools import cache
from typing import Any, ClassVar

import numpy as np

from convexsnn.arrays import FloatArray, fraction
from convexsnn.programs.exact import fractions_of
from convexsnn.programs.rows import ConeRows, ConeStart, Costs, Kinks, QuadraticRows
from convexsnn.programs.term import Term

KINDS = ("lp", "qp", "logistic", "cone", "exponential")  # of programs; solvers list those that they take


class Loss(Term):
    """One loss; arrays are (R, C): outputs z, targets y, scale-free dual v.

    `needed` lists what every loss must define. A loss without `quadratic_rows`, `cone_rows` or
    `cvxpy` has no QP, conic or cvxpy form; one without `prox` cannot be trained by ADMM. The check in
    rational arithmetic calls `value` and `dual_value` on tables of fractions. A loss that rounds there
    defines `exact_value` and `exact_dual_value`.

    Attributes
    ----------
    kind : str
        Kind of its programs with an entrywise penalty: "lp", "qp", "logistic", "cone" or "exponential".
    cone_kind : str
        Kind of its programs with a penalty that needs second-order cones: "cone" or "exponential".
    separable : bool
        Whether it is a sum over outputs.
    kinked : bool
        Whether it has kinks; then it has no curvature.
    quadratic : bool
        Whether its curvature is the same everywhere.
    homogeneous : bool
        Whether ℓ(σ z, σ y) = σ² ℓ(z, y), so that the targets can be rescaled.
    tasks : tuple of str
        Among "regression" and "classification"; the first is the default task.
    low_target : float
        In classification, y at the outputs of the other classes; at the output of the row's class y is 1.
    """

    term = "loss"
    kind: ClassVar[str]
    cone_kind: ClassVar[str] = "cone"
    separable: ClassVar[bool] = True
    kinked: ClassVar[bool] = False
    quadratic: ClassVar[bool] = False
    homogeneous: ClassVar[bool] = False
    tasks: ClassVar[tuple[str, ...]] = ("regression", "classification")
    low_target: ClassVar[float] = 0.0
    needed = (*Term.needed, "kind", "value", "residual", "dual_value")

    @classmethod
    @cache  # once a class: every program asks
    def check_complete(cls) -> None:
        """Raise an UnsupportedError that names the first part that is missing or wrong."""
        super().check_complete()
        if cls.kind not in KINDS:
            cls.refuse(f"kind {cls.kind!r}; expected one of {', '.join(KINDS)}")
        if not cls.kinked and not cls.offers("curvature"):
            cls.refuse(f"class {cls.__name__} does not define curvature; or set kinked = True")
        if cls.offers("cone_rows") and not cls.offers("cone_start"):
            cls.refuse(f"class {cls.__name__} defines cone_rows and not cone_start")

    def value(self, z: FloatArray, y: FloatArray) -> FloatArray:
        """Return ℓ of every row, (R,)."""
        self.refuse("has no value")

    def residual(self, z: FloatArray, y: FloatArray) -> FloatArray:
        """Return v = −ℓ'(z), the dual variable at outputs z, (R, C)."""
        self.refuse("has no residual")

    def curvature(self, z: FloatArray, y: FloatArray) -> FloatArray:
        """Return h, (R, C): a row's second derivative is diag(h) − q q'.

        Raises
        ------
        UnsupportedError
            The loss has kinks.
        """
        self.refuse("has kinks and no curvature")

    def coupling(self, z: FloatArray, y: FloatArray) -> FloatArray | None:
        """Return q, (R, C), or None where outputs are not coupled."""
        return None

    def kinks(self, z: FloatArray, y: FloatArray) -> Kinks | None:
        """Return which outputs are at kinks, up to rounding, and the slopes v there; None if smooth."""
        return None

    def dual_value(self, v: FloatArray, y: FloatArray) -> FloatArray:
        """Return −ℓ*(−v) of every row, (R,); −inf outside the domain."""
        self.refuse("has no dual value")

    def project(self, v: FloatArray, y: FloatArray) -> FloatArray:
        """Return a point of the dual domain near v; it is applied to the dual of a solver before use."""
        return v

    def exact_value(self, z: Any, y: Any) -> Any:
        """Return an upper bound on ℓ of every row of fractions, (R,); by default `value` of them."""
        return fractions_of(f"loss {self.name}", "value", self.value(z, y))

    def exact_dual_value(self, v: Any, y: Any) -> Any:
        """Return a lower bound on −ℓ*(−v) of every row of fractions, (R,); None outside the domain.

        By default it is `dual_value` of the fractions.
        """
        return fractions_of(f"loss {self.name}", "dual_value", self.dual_value(v, y))

    def exact_project(self, v: FloatArray, y: FloatArray) -> Any:
        """Return fractions in the dual domain near the floats v; by default `project` of v."""
        return fraction(self.project(v, y))

    def check(self, y: FloatArray) -> None:
        """Raise a ShapeError if the loss does not accept the targets."""

    def prox(self, v: FloatArray, y: FloatArray, weight: FloatArray) -> FloatArray:
        """Return the minimiser of ℓ(z, y) + ½ τ ‖z − v‖² of every row, (R, C); `weight` τ > 0 is (R, 1)."""
        self.refuse("has no prox, which ADMM needs")

    def quadratic_rows(self, y: FloatArray) -> QuadraticRows:
        """Return the loss as rows of a quadratic program."""
        self.refuse("not quadratic, has no QP form; use to_cone or to_cvxpy")

    def slack_values(self, z: FloatArray, y: FloatArray) -> dict[str, FloatArray]:
        """Return the cheapest slacks of the QP form at outputs z, each (R, C), by name."""
        rows = self.quadratic_rows(y)
        if len(rows.slacks) > 1:
            self.refuse(f"{len(rows.slacks)} slacks for each output, but no slack_values for a start")
        ((name, slack),) = rows.slacks.items()
        least = (rows.lower - rows.sign * z) / slack.side
        return {name: least if slack.free else np.maximum(least, 0.0)}

    def cone_rows(self, y: FloatArray, cost: FloatArray) -> tuple[list[ConeRows], Costs]:
        """Return the loss as rows of a conic program, and its variables' costs; `cost` (R C,) is c a."""
        self.refuse("has no conic form")

    def cone_start(self, z: FloatArray, u: FloatArray, y: FloatArray, cost: FloatArray) -> ConeStart:
        """Return its variables and duals in the conic form at outputs z and dual u; `cost` (R, C) is c a."""
        self.refuse("has no conic form")

    def cvxpy(self, Z: Any, y: FloatArray, row_scale: FloatArray) -> Any:
        """Return Σ row_scale ℓ(Z, y) for a cvxpy expression Z (R, C); `row_scale` is (R, 1)."""
        self.refuse("has no cvxpy form")

    def shattered_side(self, y: FloatArray, scale: FloatArray, limit: float) -> tuple[FloatArray, FloatArray]:
        """Return outputs and prices of rows with y > 0 where every 0/1 pattern is a column (`shattered`).

        A loss with this method is separable and even: ℓ(−z, −y) = ℓ(z, y), and rows with y = 0 stay at z = 0.
        """
        self.refuse("has no closed form over all 0/1 patterns")
