"""Windows against slow loops, and convolutional layers against the dense layers that they are."""

from dataclasses import replace

import numpy as np
import pytest
from small_problem_files import DATA, TABLES

import convexsnn.networks.layers as layers_module
from convexsnn.errors import ConvexSNNError, LoweringError, ProblemFileError, ShapeError
from convexsnn.lowering import Convexification
from convexsnn.networks import (
    LIF,
    RESETS,
    Layer,
    LayerSpec,
    Network,
    NetworkSpec,
    RecurrentThreshold,
    Subnetwork,
    Window,
    architecture_mismatch,
    load_network,
    save_network,
)
from convexsnn.networks.network import windows
from convexsnn.problem import Problem, load_problem
from convexsnn.simulate import BLOCK, simulate

WINDOWS = {
    "patches": Window((2, 4, 5), kernel=3),
    "one pixel": Window((3, 2, 3), kernel=1),
    "stride": Window((2, 6, 5), kernel=2, stride=2),
    "stride past the edge": Window((1, 6, 8), kernel=3, stride=2),
    "stride beyond the kernel": Window((1, 7, 7), kernel=2, stride=3),
    "pool": Window((2, 6, 4), pool=2, kernel=2),
    "pool, rows remain": Window((2, 7, 5), pool=2, kernel=2),
    "pool and stride": Window((1, 15, 16), pool=3, kernel=2, stride=2),
    "the whole image": Window((2, 3, 4)),
    "the whole pooled image": Window((2, 5, 7), pool=2),
    "a single patch": Window((2, 3, 3), kernel=3),
}
every_window = pytest.mark.parametrize("window", WINDOWS.values(), ids=WINDOWS.keys())


def dyadic(seed, *shape):
    """Return random quarters: their sums, products and means over 2 × 2 are exact in any order."""
    return np.random.default_rng(seed).integers(-8, 9, shape) / 4


def slow_patches(window, x):
    """Return the patches of one flattened image, from the definition."""
    (c, h, w), p = window.shape, window.pool
    rows, columns = h // p, w // p
    pooled = np.zeros((c, rows, columns))
    for ch in range(c):
        for i in range(rows):
            for j in range(columns):
                square = [x[(ch * h + i * p + a) * w + j * p + b] for a in range(p) for b in range(p)]
                pooled[ch, i, j] = sum(square) / p**2
    a, b = (rows, columns) if window.kernel is None else (window.kernel, window.kernel)
    step, result = window.stride, []
    for i in range(0, rows - a + 1, step):
        for j in range(0, columns - b + 1, step):
            result.append([pooled[ch, i + y, j + z] for ch in range(c) for y in range(a) for z in range(b)])
    return np.array(result)


@every_window
def test_gather_is_what_slow_loops_find(window):
    x = dyadic(0, 5, window.inputs)
    result = window.gather(x)
    assert result.shape == (5, window.positions, window.patch)
    assert np.allclose(result, [slow_patches(window, row) for row in x], rtol=0, atol=1e-14)
    rows, columns = window.grid
    assert window.positions == rows * columns and window.output_shape(7) == (7, rows, columns)


@every_window
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_scatter_is_the_transpose_of_gather(window, dtype):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(4, window.inputs)).astype(dtype)
    p = rng.normal(size=(4, window.positions, window.patch)).astype(dtype)
    back = window.scatter(p)
    assert back.shape == x.shape and back.dtype == dtype
    forth, tolerance = window.gather(x), 1e-3 if dtype is np.float32 else 1e-12
    assert np.sum(forth * p) == pytest.approx(np.sum(x * back), rel=tolerance)
    whole = window.gather(np.eye(window.inputs)).reshape(window.inputs, -1)  # its matrix, transposed
    units = np.eye(window.positions * window.patch).reshape(-1, window.positions, window.patch)
    assert np.allclose(window.scatter(units), whole.T, rtol=0, atol=1e-15)


