"""What every neuron has in common, and the registry of neurons."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import Field, dataclass, is_dataclass
from typing import Any, ClassVar, NamedTuple, Self, TypeVar

import numpy as np
import numpy.typing as npt

from convexsnn.arrays import BoolArray, FloatArray
from convexsnn.errors import ShapeError, UnsupportedError
from convexsnn.networks.parameters import (
    GRID,
    SHARED,
    TAKEN,
    TRAINED,
    Parameter,
    PerUnit,
    cast,
    exactly,
    parameter,
    parameters_of,
    picked,
)

RESETS = ("subtract", "subtract_after", "zero", "none")


class LeakyForm(NamedTuple):
    """A neuron as the fast kernels of ADMM and gradients know it; see `Neuron.leaky_form`.

    Attributes
    ----------
    leak : float or (m,) array, or None
        β, the neuron's parameter "leak"; None for a unit without memory.
    reset : str
        One of `RESETS`.
    removed : float or (m,) array, or None
        What a spike takes off the next step's membrane; None where it does something else.
    own_weight : float or (m,) array, or None
        Weight on the unit's own last spike, the neuron's parameter "own_weight"; None if it has none.
    """

    leak: PerUnit | None
    reset: str
    removed: PerUnit | None
    own_weight: PerUnit | None = None


@dataclass(frozen=True, eq=False)
class Neuron(ABC):
    """What the units of one layer have in common; parameters are shared or one a unit."""

    threshold: float = parameter("θ", "membrane at which a unit fires", 0.0)
    kind: ClassVar[str]
    sees_own_spike: ClassVar[bool] = False  # whether a trained weight multiplies the unit's own last spike

    def __post_init__(self) -> None:
        for declared in self.parameters():
            object.__setattr__(self, declared.name, declared.checked(getattr(self, declared.name)))

    @classmethod
    def parameters(cls, *of: str) -> tuple[Parameter, ...]:
        """Return the declared parameters, all or those that are SHARED, GRID or TRAINED."""
        return parameters_of(cls, *of)

    @property
    @abstractmethod
    def dynamics(self) -> str:
        """The membrane's recursion as text: u_t = ... + I_t."""

    @abstractmethod
    def carry(self, membrane: FloatArray, spikes: BoolArray) -> FloatArray | float:
        """Return what a step leaves to the next one, (n, m)."""

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
            Where to write the membrane, as in numpy; may be `drive` itself.

        Returns
        -------
        membrane, spikes, carry : (n, m) arrays
        """
        membrane = np.add(carry, drive, out=out)
        spikes = membrane >= self.threshold
        return membrane, spikes, self.carry(membrane, spikes)

    @abstractmethod
    def after_reset(self, membrane: FloatArray, spikes: BoolArray) -> FloatArray:
        """Return the membrane v after its reset, the quantity of the membrane readout 1{v >= 0}."""

    @abstractmethod
    def affine_rows(self, inputs: FloatArray, spikes: BoolArray) -> tuple[FloatArray, FloatArray]:
        """Return g (n, T, d') and h (n, T): given `spikes`, the unit fires at (i, t) iff g·w >= h.

        Parameters
        ----------
        inputs : (n, T, d) array
            All inputs of the unit: the layer's, a column of ones for a bias, neighbours' last spikes.
        spikes : (n, T) bool array
            The unit's own spikes; row (i, t) depends on those before t alone.

        Notes
        -----
        d' is d, plus one column for each trained parameter of the unit, in the order of their fields.
        """

    def readout_rows(self, inputs: FloatArray, spikes: BoolArray) -> tuple[FloatArray, FloatArray]:
        """Return g, h as `affine_rows` for the event v_t >= 0 of the membrane readout.

        Where it happens whatever the weights, g = 0 and h = −∞.
        """
        g, h = self.affine_rows(inputs, spikes)
        return g, h - self.threshold

    def certain(self, spikes: BoolArray) -> BoolArray:
        """Return where the membrane readout is 1 whatever the weights, for spikes of any shape."""
        return np.zeros_like(spikes)

    def leaky_form(self, road: str) -> LeakyForm:
        """Return the neuron as the fast kernels know it: what `kernel_form` of its own class says.

        A class does not inherit `kernel_form`, as its dynamics may be others than its parent's.

        Raises
        ------
        UnsupportedError
            It has no such form; the message names the neuron and `road`, which asks for it.
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
        own = {p.name: picked(getattr(self, p.name), units) for p in self.parameters(GRID, TRAINED)}
        return self.with_parameters(own) if own else self

    def astype(self, dtype: npt.DTypeLike) -> Self:
        """Return the same neuron with per-unit parameters of another floating-point type."""
        own = {p.name: cast(getattr(self, p.name), dtype) for p in self.parameters(GRID, TRAINED)}
        return self.with_parameters(own) if own else self

    def exact(self) -> Self:
        """Return the same neuron whose numbers are fractions, for arrays of fractions."""
        return self.with_parameters({p.name: exactly(getattr(self, p.name)) for p in self.parameters()})

    def values(self, name: str, units: int) -> FloatArray:
        """Return a parameter of each of m units, (m,)."""
        return np.broadcast_to(getattr(self, name), (units,))

    def grid_point(self, unit: int) -> dict[str, float]:
        """Return what one unit takes from each grid of the architecture."""
        return {p.name: float(picked(getattr(self, p.name), unit)) for p in self.parameters(GRID)}

    def first_rows(self, inputs: FloatArray, spikes: BoolArray) -> tuple[FloatArray, FloatArray]:
        """Return g and h of a neuron without memory, for `affine_rows` to go on from.

        A copy of the inputs (n, T, d), in floats or fractions, and θ in every row (n, T).

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
    before = np.zeros(spikes.shape, np.int64)
    before[:, 1:] = spikes[:, :-1]
    return before


def joined(neurons: Sequence[Neuron], units: Sequence[int]) -> Neuron:
    """Return the neuron of layers side by side, of these numbers of units.

    Raises
    ------
    ShapeError
        Neurons of two kinds, or shared parameters that differ; the message has the name.
    """
    first = neurons[0]
    for other in neurons[1:]:
        if other.kind != first.kind:
            raise ShapeError(f"neuron: {first.kind!r} and {other.kind!r} cannot share a layer")
        for p in first.parameters(SHARED):
            one, another = getattr(first, p.name), getattr(other, p.name)
            if one != another:
                raise ShapeError(f"{p.name}: {one!r} and {another!r} cannot share a layer")
    own = {
        p.name: np.concatenate([n.values(p.name, m) for n, m in zip(neurons, units, strict=True)])
        for p in first.parameters(GRID, TRAINED)
    }
    return first.with_parameters(own) if own else first


NEURONS: dict[str, type[Neuron]] = {}
N = TypeVar("N", bound=type[Neuron])
# keys that a layer's table has for every neuron; who declares such a parameter declares it so
LAYER_KEYS: dict[str, tuple[str, Any]] = {
    "threshold": (SHARED, None),  # None: any default
    "leak": (GRID, 0.9),
    "reset": (SHARED, RESETS[0]),
}


def register_neuron(cls: N) -> N:
    """Make a neuron known by its `kind`: to problem files, saved networks and everything else.

    Raises
    ------
    UnsupportedError
        The class leaves something out, or its kind or a parameter is taken; the message has the name.
    """
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
    NEURONS[kind] = cls
    return cls


def _check_declared(neuron: str, declared: Parameter) -> None:
    name, of = f"{neuron}: parameter {declared.name}", declared.of
    if declared.name in TAKEN:
        raise UnsupportedError(f"{name} has the name of a key that every layer has")
    if of not in (SHARED, GRID, TRAINED):
        raise UnsupportedError(f"{name}: expected of = {SHARED}, {GRID} or {TRAINED}, got {of!r}")
    if isinstance(declared.default, str) and (of != SHARED or not declared.choices):
        raise UnsupportedError(f"{name}: a word is shared by the layer and needs choices")
    try:
        declared.checked(declared.default)
    except ShapeError as error:
        raise UnsupportedError(f"{name}: its default is refused: {error}") from error
    if declared.name in LAYER_KEYS:
        like, default = LAYER_KEYS[declared.name]
        if of != like or default not in (None, declared.default) or not {*declared.choices} <= {*RESETS}:
            words = like if default is None else f"{like}, with the default {default!r}"
            raise UnsupportedError(f"{name} is a key of every layer; declare it {words}")
