"""Cascades: a slow simulation confirms what is proposed, and coupled units come out that draws miss."""

import time
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from small_dictionaries import slow_layer, slow_patterns

import convexsnn
from convexsnn.dictionary import Definition
from convexsnn.errors import ProblemFileError
from convexsnn.networks import Layer, LayerSpec, NetworkSpec, Subnetwork
from convexsnn.pricing.search_cascade import CascadeSearch
from convexsnn.problem import Problem, load_problem
from convexsnn.tasks import parity

SAMPLES = np.random.default_rng(2).normal(size=(9, 4, 2))
LIF = {"neuron": "lif", "recurrent": True, "width": 3}
THRESHOLD = {"neuron": "threshold", "recurrent": True, "bias": True, "width": 3}
# name: layer, definition, outputs, group
CASES = {
    "subtract": (LIF, Definition(1e-3, 4.0), 1, False),
    "two leaks": ({**LIF, "leak": (0.3, 0.9)}, Definition(1e-3, 4.0, supervise="all"), 1, False),
    "zero": ({**LIF, "reset": "zero", "bias": True}, Definition(1e-2, 2.0, "membrane"), 1, False),
    "threshold": (THRESHOLD, Definition(1e-3, 3.0), 2, False),
    "group": (THRESHOLD, Definition(1e-6, 10.0, "membrane", "all"), 2, True),
    "closed": ({**THRESHOLD, "width": 2}, Definition(0.0, 10.0, supervise="all"), 1, False),
}  # fmt: skip


def search(name, seed=0, **options):
    layer, definition, _, _ = CASES[name]
    return CascadeSearch(NetworkSpec((LayerSpec(**layer),)), definition, SAMPLES, seed, **options)


def prices_of(name, seed=3):
    _, definition, outputs, _ = CASES[name]
    rows = len(SAMPLES) * (SAMPLES.shape[1] if definition.supervise == "all" else 1)
    return np.random.default_rng(seed).normal(size=(rows, outputs))


def proposed(looking, prices, cutoff, group):
    """Return the subnetworks that are proposed."""
    return tuple(one.subnetwork for one in looking.propose(prices, cutoff, group))


@cache
def rounds(name):
    """Return what three calls propose; the second and third start from what the one before proposed."""
    looking, stacks = search(name), []
    for seed in range(3):
        stacks.append(proposed(looking, prices_of(name, seed), 0.0, CASES[name][3]))
        looking.starts = stacks[-1][:20]
    return stacks


def units(stack):
    return stack.layers[0].units


def first_units(layer, k):
    """Return the first k units of a recurrent layer by themselves."""
    leak = getattr(layer.neuron, "leak", 0.0)
    neuron = layer.neuron if np.ndim(leak) == 0 else replace(layer.neuron, leak=leak[:k])
    bias = None if layer.bias is None else layer.bias[:k]
    return Layer(layer.weights[:k], neuron, bias, layer.recurrent[:k, :k])


def worth_of(name, stack, prices):
    """Return what the last unit's pattern is worth, and the margin, by the slow simulation."""
    _, definition, _, group = CASES[name]
    patterns, margins = slow_patterns(stack, SAMPLES, definition)
    sums = [sum(p for p, fires in zip(column, patterns[:, -1], strict=True) if fires) for column in prices.T]
    return (np.hypot.reduce(sums) if group else max(map(abs, sums))), margins[-1]


@pytest.mark.parametrize("name", CASES)
def test_what_is_proposed_is_of_the_architecture(name):
    layer, definition, _, _ = CASES[name]
    for stacks in rounds(name):
        assert {units(stack) for stack in stacks} <= set(range(1, layer["width"] + 1))
        for stack in stacks:
            (only,) = stack.layers
            assert np.array_equal(only.recurrent, np.tril(only.recurrent))
            assert np.abs(only.unit_weights()).max() <= definition.weight_box
            assert set(np.ravel(getattr(only.neuron, "leak", 0.9))) <= set(layer.get("leak", (0.9,)))
            assert (only.bias is not None) == layer.get("bias", False)
    assert max(units(stack) for stacks in rounds(name) for stack in stacks) == layer["width"]
    assert any(units(stack) == 1 for stack in rounds(name)[0])


@pytest.mark.parametrize("name", CASES)
def test_worth_and_margin_are_those_of_the_whole_subnetwork(name):
    prices, group = prices_of(name), CASES[name][3]
    best = worth_of(name, proposed(search(name), prices, 0.0, group)[0], prices)[0]
    stacks = proposed(search(name), prices, 0.8 * best, group)
    values, margins = zip(*(worth_of(name, stack, prices) for stack in stacks), strict=True)
    assert min(values) > 0.8 * best and max(values) == pytest.approx(best)
    assert all(b <= a + 1e-9 for a, b in zip(values, values[1:], strict=False))  # best first
    assert min(margins) >= CASES[name][1].margin * (1 - 1e-9)