@every_window
def test_matrix_is_gather_and_weights_in_the_order_of_filters(window):
    weights, x = dyadic(2, 3, window.patch), dyadic(3, 6, window.inputs)
    matrix = window.matrix(weights)
    assert matrix.shape == (3 * window.positions, window.inputs)
    reference = np.einsum("fk,npk->nfp", weights, window.gather(x)).reshape(6, -1)
    assert np.allclose(x @ matrix.T.toarray(), reference, rtol=0, atol=1e-12)
    assert window.matrix(weights.astype(np.float32)).dtype == np.float32


def test_gather_and_matrix_by_hand():
    window = Window((1, 3, 3), kernel=2)
    x = np.arange(9.0)[None]
    assert window.gather(x)[0].tolist() == [[0, 1, 3, 4], [1, 2, 4, 5], [3, 4, 6, 7], [4, 5, 7, 8]]
    assert window.matrix(np.array([[1.0, 0, 0, 0], [0, 0, 0, 1.0]])).toarray().argmax(axis=1).tolist() == [
        0, 1, 3, 4, 4, 5, 7, 8,
    ]  # fmt: skip
    assert Window((1, 3, 3), pool=2).gather(x).tolist() == [[[2.0]]]  # (0 + 1 + 3 + 4) / 4


NEURONS = {
    **{reset: LIF(0.75, 0.5, reset) for reset in RESETS},
    "own weights": RecurrentThreshold(0.25, -0.5),
    "a leak a unit": lambda m: LIF(0.75, np.resize([0.0, 0.25, 0.5, 1.0], m)),
}


def twins(window, neuron, bias, recurrent, filters=3):
    """Return a layer with a window and the dense layer of all its units."""
    m = filters * window.positions
    neuron = neuron(m) if callable(neuron) else neuron
    weights, offsets = dyadic(4, filters, window.patch), dyadic(5, filters)
    within = dyadic(6, m, m) if recurrent else None
    looking = Layer(weights, neuron, offsets if bias else None, within, window)
    dense = window.matrix(weights).toarray()
    return looking, Layer(dense, neuron, np.repeat(offsets, window.positions) if bias else None, within)


@pytest.mark.parametrize(("bias", "recurrent"), [(False, False), (True, False), (True, True)])
@pytest.mark.parametrize("neuron", NEURONS.values(), ids=NEURONS.keys())
@pytest.mark.parametrize("name", ["patches", "pool, rows remain", "the whole pooled image"])
def test_a_convolution_is_the_dense_layer_of_its_matrix(name, neuron, bias, recurrent):
    window = WINDOWS[name]
    looking, dense = twins(window, neuron, bias, recurrent)
    assert (looking.units, looking.inputs) == (dense.units, dense.inputs)
    assert np.array_equal(looking.matrix().toarray(), dense.matrix())
    inputs, output_weights = dyadic(7, BLOCK + 5, 4, window.inputs), dyadic(8, dense.units, 2)
    one, other = (simulate(Network((layer,), output_weights), inputs) for layer in (looking, dense))
    assert 0.05 < other.spikes[0].mean() < 0.95
    assert np.array_equal(one.membranes[0], other.membranes[0])
    assert np.array_equal(one.spikes[0], other.spikes[0]) and np.array_equal(one.outputs, other.outputs)


@pytest.mark.parametrize("at_a_time", [1, 100, 2**21])
def test_drive_is_the_same_however_many_rows_it_takes_at_a_time(monkeypatch, at_a_time):
    monkeypatch.setattr(layers_module, "BLOCK_NUMBERS", at_a_time)
    looking, dense = twins(WINDOWS["stride"], LIF(), True, False)
    signal = dyadic(9, 23, looking.inputs)
    assert np.array_equal(looking.drive(signal), dense.drive(signal))
    for layer in (looking, dense):
        out = np.full((23, layer.units), np.nan)
        assert layer.drive(signal, out=out) is out
        assert np.array_equal(out, dense.drive(signal))


