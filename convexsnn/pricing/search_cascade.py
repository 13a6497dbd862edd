"""Heuristic pricing of coupled units by cascades: subnetworks with a lower triangular R, one unit at a time.

    drive_t = W x_t + R s_{t-1} + b,   R_jk = 0 for k > j

The first k units of such a subnetwork never see the units after them. So a unit k + 1 can be added without a
change of the earlier patterns. It takes the inputs, the bias, the last spikes of units 1..k, and its own last
spike. For known spikes of its neighbours, it is a single unit with k more inputs, and local search over its
weights prices it. This search proves nothing, and it covers no R of another shape.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, takewhile
from typing import TypeVar

import numpy as np

from convexsnn.arrays import BoolArray, FloatArray, IntArray
from convexsnn.dictionary.dictionary import Definition, readout_margins, simulated, spike_margins
from convexsnn.dictionary.patterns import Patterns
from convexsnn.errors import UnsupportedError
from convexsnn.networks import NEURONS, TRAINED, Layer, NetworkSpec, Subnetwork
from convexsnn.pricing.prices import dual_norm
from convexsnn.pricing.search_units import moved_weights, random_weights
from convexsnn.simulate import run_layer

TRIES = 5  # rounds before the search gives up
STARTS = 60  # subnetworks in use that are extended by one unit
DRAWN = 30  # random subnetworks that are extended
RANDOM = 80  # random units on top of each
REFINED = 16  # subnetworks that enter local search
PARENTS, CHILDREN, SPREADS = 12, 10, (0.5, 0.2, 0.08, 0.03)
BEST = 6  # units on top of each after local search
AT_A_TIME = 64  # candidates side by side; the weights on their own spikes make a matrix of this size
Item = TypeVar("Item")


@dataclass(frozen=True, eq=False)
class _Units:
    """Units by their grid values (k,) and weights (k, d'), in the order of `Layer.unit_weights`."""

    grids: Mapping[str, FloatArray]
    weights: FloatArray

    def __len__(self) -> int:
        return len(self.weights)

    def select(self, units: slice | list[int] | IntArray) -> _Units:
        return _Units({name: values[units] for name, values in self.grids.items()}, self.weights[units])

    def joined(self, other: _Units) -> _Units:
        grids = {name: np.concatenate([self.grids[name], other.grids[name]]) for name in self.grids}
        return _Units(grids, np.concatenate([self.weights, other.weights]))

    def below(self, unit: _Units) -> _Units:
        """Return these coupled units with another one on top; it sees them, and they do not see it."""
        return _Units(self.grids, np.pad(self.weights, ((0, 0), (0, 1)))).joined(unit)


@dataclass(frozen=True, eq=False)
class _Trial:
    """Coupled units, candidates for one more unit on top, and the worth of each candidate (k,)."""

    base: _Units
    tops: _Units
    worth: FloatArray

    def best(self, most: int) -> _Trial:
        """Return the trial with the best candidates, at most one of each worth."""
        order = np.argsort(-self.worth, kind="stable")
        # equal worth: nearly always equal patterns
        first = np.unique(self.worth[order], return_index=True)[1]
        order = order[np.sort(first)][:most]
        return _Trial(self.base, self.tops.select(order), self.worth[order])


class CascadeSearch:
    """A search for single units, and for units on top of random subnetworks or of those in use.

    Attributes
    ----------
    starts : sequence of Subnetwork
        Subnetworks in use, best first, each with a lower triangular R; may be set between calls.
    """

    def __init__(
        self,
        network: NetworkSpec,
        definition: Definition,
        samples: FloatArray,
        seed: int = 0,
        deadline: float = np.inf,
    ) -> None:
        """Take an architecture of one recurrent layer of width > 1 and distinct samples (n, T, d).

        The search ends at `deadline`, a value of `time.perf_counter`.

        Raises
        ------
        UnsupportedError
            The neuron has trained parameters; their columns would follow those of the neighbours.
        """
        self.spec = network.layers[0]
        if trained := NEURONS[self.spec.neuron].parameters(TRAINED):
            raise UnsupportedError(
                f"dictionary.cascade: neuron {self.spec.neuron!r} has the trained parameter "
                f"{trained[0].name}; a cascade needs a neuron without trained parameters"
            )
        self.definition, self.samples = definition, samples
        self.rng = np.random.default_rng(seed)
        self.starts: Sequence[Subnetwork] = ()
        self.deadline = deadline

    def propose(self, prices: FloatArray, cutoff: float, group: bool) -> tuple[Patterns, ...]:
        """Return subnetworks with their patterns, the last one worth more than `cutoff`, best first."""
        most = self.spec.width - 1
        in_use = [self._first_units(stack.layers[0], most) for stack in self.starts[:STARTS]]
        for _ in range(TRIES):
            cascades = (self._drawn(1 + k % most, in_use) for k in range(DRAWN))
            bases = self._in_time(chain([self._nothing()], in_use, cascades))
            trials = [self._screened(base, prices, group) for base in bases]
            trials[1:] = sorted(trials[1:], key=lambda trial: -trial.worth.max())[:REFINED]
            best = [self._refined(trial, prices, group) for trial in self._in_time(trials)]
            rated = [pair for trial in best for pair in self._grown(trial, prices, group)]
            rated = sorted((pair for pair in rated if pair[0] > cutoff), key=lambda pair: -pair[0])
            if rated:
                return tuple(one for _, one in rated)
        return ()

    def _in_time(self, items: Iterable[Item]) -> Iterator[Item]:
        return takewhile(lambda _: time.perf_counter() <= self.deadline, items)

    def _nothing(self) -> _Units:
        grids = {name: np.zeros(0) for name in self.spec.grids()}
        return _Units(grids, np.zeros((0, self.samples.shape[2] + self.spec.bias)))

    def _first_units(self, layer: Layer, most: int) -> _Units:
        rows, k = layer.unit_weights(), min(layer.units, most)
        columns = rows.shape[1] - layer.units + k
        grids = {name: layer.neuron.values(name, layer.units)[:k] for name in self.spec.grids()}
        return _Units(grids, rows[:k, :columns])

    def _drawn(self, units: int, in_use: Sequence[_Units]) -> _Units:
        """Return a random cascade; its units may have no worth alone, but help a unit on top."""
        base = self._nothing()
        if in_use and self.rng.random() < 0.5:
            layer = self._layer(in_use[int(self.rng.integers(len(in_use)))])
            base = self._first_units(layer, int(self.rng.integers(units + 1)))
        while len(base) < units:
            seen = self._seen(base)
            candidates = self._random(seen)
            fits = self._patterns(candidates, seen)[1] >= self.definition.margin
            if not fits.any():
                break
            base = base.below(candidates.select([int(np.argmax(fits))]))
        return base

    def _layer(self, units: _Units) -> Layer:
        neuron = self.spec.make_neuron(**units.grids)
        blank = self.spec.blank(len(units), self.samples.shape[2], neuron)
        return blank.with_unit_weights(units.weights)

    def _seen(self, base: _Units) -> FloatArray:
        """Return the inputs of a unit on top of others, without its own spikes: (n, T, d'-1)."""
        if len(base):
            layer = self._layer(base)
            return layer.unit_inputs(self.samples, run_layer(layer, self.samples)[1])
        ones = np.ones((*self.samples.shape[:2], int(self.spec.bias)))
        return np.concatenate([self.samples, ones], axis=2)

    def _screened(self, base: _Units, prices: FloatArray, group: bool) -> _Trial:
        seen = self._seen(base)
        tops = self._random(seen)
        return _Trial(base, tops, self._worth(tops, seen, prices, group))

    def _refined(self, trial: _Trial, prices: FloatArray, group: bool) -> _Trial:
        """Change the weights of the best candidates by random steps of decreasing size."""
        seen = self._seen(trial.base)
        for spread in SPREADS:
            trial = trial.best(PARENTS)
            children = self._moved(trial.tops, spread)
            worth = np.concatenate([trial.worth, self._worth(children, seen, prices, group)])
            trial = _Trial(trial.base, trial.tops.joined(children), worth)
        return trial.best(BEST)

    def _grown(self, trial: _Trial, prices: FloatArray, group: bool) -> list[tuple[float, Patterns]]:
        """Simulate whole subnetworks; return those that keep the margin, with the worth of the last unit."""
        rated = []
        for k in np.flatnonzero(trial.worth):
            stack = Subnetwork((self._layer(trial.base.below(trial.tops.select([int(k)]))),))
            one = simulated(stack, self.samples, self.definition)
            if one.margins[-1] >= self.definition.margin:
                worth = dual_norm(one.columns.toarray().T[-1:], prices, group)
                rated.append((float(worth[0]), one))
        return rated

    def _random(self, seen: FloatArray) -> _Units:
        weights = random_weights(self.rng, (RANDOM, seen.shape[2] + 1), self.definition.weight_box)
        grids = {name: self.rng.choice(np.asarray(grid), RANDOM) for name, grid in self.spec.grids().items()}
        return _Units(grids, weights)

    def _moved(self, parents: _Units, spread: float) -> _Units:
        near = parents.select(np.repeat(np.arange(len(parents)), CHILDREN))
        return _Units(near.grids, moved_weights(self.rng, near.weights, spread, self.definition.weight_box))

    def _worth(self, units: _Units, seen: FloatArray, prices: FloatArray, group: bool) -> FloatArray:
        """Return the worth of candidates; 0 if the margin is too small."""
        patterns, margins = self._patterns(units, seen)
        return np.where(margins >= self.definition.margin, dual_norm(patterns, prices, group), 0.0)

    def _patterns(self, units: _Units, seen: FloatArray) -> tuple[BoolArray, FloatArray]:
        """Return patterns (k, R) and margins (k,) of candidates, each alone on top of its inputs."""
        patterns, margins = [], []
        for start in range(0, len(units), AT_A_TIME):
            some = units.select(slice(start, start + AT_A_TIME))
            neuron = self.spec.make_neuron(**some.grids)
            layer = Layer(some.weights[:, :-1], neuron, None, np.diag(some.weights[:, -1]))
            membranes, spikes = run_layer(layer, seen)
            patterns.append(self.definition.bits(layer, membranes, spikes).T)
            away = readout_margins(layer, membranes, spikes, self.definition)
            margins.append(np.minimum(spike_margins(layer, membranes), away))
        return np.concatenate(patterns), np.concatenate(margins)
