"""Samples of an ADMM training, wherever they lie: what is done to them, and the sums that leave them.

A shard never sees the others. It is handed weights, moves its own membranes, spikes and multipliers, and
answers with sums whose size does not depend on how many samples it holds: Gram matrices, moments, counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from convexsnn.admm.spike_blocks import move_spikes
from convexsnn.admm.state import Split, Splitting
from convexsnn.admm.weights import Sums, Weights, feature_blocks, sums_of
from convexsnn.arrays import FloatArray, IntArray
from convexsnn.errors import ProblemFileError, ShapeError, SolverFailed
from convexsnn.problem.targets import TargetCode
from convexsnn.simulate import simulate

AT_ONCE = 1000  # samples, where each iteration starts from the true dynamics


@dataclass(frozen=True)
class Order:
    """What one sweep does.

    Attributes
    ----------
    blocks : tuple of int
        Hidden layers in the order of their blocks; their number stands for the outputs.
    sweeps : int
        How often, with a step of the multipliers in between.
    multipliers : bool
        Whether multipliers move.
    grams : tuple of bool
        For every layer and the readout, whether its Gram matrix is asked for.
    """

    blocks: tuple[int, ...]
    sweeps: int
    multipliers: bool
    grams: tuple[bool, ...]


@dataclass(frozen=True)
class Batch:
    """Some of the samples, as numbers from which every shard works them out: batch `number` of `batches`."""

    seed: int
    iteration: int
    number: int
    batches: int
    samples: int

    def rows(self) -> IntArray:
        """Return the samples, sorted; those of one iteration's batches are all samples, each once."""
        drawn = np.random.default_rng([self.seed, self.iteration]).permutation(self.samples)
        return np.sort(np.array_split(drawn, self.batches)[self.number])


@dataclass
class Reply:
    """What a shard answers: sums over its samples."""

    sums: list[Sums]
    samples: int
    lagrangian: float
    dynamics: float  # Σ ε² over all units, samples and steps
    missed: float  # Σ (a − 1{z >= θ})²
    readout: float  # Σ of the readout's squared residual
    entries: int  # how many membranes `dynamics` sums over
    products: int  # of box programs with their matrix

    def plus(self, other: Reply) -> Reply:
        """Return the sums over both."""
        sums = [a.plus(b) for a, b in zip(self.sums, other.sums, strict=True)]
        rest = {
            f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self) if f.name != "sums"
        }
        return Reply(sums, **{**rest, "products": max(self.products, other.products)})

    @property
    def bytes(self) -> int:
        """How much of it travels."""
        return sum(s.moment.nbytes + (0 if s.gram is None else s.gram.nbytes) for s in self.sums)


