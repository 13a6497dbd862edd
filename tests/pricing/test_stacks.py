"""Problems with hidden layers and every pattern in the dictionary: an obvious enumeration is the judge."""

import functools
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from altered_folders import refused, set_array, set_claim
from slow_optima import columns_of, largest_regularization, optimum_of
from slow_shares import one_of
from small_stacks import PAIR, STACKS, TWO_BITS, UNIT, lif, patterns_of_stack, stack
from stated_claims import state

import convexsnn
from convexsnn.certify.claim import load_claim
from convexsnn.convex.training import lower
from convexsnn.errors import LoweringError
from convexsnn.lowering import build_dictionary
from convexsnn.problem import Problem

SOURCES = ("exact", "column_generation")
# name: training, and the shape of each row's target
TRAININGS = {
    "xor robust": ({"loss": "hinge", "regularization": 0.1}, ()),
    "three bits": ({}, ()),
    "subtract": ({"loss": "logistic"}, ()),
    "zero": ({"loss": "squared_hinge"}, ()),
    "membrane": ({}, ()),
    "membrane zero": ({"penalty": "group"}, (2,)),
    "every step": ({"loss": "hinge", "regularization": 0.01}, ()),
    "two leaks": ({"regularization": 0.005}, ()),
    "recurrent closed": ({"loss": "logistic", "penalty": "group"}, (2,)),
    "equal samples": ({}, ()),
    "three layers": ({}, (2,)),
}


def training_problem(name, source="exact", **dictionary):
    training, outputs = TRAININGS[name]
    return stack(name, source, training, outputs, **dictionary)


@functools.cache
def optimum_over_all(name):
    return optimum_of(training_problem(name), patterns_of_stack(name))[0]


@pytest.mark.parametrize("name", one_of(STACKS, 3))
def test_the_dictionary_holds_every_pattern(name):
    dictionary = build_dictionary(stack(name))
    assert dictionary.complete is True
    assert columns_of(dictionary) == patterns_of_stack(name)
    assert dictionary.patterns == len(patterns_of_stack(name))
    assert dictionary.margins.min() >= dictionary.definition.margin


@pytest.mark.parametrize("name", ["xor closed", "subtract", "three layers"])
def test_every_witness_has_the_layers_asked_for(name):
    problem = stack(name)
    for subnetwork in lower(problem).dictionary.subnetworks:
        assert len(subnetwork.layers) == len(problem.network.layers)
        for layer, spec in zip(subnetwork.layers[:-1], problem.network.layers[:-1], strict=True):
            assert layer.units == spec.width and layer.neuron.kind == spec.neuron
        for layer in subnetwork.layers:
            assert np.abs(layer.unit_weights()).max() <= problem.dictionary.weight_box


def test_without_any_pattern_there_is_no_dictionary():
    """Two units of weight 1/2 reach the threshold, one does not."""
    definition = {"source": "exact", "margin": 0.0, "weight_box": 0.5}
    training = {"loss": "squared", "regularization": 0.1}
    for width, fires in ((1, False), (2, True)):
        layers = [lif(width), lif()]
        problem = Problem.from_arrays(
            [[[4.0]]], [1.0], layers=layers, training=training, dictionary=definition
        )
        if fires:
            assert build_dictionary(problem).columns.toarray().tolist() == [[True]]
        else:
            with pytest.raises(LoweringError):
                build_dictionary(problem)


@functools.cache
def trained(name, source):
    return convexsnn.train(training_problem(name, source))


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("name", one_of(TRAININGS, 3))
def test_training_finds_the_optimum_over_all_patterns(name, source):
    result, expected = trained(name, source), optimum_over_all(name)
    assert result.status == "optimal_global" and result.scope == "all_patterns"
    assert result.certificate.objective == pytest.approx(expected, rel=2e-6)
    assert result.certificate.lower_bound == pytest.approx(expected, rel=2e-6)
    assert result.certificate.lower_bound <= expected * (1 + 1e-7)
    assert result.verification.objective == pytest.approx(expected, rel=2e-6)
    assert columns_of(result.lowered.dictionary) <= patterns_of_stack(name)


