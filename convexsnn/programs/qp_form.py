"""The quadratic program that LP and QP solvers are given.

    min ½ x'Px + q'x    row_lower <= A x <= row_upper,  lower <= x <= upper

Entries of W, z and u are numbered output by output: entry (i, c) of an R × C table is c R + i. Residuals
stay variables, so that P is diagonal. `outputs_to_rows` is the matrix of the rows with respect to z = D W;
it leads from a solver's row duals back to u.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from convexsnn.arrays import FloatArray
from convexsnn.bits import PackedBits
from convexsnn.programs.losses import Loss
from convexsnn.programs.point import Point

Matrix = Any  # scipy.sparse arrays carry no types


@dataclass(frozen=True, eq=False)
class QPForm:
    """A quadratic program whose variables are w⁺, w⁻ (W = w⁺ − w⁻) and one slack an output.

    Attributes
    ----------
    P, A : sparse arrays; q, row_lower, row_upper, lower, upper : vectors
    variables, rows : dict of slices
        Which variables and rows are which, by name.
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


def by_output(table: FloatArray) -> FloatArray:
    """Flatten an R × C table output by output."""
    return table.T.ravel()


def stacked_dictionary(dictionary: PackedBits, outputs: int) -> Matrix:
    """Return the matrix of vec(W) -> vec(D W): D once an output, block-diagonal."""
    dense = sparse.csc_array(dictionary.toarray().astype(np.float64))
    return sparse.block_diag([dense] * outputs, format="csc") if outputs > 1 else dense


def qp_form(
    dictionary: PackedBits, targets: FloatArray, loss: Loss, row_scale: FloatArray, regularization: float
) -> QPForm:
    """Return the ℓ1 program as a QP: (sign · D)(w⁺ − w⁻) + side · s in [lower, upper]."""
    rows, (entries, count) = (
        loss.quadratic_rows(targets),
        (dictionary.shape[1] * targets.shape[1], targets.size),
    )
    scale = by_output(np.broadcast_to(row_scale, targets.shape))
    to_rows = sparse.diags_array(by_output(rows.sign), format="csc")
    columns = to_rows @ stacked_dictionary(dictionary, targets.shape[1])
    slack = sparse.eye_array(count, format="csc") * rows.side
    zeros = np.zeros(2 * entries)
    return QPForm(
        P=sparse.diags_array(np.concatenate([zeros, rows.quadratic * scale]), format="csc").tocsc()
        if rows.quadratic
        else sparse.csc_array((2 * entries + count, 2 * entries + count)),
        q=np.concatenate([zeros + regularization, rows.linear * scale]),
        A=sparse.hstack([columns, -columns, slack], format="csc"),
        row_lower=by_output(rows.lower),
        row_upper=by_output(rows.upper),
        lower=np.concatenate([zeros, np.full(count, -np.inf if rows.slack_is_free else 0.0)]),
        upper=np.full(2 * entries + count, np.inf),
        variables={
            "w+": slice(0, entries),
            "w-": slice(entries, 2 * entries),
            "slack": slice(2 * entries, 2 * entries + count),
        },
        rows={"loss": slice(0, count)},
        outputs_to_rows=to_rows,
        shape=(dictionary.shape[1], targets.shape[1]),
    )
