"""Column generation: the optimum over all patterns, bounds that hold on the way, and honest early stops."""

import functools
from dataclasses import replace

import numpy as np
import pytest
from naive_enumeration import naive_patterns
from slow_optima import columns_of, largest_regularization
from slow_shares import one_of

import convexsnn
from convexsnn.errors import UnsupportedError
from convexsnn.lowering import definition_of
from convexsnn.pricing.mip import MipOracle
from convexsnn.pricing.prices import Searched
from convexsnn.problem import Problem, load_problem

# every loss, both penalties, several outputs, robust and closed, last and all steps
NAMES = (
    "exact-subtract",  # squared
    "exact-two-outputs-group",  # squared, group, membrane
    "exact-whole-numbers",  # squared, every step, three leaks, closed
    "exact-xor",  # hinge
    "exact-recurrent-group",  # hinge, group, every step, closed
    "exact-bias-membrane-all",  # squared hinge, closed
    "exact-zero-membrane",  # logistic, two leaks
    "exact-duplicates-softmax",  # softmax, equal samples
    "exact-zero-softmax-group",  # softmax, group
)
TINY = 1e-9


def changed(problem, training=(), **dictionary):
    return replace(
        problem,
        dictionary=replace(problem.dictionary, **dictionary),
        training=replace(problem.training, **dict(training)),
    )


def fraction_of(problem, share):
    training = {"regularization": None, "regularization_fraction": share}
    return changed(problem, training, source="column_generation")


def harder(seed=0, n=30, **dictionary):
    rng = np.random.default_rng(seed)
    return Problem.from_arrays(
        rng.normal(size=(n, 3, 5)),
        rng.normal(size=n),
        layers=[{"neuron": "lif", "leak": 0.9}],
        dictionary={"source": "column_generation", "margin": 1e-3, "weight_box": 5.0, **dictionary},
        training={"loss": "squared", "regularization": 0.05},
        name="harder",
    )


@functools.cache
def all_patterns(name):
    problem = load_problem(name)
    return naive_patterns(problem.inputs, problem.network.layers[0], definition_of(problem))


@functools.cache
def generated(name, oracle):
    return convexsnn.train(changed(load_problem(name), source="column_generation", oracle=oracle))


@pytest.mark.parametrize("oracle", ["auto", "tree"])
@pytest.mark.parametrize("name", one_of(NAMES, 6))
def test_the_optimum_is_the_expected_one(name, oracle):
    result = generated(name, oracle)
    expected = load_problem(name).expected["objective"]
    assert result.status == "optimal_global" and result.scope == "all_patterns"
    assert result.certificate.objective == pytest.approx(expected, rel=1e-7)
    assert result.certificate.lower_bound == pytest.approx(expected, rel=1e-7)
    assert result.verification.objective == pytest.approx(expected, rel=1e-7)
    assert columns_of(result.lowered.dictionary) <= all_patterns(name)


@pytest.mark.parametrize("oracle", ["auto", "tree"])
@pytest.mark.parametrize("name", NAMES)
def test_every_round_brackets_the_optimum(name, oracle):
    rounds = generated(name, oracle).iterations
    expected = load_problem(name).expected["objective"]
    tiny = 1e-7 * abs(expected)  # what the stated optimum and the masters are good for
    assert rounds
    for one in rounds:
        assert one.objective >= expected - tiny
        assert one.lower_bound is None or one.lower_bound <= expected + tiny
        if one.gap is not None:
            assert one.gap == pytest.approx((one.objective - one.lower_bound) / abs(one.objective), abs=TINY)
    objectives = [one.objective for one in rounds]
    bounds = [one.lower_bound for one in rounds if one.lower_bound is not None]
    assert all(b <= a + tiny for a, b in zip(objectives, objectives[1:], strict=False))
    assert all(b >= a for a, b in zip(bounds, bounds[1:], strict=False))


