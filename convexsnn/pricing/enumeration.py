"""Exact enumeration: every readout pattern of a unit, each with weights inside its cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numba import njit

from convexsnn.arrays import FloatArray
from convexsnn.dictionary.dictionary import Definition, SpikeDictionary, collect, preference
from convexsnn.distinct import DistinctSamples, distinct_samples, unique_rows
from convexsnn.errors import UnsupportedError
from convexsnn.networks import NetworkSpec
from convexsnn.pricing.cells import MOST_DIMENSIONS
from convexsnn.pricing.certain import cell_weights, scaled_cell, weights_of
from convexsnn.pricing.decisions import Decisions
from convexsnn.pricing.prices import Witnesses, confirmed, subnetworks, with_faces
from convexsnn.pricing.rational import ExactCells
from convexsnn.pricing.small_lp import largest_margin
from convexsnn.pricing.stacks import Trains, exact_units
from convexsnn.pricing.walk import ASKED, DONE, NO_ROOM, grown, new_leaves, new_stack, trees_of, walk

LEAVES = 4096  # cells per call of the kernel
BUDGET = 1_000_000  # levels per call of the kernel
MOST_CENTRED = 20_000
NOT_ROUNDING = 1e-10  # of the size of the smallest row: a smaller margin may be rounding


@dataclass(frozen=True, eq=False)
class Enumeration:
    """The result of an enumeration.

    Attributes
    ----------
    witnesses : Witnesses
        One unit per pattern, from the cell whose point is farthest from all thresholds.
    patterns : int
        Number of patterns in the cells of the walk.
    cells : int
        Number of cells of weight space in the walk: distinct histories of all samples.
    complete : bool
        Whether the witnesses cover all patterns.
    """

    witnesses: Witnesses
    patterns: int
    cells: int
    complete: bool


def enumerate_patterns(units: Sequence[Decisions], limit: int) -> Enumeration:
    """Walk over all cells of a unit's weight space, for every point of its parameter grids.

    Parameters
    ----------
    limit : int
        The walk stops when there are more patterns than this.
    """
    place: dict[bytes, int] = {}
    unit_of: list[int] = []
    weights: list[FloatArray] = []
    margin_of: list[float] = []
    cells, complete = 0, True
    for k, unit in enumerate(units):
        n, outputs = unit.samples, np.zeros((unit.samples, unit.rows_per_sample, 1))
        trees = trees_of(unit, outputs, np.arange(n))
        width = -(-n * unit.rows_per_sample // 8)
        stack, leaves, state = new_stack(trees, -1.0), new_leaves(trees, LEAVES), NO_ROOM
        exact, membrane = ExactCells(unit), np.ldexp(1.0, unit.scaled.exponent)
        while state != DONE and len(place) <= limit:
            state, count = walk(trees, stack, leaves, BUDGET, True, False)
            stack = grown(stack) if state == NO_ROOM else stack
            if (
                state == ASKED
                and cell_weights(exact, unit.path_rows(stack.node[stack.top[0] + 1])) is not None
            ):
                stack.top[0] += 1
            args = trees, membrane, leaves.node[:count], leaves.weights[:count], width
            packed, margins, sure = _described(*args)
            leaves.weights[:count] = weights_of(unit, leaves.weights[:count])
            for row in np.flatnonzero(~sure):
                inside = cell_weights(exact, unit.path_rows(leaves.node[row]))
                sure[row] = inside is not None
                if inside is not None:
                    leaves.weights[row], margins[row] = inside[0], 0.0
            cells += int(sure.sum())
            for row in np.flatnonzero(sure & packed.any(axis=1)):
                key = packed[row].tobytes()
                where = place.setdefault(key, len(weights))
                if where == len(weights):
                    unit_of.append(k)
                    weights.append(leaves.weights[row].copy())
                    margin_of.append(margins[row])
                elif margins[row] > margin_of[where]:
                    unit_of[where], margin_of[where] = k, margins[row]
                    weights[where] = leaves.weights[row].copy()
        complete &= state == DONE
    table = np.array(weights).reshape(len(weights), units[0].dimension)
    complete &= len(weights) <= limit
    witnesses = Witnesses(np.array(unit_of, dtype=np.int64)[:limit], table[:limit])
    return Enumeration(witnesses, len(place), cells, complete)


@njit(cache=True, nogil=True)
def _described(trees, membrane, leaves, weights, width):  # type: ignore[no-untyped-def]
    """Return of leaves (k, n) the packed patterns (k, width), and of their scaled weights two things.

    These are their margins (k,), in the unit `membrane` of every row, and whether they are surely inside.
    """
    k, n = leaves.shape
    packed, margins, sure = np.zeros((k, width), np.uint8), np.full(k, np.inf), np.ones(k, np.bool_)
    steps = trees.prices.shape[1]
    for row in range(k):
        for sample in range(n):
            node = leaves[row, sample]
            while node > 0:
                fires, node = node % 2 == 0, (node - 1) // 2
                read = trees.reads[node]
                if read >= 0 and fires:
                    bit = sample * steps + read
                    packed[row, bit // 8] |= np.uint8(128 >> (bit % 8))
                if trees.h[sample, node] > -np.inf:
                    away = -trees.h[sample, node]
                    for j in range(weights.shape[1]):
                        away += trees.g[sample, node, j] * weights[row, j]
                    away = away if fires else -away
                    sure[row] &= away >= trees.margin[sample, node] + trees.slack[sample, node]
                    margins[row] = min(margins[row], abs(away) * membrane[sample, node])
    return packed, margins, sure


def centred(units: Sequence[Decisions], witnesses: Witnesses) -> Witnesses:
    """Move each unit to the point of largest margin in its cell, by a small linear program.

    If there are more than MOST_CENTRED units, none is moved: they stay at the mean of their cells' vertices.
    The few units that a network uses are moved when the network is reconstructed.
    """
    weights = witnesses.weights.copy()
    for k, unit in enumerate(witnesses.unit if len(weights) <= MOST_CENTRED else ()):
        weights[k] = _farthest(units[unit], weights[k])
    return Witnesses(witnesses.unit, weights)


def _farthest(unit: Decisions, weights: FloatArray) -> FloatArray:
    scaled = unit.scaled
    sample, node = np.arange(unit.samples), np.zeros(unit.samples, np.int64)
    for _ in range(unit.events):
        fires = unit.g[sample, node] @ weights >= unit.h[sample, node]
        node = 2 * node + 1 + fires
    rows = unit.path_rows(node)
    if not rows:
        return weights
    a, b, _, _ = scaled_cell(unit, rows)
    samples, nodes, _ = np.array(rows).T
    b -= scaled.margin[samples, nodes]
    e = scaled.exponent[samples, nodes]
    size = np.ldexp(1.0, e.min() - e)  # of a margin in the unit of the membrane, in each row
    # a point nearer to a threshold may lie on a face, and must stay there
    with np.errstate(over="ignore"):  # beyond floats is far enough
        present = float(((a @ (weights / scaled.unit) - b) / size).min())
    if present < NOT_ROUNDING:
        return weights
    center, margin = largest_margin(a, b, size, scaled.box, weights / scaled.unit)
    return weights_of(unit, center) if margin > present else weights


def exact_dictionary(
    inputs: FloatArray | DistinctSamples, network: NetworkSpec, definition: Definition, limit: int
) -> SpikeDictionary:
    """Return the dictionary of all patterns; `complete` is False if there are more than `limit`.

    Raises
    ------
    UnsupportedError
        Units see each other's spikes, or have too many weights, steps or hidden spike trains.
    LoweringError
        There is no pattern.
    """
    inputs = distinct_samples(inputs)
    units = exact_units(inputs, network, definition, cell_trains)
    _check_dimension(units, "dictionary.source: exact enumerates ")
    enumeration = enumerate_patterns(units, limit)
    witnesses = with_faces(units, centred(units, enumeration.witnesses))
    dictionary = collect(inputs, subnetworks(units, witnesses), definition)
    confirmed = dictionary.patterns == enumeration.patterns  # the simulator produces every one of them
    return replace(dictionary, complete=enumeration.complete and confirmed)


def cell_trains(units: Sequence[Decisions], samples: FloatArray, limit: int) -> Trains:
    """Return all spike trains that a hidden unit can produce, by a walk over its cells.

    Raises
    ------
    UnsupportedError
        There are more than `limit`, or some need weights that are no floats.
    """
    _check_dimension(units, "")
    enumeration = enumerate_patterns(units, limit)
    if not enumeration.complete:
        raise UnsupportedError(f"more than {limit} spike trains to choose from, too many to enumerate")
    witnesses = with_faces(units, centred(units, enumeration.witnesses))
    silent = enumeration.cells > 0 and not enumeration.patterns
    if silent:  # then weights of 0 are silent
        witnesses = Witnesses(np.zeros(1, np.int64), np.zeros((1, units[0].dimension)))
    spikes, margins = confirmed(units, samples, witnesses)
    rows = np.flatnonzero((margins >= units[0].definition.margin) & (spikes.any(axis=1) | silent))
    rows = rows[np.argsort(-preference(margins[rows], units[0].definition), kind="stable")]
    rows = rows[np.sort(unique_rows(spikes[rows])[0])] if len(rows) else rows
    if len(rows) < enumeration.patterns + silent:
        raise UnsupportedError(
            "some of its spike trains need weights that no float hits; a margin above 0 avoids this"
        )
    return Trains(spikes[rows], witnesses.select(rows))


def _check_dimension(units: Sequence[Decisions], who: str) -> None:
    if units[0].dimension > MOST_DIMENSIONS:
        raise UnsupportedError(
            f"{who}units of at most {MOST_DIMENSIONS} trained weights, these have {units[0].dimension}; "
            "use column_generation"
        )
