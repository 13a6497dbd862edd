"""Exact enumeration: every readout pattern that a unit can produce, each with weights inside its cell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from convexsnn.arrays import FloatArray
from convexsnn.dictionary.decisions import Decisions, unit_decisions
from convexsnn.dictionary.pricing import MOST_DIMENSIONS, Witnesses, subnetworks
from convexsnn.dictionary.spikes import Definition, SpikeDictionary, collect
from convexsnn.dictionary.walk import DONE, NO_ROOM, grown, new_leaves, new_stack, trees_of, walk
from convexsnn.errors import UnsupportedError
from convexsnn.networks import NetworkSpec

LEAVES = 4096  # cells between two looks at what was found
BUDGET = 100_000


@dataclass(frozen=True, eq=False)
class Enumeration:
    """Every pattern found, and whether these are all.

    Attributes
    ----------
    witnesses : Witnesses
        One unit a pattern, from the cell where its point kept farthest from all thresholds.
    cells : int
        Cells of weight space gone through: distinct histories of all samples.
    complete : bool
    """

    witnesses: Witnesses
    patterns: int
    cells: int
    complete: bool


def enumerate_patterns(
    units: Sequence[Decisions], limit: int, progress: Callable[[int], None] | None = None
) -> Enumeration:
    """Walk all cells of a unit's weight space, for every leak of its grid.

    Parameters
    ----------
    limit : int
        Stop with what was found as soon as there are more patterns than this.
    progress : callable, optional
        Called with the number of patterns so far.
    """
    place: dict[bytes, int] = {}
    unit_of: list[int] = []
    weights: list[FloatArray] = []
    margin_of: list[float] = []
    cells, complete = 0, True
    for k, unit in enumerate(units):
        n, outputs = unit.samples, np.zeros((unit.samples, unit.rows_per_sample, 1))
        trees = trees_of(unit, outputs, np.arange(n))
        stack, leaves, state = new_stack(trees, -1.0), new_leaves(trees, max(16, LEAVES // n)), NO_ROOM
        while state != DONE and len(place) <= limit:
            state, count = walk(trees, stack, leaves, BUDGET, True, False)
            stack = grown(stack) if state == NO_ROOM else stack
            cells += count
            bits = unit.patterns(leaves.node[:count])
            margins = _margins(unit, leaves.node[:count], leaves.weights[:count])
            for row in np.flatnonzero(bits.any(axis=1)):
                key = np.packbits(bits[row]).tobytes()
                where = place.setdefault(key, len(weights))
                if where == len(weights):
                    unit_of.append(k)
                    weights.append(leaves.weights[row].copy())
                    margin_of.append(margins[row])
                elif margins[row] > margin_of[where]:
                    unit_of[where], margin_of[where] = k, margins[row]
                    weights[where] = leaves.weights[row].copy()
            if progress:
                progress(len(place))
        complete &= state == DONE
    found = np.array(weights).reshape(len(weights), units[0].dimension)
    complete &= len(weights) <= limit
    kept = slice(0, limit)
    witnesses = Witnesses(np.array(unit_of, dtype=np.int64)[kept], found[kept])
    return Enumeration(witnesses, len(place), cells, complete)


def _margins(unit: Decisions, leaves: np.ndarray, weights: FloatArray) -> FloatArray:
    """Return how far each point of (k, d) keeps from the thresholds on its way to its leaves, (k,)."""
    margins = np.full(len(leaves), np.inf)
    sample, node = np.arange(unit.samples), leaves
    for _ in range(unit.events):
        node = (node - 1) // 2
        h = unit.h[sample, node]
        away = np.abs(np.einsum("knd,kd->kn", unit.g[sample, node], weights) - h)
        margins = np.minimum(margins, np.where(np.isfinite(h), away, np.inf).min(axis=1))
    return margins


def exact_dictionary(
    inputs: FloatArray,
    network: NetworkSpec,
    definition: Definition,
    limit: int,
    progress: Callable[[int], None] | None = None,
) -> SpikeDictionary:
    """Return the dictionary of all patterns; `complete` is False if there are more than `limit`.

    Raises
    ------
    UnsupportedError
        The subnetwork is more than one unit, or has too many weights or steps.
    LoweringError
        There is no pattern at all.
    """
    units = exact_units(inputs, network, definition)
    if units[0].dimension > MOST_DIMENSIONS:
        raise UnsupportedError(
            f"dictionary.source: exact enumerates units of at most {MOST_DIMENSIONS} trained weights, "
            f"these have {units[0].dimension}; use column_generation"
        )
    found = enumerate_patterns(units, limit, progress)
    dictionary = collect(inputs, subnetworks(units, found.witnesses), definition)
    confirmed = dictionary.patterns == found.patterns  # the simulator produces every one of them
    return dictionary.completed(found.complete and confirmed)


def exact_units(inputs: FloatArray, network: NetworkSpec, definition: Definition) -> list[Decisions]:
    """Return the decision trees of a network whose subnetworks are single units.

    Raises
    ------
    UnsupportedError
        A subnetwork has several layers or several units.
    """
    spec = network.layers[-1]
    if len(network.layers) > 1 or (spec.recurrent and spec.width > 1):
        what = f"{len(network.layers)} layers" if len(network.layers) > 1 else f"{spec.width} coupled units"
        raise UnsupportedError(
            f"dictionary.source: a subnetwork of {what}; all patterns are known for single units only"
        )
    return unit_decisions(inputs, spec, definition)
