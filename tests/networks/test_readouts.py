"""The readouts "rate" and "output_membrane": against slow loops, on disk, and where they are refused."""

import numpy as np
import pytest
from small_problem_files import DATA, TABLES, changed, from_arrays, write

from convexsnn.arrays import read_npz, write_npz
from convexsnn.errors import ConvexSNNError, LoweringError, ProblemFileError, ShapeError
from convexsnn.lowering import Convexification
from convexsnn.networks import (
    FILTERED,
    LIF,
    READOUTS,
    Layer,
    Network,
    NetworkSpec,
    load_network,
    save_network,
)
from convexsnn.problem import Problem, load_problem
from convexsnn.simulate import BLOCK, simulate

N, STEPS, D, M, OUTPUTS = BLOCK + 7, 6, 3, 4, 2
LEAKS = (0.0, 0.5, 0.9, 1.0)


def random_network(readout, supervise="last", leak=0.9):
    rng = np.random.default_rng(0)
    first, last = Layer(rng.normal(size=(5, D)), LIF(0.5, 0.8)), Layer(rng.normal(size=(M, 5)), LIF(0.5, 0.9))
    return Network((first, last), rng.normal(size=(M, OUTPUTS)), readout, supervise, leak)


def random_inputs():
    return np.random.default_rng(1).normal(size=(N, STEPS, D))


def slow_outputs(network, spikes):
    """Return z_t of one sample's spikes (T, m) at every step, in scalars and as the definition has it."""
    weights, z, steps_outputs = network.output_weights, [0.0] * OUTPUTS, []
    for t in range(STEPS):
        for c in range(OUTPUTS):
            if network.readout == "rate":
                means = [sum(spikes[r][j] for r in range(t + 1)) / (t + 1) for j in range(M)]
                z[c] = sum(weights[j, c] * means[j] for j in range(M))
            else:
                z[c] = network.readout_leak * z[c] + sum(weights[j, c] * spikes[t][j] for j in range(M))
        steps_outputs.append(list(z))
    return steps_outputs


@pytest.mark.parametrize("supervise", ["last", "all"])
@pytest.mark.parametrize(
    ("readout", "leak"), [("rate", 0.9), ("rate", 0.5), *(("output_membrane", b) for b in LEAKS)]
)
def test_outputs_are_those_of_the_definition(readout, leak, supervise):
    network = random_network(readout, supervise, leak)
    trace = simulate(network, random_inputs())
    assert 0.1 < trace.spikes[-1].mean() < 0.9
    reference = np.array([slow_outputs(network, spikes) for spikes in trace.spikes[-1].astype(int).tolist()])
    if supervise == "last":
        reference = reference[:, -1]
    assert trace.outputs.shape == reference.shape and np.allclose(
        trace.outputs, reference, rtol=0, atol=1e-12
    )
    assert trace.features.dtype == np.float64
    assert np.array_equal(trace.features @ network.output_weights, trace.outputs)


@pytest.mark.parametrize("leak", LEAKS)
@pytest.mark.parametrize("readout", ["spike", *FILTERED])
def test_the_kernel_is_what_the_simulator_does(readout, leak):
    last, every = (random_network(readout, supervise, leak) for supervise in ("last", "all"))
    one, other = simulate(last, random_inputs()), simulate(every, random_inputs())
    spikes = one.spikes[-1].astype(float)
    kernel = READOUTS[readout].kernel(STEPS, leak)
    assert kernel.shape == (STEPS,)
    assert np.allclose(np.einsum("t,ntm->nm", kernel, spikes), one.features, rtol=0, atol=1e-12)
    assert np.array_equal(one.features, other.features[:, -1])
    for t in range(STEPS):
        so_far = np.einsum("t,ntm->nm", READOUTS[readout].kernel(t + 1, leak), spikes[:, : t + 1])
        assert np.allclose(so_far, other.features[:, t], rtol=0, atol=1e-12)


