"""One unit's decisions as inequalities: g·w >= h for every event of every sample under every history.

An event is a spike, or a membrane readout 1{v >= 0}. Sample i goes through the same E events whatever its
spikes; which inequality an event is depends on the spikes before it. So a sample is a binary tree of depth
E whose node k has the children 2k + 1 (silent) and 2k + 2 (fires), and weights w take one path down it.

    robust, margin ε   fires: g·w >= h + ε      silent: g·w <= h − ε
    closed             fires: g·w >= h          silent: g·w <  h

Everything that proves something about all weights walks these trees; the rows come from the neuron's own
`affine_rows` and `readout_rows`, so that a new neuron needs nothing here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np

from convexsnn.arrays import BoolArray, FloatArray, IntArray
from convexsnn.dictionary.dictionary import Definition
from convexsnn.distinct import distinct_samples
from convexsnn.errors import UnsupportedError
from convexsnn.networks import Layer, LayerSpec

MOST_NUMBERS = 1 << 27  # of all g together: a gigabyte


@dataclass(frozen=True, eq=False)
class Decisions:
    """The decision trees of one unit on n distinct samples.

    Attributes
    ----------
    g, h : (n, 2^E − 1, d), (n, 2^E − 1) arrays
        Row of every node. ``h = -inf`` where the event happens whatever the weights.
    reads : (E,) int array
        Which supervised row of its sample an event is, in 0..S-1; −1 for one that is not read out.
    definition : Definition
    layer : Layer
        A unit of this architecture with all weights 0: `layer.with_unit_weights` makes witnesses.
    inputs : (n, T, d') array
        What the unit sees.
    below : tuple of Layer
        The hidden layers whose spikes these inputs are; none where they are the data.
    width : int
        How many units may share these layers.
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
        """Return what is read out on the paths to some leaves (..., n): (..., n·S) bool."""
        found = np.zeros((*leaves.shape, self.rows_per_sample), bool)
        node = leaves.copy()
        for event in range(self.events - 1, -1, -1):
            if self.reads[event] >= 0:
                found[..., self.reads[event]] = node % 2 == 0
            node = (node - 1) // 2
        return found.reshape(*leaves.shape[:-1], self.samples * self.rows_per_sample)

    @cached_property
    def node_reads(self) -> IntArray:
        """`reads` of the event at every node, (2^E − 1,)."""
        return self.reads.astype(np.int64)[np.log2(np.arange(1, 2**self.events)).astype(np.int64)]

    @cached_property
    def sizes(self) -> FloatArray:
        """The most that |g·w| + |h| can be in the weight box, (n, 2^E − 1): what rounding is measured by."""
        h = np.where(np.isfinite(self.h), np.abs(self.h), 0.0)
        return self.definition.weight_box * np.abs(self.g).sum(axis=2) + h

    def path(self, leaves: IntArray) -> tuple[FloatArray, FloatArray, np.ndarray]:
        """Return g (n, E, d), h (n, E) and outcomes (n, E) of the events on the way to leaves (n,)."""
        sample = np.arange(self.samples)
        node, nodes, outcomes = leaves.copy(), [], []
        for _ in range(self.events):
            outcomes.append(node % 2 == 0)
            node = (node - 1) // 2
            nodes.append(node)
        way, fires = np.stack(nodes[::-1], axis=1), np.stack(outcomes[::-1], axis=1)
        return self.g[sample[:, None], way], self.h[sample[:, None], way], fires

    def rows(self, leaves: IntArray) -> tuple[FloatArray, FloatArray, BoolArray, IntArray]:
        """Return the cell of leaves (n,) as rows a·w >= b, the margin apart.

        Returns a (r, d), b (r,), whether a row's event fires, and which event it is: sample · E + event.
        """
        g, h, fires = self.path(leaves)
        g, h, fires = g.reshape(-1, g.shape[2]), h.ravel(), fires.ravel()
        real = np.flatnonzero(np.isfinite(h))
        sign = np.where(fires[real], 1.0, -1.0)
        return sign[:, None] * g[real], sign * h[real], fires[real], real


def unit_layer(spec: LayerSpec, inputs: int, point: Mapping[str, float]) -> Layer:
    """Return one unit of an architecture with all weights 0, at a point of the grids of its parameters."""
    neuron = spec.make_neuron(**{name: np.array([value]) for name, value in point.items()})
    bias = np.zeros(1) if spec.bias else None
    recurrent = np.zeros((1, 1)) if spec.recurrent else None
    return Layer(np.zeros((1, inputs)), neuron, bias, recurrent)


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
        As of `Decisions`.

    Raises
    ------
    UnsupportedError
        The trees would not fit in memory: they double with every step.
    """
    n, steps, _ = inputs.shape
    events = events_of(steps, definition)
    d = layer.unit_weights().shape[1]
    if len(events) > 40 or n * d * 2 ** len(events) > MOST_NUMBERS:
        raise UnsupportedError(
            f"dictionary: {n} samples × {steps} steps have decision trees of {n} × 2^{len(events)} rows of "
            f"{d} weights, at most {MOST_NUMBERS} numbers are kept; use fewer steps, or a sampled source"
        )
    g, h = np.empty((n, 2 ** len(events) - 1, d)), np.empty((n, 2 ** len(events) - 1))
    histories = np.zeros((1, steps), bool)  # spikes on the way to every node of the present level
    neuron = layer.neuron.unit(0)
    for level, (t, readout) in enumerate(events):
        many = len(histories)
        rows = neuron.readout_rows if readout else neuron.affine_rows
        for k, spikes in enumerate(histories):
            own = np.broadcast_to(spikes, (n, steps))
            seen = layer.unit_inputs(inputs[:, : t + 1], own[:, : t + 1, None])
            node = many - 1 + k
            all_g, all_h = rows(seen, own[:, : t + 1])
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


def unit_decisions(
    inputs: FloatArray, spec: LayerSpec, definition: Definition, below: tuple[Layer, ...] = ()
) -> list[Decisions]:
    """Return the decision trees of a unit for all values of its grids, on the distinct samples of `inputs`.

    Where there is one step, values that make the same trees count once, as all leaks do. With hidden layers
    `below`, whose spikes on the distinct samples the inputs are, on all of them.
    """
    samples = inputs if below else distinct_samples(inputs).samples
    return decisions_on(samples, spec, definition, below)


def decisions_on(
    samples: FloatArray, spec: LayerSpec, definition: Definition, below: tuple[Layer, ...] = ()
) -> list[Decisions]:
    """Return what `unit_decisions` does, on samples that are distinct already."""
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
