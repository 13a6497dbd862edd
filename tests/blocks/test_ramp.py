"""Spikes held to a ramp: the residuals after a sweep, and a surrogate gradient by hand."""

import numpy as np
import pytest
from small_splittings import TWO_LAYERS, naive_ramp, problem

from convexsnn.admm.shards import Order, _move
from convexsnn.admm.splitting import AdmmSplitting
from convexsnn.blocks.ramp import lifted_cost, ramp
from convexsnn.errors import LoweringError


def swept(made):
    """Return the splitting of a problem after its outputs and layers moved once, from the top down."""
    split = AdmmSplitting().lower(made).split()
    order = Order((2, 1, 0), 1, False, (True,) * 3)
    before = [z.copy() for z in split.membranes]
    for k in order.blocks:
        _move(split, k)
    return split, before


@pytest.mark.parametrize("width", [0.3, 1.0, 4.0])
def test_stiff_spikes_carry_the_surrogate_gradient_of_a_rectangle(width):
    """For σ -> ∞: ρ ε_t = δ_t = σ'(z_t) e_t + β δ_{t+1}, the reset left out, e from the layer above."""
    layers = [{**spec, "width": 6} for spec in TWO_LAYERS]
    made = problem(
        layers,
        admm={
            "variant": "lifted",
            "ramp_width": width,
            "spike_penalty": 1e8,
            "block_tolerance": 1e-16,
            "decay": 0.5,
        },
    )
    split, membranes = swept(made)
    shared = split.splitting
    wanted = shared.output_penalty * split.output_residual()  # −∂L/∂outputs
    wanted = np.einsum("t,nc,mc->ntm", shared.kernel, wanted, split.weights.output)
    moved = 0
    for k in (1, 0):
        layer, z = shared.layers[k], membranes[k]
        slope = (np.abs(z - layer.threshold) < width / 2) / width
        delta = np.zeros_like(z)
        for t in reversed(range(z.shape[1])):
            later = layer.leak * delta[:, t + 1] if t + 1 < z.shape[1] else 0.0
            delta[:, t] = slope[:, t] * wanted[:, t] + later
        assert layer.coupling * split.residual(k) == pytest.approx(delta, rel=1e-3, abs=1e-5)
        wanted = delta @ split.weights.layers[k].weights
        moved += np.count_nonzero(delta)
    assert moved > 20


def test_the_cost_is_what_lies_between_a_point_and_the_ramp():
    rng = np.random.default_rng(0)
    for width in (0.2, 1.0, 3.0):
        for z, a in zip(rng.normal(1.0, 2.0, 40), rng.uniform(0, 1, 40), strict=True):
            start = 1.0 + (a - 0.5) * width  # where the ramp is a
            line = np.linspace(start, z, 20_001)
            values = np.array([naive_ramp(v, 1.0, width) for v in line]) - a
            area = np.sum(0.5 * (values[1:] + values[:-1]) * np.diff(line))
            assert lifted_cost(np.array([z]), np.array([a]), 1.0, width)[0] == pytest.approx(area, abs=1e-7)
            assert ramp(np.array([z]), 1.0, width)[0] == pytest.approx(naive_ramp(z, 1.0, width))


def test_a_narrow_ramp_is_the_spike():
    z = np.array([0.0, 1.0 - 1e-9, 1.0, 1.0 + 1e-9, 2.0])
    assert ramp(z, 1.0, 0.0).tolist() == [0, 0, 1, 1, 1]
    assert ramp(z, 1.0, 1e-12).tolist() == [0, 0, 0.5, 1, 1]
    spikes = np.array([0.3, 0.7, 0.0, 1.0, 0.4])
    wide, none = (lifted_cost(z, spikes, 1.0, width) for width in (1e-10, 0.0))
    assert wide == pytest.approx(none, abs=1e-9)


@pytest.mark.parametrize(
    "choices",
    [
        {"variant": "lifted", "membrane_update": "joint"},
        {"variant": "lifted", "membrane_update": "step"},
        {"variant": "restarted"},
    ],
)
def test_a_ramp_needs_linearized_membranes(choices):
    with pytest.raises(LoweringError, match=r'admm.ramp_width: 0.5 needs variant = "lifted" and membrane_up'):
        AdmmSplitting().lower(problem(admm={**choices, "ramp_width": 0.5}))
    assert AdmmSplitting().lower(problem(admm={**choices, "ramp_width": 0.0})).splitting.ramp_width == 0
