"""The program in cvxpy's own terms, written without the QP and conic forms."""

from __future__ import annotations

from typing import Any

import numpy as np

from convexsnn.arrays import FloatArray
from convexsnn.bits import PackedBits
from convexsnn.errors import UnsupportedError
from convexsnn.programs.losses import Loss
from convexsnn.programs.penalties import Group, Penalty


def cvxpy_loss(Z: Any, targets: FloatArray, loss: Loss, row_scale: FloatArray) -> Any:
    """Return Σ row_scale ℓ(Z, targets) as a cvxpy expression; Z (R, C) is one, `row_scale` is (R, 1)."""
    import cvxpy as cp

    margin = cp.multiply(targets, Z)
    match loss.name:
        case "squared":
            return cp.sum_squares(cp.multiply(np.sqrt(row_scale / 2), Z - targets))
        case "hinge":
            return cp.sum(cp.multiply(row_scale, cp.pos(1 - margin)))
        case "squared_hinge":
            return cp.sum_squares(cp.multiply(np.sqrt(row_scale / 2), cp.pos(1 - margin)))
        case "logistic":
            return cp.sum(cp.multiply(row_scale, cp.logistic(-margin)))
        case "softmax":
            lifted = cp.log_sum_exp(Z, axis=1) - cp.sum(margin, axis=1)
            return cp.sum(cp.multiply(row_scale[:, 0], lifted))
        case _:
            raise UnsupportedError(f"loss {loss.name}: has no cvxpy form")


def cvxpy_problem(
    dictionary: PackedBits,
    targets: FloatArray,
    loss: Loss,
    row_scale: FloatArray,
    regularization: float,
    penalty: Penalty,
) -> Any:
    """Return a cvxpy.Problem in variables ``W`` and ``Z``; the dual of its constraint D W = Z is u."""
    import cvxpy as cp

    columns, outputs = dictionary.shape[1], targets.shape[1]
    W = cp.Variable((columns, outputs), name="W")
    Z = cp.Variable(targets.shape, name="Z")
    total = cvxpy_loss(Z, targets, loss, row_scale)
    if isinstance(penalty, Group):
        members = [np.flatnonzero(penalty.index == g) for g in range(int(penalty.index.max()) + 1)]
        if all(len(rows) == 1 for rows in members):
            norm = cp.sum(cp.norm(W, 2, axis=1))
        else:
            norm = cp.sum(cp.hstack([cp.norm(W[rows], "fro") for rows in members]))
    else:
        norm = cp.sum(cp.abs(W))
    D = dictionary.toarray().astype(np.float64)
    return cp.Problem(cp.Minimize(total + regularization * norm), [D @ W == Z])
