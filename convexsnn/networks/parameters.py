"""Parameters of neurons; each is declared once, at its field.

A neuron is a frozen dataclass whose fields are made by `parameter`::

    leak: PerUnit = parameter("β", "share of the membrane that a step keeps", 0.9, of=GRID, least=0, most=1)

The declaration determines the checks of values, the keys of a layer in a problem file, the arrays of a saved
network, the check of an architecture, the enumeration of grids, the trained weights of a unit, and the line
of ``convexsnn inspect``.

SHARED    one number or word for the whole layer, set by the architecture
GRID      one number per unit, from a list in the architecture
TRAINED   one trained weight per unit; the neuron's rows `affine_rows` have a column for it
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from convexsnn.arrays import FloatArray, choice, fraction, plain_array
from convexsnn.errors import ShapeError, UnsupportedError

SHARED, GRID, TRAINED = "shared", "grid", "trained"
PerUnit = float | FloatArray
# names with another meaning in a layer, in its table of a problem file, or in a saved network
RESERVED = frozenset(
    "neuron weights bias recurrent window width kernel stride pool shape parameters kind inputs".split()
)


@dataclass(frozen=True)
class Parameter:
    """The declaration of one parameter of a neuron.

    Attributes
    ----------
    name : str
        Name of the dataclass field, of the key in a problem file, and of the array in a saved network.
    symbol : str
        Symbol in formulas.
    default : float or str
    of : {"shared", "grid", "trained"}
    choices : tuple of str
        The allowed words, if the value is a word.
    least, above, most : float or None
        Range of every number: value >= least, value > above, value <= most.
    multiplies : str
        Name, for texts, of the quantity that a trained parameter multiplies.
    """

    name: str
    symbol: str
    meaning: str
    default: float | str
    of: str = SHARED
    choices: tuple[str, ...] = ()
    least: float | None = None
    above: float | None = None
    most: float | None = None
    multiplies: str = ""

    @property
    def per_unit(self) -> bool:
        """Whether each unit may have a different value."""
        return self.of != SHARED

    def checked(self, value: Any) -> float | str | FloatArray:
        """Return a value in the form that the neuron stores: a word, a float, or a copy (m,) in float64.

        Raises
        ------
        ShapeError
            Wrong type or shape, not finite, or outside the range; the message names the parameter.
        """
        if self.choices:
            value = value.item() if isinstance(value, np.ndarray) and value.ndim == 0 else value
            choice(self.name, value, self.choices)
            return str(value)
        expected = "a finite number or one a unit" if self.per_unit else self._range("number")
        try:
            # a copy, so that a checked value cannot change later
            raw = plain_array(self.name, value, copy=True)
        except ValueError as error:
            raise ShapeError(f"{self.name}: expected {expected}, got {value!r}") from error
        if raw.dtype.kind not in "iuf" or raw.ndim > self.per_unit or raw.size == 0:
            received = raw.item() if raw.ndim == 0 else value
            raise ShapeError(f"{self.name}: expected {expected}, got {received!r}")
        array = raw.astype(np.float64)
        if self.per_unit and not np.isfinite(array).all():
            raise ShapeError(f"{self.name}: expected {expected}, got {value!r}")
        if not self._fits(array):
            received = float(array) if array.ndim == 0 else value
            raise ShapeError(
                f"{self.name}: expected {self._range('value') if self.per_unit else expected}, got {received}"
            )
        return float(array) if array.ndim == 0 else array

    def _fits(self, array: FloatArray) -> bool:
        least, most = float(array.min()), float(array.max())
        return bool(
            np.isfinite(array).all()
            and (self.least is None or least >= self.least)
            and (self.above is None or least > self.above)
            and (self.most is None or most <= self.most)
        )

    def _range(self, what: str) -> str:
        """Return the range in words: "a positive number", "values in [0, 1]"."""
        many, one = f"{what}s", f"a {what}"
        words = many if self.per_unit else one
        if self.least is not None and self.most is not None:
            return f"{words} in [{self.least:g}, {self.most:g}]"
        if self.above == 0 and self.most is None:
            return f"positive {many}" if self.per_unit else f"a positive {what}"
        bounds = [f"{sign} {limit:g}" for sign, limit in (
            (">=", self.least), (">", self.above), ("<=", self.most)) if limit is not None]  # fmt: skip
        if not bounds:
            return f"finite {many}" if self.per_unit else f"a finite {what}"
        return f"{words} {' and '.join(bounds)}"


def parameter(symbol: str, meaning: str, default: float | str, **declared: Any) -> Any:
    """Declare a neuron's parameter at its dataclass field; `declared` are further fields of `Parameter`."""
    return field(default=default, metadata={"parameter": Parameter("", symbol, meaning, default, **declared)})


@cache
def parameters_of(cls: type, *of: str) -> tuple[Parameter, ...]:
    """Return the parameters that a neuron's class declares, in the order of its fields: all, or some kinds.

    Raises
    ------
    UnsupportedError
        A field without a declaration.
    """
    declared = []
    for written in fields(cls):
        if "parameter" not in written.metadata:
            raise UnsupportedError(
                f"neuron {cls.__name__}: field {written.name} is not a declared parameter; "
                f"write {written.name}: ... = parameter(symbol, meaning, default)"
            )
        declared.append(replace(written.metadata["parameter"], name=written.name))
    return tuple(p for p in declared if not of or p.of in of)


def values_of_units(value: PerUnit, units: Any) -> PerUnit:
    """Return the values of some units: an index, a slice or an array of indices."""
    if not isinstance(value, np.ndarray):
        return value
    selection = value[units]
    if np.ndim(selection):
        return np.array(selection)
    return selection if value.dtype == object else float(selection)


def cast(value: PerUnit, dtype: npt.DTypeLike) -> PerUnit:
    """Return values in another floating-point type; a single value for all units stays a float."""
    return value.astype(dtype) if isinstance(value, np.ndarray) else value


def as_fractions(value: Any) -> Any:
    """Return numbers as fractions of exactly their stored value; a word is returned unchanged."""
    return value if isinstance(value, str) else fraction(value)
