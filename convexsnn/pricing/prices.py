"""Pricing: the best pattern, max over weights w of ‖Uᵀd(w)‖_dual, and an upper bound over all patterns.

U (R, C) is a dual point, with one row per supervised row of the distinct samples. The dual norm is the
largest absolute entry over outputs (ℓ1), or the Euclidean norm over outputs (group). An oracle that completes
its search proves its bound. An oracle that is stopped early still returns a valid bound. The simulator
computes every pattern from its weights; the result of an oracle alone is never used as a pattern.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from convexsnn.arrays import BoolArray, FloatArray, IntArray, row_norms, square_unit
from convexsnn.bits import PackedBits
from convexsnn.dictionary.dictionary import patterns_of, preference, simulated
from convexsnn.dictionary.patterns import Patterns
from convexsnn.distinct import unique_rows
from convexsnn.errors import VerificationError
from convexsnn.networks import Layer, Subnetwork
from convexsnn.networks.neuron import joined
from convexsnn.pricing.decisions import Decisions
from convexsnn.pricing.doubtful import check_doubtful_witness, rounding_of
from convexsnn.pricing.faces import on_faces
from convexsnn.threads import on_threads

AT_ONCE = 20_000  # levels between two checks of the clock


@dataclass(frozen=True, eq=False)
class Witnesses:
    """Units by their weights: row k is a unit of the decision trees ``units[unit[k]]``."""

    unit: IntArray
    weights: FloatArray

    def select(self, rows: Any) -> Witnesses:
        """Return some of the units, by their indices."""
        return Witnesses(self.unit[rows], self.weights[rows])


@dataclass(frozen=True, eq=False)
class Confirmed:
    """Simulated units: weights, the readout of each, and its margin.

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
        """Return some of the units, by their indices."""
        return Confirmed(self.witnesses.select(rows), self.patterns[rows], self.margins[rows])

    def joined(self, *others: Confirmed) -> Confirmed:
        """Return these units, followed by those of `others`."""
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
        Largest worth of `patterns`; 0 if there are none.
    bound : float
        Upper bound on the worth of all patterns of the definition.
    confirmed : Confirmed
        Units of distinct patterns worth more than the cutoff, best first.
    complete : bool
        Whether the oracle completed its search.
    nodes : int
    """

    value: float
    bound: float
    confirmed: Confirmed
    complete: bool
    nodes: int = 0

    @property
    def patterns(self) -> BoolArray:
        """The readout of each unit, (k, R)."""
        return self.confirmed.patterns

    @property
    def witnesses(self) -> Witnesses:
        """The units' weights."""
        return self.confirmed.witnesses


def dual_norm(patterns: BoolArray, prices: FloatArray, group: bool) -> FloatArray:
    """Return ‖Uᵀd‖_dual of patterns (k, R) at prices (R, C), (k,)."""
    table = patterns.astype(np.float64) @ prices
    return row_norms(table) if group else np.abs(table).max(axis=1, initial=0.0)


def merged_prices(dual: FloatArray, row_of: IntArray) -> FloatArray:
    """Return a dual point (R, C) summed over equal samples; its row r is added to row ``row_of[r]``."""
    prices = np.zeros((int(row_of.max()) + 1, dual.shape[1]))
    np.add.at(prices, row_of, dual)
    return prices


def trivial_bound(prices: FloatArray, group: bool) -> float:
    """Return the largest worth of any 0/1 vector: the sum of all positive prices or of all negative ones."""
    side = np.maximum(np.maximum(prices, 0).sum(axis=0), -np.minimum(prices, 0).sum(axis=0))
    return float(row_norms(side[None])[0] if group else side.max(initial=0.0))


def layer_of(units: Sequence[Decisions], witnesses: Witnesses) -> Layer:
    """Return witnesses side by side in one layer; a recurrent unit must be the only one."""
    layer = units[0].layer
    if layer.recurrent is not None:
        (unit,) = witnesses.unit
        return units[unit].layer.with_unit_weights(witnesses.weights)
    many = np.zeros(len(witnesses.unit), int)
    kinds, which = np.unique(witnesses.unit, return_inverse=True)
    neuron = joined([units[k].layer.neuron for k in kinds], [1] * len(kinds)).unit(which)
    bias = None if layer.bias is None else np.zeros(len(many))
    return Layer(layer.weights[many], neuron, bias).with_unit_weights(witnesses.weights)


