"""The walk over cells against an obvious enumeration: the same patterns and prices, bounds that hold."""

import functools

import numpy as np
import pytest
from naive_enumeration import naive_patterns
from slow_shares import one_of
from unit_trees import unit_decisions

from convexsnn.dictionary.dictionary import Definition
from convexsnn.distinct import distinct_samples
from convexsnn.networks import LayerSpec, NetworkSpec
from convexsnn.pricing import cells as cell_walk
from convexsnn.pricing.cells import CellWalk
from convexsnn.pricing.enumeration import enumerate_patterns, exact_dictionary
from convexsnn.pricing.faces import on_faces
from convexsnn.pricing.prices import Witnesses, confirmed, trivial_bound

ROBUST, CLOSED = 1e-3, 0.0
# name: layer, readout, supervise, margin, n, T, d, kind of data
INSTANCES = {
    "subtract": (LayerSpec(reset="subtract"), "spike", "last", ROBUST, 4, 3, 2, "normal"),
    "subtract-after": (LayerSpec(reset="subtract_after", leak=(0.8,)), "spike", "last", ROBUST, 4, 3, 2, "n"),
    "zero": (LayerSpec(reset="zero", leak=(0.7,)), "spike", "last", ROBUST, 4, 3, 2, "normal"),
    "none": (LayerSpec(reset="none", leak=(0.95,)), "spike", "last", ROBUST, 5, 3, 2, "normal"),
    "leak-grid": (LayerSpec(leak=(0.2, 0.9), bias=True), "spike", "last", ROBUST, 4, 2, 1, "normal"),
    "membrane": (LayerSpec(leak=(0.6,)), "membrane", "last", ROBUST, 4, 2, 2, "normal"),
    "membrane-zero": (LayerSpec(leak=(0.6,), reset="zero"), "membrane", "last", ROBUST, 4, 2, 2, "normal"),
    "membrane-all": (LayerSpec(leak=(0.6,), reset="zero"), "membrane", "all", ROBUST, 3, 2, 2, "normal"),
    "all-steps": (LayerSpec(leak=(0.9,)), "spike", "all", ROBUST, 3, 3, 2, "normal"),
    "threshold": (LayerSpec("threshold", bias=True), "spike", "last", ROBUST, 6, 1, 2, "normal"),
    "recurrent": (LayerSpec("recurrent_threshold", threshold=0.3), "spike", "last", ROBUST, 4, 3, 1, "n"),
    "wide-margin": (LayerSpec(leak=(0.5,)), "spike", "last", 0.3, 4, 3, 2, "normal"),
    "closed-normal": (LayerSpec(leak=(0.8,)), "spike", "last", CLOSED, 4, 3, 2, "normal"),
    "closed-bits": (LayerSpec(leak=(0.5,)), "spike", "last", CLOSED, 4, 3, 2, "bits"),
    "closed-bits-all": (LayerSpec(leak=(0.5,), reset="zero"), "spike", "all", CLOSED, 3, 2, 2, "bits"),
    "closed-bits-membrane": (LayerSpec(leak=(0.5,)), "membrane", "last", CLOSED, 4, 2, 2, "bits"),
    "closed-grid": (LayerSpec(reset="none", leak=(0.5, 1.0)), "spike", "last", CLOSED, 3, 3, 2, "bits"),
    "closed-signs": (LayerSpec("threshold"), "spike", "last", CLOSED, 5, 1, 2, "signs"),
    "closed-recurrent": (LayerSpec("recurrent_threshold"), "spike", "last", CLOSED, 3, 2, 2, "signs"),
}  # fmt: skip


@functools.cache
def instance(name):
    """Return inputs, layer, definition and all patterns (P, R) of distinct samples."""
    layer, readout, supervise, margin, n, steps, d, kind = INSTANCES[name]
    rng = np.random.default_rng(sum(map(ord, name)))
    draw = {"bits": (0.0, 1.0), "signs": (-1.0, 0.0, 1.0)}.get(kind)
    size = (n, steps, d)
    inputs = rng.standard_normal(size) if draw is None else rng.choice(draw, size)
    inputs = distinct_samples(inputs)[0]
    definition = Definition(margin, 3.0, readout, supervise)
    patterns = naive_patterns(inputs, layer, definition)
    return inputs, layer, definition, np.array(sorted(patterns), bool)


