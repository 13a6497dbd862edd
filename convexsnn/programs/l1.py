"""The convex program of the parallel network ([E23] Thm 2.2, [U26] §3).

    primal   min_W   c Σ_i a_i ℓ(D_i W, y_i) + λ ‖W‖          D ∈ {0,1}^{R×P}, W ∈ ℝ^{P×C}, c = 1/R
    dual     max_u   −c Σ_i a_i ℓ*(−u_i / (c a_i))            subject to ‖Dᵀu‖_dual <= λ

The dual domain of every loss is star-shaped about 0. So for every u in the domain, t u is feasible with
t = min(1, λ/‖Dᵀu‖_dual), and every point of every solver has a certified gap.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import linprog

from convexsnn.arrays import FloatArray, choice, plain_array, positive, real_array
from convexsnn.bits import PackedBits
from convexsnn.errors import ShapeError
from convexsnn.programs.cone_form import ConeForm, cone_form
from convexsnn.programs.layout import FORMS, Layout, Place, make_layout
from convexsnn.programs.loss import Loss
from convexsnn.programs.losses import get_loss
from convexsnn.programs.penalties import L1, Penalty
from convexsnn.programs.point import Certificate, Point, feasible_share, relative_gap
from convexsnn.programs.program import Block, Program
from convexsnn.programs.qp_form import QPForm, qp_form
from convexsnn.programs.rows import Kinks

INSIDE = 1e-13  # relative distance of a scaled dual point from the bound
SUMMED = 4 * np.finfo(np.float64).eps  # difference of two orders of a sum, relative to the sum of the sizes
PIVOTS = 100  # largest number of pivots for each row and column of a linear program: it can cycle


@dataclass(frozen=True, eq=False)
class L1Program(Program):
    """Loss on a dictionary of spike patterns plus a sparse penalty.

    Parameters
    ----------
    dictionary : PackedBits or (R, P) array of 0 and 1
    targets : (R, C) or (R,) array
        In the form that the loss expects: numbers, ±1, or one-hot rows for softmax.
    loss : Loss or its name
    regularization : float
        λ > 0.
    sample_weights : (R,) array, optional
        a > 0; ones if not given.
    scale : float, optional
        c; 1/R if not given.
    penalty : Penalty

    Raises
    ------
    ShapeError
        Shapes do not match, the loss does not accept the targets, λ or a weight is not positive, or sums or
        products of the numbers overflow.
    """

    dictionary: PackedBits
    targets: FloatArray
    loss: Loss
    regularization: float
    sample_weights: FloatArray = None  # type: ignore[assignment]
    scale: float = None  # type: ignore[assignment]
    penalty: Penalty = L1()
    over_dictionary = True

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        if not isinstance(self.dictionary, PackedBits):
            set_(self, "dictionary", PackedBits.from_array(self.dictionary))
        set_(self, "loss", get_loss(self.loss))
        rows = self.dictionary.rows
        targets = plain_array("targets", self.targets)
        targets = targets[:, None] if targets.ndim == 1 else targets
        set_(self, "targets", real_array("targets", targets, (("R", rows), "C")))
        self.loss.check(self.targets)
        weights = np.ones(rows) if self.sample_weights is None else self.sample_weights
        set_(self, "sample_weights", real_array("sample_weights", weights, (("R", rows),)))
        if self.sample_weights.min() <= 0:
            raise ShapeError(f"sample_weights: {self.sample_weights.min():g}; every weight must be positive")
        set_(self, "scale", positive("scale", 1.0 / rows if self.scale is None else self.scale))
        set_(self, "regularization", positive("regularization", self.regularization))
        if not isinstance(self.penalty, Penalty):
            raise ShapeError(
                f"penalty: expected a Penalty such as L1() or Group(index), got {self.penalty!r}"
            )
        self.penalty.check_complete()
        self.penalty.check(self.dictionary.shape[1])
        self._check_sizes()

    def _check_sizes(self) -> None:
        """Refuse numbers whose sums or products overflow: inf − inf in a bound would prove nothing."""
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):
            if not np.isfinite(self.sample_weights.sum()):
                largest = self.sample_weights.max()
                raise ShapeError(
                    f"sample_weights: numbers up to {largest:.3g} are too large, their sum overflows"
                )
            least, most = float(self.row_scale.min()), float(self.row_scale.sum())
            if not (least > 0 and most < np.inf):
                raise ShapeError(
                    f"scale: {self.scale:.3g} times the sample weights is 0 or overflows, for weights from "
                    f"{self.sample_weights.min():.3g} to {self.sample_weights.max():.3g}"
                )
            zero = np.zeros_like(self.targets)
            objective = float(self.row_scale[:, 0] @ self.loss.value(zero, self.targets))
            prices = float(np.abs(self.dual_at_zero).sum())
            if not (np.isfinite(objective) and np.isfinite(prices * prices * max(1, self.shape[0]))):
                largest = np.abs(self.targets).max()
                raise ShapeError(
                    f"targets: numbers up to {largest:.3g} with weights up to {self.row_scale.max():.3g} are "
                    "too large, the objective or its squares overflow"
                )

    @property
    def shape(self) -> tuple[int, int]:
        """(P, C), the shape of W."""
        return self.dictionary.shape[1], self.targets.shape[1]

    @property
    def kind(self) -> str:
        """The kind of program, one of those in `Capabilities.programs`."""
        return self.loss.kind if self.penalty.entrywise else self.loss.cone_kind

    @property
    def details(self) -> str:
        """Loss and penalty, as error messages name them."""
        return f"loss {self.loss.name}, penalty {self.penalty.name}"

    @property
    def forms(self) -> tuple[str, ...]:
        """The forms, of "qp", "cone" and "cvxpy", that both the loss and the penalty have."""
        parts = (("qp", "quadratic_rows", "entry_costs"), ("cone", "cone_rows", "cone_rows"))
        return tuple(
            form
            for form, of_loss, of_penalty in (*parts, ("cvxpy", "cvxpy", "cvxpy"))
            if self.loss.offers(of_loss) and self.penalty.offers(of_penalty)
        )

    @cached_property
    def row_scale(self) -> FloatArray:
        """C a, (R, 1): the factor of each row's loss."""
        return (self.scale * self.sample_weights)[:, None]

    @cached_property
    def dual_at_zero(self) -> FloatArray:
        """The dual point u of the residual at W = 0, (R, C); its ‖Dᵀu‖_dual is λ_max."""
        return self.row_scale * self.loss.residual(np.zeros_like(self.targets), self.targets)

    def outputs(self, weights: npt.ArrayLike) -> FloatArray:
        """Return D W, (R, C)."""
        table = np.asarray(weights, dtype=np.float64)
        if table.shape != self.shape or not np.isfinite(table).all():
            received = "values that are not finite" if table.shape == self.shape else str(table.shape)
            raise ShapeError(f"weights: expected finite (P, C) = {self.shape}, got {received}")
        return self.dictionary @ table

    def primal_objective(self, point: Point) -> float:
        """Return c Σ a ℓ(D W, y) + λ ‖W‖."""
        losses = self.loss.value(self.outputs(point.weights), self.targets)
        return float(self.row_scale[:, 0] @ losses + self.regularization * self.penalty.value(point.weights))

    def dual_objective(self, point: Point) -> float:
        """Return −c Σ a ℓ*(−u / (c a)) at u (R, C); ‖Dᵀu‖ is not checked."""
        if point.dual is None:
            raise ShapeError("dual: the point has none; feasible_dual makes one from its weights")
        self._check_dual(point.dual)
        return float(self.row_scale[:, 0] @ self.loss.dual_value(point.dual / self.row_scale, self.targets))

    def _check_dual(self, dual: FloatArray) -> None:
        if dual.shape != self.targets.shape:
            raise ShapeError(f"dual: expected (R, C) = {self.targets.shape}, got {dual.shape}")

    def dual_norm(self, dual: FloatArray) -> float:
        """Return ‖Dᵀu‖_dual; u is feasible if it is at most λ."""
        return self.penalty.dual_norm(self.dictionary.transpose_times(dual))

    @cached_property
    def regularization_max(self) -> float:
        """λ_max: at or above it W = 0 is optimal."""
        return self.dual_norm(self.dual_at_zero)

    @property
    def zero_is_always_optimal(self) -> bool:
        """Whether λ_max is 0 up to the rounding of its sums, so that W = 0 is optimal for every λ."""
        return not self.regularization_max > 1e-12 * float(np.abs(self.dual_at_zero).sum())

    def feasible_dual(self, point: Point) -> Point:
        """Return the point with u = −c a ℓ'(D W), scaled so that ‖Dᵀu‖_dual <= λ.

        At a kink of the loss the slope is free; a linear program chooses the best slopes there.
        """
        z = self.outputs(point.weights)
        v = self.loss.residual(z, self.targets)
        kinks = self.loss.kinks(z, self.targets)
        if kinks is not None and self.penalty.entrywise:
            v = self._slopes_at_kinks(z, v, kinks)
        return Point(point.weights, self._scale_to_feasible(self.row_scale * v))

    def _scale_to_feasible(self, dual: FloatArray) -> FloatArray:
        norm = self.dual_norm(dual) + self._rounding(dual)
        if norm <= self.regularization:
            return dual
        # strictly inside, so that rounding in a later check cannot put it outside
        share = feasible_share(self.regularization, norm) * (1.0 - INSIDE)
        return dual * share if share else np.zeros_like(dual)

    def _rounding(self, dual: FloatArray) -> float:
        """Return how much ‖Dᵀu‖ depends on the order of its sums, or 0 where `INSIDE` covers it."""
        sizes = SUMMED * np.abs(dual).sum(axis=0)
        if not (sizes > INSIDE * self.regularization).any():
            return 0.0
        return self.penalty.dual_norm(np.broadcast_to(sizes, self.shape))

    def _slopes_at_kinks(self, z: FloatArray, v: FloatArray, kinks: Kinks) -> FloatArray:
        """Return v with the best slopes at kinks; between the two slopes of a kink −ℓ*(−v) = ℓ(z) + v z."""
        v = v.copy()
        limits = self.regularization * (1.0 + 1e-9) * self.penalty.entry_costs(*self.shape)
        for c in range(self.shape[1]):
            kink = np.flatnonzero(kinks.where[:, c])
            if not len(kink) or not self.shape[0]:
                continue
            first, width = kinks.first[kink, c], (kinks.last - kinks.first)[kink, c]
            fixed, limit = v[:, c].copy(), limits[:, c]
            fixed[kink] = first
            rest = self.dictionary.transpose_times(self.row_scale[:, 0] * fixed)
            slope = self.row_scale[kink, 0] * width
            columns = self.dictionary.take_rows(kink).toarray().T * slope
            solution = linprog(
                -slope * z[kink, c],
                np.vstack([columns, -columns]),
                np.concatenate([limit - rest, limit + rest]),
                bounds=(0.0, 1.0),
                options={"maxiter": PIVOTS * sum(columns.shape)},
            )
            if solution.success:
                v[kink, c] = first + width * np.clip(solution.x, 0.0, 1.0)
        return v

    def certify(self, point: Point, norm: float | None = None) -> Certificate:
        """Return the objective, the lower bound and the gap of a point.

        The lower bound is the better of two: that of the residual's dual and that of the point's dual.

        `norm` is a proved bound of ‖dᵀu‖ for the point's dual over a set of patterns d that contains the
        columns of the program. If it is given, the lower bound is that of the point's dual, and it holds over
        all of these patterns.
        """
        objective = self.primal_objective(point)
        duals: list[FloatArray] = []
        if norm is not None:
            share = feasible_share(self.regularization, norm)
            dual = np.asarray(point.dual) * share if share else np.zeros(self.targets.shape)
            bound = self._bound(point, dual)
            return Certificate(objective, bound, relative_gap(objective, bound), dual)
        if point.dual is not None:
            self._check_dual(point.dual)
        if point.dual is not None and np.isfinite(point.dual).all():
            v = self.loss.project(point.dual / self.row_scale, self.targets)
            duals.append(self._scale_to_feasible(self.row_scale * v))
        if not (duals and self.loss.kinked):  # at kinks a solver's dual is better than a guess
            duals.append(np.asarray(self.feasible_dual(point).dual))
        bounds = [self._bound(point, dual) for dual in duals]
        best = int(np.argmax(bounds))
        return Certificate(objective, bounds[best], relative_gap(objective, bounds[best]), duals[best])

    def _bound(self, point: Point, dual: FloatArray) -> float:
        """Return the dual objective, −inf where it is not a number."""
        bound = self.dual_objective(replace(point, dual=dual))
        return -np.inf if np.isnan(bound) else bound

    def take_columns(self, columns: Any) -> L1Program:
        """Return the program on some of the columns."""
        numbers = np.arange(self.shape[0])[columns]
        return replace(self, dictionary=self.dictionary.select(numbers), penalty=self.penalty.take(numbers))

    def outputs_apart(self) -> list[L1Program]:
        """Return one program for each output if the outputs are not coupled, else the program itself."""
        if not (self.loss.separable and self.penalty.separable):
            return [self]
        return [replace(self, targets=self.targets[:, [c]]) for c in range(self.shape[1])]

    def describe(self) -> str:
        """Return the mathematics with this instance's sizes and scales."""
        rows, (columns, outputs) = self.dictionary.rows, self.shape
        a, largest = self.sample_weights, self.regularization_max
        ratio = self.regularization / largest if largest else np.inf
        weights = "a = 1" if (a == 1).all() else f"a in [{a.min():g}, {a.max():g}]"
        density = self.dictionary.counts().sum() / max(rows * columns, 1)
        return "\n".join(
            [
                f"min over W of  c Σ_i a_i ℓ(D_i W, y_i) + λ {self.penalty.formula}",
                f"  ℓ(z, y) = {self.loss.formula}  ({self.loss.name})",
                f"  D: {rows} rows × {columns} columns, binary, density {density:.3f}",
                f"  W: {columns} × {outputs}    c = {self.scale:.6g}    {weights}",
                f"  λ = {self.regularization:.6g} = {ratio:.4g} λ_max,  λ_max = {largest:.6g}",
                f"dual: max over u of  Σ_i {self.loss.dual_formula}",
                f"  subject to {self.penalty.dual_formula} <= λ",
            ]
        )

    def layout(self, form: str = "qp") -> Layout:
        """Return the meaning of the rows and columns of a form; `form` is one of qp, cone, cvxpy, dual.

        Raises
        ------
        ShapeError
            `form` is not one of these.
        UnsupportedError
            The program has no such form.
        """
        choice("form", form, FORMS)
        if form in ("qp", "cone"):
            built = self.to_qp() if form == "qp" else self.to_cone()
            columns, rows = built.variables, built.rows
        else:
            entries, outputs = slice(0, self.shape[0] * self.shape[1]), slice(0, self.targets.size)
            groups = self.penalty.groups(self.shape[0])
            prices = entries if groups is None else slice(0, int(groups.max()) + 1)
            columns, rows = {"u": outputs}, {"price": prices}
            if form == "cvxpy":
                columns = {"W": entries, "Z": slice(entries.stop, entries.stop + outputs.stop)}
                rows = {"Z = D W": outputs}
        sizes = (self.dictionary.rows, *self.shape)
        return make_layout(form, columns, rows, sizes, self.loss, self.penalty)

    def explain(self, index: int, kind: str = "column", form: str = "qp") -> Place:
        """Return the meaning of a row or column of a form; errors as in `layout` and `Layout.place`."""
        return self.layout(form).place(index, kind)

    def to_cvxpy(self) -> Any:
        """Return a cvxpy.Problem in ``W`` and ``Z``; u is the dual of its constraint D W == Z."""
        import cvxpy as cp

        W, Z = cp.Variable(self.shape, name="W"), cp.Variable(self.targets.shape, name="Z")
        total = self.loss.cvxpy(Z, self.targets, self.row_scale) + self.regularization * self.penalty.cvxpy(W)
        return cp.Problem(cp.Minimize(total), [self.dictionary.toarray().astype(np.float64) @ W == Z])

    def to_qp(self) -> QPForm:
        """Return min ½ x'Px + q'x; UnsupportedError for group, logistic and softmax."""
        return qp_form(
            self.dictionary, self.targets, self.loss, self.row_scale, self.regularization, self.penalty
        )

    def to_cone(self) -> ConeForm:
        """Return min ½ x'Px + q'x with Ax + s = b, s in a product of cones."""
        return cone_form(
            self.dictionary, self.targets, self.loss, self.row_scale, self.regularization, self.penalty
        )


AnyProgram = L1Program | Block  # what a solver may be given
