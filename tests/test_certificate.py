"""A certificate is proved from data and weights alone: whatever is altered in it, its check says so."""

import json
import shutil
import tomllib
from dataclasses import asdict, replace

import numpy as np
import pytest
import tomli_w

import convexsnn
from convexsnn.arrays import read_npz, write_npz
from convexsnn.certify import Evidence, load_claim, save_claim
from convexsnn.errors import ConvexSNNError, ProblemFileError, VerificationError
from convexsnn.lowering import Convexification
from convexsnn.problem import Problem, load_problem
from convexsnn.solvers import solve

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


@pytest.fixture(scope="module")
def solved(tmp_path_factory):
    """Return the folder of a solved problem with a gap that is not 0."""
    folder = tmp_path_factory.mktemp("certificate") / "solved"
    result = convexsnn.train(small_problem())
    assert result.certificate.gap > 0 and len(np.unique(result.columns)) > 3
    result.save(folder)
    return folder


@pytest.fixture
def folder(solved, tmp_path):
    """Return a copy to alter."""
    return shutil.copytree(solved, tmp_path / "copy")


def set_claim(folder, **values):
    stated = json.loads((folder / "certificate.json").read_text())
    assert set(values) <= set(stated)
    (folder / "certificate.json").write_text(json.dumps({**stated, **values}))


def set_array(folder, file, name, change):
    """Replace an array of a file by what `change` makes of a copy of it (None removes it)."""
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


def refused(folder, error=VerificationError):
    with pytest.raises(ConvexSNNError) as caught:
        convexsnn.verify_folder(folder)
    assert isinstance(caught.value, error) and "\n" not in str(caught.value)
    assert caught.value.exit_status == (1 if error is VerificationError else 2)
    return str(caught.value)


def test_the_unaltered_folder_is_accepted(solved):
    claim, checked = convexsnn.verify_folder(solved)
    assert claim.status == "optimal_on_dictionary" and claim.scope == "dictionary"
    assert (checked.objective, checked.lower_bound) == (
        pytest.approx(claim.objective, rel=1e-9),
        pytest.approx(claim.lower_bound, rel=1e-9),
    )
    assert checked.gap == pytest.approx(
        (checked.objective - checked.lower_bound) / abs(checked.objective), abs=1e-12
    )
    assert checked.verification.min_margin >= 1e-6


def test_claim_and_evidence_come_back_as_they_were(solved, tmp_path):
    claim, evidence = load_claim(solved)
    save_claim(tmp_path, claim, evidence)
    again, arrays = load_claim(tmp_path)
    assert again == claim
    assert all(
        np.array_equal(a, b) for a, b in zip(vars(arrays).values(), vars(evidence).values(), strict=True)
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("problem", "other"),
        ("fingerprint", "0" * 64),
        ("scope", "all"),
        ("scope", "global"),
        ("definition", "closed (margin 0)"),
        ("margin", 1e-5),
        ("margin", 0.0),
        ("margin", float("nan")),
        ("weight_box", 4.5),
        ("regularization", 0.031),
        ("regularization", float("nan")),
        ("patterns", 3),
        ("units", 2),
        ("gap", -1.0),
        ("gap", float("nan")),
        ("objective", float("nan")),
        ("lower_bound", float("inf")),
        ("status", "optimal_global"),
        ("status", "bounded"),
        ("status", "failed"),
    ],
)
def test_a_claim_that_is_not_so_is_refused_by_name(folder, key, value):
    set_claim(folder, **{key: value})
    assert f"{key}: " in refused(folder)


@pytest.mark.parametrize("factor", [1 - 1e-7, 1 + 1e-7, -1.0])
@pytest.mark.parametrize("key", ["objective", "lower_bound"])
def test_objective_and_bound_are_held_to_a_part_in_a_billion(folder, key, factor):
    claim, _ = load_claim(folder)
    set_claim(folder, **{key: getattr(claim, key) * factor})
    told = refused(folder)
    assert told.startswith(f"{key}: the certificate states {getattr(claim, key) * factor!r}, found ")


def test_a_gap_that_is_not_the_difference_is_refused(folder):
    set_claim(folder, gap=load_claim(folder)[0].gap + 1e-8)
    assert "gap: the certificate states " in refused(folder)


def test_a_tolerance_below_the_gap_is_refused(folder):
    gap = load_claim(folder)[0].gap
    set_claim(folder, tolerance=gap / 2)
    assert f"tolerance: the certificate states {gap / 2!r}, found 1e-06" in refused(folder)
    set_problem(folder, "solver", tolerance=gap / 2)
    told = refused(folder)
    assert (
        told.startswith("status: 'optimal_on_dictionary' is not shown by a gap of ") and "tolerance" in told
    )
    set_claim(folder, status="limit")  # stopped early is no more than the gap that is stated
    assert convexsnn.verify_folder(folder)[0].status == "limit"


