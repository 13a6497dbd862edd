"""Networks on disk: one ``.npz`` of plain arrays.

    layer1_neuron, layer1_reset     text, as in a problem file
    layer1_weights (m, d), layer1_threshold (), layer1_leak () or (m,), layer1_own_weight () or (m,),
    layer1_bias (m,), layer1_recurrent (m, m)                      the last four where the layer has them
    layer2_… and so on
    output_weights (m, C), readout, supervise                      absent in a file of hidden layers alone
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from convexsnn.arrays import read_npz, write_npz
from convexsnn.errors import ConvexSNNError, ProblemFileError
from convexsnn.networks.network import Layer, LayerSpec, Network
from convexsnn.networks.neurons import LIF, RecurrentThreshold


def layer_arrays(layers: tuple[Layer, ...], prefix: str = "") -> dict[str, np.ndarray]:
    """Return the arrays that describe `layers`, keyed as in the file."""
    arrays: dict[str, Any] = {}
    for k, layer in enumerate(layers, start=1):
        key = f"{prefix}layer{k}_"
        arrays[key + "neuron"] = layer.neuron.kind
        arrays[key + "weights"] = layer.weights
        arrays[key + "threshold"] = layer.neuron.threshold
        if isinstance(layer.neuron, LIF):
            arrays[key + "leak"] = layer.neuron.leak
            arrays[key + "reset"] = layer.neuron.reset
        if isinstance(layer.neuron, RecurrentThreshold):
            arrays[key + "own_weight"] = layer.neuron.own_weight
        if layer.bias is not None:
            arrays[key + "bias"] = layer.bias
        if layer.recurrent is not None:
            arrays[key + "recurrent"] = layer.recurrent
    return {name: np.asarray(value) for name, value in arrays.items()}


def layers_from_arrays(arrays: Mapping[str, np.ndarray], prefix: str = "") -> tuple[Layer, ...]:
    """Return the layers that `layer_arrays` described.

    Raises
    ------
    ProblemFileError
        No ``layer1_weights``, or a layer whose arrays do not fit.
    """
    layers = []
    while f"{prefix}layer{len(layers) + 1}_weights" in arrays:
        key = f"{prefix}layer{len(layers) + 1}_"

        def entry(name: str, default: Any = None, key: str = key) -> Any:
            return arrays.get(key + name, default)

        try:
            spec = LayerSpec(
                neuron=str(entry("neuron", "lif")),
                threshold=None if entry("threshold") is None else float(entry("threshold")),
                reset=str(entry("reset", "subtract")),
            )
            neuron = spec.make_neuron(entry("leak", 0.9), entry("own_weight", 0.0))
            layers.append(Layer(entry("weights"), neuron, entry("bias"), entry("recurrent")))
        except (ConvexSNNError, TypeError, ValueError) as error:
            raise ProblemFileError(f"{key}*: {error}") from error
    if not layers:
        raise ProblemFileError(f"{prefix}layer1_weights: missing, found {', '.join(sorted(arrays)) or 'none'}")
    return tuple(layers)


def save_network(path: str | os.PathLike[str], network: Network) -> None:
    """Write a network to `path` (``.npz``), whole or not at all."""
    arrays = layer_arrays(network.layers)
    arrays["output_weights"] = network.output_weights
    arrays["readout"], arrays["supervise"] = np.asarray(network.readout), np.asarray(network.supervise)
    write_npz(path, arrays)


def load_network(path: str | os.PathLike[str]) -> Network:
    """Read a network that `save_network` wrote.

    Raises
    ------
    ProblemFileError
        Missing, damaged or pickled file, or arrays that make no network; the message names the file.
    """
    arrays = read_npz(path)
    try:
        if "output_weights" not in arrays:
            raise ProblemFileError("output_weights: missing")
        return Network(
            layers_from_arrays(arrays),
            arrays["output_weights"],
            str(arrays.get("readout", "spike")),
            str(arrays.get("supervise", "last")),
        )
    except ConvexSNNError as error:
        raise ProblemFileError(f"{path}: {error}") from error
