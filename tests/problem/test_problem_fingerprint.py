"""One problem by several roads: saved and loaded, from a file or from arrays; and its fingerprint."""

import numpy as np
import pytest
from small_problem_files import DATA, LAYER, TABLES, changed, data_with, from_arrays, write

from convexsnn.errors import ProblemFileError
from convexsnn.problem import DATA_NAMES, Problem, load_problem


def tables_with(section, **keys):
    return {**TABLES, section: keys}


VARIANTS = {
    "as it is": (TABLES, LAYER, DATA),
    "no weights, no test set": (TABLES, LAYER, {k: DATA[k] for k in ("inputs", "targets")}),
    "classes": (
        tables_with("training", loss="softmax", penalty="group", regularization_fraction=0.3),
        LAYER,
        data_with(targets=np.array([0, 1, 2, 2]), test_targets=np.array([0, 2])),
    ),
    "numbers": (
        tables_with("training", regularization=1), {"neuron": "recurrent_threshold", "threshold": 1}, DATA
    ),
    "fractions": (
        tables_with("dictionary", margin=1 / 3, weight_box=0.1 + 0.2, scale=[1, 2.5]), {"leak": 1 / 3}, DATA
    ),
}  # fmt: skip


@pytest.mark.parametrize(("tables", "layer", "data"), VARIANTS.values(), ids=VARIANTS.keys())
def test_saved_and_loaded_it_is_the_same_problem(tmp_path, tables, layer, data):
    problem = load_problem(write(tmp_path, tables, layer, data))
    (tmp_path / "again").mkdir()
    problem.save(tmp_path / "again")
    again = load_problem(tmp_path / "again" / "problem.toml")
    assert again.fingerprint() == problem.fingerprint()
    assert again.tables() == problem.tables()
    assert all(np.array_equal(again.arrays()[k], problem.arrays()[k]) for k in DATA_NAMES if k in data)


@pytest.mark.parametrize(("tables", "layer", "data"), VARIANTS.values(), ids=VARIANTS.keys())
def test_from_arrays_is_the_same_problem(tmp_path, tables, layer, data):
    problem, made = load_problem(write(tmp_path, tables, layer, data)), from_arrays(data, tables, layer)
    assert made.fingerprint() == problem.fingerprint()
    assert made.tables() == problem.tables()


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("training", "loss", "squared_hinge"),
        ("training", "regularization", 0.2),
        ("training", "penalty", "group"),
        ("dictionary", "margin", 1e-3),
        ("dictionary", "weight_box", 6.0),
        ("network", "readout", "membrane"),
        ("network", "subnetworks", 3),
        ("network.layers", "leak", 0.5),
        ("network.layers", "reset", "zero"),
        ("network.layers", "threshold", 1.5),
        ("network.layers", "bias", False),
        ("network.layers", "recurrent", True),
        ("network.layers", "width", 3),
    ],
)
def test_the_fingerprint_changes_with_what_the_optimum_depends_on(tmp_path, section, key, value):
    good = load_problem(write(tmp_path)).fingerprint()
    assert load_problem(write(tmp_path, *changed(section, key, value))).fingerprint() != good


@pytest.mark.parametrize("name", ["inputs", "targets", "sample_weights"])
def test_the_fingerprint_changes_with_the_training_data(name):
    other = DATA[name].copy()
    other.flat[1] = -other.flat[1] if name != "sample_weights" else 3.0
    assert from_arrays(data_with(**{name: other})).fingerprint() != from_arrays().fingerprint()


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("", "name", "other"),
        ("", "title", "a title"),
        ("", "source", "a book"),
        ("dictionary", "seed", 7),
        ("dictionary", "count", 99),
        ("dictionary", "source", "pairs"),
        ("solver", "name", "cvxpy"),
        ("solver", "tolerance", 1e-3),
        ("expected", "objective", 1.0),
    ],
)
def test_the_fingerprint_does_not_change_with_the_road_taken(tmp_path, section, key, value):
    good = load_problem(write(tmp_path)).fingerprint()
    assert load_problem(write(tmp_path, *changed(section, key, value))).fingerprint() == good


def test_test_data_and_the_kind_of_numbers_leave_the_fingerprint():
    good = from_arrays().fingerprint()
    assert from_arrays(data_with(test_inputs=np.ones((2, 3, 2)))).fingerprint() == good
    assert from_arrays(data_with(targets=DATA["targets"].astype(int))).fingerprint() == good
    assert from_arrays({k: v.tolist() for k, v in DATA.items()}).fingerprint() == good


@pytest.mark.parametrize(
    ("section", "key", "one", "other"),
    [
        ("dictionary", "weight_box", 5.0, 5),
        ("network.layers", "threshold", 1.0, 1),
        ("training", "regularization", 1.0, 1),
    ],
)
def test_5_and_5_0_are_the_same_number(tmp_path, section, key, one, other):
    prints = {load_problem(write(tmp_path, *changed(section, key, v))).fingerprint() for v in (one, other)}
    assert len(prints) == 1


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("dictionary", "weight_box", np.float64(5.0)),
        pytest.param("dictionary", "weight_box", np.float32(5.0)),
        pytest.param("network.layers", "width", np.int64(2)),
        pytest.param("network", "subnetworks", np.int32(2)),
    ],
)
def test_numbers_of_numpy_are_numbers(tmp_path, section, key, value):
    tables, layer = changed(section, key, value)
    problem = from_arrays(DATA, tables, layer)
    assert problem.fingerprint() == from_arrays().fingerprint()
    problem.save(tmp_path)
    assert load_problem(tmp_path / "problem.toml").fingerprint() == problem.fingerprint()


@pytest.mark.parametrize("part", ["training", "dictionary", "network", "solver", "layers"])
def test_from_arrays_checks_keys_as_a_file_does(part):
    tables = {"training": {"regularization": 1.0}, "layers": [{}]}
    tables[part] = [{"nonsense": 1}] if part == "layers" else {**tables.get(part, {}), "nonsense": 1}
    with pytest.raises(ProblemFileError, match="nonsense: unknown key"):
        Problem.from_arrays(DATA["inputs"], DATA["targets"], **tables)


def test_the_data_of_a_problem_do_not_change_behind_it():
    inputs = DATA["inputs"].copy()
    problem = from_arrays(data_with(inputs=inputs))
    before = problem.fingerprint()
    inputs[0] = 0
    assert problem.fingerprint() == before
