"""The problem file: every key, its type, its default and what it means, in one table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np

from convexsnn.errors import ProblemFileError

REQUIRED = object()


@dataclass(frozen=True)
class Key:
    """One key: what it takes, a name of `EXPECTED`, its default and what it means."""

    kind: str
    default: Any
    meaning: str
    choices: tuple[str, ...] = ()
    least: float | None = None
    above: float | None = None
    below: float | None = None
    most: float | None = None


SCHEMA: dict[str, dict[str, Key]] = {
    "": {
        "name": Key("text", REQUIRED, "short name"),
        "title": Key("text", "", "one line for lists"),
        "source": Key("text", "", "paper, data set, or derivation"),
    },
    "data": {
        "file": Key(
            "text",
            None,
            ".npz beside the problem file: inputs (n,T,d), targets; optionally "
            "test_inputs, test_targets, sample_weights (n,)",
        ),
        "generator": Key("text", None, "or a generator of convexsnn.tasks, instead of a file"),
        "arguments": Key("table", {}, "arguments of the generator"),
    },
    "network": {
        "subnetworks": Key("whole", 1, "K, parallel copies of the stack of layers", least=1),
        "readout": Key(
            "text",
            "spike",
            "what the output weights see of the last layer: its spikes, 1{v >= 0} of its membrane after "
            "reset, the mean of its spikes over time, or its spikes summed in leaky output membranes",
            ("spike", "membrane", "rate", "output_membrane"),
        ),
        "readout_leak": Key(
            "number", 0.9, "β of the output membranes (readout = output_membrane)", least=0, most=1
        ),
        "supervise": Key("text", "last", "targets for the last step, or for every step", ("last", "all")),
    },
    "network.layers": {
        "neuron": Key("text", "lif", "kind of the units", ("lif", "threshold", "recurrent_threshold")),
        "leak": Key("numbers", 0.9, "β of a LIF unit; a list is the grid from which each unit takes its own"),
        "threshold": Key("number", None, "θ; 1 for LIF units, 0 for threshold units if not given"),
        "reset": Key(
            "text",
            "subtract",
            "what a spike does to a LIF membrane: θ off before the leak, after it, set to zero, nothing",
            ("subtract", "subtract_after", "zero", "none"),
        ),
        "bias": Key("flag", False, "a trained constant in the drive of each unit"),
        "recurrent": Key("flag", False, "a matrix within the layer: units see each other's last spikes"),
        "width": Key("whole", 1, "units per subnetwork", least=1),
        "kernel": Key(
            "whole",
            None,
            "side of a convolution's square patches; width is then the number of filters",
            least=1,
        ),
        "stride": Key("whole", 1, "distance between neighbouring patches of a convolution", least=1),
        "pool": Key(
            "whole", 1, "average pooling of the layer's inputs, pool × pool, before its weights", least=1
        ),
        "shape": Key(
            "wholes",
            None,
            "(channels, height, width) of the layer's inputs as images; needed by the first layer with "
            "kernel or pool, later ones take it from the layer below",
        ),
    },
    "dictionary": {
        "source": Key(
            "text",
            "gaussian",
            "where the hidden weights come from; exact: every pattern; column_generation: "
            "patterns added until none of all improves",
            ("gaussian", "pairs", "reservoir", "file", "exact", "column_generation"),
        ),
        "weight_box": Key("number", 10.0, "B: every hidden weight lies in [-B, B]", above=0),
        "margin": Key(
            "number",
            1e-6,
            "ε: every membrane stays this far from its threshold; 0: closed patterns, exactly as simulated",
            least=0,
        ),
        "count": Key(
            "whole",
            None,
            "units of the last layer to draw, in whole subnetworks; if not given 1000, or the "
            "network's own number if that is larger; for a reservoir its own number",
            least=1,
        ),
        "seed": Key("whole", 0, "seed of the draw", least=0),
        "variant": Key(
            "text",
            "standard",
            "gaussian weights: as drawn, each unit's scaled to norm 1, orthonormal",
            ("standard", "normalised", "orthogonal"),
        ),
        "scale": Key(
            "numbers", 1.0, "factor on the drawn weights; from a list each unit takes its own", above=0
        ),
        "limit": Key("whole", 1_000_000, "source = exact: most patterns to keep", least=1),
        "oracle": Key(
            "text",
            "auto",
            "what proves a bound over all patterns: walking the cells of weight space, a tree of linear "
            "programs, a mixed-integer program",
            ("auto", "cells", "tree", "mip"),
        ),
        "cascade": Key(
            "flag",
            False,
            "source = column_generation, one layer with recurrent = true: new units take the last spikes of "
            "units in use as inputs (a lower triangular matrix)",
        ),
        "file": Key("text", None, "source = file: .npz of hidden layers, named as in a saved network"),
        "max_margin": Key(
            "flag",
            True,
            "in the reconstructed network, move each unit's weights to the point "
            "of its cell that is farthest from all thresholds",
        ),
    },
    "training": {
        "loss": Key("text", "squared", "ℓ", ("squared", "hinge", "squared_hinge", "logistic", "softmax")),
        "task": Key(
            "text",
            None,
            "regression for squared, classification for the others if not given",
            ("regression", "classification"),
        ),
        "regularization": Key("number", None, "λ > 0", above=0),
        "regularization_fraction": Key("number", None, "or λ as a fraction of λ_max", above=0),
        "penalty": Key(
            "text",
            "l1",
            "on the output weights: ℓ1 on entries, or ℓ2 on each unit's C of them",
            ("l1", "group"),
        ),
    },
    "solver": {
        "name": Key("text", "auto", "as listed by convexsnn solvers"),
        "tolerance": Key("number", 1e-6, "relative duality gap to reach", above=0, below=1),
        "time_limit": Key("number", None, "seconds", above=0),
    },
    "expected": {
        "objective": Key("number", None, "the known optimum"),
        "how": Key("text", "", "how it is known"),
    },
}


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


def read_section(section: str, given: Any) -> dict[str, Any]:
    """Check one table of a problem file and fill in its defaults.

    Raises
    ------
    ProblemFileError
        Unknown key (the message has the nearest known one), missing key, wrong type or value.
    """
    keys = SCHEMA[section]
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
