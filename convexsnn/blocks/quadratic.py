"""Rows of small quadratic programs that share one matrix: all blocks of a splitting except the loss.

    min over X ∈ ℝ^{N×k} of  Σ_i ½ x_i'Q x_i − b_i'x_i + constant    subject to  lower <= X <= upper

Q = G + F'F + diag(d), the sum of a Gram matrix, a factor and a diagonal; G and F are optional. Without bounds
the minimiser is X = B Q⁻¹ by Cholesky; with bounds and a diagonal Q it is clipped; else `box_qp` computes it.
Every table W, in the box or not, gives a lower bound: with g = W Q − B and μ <= the least eigenvalue of Q,

    optimum >= f(W) + Σ min over lower <= y <= upper of  g (y − w) + ½ μ (y − w)²

At an optimum W = X is best. Near an optimum W is X minus Q⁻¹ times the slopes of the entries that are not at
a bound. These slopes are then 0, so that the point of every solver has a tight gap.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from scipy import sparse
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from convexsnn.arrays import FloatArray, real_array
from convexsnn.blocks.box_qp import box_qp
from convexsnn.errors import ShapeError, SolverFailed
from convexsnn.programs.cone_form import ConeForm
from convexsnn.programs.point import Certificate, Point, relative_gap
from convexsnn.programs.program import Block, TableCone, TableQP
from convexsnn.programs.qp_form import QPForm, by_output

Matrix = Any  # dense, or a scipy.sparse array; those carry no types
ROUNDING = 1e-12  # error of an eigenvalue of Q, relative to the largest one
CANCELLED = 1e-6  # size of an objective, relative to its terms, below which it is mostly rounding


def _above(table: FloatArray) -> float:
    """Return an upper bound, safe against rounding, of the largest eigenvalue of a symmetric matrix."""
    slack = 1e-6 + len(table) * float(np.finfo(table.dtype).eps)
    return float(np.linalg.eigvalsh(table)[-1]) * (1.0 + slack)


@dataclass(frozen=True, eq=False)
class Quadratic:
    """Q = G + F'F + diag(d), formed only where its parts are not cheaper.

    Attributes
    ----------
    gram : (k, k) symmetric array or None
    factor : (p, k) array, dense or sparse, or None
    diagonal : (k,) array

    Raises
    ------
    ShapeError
        The parts have different sizes.
    """

    diagonal: FloatArray
    gram: FloatArray | None = None
    factor: Matrix | None = None

    def __post_init__(self) -> None:
        k = self.size
        if self.gram is not None and self.gram.shape != (k, k):
            raise ShapeError(f"gram: expected {(k, k)}, got {self.gram.shape}")
        if self.factor is not None and self.factor.shape[1:] != (k,):
            raise ShapeError(f"factor: expected (p, k={k}), got {self.factor.shape}")

    @property
    def size(self) -> int:
        """K."""
        return len(self.diagonal)

    @property
    def is_diagonal(self) -> bool:
        """Whether Q = diag(d)."""
        return self.factor is None and self.gram is None

    def double(self) -> Quadratic:
        """Return the same matrix with all parts in double precision."""
        parts = [p for p in (self.diagonal, self.gram, self.factor) if p is not None]
        if all(p.dtype == np.float64 for p in parts):
            return self
        gram, factor = (None if p is None else p.astype(np.float64) for p in (self.gram, self.factor))
        return Quadratic(self.diagonal.astype(np.float64), gram, factor)

    @cached_property
    def _formed(self) -> FloatArray | None:
        """G + F'F + diag(d) if one product with it costs less than two with F, else None."""
        if self.is_diagonal:
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
        product = rows * self.diagonal
        if self.factor is None:
            return product
        product += (rows @ self.factor.T) @ self.factor
        return product

    @cached_property
    def largest(self) -> float:
        """An upper bound of Q's largest eigenvalue."""
        if self._formed is not None:
            return _above(self._formed)
        of_diagonal = float(self.diagonal.max())
        if self.factor is None:
            return of_diagonal
        if sparse.issparse(self.factor):
            sizes = abs(self.factor)
            return of_diagonal + float(sizes.sum(axis=0).max()) * float(sizes.sum(axis=1).max())
        return of_diagonal + _above(self.factor @ self.factor.T)

    @cached_property
    def _spectrum(self) -> tuple[FloatArray, FloatArray]:
        """Eigenvalues in ascending order and eigenvectors, in double precision."""
        values, vectors = np.linalg.eigh(self.double().dense())
        return values, vectors

    @property
    def smallest(self) -> float:
        """A lower bound of Q's least eigenvalue; 0 if the eigenvalue is below the rounding error."""
        if self.is_diagonal:
            return float(self.diagonal.min())
        values, _ = self._spectrum
        return max(0.0, float(values[0] - ROUNDING * values[-1]))

    def pseudo_solve(self, rows: FloatArray) -> FloatArray:
        """Return B Q⁺ for B (N, k); eigenvalues below the rounding error count as 0."""
        if self.is_diagonal:
            return np.divide(rows, self.diagonal, out=np.zeros_like(rows), where=self.diagonal > 0)
        values, vectors = self._spectrum
        nonzero = values > ROUNDING * values[-1]
        return np.asarray(((rows @ vectors[:, nonzero]) / values[nonzero]) @ vectors[:, nonzero].T)


