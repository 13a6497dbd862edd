"""Heuristic pricing of subnetworks that no oracle accepts: several layers, or coupled units.

The search draws whole stacks. With fixed hidden layers, a last unit is a single unit on given inputs. So in
the stacks with the highest prices, the weights of the last layer change by random steps of decreasing size.
In a coupled last layer, the weights of all units change together.
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
PROPOSED = 20  # subnetworks
TRIES = 5  # draws before the search gives up

Rated = list[tuple[float, Patterns]]


class DeepSearch:
    """A search that draws stacks and changes the last units with the highest prices."""

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
            rated = [one for worth, one in self._drawn_and_moved(prices, group)[:PROPOSED] if worth > cutoff]
            if rated:
                break
        return tuple(rated)

    def _drawn_and_moved(self, prices: FloatArray, group: bool) -> Rated:
        width = self.network.layers[-1].width
        self.seed += 1
        stacks = draw_subnetworks(
            self.samples,
            np.zeros((len(self.samples), 1)),
            self.network,
            self.definition,
            source="gaussian",
            count=STACKS * width,
            seed=self.seed,
            scale=(0.3, 1.0, 3.0),
        )
        rated = self._rated(stacks, prices, group)
        for spread in SPREADS:
            children = [
                self._moved(one.subnetwork, spread) for _, one in rated[:PARENTS] for _ in range(CHILDREN)
            ]
            rated = sorted(rated + self._rated(children, prices, group), key=lambda pair: -pair[0])
        return rated

    def _rated(
        self, stacks: list[Subnetwork] | tuple[Subnetwork, ...], prices: FloatArray, group: bool
    ) -> Rated:
        """Return the patterns of stacks, each with the worth of its best pattern, best first."""
        rated: Rated = []
        for stack in stacks:
            one = simulated(stack, self.samples, self.definition)
            worth = dual_norm(one.columns.toarray().T, prices, group)
            worth[one.margins < self.definition.margin] = 0.0
            rated.append((float(worth.max()), one))
        return sorted(rated, key=lambda pair: -pair[0])

    def _moved(self, stack: Subnetwork, spread: float) -> Subnetwork:
        """Return a stack with a random step in the weights of its last units."""
        last, box = stack.layers[-1], self.definition.weight_box
        weights = last.unit_weights()
        size = spread * np.abs(weights).max(axis=1, keepdims=True)
        weights = np.clip(weights + size * self.rng.standard_normal(weights.shape), -box, box)
        return Subnetwork((*stack.layers[:-1], last.with_unit_weights(weights)))
