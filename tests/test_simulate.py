"""The judge against a slow twin: the equations of neurons.py in scalars, subnetwork by subnetwork."""

import numpy as np
import pytest
from scipy.linalg import block_diag

from convexsnn.errors import ShapeError
from convexsnn.networks import LIF, RESETS, Layer, Network, RecurrentThreshold, Threshold
from convexsnn.simulate import BLOCK, simulate

KINDS = (*RESETS, "threshold", "recurrent_threshold")
SUBNETWORKS, WIDTH, D, STEPS, OUTPUTS = 2, 3, 2, 5, 2


def random_stack(rng, kinds):
    """Return one subnetwork as plain numbers; dyadic, so that sums are exact in any order and type."""

    def quarters(*shape):
        return (rng.integers(-6, 7, shape) / 4).tolist()

    stack, d = [], D
    for kind in kinds:
        stack.append({
            "kind": kind, "weights": quarters(WIDTH, d), "bias": quarters(WIDTH),
            "recurrent": quarters(WIDTH, WIDTH), "leak": rng.choice([0, 0.25, 0.5, 1], WIDTH).tolist(),
            "threshold": 0.75 if kind in RESETS else 0.25, "own_weight": quarters(WIDTH),
        })  # fmt: skip
        d = WIDTH
    return stack


def twin(stack, inputs, readout):
    """Return membranes and spikes [layer][i][t][j] and readout [i][t][j] of one subnetwork."""
    signal, all_membranes, all_spikes = inputs, [], []
    for layer in stack:
        kind, theta = layer["kind"], layer["threshold"]
        membranes, spikes, seen = [], [], []
        for sample in signal:
            u, s = [0.0] * WIDTH, [0] * WIDTH  # u_0 = s_0 = 0
            us, ss, vs = [], [], []
            for x in sample:
                new_u, new_s, v = [], [], []
                for j in range(WIDTH):
                    current = layer["bias"][j]
                    for k in range(len(x)):
                        current += layer["weights"][j][k] * x[k]
                    for k in range(WIDTH):
                        current += layer["recurrent"][j][k] * s[k]
                    beta = layer["leak"][j]
                    if kind == "subtract":
                        membrane = beta * u[j] - beta * theta * s[j] + current
                    elif kind == "subtract_after":
                        membrane = beta * u[j] - theta * s[j] + current
                    elif kind == "zero":
                        membrane = beta * u[j] * (1 - s[j]) + current
                    elif kind == "none":
                        membrane = beta * u[j] + current
                    elif kind == "recurrent_threshold":
                        membrane = layer["own_weight"][j] * s[j] + current
                    else:
                        membrane = current
                    fires = 1 if membrane >= theta else 0
                    if kind in ("subtract", "subtract_after"):
                        v.append(membrane - theta * fires)
                    elif kind == "zero":
                        v.append(membrane * (1 - fires))
                    else:
                        v.append(membrane)
                    new_u.append(membrane)
                    new_s.append(fires)
                u, s = new_u, new_s
                us.append(u)
                ss.append(s)
                vs.append([1 if value >= 0 else 0 for value in v])
            membranes.append(us)
            spikes.append(ss)
            seen.append(vs if readout == "membrane" else ss)
        all_membranes.append(membranes)
        all_spikes.append(spikes)
        signal = spikes
    return all_membranes, all_spikes, seen


def merged(stacks, output_weights, readout="spike", supervise="last"):
    """Return the network of the subnetworks side by side: block-diagonal above the first layer."""
    layers = []
    for depth, same_depth in enumerate(zip(*stacks, strict=True)):
        kind, threshold = same_depth[0]["kind"], same_depth[0]["threshold"]
        joined = {k: np.concatenate([la[k] for la in same_depth]) for k in ("bias", "leak", "own_weight")}
        if kind in RESETS:
            neuron = LIF(threshold, joined["leak"], kind)
        elif kind == "threshold":
            neuron = Threshold(threshold)
        else:
            neuron = RecurrentThreshold(threshold, joined["own_weight"])
        blocks = [layer["weights"] for layer in same_depth]
        weights = np.concatenate(blocks) if depth == 0 else block_diag(*blocks)
        recurrent = block_diag(*(layer["recurrent"] for layer in same_depth))
        layers.append(Layer(weights, neuron, joined["bias"], recurrent))
    return Network(tuple(layers), output_weights, readout, supervise)


