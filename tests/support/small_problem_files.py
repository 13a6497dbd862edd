"""A good problem file with its data, and what can be changed in it."""

import numpy as np
import tomli_w

from convexsnn.arrays import write_npz
from convexsnn.problem import Problem

RNG = np.random.default_rng(0)
DATA = {
    "inputs": RNG.normal(size=(4, 3, 2)),
    "targets": np.array([1.0, -1.0, -1.0, 1.0]),
    "test_inputs": RNG.normal(size=(2, 3, 2)),
    "test_targets": np.array([1.0, -1.0]),
    "sample_weights": np.array([1.0, 2.0, 1.0, 0.5]),
}
LAYER = {"neuron": "lif", "leak": [0.5, 0.9], "bias": True, "width": 2}
TABLES = {
    "name": "small",
    "data": {"file": "data.npz"},
    "network": {"subnetworks": 2},
    "dictionary": {"weight_box": 5.0, "margin": 1e-4, "count": 10},
    "training": {"loss": "hinge", "regularization": 0.1},
    "solver": {"name": "highs"},
}


def changed(section, key, value):
    """Return tables and layer of the good problem with one key at another value."""
    tables, layer = {k: dict(v) if isinstance(v, dict) else v for k, v in TABLES.items()}, dict(LAYER)
    if section == "":
        tables[key] = value
    elif section == "network.layers":
        layer[key] = value
    else:
        tables.setdefault(section, {})[key] = value
    return tables, layer


def write(folder, tables=TABLES, layer=LAYER, data=DATA):
    """Write a problem file with its data; return its path."""
    tables = {k: dict(v) if isinstance(v, dict) else v for k, v in tables.items()}
    tables.setdefault("network", {})
    if isinstance(tables["network"], dict):
        tables["network"].setdefault("layers", [layer])
    (folder / "problem.toml").write_text(tomli_w.dumps(tables), encoding="utf-8")
    write_npz(folder / "data.npz", data)
    return folder / "problem.toml"


def from_arrays(data=DATA, tables=TABLES, layer=LAYER):
    network = {k: v for k, v in tables["network"].items() if k != "layers"}
    parts = {k: tables[k] for k in ("training", "dictionary", "solver")}
    return Problem.from_arrays(**data, layers=[layer], network=network, name="small", **parts)


def data_with(**arrays):
    return {**DATA, **arrays}
