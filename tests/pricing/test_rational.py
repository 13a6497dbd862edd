"""Exact spikes, rows and cells against the float simulator, the neurons' rows and cases done by hand."""

from fractions import Fraction

import naive_rational
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.optimize import linprog
from unit_trees import unit_decisions

from convexsnn.dictionary.dictionary import Definition
from convexsnn.networks import LIF, READOUTS, Layer, LayerSpec, RecurrentThreshold, Threshold
from convexsnn.pricing.rational import ExactCells, exact_rows, exact_spikes
from convexsnn.simulate import run_layer

RESETS = ("subtract", "subtract_after", "zero", "none")
NEURONS = {
    **{f"lif {reset}": LIF(1.0, np.array([0.9, 0.3, 0.5]), reset) for reset in RESETS},
    "lif, one leak": LIF(0.7, 0.9),
    "threshold": Threshold(0.2),
    "recurrent_threshold": RecurrentThreshold(-0.1, np.array([0.4, -0.8, 0.1])),
}
EXTRAS = ("", "bias", "recurrent", "bias recurrent")


def layer_of(neuron, extras, rng, d=4):
    return Layer(
        rng.standard_normal((3, d)),
        neuron,
        rng.standard_normal(3) if "bias" in extras else None,
        rng.standard_normal((3, 3)) if "recurrent" in extras else None,
    )


@pytest.mark.parametrize("extras", EXTRAS)
@pytest.mark.parametrize("neuron", NEURONS.values(), ids=NEURONS)
def test_generic_spikes_are_those_of_the_simulator(neuron, extras):
    rng = np.random.default_rng(1)
    layer, inputs = layer_of(neuron, extras, rng), rng.standard_normal((6, 5, 4))
    run = exact_spikes(layer, inputs)
    membranes, spikes = run_layer(layer, inputs)
    assert np.array_equal(run.spikes, spikes) and 0 < spikes.sum() < spikes.size
    assert np.array_equal(run.membrane, READOUTS["membrane"].seen(layer.neuron, membranes, spikes))
    closest = np.abs(membranes - neuron.threshold).min(axis=(0, 1))
    assert [float(c) for c in run.closest] == pytest.approx(closest, rel=1e-9)
    assert all(isinstance(c, Fraction) for c in run.closest)


def test_the_next_layer_takes_spikes():
    rng = np.random.default_rng(2)
    below, above = (layer_of(LIF(1.0, 0.9), "bias", rng, d) for d in (4, 3))
    inputs = rng.standard_normal((5, 4, 4))
    spikes = run_layer(above, run_layer(below, inputs)[1])[1]
    assert np.array_equal(exact_spikes(above, exact_spikes(below, inputs).spikes).spikes, spikes)


TIES = {
    # 0.1 · 3 in floats is 0.30000000000000004 = θ; the float 0.1 times 3 is less
    "a product": (Layer([[1.0]], LIF(0.1 * 3, 0.1, "none")), [[3.0], [0.0]], [1, 0]),
    # (1e16 + 1) − 1e16 is 0 in floats
    "a sum": (Layer([[1e16, 1.0, -1e16]], Threshold(1.0)), [[1.0, 1.0, 1.0]], [1]),
    # 1 − 0.9 − 0.1 in floats is −2.8e-17; of the floats 0.9 and 0.1 it is −2.8e-17 too: no tie
    "no tie": (Layer([[1.0, -1.0, -1.0]], Threshold(0.0)), [[1.0, 0.9, 0.1]], [0]),
    # u_2 = 0.5 (1.5 − 1) + 0.75 = 1 exactly
    "a dyadic tie": (Layer([[1.0]], LIF(1.0, 0.5, "subtract")), [[1.5], [0.75]], [1, 1]),
}


@pytest.mark.parametrize(("layer", "steps", "spikes"), TIES.values(), ids=TIES)
def test_ties_are_decided_right(layer, steps, spikes):
    run = exact_spikes(layer, np.array([steps]))
    assert run.spikes[0, :, 0].tolist() == [s == 1 for s in spikes]