@pytest.mark.parametrize("name", CASES)
def test_the_first_units_do_not_depend_on_the_others(name):
    for stack in rounds(name)[1][:5]:
        (whole,) = stack.layers
        spikes = slow_layer(whole, SAMPLES)[0]
        for k in range(1, whole.units):
            assert np.array_equal(slow_layer(first_units(whole, k), SAMPLES)[0], spikes[:, :, :k])


@pytest.mark.parametrize("name", CASES)
def test_subnetworks_in_use_keep_their_patterns(name):
    """A start of k units, or its first units where it is full, comes back with one more on top."""
    width, definition = CASES[name][0]["width"], CASES[name][1]
    for starts, stacks in zip(rounds(name), rounds(name)[1:], strict=False):
        lent = {}
        for stack in starts:
            below = first_units(stack.layers[0], min(units(stack), width - 1))
            lent[below.unit_weights().tobytes()] = Subnetwork((below,))
        coupled = [stack for stack in stacks if units(stack) > 1]
        bases = [first_units(stack.layers[0], units(stack) - 1).unit_weights().tobytes() for stack in coupled]
        extended = [(lent[base], stack) for base, stack in zip(bases, coupled, strict=True) if base in lent]
        assert extended
        for old, new in extended[:5]:
            before, after = (slow_patterns(stack, SAMPLES, definition)[0] for stack in (old, new))
            assert np.array_equal(after[:, :-1], before)


@pytest.mark.parametrize("name", CASES)
def test_candidates_side_by_side_are_what_each_is_alone(name):
    looking, (_, definition, _, _) = search(name), CASES[name]
    start = next(stack for stack in rounds(name)[0] if units(stack) == CASES[name][0]["width"])
    base = looking._first_units(start.layers[0], CASES[name][0]["width"] - 1)
    seen = looking._seen(base)
    tops = looking._random(seen)
    patterns, margins = looking._patterns(tops, seen)
    below = slow_layer(looking._layer(base), SAMPLES)[1].min()
    for k in range(0, len(margins), 9):
        alone = Subnetwork((looking._layer(base.below(tops.select([k]))),))
        slow, margin = slow_patterns(alone, SAMPLES, definition)
        assert np.array_equal(slow[:, -1], patterns[k])
        assert min(margins[k], below) == pytest.approx(margin[-1], abs=1e-9)


def test_units_in_use_of_too_small_a_margin_are_left():
    looking, starts = search("threshold"), rounds("threshold")[0]
    looking.definition = replace(looking.definition, margin=0.2)
    margins = [slow_patterns(stack, SAMPLES, looking.definition)[1][0] for stack in starts]
    looking.starts = [stack for stack, margin in zip(starts, margins, strict=True) if margin < 0.2]
    stacks = proposed(looking, prices_of("threshold"), 0.0, False)
    assert looking.starts and stacks
    assert all(slow_patterns(stack, SAMPLES, looking.definition)[1].min() >= 0.2 for stack in stacks)


@pytest.mark.parametrize("name", ["subtract", "group"])
def test_the_seed_decides(name):
    one, same, other = (proposed(search(name, seed), prices_of(name), 0.0, False) for seed in (5, 5, 6))
    weights = [
        [stack.layers[0].unit_weights().tobytes() for stack in stacks] for stacks in (one, same, other)
    ]
    assert weights[0] == weights[1] != weights[2]


def test_nothing_is_proposed_where_nothing_is_worth_it_or_time_is_up():
    prices = prices_of("subtract")
    assert search("subtract").propose(prices, np.abs(prices).sum(), False) == ()
    assert search("subtract", deadline=time.perf_counter()).propose(prices, 0.0, False) == ()


def test_a_margin_out_of_reach_gives_nothing():
    looking = search("threshold")
    looking.definition = replace(looking.definition, margin=1e3)
    assert looking.propose(prices_of("threshold"), 0.0, False) == ()


# the key


def running_parity(seed=0, layer=(), training=(), **dictionary):
    data = parity(5, 24, 8)
    return Problem.from_arrays(
        **data,
        layers=[{"neuron": "lif", "bias": True, "recurrent": True, "width": 3, **dict(layer)}],
        network={"supervise": "all"},
        dictionary={"source": "column_generation", "cascade": True, "seed": seed, **dictionary},
        training={"loss": "squared_hinge", "regularization": 0.005, **dict(training)},
    )


