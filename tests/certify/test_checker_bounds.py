"""A claim about all patterns: accepted as it is, refused by name whatever is altered in it."""

import json
import shutil

import numpy as np
import pytest
from altered_folders import refused, set_array, set_claim
from stated_claims import state

import convexsnn
from convexsnn.certify.claim import load_claim, status_of
from convexsnn.problem import Problem, load_problem

RNG = np.random.default_rng(6)
INPUTS, NUMBERS = RNG.normal(size=(14, 3, 2)), RNG.normal(size=14)
ORACLES = ("cells", "tree", "mip", "any pattern", "")


def problem_of(source, training, **dictionary):
    dictionary = {"source": source, "margin": 1e-3, "weight_box": 5.0, **dictionary}
    parts = {"layers": [{"neuron": "lif", "leak": 0.9}], "dictionary": dictionary, "name": "global"}
    return Problem.from_arrays(INPUTS, NUMBERS, training={"loss": "squared", **training}, **parts)


PROBLEMS = {
    "exact": lambda: load_problem("exact-subtract"),
    "generated": lambda: problem_of("column_generation", {"regularization_fraction": 0.3}),
    "tree": lambda: problem_of("column_generation", {"regularization": 0.03}, oracle="tree"),
    "group": lambda: load_problem("exact-two-heads-group"),
    "two layers": lambda: load_problem("exact-two-layers-lif"),
}


@pytest.fixture(scope="module")
def solved(tmp_path_factory):
    """Return the folders of solved problems by name."""
    place = tmp_path_factory.mktemp("global")
    for name, problem in PROBLEMS.items():
        result = convexsnn.train(problem())
        assert result.status == "optimal_global" and len(result.columns) > 2
        result.save(place / name)
    return place


@pytest.fixture(params=["exact", "generated"])
def folder(solved, tmp_path, request):
    """Return a copy to alter."""
    return shutil.copytree(solved / request.param, tmp_path / "copy")


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("name", PROBLEMS)
def test_as_it_is_it_is_accepted(solved, name, exact):
    claim, checked = convexsnn.verify_folder(solved / name, exact=exact)
    assert claim.status == "optimal_global" and claim.scope == "all_patterns"
    assert checked.gap <= claim.tolerance and checked.lower_bound <= checked.objective
    # always the tree, whatever the certificate says
    assert checked.oracle == ("tree, in rational arithmetic" if exact else "tree")


# key, what becomes of it, what the refusal says: the value altered, or what no longer agrees with it
CLAIMS = [
    *[(key, lambda v, f=f: v * f, key) for key in ("objective", "lower_bound") for f in (0.999, 1.001)],
    ("oracle_bound", lambda v: 1.01 * v, "lower_bound"),
    ("oracle_bound", lambda v: 0.99 * v, "oracle_bound"),
    ("oracle_bound", lambda v: None, "oracle_bound"),
    ("gap", lambda v: v + 1e-7, "gap"),
    *[("status", lambda v, s=s: s, "status") for s in ("bounded", "optimal_on_dictionary", "limit")],
    ("scope", lambda v: "dictionary", "scope is the dictionary"),
    ("margin", lambda v: v / 2, "margin"),
    ("weight_box", lambda v: v + 1, "weight_box"),
    ("definition", lambda v: v.replace("robust", "closed"), "definition"),
    ("regularization", lambda v: 1.001 * v, "regularization"),
    ("tolerance", lambda v: 10 * v, "tolerance"),
    *[(key, lambda v: v + 1, key) for key in ("patterns", "units")],
    *[(key, lambda v: v + "0", key) for key in ("fingerprint", "problem")],
]


@pytest.mark.parametrize(("key", "change", "told"), CLAIMS)
def test_an_altered_claim_is_refused_by_name(folder, key, change, told):
    set_claim(folder, **{key: change(json.loads((folder / "certificate.json").read_text())[key])})
    assert told in refused(folder)


def add(amount):
    def change(array):
        array.flat[np.abs(array).argmax()] += amount
        return array

    return change