def test_a_start_without_any_pattern_is_no_hindrance():
    """The draw is only where it starts: here no drawn unit fires, but weights from 5 on do."""
    parts = {
        "layers": [{"neuron": "lif", "leak": 0.9}],
        "training": {"loss": "squared", "regularization": 0.1},
    }
    inputs, targets = [[[0.2]], [[0.15]]], [1.0, 1.0]
    exact, generated = (
        convexsnn.train(Problem.from_arrays(inputs, targets, dictionary={"source": source}, **parts))
        for source in ("exact", "column_generation")
    )
    assert exact.status == generated.status == "optimal_global"
    assert generated.certificate.objective == pytest.approx(exact.certificate.objective, rel=1e-6)


@pytest.mark.parametrize("name", ["exact-subtract", "exact-whole-numbers"])
def test_the_bound_of_a_mixed_integer_solver_is_proved_by_another(name, tmp_path):
    result = generated(name, "mip")
    assert result.status == "optimal_global" and result.claim.oracle in ("tree", "any pattern")
    assert result.claim.objective == pytest.approx(load_problem(name).expected["objective"], rel=1e-6)
    result.save(tmp_path / "run")
    assert convexsnn.verify_folder(tmp_path / "run")[0].status == "optimal_global"


def test_no_bound_of_a_mixed_integer_solver_is_stated(monkeypatch):
    """Even if the solver claims that no pattern is worth anything."""
    told = []

    def nothing(self, prices, cutoff, group, deadline):
        told.append(cutoff)
        return Searched(self.confirm(0, np.zeros((0, self.units[0].dimension))), 0.0, True, 1)

    monkeypatch.setattr(MipOracle, "search_all", nothing)
    result, other = (convexsnn.train(harder(n=12, oracle=oracle)) for oracle in ("mip", "cells"))
    assert told and result.claim.oracle in ("tree", "any pattern")
    assert other.claim.lower_bound * (1 - 1e-6) <= result.claim.objective
    assert result.claim.lower_bound <= other.claim.objective * (1 + 1e-9)


@pytest.mark.parametrize("oracle", ["auto", "tree"])
@pytest.mark.parametrize("time_limit", [1e-3, 0.5])
def test_out_of_time_the_bound_still_holds(tmp_path, oracle, time_limit):
    result = convexsnn.train(harder(oracle=oracle), time_limit=time_limit)
    found = result.certificate
    assert result.scope == "all_patterns" and result.status in ("bounded", "optimal_global")
    assert (result.status == "optimal_global") == (found.gap <= result.problem.solver.tolerance)
    assert 0 < found.lower_bound <= found.objective
    assert found.gap == pytest.approx((found.objective - found.lower_bound) / found.objective, rel=1e-9)
    result.save(tmp_path / "run")
    claim, checked = convexsnn.verify_folder(tmp_path / "run")
    assert claim.status == result.status and checked.oracle
    assert checked.lower_bound == pytest.approx(found.lower_bound, rel=1e-9)


@pytest.mark.parametrize("name", one_of(NAMES, 4))
def test_a_fraction_is_of_the_largest_over_all_patterns(name):
    largest = largest_regularization(load_problem(name), all_patterns(name))
    result = convexsnn.train(fraction_of(load_problem(name), 0.3))
    assert result.claim.regularization == pytest.approx(0.3 * largest, rel=1e-9)
    assert result.status == "optimal_global"


def two_layers(inputs=None, targets=None, **dictionary):
    rng = np.random.default_rng(4)
    return Problem.from_arrays(
        rng.normal(size=(12, 3, 2)) if inputs is None else inputs,
        rng.normal(size=12) if targets is None else targets,
        layers=[{"bias": True, "width": 3}, {"bias": True}],
        network={"subnetworks": 5},
        dictionary={"weight_box": 4.0, **dictionary},
        training={"loss": "squared", "regularization": 0.05},
    )