def stack_of(spec, inputs, seed=13):
    """Return random layers of an architecture."""
    layers, d = [], inputs
    for k, (layer, window) in enumerate(zip(spec.layers, windows(spec, inputs), strict=True)):
        weights = dyadic(seed + k, layer.width, d if window is None else window.patch)
        layers.append(Layer(weights, LIF(1.0, 0.9), window=window))
        d = layers[-1].units
    return tuple(layers)


DEEP = NetworkSpec((
    LayerSpec(width=3, kernel=3, shape=(2, 9, 9)),  # 3 × 7 × 7
    LayerSpec(width=4, kernel=2, pool=2),  # pooled 3 × 3 × 3, 4 × 2 × 2
    LayerSpec(width=5, pool=2),  # 4 × 1 × 1, 5 units
    LayerSpec(width=2),
))  # fmt: skip


def test_shapes_go_up_layer_by_layer():
    assert windows(DEEP, 162) == (
        Window((2, 9, 9), kernel=3), Window((3, 7, 7), pool=2, kernel=2), Window((4, 2, 2), pool=2), None,
    )  # fmt: skip
    assert windows(NetworkSpec((LayerSpec(width=3), LayerSpec())), 7) == (None, None)
    above_dense = NetworkSpec((LayerSpec(width=12), LayerSpec(kernel=2, shape=(3, 2, 2))))
    assert windows(above_dense, 5) == (None, Window((3, 2, 2), kernel=2))
    layers = stack_of(DEEP, 162)
    assert [layer.units for layer in layers] == [147, 16, 5, 2]
    Subnetwork(layers)
    dense = tuple(la if la.window is None else Layer(la.matrix().toarray(), la.neuron) for la in layers)
    inputs = dyadic(11, 9, 5, 162)
    one, other = (simulate(Network(stack, np.eye(2), "rate"), inputs) for stack in (layers, dense))
    assert all(np.array_equal(a, b) for a, b in zip(one.spikes, other.spikes, strict=True))
    assert 0.05 < one.spikes[-1].mean() < 0.95 and np.array_equal(one.outputs, other.outputs)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ((LayerSpec(kernel=3),), "network.layers[1].shape: missing"),
        ((LayerSpec(pool=2),), "network.layers[1].shape: missing"),
        ((LayerSpec(kernel=3, shape=(1, 4, 4)),), "network.layers[1].shape: expected a product of 162"),
        ((LayerSpec(shape=(1, 4, 4)),), "network.layers[1].shape: expected a product of 162"),
        ((LayerSpec(width=4), LayerSpec(kernel=1)), "network.layers[2].shape: missing"),
        ((LayerSpec(kernel=10, shape=(2, 9, 9)),), "network.layers[1].kernel: expected a whole number in 1"),
        ((LayerSpec(pool=10, shape=(2, 9, 9)),), "network.layers[1].pool: expected a whole number in 1..9"),
        (
            (DEEP.layers[0], replace(DEEP.layers[1], shape=(3, 49, 1))),
            "network.layers[2].shape: expected [3, 7, 7], the shape of the layer below, got [3, 49, 1]",
        ),
        ((DEEP.layers[0], LayerSpec(kernel=8)), "network.layers[2].kernel: expected a whole number in 1..7"),
    ],
)
def test_shapes_that_do_not_fit_are_named(layers, message):
    with pytest.raises(ShapeError) as caught:
        windows(NetworkSpec(layers), 162)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shape": (1, 4)}, "shape: expected three whole numbers (channels, height, width), got (1, 4)"),
        ({"shape": (1, 0, 4)}, "shape: expected a whole number >= 1, got 0"),
        ({"shape": (1, 4, 2.5)}, "shape: expected a whole number >= 1, got 2.5"),
        ({"shape": None}, "shape: expected three whole numbers (channels, height, width), got None"),
        ({"pool": 0}, "pool: expected a whole number in 1..4, got 0"),
        ({"pool": 5}, "pool: expected a whole number in 1..4, got 5"),
        ({"kernel": 5}, "kernel: expected a whole number in 1..4, got 5"),
        ({"kernel": 0}, "kernel: expected a whole number in 1..4, got 0"),
        ({"kernel": 3, "pool": 2}, "kernel: expected a whole number in 1..2, got 3"),
        ({"kernel": 2, "stride": 0}, "stride: expected a whole number >= 1, got 0"),
        ({"kernel": 2, "stride": 1.5}, "stride: expected a whole number >= 1, got 1.5"),
        ({"stride": 2}, "stride: expected a whole number in 1..1, got 2"),
    ],
)
def test_windows_that_make_no_sense_are_refused_by_name(arguments, message):
    with pytest.raises(ShapeError) as caught:
        Window(**{"shape": (2, 4, 5), **arguments})
    assert str(caught.value) == message


