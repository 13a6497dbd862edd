"""Networks: layers of units, side by side in subnetworks, read out by linear weights.

hidden layer   drive_t = W x_t + R s_{t-1} + b       (R optional: units see each other's last spikes)
readout        φ = s ("spike") or 1{v >= 0} ("membrane") of the last hidden layer
output         z = φ A, at the last step or at every step
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from convexsnn.arrays import BoolArray, FloatArray, real_array
from convexsnn.errors import ShapeError
from convexsnn.networks.neurons import LIF, NEURONS, Neuron, RecurrentThreshold

READOUTS = ("spike", "membrane")
SUPERVISIONS = ("last", "all")


def _choice(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ShapeError(f"{name}: expected one of {', '.join(choices)}, got {value!r}")


@dataclass(frozen=True)
class LayerSpec:
    """Architecture of one hidden layer, without its weights.

    `leak` is the grid from which each unit takes its own; it and `reset` matter to LIF units alone.
    """

    neuron: str = "lif"
    leak: tuple[float, ...] = (0.9,)
    threshold: float | None = None
    reset: str = "subtract"
    bias: bool = False
    recurrent: bool = False
    width: int = 1

    def __post_init__(self) -> None:
        _choice("neuron", self.neuron, tuple(NEURONS))
        if self.threshold is None:
            object.__setattr__(self, "threshold", 1.0 if self.neuron == "lif" else 0.0)
        if not self.leak:
            raise ShapeError("leak: the grid is empty")
        if self.width < 1:
            raise ShapeError(f"width: expected at least 1, got {self.width}")
        if self.recurrent and self.neuron == "recurrent_threshold":
            raise ShapeError(
                "recurrent: true already holds each unit's weight on its own last spike; "
                'use neuron = "threshold" with it'
            )
        self.make_neuron(np.asarray(self.leak), np.zeros(1))

    def make_neuron(self, leak: npt.ArrayLike, own_weight: npt.ArrayLike) -> Neuron:
        """Return the neuron of units with these leaks (m,) or own weights (m,), whichever it uses."""
        assert self.threshold is not None
        if self.neuron == "lif":
            return LIF(self.threshold, leak, self.reset)  # type: ignore[arg-type]
        if self.neuron == "recurrent_threshold":
            return RecurrentThreshold(self.threshold, own_weight)  # type: ignore[arg-type]
        return NEURONS[self.neuron](self.threshold)


@dataclass(frozen=True)
class NetworkSpec:
    """Architecture of a network: `subnetworks` parallel copies of the same stack of layers."""

    layers: tuple[LayerSpec, ...] = (LayerSpec(),)
    subnetworks: int = 1
    readout: str = "spike"
    supervise: str = "last"

    def __post_init__(self) -> None:
        if not self.layers:
            raise ShapeError("layers: a network needs at least one hidden layer")
        if self.subnetworks < 1:
            raise ShapeError(f"subnetworks: expected at least 1, got {self.subnetworks}")
        _choice("readout", self.readout, READOUTS)
        _choice("supervise", self.supervise, SUPERVISIONS)


@dataclass(frozen=True, eq=False)
class Layer:
    """One layer of m units on d inputs.

    Parameters
    ----------
    weights : (m, d) array
    neuron : Neuron
        Per-unit parameters, where it has any, are (m,).
    bias : (m,) array, optional
    recurrent : (m, m) array, optional
        Entry (j, k): weight of unit k's last spike on unit j.
    """

    weights: FloatArray
    neuron: Neuron
    bias: FloatArray | None = None
    recurrent: FloatArray | None = None

    def __post_init__(self) -> None:
        dtype = np.float32 if getattr(self.weights, "dtype", None) == np.float32 else np.float64
        weights = real_array("weights", self.weights, ("m", "d"), dtype=dtype)
        object.__setattr__(self, "weights", weights)
        m = weights.shape[0]
        for name, axes in (("bias", (("m", m),)), ("recurrent", (("m", m), ("m", m)))):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, real_array(name, getattr(self, name), axes, dtype=dtype))
        for name in ("leak", "own_weight"):
            value = getattr(self.neuron, name, 0.0)
            if not isinstance(value, float) and value.shape != (m,):
                raise ShapeError(f"{name}: expected one value or (m={m},), got {value.shape}")

    @property
    def units(self) -> int:
        """Number of units m."""
        return int(self.weights.shape[0])

    def select(self, units: Any) -> Layer:
        """Return the layer with some of its units only; not for a recurrent layer, whose units interact."""
        if self.recurrent is not None:
            raise ShapeError("recurrent: units of a recurrent layer cannot be taken alone")
        bias = None if self.bias is None else self.bias[units]
        return Layer(self.weights[units], self.neuron.unit(units), bias)

    def unit_inputs(self, inputs: FloatArray, spikes: BoolArray) -> FloatArray:
        """Return all that a unit's weights multiply: inputs, 1 for a bias, the layer's last spikes.

        `inputs` (n, T, d), `spikes` (n, T, m) -> (n, T, d [+ 1] [+ m]).
        """
        parts = [inputs]
        if self.bias is not None:
            parts.append(np.ones((*inputs.shape[:2], 1)))
        if self.recurrent is not None:
            before = np.zeros(spikes.shape)
            before[:, 1:] = spikes[:, :-1]
            parts.append(before)
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)

    def unit_weights(self) -> FloatArray:
        """Return the trained weights of every unit, (m, d'), in the order of `Neuron.affine_rows`."""
        parts = [self.weights]
        if self.bias is not None:
            parts.append(self.bias[:, None])
        if self.recurrent is not None:
            parts.append(self.recurrent)
        if isinstance(self.neuron, RecurrentThreshold):
            parts.append(np.broadcast_to(np.reshape(self.neuron.own_weight, (-1, 1)), (self.units, 1)))
        return np.concatenate(parts, axis=1)

    def with_unit_weights(self, weights: FloatArray) -> Layer:
        """Return the layer with other trained weights, (m, d') as `unit_weights` returns them."""
        d = self.weights.shape[1]
        stops = np.cumsum([d, int(self.bias is not None), self.units * (self.recurrent is not None)])
        neuron = self.neuron
        if isinstance(neuron, RecurrentThreshold):
            neuron = replace(neuron, own_weight=weights[:, -1])
        return Layer(
            weights[:, : stops[0]],
            neuron,
            None if self.bias is None else weights[:, stops[0]],
            None if self.recurrent is None else weights[:, stops[1] : stops[2]],
        )

    def astype(self, dtype: npt.DTypeLike) -> Layer:
        """Return the layer in another floating-point type."""
        bias = None if self.bias is None else self.bias.astype(dtype)
        recurrent = None if self.recurrent is None else self.recurrent.astype(dtype)
        return Layer(self.weights.astype(dtype), self.neuron.astype(dtype), bias, recurrent)


def architecture_mismatch(spec: NetworkSpec, layers: Sequence[Layer], inputs: int) -> str | None:
    """Return how layers differ from an architecture, or None if they do not.

    There may be any number of subnetworks, that is of groups of units without a weight between them,
    but none with more units in a layer than the architecture's width.
    """
    if len(layers) != len(spec.layers):
        return f"has {len(layers)} layers, the network {len(spec.layers)}"
    for k, (layer, wanted) in enumerate(zip(layers, spec.layers, strict=True), start=1):
        pairs: list[tuple[str, Any, Any]] = [
            ("neuron", layer.neuron.kind, wanted.neuron),
            ("threshold", layer.neuron.threshold, wanted.threshold),
            ("bias", layer.bias is not None, wanted.bias),
            ("recurrent", layer.recurrent is not None, wanted.recurrent),
        ]
        if k == 1:
            pairs.append(("inputs", layer.weights.shape[1], inputs))
        if isinstance(layer.neuron, LIF):
            strange = np.setdiff1d(layer.neuron.leak, wanted.leak)
            have = float(strange[0]) if len(strange) else wanted.leak
            pairs += [("reset", layer.neuron.reset, wanted.reset), ("leak", have, wanted.leak)]
        for name, have, want in pairs:
            if have != want:
                return f"layer {k} has {name} {have!r}, the network {want!r}"
    for k, (largest, wanted) in enumerate(zip(_subnetwork_widths(layers), spec.layers, strict=True), start=1):
        if largest > wanted.width:
            return (
                f"layer {k} has {largest} units that belong together, the network a width of {wanted.width}"
            )
    return None


def _subnetwork_widths(layers: Sequence[Layer]) -> list[int]:
    """Return, for each layer, how many of its units the largest connected part of the network has."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    starts = np.cumsum([0] + [layer.units for layer in layers])
    edges: list[FloatArray] = []
    for k, layer in enumerate(layers):
        if k:
            to, come = np.nonzero(layer.weights)
            edges.append(np.stack([to + starts[k], come + starts[k - 1]]))
        if layer.recurrent is not None:
            edges.append(np.stack(np.nonzero(layer.recurrent)) + starts[k])
    if not edges:
        return [1] * len(layers)
    ends = np.concatenate(edges, axis=1)
    graph = coo_array((np.ones(ends.shape[1]), tuple(ends)), shape=(starts[-1], starts[-1]))
    part = connected_components(graph, directed=False)[1]
    return [int(np.bincount(part[a:b]).max()) for a, b in zip(starts, starts[1:], strict=False)]


@dataclass(frozen=True, eq=False)
class Subnetwork:
    """A stack of layers that shares nothing with its neighbours but the inputs."""

    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        if not self.layers:
            raise ShapeError("layers: a subnetwork needs at least one layer")
        for k, (below, above) in enumerate(zip(self.layers, self.layers[1:], strict=False), start=2):
            if above.weights.shape[1] != below.units:
                raise ShapeError(
                    f"layer {k} weights: expected (m, d={below.units}), got {above.weights.shape}"
                )


@dataclass(frozen=True, eq=False)
class Network:
    """A whole network: hidden layers and output weights.

    Parameters
    ----------
    layers : tuple of Layer
    output_weights : (m, C) array
        A, on the readout of the last hidden layer's m units.
    readout : {"spike", "membrane"}
    supervise : {"last", "all"}
        Outputs at the last step, (n, C), or at every step, (n, T, C).
    """

    layers: tuple[Layer, ...]
    output_weights: FloatArray
    readout: str = "spike"
    supervise: str = "last"

    def __post_init__(self) -> None:
        Subnetwork(self.layers)
        m = self.layers[-1].units
        weights = real_array("output_weights", self.output_weights, (("m", m), "C"))
        object.__setattr__(self, "output_weights", weights)
        _choice("readout", self.readout, READOUTS)
        _choice("supervise", self.supervise, SUPERVISIONS)

    @property
    def units(self) -> int:
        """Number of hidden units, over all layers."""
        return sum(layer.units for layer in self.layers)