@pytest.mark.parametrize("tolerance", [0.0, -1.0, 1e-3, float("nan"), float("inf")])
def test_a_tolerance_that_was_not_asked_for_is_refused(folder, tolerance):
    set_claim(folder, tolerance=tolerance)
    assert "tolerance: " in refused(folder)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda s: s.pop("gap"), "expected the keys"),
        (lambda s: s.update(extra=1), "expected the keys"),
        (lambda s: s.update(gap="small"), "gap: expected float"),
        (lambda s: s.update(units=True), "units: expected int"),
        (lambda s: s.update(units=2.5), "units: expected int"),
        (lambda s: s.update(status="perfect"), "status: 'perfect', expected one of"),
        (lambda s: s.update(format=99), "format: 99, this version reads 2"),
    ],
)
def test_a_claim_of_another_form_is_refused(folder, change, told):
    path = folder / "certificate.json"
    stated = json.loads(path.read_text())
    change(stated)
    path.write_text(json.dumps(stated))
    assert told in refused(folder)


@pytest.mark.parametrize("content", ["", "{", "[]", "3", "null"])
def test_a_claim_that_is_no_json_object_is_refused(folder, content):
    (folder / "certificate.json").write_text(content)
    assert "certificate.json" in refused(folder)


FILES = ("problem.toml", "data.npz", "network.npz", "dictionary.npz", "certificate.json", "certificate.npz")


def test_these_are_the_files(solved):
    assert sorted(path.name for path in solved.iterdir()) == sorted(FILES)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("how", ["missing", "truncated", "folder"])
