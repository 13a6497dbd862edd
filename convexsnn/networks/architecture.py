"""Whether layers are of an architecture, and how they differ from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from convexsnn.arrays import FloatArray
from convexsnn.networks.layers import Layer, LayerSpec
from convexsnn.networks.network import NetworkSpec, windows
from convexsnn.networks.parameters import GRID, SHARED


def architecture_mismatch(spec: NetworkSpec, layers: Sequence[Layer], inputs: int) -> str | None:
    """Return how layers differ from an architecture, or None if they do not.

    There may be any number of subnetworks, that is of groups of units without a weight between them,
    but none with more units in a layer than the architecture's width.
    """
    if len(layers) != len(spec.layers):
        return f"has {len(layers)} layers, the network {len(spec.layers)}"
    looks = windows(spec, inputs)
    for k, (layer, wanted) in enumerate(zip(layers, spec.layers, strict=True), start=1):
        pairs: list[tuple[str, Any, Any]] = [
            ("neuron", layer.neuron.kind, wanted.neuron),
            ("bias", layer.bias is not None, wanted.bias),
            ("recurrent", layer.recurrent is not None, wanted.recurrent),
            ("window", layer.window, looks[k - 1]),
        ]
        if k == 1:
            pairs.append(("inputs", layer.inputs, inputs))
        if layer.neuron.kind == wanted.neuron:
            pairs += _parameters(layer, wanted)
        for name, have, want in pairs:
            if have != want:
                return f"layer {k} has {name} {have!r}, the network {want!r}"
    for k, (largest, wanted) in enumerate(zip(_subnetwork_widths(layers), spec.layers, strict=True)):
        look = looks[k]
        most = wanted.width * (1 if look is None else look.positions)
        if largest > most:
            return f"layer {k + 1} has {largest} units that belong together, the network a width of {most}"
    return None


def _parameters(layer: Layer, wanted: LayerSpec) -> list[tuple[str, Any, Any]]:
    """Return name, value and wanted value of the neuron's parameters; trained ones may have any."""
    pairs = []
    for declared in layer.neuron.parameters(SHARED, GRID):
        have, want = getattr(layer.neuron, declared.name), wanted.setting(declared.name)
        if declared.of == GRID:  # the first value that is not of the grid
            strange = np.setdiff1d(have, want)
            have = float(strange[0]) if len(strange) else want
        pairs.append((declared.name, have, want))
    return pairs


def _subnetwork_widths(layers: Sequence[Layer]) -> list[int]:
    """Return, for each layer, how many of its units the largest connected part of the network has."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    starts = np.cumsum([0] + [layer.units for layer in layers])
    edges: list[FloatArray] = []
    for k, layer in enumerate(layers):
        if k:
            to, come = layer.matrix().nonzero()
            edges.append(np.stack([to + starts[k], come + starts[k - 1]]))
        if layer.recurrent is not None:
            edges.append(np.stack(np.nonzero(layer.recurrent)) + starts[k])
    if not edges:
        return [1] * len(layers)
    ends = np.concatenate(edges, axis=1)
    graph = coo_array((np.ones(ends.shape[1]), tuple(ends)), shape=(starts[-1], starts[-1]))
    part = connected_components(graph, directed=False)[1]
    return [int(np.bincount(part[a:b]).max()) for a, b in zip(starts, starts[1:], strict=False)]
