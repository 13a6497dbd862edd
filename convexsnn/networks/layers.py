"""Layers: units on the same inputs; and layer architectures, which have no weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from convexsnn.arrays import BoolArray, FloatArray, lagged, real_array
from convexsnn.errors import ShapeError
from convexsnn.fields import as_table, check_fields, key
from convexsnn.networks.neuron import LAYER_KEYS, RESETS
from convexsnn.networks.neurons import NEURONS, Neuron
from convexsnn.networks.parameters import GRID, SHARED, TRAINED, Parameter
from convexsnn.networks.windows import Window, image_shape

if TYPE_CHECKING:
    from scipy.sparse import csr_array

BLOCK_NUMBERS = 2**18  # numbers in the patches of one block of rows: they fit in the processor's cache


@dataclass(frozen=True)
class LayerSpec:
    """Architecture of one hidden layer, without its weights.

    `leak` is a grid; each unit takes its leak from it. Only neurons that declare `leak` or `reset` use them.
    `parameters` holds the values of all other declared parameters: a number or a word for the layer, or a
    grid for its units. A missing parameter has its default. With `kernel` or `pool` the layer sees its inputs
    through a `Window`, and `width` is the number of filters.
    """

    neuron: str = key("text", "lif", "kind of the units", lambda: NEURONS)
    leak: tuple[float, ...] = key(
        "numbers", 0.9, "leak β of a LIF unit; a list is the grid from which each unit takes its own"
    )
    threshold: float | None = key(
        "number", None, "threshold θ; if not given, 1 for LIF units and 0 for threshold units"
    )
    reset: str = key(
        "text",
        "subtract",
        "effect of a spike on the membrane of a LIF unit: θ subtracted before the leak, θ subtracted after "
        "the leak, membrane set to zero, or none",
        lambda: RESETS,
    )
    bias: bool = key("flag", False, "constant in the drive of each unit, trained like a weight")
    recurrent: bool = key(
        "flag", False, "matrix of weights within the layer: units see each other's last spikes"
    )
    width: int = key("whole", 1, "number of units in each subnetwork", least=1)
    kernel: int | None = key(
        "whole",
        None,
        "side of the square patches of a convolution, whose number of filters is then the width",
        least=1,
        later=True,
    )
    stride: int = key(
        "whole", 1, "distance between neighbouring patches of a convolution", least=1, later=True
    )
    pool: int = key(
        "whole",
        1,
        "side of the squares over which the layer's inputs are averaged before its weights",
        least=1,
        later=True,
    )
    shape: tuple[int, int, int] | None = key(
        "wholes",
        None,
        "shape (channels, height, width) of the layer's inputs as images; needed by the first layer with "
        "kernel or pool, later ones take it from the layer below",
        later=True,
    )

    parameters: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        check_fields(self, error=ShapeError)
        kind = NEURONS[self.neuron]
        grid = self.leak if isinstance(self.leak, (list, tuple)) else (self.leak,)
        object.__setattr__(self, "leak", tuple(grid))
        if self.threshold is None:
            (default,) = (p.default for p in kind.parameters() if p.name == "threshold")
            object.__setattr__(self, "threshold", default)
        object.__setattr__(self, "parameters", _settings(self.neuron, self.parameters))
        if self.recurrent and kind.sees_own_spike:
            raise ShapeError(
                "recurrent: true already holds each unit's weight on its own last spike; "
                'use neuron = "threshold" with it'
            )
        self.make_neuron(**{name: np.asarray(grid) for name, grid in self.grids().items()})
        self._check_window()

    def _check_window(self) -> None:
        if self.shape is not None:
            object.__setattr__(self, "shape", image_shape(self.shape))
        if self.kernel is None:
            if self.stride > 1:
                raise ShapeError(f"stride: expected 1 without kernel, got {self.stride}")
            return
        for name, grid in {"leak": self.leak, **self.grids()}.items():
            if len(grid) > 1:
                raise ShapeError(f"{name}: expected one for all units of a convolution, got {list(grid)}")

    @property
    def looks(self) -> bool:
        """Whether the layer has a window: patches, or a pooled image."""
        return self.kernel is not None or self.pool > 1

    def setting(self, name: str) -> Any:
        """Return the architecture's value of a parameter: a number, a word, or a grid as a tuple."""
        return self.parameters[name] if name in self.parameters else getattr(self, name)

    def grids(self) -> dict[str, tuple[float, ...]]:
        """Return the grid of values of each GRID parameter, by the parameter's name."""
        return {p.name: self.setting(p.name) for p in NEURONS[self.neuron].parameters(GRID)}

    def make_neuron(self, **per_unit: npt.ArrayLike) -> Neuron:
        """Return the neuron of units with these parameters, each a number or (m,).

        A parameter whose grid has one value may be omitted. Omitted trained parameters are 0.

        Raises
        ------
        ShapeError
            A parameter whose grid has several values is omitted.
        """
        kind = NEURONS[self.neuron]
        values: dict[str, Any] = {p.name: self.setting(p.name) for p in kind.parameters(SHARED)}
        values |= {p.name: 0.0 for p in kind.parameters(TRAINED)}
        for name, grid in self.grids().items():
            if len(grid) > 1 and name not in per_unit:
                raise ShapeError(f"{name}: the grid has {len(grid)} values; choose one of them for each unit")
            values[name] = grid[0]
        return kind(**{**values, **per_unit})

    def first_neuron(self) -> Neuron:
        """Return the neuron at the first value of every grid; its kind is the same for all values."""
        return self.make_neuron(**{name: grid[0] for name, grid in self.grids().items()})

    def drawn_neuron(self, units: int, rng: np.random.Generator) -> Neuron:
        """Return a neuron whose units draw values from the grids at random; trained parameters are 0."""
        values = {name: rng.choice(np.asarray(grid), units) for name, grid in self.grids().items()}
        trained = {p.name: np.zeros(units) for p in NEURONS[self.neuron].parameters(TRAINED)}
        return self.make_neuron(**values, **trained)

    def blank(self, units: int, inputs: int, neuron: Neuron) -> Layer:
        """Return a layer of this architecture with all weights 0."""
        bias = np.zeros(units) if self.bias else None
        recurrent = np.zeros((units, units)) if self.recurrent else None
        return Layer(np.zeros((units, inputs)), neuron, bias, recurrent)

    def table(self) -> dict[str, Any]:
        """Return the layer as its table in a problem file, without keys that are None."""
        parameters = {k: list(v) if isinstance(v, tuple) else v for k, v in self.parameters.items()}
        return {**as_table(self), **parameters}


