"""Small and large units, thin cells, large boxes: no network in the definition is worth more than a bound.

Truth is found by force: weights on a lattice, at random sizes, and between all thresholds that a random ray
crosses. Only those count whose exact spikes, in rational arithmetic, are the simulated ones.
"""

import numpy as np
import pytest
from brute_force import true_patterns
from slow_shares import one_of
from unit_trees import unit_decisions

import convexsnn
from convexsnn.dictionary.dictionary import Definition
from convexsnn.distinct import distinct_samples
from convexsnn.errors import ShapeError
from convexsnn.networks import LayerSpec, NetworkSpec
from convexsnn.pricing.cells import CellWalk
from convexsnn.pricing.enumeration import enumerate_patterns, exact_dictionary
from convexsnn.pricing.histories import program_trains
from convexsnn.pricing.mip import MipOracle
from convexsnn.pricing.prices import dual_norm, trivial_bound
from convexsnn.pricing.tree import TreeOracle

ORACLES = {
    "cells": CellWalk,
    "tree": TreeOracle,
    "exact tree": lambda *arguments: TreeOracle(*arguments, exact=True),
    "mip": MipOracle,
}
THRESHOLD, LIF = LayerSpec("threshold"), LayerSpec("lif", leak=(0.5,))


def normal(scale, n, steps, d, seed=0):
    return scale * np.random.default_rng(seed).standard_normal((n, steps, d))


def thin(*values):
    return np.array(values)[:, None, None]


# name: inputs, layer, margin, box
CASES = {
    "thin": (thin(1.0, 1.0 + 1e-13), LayerSpec("threshold", threshold=1.0), 0.0, 10.0),
    "thin, three": (thin(1.0, 1.0 + 1e-13, 1.0 + 3e-13), LayerSpec("threshold", threshold=1.0), 0.0, 10.0),
    "thin, both signs": (thin(1.0, 1.0 + 1e-13, -1.0), LayerSpec("threshold", threshold=-0.5), 0.0, 10.0),
    "thin LIF": (
        np.array([[1.0, 0.5], [1.0 + 1e-13, 0.5], [1.0, 0.5 + 1e-13]])[..., None], LIF, 0.0, 10.0
    ),
    "thin wedge": (
        np.array([[1.0, 0.0], [1.0, 1e-13], [1.0, -1e-13], [0.3, 1.0]])[:, None],
        LayerSpec("threshold", threshold=1.0), 0.0, 10.0,
    ),
    "box 1e9": (normal(1.0, 5, 1, 2), LayerSpec("threshold", threshold=1.0), 0.0, 1e9),
    "box 1e9, robust": (normal(1.0, 5, 1, 2), LayerSpec("threshold", threshold=1.0), 1e-3, 1e9),
    "box 1e9, cone": (normal(1.0, 5, 1, 2), THRESHOLD, 1e-3, 1e9),
    "box 1e13, LIF": (normal(1.0, 3, 2, 1), LIF, 1e-3, 1e13),
    "box 1e9, LIF": (normal(1.0, 3, 2, 2), LIF, 0.0, 1e9),
    "box 1e-9": (normal(1e9, 4, 2, 2), LIF, 1e-3, 1e-9),
    "1e-11": (normal(1e-11, 5, 1, 2), THRESHOLD, 1e-13, 10.0),
    "1e-11, closed": (normal(1e-11, 5, 1, 2), THRESHOLD, 0.0, 10.0),
    "1e-11, LIF": (normal(1e-11, 3, 2, 2), LayerSpec("lif", leak=(0.5,), threshold=1e-11), 1e-13, 10.0),
    "1e-11, LIF, zero": (
        normal(1e-11, 3, 2, 2), LayerSpec("lif", leak=(0.9,), threshold=1e-11, reset="zero"), 1e-13, 10.0
    ),
    "1e-165": (normal(1e-165, 5, 1, 2), THRESHOLD, 1e-167, 10.0),
    "1e-165, closed": (normal(1e-165, 5, 1, 2), THRESHOLD, 0.0, 10.0),
    "1e-165, LIF": (normal(1e-165, 3, 2, 2), LayerSpec("lif", leak=(0.5,), threshold=1e-165), 1e-167, 10.0),
    "1e-310": (normal(1e-310, 4, 1, 2), THRESHOLD, 0.0, 10.0),
    "1e11": (normal(1e11, 5, 1, 2), LayerSpec("threshold", threshold=1e11), 1e-3, 10.0),
    "1e11, LIF": (normal(1e11, 3, 2, 2), LIF, 1e-3, 10.0),
    "1e11, closed": (normal(1e11, 4, 1, 2), LayerSpec("threshold", threshold=1.0), 0.0, 10.0),
    "1e6, box 1e6": (normal(1e6, 4, 2, 2), LIF, 1e-3, 1e6),
    "1e150": (normal(1e150, 4, 1, 2), LayerSpec("threshold", threshold=1e150), 1e140, 10.0),
    "mixed units": (
        normal(1.0, 4, 2, 2) * np.array([1e-6, 1e6]), LayerSpec("lif", leak=(0.9,)), 1e-3, 100.0
    ),
    "mixed units, closed": (normal(1.0, 4, 1, 2) * np.array([1e-9, 1e9]), THRESHOLD, 0.0, 100.0),
}  # fmt: skip


