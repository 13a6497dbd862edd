"""Networks on disk: one ``.npz`` of plain arrays.

The arrays, in the order of the layers::

    layer1_neuron                  text, as in a problem file
    layer1_weights (m, d)
    layer1_bias (m,)               where the layer has one
    layer1_recurrent (m, m)        where the layer has one
    layer1_threshold ()            and the other parameters that the neuron declares: a number or text if
                                   shared by the layer, else a number or (m,)
    layer1_window (6,)             channels, height, width, pool, kernel or 0, stride, where there is one;
                                   weights are then (filters, patch), bias (filters,)
    layer2_…                       and so on
    output_weights (m, C), readout, supervise      absent in a file of hidden layers alone
    readout_leak ()                0.9 if absent
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from convexsnn.arrays import read_npz, write_npz
from convexsnn.errors import ConvexSNNError, ProblemFileError, ShapeError
from convexsnn.networks.layers import Layer
from convexsnn.networks.network import Network
from convexsnn.networks.neurons import NEURONS, Neuron
from convexsnn.networks.windows import Window

# of every layer, in addition to its neuron's parameters
KEYS = {"neuron", "weights", "bias", "recurrent", "window"}


def layer_arrays(layers: tuple[Layer, ...], prefix: str = "") -> dict[str, np.ndarray]:
    """Return the arrays that describe `layers`, under their names in the file."""
    arrays: dict[str, Any] = {}
    for k, layer in enumerate(layers, start=1):
        key = f"{prefix}layer{k}_"
        arrays[key + "neuron"] = layer.neuron.kind
        arrays[key + "weights"] = layer.weights
        for parameter in layer.neuron.parameters():
            arrays[key + parameter.name] = getattr(layer.neuron, parameter.name)
        if layer.bias is not None:
            arrays[key + "bias"] = layer.bias
        if layer.recurrent is not None:
            arrays[key + "recurrent"] = layer.recurrent
        if (window := layer.window) is not None:
            arrays[key + "window"] = [*window.shape, window.pool, window.kernel or 0, window.stride]
    return {name: np.asarray(value) for name, value in arrays.items()}


def layers_from_arrays(arrays: Mapping[str, np.ndarray], prefix: str = "") -> tuple[Layer, ...]:
    """Return the layers of arrays that `layer_arrays` made.

    Raises
    ------
    ProblemFileError
        ``layer1_weights`` is missing, or the arrays of a layer do not fit together.
    """
    layers: list[Layer] = []
    while f"{prefix}layer{len(layers) + 1}_weights" in arrays:
        key = f"{prefix}layer{len(layers) + 1}_"
        table = {name[len(key) :]: value for name, value in arrays.items() if name.startswith(key)}
        try:
            neuron = _neuron(table)
            window = _window(table["window"]) if "window" in table else None
            bias, recurrent = table.get("bias"), table.get("recurrent")
            layers.append(Layer(table["weights"], neuron, bias, recurrent, window))
        except KeyError as error:
            raise ProblemFileError(f"{key}{error.args[0]}: missing") from error
        except (ConvexSNNError, TypeError, ValueError) as error:
            raise ProblemFileError(f"{key}*: {error}") from error
    if not layers:
        raise ProblemFileError(
            f"{prefix}layer1_weights: missing, the file has {', '.join(sorted(arrays)) or 'none'}"
        )
    pattern = re.compile(re.escape(prefix) + r"layer(\d+)_")
    numbers = {int(match[1]) for name in arrays if (match := pattern.match(name))}
    if max(numbers) > len(layers):
        raise ProblemFileError(
            f"{prefix}layer{len(layers) + 1}_weights: missing, but there is a layer {max(numbers)}"
        )
    return tuple(layers)


def _neuron(table: Mapping[str, np.ndarray]) -> Neuron:
    """Return the neuron of a layer's arrays, which must be all that it declares and no others."""
    if (kind := str(table["neuron"])) not in NEURONS:
        raise ShapeError(
            f"neuron: expected one of {', '.join(NEURONS)}, got {kind!r}; register a class of your own first"
        )
    names = [parameter.name for parameter in NEURONS[kind].parameters()]
    if unknown := set(table) - KEYS - set(names):
        raise ProblemFileError(f"unknown {', '.join(sorted(unknown))}")
    values: dict[str, Any] = {name: table[name] for name in names}
    return NEURONS[kind](**values)


def _window(array: np.ndarray) -> Window:
    if array.shape != (6,) or array.dtype.kind not in "iu":
        raise ProblemFileError(f"window: expected 6 whole numbers, got {array.dtype} {array.shape}")
    channels, height, width, pool, kernel, stride = array.tolist()
    return Window((channels, height, width), pool, kernel or None, stride)


def save_network(path: str | os.PathLike[str], network: Network) -> None:
    """Write a network to `path` (``.npz``); the file appears complete or not at all."""
    arrays = layer_arrays(network.layers)
    arrays["output_weights"] = network.output_weights
    for name in ("readout", "supervise", "readout_leak"):
        arrays[name] = np.asarray(getattr(network, name))
    write_npz(path, arrays)


def load_network(path: str | os.PathLike[str]) -> Network:
    """Read a network that `save_network` wrote.

    Raises
    ------
    ProblemFileError
        Missing, damaged or pickled file, or arrays that describe no network; the message names the file.
    """
    arrays = read_npz(path)
    try:
        for name in ("output_weights", "readout", "supervise"):
            if name not in arrays:
                raise ProblemFileError(f"{name}: missing")
        readout, supervise = str(arrays["readout"]), str(arrays["supervise"])
        leak: Any = arrays["readout_leak"][()] if "readout_leak" in arrays else Network.readout_leak
        return Network(layers_from_arrays(arrays), arrays["output_weights"], readout, supervise, leak)
    except ConvexSNNError as error:
        raise ProblemFileError(f"{path}: {error}") from error
