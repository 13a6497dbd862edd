"""Gradients at depth: level over 50 layers with a tuned width, and batch normalisation that folds away."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from convexsnn.errors import ShapeError, SolverFailed  # noqa: E402
from convexsnn.gradient.depth import gradient_norms, norms_text, set_surrogate, tuned_surrogate  # noqa: E402
from convexsnn.gradient.module import NetworkModule  # noqa: E402
from convexsnn.gradient.surrogate import Surrogate  # noqa: E402
from convexsnn.networks import LIF, Layer, Network, RecurrentThreshold  # noqa: E402
from convexsnn.simulate import simulate  # noqa: E402

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def stack(depth, width=64, surrogate=None, seed=0, neuron=None, bias=True, dtype=torch.float32):
    rng = np.random.default_rng(seed)
    layers = tuple(
        Layer(
            rng.normal(size=(width, width)) / np.sqrt(width),
            neuron or LIF(1.0, 0.9),
            np.zeros(width) if bias else None,
        )
        for _ in range(depth)
    )
    network = Network(layers, rng.normal(size=(width, 3)), "rate")
    return NetworkModule(network, surrogate, dtype=dtype, normalize=True).to(DEVICE)


def spikes(n=16, steps=10, width=64, seed=1):
    made = np.random.default_rng(seed).random((n, steps, width)) < 0.3
    return torch.tensor(made, dtype=torch.float32, device=DEVICE)


@pytest.mark.parametrize("shape", ["arctangent", "triangle"])
def test_a_tuned_width_keeps_gradients_level_over_fifty_layers(shape):
    module, inputs = stack(50, surrogate=Surrogate(shape, 4.0)), spikes()
    untuned = gradient_norms(module, inputs)
    assert untuned.max() / untuned.min() > 1e3 and untuned[0] < untuned[-1]
    surrogate = tuned_surrogate(module, inputs)
    assert module.layers[7].surrogate.width == 4.0  # as it was
    set_surrogate(module, surrogate)
    tuned = gradient_norms(module, inputs)
    assert tuned.max() / tuned.min() < 10
    again = gradient_norms(module, spikes(seed=5), seed=3)  # on other samples, for another loss
    assert again.max() / again.min() < 30
    set_surrogate(module, Surrogate(shape, 0.3))
    narrow = gradient_norms(module, inputs)
    assert narrow[0] / narrow[-1] > 1e3
    text = norms_text(tuned)
    assert text.count("layer") == 50 and f"{tuned[0]:.3e}" in text and "largest over smallest" in text


def test_norms_are_those_of_autograd_and_change_nothing():
    module, inputs = stack(3, dtype=torch.float64), spikes()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    norms = gradient_norms(module, inputs, seed=4)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    wanted = torch.randn(16, 3, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    (module(inputs) * wanted.to(DEVICE)).sum().backward()
    assert norms == pytest.approx([float(layer.weights.grad.norm()) for layer in module.layers], rel=1e-12)


@pytest.mark.parametrize("neuron", [LIF(1.0, 0.8), LIF(0.7, 0.9, "zero"), RecurrentThreshold(0.1, 0.5)])
def test_normalisation_folds_into_weights_and_bias(neuron):
    module, inputs = stack(3, neuron=neuron, dtype=torch.float64), spikes(40)
    with torch.no_grad():
        for layer in module.layers:
            layer.norm.weight.uniform_(0.5, 1.5)
            layer.norm.bias.normal_()
        for _ in range(30):
            module(inputs)  # statistics settle
    module.eval()
    trace = simulate(module.network(), inputs.cpu().numpy())
    for found, expected in zip(module.spikes(inputs), trace.spikes, strict=True):
        assert np.array_equal(found.detach().cpu().numpy().swapaxes(0, 1), expected)
        assert 0.02 < expected.mean() < 0.98
    assert module(inputs).detach().cpu().numpy() == pytest.approx(trace.outputs, rel=1e-12)


def test_what_cannot_be_folded_or_tuned_is_refused():
    with pytest.raises(ShapeError, match="normalize: folds into a bias, but this layer has none"):
        stack(2, bias=False)
    silent = stack(2)
    with torch.no_grad():
        for layer in silent.layers:
            layer.norm.weight.zero_()
    with pytest.raises(SolverFailed, match="width: none from 0.1 to 10"):
        tuned_surrogate(silent, spikes())
    with pytest.raises(ShapeError, match="module: has one hidden layer; equal gradient norms need"):
        tuned_surrogate(stack(1), spikes())
    assert norms_text(gradient_norms(silent, spikes())).endswith("largest over smallest: inf")
