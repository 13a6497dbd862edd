"""What is pinned of a value: its keys and kinds, never its numbers; and how two pins differ."""

import re
import tomllib

import numpy as np


def kind_of(value):
    """Return the kinds of a JSON value: a text, a table of kinds, or a list of one table of kinds.

    A key that only some rows of a list have ends in "?". Kinds that differ between rows are joined by "|".
    """
    match value:
        case None:
            return "null"
        case bool():
            return "flag"
        case int():
            return "whole"
        case float():
            return "number"
        case str():
            return "text"
        case dict():
            return {key: kind_of(one) for key, one in sorted(value.items())}
        case list() | tuple():
            return _list_kind([kind_of(one) for one in value])
    raise TypeError(f"no kind for {value!r}")


def _list_kind(kinds):
    if not kinds:
        return "list of nothing"
    if all(isinstance(kind, dict) for kind in kinds):
        return [_joined_tables(kinds)]
    return f"list of {_joined(kinds)}"


def _joined_tables(tables):
    keys = sorted({key for table in tables for key in table})
    return {
        key if all(key in table for table in tables) else f"{key}?": _joined(
            [table[key] for table in tables if key in table]
        )
        for key in keys
    }


def _joined(kinds):
    """Return one kind for several, in alphabetic order without repetition."""
    different = [kind for k, kind in enumerate(kinds) if kind not in kinds[:k]]
    if len(different) == 1:
        return different[0]
    if all(isinstance(kind, dict) for kind in different):
        return _joined_tables(different)
    if all(isinstance(kind, list) for kind in different):
        return [_joined_tables([kind[0] for kind in different])]
    words = {word for kind in different for word in str(kind).split("|")}
    return "|".join(sorted(words))


def array_kinds(file):
    """Return name: type and rank of every array of an ``.npz``, such as "float64, 2 axes".

    Subnetworks are counted by rounding, so that "subnetworkN_" stands for all of them.
    """
    rows = {}
    with np.load(file, allow_pickle=False) as arrays:
        for name in sorted(arrays.files):
            array = arrays[name]
            kind = f"{'text' if array.dtype.kind == 'U' else array.dtype}, {array.ndim} axes"
            rows.setdefault(re.sub(r"^subnetwork\d+_", "subnetworkN_", name), []).append(kind)
    return {name: _joined(kinds) for name, kinds in sorted(rows.items())}


def toml_kinds(file):
    """Return the keys and kinds of a TOML file."""
    return kind_of(tomllib.loads(file.read_text(encoding="utf-8")))


def flat(pin, prefix=""):
    """Return a pin as one level of `path: text`."""
    if isinstance(pin, dict) and pin:
        parts = [flat(value, f"{prefix}.{key}" if prefix else str(key)) for key, value in pin.items()]
        return {path: text for part in parts for path, text in part.items()}
    if isinstance(pin, list) and len(pin) == 1 and isinstance(pin[0], dict):
        return flat(pin[0], f"{prefix}[]")
    return {prefix: repr(pin)}


def differences(pinned, present):
    """Return one line for every key that was added, lost or altered between two pins."""
    old, new = flat(pinned), flat(present)
    lines = [f"lost     {path}: {old[path]}" for path in old if path not in new]
    lines += [f"added    {path}: {new[path]}" for path in new if path not in old]
    lines += [
        f"altered  {path}: {old[path]} -> {new[path]}"
        for path in old
        if path in new and old[path] != new[path]
    ]
    return lines
