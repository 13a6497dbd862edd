"""Heuristic pricing of subnetworks with several layers, or coupled units: new stacks, each made to fit.

Hidden layers are drawn; given their spikes, a last unit is a unit like any other, and local search looks
for the one that the dual point prices highest. Where the last layer is recurrent whole stacks are drawn.
"""

from __future__ import annotations

import numpy as np

from convexsnn.arrays import FloatArray
from convexsnn.dictionary.pricing import dual_norm
from convexsnn.dictionary.spikes import Definition, patterns_of
from convexsnn.dictionary.witnesses import draw_subnetworks
from convexsnn.networks import NetworkSpec, Subnetwork

STACKS = 20
KEPT = 20


class DeepSearch:
    """Draws stacks and keeps the last units that are priced highest."""

    def __init__(
        self, network: NetworkSpec, definition: Definition, samples: FloatArray, seed: int = 0
    ) -> None:
        """Take an architecture and distinct samples (n, T, d)."""
        self.network, self.definition, self.samples = network, definition, samples
        self.seed = seed

    def propose(self, prices: FloatArray, cutoff: float, group: bool) -> tuple[Subnetwork, ...]:
        """Return subnetworks whose patterns are worth more than `cutoff` at `prices` (R, C)."""
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
        rated: list[tuple[float, Subnetwork]] = []
        for stack in drawn:
            columns, margins = patterns_of(stack, self.samples, self.definition)
            worth = dual_norm(columns.toarray().T, prices, group)
            worth[margins < self.definition.margin] = 0.0
            rated.append((float(worth.max()), stack))
        rated.sort(key=lambda pair: -pair[0])
        return tuple(stack for worth, stack in rated[:KEPT] if worth > cutoff)
