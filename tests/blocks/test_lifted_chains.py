"""Chains under the lifted spike constraint: against cvxpy, every side of the threshold, and random points."""

from itertools import product

import cvxpy as cp
import numpy as np
import pytest
from scipy.optimize import nnls

from convexsnn.blocks.lifted_chains import lifted_membranes
from convexsnn.blocks.ramp import lifted_cost
from convexsnn.errors import ShapeError

BETAS = [0.0, 0.5, 0.9, 1.0]


def drawn(n, steps, seed=0, spread=1.0):
    """Return drives, and spikes of the box [0, 1] of which half are 0 or 1."""
    rng = np.random.default_rng(seed)
    c, a = 0.5 + spread * rng.standard_normal((n, steps)), rng.random((n, steps))
    return c, np.where(rng.random(a.shape) < 0.5, np.round(a), a)


def residual(z, c, beta):
    before = np.concatenate([np.zeros((len(z), 1)), z[:, :-1]], axis=1)
    return z - np.reshape(beta, (-1, 1)) * before - c


def value(z, c, a, beta, theta, rho, sigma):
    """Return the objective of every chain, as the module's docstring writes it."""
    lifted = np.maximum(z - theta, 0.0) - a * (z - theta)
    return 0.5 * rho * np.sum(residual(z, c, beta) ** 2, axis=1) + sigma * lifted.sum(axis=1)


def least_by_sides(c, a, beta, theta, rho, sigma):
    """Return the least value of one chain: z = θ ± x, x >= 0, a nonnegative least squares for each choice.

    On a side φ is linear; with B = I − β (shift), ρ/2 ‖B z − c‖² + s'z is ρ/2 ‖B z − c + B⁻ᵀs / ρ‖² and a
    constant.
    """
    steps, best = len(c), np.inf
    B = np.eye(steps) - beta * np.eye(steps, k=-1)
    for pattern in product((0.0, 1.0), repeat=steps):
        above = np.array(pattern)
        slope = sigma * (above - a)
        moved = c - np.linalg.solve(B.T, slope) / rho
        x, _ = nnls(B * (2 * above - 1), moved - B @ np.full(steps, theta), maxiter=1000)
        z = theta + (2 * above - 1) * x
        best = min(best, float(value(z[None], c[None], a[None], beta, theta, rho, sigma)[0]))
    return best


def assert_least(c, a, beta, theta, rho, sigma):
    z = lifted_membranes(c, a, beta, theta, rho, sigma)
    found = value(z, c, a, beta, theta, rho, sigma)
    betas = np.broadcast_to(beta, len(c))
    wanted = [least_by_sides(*row, theta, rho, sigma) for row in zip(c, a, betas, strict=True)]
    scale = 1.0 + np.abs(wanted).max() + rho * np.square(c).sum(axis=1).max()
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-11 * scale)


@pytest.mark.parametrize("ratio", [0.01, 0.3, 1.0, 5.0, 200.0])
@pytest.mark.parametrize("beta", [*BETAS, 1.3])
@pytest.mark.parametrize("theta", [1.0, 0.0, -0.7])
def test_no_choice_of_sides_is_better(beta, theta, ratio):
    for steps in (1, 2, 4):
        c, a = drawn(5, steps, seed=steps)
        assert_least(c, a, beta, theta, 0.7, 0.7 * ratio)


def test_each_unit_has_its_own_leak():
    c, a = drawn(4, 3)
    assert_least(c, a, np.array(BETAS), 1.0, 1.0, 0.5)


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("spread", [0.5, 3.0])
def test_cvxpy_finds_the_same(beta, spread):
    c, a = drawn(6, 5, seed=3, spread=spread)
    Z = cp.Variable(c.shape)
    before = cp.hstack([np.zeros((6, 1)), Z[:, :-1]])
    near = 0.35 * cp.sum_squares(Z - beta * before - c)
    problem = cp.Problem(cp.Minimize(near + 0.9 * cp.sum(cp.pos(Z - 1.0) - cp.multiply(a, Z - 1.0))))
    problem.solve(solver="CLARABEL", tol_gap_abs=1e-11, tol_gap_rel=1e-11, tol_feas=1e-11)
    z = lifted_membranes(c, a, beta, 1.0, 0.7, 0.9)
    np.testing.assert_allclose(z, Z.value, atol=1e-5)
    assert value(z, c, a, beta, 1.0, 0.7, 0.9).sum() == pytest.approx(problem.value, rel=1e-8)


