"""The three gradients of a LIF layer: against autograd through time, finite differences, and each other."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import lif_cases  # noqa: E402
from lif_cases import SHAPE, case, close  # noqa: E402

from convexsnn.errors import ShapeError  # noqa: E402
from convexsnn.gradient import kernels_cpu, kernels_torch  # noqa: E402
from convexsnn.gradient.lif import GRADIENTS, lif  # noqa: E402
from convexsnn.gradient.surrogate import SHAPES, Surrogate  # noqa: E402
from convexsnn.networks import LIF, RESETS, Layer  # noqa: E402
from convexsnn.simulate import run_layer  # noqa: E402
from convexsnn.threads import use_threads  # noqa: E402

DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])


def gradients(made, **choices):
    *inputs, wanted = made
    inputs = [x.clone().requires_grad_() for x in inputs]
    spikes = lif(*inputs, **choices)
    spikes.backward(wanted)
    return [spikes.detach(), *(x.grad for x in inputs)]


def detached(made, reset, surrogate, scale):
    """Return what autograd says when the reset sees spikes without their gradient: SLAYER's rule."""
    *inputs, wanted = made
    current, leak, threshold = (x.clone().requires_grad_() for x in inputs)
    carry, spikes = torch.zeros_like(current[0]), []
    for now in current:
        u = carry + now
        hard = (u >= threshold).double()
        soft = surrogate.integral(u - threshold) * scale
        s = hard + soft - soft.detach()
        spikes.append(s)
        code = RESETS.index(reset)
        carry = kernels_torch.carried(u, s.detach(), leak, threshold, code)
    torch.stack(spikes).backward(wanted)
    return [torch.stack(spikes).detach(), current.grad, leak.grad, threshold.grad]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("backend", ["auto", "torch"])
@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("shape", SHAPES)
def test_exodus_is_backpropagation_through_time(shape, reset, backend, device):
    for seed in range(4):
        made = case(seed, device=device)
        choices = {"reset": reset, "surrogate": Surrogate(shape, 0.7), "scale": 1.3}
        found = gradients(made, gradient="exodus", backend=backend, **choices)
        expected = gradients(made, gradient="bptt", **choices)
        assert expected[0].sum() > 20 and expected[1].abs().max() > 0.1
        close(found, expected, 1e-12)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("backend", ["auto", "torch"])
@pytest.mark.parametrize("reset", RESETS)
def test_slayer_leaves_out_the_reset(reset, backend, device):
    made, surrogate = case(3, device=device), Surrogate("gaussian", 0.6)
    found = gradients(made, gradient="slayer", backend=backend, reset=reset, surrogate=surrogate, scale=0.4)
    close(found, detached(made, reset, surrogate, 0.4), 1e-12)
    exodus = gradients(made, gradient="exodus", reset=reset, surrogate=surrogate, scale=0.4)
    far = (found[1] - exodus[1]).abs().max()
    assert far < 1e-12 if reset == "none" else far > 0.01


@pytest.mark.parametrize("gradient", ["exodus", "bptt"])
@pytest.mark.parametrize("reset", RESETS)
@pytest.mark.parametrize("shape", ["fast_sigmoid", "arctangent", "gaussian"])
def test_smooth_layers_have_their_true_gradient(shape, reset, gradient):
    *inputs, _ = case(1, (5, 2, 3))
    inputs = [x.requires_grad_() for x in inputs]
    choices = {"reset": reset, "surrogate": Surrogate(shape, 0.8), "gradient": gradient, "smooth": True}
    assert torch.autograd.gradcheck(lambda *given: lif(*given, **choices), inputs)


