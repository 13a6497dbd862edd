"""A tiny problem for every road, and every command that prints JSON, run on them.

Each road is a library problem, or one of the data below, with some keys changed. An optimum that is known
comes from the library's own file: derived by hand or enumerated, never taken from a run.
"""

import contextlib
import importlib.util
import io
import json
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import tomli_w
from contract_kinds import array_kinds, kind_of, toml_kinds
from contract_surface import tables_of

from convexsnn.cli import main

ROWS = np.random.default_rng(5).integers(-4, 5, (16, 3, 2)) / 4.0
CLASSES = np.arange(16) % 3
IMAGES = np.random.default_rng(6).integers(0, 2, (12, 3, 20)).astype(float)
DATA = {
    "inputs": ROWS[:12],
    "targets": CLASSES[:12],
    "test_inputs": ROWS[12:],
    "test_targets": CLASSES[12:],
    "sample_weights": np.linspace(0.5, 2.0, 12),
}
LAYER = {"bias": True, "leak": [0.5, 0.9]}
SOFTMAX = {"loss": "softmax", "penalty": "group", "regularization": 0.02}
CONVOLUTION = {"width": 2, "kernel": 2, "shape": [1, 5, 4]}
WITNESSES = {  # hidden units by hand: first bit and then second of `xor`, their sum against the threshold 1
    "layer1_weights": np.array([[1.5, -2.0], [-2.0, 1.5], [0.75, 0.5], [2.0, 2.0]]),
    "layer1_neuron": np.array("lif"),
    "layer1_reset": np.array("subtract"),
    "layer1_threshold": np.array(1.0),
    "layer1_leak": np.array(0.9),
}


def small(training, layers=(LAYER,), data=DATA, network=None, **sections):
    """Return tables and data of a problem of twelve samples of random numbers."""
    tables = {"name": "small", "network": {**(network or {}), "layers": list(layers)}, "training": training}
    return tables | sections, data


def of_library(name, **changes):
    """Return tables and data of a library problem, with keys of some sections changed."""
    from convexsnn.problem import library

    tables = tables_of(name)
    with np.load(library() / tables.pop("data")["file"]) as arrays:
        data = dict(arrays)
    return tables | {section: tables[section] | keys for section, keys in changes.items()}, data


