"""The tables of a problem file: their keys, and the conversion to settings of a problem and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from convexsnn.errors import ProblemFileError, ShapeError
from convexsnn.fields import REQUIRED, Key, Table, as_table, key, keys_of, read_table
from convexsnn.networks import LayerSpec, NetworkSpec
from convexsnn.networks.layers import layer_parameters
from convexsnn.problem.specs import AdmmSpec, DictionarySpec, GradientSpec, SolverSpec, TrainingSpec


@dataclass(frozen=True)
class HeadSpec(Table):
    """The keys before all tables."""

    name: str = key("text", REQUIRED, "short name")
    title: str = key("text", "", "title of one line, for lists of problems")
    source: str = key("text", "", "paper, data set or derivation that the problem comes from")


@dataclass(frozen=True)
class DataSpec(Table, section="data"):
    """The origin of the arrays; the keys of ``[data]``."""

    file: str | None = key(
        "text",
        None,
        "name of an .npz file beside the problem file, with arrays inputs (n, T, d) and targets, and "
        "optionally test_inputs, test_targets and sample_weights (n,)",
    )
    generator: str | None = key(
        "text", None, "generator of convexsnn.tasks that makes the arrays, in place of a file"
    )
    arguments: Mapping[str, object] = key("table", {}, "arguments of the generator")


@dataclass(frozen=True)
class ExpectedSpec(Table, section="expected"):
    """The optimum, if it is known; the keys of ``[expected]``."""

    objective: float | None = key("number", None, "optimum of the objective, where it is known")
    how: str = key("text", "", "reason why the optimum is known")


# the tables of a problem file, in the order of the documentation
SPECS: dict[str, type] = {
    "": HeadSpec,
    "data": DataSpec,
    "network": NetworkSpec,
    "network.layers": LayerSpec,
    "dictionary": DictionarySpec,
    "training": TrainingSpec,
    "admm": AdmmSpec,
    "gradient": GradientSpec,
    "solver": SolverSpec,
    "expected": ExpectedSpec,
}
SCHEMA: dict[str, Mapping[str, Key]] = {section: keys_of(spec) for section, spec in SPECS.items()}
TABLES = tuple(section for section in SPECS if section and "." not in section)


def read_section(section: str, table: Any, keys: Mapping[str, Key] | None = None) -> dict[str, Any]:
    """Check one table of a problem file and fill in its defaults.

    Parameters
    ----------
    keys : mapping of str to Key, optional
        Keys of this table, if they differ from those of its section.

    Raises
    ------
    ProblemFileError
        Unknown key (the message has the nearest known one), missing key, wrong type or value.
    """
    return read_table(section, table, keys or SCHEMA[section], () if section else TABLES)


def settings_of(tables: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tables of a problem file, without its data, as arguments of `Problem`.

    Raises
    ------
    ProblemFileError
        A table breaks the schema; the message names the key.
    """
    head = read_section("", {name: value for name, value in tables.items() if name not in TABLES})
    return {
        **head,
        "network": _network(tables.get("network", {})),
        **{
            name: SPECS[name](**read_section(name, tables.get(name, {})))
            for name in ("dictionary", "training", "solver", "admm", "gradient")
        },
        "expected": read_section("expected", tables.get("expected", {})),
    }


def network_table(network: NetworkSpec) -> dict[str, Any]:
    """Return an architecture as the table ``[network]`` with its list of layers."""
    return {**as_table(network), "layers": [layer.table() for layer in network.layers]}


def without_later_defaults(section: str, table: Mapping[str, Any]) -> dict[str, Any]:
    """Drop later keys at their defaults, so that fingerprints from before these keys stay valid."""
    later = {name: one.default for name, one in SCHEMA[section].items() if one.later}
    return {name: value for name, value in table.items() if name not in later or value != later[name]}


def _network(table: Any) -> NetworkSpec:
    if not isinstance(table, Mapping):
        raise ProblemFileError(f"network: expected a table, got {table!r}")
    network = dict(table)
    layers = network.pop("layers", None)
    if not isinstance(layers, Sequence) or isinstance(layers, str) or not layers:
        raise ProblemFileError(
            f"network.layers: expected at least one [[network.layers]] table, got {layers!r}"
        )
    specs = tuple(_layer(k, layer) for k, layer in enumerate(layers, start=1))
    try:
        return NetworkSpec(specs, **read_section("network", network))
    except ShapeError as error:
        raise ProblemFileError(f"network.{error}") from error


def layer_keys(table: Any) -> dict[str, Key]:
    """Return the keys of a layer's table: the keys of all layers and those that its neuron declares.

    Raises
    ------
    ProblemFileError
        The neuron is unknown.
    """
    keys = dict(SCHEMA["network.layers"])
    chosen = {"neuron": table["neuron"]} if isinstance(table, Mapping) and "neuron" in table else {}
    neuron = read_section("network.layers", chosen, {"neuron": keys["neuron"]})["neuron"]
    for declared in layer_parameters(neuron):
        kind = "text" if declared.choices else "numbers" if declared.per_unit else "number"
        keys[declared.name] = Key(kind, declared.default, declared.meaning, declared.choices)
    return keys


def _layer(k: int, table: Any) -> LayerSpec:
    values = read_section("network.layers", table, layer_keys(table))
    declared = {name: values.pop(name) for name in values.keys() - SCHEMA["network.layers"].keys()}
    try:
        return LayerSpec(parameters=declared, **values)
    except ShapeError as error:
        raise ProblemFileError(f"network.layers[{k}].{error}") from error