def random_problem(seed, kind, n):
    """Return subnetworks with a last layer of `kind` and others below it, inputs, output weights."""
    rng = np.random.default_rng(seed)
    place = KINDS.index(kind)
    kinds = [KINDS[place - 2], KINDS[place - 1], kind]
    stacks = [random_stack(rng, kinds) for _ in range(SUBNETWORKS)]
    inputs = rng.integers(-6, 7, (n, STEPS, D)) / 4
    return stacks, inputs, rng.integers(-6, 7, (SUBNETWORKS * WIDTH, OUTPUTS)) / 4


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("supervise", ["last", "all"])
@pytest.mark.parametrize("readout", ["spike", "membrane"])
@pytest.mark.parametrize("kind", KINDS)
def test_simulate_equals_its_slow_twin(kind, readout, supervise, dtype):
    stacks, inputs, output_weights = random_problem(KINDS.index(kind), kind, n=BLOCK + 7)
    trace = simulate(merged(stacks, output_weights, readout, supervise), inputs, dtype=dtype)
    twins = [twin(stack, inputs.tolist(), readout) for stack in stacks]
    for depth in range(3):
        membranes = np.concatenate([np.array(t[0][depth]) for t in twins], axis=2)
        spikes = np.concatenate([np.array(t[1][depth]) for t in twins], axis=2)
        assert 0.05 < spikes.mean() < 0.95  # a silent layer would test nothing
        assert trace.membranes[depth].dtype == dtype
        assert trace.spikes[depth].dtype == bool
        assert np.array_equal(trace.membranes[depth], membranes)
        assert np.array_equal(trace.spikes[depth], spikes)
    features = np.concatenate([np.array(t[2]) for t in twins], axis=2)
    if supervise == "last":
        features = features[:, -1]
    assert np.array_equal(trace.features, features)
    outputs = np.zeros((*features.shape[:-1], OUTPUTS))
    for place in np.ndindex(outputs.shape):
        column = output_weights[:, place[-1]].tolist()
        outputs[place] = sum(w for w, bit in zip(column, features[place[:-1]], strict=True) if bit)
    assert trace.outputs.dtype == dtype
    assert np.array_equal(trace.outputs, outputs)


@pytest.mark.parametrize("readout", ["spike", "membrane"])
@pytest.mark.parametrize("kind", KINDS)
def test_arbitrary_numbers_agree_with_the_twin_within_rounding(kind, readout):
    stacks, inputs, output_weights = random_problem(10, kind, n=9)
    rng = np.random.default_rng(11)
    for layer in (layer for stack in stacks for layer in stack):
        layer["leak"] = rng.uniform(0, 1, WIDTH).tolist()
        layer["weights"] = rng.normal(size=np.shape(layer["weights"])).tolist()
        layer["threshold"] = 0.3
    inputs = rng.normal(size=inputs.shape)
    trace = simulate(merged(stacks, output_weights, readout, "all"), inputs)
    twins = [twin(stack, inputs.tolist(), readout) for stack in stacks]
    for depth in range(3):  # no membrane of these draws is within rounding of its threshold, so spikes agree
        membranes = np.concatenate([np.array(t[0][depth]) for t in twins], axis=2)
        assert np.allclose(trace.membranes[depth], membranes, rtol=0, atol=1e-12)
    assert np.array_equal(trace.features, np.concatenate([np.array(t[2]) for t in twins], axis=2))


def test_float32_computes_in_float32():
    # u_1 = 1 + 2^-30 is 1 in float32, so u_2 = u_1 - 1 is 0 there and 2^-30 in float64
    network = Network((Layer([[1.0, 1.0]], LIF(4.0, 1.0, "none")),), [[1.0]])
    inputs = [[[1.0, 2.0**-30], [-1.0, 0.0]]]
    assert simulate(network, inputs).membranes[0][0, 1, 0] == 2.0**-30
    assert simulate(network, inputs, dtype=np.float32).membranes[0][0, 1, 0] == 0


@pytest.mark.parametrize("n", [1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK])
def test_each_sample_is_on_its_own(n):
    stacks, inputs, output_weights = random_problem(3, "subtract", n)
    network = merged(stacks, output_weights, "membrane", "all")
    together = simulate(network, inputs)
    for i in range(0, n, 7):
        alone = simulate(network, inputs[i : i + 1])
        assert np.array_equal(alone.outputs[0], together.outputs[i])
        assert np.array_equal(alone.membranes[-1][0], together.membranes[-1][i])


