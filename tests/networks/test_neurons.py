"""`step` runs a neuron, `affine_rows` proves things about it: here the two are held together.

Weights and inputs are mostly multiples of 1/4 and leaks powers of 1/2: sums of their products are exact
in float64 in any order, so rows and membranes must be *equal*, also where u is exactly at θ.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from convexsnn.errors import ShapeError
from convexsnn.networks import LIF, RESETS, Layer, RecurrentThreshold, Threshold
from convexsnn.simulate import run_layer

KINDS = (*RESETS, "threshold", "recurrent_threshold")
SETTINGS = settings(max_examples=60, deadline=None)


def make_neuron(kind, threshold, leak=0.0, own_weight=0.0):
    if kind in RESETS:
        return LIF(threshold, leak, kind)
    return Threshold(threshold) if kind == "threshold" else RecurrentThreshold(threshold, own_weight)


@st.composite
def runs(draw, kind, exact):
    """Return a layer of one kind of neuron and inputs (n, T, d) for it."""

    def values(*shape):
        if exact:
            return draw(hnp.arrays(np.int64, shape, elements=st.integers(-6, 6))) / 4
        return draw(hnp.arrays(np.float64, shape, elements=st.floats(-2, 2)))

    n, steps, d, m = (draw(st.integers(1, top)) for top in (3, 7, 3, 4))
    per_unit = (m,) if draw(st.booleans()) else ()
    leaks = st.sampled_from([0.0, 0.25, 0.5, 1.0]) if exact else st.floats(0, 1)
    low = 1 if kind in RESETS else -4
    threshold = draw(st.integers(low, 6)) / 4 if exact else draw(st.floats(low / 4, 2))
    leak = draw(hnp.arrays(np.float64, per_unit, elements=leaks))
    neuron = make_neuron(kind, threshold, leak, values(*per_unit))
    bias = values(m) if draw(st.booleans()) else None
    recurrent = values(m, m) if draw(st.booleans()) else None
    return Layer(values(m, d), neuron, bias, recurrent), values(n, steps, d)


def margins(layer, unit, inputs, spikes, event="affine_rows"):
    """Return g·w - h of one unit, (n, T), given the spikes of the whole layer."""
    rows = getattr(layer.neuron.unit(unit), event)
    g, h = rows(layer.unit_inputs(inputs, spikes), spikes[:, :, unit])
    return g @ layer.unit_weights()[unit] - h


@pytest.mark.parametrize("kind", KINDS)
@SETTINGS
@given(data=st.data())
def test_rows_say_exactly_what_step_does(kind, data):
    layer, inputs = data.draw(runs(kind, exact=True))
    membranes, spikes = run_layer(layer, inputs)
    for j in range(layer.units):
        margin = margins(layer, j, inputs, spikes)
        assert np.array_equal(margin, membranes[:, :, j] - layer.neuron.threshold)
        assert np.array_equal(margin >= 0, spikes[:, :, j])


@pytest.mark.parametrize("kind", KINDS)
@SETTINGS
@given(data=st.data())
def test_readout_rows_say_exactly_what_the_membrane_readout_sees(kind, data):
    layer, inputs = data.draw(runs(kind, exact=True))
    membranes, spikes = run_layer(layer, inputs)
    v = layer.neuron.after_reset(membranes, spikes)
    for j in range(layer.units):
        margin = margins(layer, j, inputs, spikes, "readout_rows")
        assert np.array_equal(margin >= 0, v[:, :, j] >= 0)
        # after a zero reset v is 0 whatever the weights: that row, and no other, asks for nothing
        certain = spikes[:, :, j] if kind == "zero" else np.zeros_like(spikes[:, :, j])
        assert np.array_equal(margin == np.inf, certain)
        assert np.array_equal(margin[~certain], v[:, :, j][~certain])


@pytest.mark.parametrize("kind", KINDS)
@SETTINGS
@given(data=st.data())
def test_rows_agree_with_step_within_rounding_for_any_leak(kind, data):
    layer, inputs = data.draw(runs(kind, exact=False))
    membranes, spikes = run_layer(layer, inputs)
    v = layer.neuron.after_reset(membranes, spikes)
    for j in range(layer.units):
        margin = margins(layer, j, inputs, spikes)
        clear = np.abs(margin) > 1e-9
        assert np.array_equal((margin >= 0)[clear], spikes[:, :, j][clear])
        assert np.allclose(margin, membranes[:, :, j] - layer.neuron.threshold, rtol=0, atol=1e-9)
        margin = margins(layer, j, inputs, spikes, "readout_rows")
        clear = np.abs(margin) > 1e-9
        assert np.array_equal((margin >= 0)[clear], (v[:, :, j] >= 0)[clear])


@pytest.mark.parametrize("kind", KINDS)
@SETTINGS
@given(data=st.data())
def test_rows_hold_for_any_history_not_only_for_one_that_happened(kind, data):
    # the enumeration and the pricing ask for rows of histories that these weights do not produce
    layer, inputs = data.draw(runs(kind, exact=True))
    spikes = data.draw(hnp.arrays(bool, (*inputs.shape[:2], layer.units)))
    for j in range(layer.units):
        neuron, carry = layer.neuron.unit(j), 0.0
        given_inputs, weights = layer.unit_inputs(inputs, spikes), layer.unit_weights()[j]
        drive = given_inputs @ weights[: given_inputs.shape[2]]  # an own weight, last, acts in the carry
        margin = margins(layer, j, inputs, spikes)
        for t in range(inputs.shape[1]):
            membrane = carry + drive[:, t, None]
            assert np.array_equal(margin[:, t], membrane[:, 0] - neuron.threshold)
            carry = neuron.carry(membrane, spikes[:, t, j, None])


@pytest.mark.parametrize("event", ["affine_rows", "readout_rows"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_row_does_not_depend_on_spikes_yet_to_come(kind, event):
    rng = np.random.default_rng(0)
    inputs, spikes = rng.normal(size=(5, 6, 2)), rng.random((5, 6)) < 0.5
    neuron = make_neuron(kind, 1.0, 0.5, 0.5)
    g, h = getattr(neuron, event)(inputs, spikes)
    for t in range(6):
        later = spikes.copy()
        # the reset of step t itself is part of v_t, so readout rows may depend on s_t
        later[:, t + (event == "readout_rows") :] ^= True
        other_g, other_h = getattr(neuron, event)(inputs, later)
        assert np.array_equal(g[:, : t + 1], other_g[:, : t + 1])
        assert np.array_equal(h[:, : t + 1], other_h[:, : t + 1])


@pytest.mark.parametrize("kind", KINDS)
def test_rows_leave_their_arguments_alone(kind):
    inputs, spikes = np.ones((2, 4, 3)), np.ones((2, 4), bool)
    neuron = make_neuron(kind, 1.0, 0.5, 0.5)
    neuron.affine_rows(inputs, spikes)
    neuron.readout_rows(inputs, spikes)
    assert (inputs == 1).all() and spikes.all()


@pytest.mark.parametrize("kind", KINDS)
def test_step_writes_to_out_and_to_nothing_else(kind):
    rng = np.random.default_rng(1)
    drive, carry = rng.normal(size=(20, 3)), rng.normal(size=(20, 3))
    neuron = make_neuron(kind, 0.5, 0.5, 0.5)
    drive_before, carry_before = drive.copy(), carry.copy()
    plain = neuron.step(drive, carry)
    assert np.array_equal(drive, drive_before) and np.array_equal(carry, carry_before)
    in_place = neuron.step(drive, carry, out=drive)
    assert in_place[0] is drive
    for one, other in zip(plain, in_place, strict=True):
        assert np.array_equal(one, other)
    assert np.array_equal(carry, carry_before)


@pytest.mark.parametrize("kind", KINDS)
def test_float32_stays_float32(kind):
    neuron = make_neuron(kind, 0.3, 0.7, 0.6).astype(np.float32)
    membrane, _, carry = neuron.step(np.ones((2, 3), np.float32), np.float32(0))
    assert membrane.dtype == np.float32
    assert np.result_type(carry, membrane) == np.float32  # a threshold unit carries a plain 0.0


# One unit of weight 1; for LIF θ = 1, β = 1/2. By hand: u, s and v; c is what a step leaves to the next.
DRIVE = [3, 0, 0.75, 0.625, 0.3125, -2, 0.75]
BY_HAND = {
    # u1 = 3 fires, v = 2, c = 1 | u2 = 1 + 0 = θ fires, v = 0, c = 0 | u3 = 0.75, c = 0.375 |
    # u4 = 0.375 + 0.625 = θ fires, v = 0, c = 0 | u5 = 0.3125, c = 0.15625 | u6 = -1.84375, c = -0.921875 |
    # u7 = -0.921875 + 0.75
    "subtract": (
        LIF(1, 0.5, "subtract"), DRIVE, [3, 1, 0.75, 1, 0.3125, -1.84375, -0.171875],
        [1, 1, 0, 1, 0, 0, 0], [2, 0, 0.75, 0, 0.3125, -1.84375, -0.171875],
    ),
    # u1 = 3 fires, v = 2, c = 1.5 - 1 | u2 = 0.5, c = 0.25 | u3 = 0.25 + 0.75 = θ fires, v = 0, c = 0.5 - 1 |
    # u4 = -0.5 + 0.625, c = 0.0625 | u5 = 0.375, c = 0.1875 | u6 = -1.8125, c = -0.90625 |
    # u7 = -0.90625 + 0.75
    "subtract_after": (
        LIF(1, 0.5, "subtract_after"), DRIVE, [3, 0.5, 1, 0.125, 0.375, -1.8125, -0.15625],
        [1, 0, 1, 0, 0, 0, 0], [2, 0.5, 0, 0.125, 0.375, -1.8125, -0.15625],
    ),
    # u1 = 3 fires, c = 0 | u2 = 0, c = 0 | u3 = 0.75, c = 0.375 | u4 = 0.375 + 0.625 = θ fires, c = 0 |
    # u5 = 0.3125, c = 0.15625 | u6 = -1.84375, c = -0.921875 | u7 = -0.921875 + 0.75
    "zero": (
        LIF(1, 0.5, "zero"), DRIVE, [3, 0, 0.75, 1, 0.3125, -1.84375, -0.171875],
        [1, 0, 0, 1, 0, 0, 0], [0, 0, 0.75, 0, 0.3125, -1.84375, -0.171875],
    ),
    # u1 = 3, c = 1.5 | u2 = 1.5, c = 0.75 | u3 = 1.5, c = 0.75 | u4 = 1.375, c = 0.6875 |
    # u5 = 0.6875 + 0.3125 = θ, all five fire, c = 0.5 | u6 = -1.5, c = -0.75 | u7 = 0; v = u
    "none": (
        LIF(1, 0.5, "none"), DRIVE, [3, 1.5, 1.5, 1.375, 1, -1.5, 0],
        [1, 1, 1, 1, 1, 0, 0], [3, 1.5, 1.5, 1.375, 1, -1.5, 0],
    ),
    # no memory: u = drive, θ = 1/2 is met at once
    "threshold": (Threshold(0.5), [0.5, 0, 0.75, -1], [0.5, 0, 0.75, -1], [1, 0, 1, 0], [0.5, 0, 0.75, -1]),
    # θ = 1/4, ρ = -1/2: u1 = θ fires | u2 = 0.75 - 0.5 = θ fires | u3 = 0.5 - 0.5 = 0 | u4 = 0.25 + 0 = θ
    "recurrent_threshold": (
        RecurrentThreshold(0.25, -0.5), [0.25, 0.75, 0.5, 0.25], [0.25, 0.25, 0, 0.25],
        [1, 1, 0, 1], [0.25, 0.25, 0, 0.25],
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_spike_trains_by_hand(kind):
    neuron, drive, membrane, spikes, after_reset = BY_HAND[kind]
    u, s = run_layer(Layer([[1.0]], neuron), np.reshape(drive, (1, -1, 1)))
    assert u.ravel().tolist() == membrane
    assert s.ravel().tolist() == spikes
    assert neuron.after_reset(u, s).ravel().tolist() == after_reset


@pytest.mark.parametrize("kind", KINDS)
def test_exact_ties_occur_and_fire(kind):
    neuron, drive, membrane, *_, after_reset = BY_HAND[kind]
    layer, inputs = Layer([[1.0]], neuron), np.reshape(drive, (1, -1, 1))
    u, s = run_layer(layer, inputs)
    at_threshold = np.equal(membrane, neuron.threshold)
    assert at_threshold.any()
    assert s[0, at_threshold, 0].all()
    assert (margins(layer, 0, inputs, s)[0, at_threshold] == 0).all()
    at_zero = np.equal(after_reset, 0)  # the same for the membrane readout, 1{v >= 0}
    assert at_zero.any()
    assert (margins(layer, 0, inputs, s, "readout_rows")[0, at_zero] >= 0).all()


@pytest.mark.parametrize("kind", KINDS)
@SETTINGS
@given(data=st.data())
def test_unit_weights_and_selected_units_are_the_same_layer(kind, data):
    layer, inputs = data.draw(runs(kind, exact=True))
    membranes, spikes = run_layer(layer, inputs)
    again = layer.with_unit_weights(layer.unit_weights())
    assert np.array_equal(run_layer(again, inputs)[0], membranes)
    chosen = np.arange(layer.units)[::-2]
    if layer.recurrent is None:
        alone = run_layer(layer.select(chosen), inputs)
        assert np.array_equal(alone[0], membranes[:, :, chosen])
        assert np.array_equal(alone[1], spikes[:, :, chosen])
    else:
        with pytest.raises(ShapeError, match="recurrent"):
            layer.select(chosen)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("threshold", lambda: LIF(threshold=0.0)),
        ("threshold", lambda: LIF(threshold=-1)),
        ("threshold", lambda: LIF(threshold=True)),
        ("threshold", lambda: Threshold(np.nan)),
        ("leak", lambda: LIF(leak=1.5)),
        ("leak", lambda: LIF(leak=[0.5, -0.1])),
        ("leak", lambda: LIF(leak=np.nan)),
        ("leak", lambda: LIF(leak=[])),
        ("leak", lambda: LIF(leak=[[0.5]])),
        ("reset", lambda: LIF(reset="soft")),
        ("own_weight", lambda: RecurrentThreshold(0.0, np.inf)),
        ("leak", lambda: Layer(np.ones((2, 1)), LIF(leak=[0.5, 0.5, 0.5]))),
        ("own_weight", lambda: Layer(np.ones((2, 1)), RecurrentThreshold(0.0, [1.0]))),
        ("bias", lambda: Layer(np.ones((2, 1)), LIF(), bias=[1.0])),
        ("recurrent", lambda: Layer(np.ones((2, 1)), LIF(), recurrent=np.ones((2, 3)))),
        ("leak", lambda: LIF(leak=[0.5, 0.5]).affine_rows(np.ones((1, 2, 1)), np.ones((1, 2), bool))),
    ],
)
def test_bad_parameters_are_named(name, make):
    with pytest.raises(ShapeError, match=f"^{name}"):
        make()


@pytest.mark.parametrize(
    "make", [lambda a: LIF(leak=a).leak, lambda a: RecurrentThreshold(own_weight=a).own_weight]
)
def test_a_neuron_does_not_change_with_the_array_it_was_made_from(make):
    values = np.array([0.5, 0.25])
    stored = make(values)
    values[0] = 7.0
    assert stored.tolist() == [0.5, 0.25]