@pytest.mark.parametrize(
    ("layers", "source", "message"),
    [
        ([LIF], "gaussian", "dictionary.source = \"column_generation\", got 'gaussian'"),
        ([LIF], "exact", "dictionary.source = \"column_generation\", got 'exact'"),
        ([LIF, LIF], "column_generation", "a single layer, got 2 layers"),
        ([{"width": 3}], "column_generation", "a layer with recurrent = true, got recurrent = false"),
        ([{**LIF, "width": 1}], "column_generation", "a layer of width > 1, got width = 1"),
    ],
)
def test_the_key_is_refused_where_there_is_no_cascade(layers, source, message):
    def make_problem(cascade):
        return Problem.from_arrays(
            SAMPLES, np.arange(9.0), layers=layers, dictionary={"source": source, "cascade": cascade},
            training={"regularization": 0.1},
        )  # fmt: skip

    assert not make_problem(False).dictionary.cascade
    with pytest.raises(ProblemFileError) as caught:
        make_problem(True)
    assert str(caught.value) == f"dictionary.cascade: true needs {message}"


def test_the_optimum_asked_for_is_the_same():
    assert running_parity().fingerprint() == running_parity(cascade=False).fingerprint()


# the whole road


@cache
def trained(cascade, seed):
    return convexsnn.train(running_parity(seed, cascade=cascade))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.night)])
def test_running_parity_takes_fewer_units_and_costs_less(seed, tmp_path):
    with_it, without = trained(True, seed), trained(False, seed)
    assert with_it.certificate.objective < 0.9 * without.certificate.objective
    assert with_it.network.units < without.network.units
    assert with_it.train_accuracy == 1.0
    with_it.save(tmp_path / "run")
    claim, checked = convexsnn.verify_folder(tmp_path / "run", exact=True)
    assert claim == with_it.claim and checked.oracle == ""


@pytest.mark.slow
def test_no_bound_over_all_patterns_is_claimed():
    result = trained(True, 0)
    assert (result.status, result.scope) == ("optimal_on_dictionary", "dictionary")
    assert result.summary()["oracle"] is None and not result.lowered.dictionary.complete
    assert {one.pricing for one in result.iterations} <= {"search", "any pattern"}
    assert all(one.lower_bound <= one.objective * (1 + 1e-9) for one in result.iterations)


def test_it_starts_from_single_units_and_couples_them():
    dictionary = trained(True, 0).lowered.dictionary
    start = convexsnn.lower(running_parity()).dictionary
    assert {units(stack) for stack in start.subnetworks} == {1}
    assert np.array_equal(start.columns.packed, dictionary.columns.packed[: start.patterns])
    used = {units(dictionary.subnetworks[k]) for k in dictionary.subnetwork_of[start.patterns :]}
    assert used == {1, 2, 3}


def test_a_bound_that_every_pattern_obeys_is_still_a_proof(tmp_path):
    """A pattern that is the target leaves prices of λ in all, which no pattern exceeds."""
    problem = Problem.from_arrays(
        np.eye(2)[[[0, 1], [1, 1], [1, 0], [0, 0]]], [1.0, 1.0, 0.0, 0.0],
        layers=[{"neuron": "threshold", "bias": True, "recurrent": True, "width": 2}],
        dictionary={"source": "column_generation", "cascade": True},
        training={"loss": "squared", "regularization": 0.05},
    )  # fmt: skip
    result = convexsnn.train(problem)
    assert (result.status, result.claim.oracle) == ("optimal_global", "any pattern")
    # one weight 1 - w on two of four samples: w²/4 + λ (1 - w) is least at w = 2 λ
    assert result.certificate.objective == pytest.approx(0.05 - 0.05**2)
    result.save(tmp_path / "run")
    assert convexsnn.verify_folder(tmp_path / "run")[1].oracle == "any pattern"


@pytest.mark.slow
def test_a_fraction_is_of_the_largest_that_was_found():
    training = {"regularization": None, "regularization_fraction": 0.2}
    problem = running_parity(training=training)
    result, start = convexsnn.train(problem), convexsnn.lower(problem).program
    largest = result.claim.regularization / 0.2
    assert result.certificate.gap <= 1e-6
    assert start.regularization_max <= largest <= result.lowered.program.regularization_max * (1 + 1e-9)


def test_out_of_time_the_start_is_what_there_is():
    result, start = convexsnn.train(running_parity(), time_limit=1e-3), convexsnn.lower(running_parity())
    assert len(result.iterations) == 1 and result.scope == "dictionary"
    assert np.array_equal(result.lowered.dictionary.columns.packed, start.dictionary.columns.packed)


@pytest.mark.slow
def test_the_shipped_problem():
    result = convexsnn.train(load_problem("parity-cascade"))
    assert result.status == "optimal_on_dictionary" and result.train_accuracy == 1.0
    assert result.test_accuracy > 0.9
