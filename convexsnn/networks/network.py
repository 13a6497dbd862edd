"""Networks: parallel subnetworks of layers, with a linear readout.

hidden layer   drive_t = W x_t + R s_{t-1} + b       (R optional: units see each other's last spikes)
readout        φ_t of the last hidden layer, see `networks.readouts`
output         z = φ A, at the last step or at every step
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from convexsnn.arrays import FloatArray, between, choice, real_array
from convexsnn.errors import ShapeError
from convexsnn.fields import check_fields, key
from convexsnn.networks.layers import Layer, LayerSpec
from convexsnn.networks.readouts import READOUTS, readout_of
from convexsnn.networks.windows import Window

SUPERVISIONS = ("last", "all")


def _check_readout(readout: str, supervise: str, leak: Any) -> float:
    readout_of(readout)
    choice("supervise", supervise, SUPERVISIONS)
    return between("readout_leak", leak, 0, 1)


@dataclass(frozen=True)
class NetworkSpec:
    """Architecture of a network: `subnetworks` parallel copies of the same stack of layers."""

    layers: tuple[LayerSpec, ...] = (LayerSpec(),)
    subnetworks: int = key("whole", 1, "number K of parallel copies of the stack of layers", least=1)
    readout: str = key(
        "text",
        "spike",
        "feature of the last layer that the output weights see: its spikes, 1{v >= 0} of its membrane after "
        "reset, the mean of its spikes over time, or its spikes summed in leaky output membranes",
        lambda: READOUTS,
    )
    supervise: str = key(
        "text",
        "last",
        "steps that have a target: the last one, or every one",
        lambda: SUPERVISIONS,
    )
    readout_leak: float = key(
        "number",
        0.9,
        "leak β of the output membranes when readout = 'output_membrane'",
        least=0,
        most=1,
        later=True,
    )

    def __post_init__(self) -> None:
        if not self.layers:
            raise ShapeError("layers: a network needs at least one hidden layer")
        _check_readout(self.readout, self.supervise, self.readout_leak)
        check_fields(self, error=ShapeError)
        if self.subnetworks > 1 and any(layer.looks for layer in self.layers):
            raise ShapeError(f"subnetworks: expected 1 with kernel or pool, got {self.subnetworks}")


def windows(spec: NetworkSpec, inputs: int) -> tuple[Window | None, ...]:
    """Return the window of each layer of an architecture; None for a layer without a window.

    Raises
    ------
    ShapeError
        A shape is missing, or does not fit the inputs or the layer below, or a square exceeds its image.
    """
    layer_windows: list[Window | None] = []
    below: tuple[int, int, int] | None = None
    for k, layer in enumerate(spec.layers, start=1):
        key = f"network.layers[{k}]"
        shape = _image(f"{key}.shape", layer, below, inputs)
        window = None
        if layer.looks:
            assert shape is not None
            try:
                window = Window(shape, layer.pool, layer.kernel, layer.stride)
            except ShapeError as error:
                raise ShapeError(f"{key}.{error} on {shape}") from error
        layer_windows.append(window)
        below = None if window is None else window.output_shape(layer.width)
        inputs = layer.width * spec.subnetworks if below is None else int(np.prod(below))
    return tuple(layer_windows)


def _image(
    key: str, layer: LayerSpec, below: tuple[int, int, int] | None, inputs: int
) -> tuple[int, int, int] | None:
    """Return the shape of a layer's inputs as images, or None if it has none."""
    shape = layer.shape or below
    if shape is None and layer.looks:
        raise ShapeError(f"{key}: missing; a layer with kernel or pool needs (channels, height, width)")
    if shape is not None and int(np.prod(shape)) != inputs:
        raise ShapeError(f"{key}: expected a product of {inputs}, the number of inputs, got {list(shape)}")
    if below is not None and shape != below:
        raise ShapeError(
            f"{key}: expected {list(below)}, the shape of the layer below, got {list(shape or ())}"
        )
    return shape


@dataclass(frozen=True, eq=False)
class Subnetwork:
    """A stack of layers; subnetworks share only the inputs."""

    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        if not self.layers:
            raise ShapeError("layers: a subnetwork needs at least one layer")
        for k, (below, above) in enumerate(zip(self.layers, self.layers[1:], strict=False), start=2):
            if above.inputs == below.units:
                continue
            if above.window is not None:
                raise ShapeError(f"layer {k} window: expected {below.units} inputs, got {above.inputs}")
            raise ShapeError(f"layer {k} weights: expected (m, d={below.units}), got {above.weights.shape}")


@dataclass(frozen=True, eq=False)
class Network:
    """A whole network: hidden layers and output weights.

    Parameters
    ----------
    layers : tuple of Layer
    output_weights : (m, C) array
        A, which multiplies the readout of the last hidden layer's m units.
    readout : {"spike", "membrane", "rate", "output_membrane"}
    supervise : {"last", "all"}
        Outputs at the last step, (n, C), or at every step, (n, T, C).
    readout_leak : float
        β_out of the output membranes, in [0, 1].
    """

    layers: tuple[Layer, ...]
    output_weights: FloatArray
    readout: str = "spike"
    supervise: str = "last"
    readout_leak: float = 0.9

    def __post_init__(self) -> None:
        Subnetwork(self.layers)
        m = self.layers[-1].units
        weights = real_array("output_weights", self.output_weights, (("m", m), "C"))
        object.__setattr__(self, "output_weights", weights)
        leak = _check_readout(self.readout, self.supervise, self.readout_leak)
        object.__setattr__(self, "readout_leak", leak)

    @property
    def units(self) -> int:
        """Number of hidden units, over all layers."""
        return sum(layer.units for layer in self.layers)
