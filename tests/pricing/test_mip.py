"""The mixed-integer pricing problem against the walk over cells, on instances that both can finish."""

from itertools import product

import numpy as np
import pytest
from slow_shares import one_of
from unit_trees import unit_decisions

from convexsnn.dictionary.dictionary import Definition
from convexsnn.distinct import distinct_samples
from convexsnn.errors import UnsupportedError
from convexsnn.networks import RESETS, LayerSpec
from convexsnn.pricing.cells import CellWalk
from convexsnn.pricing.mip import MipOracle
from convexsnn.pricing.prices import dual_norm, trivial_bound

LAYERS = {
    **{f"lif-{reset}": LayerSpec(reset=reset) for reset in RESETS},
    "lif-bias": LayerSpec(bias=True, leak=(0.5, 0.9)),
    "lif-recurrent": LayerSpec(recurrent=True),
    "threshold-bias": LayerSpec("threshold", bias=True),
    "recurrent-threshold": LayerSpec("recurrent_threshold"),
    "recurrent-threshold-bias": LayerSpec("recurrent_threshold", bias=True, threshold=0.2),
}
READOUTS = list(product(("spike", "membrane"), ("last", "all")))


def oracles(inputs, layer, definition):
    """Return the program, the walk and the number of rows of distinct samples."""
    units = unit_decisions(inputs, layer, definition)
    samples, _ = distinct_samples(inputs)
    rows = units[0].samples * units[0].rows_per_sample
    return MipOracle(units, samples), CellWalk(units, samples), rows


def instance(name, readout, supervise, margin=1e-3, binary=False, outputs=1):
    """Return the oracles of a random instance and random prices."""
    rng = np.random.default_rng(sum(map(ord, name + readout + supervise)))
    inputs = rng.integers(0, 2, (6, 3, 2)).astype(float) if binary else rng.standard_normal((6, 3, 2))
    definition = Definition(margin, 4.0, readout, supervise)
    mip, cells, rows = oracles(inputs, LAYERS[name], definition)
    return mip, cells, 0.1 * rng.standard_normal((rows, outputs))


def assert_confirmed(priced, prices, cutoff=0.0):
    """The patterns are distinct, worth more than the cutoff, best first."""
    worth = dual_norm(priced.patterns, prices, False)
    assert (worth > cutoff).all() and (np.diff(worth) <= 0).all()
    assert len({row.tobytes() for row in priced.patterns}) == len(worth) == len(priced.witnesses.unit)
    assert priced.value == pytest.approx(worth.max(initial=0.0))


@pytest.mark.parametrize(("readout", "supervise"), READOUTS)
@pytest.mark.parametrize("name", one_of(LAYERS, 3))
def test_program_and_walk_agree(name, readout, supervise):
    mip, cells, prices = instance(name, readout, supervise)
    truth, result = cells.price(prices), mip.price(prices)
    assert truth.complete and result.complete
    assert result.value == pytest.approx(truth.value, rel=1e-9)
    assert result.value <= result.bound == pytest.approx(truth.bound, rel=1e-7)
    assert_confirmed(result, prices)
    least = 0.7 * truth.value
    above = mip.price(prices, cutoff=least)
    assert above.complete and above.value == pytest.approx(truth.value, rel=1e-9)
    assert_confirmed(above, prices, least)
    none = mip.price(prices, cutoff=1.001 * truth.value)
    assert none.complete and none.bound == 1.001 * truth.value
    assert none.value == 0 and not len(none.patterns)


@pytest.mark.parametrize("name", LAYERS)
def test_closed_bound_holds_and_is_tight_off_the_faces(name):
    mip, cells, prices = instance(name, "spike", "last", margin=0.0)
    truth, result = cells.price(prices), mip.price(prices)
    assert result.bound >= truth.value - 1e-12 and result.value <= truth.value + 1e-12
    if name in {f"lif-{reset}" for reset in RESETS}:  # the others have a w on nearly all walls at once
        assert result.complete and result.value == pytest.approx(truth.value)
        assert result.bound == pytest.approx(truth.value, rel=1e-7)


