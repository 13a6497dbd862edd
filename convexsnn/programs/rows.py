"""The rows of losses and penalties in the QP form and in the conic form.

Tables are numbered output by output: entry (i, c) of an R × C table is c R + i.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from convexsnn.arrays import BoolArray, FloatArray

Matrix = Any  # scipy.sparse arrays carry no types

# what a block of rows or columns is numbered over; MEMBERS: the rows of one second-order cone
ENTRIES, OUTPUTS, ROWS, GROUPS, MEMBERS = "entries", "outputs", "rows", "groups", "members"

# variable -> (c, q): the cost of an entry x is c x if q = 0, else ½ c q x²
Costs = dict[str, tuple[FloatArray, float]]


@dataclass(frozen=True)
class Slack:
    """A further variable of every output: its coefficient in the row, its cost, whether it may be negative.

    The cost is c a (½ quadratic s² + linear s).
    """

    side: float
    quadratic: float
    linear: float
    free: bool = False


@dataclass(frozen=True)
class QuadraticRows:
    """A loss as the cost of slacks s_k; every output has one row and one slack of each kind k.

    The rows are lower <= sign · (D w) + Σ_k side_k s_k <= upper.
    """

    sign: FloatArray
    lower: FloatArray
    upper: FloatArray
    slacks: Mapping[str, Slack]


@dataclass(frozen=True, eq=False)
class ConeRows:
    """Rows A x + s = b of one kind of cone; `parts` holds A by variable, and "z" is D W."""

    name: str
    cone: str
    parts: dict[str, Matrix]
    b: FloatArray
    size: int = 1


@dataclass(frozen=True, eq=False)
class ConeStart:
    """Values of a term's variables and duals of its rows, flat, in the order of the form."""

    variables: dict[str, FloatArray]
    duals: dict[str, FloatArray]


@dataclass(frozen=True, eq=False)
class Kinks:
    """Where outputs are at kinks of a loss, and the two slopes between which v is free there; all (R, C)."""

    where: BoolArray
    first: FloatArray
    last: FloatArray


def by_output(table: FloatArray) -> FloatArray:
    """Flatten an R × C table output by output."""
    return table.T.ravel()


def picked(positions: Any, values: Any, shape: tuple[int, int]) -> Matrix:
    """Return the sparse matrix with `values` at `positions` (rows, columns)."""
    rows, columns = np.broadcast_arrays(*positions)
    values = np.broadcast_to(np.asarray(values, float), rows.shape)
    return sparse.csc_array((values.ravel(), (rows.ravel(), columns.ravel())), shape=shape)
