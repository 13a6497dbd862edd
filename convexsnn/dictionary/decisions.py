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

from dataclasses import dataclass, replace

import numpy as np

from convexsnn.arrays import FloatArray, IntArray
from convexsnn.dictionary.spikes import Definition, distinct_samples
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
    """

    g: FloatArray
    h: FloatArray
    reads: IntArray
    definition: Definition
    layer: Layer

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


def unit_layer(spec: LayerSpec, inputs: int, leak: float) -> Layer:
    """Return one unit of an architecture with all weights 0."""
    neuron = spec.make_neuron(np.array([leak]), np.zeros(1))
    bias = np.zeros(1) if spec.bias else None
    recurrent = np.zeros((1, 1)) if spec.recurrent else None
    return Layer(np.zeros((1, inputs)), neuron, bias, recurrent)


def decisions(inputs: FloatArray, layer: Layer, definition: Definition) -> Decisions:
    """Return the decision trees of a layer's single unit on distinct samples (n, T, d).

    Raises
    ------
    UnsupportedError
        The trees would not fit in memory: they double with every step.
    """
    n, steps, _ = inputs.shape
    read = [True] * steps if definition.supervise == "all" else [False] * (steps - 1) + [True]
    membrane = definition.readout == "membrane"
    events = [(t, kind) for t in range(steps) for kind in ("spike", "read")[: 1 + (membrane and read[t])]]
    d = layer.unit_weights().shape[1]
    if len(events) > 40 or n * d * 2 ** len(events) > MOST_NUMBERS:
        raise UnsupportedError(
            f"dictionary: {n} samples × {steps} steps have decision trees of {n} × 2^{len(events)} rows of "
            f"{d} weights, at most {MOST_NUMBERS} numbers are kept; use fewer steps, or a sampled source"
        )
    g, h = np.empty((n, 2 ** len(events) - 1, d)), np.empty((n, 2 ** len(events) - 1))
    histories = np.zeros((1, steps), bool)  # spikes on the way to every node of the present level
    neuron = layer.neuron.unit(0)
    for level, (t, kind) in enumerate(events):
        many = len(histories)
        rows = neuron.affine_rows if kind == "spike" else neuron.readout_rows
        for k, spikes in enumerate(histories):
            own = np.broadcast_to(spikes, (n, steps))
            seen = layer.unit_inputs(inputs[:, : t + 1], own[:, : t + 1, None])
            node = many - 1 + k
            all_g, all_h = rows(seen, own[:, : t + 1])
            g[:, node], h[:, node] = all_g[:, t], all_h[:, t]
        histories = np.repeat(histories, 2, axis=0)
        if kind == "spike":
            histories[1::2, t] = True
        assert len(histories) == 2 ** (level + 1)
    reads = np.full(len(events), -1)
    supervised = [k for k, (t, kind) in enumerate(events) if read[t] and (kind == "read") == membrane]
    reads[supervised] = np.arange(len(supervised))
    return Decisions(g, h, reads, definition, replace(layer))


def unit_decisions(inputs: FloatArray, spec: LayerSpec, definition: Definition) -> list[Decisions]:
    """Return the decision trees of a unit for every leak of its grid, on the distinct samples of `inputs`."""
    samples, _ = distinct_samples(inputs)
    leaks = sorted(set(spec.leak)) if spec.neuron == "lif" and inputs.shape[1] > 1 else [spec.leak[0]]
    return [decisions(samples, unit_layer(spec, inputs.shape[2], leak), definition) for leak in leaks]
