"""The program as a cvxpy problem, built independently of the QP and conic forms."""

from __future__ import annotations

from typing import Any

import numpy as np

from convexsnn.arrays import FloatArray
from convexsnn.bits import PackedBits
from convexsnn.programs.loss import Loss
from convexsnn.programs.penalties import Penalty


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
    total = loss.cvxpy(Z, targets, row_scale) + regularization * penalty.cvxpy(W)
    D = dictionary.toarray().astype(np.float64)
    return cp.Problem(cp.Minimize(total), [D @ W == Z])