def test_kernels_by_hand():
    assert READOUTS["spike"].kernel(3, 0.9).tolist() == [0, 0, 1]
    assert READOUTS["rate"].kernel(4, 0.9).tolist() == [0.25] * 4
    assert READOUTS["output_membrane"].kernel(3, 0.5).tolist() == [0.25, 0.5, 1]
    assert READOUTS["output_membrane"].kernel(3, 0.0).tolist() == [0, 0, 1]
    assert READOUTS["output_membrane"].kernel(3, 1).tolist() == [1, 1, 1]
    with pytest.raises(ShapeError, match="readout: expected one of spike, rate, output_membrane, got"):
        READOUTS["membrane"].kernel(3, 0.9)


@pytest.mark.parametrize("supervise", ["last", "all"])
@pytest.mark.parametrize("readout", FILTERED)
def test_float32_stays_float32_and_samples_are_on_their_own(readout, supervise):
    network, inputs = random_network(readout, supervise), random_inputs()
    single = simulate(network, inputs, dtype=np.float32)
    assert single.features.dtype == single.outputs.dtype == np.float32
    together = simulate(network, inputs)
    for i in range(0, N, 29):
        assert np.array_equal(simulate(network, inputs[i : i + 1]).features[0], together.features[i])


@pytest.mark.parametrize("supervise", ["last", "all"])
@pytest.mark.parametrize("readout", FILTERED)
def test_networks_come_back_as_they_were(tmp_path, readout, supervise):
    network = random_network(readout, supervise, 0.3)
    save_network(tmp_path / "net.npz", network)
    back = load_network(tmp_path / "net.npz")
    assert (back.readout, back.supervise, back.readout_leak) == (readout, supervise, 0.3)
    inputs = random_inputs()
    assert np.array_equal(simulate(back, inputs).outputs, simulate(network, inputs).outputs)


def test_a_file_without_the_leak_of_the_readout_is_still_read(tmp_path):
    save_network(tmp_path / "net.npz", random_network("output_membrane", leak=0.3))
    arrays = read_npz(tmp_path / "net.npz")
    write_npz(tmp_path / "old.npz", {k: v for k, v in arrays.items() if k != "readout_leak"})
    assert load_network(tmp_path / "old.npz").readout_leak == 0.9


@pytest.mark.parametrize("leak", [-0.1, 1.5, float("nan"), True, "slow", None])
def test_a_leak_out_of_range_is_refused_by_name(tmp_path, leak):
    for make in (NetworkSpec, random_network):
        with pytest.raises(ShapeError, match=r"readout_leak: expected a number in \[0, 1\], got"):
            make(**({"readout": "rate", "leak": leak} if make is random_network else {"readout_leak": leak}))
    if leak is not None:
        with pytest.raises(ProblemFileError, match="problem.toml: network.readout_leak: expected "):
            load_problem(write(tmp_path, *changed("network", "readout_leak", leak)))


def problem_of(**network):
    return from_arrays(DATA, {**TABLES, "network": network})


def test_the_fingerprint_has_what_differs_from_the_defaults(tmp_path):
    plain = problem_of()
    assert problem_of(readout_leak=0.9).fingerprint() == plain.fingerprint()
    kinds = ({"readout": kind, "readout_leak": leak} for kind in FILTERED for leak in (0.9, 0.5))
    assert len({plain.fingerprint(), *(problem_of(**kind).fingerprint() for kind in kinds)}) == 5
    problem_of(readout="output_membrane", readout_leak=1).save(tmp_path)
    again = load_problem(tmp_path / "problem.toml")
    assert again.network == problem_of(readout="output_membrane", readout_leak=1.0).network


def test_the_fingerprint_of_a_problem_from_before_these_keys_is_what_it_was():
    problem = Problem.from_arrays(
        [[[0.0], [1.0]], [[1.0], [0.5]]], [1.0, -1.0], layers=[{}], training={"regularization": 0.5}
    )
    assert problem.fingerprint() == "c8fdb7e617259f32200f0a715062c7e9a8594941ad2b43750f57310d1a9c99fb"


@pytest.mark.parametrize("readout", FILTERED)
def test_the_convex_road_refuses_them(readout):
    with pytest.raises(LoweringError) as caught:
        Convexification().lower(problem_of(readout=readout))
    assert isinstance(caught.value, ConvexSNNError) and caught.value.exit_status == 2
    message = f"network.readout: {readout!r} has no convex program over spike patterns"
    assert str(caught.value) == f'{message}; it is for training.method = "admm"'