@pytest.mark.parametrize("supervise", ["last", "all"])
@pytest.mark.parametrize("readout", ["spike", "membrane"])
@pytest.mark.parametrize("kind", KINDS)
def test_membranes_belong_to_the_recorded_spikes(kind, readout, supervise):
    """They are run again from the spikes when asked for; spikes and features must follow from them."""
    stacks, inputs, output_weights = random_problem(4, kind, n=BLOCK + 7)
    network = merged(stacks, output_weights, readout, supervise)
    trace = simulate(network, inputs)
    assert len(trace.membranes) == len(trace.spikes) == 3
    for layer, membranes, spikes in zip(network.layers, trace.membranes, trace.spikes, strict=True):
        assert np.array_equal(membranes >= layer.neuron.threshold, spikes)
    assert trace.membranes is trace.membranes  # once
    inputs[:] = 0.0  # the caller's array may change meanwhile
    assert np.array_equal(simulate(network, trace.inputs).outputs, trace.outputs)


def test_a_layer_object_may_stand_in_a_network_twice():
    layer = Layer([[1.0, -0.5], [0.5, 1.0]], LIF(0.5, 0.5))
    twice = Network((layer, layer), np.eye(2), "membrane")
    copies = Network((layer, Layer(layer.weights, layer.neuron)), np.eye(2), "membrane")
    inputs = np.random.default_rng(5).integers(-4, 5, (20, 4, 2)) / 4
    one, other = (simulate(net, inputs) for net in (twice, copies))
    assert len(one.membranes) == len(other.membranes) == 2
    assert np.array_equal(one.outputs, other.outputs)


def test_recurrent_spikes_arrive_one_step_later_by_hand():
    # unit 0 copies its input, unit 1 has no input and fires iff unit 0 fired one step before
    layer = Layer([[1.0], [0.0]], Threshold(1.0), recurrent=[[0.0, 0.0], [1.0, 0.0]])
    trace = simulate(Network((layer,), [[0.0], [1.0]], supervise="all"), [[[1], [0], [1], [1]]])
    assert trace.spikes[0][0].tolist() == [[1, 0], [0, 1], [1, 0], [1, 1]]
    assert trace.outputs.ravel().tolist() == [0, 1, 0, 1]


def test_inputs_of_other_types_count_as_numbers_and_stay_as_they_are():
    stacks, _, output_weights = random_problem(6, "zero", 1)
    network = merged(stacks, output_weights)
    bits = np.random.default_rng(7).random((4, STEPS, D)) < 0.5
    expected = simulate(network, bits.astype(float)).outputs
    for inputs in (bits, bits.astype(np.uint8), bits.tolist(), np.asfortranarray(bits.astype(np.float32))):
        assert np.array_equal(simulate(network, inputs).outputs, expected)
    one = bits[:1].astype(float)  # a single sample, where reordering axes needs no copy
    before = one.copy()
    simulate(network, one)
    assert np.array_equal(one, before)


def with_value(value):
    inputs = np.zeros((4, 3, D))
    inputs[2, 1, 0] = value
    return inputs


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (with_value(np.nan), "nan at index (2, 1, 0)"),
        (with_value(np.inf), "inf at index (2, 1, 0)"),
        (with_value(-np.inf), "-inf at index (2, 1, 0)"),
        (np.zeros((4, D)), "expected (n, T, d=2), got (4, 2)"),
        (np.zeros((4, 3, D, 1)), "expected (n, T, d=2), got (4, 3, 2, 1)"),
        (1.0, "expected (n, T, d=2), got ()"),
        (np.zeros((4, 3, 5)), "expected (n, T, d=2), got (4, 3, 5)"),
        (np.zeros((0, 3, D)), "(0, 3, 2)"),
        (np.zeros((4, 0, D)), "(4, 0, 2)"),
        ([], "got (0,)"),
        ([[["a", "b"]]], "expected real numbers (n, T, d=2), got dtype <U1"),
        ([[[1, 2]], [[1]]], "expected real numbers (n, T, d=2)"),
        (np.zeros((4, 3, D), complex), "complex128"),
        (None, "expected real numbers (n, T, d=2), got dtype object"),
    ],
)
def test_bad_inputs_are_named(inputs, message):
    network = Network((Layer(np.ones((3, D)), LIF()),), np.ones((3, 1)))
    with pytest.raises(ShapeError) as caught:
        simulate(network, inputs)
    assert str(caught.value).startswith("inputs: ")
    assert message in str(caught.value)
