"""Keys: kind, default, range and meaning of a dataclass field, declared once, at the field itself.

    @dataclass(frozen=True)
    class SolverSpec(Table, section="solver"):
        tolerance: float = key("number", 1e-6, "relative duality gap to reach", above=0, below=1)

These declarations determine the tables of a problem file, the documentation, and the checks of a dataclass
made in Python. `read_table` and `Table` refuse a value with the same message.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar, overload

import numpy as np

from convexsnn.errors import ConvexSNNError, ProblemFileError, nearest

REQUIRED = object()
Spec = TypeVar("Spec", bound=Any)

EXPECTED = {
    "text": "text",
    "whole": "a whole number",
    "number": "a finite number",
    "flag": "true or false",
    "numbers": "a finite number or a list of them",
    "wholes": "a list of whole numbers",
    "table": "a table",
}


class RegisteredNames(Sequence[str]):
    """The names in a registry, read again at each access."""

    def __init__(self, registry: Callable[[], Iterable[str]]) -> None:
        """Take a function that returns the registry, so that the registry is imported at the first access."""
        self.registry = registry

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[str, ...]: ...
    def __getitem__(self, index: int | slice) -> str | tuple[str, ...]:
        """Return one name, or several."""
        return tuple(self.registry())[index]

    def __len__(self) -> int:
        """Return the number of names."""
        return len(tuple(self.registry()))


@dataclass(frozen=True)
class Key:
    """One key: kind, default, range and meaning.

    Attributes
    ----------
    kind : str
        A name of `EXPECTED`.
    default : object
        `REQUIRED` if there is none.
    meaning : str
        A noun phrase that can be understood without the name of the key.
    choices : sequence of str
        The allowed values, or () if any value is.
    least, above, below, most : float or None
        Range of every number: value >= least, value > above, value < below, value <= most.
    later : bool
        Whether the key is newer than the first fingerprints. At its default such a key is no part of a
        fingerprint, so that old fingerprints stay valid.
    """

    kind: str
    default: Any
    meaning: str
    choices: Sequence[str] = ()
    least: float | None = None
    above: float | None = None
    below: float | None = None
    most: float | None = None
    later: bool = False

    def checked(self, name: str, value: Any, error: type[ConvexSNNError] = ProblemFileError) -> Any:
        """Return the value in the Python type of its kind, so that 5, 5.0 and numpy's 5 are equal keys.

        Raises
        ------
        ConvexSNNError
            Of type `error`: wrong type, not one of the choices, or out of range. The message begins with
            `name`.
        """
        if value is None and self.default is None:
            return None
        if not _fits(self.kind, value):
            raise error(f"{name}: expected {EXPECTED[self.kind]}, got {value!r}")
        if len(self.choices) and value not in self.choices:
            hint = nearest(value, self.choices)
            raise error(f"{name}: expected one of {', '.join(self.choices)}, got {value!r}{hint}")
        if self.least is not None and np.min(value) < self.least:
            raise error(f"{name}: expected at least {self.least:g}, got {value!r}")
        if self.above is not None and np.min(value) <= self.above:
            raise error(f"{name}: expected more than {self.above:g}, got {value!r}")
        if self.below is not None and np.max(value) >= self.below:
            raise error(f"{name}: expected less than {self.below:g}, got {value!r}")
        if self.most is not None and np.max(value) > self.most:
            raise error(f"{name}: expected at most {self.most:g}, got {value!r}")
        return _plain(self.kind, value)


def key(
    kind: str,
    default: Any,
    meaning: str,
    choices: Sequence[str] | Callable[[], Iterable[str]] = (),
    **more: Any,
) -> Any:
    """Return a dataclass field with a key.

    Parameters
    ----------
    choices : sequence of str or callable
        A function if the names are in a registry; it is called when a value is checked.
    **more
        `least`, `above`, `below`, `most` and `later` of the `Key`.
    """
    names = RegisteredNames(choices) if callable(choices) else choices
    metadata = {"key": Key(kind, default, meaning, names, **more)}
    if default is REQUIRED:
        return field(metadata=metadata)
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@cache
def keys_of(cls: type) -> Mapping[str, Key]:
    """Return the keys of a dataclass's fields, by name; fields without a key are omitted."""
    return MappingProxyType({f.name: f.metadata["key"] for f in fields(cls) if "key" in f.metadata})


