"""Parameters of neurons: each is declared once, at its field, and everything else follows from that.

A neuron is a frozen dataclass whose fields are made by `parameter`::

    leak: PerUnit = parameter("β", "share of the membrane that a step keeps", 0.9, of=GRID, least=0, most=1)

From the declaration follow the checks of values, the keys of a layer in a problem file, the arrays of a saved
network, the check of an architecture, the enumeration of grids, the trained weights of a unit, and the line
of ``convexsnn inspect``.

SHARED    one number or word for the whole layer, a setting of the architecture
GRID      one number a unit, taken from a list that the architecture gives
TRAINED   one trained weight a unit; the neuron's rows `affine_rows` have a column for it
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from convexsnn.arrays import FloatArray, choice
from convexsnn.errors import ShapeError, UnsupportedError

SHARED, GRID, TRAINED = "shared", "grid", "trained"
PerUnit = float | FloatArray
# names that mean something else in a layer, in its table of a problem file or in a saved network
TAKEN = frozenset(
    "neuron weights bias recurrent window width kernel stride pool shape parameters kind inputs".split()
)

fraction = np.frompyfunc(lambda x: Fraction(float(x)), 1, 1)  # exact, entry by entry


@dataclass(frozen=True)
class Parameter:
    """What a neuron declares of one of its parameters.

    Attributes
    ----------
    name : str
        Of the dataclass field, of the key in a problem file, and of the array in a saved network.
    symbol : str
        In formulas.
    default : float or str
    of : {"shared", "grid", "trained"}
    choices : tuple of str
        Where the value is a word.
    least, above, most : float or None
        Range of every number: value >= least, value > above, value <= most.
    multiplies : str
        Of a trained one, what it is the weight of, for texts.
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
        """Whether each unit may have a value of its own."""
        return self.of != SHARED

    def checked(self, value: Any) -> float | str | FloatArray:
        """Return a value as the neuron holds it: a word, a float, or a copy (m,) in float64.

        Raises
        ------
        ShapeError
            Of another type or shape, not finite, or outside the range; the message has the name.
        """
        if self.choices:
            value = value.item() if isinstance(value, np.ndarray) and value.ndim == 0 else value
            choice(self.name, value, self.choices)
            return str(value)
        wanted = "a finite number or one a unit" if self.per_unit else self._range("number")
        try:
            raw = np.array(value)  # a copy: what was checked here must not change later
        except ValueError as error:
            raise ShapeError(f"{self.name}: expected {wanted}, got {value!r}") from error
        if raw.dtype.kind not in "iuf" or raw.ndim > self.per_unit or raw.size == 0:
            shown = raw.item() if raw.ndim == 0 else value
            raise ShapeError(f"{self.name}: expected {wanted}, got {shown!r}")
        array = raw.astype(np.float64)
        if self.per_unit and not np.isfinite(array).all():
            raise ShapeError(f"{self.name}: expected {wanted}, got {value!r}")
        if not self._fits(array):
            shown = float(array) if array.ndim == 0 else value
            raise ShapeError(
                f"{self.name}: expected {self._range('value') if self.per_unit else wanted}, got {shown}"
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
    """Declare a neuron's parameter at its dataclass field; keywords are those of `Parameter`."""
    return field(default=default, metadata={"parameter": Parameter("", symbol, meaning, default, **declared)})


@cache
def parameters_of(cls: type, *of: str) -> tuple[Parameter, ...]:
    """Return what a neuron's class declares, in the order of its fields: all, or what is of some kinds.

    Raises
    ------
    UnsupportedError
        A field without a declaration.
    """
    declared = []
    for written in fields(cls):
        if "parameter" not in written.metadata:
            raise UnsupportedError(
                f"neuron {cls.__name__}: field {written.name} is no declared parameter; "
                f"write {written.name}: ... = parameter(symbol, meaning, default)"
            )
        declared.append(replace(written.metadata["parameter"], name=written.name))
    return tuple(p for p in declared if not of or p.of in of)


def picked(value: PerUnit, units: Any) -> PerUnit:
    """Return the values of some units: an index, a slice or an array of indices."""
    if not isinstance(value, np.ndarray):
        return value
    chosen = value[units]
    return np.array(chosen) if np.ndim(chosen) else chosen if value.dtype == object else float(chosen)


def cast(value: PerUnit, dtype: npt.DTypeLike) -> PerUnit:
    """Return values in another floating-point type; one for all units stays a float."""
    return value.astype(dtype) if isinstance(value, np.ndarray) else value


def exactly(value: Any) -> Any:
    """Return numbers as the fractions that they are stored as; a word as it is."""
    return value if isinstance(value, str) else fraction(value)