@pytest.mark.parametrize("beta", BETAS)
def test_no_other_point_is_better(beta):
    c, a = drawn(50, 8, seed=4)
    z, rng = lifted_membranes(c, a, beta, 1.0, 2.0, 1.0), np.random.default_rng(5)
    least = value(z, c, a, beta, 1.0, 2.0, 1.0)
    for step in 10.0 ** np.arange(-6, 2):
        moved = z + step * rng.standard_normal(z.shape)
        assert (value(moved, c, a, beta, 1.0, 2.0, 1.0) >= least - 1e-11).all()


def test_without_a_leak_every_step_is_alone():
    """Below θ the slope is −σ a, above it σ (1 − a), what fits neither is θ; by hand, ρ = 2, σ = 1."""
    c, a = np.array([[0.2, 0.95, 1.2, 1.5, 1.0]]), np.array([[0.5, 0.5, 0.5, 0.0, 1.0]])
    wanted = [[0.45, 1.0, 1.0, 1.0, 1.0]]
    np.testing.assert_allclose(lifted_membranes(c, a, 0.0, 1.0, 2.0, 1.0), wanted, atol=1e-14)


@pytest.mark.parametrize("beta", BETAS)
def test_a_chain_that_makes_its_own_spikes_is_left_alone(beta):
    c, z = drawn(30, 6, seed=6)[0], []
    for t in range(6):
        z.append((beta * z[-1] if z else 0.0) + c[:, t])
    z = np.stack(z, axis=1)
    a = (z >= 1.0).astype(float)
    np.testing.assert_allclose(lifted_membranes(c, a, beta, 1.0, 1.0, 3.0), z, atol=1e-13)
    assert not lifted_cost(z, a, 1.0).any()


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("spike", [0.0, 0.3, 1.0])
def test_ties_at_the_threshold(beta, spike):
    """Drives that lead to θ exactly, at every step: any p does, and the membranes stay there."""
    c = np.full((2, 4), 1.0)
    c[:, 1:] -= beta
    a = np.full((2, 4), spike)
    assert_least(c, a, beta, 1.0, 1.0, 0.4)
    z = lifted_membranes(c, a, beta, 1.0, 1.0, 0.4)
    np.testing.assert_allclose(z[:, 0], z[::-1, 0])
    if beta == 0.0:
        np.testing.assert_array_equal(z, np.ones((2, 4)))


def test_membranes_held_at_the_threshold_are_there_exactly():
    """Not a rounding error below it: the simulator reads spikes off them."""
    c, a = drawn(200, 6, seed=7)
    for dtype in (np.float64, np.float32):
        z = lifted_membranes(c.astype(dtype), a.astype(dtype), 0.9, 0.7, 1.0, 5.0)
        theta = dtype(0.7)
        close = np.abs(z - theta) < 100 * np.finfo(dtype).eps
        assert close.sum() > 100
        assert (z[close] == theta).mean() > 0.95


@pytest.mark.parametrize("beta", BETAS)
def test_float32_stays_float32(beta):
    c, a = drawn(40, 6, seed=8)
    found = lifted_membranes(c.astype(np.float32), a.astype(np.float32), beta, 1.0, 1.0, 0.5)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, lifted_membranes(c, a, beta, 1.0, 1.0, 0.5), atol=1e-5)


def test_samples_and_units_do_not_mix():
    rng = np.random.default_rng(9)
    c, a, leak = rng.normal(0.5, 1.0, (5, 4, 3)), rng.random((5, 4, 3)), np.array([0.0, 0.6, 1.0])
    z = lifted_membranes(c, a, leak, 1.0, 1.0, 0.5)
    assert z.shape == (5, 4, 3)
    for j in range(3):
        np.testing.assert_array_equal(
            z[:, :, j], lifted_membranes(c[:, :, j], a[:, :, j], leak[j], 1.0, 1.0, 0.5)
        )
    many = np.tile(c, (2000, 1, 1)), np.tile(a, (2000, 1, 1))  # on both cores
    np.testing.assert_array_equal(lifted_membranes(*many, leak, 1.0, 1.0, 0.5)[-5:], z)


def test_bad_arguments_are_named():
    c, a = drawn(2, 3)
    for name, bad in (("coupling", -1.0), ("spike_penalty", 0.0), ("leak", -0.1)):
        given = {"leak": 0.5, "threshold": 1.0, "coupling": 1.0, "spike_penalty": 1.0, name: bad}
        with pytest.raises(ShapeError, match=name):
            lifted_membranes(c, a, **given)
    with pytest.raises(ShapeError, match="spikes"):
        lifted_membranes(c, a[:1], 0.5, 1.0, 1.0, 1.0)
