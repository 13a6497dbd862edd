"""Rows of small quadratic programs that share one matrix: every block of a splitting but the loss is one.

    min over X ∈ ℝ^{N×k} of  Σ_i ½ x_i'Q x_i − b_i'x_i + constant    subject to  lower <= X <= upper

Q = G + F'F + diag(d): a Gram matrix, a factor, a diagonal, whichever a block has. Without bounds the minimum
is X = B Q⁻¹ by Cholesky; with bounds `box_qp` finds it. For g = X Q − B and μ the least eigenvalue of Q,

    optimum >= f(X) + Σ min over lower <= y <= upper of  g (y − x) + ½ μ (y − x)²

and without bounds optimum = f(X) − ½ Σ g_i'Q⁻¹g_i; so any point of any solver has a certified gap.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from scipy import sparse
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from convexsnn.arrays import FloatArray, real_array
from convexsnn.errors import ShapeError, SolverFailed
from convexsnn.programs.box_qp import box_qp
from convexsnn.programs.cone_form import ConeForm
from convexsnn.programs.mps import write_model
from convexsnn.programs.point import Certificate, Point, relative_gap
from convexsnn.programs.program import Program
from convexsnn.programs.qp_form import QPForm

Matrix = Any  # dense, or a scipy.sparse array; those carry no types


@dataclass(frozen=True, eq=False)
class Quadratic:
    """Q = G + F'F + diag(d), never formed where its parts are cheaper.

    Attributes
    ----------
    gram : (k, k) symmetric array or None
    factor : (p, k) array, dense or sparse, or None
    diagonal : (k,) array
    """

    diagonal: FloatArray
    gram: FloatArray | None = None
    factor: Matrix | None = None

    @property
    def size(self) -> int:
        """K."""
        return len(self.diagonal)

    @cached_property
    def _formed(self) -> FloatArray | None:
        """G + F'F + diag(d) where one product with it costs less than two with F."""
        if self.factor is None and self.gram is None:
            return None
        thin = self.factor is not None and (
            sparse.issparse(self.factor) or 2 * self.factor.shape[0] < self.size
        )
        return None if thin and self.gram is None else self.dense()

    def dense(self) -> FloatArray:
        """Return Q as an array."""
        table = np.diag(self.diagonal)
        if self.gram is not None:
            table = table + self.gram
        if self.factor is not None:
            square = self.factor.T @ self.factor
            table = table + (square.toarray() if sparse.issparse(square) else square)
        return table.astype(self.diagonal.dtype)

    def times(self, rows: FloatArray) -> FloatArray:
        """Return X Q for X (N, k)."""
        if self._formed is not None:
            return rows @ self._formed
        own = rows * self.diagonal
        if self.factor is None:
            return own
        own += (rows @ self.factor.T) @ self.factor
        return own

    @cached_property
    def largest(self) -> float:
        """An upper bound of Q's largest eigenvalue."""
        if self._formed is not None:
            return float(np.linalg.eigvalsh(self._formed)[-1]) * (1.0 + 1e-6)
        own = float(self.diagonal.max())
        if self.factor is None:
            return own
        if sparse.issparse(self.factor):
            return own + float(sparse.linalg.norm(self.factor, 1) * sparse.linalg.norm(self.factor, np.inf))
        return own + float(np.linalg.eigvalsh(self.factor @ self.factor.T)[-1]) * (1.0 + 1e-6)

    @cached_property
    def smallest(self) -> float:
        """A lower bound of Q's least eigenvalue, 0 where rounding hides it."""
        if self.factor is None and self.gram is None:
            return float(self.diagonal.min())
        values = np.linalg.eigvalsh(self.dense().astype(np.float64))
        return max(0.0, float(values[0] - 1e-12 * values[-1]))


