"""The decisions of one unit as inequalities g·w >= h: one for each event of each sample and spike history.

An event is a spike, or a membrane readout 1{v >= 0}. Sample i has the same E events for all spikes. The
inequality of an event depends on the spikes before it. So a sample is a binary tree of depth E, whose node k
has the children 2k + 1 (silent) and 2k + 2 (fires). Weights w determine one path down this tree.

    robust, margin ε   fires: g·w >= h + ε      silent: g·w <= h − ε
    closed             fires: g·w >= h          silent: g·w <  h

All proofs about all weights use these trees. The rows come from the neuron's own `affine_rows` and
`readout_rows`, so a new neuron needs no change here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np

from convexsnn.arrays import BoolArray, FloatArray, IntArray
from convexsnn.dictionary.dictionary import Definition
from convexsnn.errors import UnsupportedError
from convexsnn.networks import Layer, LayerSpec

MOST_NUMBERS = 1 << 27  # in g: a gigabyte


@dataclass(frozen=True, eq=False)
class Decisions:
    """The decision trees of one unit on n distinct samples.

    Attributes
    ----------
    g, h : (n, 2^E − 1, d), (n, 2^E − 1) arrays
        Row of every node. ``h = -inf`` where the event happens for all weights.
    reads : (E,) int array
        Supervised row of its sample that an event decides, in 0..S-1; −1 for one that is not read out.
    definition : Definition
    layer : Layer
        A unit of this architecture with all weights 0; `layer.with_unit_weights` makes witnesses from it.
    inputs : (n, T, d') array
        Inputs of the unit.
    below : tuple of Layer
        The hidden layers that produce these inputs as spikes; empty if the inputs are the data.
    width : int
        Largest number of units that share these layers.
    """

    g: FloatArray
    h: FloatArray
    reads: IntArray
    definition: Definition
    layer: Layer
    inputs: FloatArray
    below: tuple[Layer, ...] = ()
    width: int = 1

    @property
    def samples(self) -> int:
        """N."""
        return len(self.g)

    @property
    def events(self) -> int:
        """E."""
        return len(self.reads)

    @property
    def rows_per_sample(self) -> int:
        """S: 1, or T where every step is supervised."""
        return int(self.reads.max()) + 1

    @property
    def dimension(self) -> int:
        """Number of trained weights of the unit."""
        return self.g.shape[2]

    def patterns(self, leaves: IntArray) -> np.ndarray:
        """Return the readout on the paths to some leaves (..., n): (..., n·S) bool."""
        bits = np.zeros((*leaves.shape, self.rows_per_sample), bool)
        node = leaves.copy()
        for event in range(self.events - 1, -1, -1):
            if self.reads[event] >= 0:
                bits[..., self.reads[event]] = node % 2 == 0
            node = (node - 1) // 2
        return bits.reshape(*leaves.shape[:-1], self.samples * self.rows_per_sample)

    @cached_property
    def node_reads(self) -> IntArray:
        """`reads` of the event at every node, (2^E − 1,)."""
        return self.reads.astype(np.int64)[np.log2(np.arange(1, 2**self.events)).astype(np.int64)]

    @cached_property
    def sizes(self) -> FloatArray:
        """Largest |g·w| + |h| in the weight box, (n, 2^E − 1); rounding is relative to it."""
        h = np.where(np.isfinite(self.h), np.abs(self.h), 0.0)
        return self.definition.weight_box * np.abs(self.g).sum(axis=2) + h

    def path(self, leaves: IntArray) -> tuple[FloatArray, FloatArray, np.ndarray]:
        """Return g (n, E, d), h (n, E) and outcomes (n, E) of the events on the paths to leaves (n,)."""
        sample = np.arange(self.samples)
        node, nodes, outcomes = leaves.copy(), [], []
        for _ in range(self.events):
            outcomes.append(node % 2 == 0)
            node = (node - 1) // 2
            nodes.append(node)
        path, fires = np.stack(nodes[::-1], axis=1), np.stack(outcomes[::-1], axis=1)
        return self.g[sample[:, None], path], self.h[sample[:, None], path], fires

    def rows(self, leaves: IntArray) -> tuple[FloatArray, FloatArray, BoolArray, IntArray]:
        """Return the cell of leaves (n,) as rows a·w >= b, without the margin.

        Returns a (r, d), b (r,), whether the event of a row fires (r,), and its number sample · E + event
        (r,).
        """
        g, h, fires = self.path(leaves)
        g, h, fires = g.reshape(-1, g.shape[2]), h.ravel(), fires.ravel()
        real = np.flatnonzero(np.isfinite(h))
        sign = np.where(fires[real], 1.0, -1.0)
        return sign[:, None] * g[real], sign * h[real], fires[real], real


def unit_layer(spec: LayerSpec, inputs: int, point: Mapping[str, float]) -> Layer:
    """Return one unit of an architecture with all weights 0, at one point of its parameter grids."""
    neuron = spec.make_neuron(**{name: np.array([value]) for name, value in point.items()})
    return spec.blank(1, inputs, neuron)


def events_of(steps: int, definition: Definition) -> list[tuple[int, bool]]:
    """Return a sample's events in their order: the step, and whether it is a membrane readout."""
    first_read = steps - 1 if definition.supervise == "last" else 0
    kinds = (False, True) if definition.reads.of_membrane else (False,)
    return [(t, readout) for t in range(steps) for readout in kinds if not readout or t >= first_read]


def decisions(
    inputs: FloatArray,
    layer: Layer,
    definition: Definition,
    below: tuple[Layer, ...] = (),
    width: int = 1,
) -> Decisions:
    """Return the decision trees of a layer's single unit on inputs (n, T, d).

    Parameters
    ----------
    below, width
        As in `Decisions`.

    Raises
    ------
    UnsupportedError
        The trees are too large for memory: they double with every step.
    """
    n, steps, _ = inputs.shape
    events = events_of(steps, definition)
    d = layer.unit_weights().shape[1]
    if len(events) > 40 or n * d * 2 ** len(events) > MOST_NUMBERS:
        raise UnsupportedError(
            f"dictionary: {n} samples × {steps} steps have decision trees of {n} × 2^{len(events)} rows of "
            f"{d} weights, at most {MOST_NUMBERS} numbers fit; use fewer steps, or a sampled source"
        )
    g, h = np.empty((n, 2 ** len(events) - 1, d)), np.empty((n, 2 ** len(events) - 1))
    histories = np.zeros((1, steps), bool)  # spikes on the path to every node of the present level
    neuron = layer.neuron.unit(0)
    for level, (t, readout) in enumerate(events):
        many = len(histories)
        rows = neuron.readout_rows if readout else neuron.affine_rows
        for k, spikes in enumerate(histories):
            unit_spikes = np.broadcast_to(spikes, (n, steps))[:, : t + 1]
            seen = layer.unit_inputs(inputs[:, : t + 1], unit_spikes[..., None])
            node = many - 1 + k
            all_g, all_h = rows(seen, unit_spikes)
            g[:, node], h[:, node] = all_g[:, t], all_h[:, t]
        histories = np.repeat(histories, 2, axis=0)
        if not readout:
            histories[1::2, t] = True
        assert len(histories) == 2 ** (level + 1)
    reads = np.full(len(events), -1)
    first = steps - 1 if definition.supervise == "last" else 0
    for k, (t, readout) in enumerate(events):
        if t >= first and readout == definition.reads.of_membrane:
            reads[k] = t - first
    return Decisions(g, h, reads, definition, layer, inputs, below, width)


def decisions_on(
    samples: FloatArray, spec: LayerSpec, definition: Definition, below: tuple[Layer, ...] = ()
) -> list[Decisions]:
    """Return the decision trees of a unit for all values of its grids, on distinct samples (n, T, d).

    With hidden layers `below`, the samples are their spikes. With one step, grid values that give the same
    trees count once; for example, all leaks give the same trees.
    """
    grids = {name: sorted(set(grid)) for name, grid in spec.grids().items()}
    trees: list[Decisions] = []
    for values in product(*grids.values()):
        unit = unit_layer(spec, samples.shape[2], dict(zip(grids, values, strict=True)))
        tree = decisions(samples, unit, definition, below, spec.width)
        if samples.shape[1] > 1 or not any(_same(tree, other) for other in trees):
            trees.append(tree)
    return trees


def _same(a: Decisions, b: Decisions) -> bool:
    return np.array_equal(a.h, b.h) and np.array_equal(a.g, b.g)