def _together(units: Sequence[Decisions], witnesses: Witnesses, width: int) -> list[IntArray]:
    """Return the indices of witnesses for each subnetwork: at most `width` on the same hidden layers."""
    every = np.arange(len(witnesses.unit))
    if units[0].layer.recurrent is not None:
        return list(every[:, None])
    if not units[0].below:
        return [every] if len(every) else []
    stacks = np.array([id(units[k].below) for k in witnesses.unit])
    groups = [np.flatnonzero(stacks == stack) for stack in dict.fromkeys(stacks.tolist())]
    return [group[k : k + width] for group in groups for k in range(0, len(group), width)]


def _subnetwork(units: Sequence[Decisions], witnesses: Witnesses, rows: IntArray) -> Subnetwork:
    selection = witnesses.select(rows)
    return Subnetwork((*units[selection.unit[0]].below, layer_of(units, selection)))


def subnetworks(units: Sequence[Decisions], witnesses: Witnesses) -> tuple[Subnetwork, ...]:
    """Return witnesses as subnetworks; units on the same hidden layers share one, up to its width."""
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


def placed(units: Sequence[Decisions], samples: FloatArray, results: Confirmed) -> tuple[Patterns, ...]:
    """Return simulated units as subnetworks, as `subnetworks` does, with their patterns.

    Only units with a membrane on its threshold, up to rounding, are simulated again. For these the order of a
    sum decides, and this order depends on the width of the layer.
    """
    alone = units[0].layer.recurrent is not None  # such units were simulated alone, and stay alone
    subnetwork_patterns = []
    for rows in _together(units, results.witnesses, units[0].width):
        subnetwork, margins = _subnetwork(units, results.witnesses, rows), results.margins[rows]
        inputs = [units[k].inputs for k in np.unique(results.witnesses.unit[rows])]
        if not alone and margins.min() <= max(rounding_of(subnetwork.layers[-1], one) for one in inputs):
            subnetwork_patterns.append(simulated(subnetwork, samples, units[0].definition))
            continue
        columns = PackedBits(np.packbits(results.patterns[rows], axis=1), results.patterns.shape[1])
        subnetwork_patterns.append(Patterns(subnetwork, columns, margins))
    return tuple(subnetwork_patterns)


def with_faces(units: Sequence[Decisions], witnesses: Witnesses) -> Witnesses:
    """Return witnesses and, for closed patterns, before them nearby points that lie exactly on their faces.

    Of equal patterns the first is kept: the point on the face, whose spikes are exact, not one that rounding
    puts there.
    """
    if units[0].definition.margin > 0:
        return witnesses
    unit, rows = [], []
    for k, weights in zip(witnesses.unit, witnesses.weights, strict=True):
        points = on_faces(units[k], weights)
        unit.append(np.full(len(points), k))
        rows.append(points)
    return Witnesses(np.concatenate([*unit, witnesses.unit]), np.concatenate([*rows, witnesses.weights]))


@dataclass(frozen=True, eq=False)
class Searched:
    """The result of a search: candidates, and a bound on all other patterns."""

    candidates: Confirmed
    bound: float
    complete: bool
    nodes: int


