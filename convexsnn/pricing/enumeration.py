"""Exact enumeration: every readout pattern of a unit, each with weights inside its cell."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np
from numba import njit

from convexsnn.arrays import BoolArray, FloatArray, IntArray
from convexsnn.dictionary.dictionary import Definition, SpikeDictionary, collect, preference
from convexsnn.distinct import DistinctSamples, distinct_samples, unique_rows
from convexsnn.errors import LoweringError, UnsupportedError
from convexsnn.networks import NetworkSpec
from convexsnn.pricing.cells import MOST_DIMENSIONS
from convexsnn.pricing.certain import cell_weights, scaled_cell, weights_of
from convexsnn.pricing.decisions import Decisions
from convexsnn.pricing.prices import AT_ONCE, Witnesses, confirmed, subnetworks, with_faces
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


def enumerate_patterns(units: Sequence[Decisions], limit: int, deadline: float = np.inf) -> Enumeration:
    """Walk over all cells of a unit's weight space, for every point of its parameter grids.

    Parameters
    ----------
    limit : int
        The walk stops when there are more patterns than this.
    deadline : float
        The walk stops at this value of `time.perf_counter`.
    """
    place: dict[bytes, int] = {}
    unit_of: list[int] = []
    weights: list[FloatArray] = []
    margin_of: list[float] = []
    cells, complete = 0, True
    walks: dict[tuple[bytes, ...], _Walk] = {}
    for k, unit in enumerate(units):
        which: IntArray = np.arange(unit.samples)
        if unit.below:
            signals, which = unit.on_distinct_signals
            key = (signals.inputs.tobytes(), signals.g.tobytes(), signals.h.tobytes())
            walk_of = walks.setdefault(key, _Walk(signals, deadline))
        else:
            walk_of = _Walk(unit, deadline)
        for block in walk_of:
            cells += len(block.patterns)
            bits = block.patterns[:, which]
            packed = np.packbits(bits.reshape(len(bits), bits.shape[1] * bits.shape[2]), axis=1)
            for row in np.flatnonzero(packed.any(axis=1)):
                margin = block.margins[row]
                where = place.setdefault(packed[row].tobytes(), len(weights))
                if where == len(weights):
                    unit_of.append(k)
                    weights.append(block.weights[row])
                    margin_of.append(margin)
                elif margin > margin_of[where]:
                    unit_of[where], margin_of[where], weights[where] = k, margin, block.weights[row]
            if len(place) > limit:
                break
        complete &= walk_of.complete
    table = np.array(weights).reshape(len(weights), units[0].dimension)
    complete &= len(weights) <= limit
    witnesses = Witnesses(np.array(unit_of, dtype=np.int64)[:limit], table[:limit])
    return Enumeration(witnesses, len(place), cells, complete)


class _Block(NamedTuple):
    """Cells of a walk: their readout (c, n, S), margins (c,) and weights (c, d) inside."""

    patterns: BoolArray
    margins: FloatArray
    weights: FloatArray


class _Walk:
    """The cells of one unit, block by block, each described by weights that are surely inside it.

    On hidden layers a second reader gets what the first one found, then the rest: many choices of hidden
    units give the same few signals, so the same cells.

    Attributes
    ----------
    complete : bool
        Whether some reader has come to the end of all cells.
    """

    def __init__(self, unit: Decisions, deadline: float) -> None:
        self.complete = False
        self._known: list[_Block] = []
        self._unit, self._deadline, self._rest = unit, deadline, self._blocks()

    def __iter__(self) -> Iterator[_Block]:
        yield from self._known
        for block in self._rest:
            if self._unit.below:
                self._known.append(block)
            yield block

    def _blocks(self) -> Iterator[_Block]:
        unit = self._unit
        n, steps = unit.samples, unit.rows_per_sample
        trees = trees_of(unit, np.zeros((n, steps, 1)), np.arange(n))
        stack, leaves, state = new_stack(trees, -1.0), new_leaves(trees, LEAVES), NO_ROOM
        exact, membrane = ExactCells(unit), np.ldexp(1.0, unit.scaled.exponent)
        levels = BUDGET if np.isinf(self._deadline) else 1 + (AT_ONCE >> unit.dimension)
        while state != DONE and time.perf_counter() <= self._deadline:
            state, count = walk(trees, stack, leaves, levels, True, False)
            stack = grown(stack) if state == NO_ROOM else stack
            asked = stack.node[stack.top[0] + 1] if state == ASKED else None
            if asked is not None and cell_weights(exact, unit.path_rows(asked)) is not None:
                stack.top[0] += 1
            if not count:
                continue
            patterns, margins, sure = _described(trees, membrane, leaves.node[:count], leaves.weights[:count])
            weights = weights_of(unit, leaves.weights[:count])
            for row in np.flatnonzero(~sure):
                inside = cell_weights(exact, unit.path_rows(leaves.node[row]))
                sure[row] = inside is not None
                if inside is not None:
                    weights[row], margins[row] = inside[0], 0.0
            yield _Block(patterns[sure], margins[sure], weights[sure])
        self.complete = state == DONE


@njit(cache=True, nogil=True)
def _described(trees, membrane, leaves, weights):  # type: ignore[no-untyped-def]
    """Return of leaves (k, n) the patterns (k, n, S), and of their scaled weights two things.

    These are their margins (k,), in the unit `membrane` of every row, and whether they are surely inside.
    """
    k, n = leaves.shape
    patterns = np.zeros((k, n, trees.prices.shape[1]), np.bool_)
    margins, sure = np.full(k, np.inf), np.ones(k, np.bool_)
    for row in range(k):
        for sample in range(n):
            node = leaves[row, sample]
            while node > 0:
                fires, node = node % 2 == 0, (node - 1) // 2
                read = trees.reads[node]
                if read >= 0 and fires:
                    patterns[row, sample, read] = True
                if trees.h[sample, node] > -np.inf:
                    away = -trees.h[sample, node]
                    for j in range(weights.shape[1]):
                        away += trees.g[sample, node, j] * weights[row, j]
                    away = away if fires else -away
                    sure[row] &= away >= trees.margin[sample, node] + trees.slack[sample, node]
                    margins[row] = min(margins[row], abs(away) * membrane[sample, node])
    return patterns, margins, sure


def centred(units: Sequence[Decisions], witnesses: Witnesses, deadline: float = np.inf) -> Witnesses:
    """Move each unit to the point of largest margin in its cell, by a small linear program.

    If there are more than MOST_CENTRED units, none is moved, and after the deadline no more: they stay at the
    mean of their cells' vertices. The few units that a network uses are moved when it is reconstructed.
    """
    weights = witnesses.weights.copy()
    for k, unit in enumerate(witnesses.unit if len(weights) <= MOST_CENTRED else ()):
        if time.perf_counter() > deadline:
            break
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
    inputs: FloatArray | DistinctSamples,
    network: NetworkSpec,
    definition: Definition,
    limit: int,
    deadline: float = np.inf,
) -> SpikeDictionary:
    """Return the dictionary of all patterns.

    `complete` is False if there are more than `limit`, or if `deadline`, a value of `time.perf_counter`, came
    before all were known.

    Raises
    ------
    UnsupportedError
        Units see each other's spikes, or have too many weights, steps or hidden spike trains.
    LoweringError
        There is no pattern, or none is known at the deadline.
    """
    inputs = distinct_samples(inputs)
    units = exact_units(inputs, network, definition, partial(cell_trains, deadline=deadline))
    _check_dimension(units, "dictionary.source: exact enumerates ")
    enumeration = enumerate_patterns(units, limit, deadline)
    if time.perf_counter() > deadline and not enumeration.patterns:
        raise LoweringError("dictionary.source: the time limit came before a pattern was known")
    witnesses = with_faces(units, centred(units, enumeration.witnesses, deadline))
    dictionary = collect(inputs, subnetworks(units, witnesses), definition)
    confirmed = dictionary.patterns == enumeration.patterns  # the simulator produces every one of them
    return replace(dictionary, complete=enumeration.complete and confirmed)


def cell_trains(
    units: Sequence[Decisions], samples: FloatArray, limit: int, deadline: float = np.inf
) -> Trains:
    """Return all spike trains that a hidden unit can produce, by a walk over its cells.

    Raises
    ------
    UnsupportedError
        There are more than `limit`, some need weights that are no floats, or `deadline`, a value of
        `time.perf_counter`, came before all were known.
    """
    _check_dimension(units, "")
    enumeration = enumerate_patterns(units, limit, deadline)
    if not enumeration.complete and enumeration.patterns <= limit:
        raise UnsupportedError("the time limit came before all of its spike trains were known")
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