def test_arrays_that_do_not_fit_are_refused_by_name():
    window, weights = WINDOWS["patches"], np.zeros((2, 18))
    for work, message in (
        (lambda: window.gather(np.zeros((2, 39))), r"x: expected \(rows, inputs=40\), got \(2, 39\)"),
        (lambda: window.scatter(np.zeros((2, 6, 17))), r"p: expected \(rows, positions=6, patch=18\)"),
        (lambda: window.matrix(np.zeros((2, 17))), r"weights: expected \(filters, patch=18\), got \(2, 17\)"),
        (lambda: Layer(np.zeros((2, 17)), LIF(), window=window), r"weights: expected \(filters, patch=18\)"),
        (lambda: Layer(weights, LIF(), np.zeros(12), window=window), r"bias: expected \(filters=2,\)"),
        (lambda: Layer(weights, LIF(1.0, [0.5, 0.5]), window=window), r"leak: .*\(m=12,\)"),
        (lambda: Layer(weights, LIF(), None, np.eye(2), window), r"recurrent: expected \(m=12, m=12\)"),
    ):
        with pytest.raises(ShapeError, match=message):
            work()
    with pytest.raises(ShapeError, match=r"layer 2 window: expected 3 inputs, got 40"):
        Subnetwork((Layer(np.zeros((3, 2)), LIF()), Layer(weights, LIF(), window=window)))


def test_units_of_a_convolution_cannot_be_taken_apart():
    layer, _ = twins(WINDOWS["patches"], LIF(), False, False)
    for work in (
        lambda: layer.select([0]),
        lambda: layer.unit_inputs(np.zeros((1, 1, 40)), np.zeros((1, 1, 18), bool)),
        layer.unit_weights,
        lambda: layer.with_unit_weights(layer.weights),
    ):
        with pytest.raises(ShapeError, match="window: units of a convolution share their weights"):
            work()


def test_types_are_kept_and_cast():
    layer, _ = twins(WINDOWS["pool"], LIF(), True, False)
    single = layer.astype(np.float32)
    assert single.window == layer.window
    assert single.drive(np.zeros((3, layer.inputs), np.float32)).dtype == np.float32
    network = Network((layer,), np.ones((layer.units, 1)))
    assert simulate(network, np.zeros((2, 3, layer.inputs)), dtype=np.float32).outputs.dtype == np.float32


@every_window
def test_networks_with_windows_come_back_as_they_were(tmp_path, window):
    layer, _ = twins(window, LIF(), True, False)
    network = Network((layer, Layer(dyadic(12, 2, layer.units), LIF())), np.ones((2, 1)))
    save_network(tmp_path / "net.npz", network)
    back = load_network(tmp_path / "net.npz")
    assert [la.window for la in back.layers] == [window, None]
    inputs = dyadic(13, 6, 3, window.inputs)
    assert np.array_equal(simulate(back, inputs).outputs, simulate(network, inputs).outputs)