ADMM = {"method": "admm", "loss": "softmax"}
EPOCHS = {"epochs": 2, "batch": 6, "networks": 2, "device": "cpu", "precision": "float64"}
ROADS = {
    "gaussian": of_library("xor", dictionary={"count": 60}),
    "pairs": of_library("xor", dictionary={"source": "pairs", "count": 60}),
    "file": of_library("xor", dictionary={"source": "file", "file": "witnesses.npz", "margin": 0.0}),
    "exact": of_library("exact-xor"),
    "exact_closed": of_library("exact-xor-closed"),
    "column_generation": of_library("exact-xor", dictionary={"source": "column_generation"}),
    "recurrent_threshold": of_library("exact-recurrent"),
    "zero_membrane": of_library("exact-zero-membrane"),
    "two_layers": of_library("exact-two-layers-xor"),
    "subtract_after": of_library("exact-subtract-after-binary"),
    "no_reset": of_library("exact-bits-none"),
    "cascade": of_library(
        "exact-xor", network={"layers": [{"recurrent": True, "width": 2}]},
        dictionary={"source": "column_generation", "cascade": True},
    ),
    "reservoir": small(SOFTMAX, [{"recurrent": True, "width": 10}], dictionary={"source": "reservoir"}),
    "softmax": small(SOFTMAX, [{**LAYER, "width": 2}, LAYER], dictionary={"count": 8, "weight_box": 4.0}),
    "admm": small(
        ADMM, [{**LAYER, "width": 4}, {"width": 3, "leak": 0.7}], network={"readout": "output_membrane"},
        admm={"iterations": 3, "validation": 0.25},
    ),
    "admm_images": small(
        ADMM, [CONVOLUTION, {"width": 3, "pool": 2, "bias": True}], admm={"iterations": 2, "batch": 6},
        data={"inputs": IMAGES, "targets": CLASSES[:12]}, network={"readout": "rate"},
    ),
    "admm_witnesses": small(
        SOFTMAX, [{**LAYER, "width": 6}], dictionary={"source": "admm", "margin": 0.0},
        admm={"iterations": 2},
    ),
    "surrogate_gradient": small(
        SOFTMAX, [{**LAYER, "width": 6}], dictionary={"source": "surrogate_gradient", "margin": 0.0},
        gradient=EPOCHS,
    ),
    "path": small(SOFTMAX, dictionary={"count": 24, "source": "pairs"}),
}  # fmt: skip
OTHERS = {
    "gradient_network": small(
        SOFTMAX, [{**LAYER, "width": 6}, {"width": 4, "leak": 0.75}],
        gradient={"epochs": 20, "batch": 6, "device": "cpu", "learning_rate": 0.01},
    ),
}  # fmt: skip
SAVED = (  # roads whose folders are kept in runs/
    "gaussian", "file", "exact", "exact_closed", "column_generation", "recurrent_threshold", "zero_membrane",
    "subtract_after", "no_reset", "two_layers", "reservoir", "softmax", "admm",
    "admm_images", "admm_witnesses", "surrogate_gradient", "path",
)  # fmt: skip
NEEDS = {"surrogate_gradient": "torch", "gradients": "torch"}
PATH_OPTIONS = ("--count", "3", "--smallest", "0.1")
LAYER_OF_GRADIENTS = ("--steps", "4", "--batch", "8", "--units", "6", "--repeat", "1", "--device", "cpu")
OF_THE_MACHINE = {"machine", "threads"}  # tables whose values are of the machine; of "versions" the keys too


def write_problem(road, folder, changes=None):
    """Write the problem of a road, with keys of some sections changed, into a new folder; return its file."""
    tables, data = ROADS.get(road) or OTHERS[road]
    tables = tables | {section: tables[section] | keys for section, keys in (changes or {}).items()}
    folder.mkdir()
    np.savez(folder / "data.npz", **data)
    if tables.get("dictionary", {}).get("source") == "file":
        np.savez(folder / "witnesses.npz", **WITNESSES)
    file = folder / f"{road}.toml"
    file.write_text(tomli_w.dumps({**tables, "data": {"file": "data.npz"}}), encoding="utf-8")
    return file