def units_of(case, supervise="last"):
    inputs, layer, margin, box = CASES[case]
    definition = Definition(margin, box, "spike", supervise)
    return unit_decisions(inputs, layer, definition), distinct_samples(inputs)[0]


@pytest.mark.parametrize("oracle", ORACLES)
@pytest.mark.parametrize("case", one_of(CASES, 4))
def test_no_found_network_is_above_a_bound(case, oracle):
    units, samples = units_of(case)
    patterns = true_patterns(units, samples)
    assert len(patterns)
    rng = np.random.default_rng(1)
    every = 2.0 * patterns - 1.0  # prices at which this pattern is the best of all
    draws = rng.standard_normal((4, patterns.shape[1]))
    judge = ORACLES[oracle](units, samples)
    for prices in [*every[:12], *draws]:
        best = float(dual_norm(patterns, prices[:, None], False).max())
        for cutoff in (0.0, 0.9 * best):
            result = judge.price(prices[:, None], cutoff=cutoff)
            assert result.bound >= best * (1 - 1e-12)
            if oracle != "mip":
                assert result.complete


@pytest.mark.parametrize("seed", range(24))
def test_the_oracles_agree_at_any_scale(seed):
    """Random small units, inputs and thresholds of 1e-150 to 1e150, ordinary data and data full of ties.

    Scales are powers of two, so that the simulator decides the ties as exact arithmetic does.
    """
    rng = np.random.default_rng(1000 + seed)
    scale = 2.0 ** float(rng.integers(-500, 500)) if seed % 3 else 1.0
    box = 2.0 ** float(rng.integers(-30, 31))
    kind = ("lif", "threshold", "recurrent_threshold")[seed % 4 % 3]
    steps = 1 if kind == "threshold" else 2
    inputs = rng.standard_normal((3, steps, 2)) if seed % 2 else rng.integers(-1, 2, (3, steps, 2)) * 1.0
    if seed % 5 == 0:
        inputs = inputs * (1.0 + 1e-13 * rng.integers(-2, 3, inputs.shape))
    theta = scale * box * float(rng.choice([1.0, 0.5, 2.0**-30]))
    reset = ("subtract", "subtract_after", "zero", "none")[rng.integers(4)]
    layer = LayerSpec(kind, leak=(0.5,), threshold=theta, reset=reset, bias=kind == "threshold")
    margin = theta * float(rng.choice([0.0, 1e-3, 1e-13]))
    readout = ("spike", "membrane")[rng.integers(2)]
    definition = Definition(margin, box, readout, ("last", "all")[rng.integers(2)])
    units, samples = unit_decisions(scale * inputs, layer, definition), distinct_samples(scale * inputs)[0]
    cells, tree, exact = (ORACLES[name](units, samples) for name in ("cells", "tree", "exact tree"))
    rows = units[0].samples * units[0].rows_per_sample
    patterns = true_patterns(units, samples) if readout == "spike" else np.zeros((1, rows), bool)
    for _ in range(4):
        prices = rng.standard_normal((rows, 1))
        known = exact.price(prices)
        assert known.complete
        for oracle in (cells, tree):
            result = oracle.price(prices)
            assert result.complete and result.bound == pytest.approx(known.bound, rel=1e-9)
        assert known.bound >= dual_norm(patterns, prices, False).max(initial=0.0) * (1 - 1e-12)


