"""The base class of neurons, and the registry of neurons."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import Field, dataclass, is_dataclass
from typing import Any, ClassVar, NamedTuple, Self, TypeVar

import numpy as np
import numpy.typing as npt

from convexsnn.arrays import BoolArray, FloatArray, lagged
from convexsnn.errors import ShapeError, UnsupportedError
from convexsnn.networks.agreement import check_agreement
from convexsnn.networks.parameters import (
    GRID,
    RESERVED,
    SHARED,
    TRAINED,
    Parameter,
    PerUnit,
    as_fractions,
    cast,
    parameter,
    parameters_of,
    values_of_units,
)

RESETS = ("subtract", "subtract_after", "zero", "none")


class LeakyForm(NamedTuple):
    """A neuron in the form that the fast kernels of ADMM and gradients take; see `Neuron.leaky_form`.

    Attributes
    ----------
    leak : float or (m,) array, or None
        β, the neuron's parameter "leak"; None for a unit without memory.
    reset : str
        One of `RESETS`.
    removed : float or (m,) array, or None
        Amount that a spike subtracts from the next step's membrane; None for a reset to zero.
    own_weight : float or (m,) array, or None
        Weight on the unit's own last spike, the neuron's parameter "own_weight"; None if it has none.
    """

    leak: PerUnit | None
    reset: str
    removed: PerUnit | None
    own_weight: PerUnit | None = None


@dataclass(frozen=True, eq=False)
class Neuron(ABC):
    """Dynamics and parameters of the units of one layer; a parameter has one value, or one value per unit."""

    threshold: float = parameter("θ", "membrane at which a unit fires", 0.0)
    kind: ClassVar[str]
    sees_own_spike: ClassVar[bool] = False  # whether a trained weight multiplies the unit's own last spike

    def __post_init__(self) -> None:
        for declared in self.parameters():
            object.__setattr__(self, declared.name, declared.checked(getattr(self, declared.name)))

    @classmethod
    def parameters(cls, *of: str) -> tuple[Parameter, ...]:
        """Return the declared parameters: all, or those of the kinds `of` (SHARED, GRID, TRAINED)."""
        return parameters_of(cls, *of)

    @property
    @abstractmethod
    def dynamics(self) -> str:
        """Recursion of the membrane as text: u_t = ... + I_t."""

    @abstractmethod
    def carry(self, membrane: FloatArray, spikes: BoolArray) -> FloatArray | float:
        """Return the value that a step passes on to the next one, (n, m)."""

    def step(
        self, drive: FloatArray, carry: FloatArray | float, out: FloatArray | None = None
    ) -> tuple[FloatArray, BoolArray, FloatArray | float]:
        """Run one step.

        Parameters
        ----------
        drive : (n, m) array
            Weighted inputs of this step, bias included.
        carry : (n, m) array, or 0 before the first step
        out : (n, m) array, optional
            Array for the membrane, as in numpy; may be `drive` itself.

        Returns
        -------
        membrane, spikes, carry : (n, m) arrays
        """
        membrane = np.add(carry, drive, out=out)
        spikes = membrane >= self.threshold
        return membrane, spikes, self.carry(membrane, spikes)

    @abstractmethod
    def after_reset(self, membrane: FloatArray, spikes: BoolArray) -> FloatArray:
        """Return the membrane v after its reset; the membrane readout is 1{v >= 0}."""

    @abstractmethod
    def affine_rows(self, inputs: FloatArray, spikes: BoolArray) -> tuple[FloatArray, FloatArray]:
        """Return g (n, T, d') and h (n, T): given `spikes`, the unit fires at (i, t) iff g·w >= h.

        g·w − h is the membrane minus the threshold, so that margins have the unit of the membrane.

        Parameters
        ----------
        inputs : (n, T, d) array
            All inputs of the unit: the layer's, a column of ones for a bias, last spikes of neighbours.
        spikes : (n, T) bool array
            The unit's own spikes; row (i, t) depends only on those before t.

        Notes
        -----
        d' is d, plus one column for each trained parameter of the unit, in the order of their fields.
        """

    def readout_rows(self, inputs: FloatArray, spikes: BoolArray) -> tuple[FloatArray, FloatArray]:
        """Return g, h as `affine_rows`, but for the event v_t >= 0 of the membrane readout.

        Where the event happens for all weights, g = 0 and h = −∞.
        """
        g, h = self.affine_rows(inputs, spikes)
        return g, h - self.threshold

    def certain(self, spikes: BoolArray) -> BoolArray:
        """Return the places where the membrane readout is 1 for all weights; `spikes` may have any shape."""
        return np.zeros_like(spikes)

    def leaky_form(self, road: str) -> LeakyForm:
        """Return the neuron in the form of the fast kernels, from `kernel_form` of its own class.

        A class does not inherit `kernel_form`, since its dynamics may differ from those of its parent.

        Raises
        ------
        UnsupportedError
            The class has no `kernel_form`; the message names the neuron and the training method `road`.
        """
        form = vars(type(self)).get("kernel_form")
        if form is None:
            raise UnsupportedError(
                f"neuron {self.kind}: has no leaky form, which {road} needs; convex training takes any neuron"
            )
        return form(self)

    def with_parameters(self, change: Mapping[str, Any]) -> Self:
        """Return the neuron with other values, unchecked: fractions, or another floating-point type."""
        other = copy(self)
        for name, value in change.items():
            object.__setattr__(other, name, value)
        return other

    def unit(self, units: Any) -> Self:
        """Return the same neuron for some of the units: an index, a slice or an array of indices."""
        values = {
            p.name: values_of_units(getattr(self, p.name), units) for p in self.parameters(GRID, TRAINED)
        }
        return self.with_parameters(values) if values else self

    def astype(self, dtype: npt.DTypeLike) -> Self:
        """Return the same neuron with per-unit parameters of another floating-point type."""
        values = {p.name: cast(getattr(self, p.name), dtype) for p in self.parameters(GRID, TRAINED)}
        return self.with_parameters(values) if values else self

    def exact(self) -> Self:
        """Return the same neuron with fractions as its numbers, for arrays of fractions."""
        return self.with_parameters({p.name: as_fractions(getattr(self, p.name)) for p in self.parameters()})

    def values(self, name: str, units: int) -> FloatArray:
        """Return the value of a parameter in each of m units, (m,)."""
        return np.broadcast_to(getattr(self, name), (units,))

    def grid_point(self, unit: int) -> dict[str, float]:
        """Return the values of one unit's GRID parameters, by name."""
        return {p.name: float(values_of_units(getattr(self, p.name), unit)) for p in self.parameters(GRID)}

    def first_rows(self, inputs: FloatArray, spikes: BoolArray) -> tuple[FloatArray, FloatArray]:
        """Return g and h of a neuron without memory, from which `affine_rows` starts.

        g is a copy of the inputs (n, T, d), in floats or fractions. h (n, T) is θ everywhere.

        Raises
        ------
        ShapeError
            The neuron has values of several units.
        """
        for declared in self.parameters(GRID, TRAINED):
            if isinstance(value := getattr(self, declared.name), np.ndarray):
                raise ShapeError(
                    f"{declared.name}: affine_rows is for one unit, got {len(value)} values; use unit(j)"
                )
        g = np.array(inputs, dtype=object if inputs.dtype.kind == "O" else np.float64)
        return g, np.full(spikes.shape, self.threshold, g.dtype)


def last_spikes(spikes: BoolArray) -> npt.NDArray[np.int64]:
    """Return the spike before each step as 0 or 1, `spikes` (n, T) -> (n, T)."""
    return lagged(spikes.astype(np.int64))


def joined(neurons: Sequence[Neuron], units: Sequence[int]) -> Neuron:
    """Return the neuron of several layers side by side, which have these numbers of units.

    Raises
    ------
    ShapeError
        Neurons of two kinds, or shared parameters that differ; the message names the parameter.
    """
    first = neurons[0]
    for other in neurons[1:]:
        if other.kind != first.kind:
            raise ShapeError(f"neuron: {first.kind!r} and {other.kind!r} cannot share a layer")
        for p in first.parameters(SHARED):
            one, another = getattr(first, p.name), getattr(other, p.name)
            if one != another:
                raise ShapeError(f"{p.name}: {one!r} and {another!r} cannot share a layer")
    values = {
        p.name: np.concatenate([n.values(p.name, m) for n, m in zip(neurons, units, strict=True)])
        for p in first.parameters(GRID, TRAINED)
    }
    return first.with_parameters(values) if values else first


NEURONS: dict[str, type[Neuron]] = {}
N = TypeVar("N", bound=type[Neuron])
# keys of every layer's table, with kind and default; a neuron with such a parameter must declare it alike
LAYER_KEYS: dict[str, tuple[str, Any]] = {
    "threshold": (SHARED, None),  # None: any default
    "leak": (GRID, 0.9),
    "reset": (SHARED, RESETS[0]),
}


def register_neuron(cls: N) -> N:
    """Register a neuron under its `kind`, the name in problem files and saved networks; a decorator.

    Raises
    ------
    UnsupportedError
        The class lacks something, its kind or a parameter name is in use, or its inequalities are not those
        of its dynamics (`agreement`); the message has the name.
    """
    _check_complete(cls)
    check_agreement(cls)
    NEURONS[cls.kind] = cls
    return cls


def own_neuron(cls: N) -> N:
    """Register a neuron of this package: its agreement is a test, which need not run at every start."""
    _check_complete(cls)
    NEURONS[cls.kind] = cls
    return cls


def _check_complete(cls: type[Neuron]) -> None:
    if not (isinstance(cls, type) and issubclass(cls, Neuron)):
        raise UnsupportedError(f"neuron: expected a class below Neuron, got {cls!r}")
    name, kind = f"neuron {cls.__name__}", cls.__dict__.get("kind")
    if missing := sorted(cls.__abstractmethods__):
        raise UnsupportedError(f"{name}: leaves out {', '.join(missing)}")
    if not isinstance(kind, str) or not kind:
        raise UnsupportedError(f"{name}: leaves out kind, its name in problem files")
    if kind in NEURONS:
        raise UnsupportedError(f"{name}: kind {kind!r} is taken by {NEURONS[kind].__name__}")
    if not is_dataclass(cls) or any(isinstance(value, Field) for value in vars(cls).values()):
        raise UnsupportedError(f"{name}: needs @dataclass(frozen=True, eq=False) below @register_neuron")
    for declared in parameters_of(cls):
        _check_declared(name, declared)


def _check_declared(neuron: str, declared: Parameter) -> None:
    name, of = f"{neuron}: parameter {declared.name}", declared.of
    if declared.name in RESERVED:
        raise UnsupportedError(f"{name} has the name of a key that every layer has")
    if of not in (SHARED, GRID, TRAINED):
        raise UnsupportedError(f"{name}: expected of = {SHARED}, {GRID} or {TRAINED}, got {of!r}")
    if isinstance(declared.default, str) and (of != SHARED or not declared.choices):
        raise UnsupportedError(f"{name}: a parameter that is a word must be shared and needs choices")
    try:
        declared.checked(declared.default)
    except ShapeError as error:
        raise UnsupportedError(f"{name}: its default is refused: {error}") from error
    if declared.name in LAYER_KEYS:
        like, default = LAYER_KEYS[declared.name]
        if of != like or default not in (None, declared.default) or not {*declared.choices} <= {*RESETS}:
            words = like if default is None else f"{like}, with the default {default!r}"
            raise UnsupportedError(f"{name} is a key of every layer; declare it {words}")
