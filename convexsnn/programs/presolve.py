"""Exact presolve: a smaller program with the same optimum, and the map back to the original.

* equal rows of (D, y) become one row with the sum of their weights;
* zero columns are removed;
* equal columns become one, unless several of them have a smaller penalty (see `Group`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from convexsnn.arrays import FloatArray, IntArray
from convexsnn.distinct import unique_rows
from convexsnn.programs.l1 import L1Program
from convexsnn.programs.point import Point


@dataclass(frozen=True, eq=False)
class Presolved:
    """A reduced program and the data that `recover` needs.

    Attributes
    ----------
    program : L1Program
        The reduced program.
    columns : (P',) indices of its columns in the original dictionary
    row_of : (R,) index of the reduced row of each original row
    """

    original: L1Program
    program: L1Program
    columns: IntArray
    row_of: IntArray

    def reduce(self, point: Point) -> Point:
        """Return an original point on the reduced columns and rows; weights of merged columns are dropped."""
        dual: FloatArray | None = None
        if point.dual is not None:
            dual = np.zeros(self.program.targets.shape)
            np.add.at(dual, self.row_of, point.dual)
        return Point(point.weights[self.columns], dual)

    def recover(self, point: Point) -> Point:
        """Return the original program's point: the same objective, the dual divided by sample weight."""
        weights = np.zeros(self.original.shape)
        weights[self.columns] = point.weights
        dual: FloatArray | None = None
        if point.dual is not None:
            share = self.original.sample_weights / self.program.sample_weights[self.row_of]
            dual = point.dual[self.row_of] * share[:, None]
        return Point(weights, dual)


def presolve(program: L1Program) -> Presolved:
    """Reduce rows and columns without changing the optimum."""
    columns = np.flatnonzero(program.dictionary.counts())
    if program.penalty.merges_columns:
        columns = columns[program.dictionary.select(columns).unique_columns()[0]]
    dictionary = program.dictionary.select(columns)
    labels = np.ascontiguousarray(program.targets).view(np.uint8).reshape(len(program.targets), -1)
    first, row_of = unique_rows(np.concatenate([dictionary.row_bytes(), labels], axis=1))
    reduced = replace(
        program,
        dictionary=dictionary if len(first) == dictionary.rows else dictionary.take_rows(first),
        targets=program.targets[first],
        sample_weights=np.bincount(row_of, weights=program.sample_weights).astype(np.float64),
        penalty=program.penalty.take(columns),
    )
    return Presolved(program, reduced, columns, row_of)
