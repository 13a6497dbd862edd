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
from convexsnn.errors import ShapeError
from convexsnn.programs.losses import Loss
from convexsnn.programs.penalties import Group, Penalty

FORMS = ("qp", "cone", "cvxpy", "dual")
KINDS = ("row", "column")

ENTRIES, OUTPUTS, ROWS, GROUPS, MEMBERS = "entries", "outputs", "rows", "groups", "members"
SHORT = "how far y[i,c] z[i,c] is short of 1"

# (kind, block) -> what it is numbered over, and what it says; a loss or penalty is named where it matters
MEANINGS: dict[tuple[str, ...], tuple[str, str]] = {
    ("column", "w+"): (ENTRIES, "positive part of W[p,c], the weight of pattern p in output c"),
    ("column", "w-"): (ENTRIES, "negative part of W[p,c], the weight of pattern p in output c"),
    ("column", "slack"): (OUTPUTS, SHORT),
    ("column", "slack", "squared"): (OUTPUTS, "residual z[i,c] - y[i,c]"),
    ("row", "loss"): (OUTPUTS, "y[i,c] z[i,c] + slack[i,c] >= 1"),
    ("row", "loss", "squared"): (OUTPUTS, "z[i,c] - slack[i,c] = y[i,c]"),
    ("column", "W"): (ENTRIES, "W[p,c], the weight of pattern p in output c"),
    ("column", "bound"): (ENTRIES, "upper bound of |W[p,c]|"),
    ("column", "bound", "group"): (GROUPS, "upper bound of the norm of the weights of group g"),
    ("row", "W <= bound"): (ENTRIES, "W[p,c] <= bound[p,c]"),
    ("row", "-W <= bound"): (ENTRIES, "-W[p,c] <= bound[p,c]"),
    ("row", "residual"): (OUTPUTS, "z[i,c] - r[i,c] = y[i,c]"),
    ("column", "r"): (OUTPUTS, "residual z[i,c] - y[i,c]"),
    ("row", "margin"): (OUTPUTS, "y[i,c] z[i,c] + xi[i,c] >= 1"),
    ("row", "slack"): (OUTPUTS, "xi[i,c] >= 0"),
    ("column", "xi"): (OUTPUTS, SHORT),
    ("row", "exp(-t)"): (OUTPUTS, "exp(-t[i,c]) <= e0[i,c]"),
    ("row", "exp(-yz-t)"): (OUTPUTS, "exp(-y[i,c] z[i,c] - t[i,c]) <= e1[i,c]"),
    ("row", "sum"): (OUTPUTS, "e0[i,c] + e1[i,c] <= 1"),
    ("column", "t"): (OUTPUTS, "upper bound of the loss of output (i,c)"),
    ("column", "e0"): (OUTPUTS, "upper bound of exp(-t[i,c])"),
    ("column", "e1"): (OUTPUTS, "upper bound of exp(-y[i,c] z[i,c] - t[i,c])"),
    ("row", "exp(z-zy-t)"): (OUTPUTS, "exp(z[i,c] - z[i,y] - t[i]) <= e[i,c]"),
    ("row", "sum", "softmax"): (ROWS, "sum over c of e[i,c] <= 1"),
    ("column", "t", "softmax"): (ROWS, "upper bound of the loss of row i"),
    ("column", "e"): (OUTPUTS, "upper bound of exp(z[i,c] - z[i,y] - t[i]), y the row's class"),
    ("column", "Z"): (OUTPUTS, "output z[i,c]"),
    ("row", "Z = D W"): (OUTPUTS, "z[i,c] = sum of W[p,c] over the patterns p that fire at row i"),
    ("column", "u"): (OUTPUTS, "price of z[i,c]: minus the slope of its loss, at the optimum"),
    ("row", "price"): (ENTRIES, "|sum of u[i,c] over the rows i where pattern p fires| <= λ"),
    ("row", "price", "group"): (GROUPS, "norm over group g of those sums of u <= λ"),
}


@dataclass(frozen=True)
class Block:
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
    columns: tuple[Block, ...]
    rows: tuple[Block, ...]
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

    def _indices(self, block: Block, position: int) -> dict[str, int]:
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
    """Return the layout of a form from the slices of its blocks; `shape` is (R, P, C)."""
    group_of = penalty.index if isinstance(penalty, Group) else None
    sizes = {ENTRIES: shape[1] * shape[2], OUTPUTS: shape[0] * shape[2], ROWS: shape[0]}
    sizes[GROUPS] = 0 if group_of is None else int(group_of.max()) + 1

    def block(kind: str, name: str, part: slice) -> Block:
        if name.startswith("group "):
            return Block(name, part.start, part.stop, MEMBERS, "norm of the weights of group g <= its bound")
        keys = [(kind, name, loss.name), (kind, name, penalty.name), (kind, name)]
        over, meaning = next(MEANINGS[key] for key in keys if key in MEANINGS)
        return Block(
            name, part.start, part.stop, over, meaning, (part.stop - part.start) // max(sizes[over], 1)
        )

    return Layout(
        form,
        tuple(block("column", name, part) for name, part in columns.items()),
        tuple(block("row", name, part) for name, part in rows.items()),
        shape,
        group_of,
    )