@pytest.mark.parametrize("oracle", ORACLES)
@pytest.mark.parametrize("exponent", [-900, -600, 600])
def test_a_bound_has_the_units_of_its_prices(oracle, exponent):
    """Squares of such prices underflow to 0 or overflow."""
    units, samples = units_of("box 1e9, robust")
    prices = np.random.default_rng(2).standard_normal((len(samples), 2))
    judge = ORACLES[oracle](units, samples)
    for group in (False, True) if oracle != "mip" else (False,):
        known, scaled = (judge.price(p, group=group).bound for p in (prices, np.ldexp(prices, exponent)))
        assert scaled == np.ldexp(known, exponent)
        trivial = trivial_bound(prices, group)
        assert trivial_bound(np.ldexp(prices, exponent), group) == np.ldexp(trivial, exponent)
        assert judge.price(np.ldexp(prices, exponent), cutoff=1e300, group=group).bound <= 1e300


@pytest.mark.parametrize("case", CASES)
def test_the_enumeration_loses_no_pattern(case):
    units, samples = units_of(case, "all")
    patterns = true_patterns(units, samples)
    silent = not patterns.any(axis=1).all()
    found = enumerate_patterns(units, 10**6)
    seen = {tuple(row) for row in patterns.tolist() if any(row)}
    assert found.complete and found.patterns >= len(seen)
    trains = program_trains(units, samples, 10**6)
    assert {tuple(row) for row in trains.spikes.tolist()} >= seen or (silent and not seen)
    inputs, layer, *_ = CASES[case]
    network = NetworkSpec((layer,), supervise="all")
    dictionary = exact_dictionary(inputs, network, units[0].definition, 10**6)
    columns = {tuple(row) for row in dictionary.columns.toarray().T.astype(bool).tolist()}
    assert not dictionary.complete or columns >= seen


@pytest.mark.parametrize("source", ["exact", "column_generation"])
@pytest.mark.parametrize(
    "case", ["thin", "thin LIF", "box 1e9", "1e-11", "1e-165", "1e11, LIF", "1e6, box 1e6"]
)
def test_no_found_network_is_below_the_lower_bound(case, source):
    """The worst targets for an oracle that loses a cell: those that one lost pattern alone meets."""
    inputs, layer, margin, box = CASES[case]
    units, samples = units_of(case)
    patterns = true_patterns(units, samples)
    keys = {"threshold": layer.threshold, "neuron": layer.neuron, "leak": list(layer.leak)}
    for target in patterns[patterns.any(axis=1)][:4]:
        problem = convexsnn.Problem.from_arrays(
            inputs, target.astype(float), layers=[keys], training={"regularization": 1e-3},
            dictionary={"source": source, "margin": margin, "weight_box": box},
        )  # fmt: skip
        result = convexsnn.train(problem)
        # one unit with output weight W: ½ Σ (W d − y)² + λ |W| at its best
        size = target.sum()
        weight = (size - 1e-3) / size
        one = 0.5 * size * (1 - weight) ** 2 + 1e-3 * weight
        assert result.certificate.lower_bound <= one * (1 + 1e-9)


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"inputs": 1e308}, "inputs"),
        ({"inputs": 1e200, "box": 1e150}, "inputs"),
        ({"targets": 1e200}, "targets"),
        ({"sample_weights": 1e308}, "sample_weights"),
        ({"sample_weights": 1e200, "targets": 1e100}, "sample_weights"),
    ],
)
def test_data_whose_products_overflow_are_refused(changed, name):
    inputs, targets = np.ones((3, 2, 1)), np.array([0.0, 1.0, 2.0])
    inputs[1] = changed.get("inputs", 1.0)
    targets[2] = changed.get("targets", 2.0)
    weights = np.array([1.0, 1.0, changed.get("sample_weights", 1.0)])
    with pytest.raises(ShapeError, match=rf"^{name}: .*\b1e\+") as caught:
        convexsnn.Problem.from_arrays(
            inputs, targets, layers=[{}], training={"regularization": 0.1},
            dictionary={"weight_box": changed.get("box", 10.0)}, sample_weights=weights,
        )  # fmt: skip
    assert "\n" not in str(caught.value)