def walk_of(name):
    inputs, layer, definition, patterns = instance(name)
    return CellWalk(unit_decisions(inputs, layer, definition), inputs), patterns


def worth_of(patterns, prices, group):
    table = patterns.astype(float) @ prices
    return np.linalg.norm(table, axis=1) if group else np.abs(table).max(axis=1)


def rows_of(patterns):
    return {tuple(map(int, row)) for row in patterns}


def random_prices(name, rows, outputs, round_=0):
    rng = np.random.default_rng((sum(map(ord, name)), outputs, round_))
    return rng.standard_normal((rows, outputs))


@pytest.mark.parametrize("name", one_of(INSTANCES, 3))
def test_the_enumeration_finds_the_patterns_that_there_are(name):
    inputs, layer, definition, patterns = instance(name)
    units = unit_decisions(inputs, layer, definition)
    result = enumerate_patterns(units, 10**6)
    assert result.complete and result.patterns == len(patterns) == len(result.witnesses.unit)
    assert result.cells >= result.patterns
    network = NetworkSpec((layer,), readout=definition.readout, supervise=definition.supervise)
    dictionary = exact_dictionary(inputs, network, definition, 10**6)
    assert dictionary.complete and rows_of(dictionary.columns.toarray().T) == rows_of(patterns)
    assert dictionary.margins.min() >= definition.margin


@pytest.mark.parametrize("name", [name for name in INSTANCES if not name.startswith("closed")])
def test_the_witnesses_of_the_enumeration_are_inside_their_cells(name):
    inputs, layer, definition, patterns = instance(name)
    units = unit_decisions(inputs, layer, definition)
    result = enumerate_patterns(units, 10**6)
    simulated, margins = confirmed(units, inputs, result.witnesses)
    assert np.abs(result.witnesses.weights).max() <= definition.weight_box * (1 + 1e-12)
    assert margins.min() >= definition.margin
    assert rows_of(simulated) == rows_of(patterns)


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_an_enumeration_that_stops_says_so(limit):
    inputs, layer, definition, patterns = instance("subtract")
    result = enumerate_patterns(unit_decisions(inputs, layer, definition), limit)
    assert len(patterns) > limit and not result.complete and len(result.witnesses.unit) == limit
    simulated, _ = confirmed(unit_decisions(inputs, layer, definition), inputs, result.witnesses)
    assert rows_of(simulated) <= rows_of(patterns) and len(rows_of(simulated)) == limit


@pytest.mark.parametrize(("outputs", "group"), [(1, False), (3, False), (3, True), (1, True)])
@pytest.mark.parametrize("name", INSTANCES)
def test_the_best_price_is_that_of_the_best_pattern(name, outputs, group):
    oracle, patterns = walk_of(name)
    for k in range(3):
        prices = random_prices(name, patterns.shape[1], outputs, k)
        best = worth_of(patterns, prices, group).max()
        result = oracle.price(prices, group=group)
        assert result.complete and result.value == pytest.approx(best, rel=1e-9)
        assert result.bound == pytest.approx(best, rel=1e-9) and result.bound >= best * (1 - 1e-12)
        assert result.bound <= trivial_bound(prices, group) * (1 + 1e-12)
        simulated, margins = confirmed(oracle.units, oracle.samples, result.witnesses)
        assert np.array_equal(simulated, result.patterns) and rows_of(simulated) <= rows_of(patterns)
        assert margins.min() >= oracle.definition.margin


