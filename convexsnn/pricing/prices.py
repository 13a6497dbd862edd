"""Pricing: the best pattern of all, max over weights w of ‖Uᵀd(w)‖_dual, and a bound that none exceeds.

U (R, C) is a dual point, one row a supervised row of the distinct samples. The dual norm is the largest
entry over outputs and signs (ℓ1), or the Euclidean norm over outputs (group). An oracle that comes to its
end proves its bound; one that is stopped still returns a bound that holds. Every pattern is what the
simulator makes of its weights, whatever the oracle says of them.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from convexsnn.arrays import BoolArray, FloatArray, IntArray
from convexsnn.bits import PackedBits
from convexsnn.dictionary.dictionary import patterns_of, simulated
from convexsnn.dictionary.patterns import Patterns
from convexsnn.distinct import unique_rows
from convexsnn.networks import Layer, Subnetwork
from convexsnn.networks.neuron import joined
from convexsnn.pricing.decisions import Decisions
from convexsnn.pricing.faces import on_faces
from convexsnn.threads import on_threads

AT_ONCE = 20_000  # levels between two looks at the clock
ROUNDING = 1e-12  # of the largest sum in a membrane: a margin above it does not hang on the sum's order


@dataclass(frozen=True, eq=False)
class Witnesses:
    """Units by their weights: row k belongs to ``units[unit[k]]`` of the trees it was found with."""

    unit: IntArray
    weights: FloatArray


@dataclass(frozen=True, eq=False)
class Confirmed:
    """Units as the simulator made them: weights, what is read out of each, and its margin.

    Attributes
    ----------
    witnesses : Witnesses
    patterns : (k, R) bool array
    margins : (k,) array
    """

    witnesses: Witnesses
    patterns: BoolArray
    margins: FloatArray

    def select(self, rows: IntArray | BoolArray) -> Confirmed:
        """Return some of the units, by their places."""
        witnesses = Witnesses(self.witnesses.unit[rows], self.witnesses.weights[rows])
        return Confirmed(witnesses, self.patterns[rows], self.margins[rows])

    def joined(self, *others: Confirmed) -> Confirmed:
        """Return these units and then those of others."""
        every = (self, *others)
        return Confirmed(
            Witnesses(
                np.concatenate([one.witnesses.unit for one in every]),
                np.concatenate([one.witnesses.weights for one in every]),
            ),
            np.concatenate([one.patterns for one in every]),
            np.concatenate([one.margins for one in every]),
        )


@dataclass(frozen=True, eq=False)
class Priced:
    """The answer of an oracle.

    Attributes
    ----------
    value : float
        The best of `patterns`; 0 if there are none.
    bound : float
        No pattern of the definition is worth more.
    confirmed : Confirmed
        Units of distinct patterns worth more than the cutoff, best first.
    complete : bool
        Whether the oracle came to its end.
    nodes : int
    """

    value: float
    bound: float
    confirmed: Confirmed
    complete: bool
    nodes: int = 0

    @property
    def patterns(self) -> BoolArray:
        """What is read out of each unit, (k, R)."""
        return self.confirmed.patterns

    @property
    def witnesses(self) -> Witnesses:
        """The units' weights."""
        return self.confirmed.witnesses


def dual_norm(patterns: BoolArray, prices: FloatArray, group: bool) -> FloatArray:
    """Return ‖Uᵀd‖_dual of patterns (k, R) at prices (R, C), (k,)."""
    table = patterns.astype(np.float64) @ prices
    return np.sqrt((table**2).sum(axis=1)) if group else np.abs(table).max(axis=1, initial=0.0)


def merged_prices(dual: FloatArray, row_of: IntArray) -> FloatArray:
    """Return a dual point (R, C) summed over equal samples; row r of it is row ``row_of[r]`` of theirs."""
    prices = np.zeros((int(row_of.max()) + 1, dual.shape[1]))
    np.add.at(prices, row_of, dual)
    return prices


def trivial_bound(prices: FloatArray, group: bool) -> float:
    """Return what no 0/1 vector of any kind exceeds: all positive prices or all negative."""
    side = np.maximum(np.maximum(prices, 0).sum(axis=0), -np.minimum(prices, 0).sum(axis=0))
    return float(np.sqrt((side**2).sum()) if group else side.max(initial=0.0))


