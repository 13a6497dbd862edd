"""Networks on disk: what is saved comes back and runs alike; what makes no network is refused by name."""

import numpy as np
import pytest

from convexsnn.arrays import read_npz, write_npz
from convexsnn.errors import ProblemFileError
from convexsnn.networks import (
    LIF,
    RESETS,
    Layer,
    Network,
    RecurrentThreshold,
    Threshold,
    load_network,
    save_network,
)
from convexsnn.networks.files import layer_arrays, layers_from_arrays
from convexsnn.simulate import simulate

D, WIDTH = 3, 4
NEURONS = {
    **{f"lif {reset}": LIF(0.7, 0.3, reset) for reset in RESETS},
    "lif, a leak each": LIF(0.7, [0.0, 0.3, 0.9, 1.0], "subtract"),
    "threshold": Threshold(-0.2),
    "recurrent": RecurrentThreshold(0.1, -0.6),
    "recurrent, a weight each": RecurrentThreshold(0.1, [0.5, -0.5, 0.0, 2.0]),
}


def random_network(neuron, bias=True, recurrent=True, dtype=np.float64, **readout):
    rng = np.random.default_rng(0)

    def normal(*shape):
        return rng.normal(size=shape).astype(dtype)

    def layer(d):
        extra = normal(WIDTH) if bias else None, normal(WIDTH, WIDTH) if recurrent else None
        return Layer(normal(WIDTH, d), neuron, *extra)

    return Network((layer(D), layer(WIDTH)), rng.normal(size=(WIDTH, 2)), **readout)


