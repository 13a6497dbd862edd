"""The comparison of layers with an architecture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from convexsnn.arrays import FloatArray
from convexsnn.networks.layers import Layer, LayerSpec
from convexsnn.networks.network import NetworkSpec, windows
from convexsnn.networks.parameters import GRID, SHARED


def architecture_mismatch(spec: NetworkSpec, layers: Sequence[Layer], inputs: int) -> str | None:
    """Return the first difference between layers and an architecture as text, or None if there is none.

    A subnetwork is a group of units that weights connect. Any number of subnetworks is accepted. None
    of them may have more units in a layer than the architecture's width.
    """
    if len(layers) != len(spec.layers):
        return f"has {len(layers)} layers, the network {len(spec.layers)}"
    layer_windows = windows(spec, inputs)
    for k, (layer, layer_spec) in enumerate(zip(layers, spec.layers, strict=True), start=1):
        pairs: list[tuple[str, Any, Any]] = [
            ("neuron", layer.neuron.kind, layer_spec.neuron),
            ("bias", layer.bias is not None, layer_spec.bias),
            ("recurrent", layer.recurrent is not None, layer_spec.recurrent),
            ("window", layer.window, layer_windows[k - 1]),
        ]
        if k == 1:
            pairs.append(("inputs", layer.inputs, inputs))
        if layer.neuron.kind == layer_spec.neuron:
            pairs += _parameters(layer, layer_spec)
        for name, have, want in pairs:
            if have != want:
                return f"layer {k} has {name} {have!r}, the network {want!r}"
    for k, (largest, layer_spec) in enumerate(zip(_subnetwork_widths(layers), spec.layers, strict=True)):
        window = layer_windows[k]
        most = layer_spec.width * (1 if window is None else window.positions)
        if largest > most:
            return f"layer {k + 1} has {largest} connected units, the network a width of {most}"
    return None


def _parameters(layer: Layer, layer_spec: LayerSpec) -> list[tuple[str, Any, Any]]:
    """Return name, value and expected value of the neuron's parameters; trained ones may have any value."""
    pairs = []
    for parameter in layer.neuron.parameters(SHARED, GRID):
        have, want = getattr(layer.neuron, parameter.name), layer_spec.setting(parameter.name)
        if parameter.of == GRID:  # the first value outside the grid
            outside = np.setdiff1d(have, want)
            have = float(outside[0]) if len(outside) else want
        pairs.append((parameter.name, have, want))
    return pairs


def _subnetwork_widths(layers: Sequence[Layer]) -> list[int]:
    """Return, for each layer, its number of units in the largest connected part of the network."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    starts = np.cumsum([0] + [layer.units for layer in layers])
    edges: list[FloatArray] = []
    for k, layer in enumerate(layers):
        if k:
            targets, sources = layer.matrix().nonzero()
            edges.append(np.stack([targets + starts[k], sources + starts[k - 1]]))
        if layer.recurrent is not None:
            edges.append(np.stack(np.nonzero(layer.recurrent)) + starts[k])
    if not edges:
        return [1] * len(layers)
    ends = np.concatenate(edges, axis=1)
    graph = coo_array((np.ones(ends.shape[1]), tuple(ends)), shape=(starts[-1], starts[-1]))
    part = connected_components(graph, directed=False)[1]
    return [int(np.bincount(part[a:b]).max()) for a, b in zip(starts, starts[1:], strict=False)]
