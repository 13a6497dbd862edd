"""ADMM training of a deep network: block updates on every sample, weight steps, and simulated scores.

The splitting is not convex as a whole: there is no lower bound and no gap. The training reports accuracy and
loss of the simulated network. The residuals measure the violation of the constraints of the splitting.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import reduce

import numpy as np

from convexsnn.admm.checkpoint import load_checkpoint, save_checkpoint
from convexsnn.admm.places import LocalShards, Shards, shards_of
from convexsnn.admm.shards import Batch, Order, Reply
from convexsnn.admm.splitting import VARIANTS, AdmmSplitting, SplitProblem
from convexsnn.admm.weight_steps import WeightSteps
from convexsnn.admm.weights import Weights
from convexsnn.arrays import IntArray
from convexsnn.errors import SolverFailed
from convexsnn.networks import Network
from convexsnn.problem import Problem
from convexsnn.tasks.train_test import held_out_rows
from convexsnn.training.budget import Budget
from convexsnn.training.history import History
from convexsnn.training.score import Score, score

FAR = 10.0  # ratio of the two residuals above which the penalties change


@dataclass(frozen=True)
class AdmmIteration:
    """Results of one iteration.

    Attributes
    ----------
    lagrangian : float
        Augmented Lagrangian per sample, after the sweep over all blocks.
    primal_residual, dual_residual : float
        Root mean squares: of the violation of dynamics and spikes after the sweep, and of the change of
        all drives and outputs in the weight step.
    spike_violation : float
        Root mean square of a − 1{z >= θ}.
    loss, train_accuracy, validation_loss, validation_accuracy
        Score of the simulated network after the iteration. A loss is the mean of a ℓ over samples, where a
        are the sample weights.
    rates : tuple of float
        Firing rate of each layer: share of all steps in which a unit fires.
    products : int
        Number of matrix products in the box programs of spikes.
    """

    iteration: int
    lagrangian: float
    primal_residual: float
    dual_residual: float
    spike_violation: float
    readout_residual: float
    loss: float
    train_accuracy: float | None
    validation_loss: float | None
    validation_accuracy: float | None
    rates: tuple[float, ...]
    penalty: float
    products: int
    seconds: float
    bytes_sent: int = 0
    bytes_received: int = 0


@dataclass
class _State:
    """The state between iterations; a checkpoint has all of it."""

    weights: Weights
    best: Weights
    penalty: float = 1.0
    history: History[AdmmIteration] = field(default_factory=History)


@dataclass(frozen=True, eq=False)
class AdmmRun:
    """Result of a training.

    Attributes
    ----------
    network : Network
        The best network on held-out samples if there are any, else the last one.
    status : "stationary" or "limit"
    stopped_by : str
        "residuals", "validation", "time" or "iterations".
    """

    lowered: SplitProblem
    network: Network
    weights: Weights
    status: str
    stopped_by: str
    history: tuple[AdmmIteration, ...]


class AdmmTraining:
    """The training loop."""

    def __init__(
        self,
        problem: Problem,
        budget: Budget = Budget(),  # noqa: B008 (frozen)
        place: Callable[[SplitProblem, IntArray], Shards] | None = None,
    ) -> None:
        """Lower a problem; `place` may distribute its samples over a cluster."""
        self.problem, self.spec, self.budget = problem, problem.admm, budget
        self.lowered = AdmmSplitting().lower(problem)
        self.variant = VARIANTS[self.spec.variant]
        count = len(problem.inputs)
        self.held_out = held_out_rows(count, self.spec.validation, self.spec.seed)
        rows = np.setdiff1d(np.arange(count), self.held_out)
        self.samples, self.first, weights = len(rows), rows[:1], self.lowered.weights
        size = min(self.spec.batch or self.samples, self.samples)
        self.batches = -(-self.samples // size)
        if place is None:
            self.shards: Shards = LocalShards(shards_of(self.lowered, rows), weights, problem)
        else:
            self.shards = place(self.lowered, rows)
        self.steps = WeightSteps(
            weights, self.spec, self.variant.full_fit, self.batches, problem.inputs.shape[1]
        )
        self.state = _State(weights, weights)

    def run(self) -> AdmmRun:
        """Train until a stopping rule holds.

        Raises
        ------
        SolverFailed
            Values are not finite, or a layer no longer fires; the message names the block. The last
            checkpoint stays.
        """
        try:
            with np.errstate(over="ignore", invalid="ignore"):  # the blocks say which of them overflows
                return self._run()
        finally:
            self.shards.close()

    def _run(self) -> AdmmRun:
        file = self.budget.checkpoint
        if file is not None and file.exists():
            weights, restore = self.state.weights, self.shards.restore
            one = shards_of(self.lowered, self.first)[0].start(weights)
            self.state = _State(
                *load_checkpoint(file, self.problem, AdmmIteration, weights, self.steps, one, restore)
            )
        elif self.steps.is_constant[0]:
            self.steps.learn_inputs(self.shards.inputs_sums(self.state.weights), self.samples)
        stopped = self._stopped()
        while stopped is None:
            self._iterate(len(self.state.history))
            stopped = self._stopped()
            due = len(self.state.history) % self.spec.checkpoint_every == 0 or stopped is not None
            if due:
                self.shards.settle()
            if file is not None and due:
                save_checkpoint(file, self.problem, self.state, self.steps, self.shards.variables())
        weights = self.state.best if len(self.held_out) else self.state.weights
        network = AdmmSplitting().reconstruct(self.lowered, weights)
        status = "stationary" if stopped == "residuals" else "limit"
        return AdmmRun(self.lowered, network, weights, status, stopped, self.state.history.rows)

    def _stopped(self) -> str | None:
        """Return the rule that stops the training; None to continue."""
        spec, history = self.spec, self.state.history
        if history.rows:
            last = history.rows[-1]
            if max(last.primal_residual, last.dual_residual) <= spec.tolerance:
                return "residuals"
        patience = spec.patience if len(self.held_out) else None
        return history.stopped(spec.iterations, "iterations", patience, self.budget)

    def _order(self, iteration: int) -> Order:
        layers = len(self.state.weights.layers)
        blocks = list(range(layers, -1, -1))
        if self.spec.order == "sequential":
            blocks.reverse()
        elif self.spec.order == "random":
            # seeded by the iteration, so that a resumed run has the same order
            blocks = np.random.default_rng([self.spec.seed, iteration, 1]).permutation(layers + 1).tolist()
        update_multipliers = iteration >= self.spec.multiplier_warm_up
        return Order(tuple(blocks), self.spec.sweeps, update_multipliers, self.steps.needed_grams())

    def _iterate(self, iteration: int) -> None:
        """Process all samples once, batch by batch; undo what the deadline stops half-way."""
        begun, spec, state = time.perf_counter(), self.spec, self.state
        order, weights = self._order(iteration), state.weights
        replies: list[Reply] = []
        change = 0.0
        before = self.shards.mark(), self.steps.arrays()
        for k in range(self.batches):
            if k and self.budget.is_over:
                self.shards.back(before[0])
                return self.steps.restore(before[1])
            batch = Batch(spec.seed, iteration, k, self.batches, self.samples) if self.batches > 1 else None
            order = replace(order, grams=self.steps.needed_grams())
            reply = self.shards.sweep(weights, order, state.penalty, batch)
            share = (iteration * self.batches + k) / (spec.iterations * self.batches)
            step = spec.step * (1.0 - share if spec.schedule == "linear" else 1.0)
            weights, square = self.steps.move(weights, reply, step)
            change += square / self.batches
            replies.append(replace(reply, sums=[]))
        self._record(iteration, weights, reduce(Reply.plus, replies), change, begun)

    def _record(self, iteration: int, weights: Weights, reply: Reply, change: float, begun: float) -> None:
        """Simulate the new weights; store them and the results of the iteration."""
        state, trained = self.state, self.shards.score(weights)
        silent = np.flatnonzero(trained.spikes == 0)
        if len(silent):
            raise SolverFailed(
                f"admm: network.layers[{silent[0] + 1}]: a dead layer after iteration {iteration + 1}, no "
                "unit fires on any sample; take smaller steps (admm.step) or a higher firing rate (admm.rate)"
            )
        classifies = self.problem.training.task == "classification"
        held_out = self._held_out_score(weights)
        sent, received = self.shards.traffic()
        primal = np.sqrt((reply.dynamics + reply.missed) / (2 * reply.entries))
        row = AdmmIteration(
            iteration + 1,
            reply.lagrangian / reply.samples,
            float(primal),
            float(np.sqrt(change)),
            float(np.sqrt(reply.missed / reply.entries)),
            float(np.sqrt(reply.readout / reply.samples)),
            trained.loss / trained.samples,
            trained.accuracy if classifies else None,
            None if held_out is None else held_out.loss,
            None if held_out is None else held_out.accuracy,
            tuple((trained.spikes / trained.entries).tolist()),
            state.penalty,
            reply.products,
            time.perf_counter() - begun,
            sent,
            received,
        )
        state.weights, state.history = weights, state.history.after(row, held_out)
        if state.history.improved:
            state.best = weights
        self._balance(row)
        text = f"iteration {row.iteration}, primal {row.primal_residual:.2g}, dual {row.dual_residual:.2g}"
        if classifies:
            text += f", accuracy {row.train_accuracy:.3f}"
        self.budget.report(text, row.iteration / self.spec.iterations)

    def _held_out_score(self, weights: Weights) -> Score | None:
        """Return the simulated score of weights on held-out samples; None if there are none."""
        if not len(self.held_out):
            return None
        network = weights.network(self.problem.network)
        return score(self.problem, network, self.held_out, self.spec.precision)

    def _balance(self, last: AdmmIteration) -> None:
        """Double or halve the penalties if one residual is more than `FAR` times the other."""
        if not self.spec.balance:
            return
        if last.primal_residual > FAR * last.dual_residual:
            self.state.penalty *= 2.0
        elif last.dual_residual > FAR * last.primal_residual:
            self.state.penalty /= 2.0
