"""Reads the tables of a problem file: every key checked against `convexsnn.keys`."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import numpy as np

from convexsnn.errors import ProblemFileError
from convexsnn.keys import REQUIRED, SCHEMA, Key


def _number(value: Any) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)


def _whole(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _fits(key: Key, value: Any) -> bool:
    match key.kind:
        case "text":
            return isinstance(value, str)
        case "whole":
            return _whole(value)
        case "wholes":
            return isinstance(value, (list, tuple)) and bool(value) and all(_whole(v) for v in value)
        case "number":
            return _number(value) and bool(np.isfinite(value))
        case "numbers":
            values = value if isinstance(value, (list, tuple)) else [value]
            return bool(values) and all(_number(v) and np.isfinite(v) for v in values)
        case "flag":
            return isinstance(value, bool)
        case _:
            return isinstance(value, Mapping)


EXPECTED = {
    "text": "text",
    "whole": "a whole number",
    "number": "a finite number",
    "flag": "true or false",
    "numbers": "a finite number or a list of them",
    "wholes": "a list of whole numbers",
    "table": "a table",
}


def read_section(section: str, given: Any, keys: Mapping[str, Key] | None = None) -> dict[str, Any]:
    """Check one table of a problem file and fill in its defaults.

    Parameters
    ----------
    keys : mapping of str to Key, optional
        Keys of this one table, where they are not those of every table of its section.

    Raises
    ------
    ProblemFileError
        Unknown key (the message has the nearest known one), missing key, wrong type or value.
    """
    keys = keys or SCHEMA[section]
    if not isinstance(given, Mapping):
        raise ProblemFileError(f"{section}: expected a table, got {given!r}")
    dot = f"{section}." if section else ""
    for name in given:
        if name not in keys:
            candidates = [*keys, *(k for k in SCHEMA if k and "." not in k)] if not section else list(keys)
            match = get_close_matches(str(name), candidates, n=1)
            hint = f"did you mean {match[0]!r}?" if match else f"known keys: {', '.join(candidates)}"
            raise ProblemFileError(f"{dot}{name}: unknown key; {hint}")
    values = {}
    for name, key in keys.items():
        value = given.get(name)
        if value is None:
            if key.default is REQUIRED:
                raise ProblemFileError(f"{dot}{name}: missing")
            values[name] = key.default
            continue
        if not _fits(key, value):
            raise ProblemFileError(f"{dot}{name}: expected {EXPECTED[key.kind]}, got {value!r}")
        if key.choices and value not in key.choices:
            match = get_close_matches(value, key.choices, n=1)
            hint = f"; did you mean {match[0]!r}?" if match else ""
            raise ProblemFileError(
                f"{dot}{name}: expected one of {', '.join(key.choices)}, got {value!r}{hint}"
            )
        _check_range(f"{dot}{name}", key, value)
        values[name] = _plain(key, value)
    return values


def _check_range(name: str, key: Key, value: Any) -> None:
    """Raise a ProblemFileError unless a number, or every number of a list, is in the key's range."""
    if key.least is not None and np.min(value) < key.least:
        raise ProblemFileError(f"{name}: expected at least {key.least:g}, got {value!r}")
    if key.above is not None and np.min(value) <= key.above:
        raise ProblemFileError(f"{name}: expected more than {key.above:g}, got {value!r}")
    if key.below is not None and np.max(value) >= key.below:
        raise ProblemFileError(f"{name}: expected less than {key.below:g}, got {value!r}")
    if key.most is not None and np.max(value) > key.most:
        raise ProblemFileError(f"{name}: expected at most {key.most:g}, got {value!r}")


def _plain(key: Key, value: Any) -> Any:
    """Return the value as Python's own type of its kind, so that 5, 5.0 and numpy's 5 are one."""
    match key.kind:
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
