"""Where the rows and columns of a compiled form come from.

A form stacks blocks. Each is numbered over entries of W (p, c), over outputs (i, c), over rows i of D, or
over groups of patterns; tables are numbered output by output, so that (i, c) is c R + i. `Layout.place` leads
from a number back to these indices.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from convexsnn.arrays import IntArray, whole
from convexsnn.errors import ShapeError, UnsupportedError
from convexsnn.programs.loss import Loss
from convexsnn.programs.penalties import Penalty
from convexsnn.programs.rows import ENTRIES, GROUPS, MEMBERS, OUTPUTS, ROWS

FORMS = ("qp", "cone", "cvxpy", "dual")
KINDS = ("row", "column")

# (kind, block) -> what it is numbered over, and what it says: of the blocks that are no term's own
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
    """Consecutive rows or columns of one kind, `each` of them for one index."""

    name: str
    start: int
    stop: int
    over: str
    meaning: str
    each: int = 1


@dataclass(frozen=True)
class Place:
    """What one row or column of a form stands for; indices that it has none of are None.

    Attributes
    ----------
    position : int
        Number within its block.
    row, output, pattern, group : int or None
        i, c, p and g: row of D, output, column of D, group of columns.
    part : int or None
        Which of the rows that one cone takes.
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
        """Return what row or column `index` stands for.

        Raises
        ------
        ShapeError
            `kind` is neither "row" nor "column", or there is no such index.
        """
        if kind not in KINDS:
            raise ShapeError(f"kind: expected one of {', '.join(KINDS)}, got {kind!r}")
        blocks = self.rows if kind == "row" else self.columns
        index = whole(kind, index, 0, blocks[-1].stop - 1)
        block = next(block for block in blocks if block.start <= index < block.stop)
        position = index - block.start
        found = self._indices(block, position)
        return Place(self.form, kind, index, block.name, position, block.meaning, **found)

    def _indices(self, block: Span, position: int) -> dict[str, int]:
        rows, patterns, _ = self.shape
        if block.over == MEMBERS:  # of one second-order cone: its bound, then its entries of W
            assert self.group_of is not None
            group = int(block.name.split()[1])
            found = {"group": group, "part": position}
            if position:
                entry = np.flatnonzero(np.tile(self.group_of, self.shape[2]) == group)[position - 1]
                found |= {"pattern": int(entry) % patterns, "output": int(entry) // patterns}
            return found
        item, part = divmod(position, block.each)
        found = {"part": part} if block.each > 1 else {}
        if block.over == ENTRIES:
            return found | {"pattern": item % patterns, "output": item // patterns}
        if block.over == OUTPUTS:
            return found | {"row": item % rows, "output": item // rows}
        return found | {"row" if block.over == ROWS else "group": item}


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
        A block of which neither loss nor penalty says what it means.
    """
    group_of = penalty.groups(shape[1])
    sizes = {ENTRIES: shape[1] * shape[2], OUTPUTS: shape[0] * shape[2], ROWS: shape[0]}
    sizes[GROUPS] = 0 if group_of is None else int(group_of.max()) + 1

    def span(kind: str, name: str, part: slice) -> Span:
        meaning = loss.meaning(kind, name) or penalty.meaning(kind, name) or MEANINGS.get((kind, name))
        if meaning is None:
            raise UnsupportedError(
                f"loss {loss.name}, penalty {penalty.name}: neither has a meaning of {kind} {name!r} of the "
                f"{form} form"
            )
        over, words = meaning
        each = 1 if over == MEMBERS else (part.stop - part.start) // max(sizes[over], 1)
        return Span(name, part.start, part.stop, over, words, each)

    return Layout(
        form,
        tuple(span("column", name, part) for name, part in columns.items()),
        tuple(span("row", name, part) for name, part in rows.items()),
        shape,
        group_of,
    )
