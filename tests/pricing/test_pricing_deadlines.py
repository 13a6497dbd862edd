"""Oracles and enumerations end soon after their deadline, by a clock of our own; what they state holds."""

from types import SimpleNamespace

import numpy as np
import pytest
from unit_trees import unit_decisions

from convexsnn.dictionary import Definition
from convexsnn.errors import LoweringError, UnsupportedError
from convexsnn.networks import LayerSpec, NetworkSpec
from convexsnn.pricing import cells, enumeration, histories, mip, prices, tree
from convexsnn.pricing.enumeration import cell_trains, enumerate_patterns, exact_dictionary
from convexsnn.pricing.histories import program_trains
from convexsnn.pricing.oracles import ORACLES
from convexsnn.threads import use_threads

MODULES = (prices, cells, tree, mip, enumeration, histories)
DEFINITION = Definition(weight_box=5.0, margin=1e-3)


@pytest.fixture
def clock(monkeypatch):
    """Return a clock that goes on by one second each time that it is read in this part of the package."""
    ticking = SimpleNamespace(read=0.0)

    def perf_counter():
        ticking.read += 1.0
        return ticking.read

    for module in MODULES:
        monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=perf_counter))
    return ticking


def data(n, d, seed=3):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, 1, d)), rng.standard_normal((n, 1))


def oracle_of(name, inputs):
    units = unit_decisions(inputs, LayerSpec(neuron="threshold"), DEFINITION)
    return ORACLES[name](units, inputs)


@pytest.mark.parametrize("name, d", [("cells", 8), ("tree", 8), ("tree", 12)])
def test_a_search_of_hours_reads_the_clock_often(clock, name, d):
    inputs, dual = data(200, d)
    with use_threads(1):
        found = oracle_of(name, inputs).price(dual, time_limit=4.0)
    assert not found.complete and found.bound > found.value
    assert clock.read <= 8  # to begin, and until 5 in the first of two searches
    assert found.nodes <= 2000 * clock.read  # a level of 8 weights and 200 samples takes about a millisecond


@pytest.mark.parametrize("limit", [1.0, 3.0, 10.0, 30.0])
@pytest.mark.parametrize("name", ["cells", "tree"])
def test_a_bound_is_one_whenever_the_search_ends(monkeypatch, clock, name, limit):
    inputs, dual = data(12, 3)
    with use_threads(1):
        whole = oracle_of(name, inputs).price(dual)
        assert whole.complete
        for module in (cells, tree):
            monkeypatch.setattr(module, "AT_ONCE", 0)  # a level at a time
        begun = clock.read
        found = oracle_of(name, inputs).price(dual, time_limit=limit)
    assert found.value <= whole.value <= found.bound and not found.complete
    assert clock.read - begun <= limit + 4


def test_the_mixed_integer_solver_gets_what_is_left(monkeypatch, clock):
    inputs, dual = data(5, 3)
    given = []

    def unfinished(lp, seconds):
        given.append(seconds)
        clock.read += seconds
        return mip._Answer(np.inf, False, np.zeros((0, lp.num_col_)), 0)

    monkeypatch.setattr(mip, "_solve", unfinished)
    found = oracle_of("mip", inputs).price(dual, time_limit=100.0)
    assert len(given) == 2 and 0 < sum(given) < 100.0 and not found.complete
    assert found.bound >= max(dual.clip(0).sum(), -dual.clip(max=0).sum()) * (1 - 1e-12)
    given.clear()
    found = oracle_of("mip", inputs).price(dual, time_limit=2.0)  # over before the rows are made
    assert given == [] and not found.complete and found.bound >= found.value


@pytest.mark.parametrize("limit", [1.0, 5.0])
def test_an_enumeration_ends_with_what_it_knows(monkeypatch, clock, limit):
    inputs, _ = data(12, 3)
    units = unit_decisions(inputs, LayerSpec(neuron="threshold"), DEFINITION)
    whole = enumerate_patterns(units, 10_000)
    begun = clock.read
    monkeypatch.setattr(enumeration, "AT_ONCE", 1 << 6)
    part = enumerate_patterns(units, 10_000, begun + limit)
    assert whole.complete and not part.complete and part.patterns < whole.patterns
    assert clock.read - begun <= limit + 1
    network = NetworkSpec((LayerSpec(neuron="threshold"),))
    dictionary = exact_dictionary(inputs, network, DEFINITION, 10_000, clock.read + limit + 5)
    assert not dictionary.complete and 0 < dictionary.patterns < whole.patterns
    with pytest.raises(LoweringError, match="the time limit came before a pattern was known"):
        exact_dictionary(inputs, network, DEFINITION, 10_000, clock.read)


def test_hidden_trains_that_are_not_all_known_are_no_trains(monkeypatch, clock):
    monkeypatch.setattr(enumeration, "AT_ONCE", 0)
    inputs, _ = data(12, 3)
    units = unit_decisions(inputs, LayerSpec(neuron="threshold"), DEFINITION)
    for trains in (cell_trains, program_trains):
        with pytest.raises(UnsupportedError, match="^the time limit came before all"):
            trains(units, inputs, 10_000, deadline=clock.read + 1)