def test_two_layers_are_optimal_on_the_dictionary_only(tmp_path):
    # samples on a line whose targets alternate: no unit above three thresholds can follow them, so the bound
    # over any patterns stays far away on every processor, whatever the search finds
    line, sides = np.linspace(-2.0, 2.0, 24).reshape(-1, 1, 1), np.arange(24) % 2 * 2.0 - 1.0
    result = convexsnn.train(two_layers(line, sides, source="column_generation"))
    assert result.status == "optimal_on_dictionary" and result.scope == "dictionary"
    summary = result.summary()
    assert summary["oracle"] is None and summary["oracle_bound"] is None and result.claim.oracle == ""
    assert not result.lowered.dictionary.complete
    assert all(one.lower_bound is None or one.lower_bound <= one.objective for one in result.iterations)
    result.save(tmp_path / "run")
    assert convexsnn.verify_folder(tmp_path / "run")[1].oracle == ""


@pytest.mark.parametrize("changes", [{"source": "exact"}, {"source": "column_generation", "oracle": "tree"}])
def test_two_layers_with_many_hidden_trains_have_no_exact_search(changes):
    with pytest.raises(UnsupportedError) as caught:
        convexsnn.train(two_layers(**changes))
    assert "hidden layer 1" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("limit", [1, 5, 14, 15])
def test_more_patterns_than_the_limit_leave_the_rest_to_the_oracle(tmp_path, limit):
    problem = changed(load_problem("exact-subtract"), limit=limit)
    result = convexsnn.train(problem)
    there = len(all_patterns("exact-subtract"))
    assert result.lowered.dictionary.complete == (limit >= there)
    assert result.scope == "all_patterns" and result.status in ("bounded", "optimal_global")
    assert result.certificate.lower_bound <= problem.expected["objective"] * (1 + 1e-9)
    if result.status == "optimal_global":
        assert result.certificate.objective == pytest.approx(problem.expected["objective"], rel=1e-7)
    assert columns_of(result.lowered.dictionary) <= all_patterns("exact-subtract")
    result.save(tmp_path / "run")
    assert convexsnn.verify_folder(tmp_path / "run")[0].status == result.status


@pytest.mark.parametrize("loss", ["squared", "hinge", "squared_hinge", "logistic"])
def test_shattered_samples_have_a_closed_form(tmp_path, loss):
    rng = np.random.default_rng(2)
    inputs, targets = rng.normal(size=(20, 1, 50)), rng.normal(size=20)
    problem = Problem.from_arrays(
        inputs,
        targets if loss == "squared" else np.where(targets > 0, 1, -1),
        layers=[{"neuron": "threshold"}],
        dictionary={"source": "column_generation"},
        training={"loss": loss, "regularization": 0.05},
    )
    result = convexsnn.train(problem)
    assert result.solution.solver == result.claim.solver == "closed form"
    assert result.status == "optimal_global" and result.certificate.gap < 1e-10
    result.save(tmp_path / "run")
    claim, checked = convexsnn.verify_folder(tmp_path / "run")
    assert checked.oracle == "any pattern" and checked.gap < 1e-10


def test_the_closed_form_gives_the_fraction_its_own_largest():
    rng = np.random.default_rng(5)
    targets = rng.normal(size=8)
    problem = Problem.from_arrays(
        rng.normal(size=(8, 1, 20)),
        targets,
        layers=[{"neuron": "threshold"}],
        dictionary={"source": "column_generation"},
        training={"loss": "squared", "regularization_fraction": 0.4},
    )
    largest = max(targets[targets > 0].sum(), -targets[targets < 0].sum()) / 8  # every pattern exists
    assert convexsnn.train(problem).claim.regularization == pytest.approx(0.4 * largest, rel=1e-12)


@pytest.mark.parametrize("oracle", ["auto", "tree"])
def test_two_runs_are_equal(oracle):
    problem = changed(harder(n=12), oracle=oracle, count=10)
    first, second = convexsnn.train(problem), convexsnn.train(problem)
    assert first.status == "optimal_global" and first.claim == second.claim
    assert np.array_equal(first.point.weights, second.point.weights)
    assert np.array_equal(first.proof.dual, second.proof.dual)
    packed = [r.lowered.dictionary.columns.packed for r in (first, second)]
    assert np.array_equal(*packed)
    rounds = [[replace(one, seconds=0.0) for one in r.iterations] for r in (first, second)]
    assert rounds[0] == rounds[1]