@dataclass(frozen=True, eq=False)
class QuadraticBlock(Program):
    """One block of a splitting as rows of quadratic programs that share a matrix.

    Parameters
    ----------
    name : str
        What the block is, in one line.
    formula : str
        Its mathematics in the terms of the splitting, lines.
    quadratic : Quadratic
    linear : (N, k) array
        B.
    lower, upper : float or (k,) or (N, k) array
    constant : float
        What makes the objective the sum that `formula` states.

    Raises
    ------
    ShapeError
        Shapes that do not fit, values that are not finite, or a lower bound above its upper one.
    """

    name: str
    formula: str
    quadratic: Quadratic
    linear: FloatArray
    lower: Any = -np.inf
    upper: Any = np.inf
    constant: float = 0.0
    kind = "qp"

    def __post_init__(self) -> None:
        dtype = np.asarray(self.linear).dtype
        kept = dtype if dtype in (np.float32, np.float64) else np.dtype(np.float64)
        linear = real_array("linear", self.linear, ("N", ("k", self.quadratic.size)), dtype=kept)
        object.__setattr__(self, "linear", linear)
        if (np.asarray(self.lower) > np.asarray(self.upper)).any():
            raise ShapeError("lower: a lower bound is above its upper bound")

    @property
    def shape(self) -> tuple[int, int]:
        """(N, k), the shape of X."""
        return self.linear.shape[0], self.linear.shape[1]

    @property
    def bounded(self) -> bool:
        """Whether any entry has a bound."""
        return bool(np.isfinite(self.lower).any() or np.isfinite(self.upper).any())

    def objective(self, rows: FloatArray) -> float:
        """Return the objective at X (N, k)."""
        half = 0.5 * self.quadratic.times(rows) - self.linear
        return float(np.sum(half * rows, dtype=np.float64) + self.constant)

    def minimize(self, start: FloatArray | None = None, tolerance: float = 1e-10) -> FloatArray:
        """Return the minimiser (N, k): a Cholesky solve, or with bounds to `tolerance` in X.

        Raises
        ------
        SolverFailed
            Q is singular and nothing bounds X.
        """
        if self.bounded:
            return box_qp(self.quadratic, self.linear, self.lower, self.upper, start, tolerance)[0]
        try:
            factor = cho_factor(self.quadratic.dense(), lower=True, check_finite=False)
        except LinAlgError as error:
            raise SolverFailed(f"{self.name}: the matrix is singular; give it a ridge") from error
        return np.asarray(cho_solve(factor, self.linear.T, check_finite=False).T)

    def unbounded(self) -> QuadraticBlock:
        """Return the block without its bounds."""
        return replace(self, lower=-np.inf, upper=np.inf)

    def describe(self) -> str:
        """Return the block's mathematics with its sizes."""
        n, k = self.shape
        bounds = "no bounds"
        if self.bounded:
            low, high = np.min(self.lower), np.max(self.upper)
            bounds = f"bounds in [{low:g}, {high:g}]"
        return f"{self.name}\n{self.formula}\n  {n} rows of {k} unknowns, one {k} × {k} matrix, {bounds}"

    def primal_objective(self, point: Point) -> float:
        """Return the objective at a point's weights, (N, k), moved into the bounds."""
        return self.objective(self._inside(point))

    def _inside(self, point: Point) -> FloatArray:
        table = real_array("weights", point.weights, (("N", self.shape[0]), ("k", self.shape[1])))
        return np.clip(table, self.lower, self.upper)

    def feasible_dual(self, point: Point) -> Point:
        """Return the point with g = X Q − B, from which the lower bound is made."""
        inside = self._inside(point)
        return Point(inside, self.quadratic.times(inside) - self.linear)

    def dual_objective(self, point: Point) -> float:
        """Return the lower bound that a point's own slopes g = X Q − B prove."""
        x = self._inside(point)
        g = self.quadratic.times(x) - self.linear
        if not self.bounded:
            return self.objective(x) - 0.5 * float(np.sum(g * np.linalg.solve(self.quadratic.dense(), g.T).T))
        mu = self.quadratic.smallest
        with np.errstate(divide="ignore", invalid="ignore"):
            step = np.where(g == 0, 0.0, -g / mu if mu > 0 else -np.sign(g) * np.inf)
        step = np.clip(x + step, self.lower, self.upper) - x
        terms = np.where(g == 0, 0.0, g * step) + 0.5 * mu * step**2
        return self.objective(x) + float(terms.sum())

    def certify(self, point: Point) -> Certificate:
        """Return objective, lower bound and gap of a point."""
        whole = self.feasible_dual(point)
        objective, bound = self.primal_objective(whole), self.dual_objective(whole)
        return Certificate(objective, bound, relative_gap(objective, bound), np.asarray(whole.dual))

    def _flat(self) -> tuple[Matrix, FloatArray, FloatArray, FloatArray]:
        """Return P, q and the bounds of all rows one after the other."""
        n, _ = self.shape
        P = sparse.kron(sparse.eye_array(n), sparse.csc_array(self.quadratic.dense()), format="csc")
        lower, upper = (np.broadcast_to(b, self.shape).ravel() for b in (self.lower, self.upper))
        return P, -self.linear.ravel(), lower, upper

    def to_qp(self) -> QPForm:
        """Return the block as a QP in vec(X), row by row."""
        P, q, lower, upper = self._flat()
        nothing, empty = sparse.csc_array((0, len(q))), np.zeros(0)
        return TableQP(
            P, q, nothing, empty, empty, lower, upper, {"x": slice(0, len(q))}, {}, None, self.shape
        )

    def to_cone(self) -> ConeForm:
        """Return the block in conic form: its bounds are rows."""
        P, q, lower, upper = self._flat()
        below, above = np.flatnonzero(np.isfinite(lower)), np.flatnonzero(np.isfinite(upper))
        unit = sparse.eye_array(len(q), format="csr")
        A = sparse.vstack([-unit[below], unit[above]], format="csc")
        b = np.concatenate([-lower[below], upper[above]])
        cones = (("nonnegative", len(b)),) if len(b) else ()
        return TableCone(
            P, q, A, b, cones, {"x": slice(0, len(q))}, {"bounds": slice(0, len(b))}, None, self.shape
        )

    def to_cvxpy(self) -> Any:
        """Return a cvxpy.Problem in the variable ``W`` (N, k)."""
        import cvxpy as cp

        X = cp.Variable(self.shape, name="W")
        terms = [cp.sum(cp.multiply(X**2, 0.5 * self.quadratic.diagonal[None, :]))]
        if self.quadratic.gram is not None:
            root = np.linalg.cholesky(self.quadratic.gram + 1e-14 * np.eye(self.shape[1]))
            terms.append(0.5 * cp.sum_squares(X @ root))
        if self.quadratic.factor is not None:
            terms.append(0.5 * cp.sum_squares(X @ self.quadratic.factor.T))
        bounds = []
        for bound, rule in ((self.lower, lambda at, b: X[at] >= b), (self.upper, lambda at, b: X[at] <= b)):
            table = np.broadcast_to(bound, self.shape)
            at = np.nonzero(np.isfinite(table))
            if len(at[0]):
                bounds.append(rule(at, table[at]))
        total = sum(terms) - cp.sum(cp.multiply(self.linear, X)) + self.constant
        return cp.Problem(cp.Minimize(total), bounds)

    def to_mps(self, path: str | os.PathLike[str]) -> None:
        """Write the QP form to `path`, .mps or .lp."""
        write_model(self.to_qp(), path)


class TableQP(QPForm):
    """A QP whose first variables are a table (N, k), row by row."""

    def recover(self, x: FloatArray, row_dual: FloatArray | None = None) -> Point:
        """Return the table as a point; its bound needs no dual."""
        return Point(x[: self.shape[0] * self.shape[1]].reshape(self.shape))


class TableCone(ConeForm):
    """A conic program whose first variables are a table (N, k), row by row."""

    def recover(self, x: FloatArray, cone_dual: FloatArray | None = None) -> Point:
        """Return the table as a point; its bound needs no dual."""
        return Point(x[: self.shape[0] * self.shape[1]].reshape(self.shape))
