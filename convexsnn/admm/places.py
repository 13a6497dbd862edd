"""Shards of the samples of an ADMM training: in this process, or on a cluster (`convexsnn.admm.cluster`)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any, Protocol

import numpy as np

from convexsnn.admm.shards import Batch, Order, Reply, Score, Shard, Variables, check_variables
from convexsnn.admm.splitting import VARIANTS, SplitProblem
from convexsnn.admm.weights import Sums, Weights
from convexsnn.arrays import IntArray
from convexsnn.problem import Problem


class Shards(Protocol):
    """The shards of all training samples, in this process or on a cluster."""

    def sweep(self, weights: Weights, order: Order, penalty: float, batch: Batch | None) -> Reply:
        """Move every block of the samples of a batch (None: all samples) once; return the sums."""

    def inputs_sums(self, weights: Weights) -> Sums:
        """Return the Gram matrix of the first layer's features over all samples."""

    def score(self, weights: Weights) -> Score:
        """Return the simulated score of weights on all training samples."""

    def variables(self) -> list[Variables | None]:
        """Return the variables of every shard; None for a shard without state."""

    def restore(self, variables: Sequence[Variables | None]) -> None:
        """Set the variables of every shard, as returned by `variables`."""

    def mark(self) -> Any:
        """Return the present state, for `back`; sweeps do not change it."""

    def back(self, mark: Any) -> None:
        """Return to a state of `mark`; valid until the next `settle` or `restore`."""

    def settle(self) -> None:
        """Save the present state, so that the loss of a machine does not lose it."""

    def traffic(self) -> tuple[int, int]:
        """Return the bytes sent and received since the last call."""

    def close(self) -> None:
        """Release all resources at the end of a training."""


class LocalShards:
    """All samples in this process."""

    def __init__(self, shards: Sequence[Shard], weights: Weights, problem: Problem) -> None:
        """Store shards; their variables start at the true dynamics of `weights`."""
        self.shards, self.network = shards, problem.network
        self.states = [shard.start(weights) for shard in shards]

    def sweep(self, weights: Weights, order: Order, penalty: float, batch: Batch | None) -> Reply:  # noqa: D102
        replies = []
        for k, shard in enumerate(self.shards):
            self.states[k], reply = shard.sweep(self.states[k], weights, order, penalty, batch)
            replies.append(reply)
        return reduce(Reply.plus, filter(None, replies))

    def inputs_sums(self, weights: Weights) -> Sums:  # noqa: D102
        return reduce(Sums.plus, (shard.inputs_sums(weights) for shard in self.shards))

    def score(self, weights: Weights) -> Score:  # noqa: D102
        return reduce(Score.plus, (shard.score(weights, self.network) for shard in self.shards))

    def variables(self) -> list[Variables | None]:  # noqa: D102
        return self.states

    def restore(self, variables: Sequence[Variables | None]) -> None:  # noqa: D102
        self.states = list(check_variables(variables, [len(shard.inputs) for shard in self.shards]))

    def mark(self) -> list[Variables | None]:  # noqa: D102
        return list(self.states)

    def back(self, mark: list[Variables | None]) -> None:  # noqa: D102
        self.states = list(mark)

    def settle(self) -> None:  # noqa: D102
        return None

    def traffic(self) -> tuple[int, int]:  # noqa: D102
        return 0, 0

    def close(self) -> None:  # noqa: D102
        return None


def shards_of(lowered: SplitProblem, rows: IntArray, count: int = 1) -> list[Shard]:
    """Divide the training samples `rows` of a problem into shards of nearly equal size."""
    problem, shards, first = lowered.problem, [], 0
    encoded, weights = problem.encoded_targets(), problem.row_weights()
    for part in np.array_split(rows, count):
        all_samples = len(part) == len(problem.inputs)
        inputs = problem.inputs if all_samples else problem.inputs[part]
        shards.append(
            Shard(
                lowered.splitting,
                inputs.astype(problem.admm.precision, copy=False),
                np.asarray(problem.targets)[part],
                encoded[part],
                weights[part],
                problem.target_code,
                first,
                VARIANTS[problem.admm.variant].restarts,
            )  # fmt: skip
        )
        first += len(part)
    return shards
