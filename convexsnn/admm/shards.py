"""Shards: parts of the samples of an ADMM training, their block updates, and the sums that they return.

A shard does not use other shards. It receives weights, updates its own membranes, spikes and multipliers, and
returns sums: Gram matrices, moments and counts. Their size does not depend on the number of samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import reduce

import numpy as np

from convexsnn.admm.spike_blocks import move_spikes
from convexsnn.admm.state import Split, Splitting
from convexsnn.admm.weights import Sums, Weights, feature_blocks, sums_of
from convexsnn.arrays import FloatArray, IntArray
from convexsnn.errors import ProblemFileError, ShapeError, SolverFailed
from convexsnn.problem.targets import TargetCode
from convexsnn.simulate import simulate

AT_ONCE = 1000  # samples per block, if each iteration starts from the true dynamics


@dataclass(frozen=True)
class Order:
    """Settings of one sweep.

    Attributes
    ----------
    blocks : tuple of int
        Hidden layers in the order of their updates; the number of hidden layers means the outputs.
    sweeps : int
        Number of passes over the blocks, with a multiplier step between them.
    multipliers : bool
        Whether the multipliers are updated.
    grams : tuple of bool
        For every layer and the readout, whether its Gram matrix is computed.
    """

    blocks: tuple[int, ...]
    sweeps: int
    multipliers: bool
    grams: tuple[bool, ...]


@dataclass(frozen=True)
class Batch:
    """Batch `number` of `batches`, as numbers from which every shard computes its samples."""

    seed: int
    iteration: int
    number: int
    batches: int
    samples: int

    def rows(self) -> IntArray:
        """Return the sorted samples; the batches of one iteration have every sample exactly once."""
        permutation = np.random.default_rng([self.seed, self.iteration]).permutation(self.samples)
        return np.sort(np.array_split(permutation, self.batches)[self.number])


@dataclass
class Reply:
    """The result of a sweep: sums over samples."""

    sums: list[Sums]
    samples: int
    lagrangian: float
    dynamics: float  # Σ ε² over all units, samples and steps
    missed: float  # Σ (a − 1{z >= θ})²
    readout: float  # Σ of the readout's squared residual
    entries: int  # number of membranes in the sum `dynamics`
    products: int  # matrix products of the box programs

    def plus(self, other: Reply) -> Reply:
        """Return the sums over the samples of both."""
        sums = [a.plus(b) for a, b in zip(self.sums, other.sums, strict=True)]
        rest = {
            f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self) if f.name != "sums"
        }
        return Reply(sums, **{**rest, "products": max(self.products, other.products)})

    @property
    def bytes(self) -> int:
        """Size of its arrays in bytes."""
        return sum(s.moment.nbytes + (0 if s.gram is None else s.gram.nbytes) for s in self.sums)


@dataclass
class Score:
    """The simulated score of weights: sums over samples."""

    samples: int
    right: float
    loss: float
    spikes: IntArray  # per layer
    entries: IntArray  # per layer: units · samples · steps

    def plus(self, other: Score) -> Score:
        """Return the sums over the samples of both."""
        return Score(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    @property
    def accuracy(self) -> float:
        """Share of samples that the simulated network classifies correctly."""
        return self.right / self.samples


@dataclass(eq=False)
class Variables:
    """The state of a shard between sweeps: z and a of every layer, outputs and multipliers."""

    membranes: list[FloatArray]
    spikes: list[FloatArray]
    outputs: FloatArray
    multipliers: FloatArray

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, np.ndarray], prefix: str = "") -> Variables:
        """Return the variables of a file; `prefix` is that of their names."""
        layers = range(sum(name.startswith(f"{prefix}membranes") for name in arrays))
        membranes, spikes = (
            [arrays[f"{prefix}{name}{k}"] for k in layers] for name in ("membranes", "spikes")
        )
        return cls(membranes, spikes, arrays[f"{prefix}outputs"], arrays[f"{prefix}multipliers"])

    def arrays(self, prefix: str = "") -> dict[str, np.ndarray]:
        """Return the arrays of a file, from which `of_arrays` makes the variables."""
        arrays = {f"{prefix}outputs": self.outputs, f"{prefix}multipliers": self.multipliers}
        arrays |= {f"{prefix}membranes{k}": z for k, z in enumerate(self.membranes)}
        return arrays | {f"{prefix}spikes{k}": a for k, a in enumerate(self.spikes)}

    def take(self, rows: IntArray) -> Variables:
        """Return copies for the samples `rows`."""
        return Variables(
            [z[rows] for z in self.membranes],
            [a[rows] for a in self.spikes],
            self.outputs[rows],
            self.multipliers[rows],
        )

    def put(self, rows: IntArray, other: Variables) -> Variables:
        """Return new variables in which the samples `rows` have the values of `other`."""
        result = self.take(np.arange(len(self.outputs)))
        for old, new in zip(result.membranes + result.spikes, other.membranes + other.spikes, strict=True):
            old[rows] = new
        result.outputs[rows], result.multipliers[rows] = other.outputs, other.multipliers
        return result


def check_variables(variables: Sequence[Variables | None], sizes: Sequence[int]) -> list[Variables]:
    """Return the variables, checked to belong to shards of `sizes` samples.

    Raises
    ------
    ProblemFileError
        The variables belong to other shards.
    """
    states = [state for state in variables if state is not None]
    counts = [len(state.outputs) for state in states]
    if counts != list(sizes):
        raise ProblemFileError(
            f"checkpoint: has variables of {len(counts)} shards, of {counts} samples; here are {len(sizes)}, "
            f"of {list(sizes)}: resume with the number of workers that wrote it"
        )
    return states


@dataclass(frozen=True, eq=False)
class Shard:
    """Data of some of the samples.

    Attributes
    ----------
    inputs : (n, T, d) array, in the precision of the computation
    encoded : (n, C) array
        Targets in the encoding of the loss; `targets` has them in the encoding of the problem.
    first : int
        Index of its first sample among all training samples; the shard has the rows first..first + n.
    restarts : bool
        Whether every sweep starts from the true dynamics, so that the shard has no state.
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
        contiguous = len(rows) == rows[-1] + 1 - rows[0]
        inputs = self.inputs[rows[0] : rows[-1] + 1] if contiguous else self.inputs[rows]
        splitting = self.splitting if penalty == 1.0 else self.splitting.scaled(penalty)
        return Split(splitting, inputs, self.encoded[rows], self.sample_weights[rows], weights)

    def sweep(
        self,
        variables: Variables | None,
        weights: Weights,
        order: Order,
        penalty: float = 1.0,
        batch: Batch | None = None,
    ) -> tuple[Variables | None, Reply | None]:
        """Move every block of a batch of samples once, in order; return new variables and the sums.

        The arguments are not changed, so that a lost sweep can be repeated.

        Raises
        ------
        SolverFailed
            A block has values that are not finite; the message names it.
        """
        local = self._local(batch)
        if not len(local):
            return variables, None
        if self.restarts:  # no state: process small blocks of samples, whose variables fit in the cache
            blocks = (local[first : first + AT_ONCE] for first in range(0, len(local), AT_ONCE))
            parts = (_sweep_blocks(self._split(weights, penalty, rows), order) for rows in blocks)
            return None, reduce(Reply.plus, parts)
        split = self._split(weights, penalty, local)
        if variables is not None:
            state = variables.take(local)  # copies
            split.membranes, split.spikes = state.membranes, state.spikes
            split.outputs = state.outputs
            split.multipliers = state.multipliers
            split.use(weights)
            if order.multipliers:
                split.step_multipliers()
        reply = _sweep_blocks(split, order)
        state = Variables(split.membranes, split.spikes, split.outputs, split.multipliers)
        all_samples = len(local) == len(self.inputs)
        return state if variables is None or all_samples else variables.put(local, state), reply

    def start(self, weights: Weights) -> Variables | None:
        """Return the variables of the true dynamics; None if the shard has no state."""
        if self.restarts:
            return None
        split = self._split(weights, 1.0, np.arange(len(self.inputs)))
        return Variables(split.membranes, split.spikes, split.outputs, split.multipliers)

    def inputs_sums(self, weights: Weights) -> Sums:
        """Return the Gram matrix of the first layer's features if they are only the inputs."""
        layer = weights.layers[0]
        no_spikes = np.zeros((len(self.inputs), self.inputs.shape[1], 0), self.inputs.dtype)
        blocks = (features for _, features in feature_blocks(layer, self.inputs, no_spikes))
        return reduce(Sums.plus, (sums_of(f, f[:, :0], layer.bias is not None) for f in blocks))

    def score(self, weights: Weights, network: object) -> Score:
        """Return the simulated score of weights; `network` is the architecture."""
        simulated = weights.network(network)  # type: ignore[arg-type]
        trace = simulate(simulated, self.inputs, dtype=self.inputs.dtype, copy=False)
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
        raise SolverFailed(f"admm: {block}: values are not finite")


def _sweep_blocks(split: Split, order: Order) -> Reply:
    """Move every block of a splitting, in order, `order.sweeps` times; return the sums."""
    products = 0
    for sweep in range(order.sweeps):
        if sweep and order.multipliers:
            split.step_multipliers()
        for k in order.blocks:
            try:
                products += _move(split, k)
            except ShapeError as error:  # a program refuses numbers that are not finite
                block = "outputs" if k == len(split.spikes) else f"layer {k + 1}"
                raise SolverFailed(f"admm: {block}: {error}") from error
    return _reply(split, order, products)


def _move(split: Split, k: int) -> int:
    """Move the outputs, or the spikes and then the membranes of a layer; return the number of products."""
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
    sums = [split.sums(k, gram) for k, gram in enumerate(order.grams)]
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
