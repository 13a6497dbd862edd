"""The quadratic program for LP and QP solvers.

    min ½ x'Px + q'x    row_lower <= A x <= row_upper,  lower <= x <= upper

Entries of W, z and u are numbered output by output: entry (i, c) of an R × C table is c R + i. Residuals
are variables, so that P is diagonal. `outputs_to_rows` is the matrix of the rows with respect to z = D W; its
transpose maps a solver's row duals to u.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from convexsnn.arrays import FloatArray
from convexsnn.bits import PackedBits
from convexsnn.programs.loss import Loss
from convexsnn.programs.penalties import Penalty
from convexsnn.programs.point import Point
from convexsnn.programs.rows import Matrix, QuadraticRows, by_output

__all__ = ["Matrix", "QPForm", "by_output", "qp_form", "slack_columns", "stacked_dictionary"]


@dataclass(frozen=True, eq=False)
class QPForm:
    """A quadratic program whose variables are w⁺, w⁻ (W = w⁺ − w⁻) and the slacks of every output.

    Attributes
    ----------
    P, A : sparse arrays; q, row_lower, row_upper, lower, upper : vectors
    variables, rows : dict of slices
        The blocks of variables and of rows, by name.
    """

    P: Matrix
    q: FloatArray
    A: Matrix
    row_lower: FloatArray
    row_upper: FloatArray
    lower: FloatArray
    upper: FloatArray
    variables: dict[str, slice]
    rows: dict[str, slice]
    outputs_to_rows: Matrix
    shape: tuple[int, int]

    @property
    def linear(self) -> bool:
        """Whether P = 0."""
        return bool(self.P.nnz == 0)

    def recover(self, x: FloatArray, row_dual: FloatArray | None = None) -> Point:
        """Return the program's point; `row_dual` is the objective's slope in the rows' bounds."""
        weights = x[self.variables["w+"]] - x[self.variables["w-"]]
        dual = None
        if row_dual is not None:
            dual = (self.outputs_to_rows.T @ row_dual).reshape(self.shape[1], -1).T
        return Point(weights.reshape(self.shape[1], -1).T, dual)


def stacked_dictionary(dictionary: PackedBits, outputs: int) -> Matrix:
    """Return the matrix of vec(W) -> vec(D W): block-diagonal, with D once for each output."""
    dense = sparse.csc_array(dictionary.toarray().astype(np.float64))
    return sparse.block_diag([dense] * outputs, format="csc") if outputs > 1 else dense


@dataclass(frozen=True, eq=False)
class SlackColumns:
    """The columns of a loss's slacks in a QP: coefficients in the rows, costs, lower bounds, slices."""

    A: Matrix
    square: FloatArray
    linear: FloatArray
    lower: FloatArray
    variables: dict[str, slice]


def slack_columns(rows: QuadraticRows, cost: FloatArray, first: int) -> SlackColumns:
    """Return the columns of `rows.slacks`, from column `first` on; `cost` (R C,) is c a."""
    count, slacks = len(cost), rows.slacks
    eye, kinds = sparse.eye_array(count, format="csc"), list(slacks.values())
    return SlackColumns(
        A=sparse.hstack([eye * slack.side for slack in kinds], format="csc"),
        square=np.concatenate([slack.quadratic * cost for slack in kinds]),
        linear=np.concatenate([slack.linear * cost for slack in kinds]),
        lower=np.concatenate([np.full(count, -np.inf if slack.free else 0.0) for slack in kinds]),
        variables={name: slice(first + k * count, first + (k + 1) * count) for k, name in enumerate(slacks)},
    )


def qp_form(
    dictionary: PackedBits,
    targets: FloatArray,
    loss: Loss,
    row_scale: FloatArray,
    regularization: float,
    penalty: Penalty,
) -> QPForm:
    """Return an entrywise program as a QP: (sign · D)(w⁺ − w⁻) + Σ side · s in [lower, upper]."""
    shape = dictionary.shape[1], targets.shape[1]
    costs = by_output(regularization * penalty.entry_costs(*shape))
    rows, entries, count = loss.quadratic_rows(targets), len(costs), targets.size
    slacks = slack_columns(rows, by_output(np.broadcast_to(row_scale, targets.shape)), 2 * entries)
    to_rows = sparse.diags_array(by_output(rows.sign), format="csc")
    columns = to_rows @ stacked_dictionary(dictionary, targets.shape[1])
    zeros = np.zeros(2 * entries)
    size = 2 * entries + len(slacks.linear)
    return QPForm(
        P=sparse.diags_array(np.concatenate([zeros, slacks.square]), format="csc").tocsc()
        if slacks.square.any()
        else sparse.csc_array((size, size)),
        q=np.concatenate([costs, costs, slacks.linear]),
        A=sparse.hstack([columns, -columns, slacks.A], format="csc"),
        row_lower=by_output(rows.lower),
        row_upper=by_output(rows.upper),
        lower=np.concatenate([zeros, slacks.lower]),
        upper=np.full(size, np.inf),
        variables={"w+": slice(0, entries), "w-": slice(entries, 2 * entries), **slacks.variables},
        rows={"loss": slice(0, count)},
        outputs_to_rows=to_rows,
        shape=shape,
    )
