"""The oracle `tree` against the oracle `cells`, which shares only the decision trees with it."""

import numpy as np
import pytest
from slow_shares import one_of
from unit_trees import unit_decisions

from convexsnn.dictionary.dictionary import Definition
from convexsnn.distinct import distinct_samples
from convexsnn.networks import LayerSpec
from convexsnn.pricing.cells import CellWalk
from convexsnn.pricing.prices import Witnesses, confirmed, dual_norm, trivial_bound
from convexsnn.pricing.rational import ExactCells
from convexsnn.pricing.tree import TreeOracle

CLOSED, ROBUST = 0.0, 1e-3
RESETS = ("subtract", "subtract_after", "zero", "none")
LAYERS = {
    **{f"lif {reset}": {"leak": (0.5,), "reset": reset} for reset in RESETS},
    "lif bias": {"leak": (0.9,), "bias": True},
    "lif recurrent": {"leak": (0.5,), "recurrent": True},
    "lif leaks": {"leak": (0.25, 1.0)},
    "threshold": {"neuron": "threshold"},
    "threshold bias": {"neuron": "threshold", "bias": True, "threshold": 0.5},
    "recurrent_threshold": {"neuron": "recurrent_threshold"},
}
DATA = {
    "generic": lambda rng, *shape: rng.standard_normal(shape),
    "binary": lambda rng, *shape: rng.integers(0, 2, shape).astype(float),
    "signs": lambda rng, *shape: rng.choice([-1.0, 0.0, 1.0], shape),
}


def units_of(inputs, layer, definition):
    return unit_decisions(inputs, LayerSpec(**layer), definition), distinct_samples(inputs)[0]


def assert_agree(units, samples, prices, group=False, exact=(False, True), floats=True):
    """Same bounds at several cutoffs; the same best pattern, unless `cells` found weights for none.

    Without `floats`, the best patterns may need weights that no float hits.
    """
    cells = CellWalk(units, samples)
    best = cells.price(prices, group=group)
    for factor in (0.0, 0.7, 1.0 + 1e-9, 1.3):
        cutoff = factor * best.bound
        known = cells.price(prices, cutoff=cutoff, group=group)
        for is_exact in exact:
            result = TreeOracle(units, samples, is_exact).price(prices, cutoff=cutoff, group=group)
            assert result.complete and result.bound == pytest.approx(known.bound, rel=1e-11, abs=1e-11)
            assert result.value >= known.value - 1e-11
            worth = best.bound > cutoff + 1e-12 * float(np.abs(prices).sum())  # the bound covers rounding
            assert worth or not len(result.patterns)
            assert len(result.patterns) or not worth or not floats
            assert result.value <= result.bound
            patterns, margins = confirmed(units, samples, result.witnesses)
            assert np.array_equal(patterns, result.patterns) and (margins >= units[0].definition.margin).all()
            worth = dual_norm(result.patterns, prices, group)
            assert (worth > cutoff).all() and (np.diff(worth) <= 0).all()