def check_fields(spec: Any, section: str = "", error: type[ConvexSNNError] = ProblemFileError) -> None:
    """Check every field of a dataclass that has a key, and replace its value by the plain one.

    Parameters
    ----------
    section : str
        Name of the table in a problem file; messages have it before the key.

    Raises
    ------
    ConvexSNNError
        Of type `error`, as `Key.checked`.
    """
    dot = f"{section}." if section else ""
    for name, one in keys_of(spec.__class__).items():
        object.__setattr__(spec, name, one.checked(f"{dot}{name}", getattr(spec, name), error))


class Table:
    """The base of a dataclass with keys: its values are checked when it is made; see `check_fields`."""

    _section: ClassVar[str]

    def __init_subclass__(cls, section: str = "") -> None:
        """Take the name of the table in a problem file."""
        cls._section = section

    def __post_init__(self) -> None:
        check_fields(self, self._section)


def read_table(
    section: str, table: Any, keys: Mapping[str, Key], beside: Iterable[str] = ()
) -> dict[str, Any]:
    """Check one table of a problem file and fill in its defaults; None counts as missing.

    Parameters
    ----------
    beside : iterable of str
        Names to suggest for a misspelt key, in addition to the keys.

    Raises
    ------
    ProblemFileError
        Unknown key (the message has the nearest known one), missing key, wrong type or value.
    """
    if not isinstance(table, Mapping):
        raise ProblemFileError(f"{section}: expected a table, got {table!r}")
    dot = f"{section}." if section else ""
    _refuse_unknown(dot, table, [*keys, *beside])
    values = {}
    for name, one in keys.items():
        value = table.get(name)
        if value is None and one.default is REQUIRED:
            raise ProblemFileError(f"{dot}{name}: missing")
        values[name] = one.default if value is None else one.checked(f"{dot}{name}", value)
    return values


def changed(spec: Spec, section: str, table: Mapping[str, Any]) -> Spec:
    """Return a dataclass with other values in some of its fields; the values are checked.

    Raises
    ------
    ProblemFileError
        Unknown key (the message has the nearest known one), wrong type or value.
    """
    _refuse_unknown(f"{section}.", table, [f.name for f in fields(spec)])
    return replace(spec, **table)


def _refuse_unknown(dot: str, table: Iterable[str], known: Sequence[str]) -> None:
    for name in table:
        if name not in known:
            hint = nearest(name, known, f"; known keys: {', '.join(known)}")
            raise ProblemFileError(f"{dot}{name}: unknown key{hint}")


def as_table(spec: Any) -> dict[str, Any]:
    """Return the keys of a dataclass with their values, as a table of a problem file, without None."""
    values = {name: getattr(spec, name) for name in keys_of(spec.__class__)}
    return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items() if v is not None}


def _number(value: Any) -> bool:
    """Return whether a value is a number that a finite float can hold."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _whole(value: Any) -> bool:
    """Return whether a value is a whole number of 64 bits."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and abs(int(value)) < 1 << 63


def _fits(kind: str, value: Any) -> bool:
    match kind:
        case "text":
            return isinstance(value, str)
        case "whole":
            return _whole(value)
        case "wholes":
            return isinstance(value, (list, tuple)) and bool(value) and all(_whole(v) for v in value)
        case "number":
            return _number(value)
        case "numbers":
            values = value if isinstance(value, (list, tuple)) else [value]
            return bool(values) and all(_number(v) for v in values)
        case "flag":
            return isinstance(value, bool)
        case _:
            return isinstance(value, Mapping)


def _plain(kind: str, value: Any) -> Any:
    match kind:
        case "whole":
            return int(value)
        case "number":
            return float(value)
        case "numbers":
            return [float(v) for v in value] if isinstance(value, (list, tuple)) else float(value)
        case "wholes":
            return [int(v) for v in value]
        case _:
            return value
