"""Subnetworks that a source draws layer by layer, or reads from a file ([U26]).

A layer's weights are drawn as one row per unit, in the order of `Layer.unit_weights`: inputs, bias,
neighbours, own last spike. All weights are clipped to the weight box. Units of a layer that feeds another
layer are redrawn until each membrane keeps the definition's margin.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from convexsnn.arrays import BoolArray, FloatArray
from convexsnn.dictionary.dictionary import Definition, spike_margins
from convexsnn.dictionary.sources import Draw, Source, get_source
from convexsnn.distinct import DistinctSamples, distinct_samples
from convexsnn.errors import LoweringError, ProblemFileError, ShapeError
from convexsnn.networks import Layer, LayerSpec, NetworkSpec, Subnetwork, architecture_mismatch
from convexsnn.simulate import run_layer

ROUNDS = 100  # of redrawing a hidden layer


def _drawn(
    source: Source,
    spec: LayerSpec,
    units: int,
    signal: FloatArray,
    draw: Draw,
    definition: Definition,
    hidden: bool = False,
) -> Layer:
    layer = spec.blank(units, signal.shape[2], spec.drawn_neuron(units, draw.rng))
    draw = replace(
        draw,
        signal=signal,
        reads_membrane=definition.reads.of_membrane and not hidden,
        every_step=hidden or definition.supervise == "all",
    )
    rows = source.weights(layer, draw)
    if np.shape(rows) != layer.unit_weights().shape:
        raise ShapeError(
            f"source {source.name!r}: weights of shape {layer.unit_weights().shape} expected for a layer of "
            f"{units} units, got {np.shape(rows)}"
        )
    layer = layer.with_unit_weights(np.clip(rows, -definition.weight_box, definition.weight_box))
    return source.tuned(layer, draw)


def _settled(
    redraw: Callable[[], Layer], signal: FloatArray, definition: Definition, as_a_whole: bool
) -> tuple[Layer, BoolArray]:
    """Draw a layer, then redraw the units that come too close to their threshold (or all units)."""
    layer, best = redraw(), -1.0
    for _ in range(ROUNDS):
        membranes, spikes = run_layer(layer, signal)
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
    inputs: FloatArray | DistinctSamples,
    labels: FloatArray,
    network: NetworkSpec,
    definition: Definition,
    *,
    source: str | Source,
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
        Targets; two samples with different targets make a pair (source "pairs").
    count : int, optional
        By default `Source.default_count` of the network's number of last units.

    Returns
    -------
    tuple of Subnetwork
        Stacks of `width` last units each. A single layer without recurrence is one stack, since its units
        do not interact.

    Raises
    ------
    LoweringError
        The margin cannot be reached, or the source needs a recurrent layer.
    UnsupportedError
        The source does not draw.
    """
    entry = get_source(source) if isinstance(source, str) else source
    scales = tuple(float(s) for s in np.atleast_1d(np.asarray(scale, dtype=float)))
    distinct, rng = distinct_samples(inputs), np.random.default_rng(seed)
    samples, targets = distinct.samples, labels[distinct.first]
    draw = Draw(rng, variant, scales, samples, targets, False, False, definition.weight_box)
    last = network.layers[-1]
    stacks = -(-(count or entry.default_count(network.subnetworks * last.width)) // last.width)
    drawer = entry.drawer
    if drawer.needs_recurrence and not any(layer.recurrent for layer in network.layers):
        raise LoweringError(f"dictionary.source: {drawer.name!r} needs a layer with recurrent = true")
    if len(network.layers) == 1 and not last.recurrent:
        layer = _drawn(drawer, last, stacks * last.width, samples, draw, definition)
        return (Subnetwork((layer,)),)
    return tuple(_stack(drawer, network, samples, draw, definition) for _ in range(stacks))


def _stack(
    source: Source, network: NetworkSpec, samples: FloatArray, draw: Draw, definition: Definition
) -> Subnetwork:
    layers: list[Layer] = []
    signal = samples
    for spec in network.layers:

        def redraw(spec: LayerSpec = spec, signal: FloatArray = signal) -> Layer:
            hidden = spec is not network.layers[-1]
            return _drawn(source, spec, spec.width, signal, draw, definition, hidden)

        if spec is network.layers[-1] and not spec.recurrent:
            layers.append(redraw())
            break
        layer, spikes = _settled(redraw, signal, definition, source.drawn_as_a_whole)
        layers.append(layer)
        signal = spikes.astype(np.float64)
    return Subnetwork(tuple(layers))


def subnetworks_from_file(
    path: Path, network: NetworkSpec, inputs: int, weight_box: float, source: str | Source = "file"
) -> tuple[Subnetwork, ...]:
    """Read hidden layers from a file by a source, and check that they have the problem's architecture.

    Raises
    ------
    ProblemFileError
        The file cannot be read.
    LoweringError
        Another architecture than the network's, or a weight outside the box.
    """
    try:
        layers = (get_source(source) if isinstance(source, str) else source).read(path)
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
