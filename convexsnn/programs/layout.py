"""The meaning of the rows and columns of a compiled form.

A form consists of blocks. A block is numbered over entries of W (p, c), outputs (i, c), rows i of D, or
groups of patterns. Tables are numbered output by output, so that (i, c) is c R + i. `Layout.place`
returns these indices for a number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from convexsnn.arrays import IntArray, choice, whole
from convexsnn.errors import UnsupportedError
from convexsnn.programs.loss import Loss
from convexsnn.programs.penalties import Penalty
from convexsnn.programs.rows import ENTRIES, GROUPS, MEMBERS, OUTPUTS, ROWS

FORMS = ("qp", "cone", "cvxpy", "dual")
KINDS = ("row", "column")

# (kind, block) -> what the block is numbered over, and its meaning; for blocks that belong to no term
MEANINGS: dict[tuple[str, str], tuple[str, str]] = {
    ("column", "w+"): (ENTRIES, "positive part of W[p,c], the weight of pattern p in output c"),
    ("column", "w-"): (ENTRIES, "negative part of W[p,c], the weight of pattern p in output c"),
    ("column", "W"): (ENTRIES, "W[p,c], the weight of pattern p in output c"),
    ("column", "Z"): (OUTPUTS, "output z[i,c]"),
    ("row", "Z = D W"): (OUTPUTS, "z[i,c] = sum of W[p,c] over the patterns p that fire at row i"),
    ("column", "u"): (OUTPUTS, "price of z[i,c]: minus the slope of its loss, at the optimum"),
}


@dataclass(frozen=True)
class Span:
    """Consecutive rows or columns with one meaning; `each` of them belong to one index."""

    name: str
    start: int
    stop: int
    over: str
    meaning: str
    each: int = 1


@dataclass(frozen=True)
class Place:
    """The meaning of one row or column of a form; indices that do not apply are None.

    Attributes
    ----------
    position : int
        Number within its block.
    row, output, pattern, group : int or None
        i, c, p and g: row of D, output, column of D, group of columns.
    part : int or None
        Number of the row within its cone.
    """

    form: str
    kind: str
    index: int
    block: str
    position: int
    meaning: str
    row: int | None = None
    output: int | None = None
    pattern: int | None = None
    group: int | None = None
    part: int | None = None


@dataclass(frozen=True, eq=False)
class Layout:
    """The blocks of a form of a program with R rows, P patterns and C outputs.

    Attributes
    ----------
    group_of : (P,) int array or None
        Group of every pattern, for a group penalty.
    """

    form: str
    columns: tuple[Span, ...]
    rows: tuple[Span, ...]
    shape: tuple[int, int, int]
    group_of: IntArray | None = None

    def place(self, index: int, kind: str = "column") -> Place:
        """Return the meaning of row or column `index`.

        Raises
        ------
        ShapeError
            `kind` is neither "row" nor "column", or there is no such index.
        """
        choice("kind", kind, KINDS)
        blocks = self.rows if kind == "row" else self.columns
        index = whole(kind, index, 0, blocks[-1].stop - 1)
        block = next(block for block in blocks if block.start <= index < block.stop)
        position = index - block.start
        indices = self._indices(block, position)
        return Place(self.form, kind, index, block.name, position, block.meaning, **indices)

    def _indices(self, block: Span, position: int) -> dict[str, int]:
        rows, patterns, _ = self.shape
        if block.over == MEMBERS:  # one second-order cone: its bound, then its entries of W
            assert self.group_of is not None
            group = int(block.name.split()[1])
            indices = {"group": group, "part": position}
            if position:
                entry = np.flatnonzero(np.tile(self.group_of, self.shape[2]) == group)[position - 1]
                indices |= {"pattern": int(entry) % patterns, "output": int(entry) // patterns}
            return indices
        item, part = divmod(position, block.each)
        indices = {"part": part} if block.each > 1 else {}
        if block.over == ENTRIES:
            return indices | {"pattern": item % patterns, "output": item // patterns}
        if block.over == OUTPUTS:
            return indices | {"row": item % rows, "output": item // rows}
        return indices | {"row" if block.over == ROWS else "group": item}


def make_layout(
    form: str,
    columns: Mapping[str, slice],
    rows: Mapping[str, slice],
    shape: tuple[int, int, int],
    loss: Loss,
    penalty: Penalty,
) -> Layout:
    """Return the layout of a form from the slices of its blocks; `shape` is (R, P, C).

    Raises
    ------
    UnsupportedError
        Neither the loss nor the penalty states the meaning of a block.
    """
    group_of = penalty.groups(shape[1])
    sizes = {ENTRIES: shape[1] * shape[2], OUTPUTS: shape[0] * shape[2], ROWS: shape[0]}
    sizes[GROUPS] = 0 if group_of is None else int(group_of.max()) + 1

    def span(kind: str, name: str, part: slice) -> Span:
        meaning = loss.meaning(kind, name) or penalty.meaning(kind, name) or MEANINGS.get((kind, name))
        if meaning is None:
            raise UnsupportedError(
                f"loss {loss.name}, penalty {penalty.name}: neither states the meaning of {kind} {name!r} in "
                f"the {form} form"
            )
        over, text = meaning
        each = 1 if over == MEMBERS else (part.stop - part.start) // max(sizes[over], 1)
        return Span(name, part.start, part.stop, over, text, each)

    return Layout(
        form,
        tuple(span("column", name, part) for name, part in columns.items()),
        tuple(span("row", name, part) for name, part in rows.items()),
        shape,
        group_of,
    )
