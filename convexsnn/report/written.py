"""Rows and columns of a compiled form as text, with sums over patterns or samples in short form."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from typing import Any

import numpy as np
from scipy import sparse

from convexsnn.programs import ConeForm, L1Program, Layout, Place, QPForm
from convexsnn.programs.qp_form import stacked_dictionary

SHOWN = 4  # indices shown of one sum
CONES = {
    "second_order": "s[0] >= norm of the others",
    "exponential": "s[1] exp(s[0] / s[1]) <= s[2]",
}


def indices(places: Iterable[Place], outputs: int) -> str:
    """Return the indices of places that differ in one index only, as ``[p = 0, 3, 5; c = 1]``."""
    listed = list(places)
    first = listed[0]
    parts = []
    for letter, name in (("i", "row"), ("p", "pattern"), ("g", "group")):
        if getattr(first, name) is not None:
            numbers = [str(getattr(place, name)) for place in listed[:SHOWN]]
            more = f", … {len(listed)} in all" if len(listed) > SHOWN else ""
            parts.append(f"{letter} = {', '.join(numbers)}{more}")
    if first.output is not None and outputs > 1:
        parts.append(f"c = {first.output}")
    return f"[{'; '.join(parts)}]"


def in_sums(layout: Layout, kind: str, numbers: Any, values: Any) -> list[tuple[float, str]]:
    """Return coefficients and their sums: entries of one block, output and value form one sum."""
    sums: dict[tuple[Any, ...], list[Place]] = {}
    for number, value in sorted(zip(numbers, values, strict=True)):
        place = layout.place(int(number), kind)
        name = "group" if place.block.startswith("group ") else place.block
        sums.setdefault((name, place.output, place.part, float(value)), []).append(place)
    outputs = layout.shape[2]
    terms = []
    for (name, _, part, value), places in sums.items():
        entry = "" if part is None else f", part {part}"
        terms.append((value, f"{name}{indices(places, outputs)}{entry}"))
    return terms


def linear(sums: list[tuple[float, str]]) -> str:
    """Return coefficients and sums as one line."""
    words = []
    for value, name in sums:
        sign = "-" if value < 0 else "+"
        size = "" if abs(value) == 1 else f"{abs(value):.6g} "
        words.append(f"{sign} {size}{name}")
    return " ".join(words).removeprefix("+ ") or "0"


class Written:
    """A form of a program that can write out its rows and columns."""

    def __init__(self, program: L1Program, name: str) -> None:
        """Build the form; errors as `L1Program.layout`."""
        self.program, self.layout, self.name = program, program.layout(name), name
        self.form: QPForm | ConeForm | None = None
        if name in ("qp", "cone"):
            self.form = program.to_qp() if name == "qp" else program.to_cone()

    @cached_property
    def matrix(self) -> Any:
        """The coefficients of the rows, csc; for the dual, one row per entry of Dᵀu."""
        if self.form is not None:
            return self.form.A
        stacked = stacked_dictionary(self.program.dictionary, self.program.shape[1])
        if self.name == "dual":
            return stacked.T.tocsc()
        return sparse.hstack([stacked, -sparse.eye_array(stacked.shape[0])], format="csc")

    @cached_property
    def _by_row(self) -> Any:
        return self.matrix.tocsr()

    def row(self, index: int) -> str:
        """Return a row as an equation, an inequality, or an entry of a cone."""
        if self.name == "dual":
            return self._price(index)
        row = self._by_row[[index]]
        text = linear(in_sums(self.layout, "column", row.indices, row.data))
        if isinstance(self.form, QPForm):
            low, high = self.form.row_lower[index], self.form.row_upper[index]
            if low == high:
                return f"{text} = {low:.6g}"
            if not np.isfinite(low):
                return f"{text} <= {high:.6g}"
            return f"{text} >= {low:.6g}" if not np.isfinite(high) else f"{low:.6g} <= {text} <= {high:.6g}"
        if self.form is None:
            return f"{text} = 0"
        kind, part, size = self._cone(index)
        right = f"{self.form.b[index] + 0.0:.6g}"
        if kind in ("zero", "nonnegative"):
            return f"{text} {'=' if kind == 'zero' else '<='} {right}"
        first = index - part
        return (
            f"s[{part}] = {right} - ({text}), in the cone of rows {first}..{first + size - 1}: {CONES[kind]}"
        )

    def _cone(self, index: int) -> tuple[str, int, int]:
        """Return kind of a row's cone, the row's number in it, and its size."""
        assert isinstance(self.form, ConeForm)
        start = 0
        for kind, size in self.form.cones:
            if index < start + size:
                return kind, index - start, size
            start += size
        raise AssertionError(index)

    def _price(self, index: int) -> str:
        program, place = self.program, self.layout.place(index, "row")
        limit = f"{program.regularization:.6g}"
        if place.group is None:
            if not program.penalty.uniform:
                cost = program.penalty.entry_costs(*program.shape)[place.pattern, place.output]
                limit = f"{program.regularization * cost:.6g}"
            row = self._by_row[[index]]
            return f"|{linear(in_sums(self.layout, 'column', row.indices, row.data))}| <= {limit}"
        members = np.flatnonzero(program.penalty.groups(program.shape[0]) == place.group)
        entries = (members + program.shape[0] * np.arange(program.shape[1])[:, None]).ravel()
        rows = [self._by_row[[entry]] for entry in entries[:SHOWN]]
        sums = [linear(in_sums(self.layout, "column", row.indices, row.data)) for row in rows]
        more = f", … {len(entries)} in all" if len(entries) > SHOWN else ""
        norm = "norm" if program.penalty.euclidean else "dual norm"
        return f"{norm} of ({', '.join(sums)}{more}) <= {limit}"

    def column(self, index: int) -> str:
        """Return a column's cost and bounds, and the rows that contain it."""
        column = self.matrix[:, [index]]
        rows, values = column.indices, column.data
        if self.name == "dual":
            place, program = self.layout.place(index), self.program
            assert place.row is not None and place.output is not None
            y, scale = program.targets[place.row, place.output], program.row_scale[place.row, 0]
            head = f"{program.loss.dual_formula}, y = {y:.6g}, c a = {scale:.6g}"
            groups = program.penalty.groups(program.shape[0])
            if groups is not None:
                rows = np.unique(groups[rows % program.shape[0]])
                values = np.ones(len(rows))
        elif self.form is None:
            head = "no cost of its own"
        else:
            cost, bend = self.form.q[index], self.form.P.diagonal()[index]
            head = f"cost {cost:.6g} x" if bend == 0 else f"cost ½ {bend:.6g} x²"
            if isinstance(self.form, QPForm):
                head += ", x >= 0" if self.form.lower[index] == 0 else ", x free"
        sums = [f"{name} × {value:.6g}" for value, name in in_sums(self.layout, "row", rows, values)]
        return f"{head}; in {', '.join(sums) or 'no row'}"
