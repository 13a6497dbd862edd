"""All spike histories of a unit, by one small linear program per cell: slow, and simple.

It shares only the rows of the decision trees with the walk over cells. So a certificate about a network of
several layers can be checked by a second method. Rational arithmetic decides the cells for which floats
cannot prove whether they are empty; with `exact` it decides every empty cell.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from convexsnn.arrays import FloatArray, IntArray
from convexsnn.errors import UnsupportedError
from convexsnn.pricing.decisions import Decisions
from convexsnn.pricing.prices import Witnesses
from convexsnn.pricing.rational import ExactCells
from convexsnn.pricing.small_lp import OPTIMAL, solved
from convexsnn.pricing.stacks import Trains

RELATIVE = 1e-9  # of a row's size: a smaller margin may be rounding

Rows = list[tuple[int, int, bool]]  # (sample, node, fires)


def histories(unit: Decisions, exact: bool = False) -> Iterator[tuple[IntArray, FloatArray]]:
    """Yield the leaves (n,) of every cell that is not empty, with weights (d,) in it."""
    cells = ExactCells(unit)
    todo: list[tuple[int, IntArray, Rows, FloatArray]] = [
        (0, np.zeros(unit.samples, np.int64), [], np.zeros(unit.dimension))
    ]
    while todo:
        event, node, rows, weights = todo.pop()
        if event == unit.samples * unit.events:
            yield node, weights
            continue
        sample = event // unit.events
        for fires in (False, True):
            child, where = node.copy(), int(node[sample])
            child[sample] = 2 * where + 1 + fires
            if unit.h[sample, where] == -np.inf:
                if fires:
                    todo.append((event + 1, child, rows, weights))
                continue
            more = [*rows, (sample, where, fires)]
            inside = _weights(unit, cells, more, exact)
            if inside is not None:
                todo.append((event + 1, child, more, inside))


def _weights(unit: Decisions, cells: ExactCells, rows: Rows, exact: bool) -> FloatArray | None:
    """Return weights (d,) in the cell of some rows, or None if the cell is empty."""
    samples, nodes, fires = (np.array(column) for column in zip(*rows, strict=True))
    sign, closed = np.where(fires, 1.0, -1.0), unit.definition.margin == 0
    a, b = sign[:, None] * unit.g[samples, nodes], sign * unit.h[samples, nodes]
    kappa = (~fires).astype(np.float64) if closed else np.ones(len(rows))
    solution = solved(a, b, kappa, unit.definition.weight_box)
    rounding = RELATIVE * float(unit.sizes[samples, nodes].max())
    least = unit.definition.margin + (rounding if closed else -rounding)
    if solution.state == OPTIMAL and solution.margin > least:
        return solution.weights
    if exact or closed or solution.state != OPTIMAL:
        point = cells.point(rows)
        return None if point is None else np.array(point, dtype=np.float64)
    return None


def program_trains(
    units: Sequence[Decisions], samples: FloatArray, limit: int, exact: bool = False
) -> Trains:
    """Return all spike trains that a unit can produce, as `enumeration.cell_trains`, but by `histories`.

    Raises
    ------
    UnsupportedError
        There are more than `limit`.
    """
    first: dict[bytes, tuple[int, FloatArray]] = {}
    for k, unit in enumerate(units):
        for leaves, weights in histories(unit, exact):
            first.setdefault(np.packbits(unit.patterns(leaves)).tobytes(), (k, weights))
            if len(first) > limit + 1:
                raise UnsupportedError(
                    f"more than {limit} spike trains to choose from, too many to enumerate"
                )
    width = units[0].samples * units[0].rows_per_sample
    bits = [np.unpackbits(np.frombuffer(key, np.uint8))[:width] for key in first]
    spikes = np.array(bits, dtype=bool).reshape(len(first), width)
    fires = spikes.any(axis=1)
    rows = np.flatnonzero(fires) if fires.any() else np.arange(len(first))
    owners = list(first.values())
    unit_of = np.array([owners[j][0] for j in rows], dtype=np.int64)
    weights = np.array([owners[j][1] for j in rows]).reshape(len(rows), units[0].dimension)
    return Trains(spikes[rows], Witnesses(unit_of, weights))
