"""Mutated problem files and their arrays: refused in one line, or read with the values that stand in them."""

import random
import shutil
import tomllib
from collections import Counter

import numpy as np
import pytest
from fuzzed_files import LARGEST, mutated
from guarded import outcome
from small_problem_files import LAYER, TABLES, write
from true_claims import content, flat, same

from convexsnn.problem import library, load_problem

ALL_TABLES = {
    **TABLES,
    "title": "a title",
    "source": "a source",
    "network": {"subnetworks": 2, "readout": "spike", "supervise": "last", "readout_leak": 0.5},
    "admm": {"variant": "lifted", "iterations": 3, "batch": 2, "decay": 0.5},
    "gradient": {"method": "exodus", "epochs": 2, "learning_rate": 0.01, "validation": 0.25, "patience": 3},
    "expected": {"objective": 0.5, "how": "by hand"},
}
IMAGES = {**LAYER, "leak": 0.9, "kernel": 1, "pool": 1, "stride": 1, "shape": [2, 1, 1]}
HEAD = ("name", "title", "source")
BLOCK = 1000


class Files:
    """Problem files with their arrays: two with most keys, and the library's that name a file."""

    def __init__(self, place):
        self.problems = []
        for k, layer in enumerate((LAYER, IMAGES)):
            (place / str(k)).mkdir()
            tables = ALL_TABLES if k == 0 else {**ALL_TABLES, "network": {"subnetworks": 1}}
            self.problems.append(write(place / str(k), tables, layer))
        for path in sorted(library().glob("*.toml")):
            data = tomllib.loads(path.read_text("utf-8")).get("data", {}).get("file")
            if data and (path.parent / data).stat().st_size < 10**5:
                shutil.copy(path, place)
                shutil.copy(path.parent / data, place)
                self.problems.append(place / path.name)

    def one(self, seed):
        """Return whether a mutated problem is refused or accepted."""
        rng = random.Random(seed)
        path = rng.choice(self.problems[:2] if rng.random() < 0.5 else self.problems)
        data = path.parent / tomllib.loads(path.read_text("utf-8"))["data"]["file"]
        file = path if rng.random() < 0.6 else data
        good = file.read_bytes()
        file.write_bytes(mutated(rng, file.name, good))
        try:
            problem, refusal = outcome(load_problem, path)
            if refusal is None:
                check_values(problem, path, data)
            return "refused" if refusal else "accepted"
        finally:
            file.write_bytes(good)


def check_values(problem, path, data):
    """Assert that a problem has every value of its file, and the arrays as they are stored."""
    stated = tomllib.loads(path.read_text("utf-8"))
    assert stated["data"].keys() <= {"file", "arguments"}
    sections = {
        name: getattr(problem, name) for name in ("dictionary", "training", "solver", "admm", "gradient")
    }
    for name, value in flat({k: v for k, v in stated.items() if k not in ("data", "network")}):
        section, _, key = name.partition(".")
        if section == "expected":
            has = problem.expected[key] if key else None
        else:
            has = getattr(problem, section) if section in HEAD else getattr(sections[section], key)
        assert same(has, value) or section == "expected" and value == {}, (name, has, value)
    network = dict(stated["network"])
    for k, layer in enumerate(network.pop("layers")):
        table = problem.network.layers[k].table()
        for key, value in layer.items():
            assert same(np.ravel(table[key]), np.ravel(value)), (key, table[key], value)
    for key, value in network.items():
        assert same(getattr(problem.network, key), value)
    arrays = {place.split(": ", 1)[1]: array for place, array in content(data).items()}
    assert arrays.keys() == problem.arrays().keys()
    for name, array in problem.arrays().items():
        assert same(array, arrays[name]) and np.isfinite(array.astype(float)).all()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return Files(tmp_path_factory.mktemp("problems"))


@pytest.fixture(autouse=True)
def small_files(monkeypatch):
    monkeypatch.setenv("CONVEXSNN_LARGEST_GB", LARGEST)


def test_mutated_problem_files_are_refused_or_read_as_they_are(files):
    found = Counter(files.one(seed) for seed in range(150))
    assert found["refused"] > 60 and found["accepted"] > 20


@pytest.mark.night
@pytest.mark.parametrize("block", range(1, 21))
def test_more_mutated_problem_files_are_refused_or_read_as_they_are(files, block):
    for seed in range(block * BLOCK, (block + 1) * BLOCK):
        files.one(seed)