def test_layers_of_an_architecture_with_windows_are_known():
    layers = stack_of(DEEP, 162)
    assert architecture_mismatch(DEEP, layers, 162) is None
    other = (replace(layers[0], window=Window((2, 3, 27), kernel=3)), *layers[1:])
    assert architecture_mismatch(DEEP, other, 162).startswith("layer 1 has window Window(shape=(2, 3, 27)")
    dense = (Layer(layers[0].matrix().toarray(), layers[0].neuron), *layers[1:])
    assert architecture_mismatch(DEEP, dense, 162).startswith("layer 1 has window None, the network Window(")
    fewer = NetworkSpec((replace(DEEP.layers[0], width=1), LayerSpec(width=8)))
    stack = (*stack_of(NetworkSpec((DEEP.layers[0],)), 162), Layer(np.ones((8, 147)), LIF(1.0, 0.9)))
    message = "layer 1 has 147 connected units, the network a width of 49"
    assert architecture_mismatch(fewer, stack, 162) == message


def problem_of(subnetworks=1, **layer):
    return Problem.from_arrays(
        DATA["inputs"], DATA["targets"], layers=[layer],
        training=TABLES["training"], network={"subnetworks": subnetworks},
    )  # fmt: skip


IMAGES = {"kernel": 1, "shape": [1, 1, 2]}  # the good problem has two inputs


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ({**IMAGES, "kernel": 0}, "network.layers.kernel: expected at least 1, got 0"),
        ({**IMAGES, "kernel": 2}, "network.layers[1].kernel: expected a whole number in 1..1, got 2"),
        ({**IMAGES, "shape": [1, 2, 2]}, "network.layers[1].shape: expected a product of 2"),
        ({**IMAGES, "shape": [2]}, "network.layers[1].shape: expected three whole numbers"),
        ({**IMAGES, "shape": [2, 0, 1]}, "network.layers[1].shape: expected a whole number >= 1, got 0"),
        ({**IMAGES, "leak": [0.5, 0.9]}, "network.layers[1].leak: expected one for all units of a"),
        ({"kernel": 1}, "network.layers[1].shape: missing"),
        ({"pool": 2}, "network.layers[1].shape: missing"),
        ({"stride": 2}, "network.layers[1].stride: expected 1 without kernel, got 2"),
    ],
)
def test_a_problem_with_a_bad_window_is_refused_early(layer, message):
    with pytest.raises(ConvexSNNError) as caught:
        problem_of(**layer)
    assert str(caught.value).startswith(message) and caught.value.exit_status == 2


def test_subnetworks_share_no_filters():
    with pytest.raises(ProblemFileError, match="network.subnetworks: expected 1 with kernel or pool, got 2"):
        problem_of(subnetworks=2, **IMAGES)


def test_the_fingerprint_has_the_window_and_leaves_out_what_says_nothing(tmp_path):
    plain, looking = problem_of(), problem_of(**IMAGES)
    assert problem_of(stride=1, pool=1).fingerprint() == plain.fingerprint() != looking.fingerprint()
    assert problem_of(kernel=1, shape=[2, 1, 1]).fingerprint() != looking.fingerprint()
    assert "kernel" not in plain.tables()["network"]["layers"][0]
    looking.save(tmp_path)
    again = load_problem(tmp_path / "problem.toml")
    assert again.fingerprint() == looking.fingerprint() and again.network == looking.network
    assert again.network.layers[0].shape == (1, 1, 2)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (IMAGES, "network.layers[1].kernel: 1 has no convex program"),
        ({"pool": 1, "kernel": 1, "shape": [2, 1, 1]}, 'it is for training.method = "admm"'),
    ],
)
def test_the_convex_road_refuses_windows(layer, message):
    with pytest.raises(LoweringError) as caught:
        Convexification().lower(problem_of(**layer))
    assert message in str(caught.value)


def test_the_convex_road_refuses_pooling():
    problem = Problem.from_arrays(
        np.zeros((2, 1, 4)) + [[[1.0]], [[2.0]]], [1.0, -1.0],
        layers=[{"pool": 2, "shape": [1, 2, 2]}], training=TABLES["training"],
    )  # fmt: skip
    with pytest.raises(LoweringError, match=r"network.layers\[1\].pool: 2 has no convex program"):
        Convexification().lower(problem)