def assert_same_network(one, other):
    for a, b in zip(one.layers, other.layers, strict=True):
        assert type(a.neuron) is type(b.neuron)
        for name in ("threshold", "leak", "reset", "own_weight"):
            x, y = getattr(a.neuron, name, None), getattr(b.neuron, name, None)
            assert type(x) is type(y)  # one value for all units stays one value
            assert np.array_equal(x, y)
        for name in ("weights", "bias", "recurrent"):
            x, y = getattr(a, name), getattr(b, name)
            assert (x is None) == (y is None)
            assert x is None or (x.dtype == y.dtype and np.array_equal(x, y))
    assert np.array_equal(one.output_weights, other.output_weights)
    assert (one.readout, one.supervise) == (other.readout, other.supervise)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(("bias", "recurrent"), [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize("name", NEURONS)
def test_networks_come_back_as_they_were(tmp_path, name, bias, recurrent, dtype):
    network = random_network(NEURONS[name], bias, recurrent, dtype)
    save_network(tmp_path / "net.npz", network)
    assert_same_network(load_network(tmp_path / "net.npz"), network)


@pytest.mark.parametrize("supervise", ["last", "all"])
@pytest.mark.parametrize("readout", ["spike", "membrane"])
def test_a_network_that_came_back_runs_alike(tmp_path, readout, supervise):
    network = random_network(NEURONS["lif, a leak each"], readout=readout, supervise=supervise)
    save_network(tmp_path / "net.npz", network)
    back = load_network(tmp_path / "net.npz")
    assert_same_network(back, network)
    inputs = np.random.default_rng(1).normal(size=(10, 4, D))
    assert np.array_equal(simulate(back, inputs).outputs, simulate(network, inputs).outputs)


def test_layers_of_different_kinds_and_prefixes_keep_apart():
    one = (Layer(np.ones((2, 3)), LIF(2.0, 0.5, "zero")), Layer(np.ones((1, 2)), Threshold(0.5), bias=[1.0]))
    other = (Layer(np.zeros((4, 3)), RecurrentThreshold(0.0, 1.0)),)
    arrays = {**layer_arrays(one, "best_"), **layer_arrays(other)}
    assert [la.neuron.kind for la in layers_from_arrays(arrays, "best_")] == ["lif", "threshold"]
    assert [la.units for la in layers_from_arrays(arrays)] == [4]


def changed_file(tmp_path, remove=(), **entries):
    """Return the file of a good two-layer network in which some entries are gone or different."""
    path = tmp_path / "net.npz"
    save_network(path, random_network(NEURONS["lif, a leak each"]))
    arrays = {key: array for key, array in read_npz(path).items() if key not in remove}
    write_npz(path, {**arrays, **{key: np.asarray(value) for key, value in entries.items()}})
    return path


def refused(path):
    with pytest.raises(ProblemFileError) as caught:
        load_network(path)
    assert str(caught.value).startswith(f"{path}: ")
    return str(caught.value).removeprefix(f"{path}: ")


def test_the_file_that_the_bad_ones_are_made_of_is_good(tmp_path):
    assert load_network(changed_file(tmp_path)).units == 2 * WIDTH


@pytest.mark.parametrize("key", ["output_weights", "layer1_weights"])
def test_missing_entries_are_named(tmp_path, key):
    assert f"{key}: missing" in refused(changed_file(tmp_path, remove=[key]))


def test_a_last_layer_without_weights_is_not_dropped_in_silence(tmp_path):
    # the layers are of equal width, so the first layer alone fits the output weights
    assert "layer2_weights" in refused(changed_file(tmp_path, remove=["layer2_weights"]))


@pytest.mark.parametrize("key", ["layer1_threshold", "layer1_leak", "layer2_reset", "readout", "supervise"])
def test_no_default_stands_in_for_a_missing_entry(tmp_path, key):
    assert key.split("_")[-1] in refused(changed_file(tmp_path, remove=[key]))


@pytest.mark.parametrize(
    ("key", "value", "error_text"),
    [
        # shapes that do not chain, or do not fit within a layer
        ("layer2_weights", np.ones((WIDTH, WIDTH + 1)), "layer 2 weights: expected (m, d=4), got (4, 5)"),
        ("output_weights", np.ones((WIDTH - 1, 2)), "output_weights: expected (m=4, C), got (3, 2)"),
        ("output_weights", np.ones(WIDTH), "output_weights: expected (m=4, C), got (4,)"),
        ("layer1_weights", np.ones(D), "layer1_*: weights: expected (m, d), got (3,)"),
        ("layer1_bias", np.ones(WIDTH + 1), "layer1_*: bias: expected (m=4,), got (5,)"),
        ("layer2_recurrent", np.ones((WIDTH, 1)), "layer2_*: recurrent: expected (m=4, m=4), got (4, 1)"),
        ("layer1_leak", np.ones(WIDTH + 1), "layer1_*: leak: expected one value or (m=4,), got (5,)"),
        ("layer1_threshold", np.ones(2), "layer1_"),
        # values
        ("layer1_weights", np.full((WIDTH, D), np.nan), "layer1_*: weights: nan at index (0, 0)"),
        ("layer2_recurrent", np.full((WIDTH, WIDTH), np.inf), "layer2_*: recurrent: inf at index (0, 0)"),
        ("layer2_bias", np.full(WIDTH, np.nan), "layer2_*: bias: nan at index (0,)"),
        ("output_weights", np.full((WIDTH, 2), np.nan), "output_weights: nan at index (0, 0)"),
        ("layer1_weights", np.full((WIDTH, D), "1"), "layer1_*: weights: expected real numbers (m, d)"),
        ("layer1_threshold", np.nan, "layer1_*: threshold: expected a positive number, got nan"),
        ("layer1_threshold", 0.0, "layer1_*: threshold: expected a positive number, got 0.0"),
        ("layer1_threshold", "one", "layer1_"),
        ("layer1_leak", 1.5, "layer1_*: leak: expected values in [0, 1], got 1.5"),
        ("layer1_leak", "slow", "layer1_"),
        ("layer1_neuron", "izhikevich", "layer1_*: neuron: "),
        ("layer1_reset", "soft", "layer1_*: reset: "),
        ("readout", "count", "readout: "),
        ("readout_leak", 1.5, "readout_leak: expected a number in [0, 1], got "),
        ("readout_leak", "slow", "readout_leak: expected a number in [0, 1], got "),
        ("readout_leak", [0.5, 0.5], "readout_leak: expected a number in [0, 1], got "),
        ("layer1_window", [1, 1, D], "layer1_*: window: expected 6 whole numbers, got int64 (3,)"),
        ("layer1_window", np.ones(6), "layer1_*: window: expected 6 whole numbers, got float64 (6,)"),
        ("layer1_window", [1, 1, D, 2, 0, 1], "layer1_*: pool: expected a whole number in 1..1, got 2"),
        ("layer1_window", [1, 1, D, 1, 2, 1], "layer1_*: kernel: expected a whole number in 1..1, got 2"),
        ("supervise", "first", "supervise: "),
    ],
)
def test_entries_that_make_no_network_are_named(tmp_path, key, value, error_text):
    message = refused(changed_file(tmp_path, **{key: value}))
    assert error_text in message
    if isinstance(value, str):
        assert value in message


def test_files_that_are_no_npz_are_named(tmp_path):
    assert "no such file" in refused(tmp_path / "nothing.npz")
    assert "folder" in refused(tmp_path)
    (tmp_path / "net.npz").write_text("layers: 2")
    refused(tmp_path / "net.npz")


def test_a_damaged_network_file_is_named(tmp_path):
    path = changed_file(tmp_path)
    path.write_bytes(path.read_bytes()[:-100])
    refused(path)
