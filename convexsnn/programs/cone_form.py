"""The conic program, for every loss and penalty.

    min ½ x'Px + q'x    A x + s = b,  s in a product of cones      (the convention of SCS and Clarabel)

Variables are W, the penalty's epigraph t and those of the loss; entries are numbered output by output.
Written without the QP form, so that each checks the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from convexsnn.arrays import FloatArray
from convexsnn.bits import PackedBits
from convexsnn.errors import UnsupportedError
from convexsnn.programs.losses import Hinge, Logistic, Loss, Softmax, Squared, SquaredHinge
from convexsnn.programs.penalties import Group, Penalty
from convexsnn.programs.point import Point
from convexsnn.programs.qp_form import by_output, stacked_dictionary

Matrix = Any  # scipy.sparse arrays carry no types
CONES = ("zero", "nonnegative", "second_order", "exponential")


@dataclass(frozen=True, eq=False)
class ConeForm:
    """A conic program; `cones` lists (kind, size) in the order of the rows.

    Kinds: "zero", "nonnegative", "second_order" (first entry bounds the norm of the rest) and
    "exponential" {(x, y, z): y exp(x / y) <= z, y > 0}, closed, size 3.
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


@dataclass(frozen=True, eq=False)
class ConeRows:
    """Rows A x + s = b of one kind: `parts` holds A by variable, "z" standing for D W."""

    name: str
    cone: str
    parts: dict[str, Matrix]
    b: FloatArray
    size: int = 1


def _picked(positions: Any, values: Any, shape: tuple[int, int]) -> Matrix:
    rows, columns = np.broadcast_arrays(*positions)
    values = np.broadcast_to(np.asarray(values, float), rows.shape)
    return sparse.csc_array((values.ravel(), (rows.ravel(), columns.ravel())), shape=shape)


def loss_rows(
    loss: Loss, y: FloatArray, cost: FloatArray
) -> tuple[list[ConeRows], dict[str, tuple[FloatArray, float]]]:
    """Return the rows of a loss and its variables' costs: name -> (linear, quadratic / linear scale)."""
    count, eye = y.size, sparse.eye_array(y.size, format="csc")
    flat = by_output(y)
    if isinstance(loss, Squared):
        return [ConeRows("residual", "zero", {"z": eye, "r": -eye}, flat)], {"r": (cost, 1.0)}
    if isinstance(loss, (Hinge, SquaredHinge)):
        rows = [
            ConeRows(
                "margin",
                "nonnegative",
                {"z": -sparse.diags_array(flat, format="csc"), "xi": -eye},
                -np.ones(count),
            ),
            ConeRows("slack", "nonnegative", {"xi": -eye}, np.zeros(count)),
        ]
        return rows, {"xi": (cost, 1.0 if isinstance(loss, SquaredHinge) else 0.0)}
    i = np.arange(count)
    if isinstance(loss, Logistic):  # exp(−t) + exp(−y z − t) <= 1
        b = np.tile([0.0, 1.0, 0.0], count)
        shape = (3 * count, count)
        t, e = _picked((3 * i, i), 1.0, shape), _picked((3 * i + 2, i), -1.0, shape)
        return [
            ConeRows("exp(-t)", "exponential", {"t": t, "e0": e}, b, 3),
            ConeRows(
                "exp(-yz-t)", "exponential", {"t": t, "e1": e, "z": _picked((3 * i, i), flat, shape)}, b, 3
            ),
            ConeRows("sum", "nonnegative", {"e0": eye, "e1": eye}, np.ones(count)),
        ], {"t": (cost, 0.0), "e0": (0.0 * cost, 0.0), "e1": (0.0 * cost, 0.0)}
    if isinstance(loss, Softmax):  # Σ_c exp(z_c − z_y − t) <= 1
        n = len(y)
        row, of_label = i % n, n * y.argmax(axis=1)[i % n] + i % n
        shape = (3 * count, count)
        z = _picked((3 * i, of_label), 1.0, shape) - _picked((3 * i, i), 1.0, shape)
        return [
            ConeRows(
                "exp(z-zy-t)",
                "exponential",
                {
                    "z": z,
                    "t": _picked((3 * i, row), 1.0, (3 * count, n)),
                    "e": _picked((3 * i + 2, i), -1.0, shape),
                },
                np.tile([0.0, 1.0, 0.0], count),
                3,
            ),
            ConeRows("sum", "nonnegative", {"e": _picked((row, i), 1.0, (n, count))}, np.ones(n)),
        ], {"t": (cost[:n], 0.0), "e": (0.0 * cost, 0.0)}
    raise UnsupportedError(f"loss {loss.name}: has no conic form")


def _penalty_rows(penalty: Penalty, columns: int, outputs: int) -> list[ConeRows]:
    """Return the rows of ‖W‖ <= Σ bound."""
    entries = columns * outputs
    eye = sparse.eye_array(entries, format="csc")
    if not isinstance(penalty, Group):
        return [
            ConeRows("W <= bound", "nonnegative", {"W": eye, "bound": -eye}, np.zeros(entries)),
            ConeRows("-W <= bound", "nonnegative", {"W": -eye, "bound": -eye}, np.zeros(entries)),
        ]
    groups, blocks = np.tile(penalty.index, outputs), []
    for g in range(int(groups.max()) + 1):
        members = np.flatnonzero(groups == g)
        size = len(members) + 1
        blocks.append(
            ConeRows(
                f"group {g}",
                "second_order",
                {
                    "W": _picked((1 + np.arange(size - 1), members), -1.0, (size, entries)),
                    "bound": _picked(([0], [g]), -1.0, (size, int(groups.max()) + 1)),
                },
                np.zeros(size),
                size,
            )
        )
    return blocks


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
    blocks, costs = loss_rows(loss, targets, by_output(np.broadcast_to(row_scale, targets.shape)))
    blocks = sorted(
        blocks + _penalty_rows(penalty, columns, outputs), key=lambda rows: CONES.index(rows.cone)
    )
    groups = next(rows.parts["bound"].shape[1] for rows in blocks if "bound" in rows.parts)
    costs = {
        "W": (np.zeros(columns * outputs), 0.0),
        "bound": (np.full(groups, regularization), 0.0),
        **costs,
    }
    names = ["z", *costs]
    table = sparse.block_array([[rows.parts.get(name) for name in names] for rows in blocks], format="csc")
    of_z, others = table[:, : targets.size], table[:, targets.size :]
    stops = np.cumsum([0] + [len(linear) for linear, _ in costs.values()])
    variables = {name: slice(int(a), int(b)) for name, a, b in zip(costs, stops, stops[1:], strict=False)}
    own, rest = others[:, variables["W"]], others[:, columns * outputs :]
    starts = np.cumsum([0] + [len(rows.b) for rows in blocks])
    cones: list[tuple[str, int]] = []
    for rows in blocks:
        size = len(rows.b) if rows.cone in ("zero", "nonnegative") else rows.size
        cones += [(rows.cone, size)] * (len(rows.b) // size)
    return ConeForm(
        P=sparse.diags_array(np.concatenate([linear * q for linear, q in costs.values()]), format="csc"),
        q=np.concatenate([linear * (q == 0.0) for linear, q in costs.values()]),
        A=sparse.hstack([own + of_z @ stacked_dictionary(dictionary, outputs), rest], format="csc"),
        b=np.concatenate([rows.b for rows in blocks]),
        cones=tuple(cones),
        variables=variables,
        rows={
            rows.name: slice(int(a), int(b)) for rows, a, b in zip(blocks, starts, starts[1:], strict=False)
        },
        outputs_to_rows=of_z,
        shape=(columns, outputs),
    )
