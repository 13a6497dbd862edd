"""Layers: units that see the same inputs, and the architecture of such a layer without its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from convexsnn.arrays import BoolArray, FloatArray, real_array
from convexsnn.errors import ShapeError
from convexsnn.fields import as_table, check_fields, key
from convexsnn.networks.neuron import LAYER_KEYS, RESETS
from convexsnn.networks.neurons import NEURONS, Neuron
from convexsnn.networks.parameters import GRID, SHARED, TRAINED, Parameter
from convexsnn.networks.windows import Window, image_shape

if TYPE_CHECKING:
    from scipy.sparse import csr_array

GATHERED = 2**18  # numbers in the patches of a block of rows: they stay in the processor's cache


@dataclass(frozen=True)
class LayerSpec:
    """Architecture of one hidden layer, without its weights.

    `leak` is the grid from which each unit takes its own; it and `reset` matter to neurons that declare them.
    `parameters` has what other neurons declare: a number or word for the layer, or a grid for its units;
    what is missing takes its default. With `kernel` or `pool` the layer looks through a `Window`, and
    `width` is the number of filters.
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
        """Whether the layer looks through a window: patches, or a pooled image."""
        return self.kernel is not None or self.pool > 1

    def setting(self, name: str) -> Any:
        """Return what the architecture says of a parameter: a number, a word, or a grid as a tuple."""
        return self.parameters[name] if name in self.parameters else getattr(self, name)

    def grids(self) -> dict[str, tuple[float, ...]]:
        """Return the grids from which each unit takes its own values, by the parameter's name."""
        return {p.name: self.setting(p.name) for p in NEURONS[self.neuron].parameters(GRID)}

    def make_neuron(self, **per_unit: npt.ArrayLike) -> Neuron:
        """Return the neuron of units with these parameters, each a number or (m,).

        A grid of one value need not be given; trained parameters are 0 if not given.

        Raises
        ------
        ShapeError
            A grid of several values of which none is given.
        """
        kind = NEURONS[self.neuron]
        values: dict[str, Any] = {p.name: self.setting(p.name) for p in kind.parameters(SHARED)}
        values |= {p.name: 0.0 for p in kind.parameters(TRAINED)}
        for name, grid in self.grids().items():
            if len(grid) > 1 and name not in per_unit:
                raise ShapeError(f"{name}: a grid of {len(grid)} values, choose one of them for each unit")
            values[name] = grid[0]
        return kind(**{**values, **per_unit})

    def first_neuron(self) -> Neuron:
        """Return the neuron at the first value of every grid, for questions about its kind."""
        return self.make_neuron(**{name: grid[0] for name, grid in self.grids().items()})

    def drawn_neuron(self, units: int, rng: np.random.Generator) -> Neuron:
        """Return the neuron of units that each draw their values from the grids; trained parameters are 0."""
        drawn = {name: rng.choice(np.asarray(grid), units) for name, grid in self.grids().items()}
        trained = {p.name: np.zeros(units) for p in NEURONS[self.neuron].parameters(TRAINED)}
        return self.make_neuron(**drawn, **trained)

    def table(self) -> dict[str, Any]:
        """Return the layer as its table in a problem file, without what is not given."""
        own = {k: list(v) if isinstance(v, tuple) else v for k, v in self.parameters.items()}
        return {**as_table(self), **own}


def layer_parameters(neuron: str) -> tuple[Parameter, ...]:
    """Return the parameters of a neuron that are keys of its layers alone: `LayerSpec.parameters`."""
    return tuple(p for p in NEURONS[neuron].parameters(SHARED, GRID) if p.name not in LAYER_KEYS)


def _settings(neuron: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the architecture says of all of a neuron's parameters without a field of their own."""
    declared = {p.name: p for p in layer_parameters(neuron)}
    for name in given:
        if name not in declared:
            known = ", ".join(declared) or "none"
            raise ShapeError(f"{name}: unknown parameter of neuron {neuron!r}; known: {known}")
    settings: dict[str, Any] = {}
    for name, parameter in declared.items():
        value = parameter.checked(given.get(name, parameter.default))
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
        Per-unit parameters, where it has any, are (m,).
    bias : (m,) array, with a window (filters,); optional
    recurrent : (m, m) array, optional
        Entry (j, k): weight of unit k's last spike on unit j.
    window : Window, optional
        Each filter is a unit at every position of the window; units are in the order (filter, position).
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
        for declared in self.neuron.parameters(GRID, TRAINED):
            value = getattr(self.neuron, declared.name)
            if isinstance(value, np.ndarray) and value.shape != (m,):
                raise ShapeError(f"{declared.name}: expected one value or (m={m},), got {value.shape}")

    @property
    def units(self) -> int:
        """Number of units m: of rows of weights, with a window times its positions."""
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
            Where to write, as in numpy.

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
        at_a_time = max(1, GATHERED // (window.positions * window.patch))
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
            raise ShapeError("window: a convolution's units share their weights and cannot be taken apart")

    def select(self, units: Any) -> Layer:
        """Return the layer with some of its units only; not for a recurrent layer, whose units interact."""
        self._check_separable()
        if self.recurrent is not None:
            raise ShapeError("recurrent: units of a recurrent layer cannot be taken alone")
        bias = None if self.bias is None else self.bias[units]
        return Layer(self.weights[units], self.neuron.unit(units), bias)

    def unit_inputs(self, inputs: FloatArray, spikes: BoolArray) -> FloatArray:
        """Return all that a unit's weights multiply: inputs, 1 for a bias, the layer's last spikes.

        `inputs` (n, T, d), `spikes` (n, T, m) -> (n, T, d [+ 1] [+ m]).
        """
        self._check_separable()
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
        self._check_separable()
        parts = [self.weights]
        if self.bias is not None:
            parts.append(self.bias[:, None])
        if self.recurrent is not None:
            parts.append(self.recurrent)
        parts += [self.neuron.values(p.name, self.units)[:, None] for p in self.neuron.parameters(TRAINED)]
        return np.concatenate(parts, axis=1)

    def with_unit_weights(self, weights: FloatArray) -> Layer:
        """Return the layer with other trained weights, (m, d') as `unit_weights` returns them."""
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
        """Return the layer in a floating-point type: itself if it is of that type already."""
        held = [self.weights, *vars(self.neuron).values()]
        if all(getattr(value, "dtype", dtype) == dtype for value in held):
            return self
        bias = None if self.bias is None else self.bias.astype(dtype)
        recurrent = None if self.recurrent is None else self.recurrent.astype(dtype)
        return Layer(self.weights.astype(dtype), self.neuron.astype(dtype), bias, recurrent, self.window)