@pytest.mark.parametrize("shape", SHAPES)
def test_slopes_are_densities_and_integrals_their_integrals(shape):
    x = torch.linspace(-30.0, 30.0, 600_001, dtype=torch.float64)
    for width in (0.3, 1.0, 2.5):
        surrogate = Surrogate(shape, width)
        slope, integral = surrogate.slope(x), surrogate.integral(x)
        area = torch.trapezoid(slope, x)
        assert integral[-1] - integral[0] == pytest.approx(float(area), abs=1e-3) and area < 1.001
        assert integral[300_000] == pytest.approx(0.5) and (slope >= 0).all()
        assert slope[300_000] == pytest.approx(float(slope.max()))
        rise = (integral[2:] - integral[:-2]) / (x[2:] - x[:-2])
        smooth = (x[1:-1].abs() / width - 0.5).abs() > 1e-2  # the rectangle jumps there
        assert (rise - slope[1:-1])[smooth].abs().max() < 1e-3
        assert torch.allclose(Surrogate(shape, 2 * width).slope(2 * x), slope / 2)
    far = torch.tensor([-1e9, 1e9], dtype=torch.float64)
    assert Surrogate(shape, 1.0).integral(far).tolist() == pytest.approx([0.0, 1.0], abs=1e-8)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("backend", ["auto", "torch"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("reset", RESETS)
def test_spikes_are_the_simulators(reset, dtype, backend, device):
    """On a grid of eighths and a leak of one half nothing rounds: membranes meet the threshold exactly."""
    rng = np.random.default_rng(0)
    current = rng.integers(-8, 12, (13, 40, 6)) / 8.0
    layer = Layer(np.eye(6), LIF(1.0, 0.5, reset))
    kind = np.float32 if dtype == torch.float32 else np.float64
    membranes, spikes = run_layer(layer, current.swapaxes(0, 1), kind)
    assert (membranes == 1.0).sum() > 10
    for gradient in ("exodus", "bptt", "slayer"):
        given = torch.tensor(current, dtype=dtype, device=device)
        found = lif(given, 0.5, 1.0, reset=reset, gradient=gradient, backend=backend).cpu()
        assert np.array_equal(found.numpy().swapaxes(0, 1), spikes)


@pytest.mark.parametrize("shape", [(3, 4500), (700, 3, 5), (1, 1), (4, 2, 3, 5), (2000, 70)])
def test_any_shape_and_number_of_threads(shape):
    made = case(2, shape)
    threads = torch.get_num_threads()
    try:
        found = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            with use_threads(3):  # the kernels take the smaller number
                found.append(gradients(made))
        for one in found[1:]:
            assert all(torch.equal(a, b) for a, b in zip(one, found[0], strict=True))
    finally:
        torch.set_num_threads(threads)
    close(found[0], gradients(made, backend="torch"), 1e-12)


def test_memory_is_used_again_only_when_its_tensors_are_gone():
    current, leak, threshold, wanted = case(7, (30, 20, 50))
    current.requires_grad_()

    def run():
        spikes = lif(current, leak, threshold)
        return spikes, torch.autograd.grad(spikes, current, wanted, retain_graph=True)[0]

    spikes, first = run()
    kept = [spikes[3:5].detach(), first.numpy(), spikes.detach().numpy().T]  # views of what goes next
    copies = [spikes[3:5].detach().clone(), first.clone().numpy(), spikes.detach().clone().numpy().T]
    again = torch.autograd.grad(spikes, current, wanted)[0]  # its membranes are still there
    assert torch.equal(again, first)
    del spikes, first, again
    for _ in range(3):
        current.data += 0.1
        run()
    for view, copy in zip(kept, copies, strict=True):
        assert np.array_equal(view, copy)


def test_single_precision_is_close_to_double():
    found = gradients(case(5, (20, 8, 6), torch.float32))
    expected = gradients(case(5, (20, 8, 6)))
    assert all(x.dtype == torch.float32 for x in found)
    assert torch.equal(found[0].double(), expected[0])
    close([x.double() for x in found], expected, 1e-4)


def test_numbers_for_leak_and_threshold_and_parts_of_the_gradient():
    current, _, _, wanted = case(6)
    given = current.clone().requires_grad_()
    lif(given, 0.7, 1.1).backward(wanted)
    full = (
        torch.full((SHAPE[-1],), 0.7, dtype=torch.float64),
        torch.full((SHAPE[-1],), 1.1, dtype=torch.float64),
    )
    assert torch.equal(given.grad, gradients([current, *full, wanted])[1])
    leak = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    lif(current, leak, 1.1).backward(wanted)
    assert leak.grad == pytest.approx(float(gradients([current, *full, wanted])[2].sum()))


@pytest.mark.parametrize(
    "change, words",
    [
        ({"reset": "hard"}, "reset: expected one of subtract"),
        ({"gradient": "bp"}, "gradient: expected one of exodus"),
        ({"backend": "gpu"}, "backend: expected one of auto"),
        ({"scale": 0.0}, "scale: "),
        ({"current": torch.ones(3)}, r"current: expected floats \(T, ..., m\)"),
        ({"current": torch.ones(3, 2, dtype=torch.int64)}, "current: "),
        ({"current": torch.ones(0, 2)}, "current: "),
        ({"leak": torch.ones(3)}, r"leak: \(3,\) does not fit current \(3, 2\)"),
        ({"threshold": torch.ones(2, 2)}, r"threshold: \(2, 2\) does not fit current \(3, 2\)"),
        ({"current": np.ones((3, 2))}, r"current: expected a torch tensor \(T, ..., m\), got ndarray"),
        ({"leak": "a"}, "leak: expected real numbers, got 'a'"),
        ({"leak": None}, "leak: expected real numbers, got None"),
        ({"threshold": [[1.0], [1.0, 2.0]]}, "threshold: expected real numbers, got "),
        ({"leak": torch.ones(2, dtype=torch.complex64)}, "leak: expected real numbers, got "),
        ({"surrogate": "gaussian"}, "surrogate: expected a Surrogate, got 'gaussian'"),
    ],
)
@pytest.mark.parametrize("gradient", GRADIENTS)
def test_bad_input(change, words, gradient):
    given = {"current": torch.ones(3, 2), "leak": 0.5, "gradient": gradient, **change}
    with pytest.raises(ShapeError, match=words):
        lif(given.pop("current"), given.pop("leak"), **given)


@pytest.mark.parametrize("backend", ["fused", "torch"])
def test_a_derivative_of_the_adjoint_is_refused(backend):
    current = torch.rand(4, 3, requires_grad=True)
    spikes = lif(current, 0.9, backend=backend)
    weights = torch.rand(4, 3, requires_grad=True)
    (first,) = torch.autograd.grad((spikes * weights).sum(), current, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable|does not require grad"):
        first.square().sum().backward()


@pytest.mark.parametrize(
    "given, words",
    [(("step", 1.0), "surrogate: "), *((("triangle", width), "width: ") for width in (0.0, 1e-44, 1e300))],
)
def test_bad_surrogates(given, words):
    with pytest.raises(ShapeError, match=words):
        Surrogate(*given)


TRITON = """
import torch
from convexsnn.gradient import kernels_torch, kernels_triton
from convexsnn.gradient.surrogate import SHAPES, Surrogate
from lif_cases import case, close

for seed, shape in enumerate(SHAPES):
    for reset in range(4):
        current, leak, threshold, wanted = case(seed, (6, 150))
        both = kernels_triton, kernels_torch
        found, slow = (kernels.forward(current, leak, threshold, reset) for kernels in both)
        assert all(torch.equal(a, b) for a, b in zip(found, slow)) and found[1].sum() > 100
        for through in (True, False):
            settings = leak, threshold, reset, through, Surrogate(shape, 0.7), 1.3, True
            pair = [kernels.backward(wanted, slow[0], *settings) for kernels in both]
            close(*pair, 1e-12)
print("same")
"""


@pytest.mark.slow
def test_the_gpu_kernels_as_interpreted_are_the_slow_ones():
    pytest.importorskip("triton")
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    environment.pop("PYTHONSAFEPATH", None)  # dask leaves it where it restarted a worker
    done = subprocess.run(
        [sys.executable, "-c", TRITON],
        capture_output=True,
        text=True,
        env=environment,
        cwd=Path(lif_cases.__file__).parent,
    )
    assert done.stdout == "same\n", done.stderr


@pytest.mark.parametrize("gradient", ["exodus", "bptt"])
@pytest.mark.parametrize("reset", RESETS)
def test_what_is_smooth_has_no_scale(reset, gradient):
    made = case(3)
    plain, scaled = (
        gradients(made, reset=reset, gradient=gradient, smooth=True, scale=scale) for scale in (1.0, 2.0)
    )
    close(scaled, plain, 0.0)


def test_memory_is_used_again_and_never_twice_at_a_time(monkeypatch):
    monkeypatch.setattr(kernels_cpu, "_pool", [])
    like = torch.zeros(1000, 50)
    first, second = kernels_cpu._room(like), kernels_cpu._room(like)
    places = {first.data_ptr(), second.data_ptr()}
    part = first[3:5]  # a view keeps it in use
    del first, second
    third, fourth = kernels_cpu._room(like), kernels_cpu._room(like)
    assert third.data_ptr() in places - {part.data_ptr()} and fourth.data_ptr() not in places
    assert len(kernels_cpu._pool) == 3
    monkeypatch.setattr(kernels_cpu, "POOL_BYTES", 4 * like.nbytes)
    del part, third
    larger = torch.zeros(3000, 50)
    kept = [kernels_cpu._room(larger)]
    assert sorted(map(len, kernels_cpu._pool)) == [like.nbytes, larger.nbytes]  # what was free made room
    kept.append(kernels_cpu._room(larger))  # none is left: memory of its own, that is not kept
    assert len(kernels_cpu._pool) == 2 and kept[0].data_ptr() != kept[1].data_ptr()


def test_threads_share_memory_without_harm():
    made = case(1, (60, 100, 10))
    expected = gradients(made)

    def work(_):
        for _ in range(20):
            close(gradients(made), expected, 0.0)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(6) as pool:
            list(pool.map(work, range(6)))
    finally:
        sys.setswitchinterval(interval)
