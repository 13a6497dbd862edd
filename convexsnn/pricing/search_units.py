"""Heuristic pricing: random units, and random steps from the best of them; fast, but without a proof."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from convexsnn.arrays import FloatArray
from convexsnn.dictionary.patterns import Patterns
from convexsnn.pricing.decisions import Decisions
from convexsnn.pricing.prices import Confirmed, Oracle, Searched, Witnesses, dual_norm, trivial_bound

RANDOM = 400
PARENTS = 20
CHILDREN = 15
ROUNDS = 5
BEST = 40  # units after the last round


def random_weights(rng: np.random.Generator, shape: tuple[int, int], box: float) -> FloatArray:
    """Return weights (k, d) in the box: half of the rows uniform, half normal at one of several scales."""
    scale = rng.choice([0.03, 0.1, 0.3, 1.0], shape[0])[:, None] * box
    uniform = rng.random(shape[0])[:, None] < 0.5
    weights = np.where(uniform, rng.uniform(-box, box, shape), scale * rng.standard_normal(shape))
    return np.clip(weights, -box, box)


def moved_weights(rng: np.random.Generator, near: FloatArray, spread: float, box: float) -> FloatArray:
    """Return weights (k, d) after random steps, `spread` times each row's largest, in few or all entries."""
    step = spread * np.abs(near).max(axis=1, keepdims=True) * rng.standard_normal(near.shape)
    few = rng.random(near.shape) < 2.0 / near.shape[1]
    step = np.where(few | (rng.random((len(near), 1)) < 0.5), step, 0.0)
    return np.clip(near + step, -box, box)


class LocalSearch(Oracle):
    """A search that draws weights at several scales, then changes the best by ever smaller random steps.

    Attributes
    ----------
    starts : Witnesses
        First units in addition to the random ones, such as those in use; may be set between calls.
    """

    name = "search"

    def __init__(self, units: Sequence[Decisions], samples: FloatArray, seed: int = 0) -> None:  # noqa: D107
        super().__init__(units, samples)
        self.rng = np.random.default_rng(seed)
        self.starts = Witnesses(np.zeros(0, np.int64), np.zeros((0, units[0].dimension)))

    def _first(self) -> Confirmed:
        """Return the first units: `starts`, then random ones."""
        unit = self.rng.integers(len(self.units), size=RANDOM)
        shape = RANDOM, self.units[0].dimension
        weights = random_weights(self.rng, shape, self.definition.weight_box)
        return self.confirm(
            np.concatenate([self.starts.unit, unit]), np.concatenate([self.starts.weights, weights])
        )

    def _children(self, parents: Witnesses, spread: float) -> Confirmed:
        near = np.repeat(parents.weights, CHILDREN, axis=0)
        weights = moved_weights(self.rng, near, spread, self.definition.weight_box)
        fresh = (weights != near).any(axis=1)  # a step in few entries can be in none
        return self.confirm(np.repeat(parents.unit, CHILDREN)[fresh], weights[fresh])

    def search_all(self, prices: FloatArray, cutoff: float, group: bool, deadline: float) -> Searched:
        """Change the best units for some rounds; the search is short, and takes no notice of the deadline."""
        pool = self._first()
        for r in range(ROUNDS):
            worth = np.where(
                pool.margins >= self.definition.margin, dual_norm(pool.patterns, prices, group), -1.0
            )
            best = np.argsort(-worth, kind="stable")
            first = np.unique(worth[best], return_index=True)[1]  # equal worth: nearly always equal patterns
            pool = pool.select(best[np.sort(first)][: PARENTS if r < ROUNDS - 1 else BEST])
            if r < ROUNDS - 1:
                pool = pool.joined(self._children(pool.witnesses, 0.5 * 0.4**r))
        pool = pool.select(np.argsort(pool.witnesses.unit, kind="stable"))
        return Searched(pool, trivial_bound(prices, group), False, 0)

    def propose(self, prices: FloatArray, cutoff: float, group: bool) -> tuple[Patterns, ...]:
        """Return units whose patterns are worth more than `cutoff`, as subnetworks with their patterns."""
        return self.placed(self.price(prices, cutoff=cutoff, group=group))
