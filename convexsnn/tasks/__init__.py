"""Seeded data generators, called by name with arguments.

A generator returns a dict with ``inputs`` (n, T, d) and ``targets``, and optionally with ``test_inputs``
and ``test_targets``. The same arguments give the same arrays on every machine.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from convexsnn import errors
from convexsnn.errors import ProblemFileError, ShapeError
from convexsnn.tasks.arithmetic import addition, addition_rows
from convexsnn.tasks.automata import first_last_xor, parity
from convexsnn.tasks.events import event_mnist
from convexsnn.tasks.images import sequential_mnist
from convexsnn.tasks.planar import yin_yang

GENERATORS: dict[str, Callable[..., dict[str, np.ndarray]]] = {
    "addition": addition,
    "addition_rows": addition_rows,
    "event_mnist": event_mnist,
    "first_last_xor": first_last_xor,
    "parity": parity,
    "sequential_mnist": sequential_mnist,
    "yin_yang": yin_yang,
}

__all__ = [
    "GENERATORS",
    "addition",
    "addition_rows",
    "event_mnist",
    "first_last_xor",
    "generate",
    "parity",
    "sequential_mnist",
    "yin_yang",
]


def generate(name: str, arguments: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Run the generator `name` with `arguments`.

    Raises
    ------
    ProblemFileError
        Unknown generator or argument; the message suggests the nearest known one.
    """
    if name not in GENERATORS:
        raise ProblemFileError(f"data.generator: unknown {name!r}{nearest(name, GENERATORS)}")
    known = inspect.signature(GENERATORS[name]).parameters
    for key in arguments:
        if key not in known:
            raise ProblemFileError(f"data.arguments.{key}: unknown to {name}{nearest(key, known)}")
    try:
        return GENERATORS[name](**arguments)
    except (TypeError, ValueError, OverflowError, MemoryError) as error:  # ShapeError is a ValueError
        if isinstance(error, ShapeError):
            raise ProblemFileError(f"data.arguments.{error}") from error
        raise ProblemFileError(f"data.arguments: {dict(arguments)}: {error}") from error


def nearest(name: str, known: Mapping[str, Any]) -> str:
    """Return ``; did you mean …?`` with the nearest known name, else the list of known names."""
    return errors.nearest(name, known, f"; known: {', '.join(sorted(known))}")
