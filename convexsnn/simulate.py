"""The simulator: runs a network step by step in plain numpy. All other results are checked against it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from convexsnn.arrays import BoolArray, FloatArray, real_array
from convexsnn.networks import READOUTS, Layer, Network


@dataclass(frozen=True, eq=False)
class Trace:
    """Record of a simulation of n samples over T steps.

    Attributes
    ----------
    network : Network
    inputs : (n, T, d) array, in the floating-point type of the simulation
    spikes : tuple of (n, T, m) bool arrays, one per layer
    features : (n, m) or (n, T, m) array
        The readout of the last hidden layer, at the last step or at every step: bits, or filtered spikes if
        the readout is "rate" or "output_membrane".
    outputs : (n, C) or (n, T, C) array
    """

    network: Network
    inputs: FloatArray
    spikes: tuple[BoolArray, ...]
    features: npt.NDArray[Any]
    outputs: FloatArray

    @cached_property
    def membranes(self) -> tuple[FloatArray, ...]:
        """u_t of every layer, before the reset of its step, (n, T, m).

        Computed at the first access, from the recorded spikes. Most callers never read these n·T floats per
        unit, and writing them takes longer than computing the spikes.
        """
        signals: tuple[FloatArray | BoolArray, ...] = (self.inputs, *self.spikes[:-1])
        layers = zip(self.network.layers, signals, strict=True)
        return tuple(run_layer(layer, signal, self.inputs.dtype)[0] for layer, signal in layers)


BLOCK = 100  # samples at a time, so that the arrays of one step fit in the processor's cache


def run_layer(
    layer: Layer, inputs: FloatArray | BoolArray, dtype: npt.DTypeLike = np.float64
) -> tuple[FloatArray, BoolArray]:
    """Run one layer over time: `inputs` (n, T, d) -> membranes and spikes (n, T, m)."""
    membranes = np.empty((*inputs.shape[:2], layer.units), dtype)
    return membranes, spikes_of(layer, inputs, dtype, membranes)


def spikes_of(
    layer: Layer, inputs: FloatArray | BoolArray, dtype: npt.DTypeLike, membranes: FloatArray | None = None
) -> BoolArray:
    """Return the spikes of `run_layer`; the membranes are written to an array, if there is one."""
    layer = layer.astype(dtype)
    n, steps, d = inputs.shape
    spikes = np.empty((n, steps, layer.units), bool)
    drives = np.empty((steps * min(n, BLOCK), layer.units), dtype)
    for start in range(0, n, BLOCK):
        block = slice(start, min(start + BLOCK, n))
        by_step = np.ascontiguousarray(inputs[block].swapaxes(0, 1), dtype).reshape(-1, d)  # (T · block, d)
        drive = layer.drive(by_step, out=drives[: len(by_step)]).reshape(steps, -1, layer.units)
        carry: FloatArray | float = 0.0
        for t in range(steps):
            if layer.recurrent is not None and t > 0:
                drive[t] += spikes[block, t - 1].astype(dtype) @ layer.recurrent.T
            membrane, spikes[block, t], carry = layer.neuron.step(drive[t], carry, out=drive[t])
            if membranes is not None:
                membranes[block, t] = membrane
    return spikes


def simulate(
    network: Network,
    inputs: npt.ArrayLike,
    *,
    dtype: npt.DTypeLike = np.float64,
    copy: bool = True,
) -> Trace:
    """Run `network` on `inputs` (n, T, d) and record every layer.

    Parameters
    ----------
    dtype : floating-point type of the computation.
    copy : whether the trace copies the inputs; if not, `inputs` must not be changed afterwards.

    Raises
    ------
    ShapeError
        `inputs` is not a finite (n, T, d) array with the d of the first layer.
    """
    d = network.layers[0].inputs
    array = real_array("inputs", inputs, ("n", "T", ("d", d)), dtype=dtype, copy=copy)
    signal: FloatArray | BoolArray = array
    reads, every = READOUTS[network.readout], network.supervise == "all"
    spikes = []
    for layer in network.layers:
        is_read = layer is network.layers[-1] and reads.of_membrane
        membranes = np.empty((*signal.shape[:2], layer.units), dtype) if is_read else None
        signal = spikes_of(layer, signal, dtype, membranes)
        spikes.append(signal)
    features: npt.NDArray[Any]
    if reads.bits:
        features = reads.seen(layer.neuron, membranes, spikes[-1])
        features = features if every else features[:, -1]
    else:
        features = reads.filtered(spikes[-1], network.readout_leak, every, dtype)
    outputs = features.astype(dtype) @ network.output_weights.astype(dtype)
    return Trace(network, array, tuple(spikes), features, outputs)
