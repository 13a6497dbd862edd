"""All spike histories of a unit by one small linear program a question: slow, and obvious.

It shares nothing with the walk over cells but the rows of the decision trees, so that a certificate about a
network of several layers can be checked by another way than the one that made it. Cells that floats cannot
tell from empty ones are decided in rational arithmetic; with `exact` every empty cell is.
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

RELATIVE = 1e-9  # of a row's size: a margin of less may be rounding

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
            found = _weights(unit, cells, more, exact)
            if found is not None:
                todo.append((event + 1, child, more, found))


def _weights(unit: Decisions, cells: ExactCells, rows: Rows, exact: bool) -> FloatArray | None:
    """Return weights (d,) in the cell of some rows, or None if it is empty."""
    samples, nodes, fires = (np.array(column) for column in zip(*rows, strict=True))
    sign, closed = np.where(fires, 1.0, -1.0), unit.definition.margin == 0
    a, b = sign[:, None] * unit.g[samples, nodes], sign * unit.h[samples, nodes]
    kappa = (~fires).astype(np.float64) if closed else np.ones(len(rows))
    found = solved(a, b, kappa, unit.definition.weight_box)
    rounding = RELATIVE * float(unit.sizes[samples, nodes].max())
    if found.state == OPTIMAL and found.margin > unit.definition.margin + (rounding if closed else -rounding):
        return found.weights
    if exact or closed or found.state != OPTIMAL:
        point = cells.point(rows)
        return None if point is None else np.array(point, dtype=np.float64)
    return None


def program_trains(
    units: Sequence[Decisions], samples: FloatArray, limit: int, exact: bool = False
) -> Trains:
    """Return all spike trains that a unit can produce, as `cells.cell_trains` does, by `histories`.

    Raises
    ------
    UnsupportedError
        There are more than `limit`.
    """
    found: dict[bytes, tuple[int, FloatArray]] = {}
    for k, unit in enumerate(units):
        for leaves, weights in histories(unit, exact):
            found.setdefault(np.packbits(unit.patterns(leaves)).tobytes(), (k, weights))
            if len(found) > limit + 1:
                raise UnsupportedError(
                    f"more than {limit} spike trains to choose from, too many to go through"
                )
    width = units[0].samples * units[0].rows_per_sample
    bits = [np.unpackbits(np.frombuffer(key, np.uint8))[:width] for key in found]
    spikes = np.array(bits, dtype=bool).reshape(len(found), width)
    fires = spikes.any(axis=1)
    kept = np.flatnonzero(fires) if fires.any() else np.arange(len(found))
    owners = list(found.values())
    chosen = np.array([owners[j][0] for j in kept], dtype=np.int64)
    weights = np.array([owners[j][1] for j in kept]).reshape(len(kept), units[0].dimension)
    return Trains(spikes[kept], Witnesses(chosen, weights))
