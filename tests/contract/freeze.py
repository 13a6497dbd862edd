"""Writes down what the package promises, as the present code keeps it: ``python tests/contract/freeze.py``.

That rewrites ``pinned/*.json``; a change that is meant then shows as a difference of these files. With names
(``freeze.py json folders``) only those are rewritten. Folders and files of earlier versions, in ``runs`` and
``old``, are there to stay as they are: ``freeze.py --add-runs`` only adds those that are missing.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path

from contract_roads import (
    COMMANDS,
    OTHER_COMMANDS,
    ROADS,
    SAVED,
    files_of,
    json_keys,
    solved,
    told,
    write_problem,
)
from contract_surface import command_options, fingerprints, python_names, toml_keys

HERE = Path(__file__).parent
PINNED, RUNS, OLD = HERE / "pinned", HERE / "runs", HERE / "old"
DRAWN = "curves.png"  # not kept: large, and nothing reads it
CHECKPOINTS = {  # road: what makes two rounds of it, and a third later
    "admm": {"admm": {"iterations": 2, "schedule": "constant"}},
    "surrogate_gradient": {"gradient": {"epochs": 2, "schedule": "constant", "networks": 1}},
}


def in_new_folders(cases, read):
    """Return what `read` makes of every case, each in a folder of its own."""
    values = {}
    with tempfile.TemporaryDirectory() as folder:
        for k, case in enumerate(cases):
            values[case] = read(case, Path(folder) / str(k))
    return values


def files_by_road():
    """Return the files of every road's result folder."""

    def read(road, folder):
        solved(road, folder)
        return files_of(folder / "run")

    return in_new_folders(ROADS, read)


PINS = {
    "keys": toml_keys,
    "names": python_names,
    "options": command_options,
    "fingerprints": fingerprints,
    "json": lambda: in_new_folders([*COMMANDS, *OTHER_COMMANDS], json_keys),
    "folders": files_by_road,
}


def pinned(name):
    """Return what was written down under a name."""
    return json.loads((PINNED / f"{name}.json").read_text(encoding="utf-8"))


def write_pin(name):
    """Write down what the present code does."""
    text = json.dumps(PINS[name](), indent=1, ensure_ascii=False, allow_nan=False)
    (PINNED / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def add_run(road, folder):
    """Keep the result folder of a road."""
    with tempfile.TemporaryDirectory() as made:
        solved(road, Path(made) / "road")
        shutil.copytree(Path(made) / "road" / "run", folder, ignore=shutil.ignore_patterns(DRAWN))


def add_checkpoint(road, folder):
    """Keep a checkpoint after two rounds, beside its problem."""
    file = write_problem(road, folder, CHECKPOINTS[road])
    told("solve", file, "--checkpoint", folder / "checkpoint.npz")


def add_network(folder):
    """Keep a network of two layers that was trained by gradients, beside its problem."""
    from convexsnn import load_problem, save_network
    from convexsnn.gradient.training import train_gradient

    network = train_gradient(load_problem(write_problem("gradient_network", folder))).network
    save_network(folder / "network.npz", network)


def add_missing():
    """Make the folders that are not there yet."""
    made = {RUNS / road: lambda folder, road=road: add_run(road, folder) for road in SAVED}
    made |= {OLD / road: lambda folder, road=road: add_checkpoint(road, folder) for road in CHECKPOINTS}
    made[OLD / "gradient_network"] = add_network
    for folder, make in made.items():
        if not folder.exists():
            make(folder)
            print(f"added {folder.relative_to(HERE)}")


if __name__ == "__main__":
    for place in (PINNED, RUNS, OLD):
        place.mkdir(exist_ok=True)
    if sys.argv[1:] == ["--add-runs"]:
        add_missing()
    else:
        for name in sys.argv[1:] or PINS:
            write_pin(name)