def told(*arguments, status=0):
    """Run a command with --json and return its object."""
    out, err = io.StringIO(), io.StringIO()
    argv = ["convexsnn", *map(str, arguments), "--json"]
    with (
        mock.patch.object(sys, "argv", argv),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
            left = 0
        except SystemExit as error:
            left = error.code or 0
    if left != status:
        raise RuntimeError(f"{' '.join(argv)}: status {left}, expected {status}: {err.getvalue().strip()}")
    return json.loads(out.getvalue())


def solved(road, folder, *options):
    """Solve a road's problem into folder/run and return what was told; for "path" walk the path."""
    file = write_problem(road, folder)
    if road == "path":
        return told("path", file, *PATH_OPTIONS, "--validation", 0.25, "--out", folder / "run")
    return told("solve", file, "--out", folder / "run", *options)


def measured_here():
    """Return a context in which gradients are measured in this process: others take a minute to start."""
    from convexsnn.bench import gradient_layers as benchmark

    kinds = {"layer": benchmark.layer_row, "step": benchmark.step_row}
    return mock.patch.object(benchmark, "_alone", lambda what, **asked: kinds[what](**asked))


def failed_solve(folder):
    """Return what is told where the solver gives up."""
    from convexsnn.errors import SolverFailed

    file = write_problem("exact", folder)
    with mock.patch("convexsnn.roads.train", side_effect=SolverFailed("highs: gave up")):
        return told("solve", file, status=1)


def failed_path(folder):
    """Return what is told where the solver of a path gives up."""
    from convexsnn.errors import SolverFailed

    file = write_problem("path", folder)
    with mock.patch("convexsnn.convex.regularization_path.path", side_effect=SolverFailed("highs: gave up")):
        return told("path", file, status=1)


def refused_folder(folder, road):
    """Return what is told of a folder whose claim was altered."""
    solved(road, folder)
    file = next((folder / "run").glob("[ac]*.json"))
    file.write_text(json.dumps({**json.loads(file.read_text()), "fingerprint": "0"}))
    return told("verify", folder / "run", status=1)


def verified(folder, road, *options):
    """Return what is told of a folder that `solve` wrote."""
    solved(road, folder)
    return told("verify", folder / "run", *options)


def gap_of(folder, road, network="network.npz"):
    """Return what is told of a network's distance from the optimum of the exact problem."""
    solved(road, folder)
    return told("gap", folder / f"{road}.toml", folder / "run" / network)


def bench(folder, *arguments):
    """Return what is told by a benchmark, run in a new folder."""
    folder.mkdir()
    with contextlib.chdir(folder):
        return told("bench", *arguments)


def gradients(folder):
    """Return what is told of a layer's gradients."""
    with measured_here():
        return bench(folder, "gradients", *LAYER_OF_GRADIENTS)


QUICK = ("solvers", "--quick", "--problem", "quick-squared-l1-1", "--problem", "quick-products")
OTHER_COMMANDS = {
    "list": lambda folder: told("list"),
    "solvers": lambda folder: told("solvers"),
    "solve, failed": failed_solve,
    "path": lambda folder: told("path", write_problem("path", folder), *PATH_OPTIONS),
    "path, failed": failed_path,
    "verify": lambda folder: verified(folder, "gaussian"),
    "verify, proved": lambda folder: verified(folder, "exact"),
    "verify --exact": lambda folder: verified(folder, "exact", "--exact"),
    "verify, refused": lambda folder: refused_folder(folder, "exact"),
    "verify, admm": lambda folder: verified(folder, "admm"),
    "verify, admm refused": lambda folder: refused_folder(folder, "admm"),
    "gap": lambda folder: gap_of(folder, "exact"),
    "gap, of trained": lambda folder: gap_of(folder, "admm_witnesses", "trained-1.npz"),
    "bench solvers": lambda folder: bench(
        folder, *QUICK, "--solver", "working_set", "--solver", "packed_bits", "--repeat", "1"
    ),
    "bench solvers --data": lambda folder: bench(folder, *QUICK[:4], "--data", "data"),
    "bench gradients": gradients,
}
COMMANDS = {f"solve, {road}": road for road in ROADS if road != "path"} | {"path --validation": "path"}


def needed(case):
    """Return the optional module that a road or command needs, or None."""
    return next((module for word, module in NEEDS.items() if word in case), None)


def installed(case):
    """Return whether what a road or command needs is there."""
    return needed(case) is None or importlib.util.find_spec(needed(case)) is not None


def plain(values):
    """Return JSON without what depends on the machine and its packages."""
    if isinstance(values, list):
        return [plain(one) for one in values]
    if not isinstance(values, dict):
        return values
    same = {key: plain(one) for key, one in values.items()}
    same |= {key: dict.fromkeys(values[key], "") for key in OF_THE_MACHINE & set(values)}
    return same | {key: "" for key in {"versions"} & set(values)}


def json_keys(case, folder):
    """Return the pinned keys and kinds of a command's JSON."""
    if case in COMMANDS:
        return kind_of(plain(solved(COMMANDS[case], folder)))
    return kind_of(plain(OTHER_COMMANDS[case](folder)))


def files_of(folder):
    """Return the files of a result folder, with the keys of what can be read."""
    readers = {
        ".json": lambda file: kind_of(json.loads(file.read_text(encoding="utf-8"))),
        ".toml": toml_kinds,
        ".npz": array_kinds,
    }
    return {
        file.name: readers.get(file.suffix, lambda file: "file")(file)
        for file in sorted(Path(folder).iterdir())
    }
