"""Heuristic pricing of subnetworks that no oracle takes: several layers, or coupled units.

Whole stacks are drawn. Given its hidden layers, a last unit is a unit like any other, so that from the stacks
that the dual point prices highest the last layer's weights move on by shrinking random steps. In a coupled
last layer all its units move together.
"""

from __future__ import annotations

import numpy as np

from convexsnn.arrays import FloatArray
from convexsnn.dictionary.dictionary import Definition, simulated
from convexsnn.dictionary.patterns import Patterns
from convexsnn.dictionary.witnesses import draw_subnetworks
from convexsnn.networks import NetworkSpec, Subnetwork
from convexsnn.pricing.prices import dual_norm

STACKS = 20
PARENTS = 5
CHILDREN = 8
SPREADS = (0.5, 0.2, 0.08)  # of steps, relative to a unit's largest weight
KEPT = 20
TRIES = 5  # new draws where nothing is found

Rated = list[tuple[float, Patterns]]


class DeepSearch:
    """Draws stacks, moves the last units that are priced highest, and keeps the best."""

    def __init__(
        self, network: NetworkSpec, definition: Definition, samples: FloatArray, seed: int = 0
    ) -> None:
        """Take an architecture and distinct samples (n, T, d)."""
        self.network, self.definition, self.samples = network, definition, samples
        self.seed = seed
        self.rng = np.random.default_rng(seed)

    def propose(self, prices: FloatArray, cutoff: float, group: bool) -> tuple[Patterns, ...]:
        """Return subnetworks with their patterns, the best worth more than `cutoff` at `prices` (R, C)."""
        for _ in range(TRIES):
            rated = [one for worth, one in self._drawn_and_moved(prices, group)[:KEPT] if worth > cutoff]
            if rated:
                break
        return tuple(rated)

    def _drawn_and_moved(self, prices: FloatArray, group: bool) -> Rated:
        width = self.network.layers[-1].width
        self.seed += 1
        drawn = draw_subnetworks(
            self.samples,
            np.zeros((len(self.samples), 1)),
            self.network,
            self.definition,
            source="gaussian",
            count=STACKS * width,
            seed=self.seed,
            scale=(0.3, 1.0, 3.0),
        )
        rated = self._rated(drawn, prices, group)
        for spread in SPREADS:
            moved = [
                self._moved(one.subnetwork, spread) for _, one in rated[:PARENTS] for _ in range(CHILDREN)
            ]
            rated = sorted(rated + self._rated(moved, prices, group), key=lambda pair: -pair[0])
        return rated

    def _rated(
        self, stacks: list[Subnetwork] | tuple[Subnetwork, ...], prices: FloatArray, group: bool
    ) -> Rated:
        """Return the patterns of stacks with what the best of each is worth, the best first."""
        rated: Rated = []
        for stack in stacks:
            one = simulated(stack, self.samples, self.definition)
            worth = dual_norm(one.columns.toarray().T, prices, group)
            worth[one.margins < self.definition.margin] = 0.0
            rated.append((float(worth.max()), one))
        return sorted(rated, key=lambda pair: -pair[0])

    def _moved(self, stack: Subnetwork, spread: float) -> Subnetwork:
        """Return a stack whose last units took a random step."""
        last, box = stack.layers[-1], self.definition.weight_box
        weights = last.unit_weights()
        size = spread * np.abs(weights).max(axis=1, keepdims=True)
        weights = np.clip(weights + size * self.rng.standard_normal(weights.shape), -box, box)
        return Subnetwork((*stack.layers[:-1], last.with_unit_weights(weights)))
