"""The conic program, for every loss and penalty.

    min ½ x'Px + q'x    A x + s = b,  s in a product of cones      (the convention of SCS and Clarabel)

The variables are W, those of the penalty and those of the loss. Entries are numbered output by output.
This form and the QP form are built independently, so that each checks the other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

from convexsnn.arrays import FloatArray
from convexsnn.bits import PackedBits
from convexsnn.errors import ShapeError
from convexsnn.programs.loss import Loss
from convexsnn.programs.penalties import Penalty
from convexsnn.programs.point import Point
from convexsnn.programs.qp_form import stacked_dictionary
from convexsnn.programs.rows import ConeRows, Matrix, by_output

CONES = ("zero", "nonnegative", "second_order", "exponential")


@dataclass(frozen=True, eq=False)
class ConeForm:
    """A conic program; `cones` lists (kind, size) in the order of the rows.

    The kinds are "zero", "nonnegative", "second_order" (the first entry bounds the norm of the others) and
    "exponential", the closure of {(x, y, z): y exp(x / y) <= z, y > 0}, of size 3.
    """

    P: Matrix
    q: FloatArray
    A: Matrix
    b: FloatArray
    cones: tuple[tuple[str, int], ...]
    variables: dict[str, slice]
    rows: dict[str, slice]
    outputs_to_rows: Matrix
    shape: tuple[int, int]

    def recover(self, x: FloatArray, cone_dual: FloatArray | None = None) -> Point:
        """Return the program's point; `cone_dual` y satisfies P x + q + A'y = 0."""
        dual = None
        if cone_dual is not None:
            dual = -(self.outputs_to_rows.T @ cone_dual).reshape(self.shape[1], -1).T
        return Point(x[self.variables["W"]].reshape(self.shape[1], -1).T, dual)


def by_cone(blocks: list[ConeRows]) -> list[ConeRows]:
    """Return the rows, sorted by cone in the order that solvers require."""
    return sorted(blocks, key=lambda rows: CONES.index(rows.cone))


def cones_of(blocks: list[ConeRows]) -> tuple[tuple[str, int], ...]:
    """Return the kind and size of every cone of the rows."""
    cones: list[tuple[str, int]] = []
    for rows in blocks:
        size = len(rows.b) if rows.cone in ("zero", "nonnegative") else rows.size
        cones += [(rows.cone, size)] * (len(rows.b) // size)
    return tuple(cones)


def cone_form(
    dictionary: PackedBits,
    targets: FloatArray,
    loss: Loss,
    row_scale: FloatArray,
    regularization: float,
    penalty: Penalty,
) -> ConeForm:
    """Return the program in conic form."""
    columns, outputs = dictionary.shape[1], targets.shape[1]
    blocks, loss_costs = loss.cone_rows(targets, by_output(np.broadcast_to(row_scale, targets.shape)))
    bounds, penalty_costs = penalty.cone_rows(columns, outputs)
    if duplicates := {"z", "W"} & {*loss_costs, *penalty_costs} | loss_costs.keys() & penalty_costs.keys():
        raise ShapeError(
            f"loss {loss.name}, penalty {penalty.name}: two variables named "
            f"{min(duplicates)!r} in the conic form"
        )
    blocks = by_cone(blocks + bounds)
    costs = {
        "W": (np.zeros(columns * outputs), 0.0),
        **{name: (regularization * cost, 0.0) for name, cost in penalty_costs.items()},
        **loss_costs,
    }
    names = ["z", *costs]
    table = sparse.block_array([[rows.parts.get(name) for name in names] for rows in blocks], format="csc")
    of_z, others = table[:, : targets.size], table[:, targets.size :]
    stops = np.cumsum([0] + [len(linear) for linear, _ in costs.values()])
    variables = {name: slice(int(a), int(b)) for name, a, b in zip(costs, stops, stops[1:], strict=False)}
    of_weights, rest = others[:, variables["W"]], others[:, columns * outputs :]
    starts = np.cumsum([0] + [len(rows.b) for rows in blocks])
    return ConeForm(
        P=sparse.diags_array(np.concatenate([linear * q for linear, q in costs.values()]), format="csc"),
        q=np.concatenate([linear * (q == 0.0) for linear, q in costs.values()]),
        A=sparse.hstack([of_weights + of_z @ stacked_dictionary(dictionary, outputs), rest], format="csc"),
        b=np.concatenate([rows.b for rows in blocks]),
        cones=cones_of(blocks),
        variables=variables,
        rows={
            rows.name: slice(int(a), int(b)) for rows, a, b in zip(blocks, starts, starts[1:], strict=False)
        },
        outputs_to_rows=of_z,
        shape=(columns, outputs),
    )