def layer_of(units: Sequence[Decisions], witnesses: Witnesses) -> Layer:
    """Return witnesses side by side in one layer; a unit that sees its own spikes stands alone in its own."""
    layer = units[0].layer
    if layer.recurrent is not None:
        (own,) = witnesses.unit
        return units[own].layer.with_unit_weights(witnesses.weights)
    many = np.zeros(len(witnesses.unit), int)
    kinds, which = np.unique(witnesses.unit, return_inverse=True)
    neuron = joined([units[k].layer.neuron for k in kinds], [1] * len(kinds)).unit(which)
    bias = None if layer.bias is None else np.zeros(len(many))
    return Layer(layer.weights[many], neuron, bias).with_unit_weights(witnesses.weights)


def _together(units: Sequence[Decisions], witnesses: Witnesses, width: int) -> list[IntArray]:
    """Return which witnesses share a subnetwork: those on the same hidden layers, at most `width` of them."""
    every = np.arange(len(witnesses.unit))
    if units[0].layer.recurrent is not None:
        return list(every[:, None])
    if not units[0].below:
        return [every] if len(every) else []
    stacks = np.array([id(units[k].below) for k in witnesses.unit])
    groups = [np.flatnonzero(stacks == stack) for stack in dict.fromkeys(stacks.tolist())]
    return [group[k : k + width] for group in groups for k in range(0, len(group), width)]


def _subnetwork(units: Sequence[Decisions], witnesses: Witnesses, rows: IntArray) -> Subnetwork:
    own = Witnesses(witnesses.unit[rows], witnesses.weights[rows])
    return Subnetwork((*units[own.unit[0]].below, layer_of(units, own)))


def subnetworks(units: Sequence[Decisions], witnesses: Witnesses) -> tuple[Subnetwork, ...]:
    """Return witnesses as subnetworks: units of one layer together, others as the width allows."""
    groups = _together(units, witnesses, units[0].width)
    return tuple(_subnetwork(units, witnesses, rows) for rows in groups)


def confirmed(
    units: Sequence[Decisions], samples: FloatArray, witnesses: Witnesses
) -> tuple[BoolArray, FloatArray]:
    """Simulate witnesses on the distinct samples: patterns (k, R) and margins (k,)."""
    count = len(witnesses.unit)
    patterns = np.zeros((count, units[0].samples * units[0].rows_per_sample), bool)
    margins = np.zeros(count)
    for rows in _together(units, witnesses, count):
        columns, margins[rows] = patterns_of(
            _subnetwork(units, witnesses, rows), samples, units[0].definition
        )
        patterns[rows] = columns.toarray().T
    return patterns, margins


def _rounding(unit: Decisions, weights: FloatArray) -> float:
    """Return a margin that is far above rounding in the membranes of a unit with any of some weights."""
    steps, seen = unit.inputs.shape[1], max(1.0, float(np.abs(unit.inputs).max(initial=0.0)))
    reach = seen * float(np.abs(weights).sum(axis=1).max()) + abs(unit.layer.neuron.threshold)
    return ROUNDING * steps * reach


def placed(units: Sequence[Decisions], samples: FloatArray, chosen: Confirmed) -> tuple[Patterns, ...]:
    """Return confirmed units as subnetworks, as `subnetworks` makes them, with their patterns.

    Nothing is simulated again but what lies on a threshold up to rounding: there the order of a sum decides,
    which depends on the width of the layer.
    """
    alone = units[0].layer.recurrent is not None  # so it was simulated, and so it stays
    made = []
    for rows in _together(units, chosen.witnesses, units[0].width):
        subnetwork, margins = _subnetwork(units, chosen.witnesses, rows), chosen.margins[rows]
        kinds, weights = np.unique(chosen.witnesses.unit[rows]), chosen.witnesses.weights[rows]
        if not alone and margins.min() <= max(_rounding(units[k], weights) for k in kinds):
            made.append(simulated(subnetwork, samples, units[0].definition))
            continue
        columns = PackedBits(np.packbits(chosen.patterns[rows], axis=1), chosen.patterns.shape[1])
        made.append(Patterns(subnetwork, columns, margins))
    return tuple(made)


