"""Starting weights of a training: layers drawn by a seed and scaled so that their units fire."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from convexsnn.arrays import FloatArray
from convexsnn.errors import LoweringError
from convexsnn.networks import Layer, LayerSpec
from convexsnn.networks.network import windows
from convexsnn.problem import Problem
from convexsnn.simulate import spikes_of

CALIBRATION = 500  # samples on which the firing rates of a start are set
DOUBLINGS, BISECTIONS = 40, 30
SLACK = 1.1  # factor of the scale, so that the firing rate does not depend on rounding
ENOUGH = 0.9  # share of the highest reachable rate, if the target rate cannot be reached


class Start(Protocol):
    """Settings of a start, from the table ``[admm]`` or ``[gradient]``."""

    @property
    def seed(self) -> int:
        """Seed of the draw."""

    @property
    def rate(self) -> float:
        """Firing rate of a balanced start: share of all steps in which a unit fires."""


def starting_layers(
    problem: Problem, start: Start, precision: str = "float64", initialization: str = "balanced"
) -> tuple[tuple[Layer, ...], FloatArray]:
    """Draw hidden layers and output weights (m, C), uniform in ±1/√fan-in; biases 0.

    With ``initialization = "balanced"`` each layer is then scaled to the firing rate ``start.rate``, the
    share of all steps in which its units fire, on the first training samples.

    Raises
    ------
    LoweringError
        A layer never fires; the message says what to do.
    """
    rng, dtype = np.random.default_rng(start.seed), np.dtype(precision)
    signal = problem.inputs[:CALIBRATION].astype(dtype)
    layers: list[Layer] = []
    layer_windows = windows(problem.network, problem.inputs.shape[2])
    for k, (plan, window) in enumerate(zip(problem.network.layers, layer_windows, strict=True), start=1):
        layer = _draw(plan, window, signal.shape[2], rng, dtype)
        if initialization == "balanced":
            layer = _balance(layer, signal, start.rate)
        spikes = spikes_of(layer, signal, dtype)
        if not spikes.any():
            raise LoweringError(f"network.layers[{k}]: {_why_dead(initialization, len(signal))}")
        layers.append(layer)
        signal = spikes.astype(dtype)
    units, outputs = layers[-1].units, problem.encoded_targets().shape[1]
    output = rng.uniform(-1.0, 1.0, (units, outputs)) / np.sqrt(units)
    return tuple(layers), output.astype(dtype)


def _draw(plan: LayerSpec, window: Any, inputs: int, rng: np.random.Generator, dtype: np.dtype) -> Layer:
    fan_in = inputs if window is None else window.patch
    weights = rng.uniform(-1.0, 1.0, (plan.width, fan_in)) / np.sqrt(fan_in)
    units = plan.width if window is None else plan.width * window.positions
    parameters = {
        name: rng.choice(np.asarray(grid), units) for name, grid in plan.grids().items() if len(grid) > 1
    }
    recurrent = rng.uniform(-1.0, 1.0, (units, units)) / np.sqrt(units) if plan.recurrent else None
    bias = np.zeros(plan.width) if plan.bias else None
    return Layer(weights, plan.make_neuron(**parameters), bias, recurrent, window).astype(dtype)


def _why_dead(initialization: str, samples: int) -> str:
    silent = f"a dead layer, no unit fires on the first {samples} samples"
    if initialization == "balanced":
        return f"{silent} at any scale of its weights; are its inputs 0?"
    return f'{silent}; admm.initialization = "balanced" avoids it (got {initialization!r})'


def _scaled(layer: Layer, gain: float) -> Layer:
    """Return the layer with weights, recurrent weights and bias multiplied by `gain`."""
    factor = layer.weights.dtype.type(gain)
    return replace(
        layer,
        weights=layer.weights * factor,
        recurrent=None if layer.recurrent is None else layer.recurrent * factor,
        bias=None if layer.bias is None else layer.bias * factor,
    )


def _balance(layer: Layer, signal: FloatArray, rate: float) -> Layer:
    """Scale a layer's weights to the firing rate `rate`, or to `ENOUGH` of the highest reachable rate."""

    def at(gain: float) -> tuple[Layer, float]:
        scaled = _scaled(layer, gain)
        return scaled, float(spikes_of(scaled, signal, signal.dtype).mean())

    if not at(2.0**DOUBLINGS)[1]:  # every sample inhibits every unit: turn the signs
        layer = replace(layer, weights=-layer.weights)
    rates = [at(1.0)[1]]
    while rates[-1] < rate and len(rates) < DOUBLINGS:
        rates.append(at(2.0 ** len(rates))[1])
    rate = min(rate, ENOUGH * max(rates))  # a unit that every sample inhibits fires at no scale
    first = int(np.argmax(np.asarray(rates) >= rate))
    low, high = 2.0 ** (first - 1) if first else 0.0, 2.0**first
    for _ in range(BISECTIONS):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if at(middle)[1] >= rate else (middle, high)
    return at(SLACK * high)[0]