def test_ties_where_floats_are_wrong_and_the_distance():
    for name in ("a product", "a sum"):
        layer, steps, spikes = TIES[name]
        assert run_layer(layer, np.array([steps]))[1][0, :, 0].tolist() != [s == 1 for s in spikes]
    layer, steps, _ = TIES["a product"]
    assert exact_spikes(layer, np.array([steps])).closest == (Fraction(0.1 * 3) - 3 * Fraction(0.1),)
    layer, steps, _ = TIES["a dyadic tie"]
    assert exact_spikes(layer, np.array([steps])).closest == (0,)


@pytest.mark.parametrize("extras", EXTRAS)
@pytest.mark.parametrize("neuron", NEURONS.values(), ids=NEURONS)
def test_rows_are_those_of_the_neuron(neuron, extras):
    """One unit with its own spikes forced: g and h as floats, and u − θ as the exact run has it."""
    rng = np.random.default_rng(3)
    unit = Layer(
        np.zeros((1, 4)),
        neuron.unit(slice(1, 2)),
        np.zeros(1) if "bias" in extras else None,
        np.zeros((1, 1)) if "recurrent" in extras else None,
    )
    inputs, spikes = rng.standard_normal((1, 6, 4)), rng.integers(0, 2, (1, 6)).astype(bool)
    seen = unit.unit_inputs(inputs, spikes[:, :, None])
    for of_neuron, kind in ((neuron.unit(1).affine_rows, False), (neuron.unit(1).readout_rows, True)):
        g, h = exact_rows(unit, inputs[0], spikes[0], kind)
        wanted_g, wanted_h = of_neuron(seen, spikes)
        assert g.astype(float) == pytest.approx(wanted_g[0], abs=1e-12)
        assert h.astype(float) == pytest.approx(wanted_h[0], abs=1e-12)
    trained = unit.with_unit_weights(rng.standard_normal(unit.unit_weights().shape))
    run, weights = exact_spikes(trained, inputs), [Fraction(w) for w in trained.unit_weights()[0]]
    for kind, outcomes in ((False, run.spikes), (True, run.membrane)):
        g, h = exact_rows(trained, inputs[0], run.spikes[0, :, 0], kind)
        fires = [
            sum(a * w for a, w in zip(row, weights, strict=True)) >= b for row, b in zip(g, h, strict=True)
        ]
        assert fires == outcomes[0, :, 0].tolist()


@st.composite
def small_layers(draw):
    """Return a layer of two units with any neuron, and inputs (2, T, 2): thirds and quarters, many ties."""

    def values(*shape):
        whole = draw(hnp.arrays(np.int64, shape, elements=st.integers(-6, 6)))
        return whole / draw(st.sampled_from([3, 4]))

    kind = draw(st.sampled_from([*RESETS, "threshold", "recurrent_threshold"]))
    if kind in RESETS:
        leak = draw(hnp.arrays(np.float64, 2, elements=st.sampled_from([0.0, 1 / 3, 0.5, 0.9, 1.0])))
        neuron = LIF(draw(st.sampled_from([0.25, 0.5, 1 / 3, 1.0])), leak, kind)
    else:
        theta = float(values())
        neuron = Threshold(theta) if kind == "threshold" else RecurrentThreshold(theta, values(2))
    bias, recurrent = draw(st.booleans()), draw(st.booleans())
    parts = (values(2) if bias else None, values(2, 2) if recurrent else None)
    return Layer(values(2, 2), neuron, *parts), values(2, draw(st.integers(1, 6)), 2)


@settings(max_examples=150, deadline=None)
@given(small_layers())
def test_the_neurons_on_fractions_are_the_dynamics_written_out(run):
    layer, inputs = run
    result, expected = exact_spikes(layer, inputs), naive_rational.exact_spikes(layer, inputs)
    assert np.array_equal(result.spikes, expected[0]) and np.array_equal(result.membrane, expected[1])
    assert result.closest == expected[2]
    short = exact_spikes(layer, inputs, read_membrane=False)
    assert np.array_equal(short.spikes, expected[0]) and short.closest == expected[2]
    assert short.membrane.shape[1] == 0


