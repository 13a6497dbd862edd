"""Heuristic pricing of coupled units by cascades: subnetworks with a lower triangular R, one unit at a time.

    drive_t = W x_t + R s_{t-1} + b,   R_jk = 0 for k > j

The first k units of such a subnetwork never see those after them. So a unit k + 1 can be added that takes
the inputs, the bias, the last spikes of units 1..k and its own, and the old patterns stay as they are. With
the neighbours' spikes known the new unit is one unit with k more inputs, and local search over its weights
prices it. That proves nothing of patterns it did not meet, and R of other shapes is left out altogether.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from convexsnn.arrays import BoolArray, FloatArray
from convexsnn.dictionary.pricing import dual_norm
from convexsnn.dictionary.spikes import Definition, patterns_of, readout_margins, spike_margins
from convexsnn.networks import Layer, NetworkSpec, Subnetwork
from convexsnn.simulate import readout, run_layer

RANDOM = 200
PARENTS = 12
CHILDREN = 10
ROUNDS = 5
KEPT = 6  # new units of one subnetwork
TRIES = 10
DRAWN = 6
BASES = 16  # subnetworks to extend in one call
AT_A_TIME = 64  # candidates side by side; their own weights make a matrix of that size


@dataclass(frozen=True, eq=False)
class _Units:
    """Units by their leaks (k,) and weights (k, d'), in the order of `Layer.unit_weights`."""

    leak: FloatArray
    weights: FloatArray

    def select(self, units: slice | list[int] | np.ndarray) -> _Units:
        return _Units(self.leak[units], self.weights[units])

    def joined(self, other: _Units) -> _Units:
        return _Units(np.concatenate([self.leak, other.leak]), np.concatenate([self.weights, other.weights]))

    def with_one_more(self, other: _Units) -> _Units:
        """Return coupled units with another that sees them, and that they do not see."""
        return _Units(self.leak, np.pad(self.weights, ((0, 0), (0, 1)))).joined(other)


class CascadeSearch:
    """Draws single units, and adds a unit to the subnetworks in use.

    Attributes
    ----------
    starts : sequence of Subnetwork
        Subnetworks in use, best first, each with a lower triangular R; may be set between calls.
    """

    def __init__(
        self, network: NetworkSpec, definition: Definition, samples: FloatArray, seed: int = 0
    ) -> None:
        """Take an architecture of one recurrent layer and distinct samples (n, T, d)."""
        (self.spec,) = network.layers
        self.definition, self.samples = definition, samples
        self.rng = np.random.default_rng(seed)
        self.starts: Sequence[Subnetwork] = ()

    def propose(self, prices: FloatArray, cutoff: float, group: bool) -> tuple[Subnetwork, ...]:
        """Return subnetworks whose last unit is worth more than `cutoff` at `prices` (R, C), best first."""
        sizes = np.linspace(0, self.spec.width - 1, DRAWN).round().astype(int)
        for k in range(TRIES):
            bases = [self._first_units(stack.layers[0]) for stack in self.starts[k * BASES : (k + 1) * BASES]]
            bases += [self._drawn(size) for size in sizes]
            rated = [pair for base in bases for pair in self._grown(base, prices, group) if pair[0] > cutoff]
            if rated:
                break
        rated.sort(key=lambda pair: -pair[0])
        return tuple(stack for _, stack in rated)

    def _grown(self, base: _Units, prices: FloatArray, group: bool) -> list[tuple[float, Subnetwork]]:
        """Return a base with one more unit, in several ways, each with what that unit is worth."""
        found, rated = self._best(base, prices, group), []
        for k in range(len(found.leak)):
            grown = Subnetwork((self._layer(base.with_one_more(found.select([k]))),))
            patterns, margins = patterns_of(grown, self.samples, self.definition)
            if margins[-1] >= self.definition.margin:
                worth = dual_norm(patterns.toarray().T[-1:], prices, group)
                rated.append((float(worth[0]), grown))
        return rated

    def _first_units(self, layer: Layer, most=10**9) -> _Units:
        """Return the units of a layer, without the last one if there is no room for another."""
        k = min(layer.units, self.spec.width - 1, most)
        leak = np.broadcast_to(getattr(layer.neuron, "leak", self.spec.leak[0]), layer.units)
        rows = layer.unit_weights()
        return _Units(leak[:k], rows[:k, : rows.shape[1] - layer.units + k])

    def _drawn(self, units: int) -> _Units:
        """Return a random cascade: a way on where no unit in use is worth a neighbour."""
        base = _Units(np.zeros(0), np.zeros((0, self.samples.shape[2] + self.spec.bias)))
        if len(self.starts) and self.rng.random() < 0.5:
            b = self.starts[self.rng.integers(len(self.starts))].layers[0]
            base = self._first_units(b, int(self.rng.integers(units + 1)))
        for _ in range(units - len(base.leak)):
            drawn = self._random(base.weights.shape[1] + 1)
            margins = self._simulated(drawn, self._seen(base))[1]
            base = base.with_one_more(drawn.select([int(np.argmax(margins >= self.definition.margin))]))
        return base

    def _layer(self, units: _Units) -> Layer:
        k, d = len(units.leak), self.samples.shape[2]
        neuron = self.spec.make_neuron(units.leak, np.zeros(k))
        bias = np.zeros(k) if self.spec.bias else None
        return Layer(np.zeros((k, d)), neuron, bias, np.zeros((k, k))).with_unit_weights(units.weights)

    def _seen(self, base: _Units) -> FloatArray:
        """Return what a unit on top of others sees, but for its own spikes: (n, T, d'-1)."""
        if len(base.leak):
            layer = self._layer(base)
            return layer.unit_inputs(self.samples, run_layer(layer, self.samples)[1])
        ones = np.ones((*self.samples.shape[:2], int(self.spec.bias)))
        return np.concatenate([self.samples, ones], axis=2)

    def _best(self, base: _Units, prices: FloatArray, group: bool) -> _Units:
        """Return the best units found to put on top of others, at most KEPT of them."""
        seen = self._seen(base)
        pool = self._random(seen.shape[2] + 1)
        worth = self._worth(pool, seen, prices, group)
        for r in range(ROUNDS):
            best = np.argsort(-worth, kind="stable")
            first = np.unique(worth[best], return_index=True)[1]  # equal worth: nearly always equal patterns
            best = best[np.sort(first)][: PARENTS if r < ROUNDS - 1 else KEPT]
            pool, worth = pool.select(best), worth[best]
            if r < ROUNDS - 1:
                fresh = self._children(pool, 0.5 * 0.4**r)
                pool = pool.joined(fresh)
                worth = np.concatenate([worth, self._worth(fresh, seen, prices, group)])
        return pool.select(worth > 0)

    def _random(self, d: int) -> _Units:
        box = self.definition.weight_box
        scale = self.rng.choice([0.03, 0.1, 0.3, 1.0], RANDOM)[:, None] * box
        weights = np.where(
            self.rng.random(RANDOM)[:, None] < 0.5,
            self.rng.uniform(-box, box, (RANDOM, d)),
            scale * self.rng.standard_normal((RANDOM, d)),
        )
        return _Units(self.rng.choice(np.asarray(self.spec.leak), RANDOM), np.clip(weights, -box, box))

    def _children(self, parents: _Units, spread: float) -> _Units:
        near = parents.select(np.repeat(np.arange(len(parents.leak)), CHILDREN))
        size = np.abs(near.weights).max(axis=1, keepdims=True)
        step = spread * size * self.rng.standard_normal(near.weights.shape)
        few = self.rng.random(step.shape) < 2.0 / step.shape[1]  # some change a few weights, some all
        step = np.where(few | (self.rng.random((len(step), 1)) < 0.5), step, 0.0)
        box = self.definition.weight_box
        return _Units(near.leak, np.clip(near.weights + step, -box, box))

    def _worth(self, units: _Units, seen: FloatArray, prices: FloatArray, group: bool) -> FloatArray:
        """Return what candidates are worth, 0 for those of too small a margin."""
        patterns, margins = self._simulated(units, seen)
        return np.where(margins >= self.definition.margin, dual_norm(patterns, prices, group), 0.0)

    def _simulated(self, units: _Units, seen: FloatArray) -> tuple[BoolArray, FloatArray]:
        """Return patterns (k, R) and margins (k,) of candidates, each alone on top of what it sees."""
        patterns, margins = [], []
        for start in range(0, len(units.leak), AT_A_TIME):
            some = units.select(slice(start, start + AT_A_TIME))
            neuron = self.spec.make_neuron(some.leak, np.zeros(len(some.leak)))
            layer = Layer(some.weights[:, :-1], neuron, None, np.diag(some.weights[:, -1]))
            membranes, spikes = run_layer(layer, seen)
            assert membranes is not None
            shown = readout(layer, membranes, spikes, self.definition.readout)
            shown = shown[:, -1] if self.definition.supervise == "last" else shown.reshape(-1, layer.units)
            patterns.append(shown.T)
            away = readout_margins(layer, membranes, spikes, self.definition)
            margins.append(np.minimum(spike_margins(layer, membranes), away))
        return np.concatenate(patterns), np.concatenate(margins)
