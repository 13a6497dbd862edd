"""Where hidden weights come from: random draws, pairs of samples, a reservoir, a file ([U26] and more).

A layer's weights are drawn as one row a unit, in the order of `Layer.unit_weights`: inputs, bias,
neighbours, own last spike. Every draw stays in the weight box. Layers whose spikes feed others are
redrawn, unit by unit, until each membrane keeps the definition's margin.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from convexsnn.arrays import BoolArray, FloatArray, read_npz
from convexsnn.dictionary.reservoir import tune_to_criticality
from convexsnn.dictionary.spikes import Definition, distinct_samples, spike_margins
from convexsnn.errors import LoweringError, ProblemFileError
from convexsnn.networks import Layer, LayerSpec, NetworkSpec, Subnetwork, architecture_mismatch
from convexsnn.networks.files import layers_from_arrays
from convexsnn.simulate import run_layer

ROUNDS = 100
DEFAULT_COUNT = 1000


@dataclass(frozen=True)
class Draw:
    """How to draw: source, variant, scales, and the generator that everything random comes from."""

    source: str
    rng: np.random.Generator
    variant: str = "standard"
    scales: tuple[float, ...] = (1.0,)


def _empty_layer(spec: LayerSpec, units: int, inputs: int, rng: np.random.Generator) -> Layer:
    neuron = spec.drawn_neuron(units, rng)
    bias = np.zeros(units) if spec.bias else None
    recurrent = np.zeros((units, units)) if spec.recurrent else None
    return Layer(np.zeros((units, inputs)), neuron, bias, recurrent)


def _gaussian(layer: Layer, draw: Draw) -> FloatArray:
    """Draw N(0, 1) rows; the recurrent part is divided by √m, so that its sum does not grow with m."""
    units, length = layer.unit_weights().shape
    rows = draw.rng.standard_normal((units, length))
    if draw.variant == "orthogonal":  # orthonormal rows, in blocks of at most `length`
        blocks = [np.linalg.qr(rows[k : k + length].T)[0].T for k in range(0, units, length)]
        rows = np.concatenate(blocks)
    elif draw.variant == "normalised":
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    if layer.recurrent is not None:
        start = layer.weights.shape[1] + (layer.bias is not None)
        rows[:, start : start + units] /= np.sqrt(units)
    return rows * draw.rng.choice(np.asarray(draw.scales), units)[:, None]


def _pairs(
    layer: Layer, draw: Draw, signal: FloatArray, labels: FloatArray, membrane: bool, every_step: bool
) -> FloatArray:
    """Weights along the difference of two samples in the inputs as the membrane sums them, a level between.

    The level is that of the unit's rows without earlier spikes: the threshold, or 0 for a `membrane`
    readout. With a bias the membranes of the two
    samples differ by the scale; without one the scale is what puts the level between them.
    """
    rows = _gaussian(layer, draw)
    n, steps, d = signal.shape
    for j in range(layer.units):
        i = int(draw.rng.integers(n))
        others = np.flatnonzero((labels != labels[i]).any(axis=1))
        k = int(draw.rng.choice(others)) if len(others) else int(draw.rng.integers(n))
        t = int(draw.rng.integers(steps)) if every_step else steps - 1
        pair = np.concatenate([signal[[i, k]], np.ones((2, steps, 1))], axis=2)
        unit = layer.neuron.unit(j)
        g, h = (unit.readout_rows if membrane else unit.affine_rows)(pair, np.zeros((2, steps), bool))
        filtered, level = g[:, t], float(h[0, t])
        difference = filtered[0, :d] - filtered[1, :d]
        length = float(difference @ difference)
        share = draw.rng.uniform(0.25, 0.75)
        between = share * filtered[0, :d] + (1 - share) * filtered[1, :d]
        if length == 0:
            continue  # the same sample twice: the Gaussian row stays
        if layer.bias is not None:
            rows[j, :d] = difference * float(draw.rng.choice(np.asarray(draw.scales))) / length
            rows[j, d] = (level - rows[j, :d] @ between) / filtered[0, d]
        else:
            height = float(difference @ between)
            rows[j, :d] = difference * (level / height if level and height else 1.0)
    return rows


def _drawn(
    spec: LayerSpec,
    units: int,
    signal: FloatArray,
    labels: FloatArray,
    draw: Draw,
    definition: Definition,
    hidden: bool = False,
) -> Layer:
    layer = _empty_layer(spec, units, signal.shape[2], draw.rng)
    if draw.source == "pairs":
        membrane = definition.reads.of_membrane and not hidden
        rows = _pairs(layer, draw, signal, labels, membrane, hidden or definition.supervise == "all")
    else:
        rows = _gaussian(layer, draw)
    return layer.with_unit_weights(np.clip(rows, -definition.weight_box, definition.weight_box))


def _settled(
    redraw: Callable[[], Layer], signal: FloatArray, definition: Definition, as_a_whole: bool
) -> tuple[Layer, BoolArray]:
    """Draw a layer, then redraw the units (or all) while some come too close to their threshold."""
    layer, best = redraw(), -1.0
    for _ in range(ROUNDS):
        membranes, spikes = run_layer(layer, signal)
        assert membranes is not None
        margins = spike_margins(layer, membranes)
        best = max(best, float(margins.min()))
        close = np.flatnonzero(margins < definition.margin)
        if not len(close):
            return layer, spikes
        if as_a_whole:
            layer = redraw()
            continue
        fresh, rows = redraw(), layer.unit_weights().copy()
        rows[close] = fresh.unit_weights()[close]
        layer = layer.with_unit_weights(rows)
    raise LoweringError(
        f"dictionary.margin: {definition.margin:g} is out of reach for a hidden layer of {layer.units} units "
        f"(best of {ROUNDS} rounds: {best:.3g}); lower it"
    )


def draw_subnetworks(
    inputs: FloatArray,
    labels: FloatArray,
    network: NetworkSpec,
    definition: Definition,
    *,
    source: str,
    count: int | None = None,
    seed: int = 0,
    variant: str = "standard",
    scale: float | Sequence[float] = 1.0,
) -> tuple[Subnetwork, ...]:
    """Draw whole subnetworks until they have `count` last units.

    Parameters
    ----------
    inputs : (n, T, d) array
    labels : (n, k) array
        Samples that differ in it make a pair (source "pairs").
    count : int, optional
        If not given, 1000 or the network's own number if that is larger; for a reservoir its own number.

    Returns
    -------
    tuple of Subnetwork
        One stack of `width` last units each; a single layer without recurrence comes as one stack, since
        its units do not meet.

    Raises
    ------
    LoweringError
        The margin is out of reach, or the source needs a recurrent layer.
    """
    scales = tuple(float(s) for s in np.atleast_1d(np.asarray(scale, dtype=float)))
    draw = Draw(source, np.random.default_rng(seed), variant, scales)
    first = np.unique(distinct_samples(inputs)[1], return_index=True)[1]
    samples, labels = inputs[first], labels[first]
    last = network.layers[-1]
    own = network.subnetworks * last.width
    wanted = count or (own if source == "reservoir" else max(own, DEFAULT_COUNT))
    stacks = -(-wanted // last.width)
    if source == "reservoir" and not any(layer.recurrent for layer in network.layers):
        raise LoweringError("dictionary.source: 'reservoir' needs a layer with recurrent = true")
    if len(network.layers) == 1 and not last.recurrent:
        return (Subnetwork((_drawn(last, stacks * last.width, samples, labels, draw, definition),)),)
    return tuple(_stack(network, samples, labels, draw, definition) for _ in range(stacks))


def _stack(
    network: NetworkSpec, samples: FloatArray, labels: FloatArray, draw: Draw, definition: Definition
) -> Subnetwork:
    layers: list[Layer] = []
    signal = samples
    for spec in network.layers:

        def redraw(spec: LayerSpec = spec, signal: FloatArray = signal) -> Layer:
            hidden = spec is not network.layers[-1]
            layer = _drawn(spec, spec.width, signal, labels, draw, definition, hidden)
            if draw.source == "reservoir" and layer.recurrent is not None:
                layer = tune_to_criticality(layer, signal, draw.rng, definition.weight_box)
            return layer

        if spec is network.layers[-1] and not spec.recurrent:
            layers.append(redraw())
            break
        # a reservoir is tuned as a whole: rows of several would not have the branching ratio of any
        layer, spikes = _settled(redraw, signal, definition, draw.source == "reservoir")
        layers.append(layer)
        signal = spikes.astype(np.float64)
    return Subnetwork(tuple(layers))


def subnetworks_from_file(
    path: Path, network: NetworkSpec, inputs: int, weight_box: float
) -> tuple[Subnetwork, ...]:
    """Read hidden layers from an ``.npz`` and check that they are of the problem's architecture.

    Raises
    ------
    ProblemFileError
        The file cannot be read.
    LoweringError
        Another architecture than the network's, or a weight outside the box.
    """
    try:
        layers = layers_from_arrays(read_npz(path))
    except ProblemFileError as error:
        raise ProblemFileError(f"dictionary.file: {path}: {error}") from error
    if reason := architecture_mismatch(network, layers, inputs):
        raise LoweringError(f"dictionary.file: {path}: {reason}")
    for k, layer in enumerate(layers, start=1):
        largest = float(np.abs(layer.unit_weights()).max())
        if largest > weight_box:
            raise LoweringError(
                f"dictionary.weight_box: {weight_box:g}, but layer {k} of {path} has a weight of {largest:g}"
            )
    return (Subnetwork(layers),)