@settings(max_examples=150, deadline=None)
@given(small_layers(), st.data())
def test_the_rows_on_fractions_are_the_dynamics_written_out(run, data):
    layer, inputs = run
    unit = Layer(
        np.zeros((1, 2)),
        layer.neuron.unit(slice(1, 2)),
        None if layer.bias is None else np.zeros(1),
        None if layer.recurrent is None else np.zeros((1, 1)),
    )
    spikes = data.draw(hnp.arrays(bool, inputs.shape[1]))
    for kind in (False, True):
        g, h = exact_rows(unit, inputs[0], spikes, kind)
        wanted_g, wanted_h = naive_rational.exact_rows(unit, inputs[0], spikes, kind)
        assert g.tolist() == wanted_g.tolist() and h.tolist() == wanted_h.tolist()
        assert all(isinstance(value, (Fraction, int)) for value in g.ravel())
        assert all(isinstance(value, (Fraction, int)) or value == -np.inf for value in h)


def cells_of(inputs, margin=0.0, box=4.0, **layer):
    definition = Definition(margin, box)
    units = unit_decisions(np.asarray(inputs, dtype=float), LayerSpec(**layer), definition)
    return ExactCells(units[0])


def test_a_face_by_hand():
    """x = 1 and x = −1, θ = 0: both fire at w = 0 alone, and no weight silences both."""
    cells = cells_of([[[1.0]], [[-1.0]]], neuron="threshold")
    both, none, one = ([(0, 0, a), (1, 0, b)] for a, b in ((True, True), (False, False), (True, False)))
    assert cells.point(both) == [0] and cells.point(none) is None
    (w,) = cells.point(one)
    assert w > 0
    assert not cells.refuted(both, np.ones(2)) and not cells.refuted(one, np.ones(2))
    assert cells.refuted(none, np.ones(2)) and cells.refuted(none, 3e-5 * np.ones(2))
    assert not cells.refuted(none, np.array([1.0, 0.5])) and not cells.refuted(none, np.zeros(2))
    assert not cells.refuted(none, np.array([1.0, np.nan]))


@pytest.mark.parametrize(("margin", "possible"), [(1.0, True), (np.nextafter(1.0, 2.0), False)])
def test_a_margin_to_the_last_bit(margin, possible):
    cells = cells_of([[[1.0]]], margin=margin, box=1.0, neuron="threshold")
    assert (cells.point([(0, 0, True)]) == [1]) == possible
    assert cells.refuted([(0, 0, True)], np.ones(1)) != possible


def test_the_box_to_the_last_bit():
    for theta, possible in ((4.0, True), (np.nextafter(4.0, 5.0), False)):
        cells = cells_of([[[1.0]]], neuron="threshold", threshold=theta)
        assert (cells.point([(0, 0, True)]) is not None) == possible
        assert cells.refuted([(0, 0, True)], np.ones(1)) != possible


@pytest.mark.parametrize("margin", [0.0, 1e-3])
@pytest.mark.parametrize("kind", ["generic", "whole"])
def test_cells_are_empty_where_a_linear_program_says_so(kind, margin):
    rng = np.random.default_rng(4)
    empty = 0
    for k in range(40):
        n, d = int(rng.integers(2, 9)), int(rng.integers(1, 5))
        inputs = rng.standard_normal((n, 1, d)) if kind == "generic" else rng.integers(-2, 3, (n, 1, d))
        cells = cells_of(inputs, margin=margin, neuron="threshold", bias=bool(k % 2))
        unit = cells.unit
        rows = [(s, 0, bool(rng.integers(2))) for s in range(unit.samples)]
        sign = np.array([1.0 if fires else -1.0 for _, _, fires in rows])
        strict = np.array([margin > 0 or not fires for _, _, fires in rows])
        g = unit.g[:, 0]
        answer = linprog(
            np.r_[np.zeros(unit.dimension), -1.0],
            A_ub=np.c_[-sign[:, None] * g, strict],
            b_ub=np.zeros(len(rows)),
            bounds=[(-4, 4)] * unit.dimension + [(None, 1.0 + margin)],
        )
        basis = None if k % 3 else rng.integers(-1 - 2 * unit.dimension, len(rows), unit.dimension + 1)
        point = cells.point(rows, basis)
        assert (point is None) == (-answer.fun < max(margin, 1e-9))
        empty += point is None
        if point is not None:
            exact = [sum(Fraction(a) * w for a, w in zip(row, point, strict=True)) for row in g]
            least = Fraction(margin)
            for u, (_, _, fires) in zip(exact, rows, strict=True):
                assert u >= least if fires else (u <= -least if margin else u < 0)
            assert all(abs(w) <= 4 for w in point)
    assert 5 < empty < 35