def test_a_file_that_is_missing_or_damaged_is_named(folder, name, how):
    path = folder / name
    content = path.read_bytes()
    path.unlink()
    if how == "truncated":
        path.write_bytes(content[: len(content) * 2 // 3])
    if how == "folder":
        path.mkdir()
    assert name in refused(folder)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    assert refused(tmp_path / "nowhere", ProblemFileError) == f"{tmp_path / 'nowhere'}: no such folder"


# data and problem


@pytest.mark.parametrize(("name", "index"), [("inputs", (3, 1, 0)), ("targets", 5)])
def test_other_data_are_refused(folder, name, index):
    set_array(folder, "data.npz", name, add(index, 1e-9))
    assert "fingerprint: data, network or training are not those" in refused(folder)


@pytest.mark.parametrize(
    ("section", "values"),
    [
        ("training", {"regularization": 0.02}),
        ("training", {"loss": "squared", "task": "regression", "penalty": "group"}),
        ("dictionary", {"margin": 1e-7}),
        ("dictionary", {"weight_box": 5.0}),
        ("network", {"readout": "membrane"}),
    ],
)
def test_another_problem_is_refused(folder, section, values):
    set_problem(folder, section, **values)
    assert "fingerprint: " in refused(folder)


def test_a_title_may_change(folder):
    set_problem(folder, "", title="another title", source="another source")
    convexsnn.verify_folder(folder)


def test_other_data_under_a_new_fingerprint_are_refused_too(folder):
    set_array(folder, "data.npz", "targets", add(5, 0.1))
    set_claim(folder, fingerprint=load_problem(folder / "problem.toml").fingerprint())
    assert "objective: the certificate states " in refused(folder)


def test_other_inputs_under_a_new_fingerprint_are_refused_too(folder):
    set_array(folder, "data.npz", "inputs", lambda x: -x)
    set_claim(folder, fingerprint=load_problem(folder / "problem.toml").fingerprint())
    assert "dictionary: column " in refused(folder)


# network


def test_another_output_weight_is_refused(folder):
    set_array(folder, "network.npz", "output_weights", add(0, 1e-6))
    assert "simulation: output of row " in refused(folder)


def test_a_hidden_weight_that_moves_a_spike_is_refused(folder):
    set_array(folder, "network.npz", "layer2_weights", lambda w: -w)
    told = refused(folder)
    assert told.startswith("simulation: sample ") and ", step 2, unit " in told


def test_a_hidden_weight_that_moves_no_spike_is_accepted(folder):
    set_array(folder, "network.npz", "layer1_bias", add(0, 1e-9))
    convexsnn.verify_folder(folder)


@pytest.mark.parametrize("name", ["layer1_weights", "layer2_bias"])
def test_a_weight_outside_the_box_is_refused(folder, name):
    set_array(folder, "network.npz", name, put(0, 4.1))
    assert refused(folder) == "network: a weight of 4.1 is outside the box of 4"


ARCHITECTURE = {
    "leak": ("layer1_leak", lambda leak: leak + 1e-9),
    "threshold": ("layer2_threshold", lambda theta: theta - 1e-9),
    "reset": ("layer1_reset", lambda reset: np.asarray("none")),
    "readout": ("readout", lambda readout: np.asarray("membrane")),
}


@pytest.mark.parametrize("name", ARCHITECTURE)
def test_a_network_of_another_architecture_is_refused_by_name(folder, name):
    set_array(folder, "network.npz", *ARCHITECTURE[name])
    assert name in refused(folder)


# dictionary


def test_another_bit_is_refused_by_column_and_row(folder):
    def flip(packed):
        packed[2, 0] ^= 1 << (7 - 5)  # bit 5 of the first byte

    set_array(folder, "dictionary.npz", "packed", flip)
    assert refused(folder) == "dictionary: column 2, row 5 is not what its witness does"


def test_another_witness_is_refused(folder):
    set_array(folder, "dictionary.npz", "subnetwork0_layer2_weights", lambda w: -w)
    assert "dictionary: " in refused(folder)


def test_a_witness_outside_the_box_is_refused(folder):
    set_array(folder, "dictionary.npz", "subnetwork0_layer1_weights", put((0, 0), -4.5))
    assert refused(folder) == "dictionary: subnetwork 0: a weight of 4.5 is outside the box of 4"


def test_a_witness_of_smaller_margin_is_refused(folder):
    problem = load_problem(folder / "problem.toml")
    tables = {**asdict(problem.dictionary), "margin": 0.5}
    problem = replace(problem, dictionary=type(problem.dictionary)(**tables))
    set_problem(folder, "dictionary", margin=0.5)
    definition = "robust, margin 0.5, weights in [-4, 4], spike readout, last step"
    set_claim(folder, margin=0.5, fingerprint=problem.fingerprint(), definition=definition)
    set_array(folder, "dictionary.npz", "definition", put(0, 0.5))
    assert "dictionary: margin " in refused(folder)


@pytest.mark.parametrize("change", [put(0, 0.5), put(1, 9.0)])
def test_another_definition_is_refused(folder, change):
    set_array(folder, "dictionary.npz", "definition", change)
    assert "dictionary: defined as " in refused(folder)


def test_another_margin_is_refused(folder):
    set_array(folder, "dictionary.npz", "margins", lambda m: 2 * m)
    assert "margin" in refused(folder)


def test_a_unit_that_is_not_there_is_refused(folder):
    set_array(folder, "dictionary.npz", "unit_of", put(0, 99))
    assert "dictionary: unit 99 of subnetwork " in refused(folder)


@pytest.mark.parametrize("number", [99, -1])
def test_a_column_without_a_witness_is_refused(folder, number):
    unused = int(np.setdiff1d(np.arange(9), load_claim(folder)[1].columns)[0])
    set_array(folder, "dictionary.npz", "subnetwork_of", put(unused, number))
    assert "dictionary: " in refused(folder)


def forge(folder, dictionary):
    """Solve over a dictionary that is not the problem's, and write a claim in which all else holds."""
    problem = load_problem(folder / "problem.toml")
    lowered = Convexification().lower(problem, dictionary)
    point = solve(lowered.program, tolerance=1e-6).point
    certificate = lowered.program.certify(point)
    network = convexsnn.reconstruct(lowered, point)
    columns = Convexification().columns_of_units(lowered, point)
    claim = replace(
        load_claim(folder)[0], objective=certificate.objective, lower_bound=certificate.lower_bound,
        gap=certificate.gap, patterns=dictionary.patterns, units=network.units,
    )  # fmt: skip
    dictionary.save(folder / "dictionary.npz")
    convexsnn.save_network(folder / "network.npz", network)
    save_claim(folder, claim, Evidence(certificate.dual, point.weights, columns))


def test_a_smaller_dictionary_with_its_own_claim_is_accepted(folder):
    """The scope is the dictionary that is there: forge() itself makes nothing that is not so."""
    lowered = convexsnn.lower(small_problem())
    forge(folder, lowered.dictionary.select(np.arange(5)))
    assert convexsnn.verify_folder(folder)[0].patterns == 5


# evidence


def test_another_dual_entry_is_refused(folder):
    set_array(folder, "certificate.npz", "dual", add((3, 0), 1e-5))
    assert refused(folder).startswith(("dual: not feasible", "lower_bound: "))


def test_a_dual_that_is_too_long_is_refused_whatever_is_claimed(folder):
    set_array(folder, "certificate.npz", "dual", lambda u: 1.01 * u)
    set_claim(folder, lower_bound=load_claim(folder)[0].objective, gap=0.0)
    told = refused(folder)
    assert told.startswith("dual: not feasible, max |Dᵀu| = 0.030") and "at most 0.03 is allowed" in told


def test_a_dual_outside_the_domain_of_its_loss_is_refused(tmp_path):
    targets = np.where(NUMBERS > 0, 1.0, -1.0)
    problem = Problem.from_arrays(
        INPUTS, targets, layers=[{"bias": True}], training={"loss": "hinge", "regularization": 0.02},
        dictionary={"count": 20},
    )  # fmt: skip
    convexsnn.train(problem).save(tmp_path / "hinge")
    convexsnn.verify_folder(tmp_path / "hinge")
    set_array(tmp_path / "hinge", "certificate.npz", "dual", lambda u: -u)  # still feasible for D
    told = refused(tmp_path / "hinge")
    assert told.startswith("dual: not feasible") and "dual objective -inf" in told


def test_another_weight_is_refused(folder):
    used = load_claim(folder)[1].columns[0]
    set_array(folder, "certificate.npz", "weights", add((used, 0), 1e-6))
    assert refused(folder).startswith(("simulation: output of row ", "objective: "))


@pytest.mark.parametrize("name", ["dual", "weights"])
@pytest.mark.parametrize(
    "change", [lambda a: a[:-1], lambda a: a[:, 0], lambda a: a * np.nan, lambda a: a.astype(str)]
)
def test_evidence_of_another_shape_or_value_is_refused(folder, name, change):
    set_array(folder, "certificate.npz", name, change)
    assert f"certificate.npz: {name}: " in refused(folder)


def test_a_missing_array_of_the_evidence_is_named(folder):
    arrays = read_npz(folder / "certificate.npz")
    del arrays["dual"]
    write_npz(folder / "certificate.npz", arrays)
    assert "no array 'dual'" in refused(folder)


def other_column(columns):
    columns[0] = np.setdiff1d(np.arange(9), columns)[0]  # of no other unit


def test_another_column_index_is_refused(folder):
    set_array(folder, "certificate.npz", "columns", other_column)
    assert "simulation: " in refused(folder)


@pytest.mark.parametrize("change", [put(0, 999), put(0, -2), lambda c: c[:-1]])
def test_a_column_that_is_not_there_is_refused(folder, change):
    set_array(folder, "certificate.npz", "columns", change)
    assert "columns: " in refused(folder)


# what must end in one line and not in numpy's own words

ILL_FITTING = [
    ("network.npz", "layer1_weights", lambda w: np.hstack([w, w]), "network: layer 1 has inputs 4"),
    ("network.npz", "supervise", lambda s: np.asarray("all"), "network: supervise 'all'"),
    (
        "dictionary.npz",
        "subnetwork0_layer1_weights",
        lambda w: np.hstack([w, w]),
        "dictionary: subnetwork 0: ",
    ),
    ("certificate.npz", "columns", lambda c: c[:0], "columns: 0 entries"),
    pytest.param("certificate.npz", "columns", lambda c: np.full(c.shape, "a"), "columns"),
    pytest.param("certificate.npz", "columns", lambda c: c[:, None], "columns"),
    pytest.param("certificate.npz", "columns", lambda c: c + 0.5, "columns"),
    pytest.param("dictionary.npz", "unit_of", lambda u: u + 0.5, "unit_of"),
    pytest.param(
        "dictionary.npz", "unit_of", lambda u: np.stack([u, u], axis=1), "unit_of"
    ),
    pytest.param("network.npz", "output_weights", lambda w: np.hstack([w, w]), "output"),
]


@pytest.mark.parametrize(("file", "name", "change", "told"), ILL_FITTING)
def test_arrays_that_do_not_fit_end_in_one_line(folder, file, name, change, told):
    set_array(folder, file, name, change)
    with pytest.raises(VerificationError) as caught:
        convexsnn.verify_folder(folder)
    assert told in str(caught.value) and "\n" not in str(caught.value)


def test_a_network_read_at_the_last_step_alone_is_refused(tmp_path):
    folder = tmp_path / "all"
    convexsnn.train(small_problem("all")).save(folder)
    convexsnn.verify_folder(folder)
    set_array(folder, "network.npz", "supervise", lambda s: np.asarray("last"))
    assert "network: supervise 'last'" in refused(folder)
