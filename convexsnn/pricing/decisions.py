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
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import NamedTuple

import numpy as np

from convexsnn.arrays import BoolArray, FloatArray, IntArray
from convexsnn.dictionary.dictionary import Definition
from convexsnn.errors import UnsupportedError
from convexsnn.networks import Layer, LayerSpec

MOST_NUMBERS = 1 << 27  # in g: a gigabyte
EPSILON = 2.0**-53
TINIEST = -1074  # exponent of the smallest positive float


class ScaledRows(NamedTuple):
    """Rows in units of their own size, for proofs in floats; see `Decisions.scaled`.

    A weight is w = unit · v with |v_j| <= box. Row k is 2^−e_k times the row of the tree, so its membrane is
    2^e_k (g·v − h). All factors are powers of two: no digit is lost but those far below `error`.

    Attributes
    ----------
    g, h, margin, error : (n, N, d), (n, N), (n, N), (n, N) arrays
        Σ_j |g_j| + |h| + margin is at most 1, and above 1/(4 (d + 2)) if it is not 0. For all v in the box
        the row differs from the same row in exact arithmetic by at most `error`.
    exponent : (n, N) int array
        e.
    box : float
        In [1/2, 1).
    unit : float
        A power of two.
    """

    g: FloatArray
    h: FloatArray
    margin: FloatArray
    error: FloatArray
    exponent: IntArray
    box: float
    unit: float


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

    @cached_property
    def on_distinct_signals(self) -> tuple[Decisions, IntArray]:
        """The unit on its distinct inputs in a fixed order, and each sample's place among them, (n,)."""
        flat = self.inputs.reshape(self.samples, -1)
        _, first, which = np.unique(flat, axis=0, return_index=True, return_inverse=True)
        on_these = replace(self, g=self.g[first], h=self.h[first], inputs=self.inputs[first])
        return on_these, which.ravel()

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
    def scaled(self) -> ScaledRows:
        """All rows in units of their own size: in a proof every tolerance is relative to this size."""
        d, margin = self.dimension, self.definition.margin
        box, box_exponent = np.frexp(self.definition.weight_box)
        none = np.iinfo(np.int32).min // 2
        h = np.where(np.isfinite(self.h), self.h, 0.0)

        def exponents(values: FloatArray) -> IntArray:
            return np.where(values == 0, none, np.frexp(values)[1])

        largest = np.maximum(exponents(np.abs(self.g).max(axis=2, initial=0.0)) + box_exponent, exponents(h))
        largest = np.maximum(largest, exponents(np.array(margin)))
        e = np.where(largest > none // 2, largest, 0) + (d + 1).bit_length()
        g = np.ldexp(self.g, (box_exponent - e)[..., None])
        scaled_h = np.where(np.isfinite(self.h), np.ldexp(h, -e), -np.inf)
        return ScaledRows(
            g,
            scaled_h,
            np.ldexp(np.full(e.shape, margin), -e),
            self._errors(e, int(box_exponent)),
            e.astype(np.int64),
            float(box),
            float(np.ldexp(1.0, box_exponent)),
        )

    def _errors(self, e: IntArray, box_exponent: int) -> FloatArray:
        """Return a bound on the rounding in the rows, as `ScaledRows.error`.

        A row is a sum over the steps before it, whose terms may cancel. So its rounding is relative to the
        largest partial sum, and this is that of the same unit on |inputs|, or of the inputs' plain sum.
        """
        steps, d = self.inputs.shape[1], self.dimension
        sums = np.zeros((self.samples, steps, d))
        neuron, low = self.layer.neuron.unit(0), np.abs(self.h[np.isfinite(self.h)]).max(initial=0.0)
        for outcome in (False, True):
            spikes = np.full((self.samples, steps), outcome)
            seen = np.abs(self.layer.unit_inputs(self.inputs, spikes[..., None]))
            g, h = neuron.affine_rows(seen, spikes)
            plain = neuron.first_rows(seen, spikes)[0].cumsum(axis=1)
            sums[..., : plain.shape[2]] = np.maximum(sums[..., : plain.shape[2]], plain)
            sums, low = np.maximum(sums, np.abs(g)), max(low, float(np.abs(h).max(initial=0.0)))
        low += abs(float(neuron.threshold))
        last = np.log2(np.arange(1, 2**self.events)).astype(np.int64)  # event of every node
        step = np.array([t for t, _ in events_of(steps, self.definition)])[last]
        rounding = 4.0 * (step + 2) * EPSILON
        with np.errstate(over="ignore"):
            weighted = np.ldexp(sums.sum(axis=2)[:, step], box_exponent - e)
            error = rounding * (weighted + np.ldexp(low, -e))
            error += (steps - 1) * d * np.ldexp(1.0, TINIEST + box_exponent - e) + (d + 2) * 2.0**TINIEST
        return error

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

    def path_rows(self, nodes: IntArray) -> list[tuple[int, int, bool]]:
        """Return (sample, node, fires) of all rows on the paths to some nodes (n,), one of each sample."""
        rows = []
        for sample, node in enumerate(nodes.tolist()):
            way = []
            while node:
                fires, node = node % 2 == 0, (node - 1) // 2
                if self.h[sample, node] > -np.inf:
                    way.append((sample, node, fires))
            rows += way[::-1]
        return rows

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