class Oracle(ABC):
    """A search for patterns whose worth at a dual point exceeds a cutoff.

    Attributes
    ----------
    proves_bounds : bool
        Whether its bounds are proofs, each cut with a reason that is checked here; otherwise they are what
        another program states.
    """

    name: ClassVar[str]
    proves_bounds: ClassVar[bool] = True

    def __init__(self, units: Sequence[Decisions], samples: FloatArray) -> None:
        """Take the decision trees of a unit, one per point of its grids, on distinct samples (n, T, d)."""
        self.units = tuple(units)
        self.samples = samples
        self.definition = units[0].definition
        self.words = self.name

    def price(
        self, prices: FloatArray, *, cutoff: float = 0.0, group: bool = False, time_limit: float | None = None
    ) -> Priced:
        """Return patterns worth more than `cutoff` at `prices` (R, C), and a bound over all patterns.

        Parameters
        ----------
        cutoff : float
            The search may ignore patterns that are worth no more than this.
        time_limit : float, optional
            Seconds.
        """
        deadline = np.inf if time_limit is None else time.perf_counter() + time_limit
        unit = square_unit(prices)
        if unit == 1.0:
            searched = self.search_all(prices, cutoff, group, deadline)
        else:  # the searches square what they read
            within = min(cutoff, trivial_bound(prices, group)) / unit
            searched = self.search_all(prices / unit, within, group, deadline)
            searched = replace(searched, bound=searched.bound * unit)
        return self._best(searched, prices, group, cutoff)

    @abstractmethod
    def search_all(self, prices: FloatArray, cutoff: float, group: bool, deadline: float) -> Searched:
        """Search all units until `deadline`, a value of `time.perf_counter`; arguments as in `price`."""

    def confirm(self, unit: int | IntArray, weights: FloatArray) -> Confirmed:
        """Simulate candidates: units by their indices in `units`, with weights (k, d)."""
        witnesses = Witnesses(np.broadcast_to(unit, len(weights)).astype(np.int64), weights)
        return Confirmed(witnesses, *confirmed(self.units, self.samples, witnesses))

    def placed(self, priced: Priced) -> tuple[Patterns, ...]:
        """Return the units of a result as subnetworks with their patterns, for the dictionary."""
        return placed(self.units, self.samples, priced.confirmed)

    def _best(self, searched: Searched, prices: FloatArray, group: bool, cutoff: float) -> Priced:
        """Return the candidates worth more than the cutoff, one per pattern, best first.

        Closed candidates are simulated again, together with the points on their faces; see `placed`.
        """
        every = searched.candidates
        if self.definition.margin == 0:
            witnesses = with_faces(self.units, every.witnesses)
            every = self.confirm(witnesses.unit, witnesses.weights)
        worth = dual_norm(every.patterns, prices, group)
        rows = np.flatnonzero((every.margins >= self.definition.margin) & (worth > cutoff))
        rows = rows[np.lexsort((-preference(every.margins[rows], self.definition), -worth[rows]))]
        if self.definition.margin == 0:
            rows = rows[self.exact_ones(every.select(rows))]
        rows = rows[unique_rows(every.patterns[rows])[0]] if len(rows) else rows
        best = float(worth[rows].max(initial=0.0))
        bound = max(searched.bound, best)
        return Priced(best, bound, every.select(rows), searched.complete, searched.nodes)

    def exact_ones(self, results: Confirmed) -> BoolArray:
        """Return which patterns are exact arithmetic's; only membranes within rounding are in doubt."""
        exact = np.ones(len(results.margins), bool)
        for row in range(len(exact)):
            subnetwork = _subnetwork(self.units, results.witnesses, np.array([row]))
            inputs = self.units[results.witnesses.unit[row]].inputs
            if results.margins[row] > rounding_of(subnetwork.layers[-1], inputs):
                continue
            try:
                check_doubtful_witness(subnetwork, 0, self.samples, self.definition)
            except VerificationError:
                exact[row] = False
        return exact


class BranchAndBound(Oracle):
    """One search per unit and sign of an output, or one per unit for a group of outputs."""

    def search_all(self, prices: FloatArray, cutoff: float, group: bool, deadline: float) -> Searched:  # noqa: D102
        sides = (
            [prices] if group else [s * prices[:, [c]] for c in range(prices.shape[1]) for s in (1.0, -1.0)]
        )
        jobs = [(k, side) for k in range(len(self.units)) for side in sides]
        searches = on_threads(lambda job: self.search(job[0], job[1], cutoff, group, deadline), jobs)
        bound = max([cutoff, *(s.bound for s in searches)])
        candidates = searches[0].candidates.joined(*(s.candidates for s in searches[1:]))
        return Searched(candidates, bound, all(s.complete for s in searches), sum(s.nodes for s in searches))

    @abstractmethod
    def search(self, unit: int, prices: FloatArray, cutoff: float, group: bool, deadline: float) -> Searched:
        """Search the best patterns of a unit at `prices` (R, 1), or (R, C) for a group."""
