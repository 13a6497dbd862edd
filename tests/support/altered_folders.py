"""A folder of a small solved problem, what can be altered in it, and how its check refuses it."""

import json
import tomllib

import numpy as np
import pytest
import tomli_w

import convexsnn
from convexsnn.arrays import read_npz, write_npz
from convexsnn.errors import ConvexSNNError, VerificationError
from convexsnn.problem import Problem

RNG = np.random.default_rng(11)
INPUTS, NUMBERS = RNG.normal(size=(12, 3, 2)), RNG.normal(size=12)


def small_problem(supervise="last", **changes):
    targets = NUMBERS if supervise == "last" else np.add.outer(NUMBERS, [0.0, 0.3, -0.5])
    parts = {
        "layers": [{"bias": True, "width": 3, "leak": [0.5, 0.9]}] * 2,
        "network": {"subnetworks": 4, "supervise": supervise},
        "dictionary": {"count": 24, "weight_box": 4.0, "seed": 1},
        "training": {"loss": "squared", "regularization": 0.03},
    }
    return Problem.from_arrays(INPUTS, targets, name="small", **{**parts, **changes})


def set_claim(folder, **values):
    stated = json.loads((folder / "certificate.json").read_text())
    assert set(values) <= set(stated)
    (folder / "certificate.json").write_text(json.dumps({**stated, **values}))


def set_array(folder, file, name, change):
    """Replace an array of a file by what `change` makes of a copy of it, in place or anew."""
    arrays = read_npz(folder / file)
    array = arrays[name].copy()
    changed = change(array)
    arrays[name] = array if changed is None else changed
    write_npz(folder / file, arrays)


def set_problem(folder, section, **values):
    tables = tomllib.loads((folder / "problem.toml").read_text())
    (tables[section] if section else tables).update(values)
    (folder / "problem.toml").write_text(tomli_w.dumps(tables))


def put(index, value):
    def change(array):
        array[index] = value

    return change


def add(index, value):
    def change(array):
        array[index] += value

    return change


def refused(folder, error=VerificationError, exact=False):
    """Return the one line with which a folder is refused."""
    with pytest.raises(ConvexSNNError) as caught:
        convexsnn.verify_folder(folder, exact=exact)
    assert isinstance(caught.value, error) and "\n" not in str(caught.value)
    assert caught.value.exit_status == (1 if error is VerificationError else 2)
    return str(caught.value)
