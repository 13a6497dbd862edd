"""All spike histories of a unit, by one small linear program per cell: slow, and simple.

It shares only the rows of the decision trees with the walk over cells. So a certificate about a network of
several layers can be checked by a second method. Rational arithmetic proves every empty cell.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import numpy as np

from convexsnn.arrays import FloatArray, IntArray
from convexsnn.errors import UnsupportedError
from convexsnn.pricing.certain import cell_weights
from convexsnn.pricing.decisions import Decisions
from convexsnn.pricing.prices import Witnesses
from convexsnn.pricing.rational import ExactCells
from convexsnn.pricing.stacks import Trains

Rows = list[tuple[int, int, bool]]  # (sample, node, fires)


def histories(unit: Decisions) -> Iterator[tuple[IntArray, FloatArray]]:
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
            inside = cell_weights(cells, more)
            if inside is not None:
                todo.append((event + 1, child, more, inside[0]))


def program_trains(
    units: Sequence[Decisions], samples: FloatArray, limit: int, deadline: float = np.inf
) -> Trains:
    """Return all spike trains that a unit can produce, as `enumeration.cell_trains`, but by `histories`.

    Raises
    ------
    UnsupportedError
        There are more than `limit`, or `deadline`, a value of `time.perf_counter`, came first.
    """
    first: dict[bytes, tuple[int, FloatArray]] = {}
    for k, unit in enumerate(units):
        for leaves, weights in histories(unit):
            if time.perf_counter() > deadline:
                raise UnsupportedError("the time limit came before all of its spike trains were known")
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
