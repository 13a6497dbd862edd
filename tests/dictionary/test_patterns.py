"""A confirmed pattern goes from the oracle to the dictionary as one object: it is simulated once."""

from collections import Counter

import numpy as np
import pytest
from slow_shares import slow

from convexsnn.convex import column_generation
from convexsnn.convex.column_generation import ColumnGeneration
from convexsnn.dictionary import Definition
from convexsnn.dictionary import dictionary as spikes
from convexsnn.dictionary.dictionary import collect, distinct_rows, gathered
from convexsnn.lowering import Convexification
from convexsnn.networks import LayerSpec, NetworkSpec
from convexsnn.pricing.enumeration import cell_trains
from convexsnn.pricing.oracles import get_oracle
from convexsnn.pricing.prices import merged_prices
from convexsnn.pricing.search_cascade import CascadeSearch
from convexsnn.pricing.search_stacks import DeepSearch
from convexsnn.pricing.search_units import LocalSearch
from convexsnn.pricing.stacks import exact_units
from convexsnn.problem import Problem
from convexsnn.simulate import run_layer

INPUTS = np.random.default_rng(7).normal(size=(7, 2, 2))[[0, 1, 2, 3, 4, 5, 6, 2]]  # two samples are equal
ROBUST = Definition(1e-4, 5.0)
ONE = ({"leak": (0.4, 0.9)},)
TWO = ({"width": 2}, {"width": 2})
COUPLED = ({"width": 3, "recurrent": True},)


def keys(layer, signal):
    """Return what tells units apart that the simulator runs; coupled ones are run as a whole."""
    seen = np.asarray(signal, float).tobytes()
    leaks = np.broadcast_to(getattr(layer.neuron, "leak", 0.0), layer.units)
    if layer.recurrent is not None:
        return [(seen, leaks.tobytes(), layer.unit_weights().tobytes())]
    return [(seen, leaks[k], row.tobytes()) for k, row in enumerate(layer.unit_weights())]


@pytest.fixture
def runs(monkeypatch):
    """Return a counter of the simulator's runs of each layer that is read out, or of its units alone."""
    counted, run = Counter(), spikes.run_layer

    def counting(layer, signal, *more):
        counted.update(keys(layer, signal))
        return run(layer, signal, *more)

    monkeypatch.setattr(spikes, "run_layer", counting)
    return counted


def prices_and_rows(definition):
    samples, row_of = distinct_rows(INPUTS, definition.supervise)
    dual = np.random.default_rng(1).normal(size=(len(row_of), 1))
    return samples, row_of, merged_prices(dual, row_of)


def assert_simulated_once(runs, patterns, row_of, definition):
    """Make a dictionary, see that it ran nothing, and that all of it is what the simulator says."""
    before = sum(runs.values())
    dictionary = gathered(patterns, row_of, definition)
    assert sum(runs.values()) == before
    assert len(patterns) > 0
    for k, unit in zip(dictionary.subnetwork_of, dictionary.unit_of, strict=True):
        *below, last = dictionary.subnetworks[k].layers
        signal = distinct_rows(INPUTS, definition.supervise)[0]
        for layer in below:
            signal = run_layer(layer, signal)[1]
        assert runs[keys(last, signal)[0 if last.recurrent is not None else unit]] == 1
    again = collect(INPUTS, dictionary.subnetworks, definition)
    assert np.array_equal(again.columns.packed, dictionary.columns.packed)
    assert np.array_equal(again.subnetwork_of, dictionary.subnetwork_of)
    assert np.array_equal(again.unit_of, dictionary.unit_of)
    np.testing.assert_allclose(again.margins, dictionary.margins, rtol=1e-9)


@pytest.mark.parametrize(
    "layers", [ONE, slow((TWO,)), ({"neuron": "threshold", "recurrent": True, "bias": True},)]
)
@pytest.mark.parametrize("name", ["cells", "tree", "mip", "search"])
def test_an_oracle_and_the_dictionary_simulate_once_together(runs, name, layers):
    network = NetworkSpec(tuple(LayerSpec(**layer) for layer in layers))
    samples, row_of, prices = prices_and_rows(ROBUST)
    units = exact_units(INPUTS, network, ROBUST, cell_trains)
    runs.clear()  # of hidden layers
    oracle = LocalSearch(units, samples) if name == "search" else get_oracle(name, units, samples)
    priced = oracle.price(prices)
    assert_simulated_once(runs, oracle.placed(priced), row_of, ROBUST)


@pytest.mark.parametrize("supervise", ["last", "all"])
@pytest.mark.parametrize(("search", "layers"), [(DeepSearch, TWO), (CascadeSearch, COUPLED)])
def test_a_search_and_the_dictionary_simulate_once_together(runs, search, layers, supervise):
    definition = Definition(1e-4, 5.0, supervise=supervise)
    network = NetworkSpec(tuple(LayerSpec(**layer) for layer in layers), supervise=supervise)
    samples, row_of, prices = prices_and_rows(definition)
    patterns = search(network, definition, samples).propose(prices, 0.0, False)
    assert_simulated_once(runs, patterns, row_of, definition)


def test_what_lies_on_a_threshold_is_what_it_is_in_its_place():
    """Closed patterns can hang on the order of a sum; the dictionary has what its own layers do."""
    definition = Definition(0.0, 1.0)
    inputs = np.random.default_rng(0).integers(0, 2, (6, 2, 3)).astype(float)
    network = NetworkSpec((LayerSpec(leak=(0.5,)),))
    samples, row_of = distinct_rows(inputs, "last")
    prices = np.random.default_rng(3).normal(size=(int(row_of.max()) + 1, 1))
    oracle = get_oracle("cells", exact_units(inputs, network, definition, cell_trains), samples)
    dictionary = gathered(oracle.placed(oracle.price(prices)), row_of, definition)
    assert (dictionary.margins == 0).any()
    again = collect(inputs, dictionary.subnetworks, definition)
    assert np.array_equal(again.columns.packed, dictionary.columns.packed)


@pytest.mark.parametrize("layers", [ONE, COUPLED])
def test_column_generation_simulates_in_its_start_and_its_oracles_alone(runs, layers, monkeypatch):
    problem = Problem.from_arrays(
        INPUTS, np.arange(8.0), layers=list(layers), training={"regularization": 0.01},
        dictionary={"source": "column_generation", "margin": 1e-4, "weight_box": 5.0, "count": 6},
    )  # fmt: skip
    patterns, joins = [], []
    columns = ColumnGeneration._columns
    joined = column_generation.SpikeDictionary.joined

    def counting(run, proposed):
        before = sum(runs.values())
        new_columns = columns(run, proposed)
        assert sum(runs.values()) == before
        patterns.append(new_columns.patterns)
        return new_columns

    monkeypatch.setattr(ColumnGeneration, "_columns", counting)
    monkeypatch.setattr(
        column_generation.SpikeDictionary, "joined", lambda a, b: joins.append(1) or joined(a, b)
    )
    generated = ColumnGeneration(problem, "auto", 1e-6, None).run()
    assert len(patterns) >= len(joins) > 0  # joined once each
    assert len(joins) == len(patterns)
    assert Convexification().lower(problem, generated.lowered.dictionary).dictionary.patterns > 6