def layer_parameters(neuron: str) -> tuple[Parameter, ...]:
    """Return the parameters of a neuron that are not fields of `LayerSpec`: the keys of its `parameters`."""
    return tuple(p for p in NEURONS[neuron].parameters(SHARED, GRID) if p.name not in LAYER_KEYS)


def _settings(neuron: str, table: Mapping[str, Any]) -> dict[str, Any]:
    """Return the checked values of `layer_parameters`, with defaults for those that `table` lacks."""
    declared = {p.name: p for p in layer_parameters(neuron)}
    for name in table:
        if name not in declared:
            known = ", ".join(declared) or "none"
            raise ShapeError(f"{name}: unknown parameter of neuron {neuron!r}; known: {known}")
    settings: dict[str, Any] = {}
    for name, parameter in declared.items():
        value = parameter.checked(table.get(name, parameter.default))
        if parameter.of == GRID:
            settings[name] = tuple(float(v) for v in np.atleast_1d(np.asarray(value, np.float64)))
        else:
            settings[name] = value
    return settings


@dataclass(frozen=True, eq=False)
class Layer:
    """One layer of m units on d inputs.

    Parameters
    ----------
    weights : (m, d) array; with a window (filters, patch)
    neuron : Neuron
        Its per-unit parameters, if any, are (m,).
    bias : (m,) array, with a window (filters,); optional
    recurrent : (m, m) array, optional
        Entry (j, k): weight of unit k's last spike on unit j.
    window : Window, optional
        Each filter gives one unit per position of the window; units are in the order (filter, position).
    """

    weights: FloatArray
    neuron: Neuron
    bias: FloatArray | None = None
    recurrent: FloatArray | None = None
    window: Window | None = None

    def __post_init__(self) -> None:
        dtype = np.float32 if getattr(self.weights, "dtype", None) == np.float32 else np.float64
        rows, patch = ("m", "d") if self.window is None else ("filters", ("patch", self.window.patch))
        weights = real_array("weights", self.weights, (rows, patch), dtype=dtype)
        object.__setattr__(self, "weights", weights)
        m = self.units
        for name, axes in (("bias", ((rows, len(weights)),)), ("recurrent", (("m", m), ("m", m)))):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, real_array(name, getattr(self, name), axes, dtype=dtype))
        for parameter in self.neuron.parameters(GRID, TRAINED):
            value = getattr(self.neuron, parameter.name)
            if isinstance(value, np.ndarray) and value.shape != (m,):
                raise ShapeError(f"{parameter.name}: expected one value or (m={m},), got {value.shape}")

    @property
    def units(self) -> int:
        """Number of units m: number of weight rows, times the number of positions with a window."""
        return len(self.weights) * (1 if self.window is None else self.window.positions)

    @property
    def inputs(self) -> int:
        """Number of inputs d."""
        return int(self.weights.shape[1]) if self.window is None else self.window.inputs

    def matrix(self) -> FloatArray | csr_array:
        """Return the weight of every input on every unit, (m, d); sparse with a window."""
        return self.weights if self.window is None else self.window.matrix(self.weights)

    def drive(self, signal: FloatArray, out: FloatArray | None = None) -> FloatArray:
        """Return the weighted input of every unit, bias included.

        Parameters
        ----------
        signal : (rows, d) array
        out : (rows, m) array, optional
            Array for the result, as in numpy.

        Returns
        -------
        (rows, m) array
        """
        if self.window is not None:
            return self._windowed_drive(self.window, signal, out)
        drive = np.matmul(signal, self.weights.T, out=out)
        if self.bias is not None:
            drive += self.bias
        return drive

    def _windowed_drive(self, window: Window, signal: FloatArray, out: FloatArray | None) -> FloatArray:
        drive = np.empty((len(signal), self.units), self.weights.dtype) if out is None else out
        by_filter = drive.reshape(len(signal), -1, window.positions)
        at_a_time = max(1, BLOCK_NUMBERS // (window.positions * window.patch))
        for start in range(0, len(signal), at_a_time):
            rows = slice(start, start + at_a_time)
            patches = window.gather(signal[rows])
            products = patches.reshape(-1, window.patch) @ self.weights.T  # one product for all positions
            by_filter[rows] = products.reshape(len(patches), window.positions, -1).swapaxes(1, 2)
        if self.bias is not None:
            by_filter += self.bias[:, None]
        return drive

    def _check_separable(self) -> None:
        if self.window is not None:
            raise ShapeError("window: units of a convolution share their weights and cannot be separated")

    def select(self, units: Any) -> Layer:
        """Return the layer with some of its units; a recurrent layer is refused, since its units interact."""
        self._check_separable()
        if self.recurrent is not None:
            raise ShapeError("recurrent: units of a recurrent layer cannot be separated")
        bias = None if self.bias is None else self.bias[units]
        return Layer(self.weights[units], self.neuron.unit(units), bias)

    def unit_inputs(self, inputs: FloatArray, spikes: BoolArray) -> FloatArray:
        """Return everything that a unit's weights multiply: inputs, 1 for a bias, the layer's last spikes.

        `inputs` (n, T, d), `spikes` (n, T, m) -> (n, T, d [+ 1] [+ m]).
        """
        self._check_separable()
        parts = [inputs]
        if self.bias is not None:
            parts.append(np.ones((*inputs.shape[:2], 1)))
        if self.recurrent is not None:
            parts.append(lagged(spikes.astype(np.float64)))
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)

    def unit_weights(self) -> FloatArray:
        """Return the trained weights of every unit, (m, d'), in the order of `Neuron.affine_rows`."""
        self._check_separable()
        parts = [self.weights]
        if self.bias is not None:
            parts.append(self.bias[:, None])
        if self.recurrent is not None:
            parts.append(self.recurrent)
        parts += [self.neuron.values(p.name, self.units)[:, None] for p in self.neuron.parameters(TRAINED)]
        return np.concatenate(parts, axis=1)

    def with_unit_weights(self, weights: FloatArray) -> Layer:
        """Return the layer with other trained weights (m, d'), in the order of `unit_weights`."""
        self._check_separable()
        stops = np.cumsum(
            [self.inputs, int(self.bias is not None), self.units * (self.recurrent is not None)]
        )
        neuron, trained = self.neuron, self.neuron.parameters(TRAINED)
        if trained:
            values: dict[str, Any] = {p.name: weights[:, stops[2] + k] for k, p in enumerate(trained)}
            neuron = replace(neuron, **values)
        return Layer(
            weights[:, : stops[0]],
            neuron,
            None if self.bias is None else weights[:, stops[0]],
            None if self.recurrent is None else weights[:, stops[1] : stops[2]],
        )

    def astype(self, dtype: npt.DTypeLike) -> Layer:
        """Return the layer in a floating-point type; the layer itself if it already has that type."""
        values = [self.weights, *vars(self.neuron).values()]
        if all(getattr(value, "dtype", dtype) == dtype for value in values):
            return self
        bias = None if self.bias is None else self.bias.astype(dtype)
        recurrent = None if self.recurrent is None else self.recurrent.astype(dtype)
        return Layer(self.weights.astype(dtype), self.neuron.astype(dtype), bias, recurrent, self.window)