@pytest.mark.parametrize("data", one_of(DATA, 2))
@pytest.mark.parametrize("margin", [CLOSED, ROBUST])
@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_bounds_and_patterns_are_those_of_the_cells(layer, margin, data):
    if margin == CLOSED and data != "generic" and layer.get("leak") == (0.9,):
        layer = layer | {"leak": (0.25,)}  # floats hit the faces of dyadic data alone
    rng = np.random.default_rng(len(data))
    for k in range(4):
        definition = Definition(margin, 4.0, ("spike", "membrane")[k % 2], ("last", "all")[k // 2])
        inputs = DATA[data](rng, 4, 1 + k % 3 // 2 if k % 2 else 2, 2)
        units, samples = units_of(inputs, layer, definition)
        outputs, group = (1, False) if k < 2 else (2, k == 3)
        prices = rng.standard_normal((len(samples) * units[0].rows_per_sample, outputs))
        prices = np.round(2.0 * prices) / 2.0 + 0.5 if k == 1 else prices
        assert_agree(units, samples, prices, group)


def test_a_face_holds_a_pattern():
    """x = 1 and x = −1: both fire at w = 0 alone; a margin leaves no such weights."""
    inputs = np.array([[[1.0]], [[-1.0]]])
    for margin, worth in ((CLOSED, 2.0), (ROBUST, 1.0)):
        units, samples = units_of(inputs, {"neuron": "threshold"}, Definition(margin, 4.0))
        for exact in (False, True):
            result = TreeOracle(units, samples, exact).price(np.ones((2, 1)))
            assert result.value == worth and result.bound == pytest.approx(worth, rel=1e-12)


def test_no_weights_silence_every_sample_of_a_closed_cone():
    """All samples and their negatives, θ = 0: at least half of them fire."""
    inputs = np.random.default_rng(1).standard_normal((4, 1, 3))
    units, samples = units_of(
        np.concatenate([inputs, -inputs]), {"neuron": "threshold"}, Definition(0.0, 4.0)
    )
    prices = np.ones((8, 1)) - 2.0 * (np.arange(8) % 4 < 2)[:, None]
    assert_agree(units, samples, prices, floats=False)


@pytest.mark.parametrize("seed", range(3))
def test_more_weights(seed):
    rng = np.random.default_rng(seed)
    units, samples = units_of(rng.standard_normal((10, 3, 6)), {}, Definition(ROBUST, 5.0))
    assert_agree(units, samples, rng.standard_normal((10, 1)), exact=(False, True) if seed == 0 else (False,))


def test_forty_weights_shatter_few_samples():
    rng = np.random.default_rng(2)
    units, samples = units_of(
        rng.standard_normal((20, 1, 40)), {"neuron": "threshold"}, Definition(ROBUST, 5.0)
    )
    prices = rng.standard_normal((20, 1))
    for exact in (False, True):
        result = TreeOracle(units, samples, exact).price(prices)
        assert result.complete and result.value == pytest.approx(trivial_bound(prices, False))


def test_samples_of_very_different_size():
    rng = np.random.default_rng(3)
    inputs = rng.standard_normal((8, 2, 3)) * 10.0 ** rng.integers(-2, 6, 8)[:, None, None]
    for margin in (CLOSED, 1e-6):
        units, samples = units_of(inputs, {"bias": True}, Definition(margin, 5.0))
        assert_agree(units, samples, rng.standard_normal((8, 1)))


def test_a_search_that_is_stopped_has_a_bound():
    rng = np.random.default_rng(4)
    units, samples = units_of(rng.standard_normal((24, 4, 10)), {}, Definition(ROBUST, 5.0))
    prices = rng.standard_normal((24, 1))
    weights = rng.uniform(-5, 5, (2000, 10))
    patterns, margins = confirmed(units, samples, Witnesses(np.zeros(2000, int), weights))
    sampled = dual_norm(patterns[margins >= ROBUST], prices, False).max()
    bounds = []
    for limit in (0.0, 1.0):
        result = TreeOracle(units, samples).price(prices, time_limit=limit)
        assert not result.complete and max(sampled, result.value) <= result.bound
        bounds.append(result.bound)
    assert result.value > 0 and bounds[1] <= bounds[0] <= trivial_bound(prices, False) * (1 + 1e-12)


def test_no_prices():
    units, samples = units_of(np.ones((3, 1, 1)) * np.arange(3.0)[:, None, None], {}, Definition(ROBUST, 5.0))
    result = TreeOracle(units, samples).price(np.zeros((3, 2)))
    assert result.value == result.bound == 0.0 and result.complete and not len(result.patterns)


@pytest.fixture
def problem():
    rng = np.random.default_rng(5)
    units, samples = units_of(rng.standard_normal((7, 2, 2)), {"leak": (0.9,)}, Definition(ROBUST, 5.0))
    return units, samples, rng.standard_normal((7, 1))


def test_an_exact_search_asks_about_every_empty_cell(problem, monkeypatch):
    units, samples, prices = problem
    proofs = []
    refuted = ExactCells.refuted
    monkeypatch.setattr(ExactCells, "refuted", lambda *a: proofs.append(refuted(*a)) or proofs[-1])
    TreeOracle(units, samples).price(prices)
    assert not proofs
    TreeOracle(units, samples, exact=True).price(prices)
    assert len(proofs) > 50 and all(proofs)


def test_a_cut_that_multipliers_do_not_prove_is_decided_by_the_simplex(problem, monkeypatch):
    units, samples, prices = problem
    monkeypatch.setattr(ExactCells, "refuted", lambda *a: False)
    assert_agree(units, samples, prices)


def test_a_cut_that_is_not_proved_is_not_made(problem, monkeypatch):
    units, samples, _ = problem
    prices = -np.eye(7)[:, :1] + np.eye(7)[:, 1:2]
    monkeypatch.setattr(ExactCells, "refuted", lambda *a: False)
    monkeypatch.setattr(ExactCells, "point", lambda *a: [0, 0])
    result = TreeOracle(units, samples, exact=True).price(prices, cutoff=0.0)
    assert result.bound == pytest.approx(trivial_bound(prices, False))
    both = np.ones((7, 1))
    assert TreeOracle(units, samples).price(both).bound < TreeOracle(units, samples, True).price(both).bound