@dataclass(frozen=True, eq=False)
class QuadraticBlock(Block):
    """One block of a splitting as rows of quadratic programs that share a matrix.

    Parameters
    ----------
    name : str
        Name of the block, in one line.
    formula : str
        Its mathematics in the symbols of the splitting, one or more lines.
    quadratic : Quadratic
    linear : (N, k) array
        B.
    lower, upper : float or (k,) or (N, k) array
    constant : float
        Added to the objective, so that it equals the sum in `formula`.

    Raises
    ------
    ShapeError
        Shapes do not match, values are not finite, or a lower bound is above its upper bound.
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
        precision = dtype if dtype in (np.float32, np.float64) else np.dtype(np.float64)
        linear = real_array("linear", self.linear, ("N", ("k", self.quadratic.size)), dtype=precision)
        object.__setattr__(self, "linear", linear)
        for name in ("lower", "upper"):
            try:
                np.broadcast_to(getattr(self, name), self.shape)
            except ValueError as error:
                raise ShapeError(f"{name}: expected (N, k) = {self.shape} or less; {error}") from error
        if not (np.asarray(self.lower) <= np.asarray(self.upper)).all():
            raise ShapeError("lower: a lower bound is above its upper bound, or one of them is NaN")

    @property
    def shape(self) -> tuple[int, int]:
        """(N, k), the shape of X."""
        return self.linear.shape[0], self.linear.shape[1]

    @property
    def bounded(self) -> bool:
        """Whether any entry has a bound."""
        return bool(np.isfinite(self.lower).any() or np.isfinite(self.upper).any())

    def objective(self, rows: FloatArray) -> float:
        """Return the objective at X (N, k), summed in double precision."""
        half = 0.5 * self._double.quadratic.times(rows) - self._double.linear
        return float(np.sum(half * rows) + self.constant)

    def minimize(self, start: FloatArray | None = None, tolerance: float = 1e-10) -> FloatArray:
        """Return the minimiser (N, k): by Cholesky, or with bounds up to `tolerance` in X.

        Raises
        ------
        SolverFailed
            Q is singular and X has no bounds.
        """
        if self.quadratic.is_diagonal and self.quadratic.smallest > 0:
            free = self.linear / self.quadratic.diagonal
            return np.clip(free, self.lower, self.upper).astype(self.linear.dtype)
        if self.bounded:
            double = self._double  # float32 cannot reach a tolerance below its own rounding
            solution, _ = box_qp(double.quadratic, double.linear, self.lower, self.upper, start, tolerance)
            return solution.astype(self.linear.dtype)
        try:
            factor = cho_factor(self.quadratic.dense(), lower=True, check_finite=False)
        except LinAlgError as error:
            raise SolverFailed(f"{self.name}: the matrix is singular; give it a ridge") from error
        pivots = np.diagonal(factor[0]) ** 2
        if pivots.min() <= len(pivots) * np.finfo(pivots.dtype).eps * pivots.max():  # only rounding
            raise SolverFailed(f"{self.name}: the matrix is singular to rounding; give it a ridge")
        return np.asarray(cho_solve(factor, self.linear.T, check_finite=False).T)

    def unbounded(self) -> QuadraticBlock:
        """Return the block without its bounds."""
        return replace(self, lower=-np.inf, upper=np.inf)

    def describe(self) -> str:
        """Return the block's mathematics with its sizes."""
        n, k = self.shape
        low, high = np.min(self.lower), np.max(self.upper)
        bounds = f"bounds in [{low:g}, {high:g}]" if self.bounded else "no bounds"
        return f"{self.name}\n{self.formula}\n  {n} rows of {k} unknowns, one {k} × {k} matrix, {bounds}"

    @cached_property
    def _double(self) -> QuadraticBlock:
        """The block in double precision, for proofs and for solvers."""
        quadratic = self.quadratic.double()
        if quadratic is self.quadratic and self.linear.dtype == np.float64:
            return self
        return replace(self, quadratic=quadratic, linear=self.linear.astype(np.float64))

    def primal_objective(self, point: Point) -> float:
        """Return the objective at a point's weights, (N, k), moved into the bounds."""
        return self.objective(self.inside(point.weights))

    def _table(self, name: str, value: Any) -> FloatArray:
        return real_array(name, value, (("N", self.shape[0]), ("k", self.shape[1])))

    def inside(self, rows: FloatArray) -> FloatArray:
        """Return X clipped to its bounds, in double precision."""
        return np.clip(self._table("weights", rows), self.lower, self.upper)

    def feasible_dual(self, point: Point) -> Point:
        """Return the point with the table W of the best bound: X itself, or X without its free slopes."""
        x = self.inside(point.weights)
        quadratic, linear = self._double.quadratic, self._double.linear
        product, table = quadratic.times(x), quadratic.dense()
        slopes = product - linear
        with np.errstate(divide="ignore", invalid="ignore"):
            aim = np.where(slopes == 0, x, x - slopes / np.diagonal(table))
        free = (aim > self.lower) & (aim < self.upper)  # an entry whose step leaves the box is at a bound
        shifted = x - quadratic.pseudo_solve(np.where(free, slopes, 0.0))
        w = np.where((self._row_bounds(shifted) > self._row_bounds(x))[:, None], shifted, x)
        values, sizes = np.sum((0.5 * product - linear) * x, axis=1), np.sum(abs(product * x), axis=1)
        loose = values - self._row_bounds(w) > ROUNDING * sizes
        # a singular Q: the slopes of a row can vanish only if its entries at bounds stay there
        for i in np.flatnonzero(loose):
            at = np.flatnonzero(free[i])
            shifted[i] = x[i]
            shifted[i, at] -= np.linalg.lstsq(table[np.ix_(at, at)], slopes[i, at], rcond=ROUNDING)[0]
        return Point(x, np.where((self._row_bounds(shifted) > self._row_bounds(w))[:, None], shifted, w))

    def dual_objective(self, point: Point) -> float:
        """Return the lower bound from a point's dual W (N, k); every table W gives one."""
        if point.dual is None:
            raise ShapeError("dual: the point has none; feasible_dual makes one from its weights")
        return float(self._row_bounds(self._table("dual", point.dual)).sum() + self.constant)

    def _row_bounds(self, w: FloatArray) -> FloatArray:
        """Return the lower bound of every row, (N,), without the constant."""
        quadratic, linear = self._double.quadratic, self._double.linear
        product, mu = quadratic.times(w), quadratic.smallest
        slopes = product - linear
        best = w - slopes / mu if mu > 0 else np.where(slopes == 0, w, -np.copysign(np.inf, slopes))
        step = np.clip(best, self.lower, self.upper) - w
        least = np.multiply(slopes, step, out=np.zeros_like(w), where=slopes != 0)
        if mu > 0:
            least += 0.5 * mu * step**2
        return np.asarray(np.sum((0.5 * product - linear) * w + least, axis=1))

    def certify(self, point: Point) -> Certificate:
        """Return objective, lower bound and gap of a point.

        The gap is relative to the objective, or to a small part of the size of its terms if that is larger.
        """
        pair = self.feasible_dual(point)
        objective, bound = self.primal_objective(pair), self.dual_objective(pair)
        x, double = pair.weights, self._double
        terms = np.sum(abs(0.5 * double.quadratic.times(x) * x)) + np.sum(abs(double.linear * x))
        floor = CANCELLED * float(terms + abs(self.constant))
        gap = relative_gap(objective, bound)
        if gap < np.inf and abs(objective) < floor:
            gap = max(0.0, objective - bound) / floor
        return Certificate(objective, bound, gap, np.asarray(pair.dual))

    def _flat(self) -> tuple[Matrix, FloatArray, FloatArray, FloatArray]:
        """Return P, q and the bounds of all entries, column by column."""
        P = sparse.kron(sparse.csc_array(self._double.quadratic.dense()), sparse.eye_array(self.shape[0]))
        lower, upper = (by_output(np.broadcast_to(b, self.shape)) for b in (self.lower, self.upper))
        return sparse.csc_array(P), -by_output(self._double.linear), lower.astype(float), upper.astype(float)

    def to_qp(self) -> QPForm:
        """Return the block as a QP in the entries of X, column by column."""
        P, q, lower, upper = self._flat()
        nothing, empty = sparse.csc_array((0, len(q))), np.zeros(0)
        return TableQP(
            P, q, nothing, empty, empty, lower, upper, {"x": slice(0, len(q))}, {}, None, self.shape
        )

    def to_cone(self) -> ConeForm:
        """Return the block in conic form, with its bounds as rows."""
        P, q, lower, upper = self._flat()
        below, above = np.flatnonzero(np.isfinite(lower)), np.flatnonzero(np.isfinite(upper))
        unit = sparse.eye_array(len(q), format="csr")
        A = sparse.vstack([-unit[below], unit[above]], format="csc")
        b = np.concatenate([-lower[below], upper[above]])
        cones = (("nonnegative", len(b)),) if len(b) else ()
        unknowns, rows = {"x": slice(0, len(q))}, {"bounds": slice(0, len(b))}
        return TableCone(P, q, A, b, cones, unknowns, rows, None, self.shape)

    def to_cvxpy(self) -> Any:
        """Return a cvxpy.Problem in the variable ``W`` (N, k)."""
        import cvxpy as cp

        X, quadratic, terms = cp.Variable(self.shape, name="W"), self._double.quadratic, []
        if quadratic.diagonal.any():
            terms.append(0.5 * cp.sum_squares(cp.multiply(np.sqrt(quadratic.diagonal)[None, :], X)))
        if quadratic.gram is not None:
            values, vectors = np.linalg.eigh(quadratic.gram)  # no Cholesky: a Gram matrix may be singular
            terms.append(0.5 * cp.sum_squares(X @ (vectors * np.sqrt(np.maximum(values, 0.0)))))
        if quadratic.factor is not None:
            terms.append(0.5 * cp.sum_squares(X @ quadratic.factor.T))
        bounds = []
        for bound, sign in ((self.lower, 1.0), (self.upper, -1.0)):
            table = np.broadcast_to(np.asarray(bound, np.float64), self.shape)
            at = np.nonzero(np.isfinite(table))
            if len(at[0]):
                bounds.append(sign * X[at] >= sign * table[at])
        total = sum(terms) - cp.sum(cp.multiply(self._double.linear, X)) + self.constant
        return cp.Problem(cp.Minimize(total), bounds)

    @property
    def qp_constant(self) -> float:  # noqa: D102
        return self.constant