@pytest.mark.parametrize("group", [False, True])
@pytest.mark.parametrize("name", INSTANCES)
def test_nothing_below_a_cutoff_is_returned_and_everything_above_is_bounded(name, group):
    oracle, patterns = walk_of(name)
    prices = random_prices(name, patterns.shape[1], 2)
    best = worth_of(patterns, prices, group).max()
    for share in (0.0, 0.5, 0.999):
        result = oracle.price(prices, cutoff=share * best, group=group)
        worth = worth_of(result.patterns, prices, group)
        assert (worth > share * best).all() and (np.diff(worth) <= 0).all()
        assert result.value == pytest.approx(best, rel=1e-9) and result.complete
        assert len(rows_of(result.patterns)) == len(result.patterns) == len(result.witnesses.unit)
    for share in (1.001, 2.0):
        result = oracle.price(prices, cutoff=share * best, group=group)
        assert result.complete and result.value == 0 and not len(result.patterns)
        assert result.bound == share * best


@pytest.mark.parametrize("budget", [1, 3, 10, 40])
@pytest.mark.parametrize("name", ["subtract", "leak-grid", "membrane-all", "closed-bits"])
def test_a_stopped_walk_has_a_bound_that_holds(name, budget, monkeypatch):
    monkeypatch.setattr(cell_walk, "AT_ONCE", budget)
    oracle, patterns = walk_of(name)
    for group in (False, True):
        prices = random_prices(name, patterns.shape[1], 2)
        worth = worth_of(patterns, prices, group)
        for cutoff in (0.0, 0.9 * worth.max()):
            result = oracle.price(prices, cutoff=cutoff, group=group, time_limit=0.0)
            assert result.value <= worth.max() * (1 + 1e-12) <= result.bound * (1 + 1e-9)
            assert result.bound <= max(cutoff, trivial_bound(prices, group)) * (1 + 1e-12)
            assert rows_of(result.patterns) <= rows_of(patterns)
            assert result.complete or budget < 40 or result.nodes > 0
    assert not oracle.price(prices, group=True, time_limit=0.0).complete or budget >= 10


def test_prices_of_zero_are_worth_nothing():
    oracle, patterns = walk_of("subtract")
    result = oracle.price(np.zeros((patterns.shape[1], 2)))
    assert result.complete and result.bound < 1e-200 and not len(result.patterns)


@pytest.mark.parametrize("noise", [0.0, 1e-13])
@pytest.mark.parametrize("faces", [1, 2, 3])
def test_points_are_put_back_on_their_faces_exactly(faces, noise):
    inputs = np.zeros((7, 2, 3))
    inputs[:, 0] = [[i >> k & 1 for k in range(3)] for i in range(1, 8)]  # all 0/1 rows but zeros
    inputs[:, 1] = inputs[::-1, 0]
    (unit,) = unit_decisions(inputs, LayerSpec(leak=(0.5,)), Definition(0.0, 4.0))
    rng, met = np.random.default_rng(faces), 0
    for _ in range(40):
        chosen = rng.choice(7, faces, replace=False)
        g, h = unit.g[chosen, 0], unit.h[chosen, 0]  # the first event of a sample: all weights meet it
        if np.linalg.matrix_rank(g) < faces:
            continue
        w = rng.uniform(-1, 1, 3)
        w += np.linalg.pinv(g) @ (h - g @ w)
        points = on_faces(unit, w + noise * rng.standard_normal(3))
        inside = points[np.abs(points - w).max(axis=1) < 1e-6]
        assert len(inside) and np.array_equal(inside[-1], points[-1])
        assert (inside @ g.T == h).all()  # no rounding is left
        bits, _ = confirmed([unit], inputs, Witnesses(np.zeros(len(inside), int), inside))
        assert all(np.array_equal(row, bits[0]) for row in bits)
        met += 1
    assert met > 10


def test_weights_on_no_face_have_no_points_beside_them():
    inputs = np.array([[[1.0, 0.0]], [[0.0, 1.0]]])
    (unit,) = unit_decisions(inputs, LayerSpec("threshold", threshold=1.0), Definition(0.0, 4.0))
    assert on_faces(unit, np.array([0.3, 2.0])).shape == (0, 2)
    points = on_faces(unit, np.array([1.0 + 1e-13, 0.3]))
    assert (points[:, 0] == 1.0).all() and points[-1, 1] == pytest.approx(0.3, abs=1e-7)