ARRAYS = [
    ("certificate.npz", "dual", lambda u: 1.01 * u, ("dual: ", "lower_bound: ")),
    ("certificate.npz", "dual", lambda u: 0.99 * u, ("lower_bound: ",)),
    ("certificate.npz", "dual", add(1e-4), ("dual: ", "lower_bound: ")),
    ("certificate.npz", "weights", add(1e-4), ("simulation: output", "objective: ")),
    ("certificate.npz", "columns", lambda c: c[::-1], ("simulation: ",)),
    ("network.npz", "layer1_weights", lambda w: -w, ("simulation: sample",)),
    ("network.npz", "layer1_weights", lambda w: np.where(w == w.max(), 9.0, w), ("network: a weight of 9",)),
    ("network.npz", "output_weights", add(1e-4), ("simulation: output",)),
    ("data.npz", "targets", add(0.1), ("fingerprint: ",)),
    ("data.npz", "inputs", add(1e-6), ("fingerprint: ",)),
    ("dictionary.npz", "packed", lambda p: p ^ 128, ("dictionary: column",)),
]


@pytest.mark.parametrize(("file", "name", "change", "told"), ARRAYS)
def test_an_altered_array_is_refused_by_name(folder, file, name, change, told):
    set_array(folder, file, name, change)
    assert refused(folder).startswith(told)


def test_another_label_under_its_own_fingerprint_is_refused(folder):
    set_array(folder, "data.npz", "targets", add(0.1))
    set_claim(folder, fingerprint=load_problem(folder / "problem.toml").fingerprint())
    assert refused(folder).startswith(("objective: ", "regularization: "))


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("oracle", ORACLES)
def test_an_optimum_on_a_sample_is_not_one_over_all_patterns(tmp_path, oracle, exact):
    result = convexsnn.train(problem_of("gaussian", {"regularization": 0.03}, count=8))
    result.save(tmp_path / "run")
    state(tmp_path / "run", result.lowered.dictionary, oracle)
    assert json.loads((tmp_path / "run/certificate.json").read_text())["status"] == "optimal_global"
    assert refused(tmp_path / "run", exact=exact).startswith(
        "oracle_bound: the certificate states 0.03, a pattern"
    )


def test_a_fraction_of_less_than_the_largest_is_refused(solved, tmp_path):
    """All holds but for λ, whose largest pattern was left out: nothing but the second proof can tell."""
    folder = shutil.copytree(solved / "generated", tmp_path / "copy")
    whole = convexsnn.lower(problem_of("exact", {"regularization_fraction": 0.3}))
    at_zero = whole.program.dictionary.transpose_times(NUMBERS[:, None] / len(NUMBERS))[:, 0]
    kept = np.flatnonzero(np.abs(at_zero) < 0.95 * np.abs(at_zero).max())
    state(folder, whole.dictionary.select(kept), price_of=lambda u: whole.program.dual_norm(u) * (1 + 1e-9))
    assert load_claim(folder)[0].regularization < 0.3 * np.abs(at_zero).max() * 0.96
    assert refused(folder).startswith("regularization: the certificate states ")


def test_the_word_complete_proves_nothing(tmp_path):
    """Only a source that enumerates can say so, and the bound is proved again all the same."""
    convexsnn.train(problem_of("gaussian", {"regularization": 0.03}, count=8)).save(tmp_path / "run")
    set_array(tmp_path / "run", "dictionary.npz", "complete", lambda c: ~c)
    assert "marked complete" in refused(tmp_path / "run")


def test_an_oracle_that_does_not_exist_is_refused(tmp_path):
    convexsnn.train(problem_of("gaussian", {"regularization": 0.03}, count=8)).save(tmp_path / "run")
    set_claim(tmp_path / "run", oracle="by inspection")
    assert "oracle: 'by inspection'" in refused(tmp_path / "run")


def test_a_loose_tolerance_makes_no_optimum():
    assert status_of(0.005, 0.5, "all_patterns") == "optimal_global"
    assert status_of(0.02, 0.5, "all_patterns") == "bounded"
    assert status_of(0.02, 0.5, "dictionary") == "limit"


def test_many_weights_and_groups_are_checked_by_the_tree(tmp_path):
    """With 9 weights a unit, a mixed-integer solver's bound was taken at its word."""
    rng = np.random.default_rng(0)
    problem = convexsnn.Problem.from_arrays(
        np.sign(rng.normal(size=(12, 1, 9))),
        rng.normal(size=(12, 2)),
        layers=[{"neuron": "threshold"}],
        dictionary={"source": "column_generation", "weight_box": 1.0, "margin": 0.5},
        training={"loss": "squared", "regularization": 0.1, "penalty": "group"},
    )
    result = convexsnn.train(problem)
    assert result.status == "optimal_global" and result.claim.oracle == "tree"
    result.save(tmp_path / "run")
    assert convexsnn.verify_folder(tmp_path / "run")[1].oracle == "tree"