@pytest.mark.parametrize(("readout", "supervise"), READOUTS)
@pytest.mark.parametrize("name", one_of(LAYERS, 3))
def test_closed_bound_holds_on_binary_data(name, readout, supervise):
    mip, cells, prices = instance(name, readout, supervise, margin=0.0, binary=True)
    truth, result = cells.price(prices), mip.price(prices)
    assert result.value <= truth.value + 1e-12
    assert truth.value - 1e-12 <= result.bound <= trivial_bound(prices, False)
    assert not result.complete or result.bound == pytest.approx(result.value, rel=1e-7)


def test_zero_rows_are_constants():
    """Without weights an event does what its threshold says, and robustly it may do neither."""
    inputs = np.array([[[0.0]], [[1.0]], [[-1.0]]])
    prices = np.array([[1.0], [-0.3], [-0.4]])
    for threshold, margin in product((0.5, -0.5, 0.0), (0.0, 1e-3)):
        layer = LayerSpec("threshold", threshold=threshold)
        mip, cells, _ = oracles(inputs, layer, Definition(margin, 2.0))
        truth, result = cells.price(prices), mip.price(prices)
        if threshold or margin:
            assert result.bound == pytest.approx(truth.bound, abs=1e-8)
            assert result.value == pytest.approx(truth.value) and result.complete
        assert (result.patterns[:, 0] == (threshold <= 0)).all()
        assert len(result.patterns) or (threshold == 0 and margin > 0)


@pytest.mark.parametrize("columns", [2, 3])
def test_every_output_and_leak_counts(columns):
    mip, cells, prices = instance("lif-bias", "spike", "last", outputs=columns)
    truth, result = cells.price(prices), mip.price(prices)
    assert result.value == pytest.approx(truth.value)
    assert result.bound == pytest.approx(truth.bound, rel=1e-7)
    assert mip.price(prices[:, :1], group=True).value == pytest.approx(
        cells.price(prices[:, :1], group=True).value
    )
    with pytest.raises(UnsupportedError, match="use cells or tree"):
        mip.price(prices, group=True)


@pytest.mark.parametrize("limit", [0.0, 0.003, 0.03, 0.3])
def test_stopped_program_has_a_valid_bound(limit):
    rng = np.random.default_rng(5)
    inputs = rng.standard_normal((25, 3, 5))
    mip, cells, rows = oracles(inputs, LayerSpec(), Definition(1e-3, 5.0))
    prices = rng.standard_normal((rows, 1))
    truth = cells.price(prices, cutoff=1.0)
    assert truth.complete and truth.value > 1.0
    for cutoff in (0.0, 0.9 * truth.value):
        result = mip.price(prices, cutoff=cutoff, time_limit=limit)
        assert truth.value <= result.bound <= trivial_bound(prices, False)
        assert not result.complete or result.value == pytest.approx(truth.value)
        assert_confirmed(result, prices, cutoff)


def test_more_weights_than_a_walk_takes():
    """Four samples, twelve weights: everything is possible, so that the bound is the sum of a sign."""
    rng = np.random.default_rng(7)
    inputs = rng.standard_normal((4, 2, 12))
    units = unit_decisions(inputs, LayerSpec(), Definition(1e-3, 5.0))
    prices = rng.standard_normal((4, 1))
    result = MipOracle(units, distinct_samples(inputs)[0]).price(prices)
    assert result.complete and result.value == pytest.approx(trivial_bound(prices, False))


def test_no_prices_cost_nothing():
    mip, _, prices = instance("lif-subtract", "spike", "last")
    result = mip.price(0.0 * prices)
    assert (result.value, result.bound, result.complete, result.nodes) == (0.0, 0.0, True, 0)
