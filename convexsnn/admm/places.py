"""Where the samples of an ADMM training are: in this process, or (`distributed`) on a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from convexsnn.admm.shards import Batch, Order, Reply, Score, Shard, Variables, check_variables
from convexsnn.admm.splitting import VARIANTS, SplitProblem
from convexsnn.admm.weights import Sums, Weights
from convexsnn.arrays import IntArray
from convexsnn.problem import Problem


class Shards(Protocol):
    """Where the samples are: here, or on a cluster."""

    def sweep(self, weights: Weights, order: Order, penalty: float, batch: Batch | None) -> Reply:
        """Move every block of some samples (None: all) once and return the sums."""

    def inputs_sums(self, weights: Weights) -> Sums:
        """Return the Gram matrix of the first layer's features over all samples."""

    def score(self, weights: Weights) -> Score:
        """Return what the simulator says of weights on all training samples."""

    def variables(self) -> list[Variables | None]:
        """Return what every shard keeps."""

    def restore(self, variables: Sequence[Variables | None]) -> None:
        """Give every shard back what it kept."""

    def settle(self) -> None:
        """Make what was done so far safe against the loss of a machine."""

    def traffic(self) -> tuple[int, int]:
        """Return the bytes sent and received since the last call."""

    def close(self) -> None:
        """Let go of everything; the training has ended."""


class LocalShards:
    """All samples in this process."""

    def __init__(self, shards: Sequence[Shard], weights: Weights, problem: Problem) -> None:
        """Take shards; their variables start at the true dynamics of `weights`."""
        self.shards, self.network = shards, problem.network
        self.kept = [shard.start(weights) for shard in shards]

    def sweep(self, weights: Weights, order: Order, penalty: float, batch: Batch | None) -> Reply:  # noqa: D102
        total: Reply | None = None
        for k, shard in enumerate(self.shards):
            self.kept[k], reply = shard.sweep(self.kept[k], weights, order, penalty, batch)
            total = total if reply is None else reply if total is None else total.plus(reply)
        assert total is not None
        return total

    def inputs_sums(self, weights: Weights) -> Sums:  # noqa: D102
        total, *others = (shard.inputs_sums(weights) for shard in self.shards)
        for sums in others:
            total = total.plus(sums)
        return total

    def score(self, weights: Weights) -> Score:  # noqa: D102
        total, *others = (shard.score(weights, self.network) for shard in self.shards)
        for score in others:
            total = total.plus(score)
        return total

    def variables(self) -> list[Variables | None]:  # noqa: D102
        return self.kept

    def restore(self, variables: Sequence[Variables | None]) -> None:  # noqa: D102
        self.kept = list(check_variables(variables, [len(shard.inputs) for shard in self.shards]))

    def settle(self) -> None:  # noqa: D102
        return None

    def traffic(self) -> tuple[int, int]:  # noqa: D102
        return 0, 0

    def close(self) -> None:  # noqa: D102
        return None


def shards_of(lowered: SplitProblem, rows: IntArray, count: int = 1) -> list[Shard]:
    """Cut the training samples `rows` of a problem into shards of nearly equal size."""
    problem, made, first = lowered.problem, [], 0
    encoded, weights = problem.encoded_targets(), problem.row_weights()
    for part in np.array_split(rows, count):
        whole = len(part) == len(problem.inputs)
        inputs = problem.inputs if whole else problem.inputs[part]
        made.append(
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
    return made
