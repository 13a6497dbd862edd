"""What a user can write: TOML keys, Python names, options of commands; and the library's fingerprints."""

import inspect
import tomllib
from functools import cache

import numpy as np
import typer.main

import convexsnn
from convexsnn import Problem, load_problem
from convexsnn.cli import app

EVENTS = "event-mnist-admm-"  # problems of 0.4 GB: their settings are pinned on data of zeros as well
SIGNATURES = (
    "AdmmResult.save", "AdmmResult.summary", "Distance.summary", "L1Program.certify", "L1Program.to_mps",
    "Lowered.program", "Problem.arrays", "Problem.encoded_targets", "Problem.fingerprint",
    "Problem.from_arrays", "Problem.row_weights", "Problem.rows", "Problem.save", "Problem.tables",
    "RegularizationPath.save", "RegularizationPath.summary", "Result.claim", "Result.save", "Result.scope",
    "Result.status", "Result.summary",
)  # fmt: skip
MADE_BY_HAND = (  # classes whose arguments are pinned too
    "Definition", "Group", "L1", "L1Program", "LIF", "Layer", "LayerSpec", "Network", "NetworkSpec", "Point",
    "RecurrentThreshold", "Subnetwork", "Threshold", "Window",
)  # fmt: skip


def schema():
    """Return section: name: key, and what marks a key without default; the only place that knows where."""
    from convexsnn.fields import REQUIRED, keys_of
    from convexsnn.problem.tables import SPECS

    return {section: keys_of(spec) for section, spec in SPECS.items()}, REQUIRED


def toml_keys():
    """Return kind, default, choices and range of every TOML key, by section."""
    sections, required = schema()
    ranges = ("least", "above", "below", "most")

    def stated(key):
        default = "required" if key.default is required else key.default
        table = {"kind": key.kind, "default": list(default) if isinstance(default, tuple) else default}
        if key.choices:
            table["choices"] = list(key.choices)
        return table | {name: getattr(key, name) for name in ranges if getattr(key, name) is not None}

    return {
        section or "top": {name: stated(key) for name, key in sorted(keys.items())}
        for section, keys in sorted(sections.items())
    }


def arguments_of(function):
    """Return the arguments of a function with their defaults, without annotations."""
    signature = inspect.signature(function)
    plain = [one.replace(annotation=inspect.Parameter.empty) for one in signature.parameters.values()]
    return str(signature.replace(parameters=plain, return_annotation=inspect.Signature.empty))


def what_it_is(value):
    """Return what a public name stands for, a function with its arguments."""
    if inspect.isclass(value) and issubclass(value, Exception):
        return f"error, caught as {' or '.join(base.__name__ for base in value.__mro__[1:-2])}"
    if inspect.isclass(value):
        return f"class {arguments_of(value)}" if value.__name__ in MADE_BY_HAND else "class"
    if callable(value):
        return f"function {arguments_of(value)}"
    return type(value).__name__


def python_names():
    """Return every top-level name with what it is, and the members of classes that are documented."""
    names = {name: what_it_is(getattr(convexsnn, name)) for name in sorted(convexsnn.__all__)}
    return {"names": names, "members": {path: _member(path) for path in SIGNATURES}}


def _member(path):
    owner, name = path.split(".")
    cls = getattr(convexsnn, owner)
    member = inspect.getattr_static(cls, name, None)
    if isinstance(member, (classmethod, staticmethod)):
        return f"{type(member).__name__} {arguments_of(getattr(cls, name))}"
    if inspect.isfunction(member):
        return f"method {arguments_of(member)}"
    if isinstance(member, property) or name in getattr(cls, "__dataclass_fields__", {}):
        return "attribute"
    raise AttributeError(f"{path}: no such member")


def command_options():
    """Return the options of every command: names, default, whether needed, a flag, or taken several times."""
    found = {}

    def add(name, command):
        for child, one in getattr(command, "commands", {}).items():
            add(f"{name} {child}".strip(), one)
        if not getattr(command, "commands", {}):
            found[name] = {
                "/".join([*one.opts, *one.secondary_opts]): {
                    "needed": one.required,
                    "default": str(one.default) if one.default else None,
                    "flag": getattr(one, "is_flag", False),
                    "several": one.multiple,
                }
                for one in command.params
            }

    add("", typer.main.get_command(app))
    return dict(sorted(found.items()))


def library_names():
    """Return the names of all problems of the library."""
    from convexsnn.problem import library

    return [path.stem for path in sorted(library().glob("*.toml"))]


def tables_of(name):
    """Return the tables of a library problem's file."""
    from convexsnn.problem import library

    return tomllib.loads((library() / f"{name}.toml").read_text(encoding="utf-8"))


@cache
def fingerprint(name):
    """Return the fingerprint of a library problem; "… on zeros" is that of its settings without its data."""
    settings = name.removesuffix(" on zeros")
    if settings == name:
        return load_problem(name).fingerprint()
    tables = tables_of(settings)
    network = dict(tables["network"])
    layers = network.pop("layers")
    inputs = np.zeros((10, tables["data"]["arguments"]["steps"], 2312))
    sections = {key: tables[key] for key in ("training", "dictionary", "admm", "gradient") if key in tables}
    return Problem.from_arrays(
        inputs, np.arange(10), layers=layers, network=network, name=settings, **sections
    ).fingerprint()


def fingerprint_names():
    """Return what fingerprints are pinned."""
    names = library_names()
    return sorted([*names, *(f"{name} on zeros" for name in names if name.startswith(EVENTS))])


def fingerprints():
    """Return the fingerprint of every library problem."""
    return {name: fingerprint(name) for name in fingerprint_names()}