@pytest.mark.parametrize(
    ("source", "exact"),
    [
        ("exact", True),
        ("column_generation", False),
        pytest.param("exact", False, marks=pytest.mark.night),
        pytest.param("column_generation", True, marks=pytest.mark.night),
    ],
)
@pytest.mark.parametrize("name", one_of(TRAININGS, 3))
def test_what_is_saved_is_proved_again(tmp_path, name, source, exact):
    result = trained(name, source)
    result.save(tmp_path / "run")
    claim, checked = convexsnn.verify_folder(tmp_path / "run", exact=exact)
    assert claim.status == "optimal_global" and claim.scope == "all_patterns" and checked.oracle
    assert checked.objective == pytest.approx(optimum_over_all(name), rel=2e-6)
    assert checked.gap <= claim.tolerance


@pytest.mark.parametrize("source", SOURCES)
def test_exclusive_or_by_hand(source):
    """The pattern 0110 alone: (1 - w)²/4 + λw is least at w = 1 - 2λ, and then λ - λ²."""
    problem = Problem.from_arrays(
        TWO_BITS,
        [0.0, 1.0, 1.0, 0.0],
        layers=[PAIR, UNIT],
        dictionary={"source": source, "margin": 0.0},
        training={"loss": "squared", "regularization": 0.1},
    )
    result = convexsnn.train(problem)
    assert result.status == "optimal_global"
    assert result.certificate.objective == pytest.approx(0.09, rel=1e-6)
    assert result.verification.outputs[:, 0] == pytest.approx([0, 0.8, 0.8, 0], abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("name", ["membrane", "two leaks"])
def test_a_fraction_is_of_the_largest_over_all_patterns(name, source):
    training = {"regularization": None, "regularization_fraction": 0.3}
    problem = stack(name, source)
    problem = replace(problem, training=replace(problem.training, **training))
    result = convexsnn.train(problem)
    largest = largest_regularization(problem, patterns_of_stack(name))
    assert result.claim.regularization == pytest.approx(0.3 * largest, rel=1e-9)
    assert result.status == "optimal_global"


# --- what is not so is refused --------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[("every step", "exact"), ("three layers", "column_generation")])
def saved(tmp_path_factory, request):
    """Return the folder of a solved problem."""
    folder = tmp_path_factory.mktemp("stack") / "run"
    trained(*request.param).save(folder)
    return folder


@pytest.mark.parametrize(
    ("key", "change"),
    one_of(
        [
            *[(key, change) for key in ("oracle_bound", "lower_bound") for change in (0.999, 1.001)],
            ("objective", 0.999),
            ("oracle_bound", None),
        ],
        3,
    ),
)
def test_an_altered_bound_is_refused(saved, tmp_path, key, change):
    folder = shutil.copytree(saved, tmp_path / "copy")
    stated = json.loads((folder / "certificate.json").read_text())[key]
    set_claim(folder, **{key: None if change is None else change * stated})
    assert refused(folder).startswith(("oracle_bound: ", "lower_bound: ", "objective: ", "dual: "))


def test_altered_hidden_weights_are_refused(saved, tmp_path):
    folder = shutil.copytree(saved, tmp_path / "copy")
    set_array(folder, "network.npz", "layer1_weights", np.negative)
    assert refused(folder).startswith("simulation: ")


@pytest.mark.parametrize("exact", [False, True])
def test_an_optimum_without_the_best_patterns_is_refused(tmp_path, exact):
    """All numbers agree, but the patterns of largest price were left out of the dictionary."""
    result, folder = trained("every step", "exact"), tmp_path / "run"
    result.save(folder)
    unused = np.flatnonzero(np.abs(result.point.weights).max(axis=1) == 0)
    oracle = load_claim(folder)[0].oracle
    for complete in (False, True):
        state(folder, replace(result.lowered.dictionary.select(unused), complete=complete), oracle)
        claim, _ = load_claim(folder)
        assert claim.status == "optimal_global" and claim.objective > optimum_over_all("every step") * 1.001
        assert refused(folder, exact=exact).startswith("oracle_bound: ")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["subtract", "every step", "three layers"])
def test_over_the_limit_nothing_is_called_complete(tmp_path, name):
    result = convexsnn.train(training_problem(name, limit=3))
    expected = optimum_over_all(name)
    assert not result.lowered.dictionary.complete
    assert result.certificate.objective >= expected * (1 - 1e-7)
    if result.scope == "all_patterns":
        assert result.certificate.lower_bound <= expected * (1 + 1e-7)
    assert result.status in ("bounded", "limit", "optimal_global")
    if result.status == "optimal_global":
        assert result.certificate.objective == pytest.approx(expected, rel=2e-6)
    result.save(tmp_path / "run")
    assert convexsnn.verify_folder(tmp_path / "run")[0].status == result.status