@dataclass
class Score:
    """What the simulator says of weights on a shard's samples: sums over them."""

    samples: int
    right: float
    loss: float
    spikes: IntArray  # by layer
    entries: IntArray  # by layer: units · samples · steps

    def plus(self, other: Score) -> Score:
        """Return the sums over both."""
        return Score(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    @property
    def accuracy(self) -> float:
        """Share of samples that the simulated network gets right."""
        return self.right / self.samples


@dataclass(eq=False)
class Variables:
    """What a shard keeps from sweep to sweep: z, a of every layer, outputs and multipliers."""

    membranes: list[FloatArray]
    spikes: list[FloatArray]
    outputs: FloatArray
    multipliers: FloatArray

    def take(self, rows: IntArray) -> Variables:
        """Return copies for some samples."""
        return Variables(
            [z[rows] for z in self.membranes],
            [a[rows] for a in self.spikes],
            self.outputs[rows],
            self.multipliers[rows],
        )

    def put(self, rows: IntArray, other: Variables) -> Variables:
        """Return new variables in which some samples have others' values."""
        whole = self.take(np.arange(len(self.outputs)))
        for mine, theirs in zip(whole.membranes + whole.spikes, other.membranes + other.spikes, strict=True):
            mine[rows] = theirs
        whole.outputs[rows], whole.multipliers[rows] = other.outputs, other.multipliers
        return whole


def check_variables(variables: Sequence[Variables | None], sizes: Sequence[int]) -> list[Variables]:
    """Return the variables of shards that have `sizes` samples.

    Raises
    ------
    ProblemFileError
        They are of other shards.
    """
    whole = [own for own in variables if own is not None]
    found = [len(own.outputs) for own in whole]
    if found != list(sizes):
        raise ProblemFileError(
            f"checkpoint: has variables of {len(found)} shards, of {found} samples; here are {len(sizes)}, "
            f"of {list(sizes)}: go on with as many workers as it was written with"
        )
    return whole


@dataclass(frozen=True, eq=False)
class Shard:
    """Data of some samples.

    Attributes
    ----------
    inputs : (n, T, d) array, in the type of the computation
    encoded : (n, C) array
        Targets as the loss takes them; `targets` as the problem states them.
    first : int
        Number of its first sample in the problem: rows first..first + n are here.
    restarts : bool
        Whether every sweep begins from the true dynamics, so that nothing is kept.
    """

    splitting: Splitting
    inputs: FloatArray
    targets: np.ndarray
    encoded: FloatArray
    sample_weights: FloatArray
    code: TargetCode
    first: int = 0
    restarts: bool = True

    def _local(self, batch: Batch | None) -> IntArray:
        if batch is None:
            return np.arange(len(self.inputs))
        rows = batch.rows()
        return rows[(rows >= self.first) & (rows < self.first + len(self.inputs))] - self.first

    def _split(self, weights: Weights, penalty: float, rows: IntArray) -> Split:
        adjoining = len(rows) == rows[-1] + 1 - rows[0]
        inputs = self.inputs[rows[0] : rows[-1] + 1] if adjoining else self.inputs[rows]
        own = self.splitting if penalty == 1.0 else self.splitting.scaled(penalty)
        return Split(own, inputs, self.encoded[rows], self.sample_weights[rows], weights)

    def sweep(
        self,
        variables: Variables | None,
        weights: Weights,
        order: Order,
        penalty: float = 1.0,
        batch: Batch | None = None,
    ) -> tuple[Variables | None, Reply | None]:
        """Move every block of some samples once, in order; return new variables and the sums.

        What was given is left as it was, so that a sweep can be done again where it was lost.

        Raises
        ------
        SolverFailed
            A block left the finite numbers; the message names it.
        """
        local = self._local(batch)
        if not len(local):
            return variables, None
        if self.restarts:  # nothing is kept: some samples at a time, whose variables stay in the cache
            reply: Reply | None = None
            for first in range(0, len(local), AT_ONCE):
                split = self._split(weights, penalty, local[first : first + AT_ONCE])
                part = _swept(split, order)
                reply = part if reply is None else reply.plus(part)
            return None, reply
        split = self._split(weights, penalty, local)
        if variables is not None:
            own = variables.take(local)  # copies
            split.membranes, split.spikes = own.membranes, own.spikes
            split.outputs = own.outputs
            split.multipliers = own.multipliers
            split.use(weights)
            if order.multipliers:
                split.step_multipliers()
        reply = _swept(split, order)
        moved = Variables(split.membranes, split.spikes, split.outputs, split.multipliers)
        whole = len(local) == len(self.inputs)
        return moved if variables is None or whole else variables.put(local, moved), reply

    def start(self, weights: Weights) -> Variables | None:
        """Return the variables of the true dynamics, None where nothing is kept."""
        if self.restarts:
            return None
        split = self._split(weights, 1.0, np.arange(len(self.inputs)))
        return Variables(split.membranes, split.spikes, split.outputs, split.multipliers)

    def inputs_sums(self, weights: Weights) -> Sums:
        """Return the Gram matrix of the first layer's features, where they are the inputs alone."""
        layer = weights.layers[0]
        total: Sums | None = None
        nothing = np.zeros((len(self.inputs), self.inputs.shape[1], 0), self.inputs.dtype)
        for _, features in feature_blocks(layer, self.inputs, nothing):
            part = sums_of(features, features[:, :0], layer.bias is not None)
            total = part if total is None else total.plus(part)
        assert total is not None
        return total

    def score(self, weights: Weights, network: object) -> Score:
        """Return what the simulator says of weights; `network` is the architecture."""
        own = weights.network(network)  # type: ignore[arg-type]
        trace = simulate(own, self.inputs, dtype=self.inputs.dtype, copy=False)
        outputs = np.asarray(trace.outputs, dtype=np.float64)
        accuracies = self.code.accuracies(outputs, "targets", self.targets)
        losses = self.splitting.loss.value(outputs, self.encoded)
        return Score(
            len(outputs),
            0.0 if accuracies is None else float(np.mean(accuracies)) * len(outputs),
            float(self.sample_weights @ losses),
            np.array([int(s.sum()) for s in trace.spikes]),
            np.array([s.size for s in trace.spikes]),
        )


def _check_finite(block: str, values: FloatArray) -> None:
    if not np.isfinite(values.sum(dtype=np.float64)):
        raise SolverFailed(f"admm: {block}: values that are not finite")


def _swept(split: Split, order: Order) -> Reply:
    """Move every block of a splitting, in order, as often as asked for; return the sums."""
    products = 0
    for again in range(order.sweeps):
        if again and order.multipliers:
            split.step_multipliers()
        for k in order.blocks:
            try:
                products += _move(split, k)
            except ShapeError as error:  # programs are made of finite numbers alone
                block = "outputs" if k == len(split.spikes) else f"layer {k + 1}"
                raise SolverFailed(f"admm: {block}: {error}") from error
    return _reply(split, order, products)


def _move(split: Split, k: int) -> int:
    """Move the outputs, or a layer's spikes and then its membranes; return the products that took."""
    shared = split.splitting
    if k == len(split.spikes):
        if shared.every_output:
            for t in range(split.outputs.shape[1] - 1):
                split.outputs[:, t] = split.output_step_block(t).minimize()
            split.outputs[:, -1] = split.output_block().minimize()
        else:
            split.outputs = split.output_block().minimize()
        _check_finite("outputs", split.outputs)
        return 0
    products = move_spikes(split, k)
    _check_finite(f"spikes, layer {k + 1}", split.spikes[k])
    if shared.membranes == "step":
        for t in range(split.inputs.shape[1]):
            split.membranes[k][:, t] = split.membrane_block(k, t).minimize()
    else:
        split.membranes[k] = split.chain_block(k).minimize()
    _check_finite(f"membranes, layer {k + 1}", split.membranes[k])
    return products


def _reply(split: Split, order: Order, products: int) -> Reply:
    sums = [split.sums(k, wanted) for k, wanted in enumerate(order.grams)]
    missed, readout = split.violation()
    entries = sum(z.size for z in split.membranes)
    return Reply(
        sums,
        len(split.inputs),
        split.lagrangian([s.square for s in sums[:-1]]),
        sum(s.square for s in sums[:-1]),
        missed**2 * entries,
        readout**2 * split.outputs.size,
        entries,
        products,
    )
