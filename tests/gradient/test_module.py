"""Networks as torch modules: to the spike what the simulator does, and back again."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from convexsnn.errors import ShapeError  # noqa: E402
from convexsnn.gradient.module import LayerModule, NetworkModule  # noqa: E402
from convexsnn.gradient.surrogate import Surrogate  # noqa: E402
from convexsnn.networks import LIF, RESETS, Layer, Network, RecurrentThreshold, Threshold, Window  # noqa: E402
from convexsnn.simulate import simulate  # noqa: E402

DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
NEURONS = {
    **{f"lif, {reset}": LIF(1.0, 0.8, reset) for reset in RESETS},
    "lif, a leak for each": LIF(0.9, np.linspace(0, 1, 6)),
    "threshold": Threshold(0.1),
    "recurrent threshold": RecurrentThreshold(0.2, np.linspace(-1, 1, 6)),
}


def network(neuron, readout="spike", supervise="last", recurrent=False, seed=0):
    """Return two layers of 6 units on 4 inputs, with 3 outputs."""
    rng = np.random.default_rng(seed)

    def layer(inputs):
        own = rng.normal(size=(6, 6)) if recurrent else None
        return Layer(rng.normal(size=(6, inputs)), neuron, rng.normal(size=6), own)

    return Network((layer(4), layer(6)), rng.normal(size=(6, 3)), readout, supervise)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("recurrent", [False, True])
@pytest.mark.parametrize("name", NEURONS)
def test_spikes_of_every_neuron_are_the_simulators(name, recurrent, device):
    made = network(NEURONS[name], recurrent=recurrent)
    inputs = np.random.default_rng(1).normal(size=(50, 8, 4))
    trace = simulate(made, inputs)
    module = NetworkModule(made, dtype=torch.float64).to(device)
    for found, spikes in zip(module.spikes(torch.tensor(inputs, device=device)), trace.spikes, strict=True):
        assert np.array_equal(found.detach().cpu().numpy().swapaxes(0, 1), spikes)
        assert 0.05 < spikes.mean() < 0.95


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("supervise", ["last", "all"])
@pytest.mark.parametrize("readout", ["spike", "membrane", "rate", "output_membrane"])
@pytest.mark.parametrize("name", NEURONS)
def test_outputs_are_the_simulators(name, readout, supervise, device):
    made = network(NEURONS[name], readout, supervise)
    inputs = np.random.default_rng(2).normal(size=(30, 5, 4))
    module = NetworkModule(made, dtype=torch.float64).to(device)
    outputs = module(torch.tensor(inputs, device=device)).detach().cpu().numpy()
    assert outputs == pytest.approx(simulate(made, inputs).outputs, rel=1e-12, abs=1e-12)
    again = module.network()
    assert np.array_equal(simulate(again, inputs).outputs, simulate(made, inputs).outputs)


def test_every_parameter_has_a_gradient():
    for name, neuron in NEURONS.items():
        made = NetworkModule(network(neuron, "output_membrane", recurrent=True), dtype=torch.float64)
        made(torch.randn(20, 6, 4, dtype=torch.float64)).square().sum().backward()
        for parameter, value in made.named_parameters():
            assert value.grad is not None and value.grad.abs().max() > 0, (name, parameter)


@pytest.mark.parametrize("reset", RESETS)
def test_trained_leaks_and_thresholds_run_in_the_simulator(reset):
    made = network(LIF(1.0, 0.8, reset), "rate")
    module = NetworkModule(made, dtype=torch.float64, learn_neuron=True)
    inputs = np.random.default_rng(3).normal(size=(40, 6, 4))
    module(torch.tensor(inputs)).square().sum().backward()
    with torch.no_grad():
        for layer in module.layers:
            assert layer.leak.grad.abs().max() > 0 and layer.threshold.grad.abs().max() > 0
            layer.leak -= 0.1 * layer.leak.grad.sign()
            layer.threshold += 0.2 * layer.threshold.grad.sign()
    trained = module.network()
    assert {layer.neuron.threshold for layer in trained.layers} == {1.0}
    assert trained.layers[0].neuron.leak.shape == (6,)
    assert simulate(trained, inputs).outputs == pytest.approx(module(torch.tensor(inputs)).detach().numpy())


@pytest.mark.parametrize(
    "name, value, words",
    [
        ("leak", 1.5, r"leak: trained to 1.5 at unit 2, must be in \[0, 1\]"),
        ("leak", -0.1, r"leak: trained to -0.1 at unit 2, must be in \[0, 1\]"),
        ("threshold", 0.0, "threshold: trained to 0 at unit 2, must be above 0"),
        ("threshold", -0.5, "threshold: trained to -0.5 at unit 2, must be above 0"),
    ],
)
def test_neurons_that_no_network_can_have_are_refused(name, value, words):
    module = NetworkModule(network(LIF(1.0, 0.8)), learn_neuron=True)
    with torch.no_grad():
        getattr(module.layers[1], name)[2] = value
    with pytest.raises(ShapeError, match=words):
        module.network()


def test_a_convolution_is_refused():
    window = Window((1, 3, 3), 2, 1, 1)
    weights = np.ones((2, window.patch))
    with pytest.raises(ShapeError, match="window: gradient training takes dense layers"):
        LayerModule(Layer(weights, LIF(), window=window), Surrogate())


@pytest.mark.parametrize("recurrent", [False, True])
@pytest.mark.parametrize("reset", RESETS)
def test_slayer_leaves_the_reset_out_of_unrolled_layers_too(reset, recurrent):
    made = network(LIF(1.0, 0.8, reset), recurrent=recurrent)
    signal = torch.tensor(np.random.default_rng(4).normal(size=(7, 20, 4)))
    wanted = torch.tensor(np.random.default_rng(5).normal(size=(7, 20, 6)))
    found = {}
    for gradient in ("slayer", "bptt", "fused"):
        layer = LayerModule(
            made.layers[0], Surrogate(), gradient.replace("fused", "slayer"), 1.5, torch.float64, True
        )
        spikes = layer(signal) if gradient == "fused" else layer.unrolled(signal)[0]
        spikes.backward(wanted)
        found[gradient] = torch.cat([p.grad.flatten() for p in layer.parameters()])
    assert torch.allclose(found["slayer"], found["fused"], rtol=1e-12)
    assert torch.allclose(found["slayer"], found["bptt"]) == (reset == "none")


def test_the_scale_is_that_of_the_membrane_readout_too():
    """One step and no carry: spikes of the readout are all that has a gradient."""
    made, inputs = network(LIF(1.0, 0.8, "none"), "membrane"), torch.randn(20, 1, 4, dtype=torch.float64)
    norms = []
    for scale in (1.0, 3.0):
        module = NetworkModule(made, scale=scale, dtype=torch.float64)
        module(inputs).sum().backward()
        norms.append(module.layers[1].weights.grad)
    assert torch.allclose(norms[1], 3.0 * norms[0], rtol=1e-12) and norms[0].abs().max() > 0