def with_faces(units: Sequence[Decisions], witnesses: Witnesses) -> Witnesses:
    """Return witnesses and, for closed patterns, the points beside them that lie exactly on their faces."""
    if units[0].definition.margin > 0:
        return witnesses
    unit, rows = [witnesses.unit], [witnesses.weights]
    for k, weights in zip(witnesses.unit, witnesses.weights, strict=True):
        points = on_faces(units[k], weights)
        unit.append(np.full(len(points), k))
        rows.append(points)
    return Witnesses(np.concatenate(unit), np.concatenate(rows))


class Oracle(ABC):
    """Looks for patterns that a dual point prices above a cutoff."""

    name: ClassVar[str]

    def __init__(self, units: Sequence[Decisions], samples: FloatArray) -> None:
        """Take the decision trees of a unit, one a leak, on distinct samples (n, T, d)."""
        self.units = tuple(units)
        self.samples = samples
        self.definition = units[0].definition
        self.words = self.name

    @abstractmethod
    def price(
        self,
        prices: FloatArray,
        *,
        cutoff: float = 0.0,
        group: bool = False,
        time_limit: float | None = None,
    ) -> Priced:
        """Return patterns worth more than `cutoff` at `prices` (R, C), and a bound over all patterns.

        Parameters
        ----------
        cutoff : float
            The search need not tell patterns apart that are worth no more than this.
        time_limit : float, optional
            Seconds.
        """

    def confirm(self, unit: int | IntArray, weights: FloatArray) -> Confirmed:
        """Simulate candidates: units by their places in `units`, with weights (k, d)."""
        witnesses = Witnesses(np.broadcast_to(unit, len(weights)).astype(np.int64), weights)
        return Confirmed(witnesses, *confirmed(self.units, self.samples, witnesses))

    def placed(self, priced: Priced) -> tuple[Patterns, ...]:
        """Return what was priced as subnetworks with their patterns, for the dictionary to take."""
        return placed(self.units, self.samples, priced.confirmed)

    def priced(
        self,
        candidates: Confirmed,
        prices: FloatArray,
        group: bool,
        cutoff: float,
        bound: float,
        complete: bool,
        nodes: int,
    ) -> Priced:
        """Return the candidates worth more than the cutoff, the best of each pattern first.

        Closed ones are simulated anew, side by side with the points on their faces: see `placed`.
        """
        every = candidates
        if self.definition.margin == 0:
            witnesses = with_faces(self.units, candidates.witnesses)
            every = self.confirm(witnesses.unit, witnesses.weights)
        worth = dual_norm(every.patterns, prices, group)
        kept = np.flatnonzero((every.margins >= self.definition.margin) & (worth > cutoff))
        kept = kept[np.lexsort((-every.margins[kept], -worth[kept]))]
        kept = kept[unique_rows(every.patterns[kept])[0]] if len(kept) else kept
        best = float(worth[kept].max(initial=0.0))
        return Priced(best, max(bound, best), every.select(kept), complete, nodes)


@dataclass(frozen=True, eq=False)
class Searched:
    """One search: the candidates of a unit that it met, and what it knows of all others."""

    candidates: Confirmed
    bound: float
    complete: bool
    nodes: int


class BranchAndBound(Oracle):
    """Searches every unit for one side of one output at a time, or for all at once where they are a group."""

    def price(  # noqa: D102
        self,
        prices: FloatArray,
        *,
        cutoff: float = 0.0,
        group: bool = False,
        time_limit: float | None = None,
    ) -> Priced:
        deadline = np.inf if time_limit is None else time.perf_counter() + time_limit
        sides = (
            [prices] if group else [s * prices[:, [c]] for c in range(prices.shape[1]) for s in (1.0, -1.0)]
        )
        jobs = [(k, side) for k in range(len(self.units)) for side in sides]
        found = on_threads(lambda job: self.search(job[0], job[1], cutoff, group, deadline), jobs)
        bound = max([cutoff, *(s.bound for s in found)])
        candidates = found[0].candidates.joined(*(s.candidates for s in found[1:]))
        complete, nodes = all(s.complete for s in found), sum(s.nodes for s in found)
        return self.priced(candidates, prices, group, cutoff, bound, complete, nodes)

    @abstractmethod
    def search(self, unit: int, prices: FloatArray, cutoff: float, group: bool, deadline: float) -> Searched:
        """Look for the best of a unit's patterns at `prices` (R, 1), or (R, C) for a group."""
