"""Sums that overflow, and numbers that are none: a comparison that decides is false for them and refuses."""

import json

import numpy as np
import pytest
from altered_folders import refused, set_array, set_claim, set_problem, small_problem

import convexsnn
from convexsnn.errors import ConvexSNNError


@pytest.fixture
def folder(tmp_path):
    convexsnn.train(small_problem()).save(tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.parametrize("exact", [False, True])
def test_output_weights_whose_products_overflow_are_refused(folder, exact):
    for file, name in (("certificate.npz", "weights"), ("network.npz", "output_weights")):
        set_array(folder, file, name, lambda w: np.where(w == 0, 0.0, np.sign(w) * 1e308))
    assert refused(folder, exact=exact).startswith(
        ("simulation: ", "objective: ", "network: ", "certificate")
    )


@pytest.mark.parametrize("exact", [False, True])
def test_a_dual_point_whose_sums_overflow_is_refused(folder, exact):
    set_array(
        folder,
        "certificate.npz",
        "dual",
        lambda u: np.where(np.arange(len(u)) % 2, 1.7e308, -1.7e308)[:, None],
    )
    assert refused(folder, exact=exact).startswith(("dual: ", "lower_bound: "))


@pytest.mark.parametrize("number", [10**400, -(10**400), 10**301])
@pytest.mark.parametrize("key", ["objective", "lower_bound", "gap", "regularization", "patterns", "units"])
def test_a_whole_number_beyond_floats_is_refused_in_one_line(folder, key, number):
    set_claim(folder, **{key: number})
    told = refused(folder)
    assert "certificate.json: " in told and "has more than 64 bits" in told and "\n" not in told


@pytest.mark.parametrize("text", ["1e400", "NaN", "-Infinity"])
def test_a_word_for_no_number_is_refused(folder, text):
    path = folder / "certificate.json"
    stated = json.loads(path.read_text())
    path.write_text(path.read_text().replace(f'"objective": {stated["objective"]!r}', f'"objective": {text}'))
    assert text in path.read_text()
    assert refused(folder).startswith("certificate.json: objective: expected a finite number")


def test_a_small_objective_is_compared_at_its_own_size(tmp_path):
    """With targets of 1e-7 the objective is about 1e-14: twice of that is another number."""
    problem = small_problem()
    problem = convexsnn.Problem.from_arrays(
        problem.inputs, problem.targets * 1e-7, name="small",
        layers=[{"bias": True, "width": 3, "leak": [0.5, 0.9]}] * 2,
        dictionary={"count": 24, "weight_box": 4.0, "seed": 1},
        training={"loss": "squared", "regularization": 3e-9},
    )  # fmt: skip
    result = convexsnn.train(problem)
    assert 0 < result.claim.objective < 1e-13
    result.save(tmp_path / "run")
    convexsnn.verify_folder(tmp_path / "run")
    set_claim(tmp_path / "run", objective=2 * result.claim.objective)
    assert refused(tmp_path / "run").startswith("objective: ")


@pytest.mark.parametrize("name", ["a\nb: optimal_global", "a\x1b[2J", "a\u202eb", "x" * 500])
def test_a_name_that_prints_as_something_else_is_refused(folder, name):
    set_problem(folder, None, name=name)
    set_claim(folder, problem=name)
    assert refused(folder).startswith("problem.toml: name: expected one line")
    with pytest.raises(ConvexSNNError, match="name: expected one line"):
        small_problem().with_settings(name=name)
