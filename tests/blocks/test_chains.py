"""Chains of membranes against every spike pattern's own program, a grid, and descent from random starts."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import nnls

from convexsnn.blocks import chains
from convexsnn.blocks.chains import chain_membranes, checked_chains
from convexsnn.errors import ShapeError


def chain_objective(membranes, drive, spikes, leak, threshold, coupling, spike_penalty):
    """Return the objective at membranes, (N,) or (n, m)."""
    c, a, beta, theta, rho, sigma = checked_chains(drive, spikes, leak, threshold, coupling, spike_penalty)
    z = np.asarray(membranes, np.float64).reshape(c.shape)
    earlier = np.zeros_like(z)
    earlier[:, 1:] = z[:, :-1]
    off, mismatch = z - beta[:, None] * earlier - c, np.float64(a) - (z >= theta)
    value = rho / 2 * np.sum(off**2, axis=1) + sigma / 2 * np.sum(mismatch**2, axis=1)
    return value if np.ndim(drive) == 3 else value[:, 0]


def least_by_patterns(c, a, beta, theta, rho, sigma):
    """Return the least value of one chain: z = θ ± x with x >= 0, one nonnegative least squares a pattern."""
    steps = len(c)
    A = np.eye(steps) - beta * np.eye(steps, k=-1)
    best = np.inf
    for pattern in product((0.0, 1.0), repeat=steps):
        s = np.array(pattern)
        _, norm = nnls(A * (2 * s - 1), c - A @ np.full(steps, theta), maxiter=1000)
        best = min(best, rho / 2 * norm**2 + sigma / 2 * np.sum((a - s) ** 2))
    return best


def least_on_grid(c, a, beta, theta, rho, sigma, grid):
    """Return the least value of one chain over membranes on a grid."""
    value = rho / 2 * (grid - c[0]) ** 2 + sigma / 2 * (a[0] - (grid >= theta)) ** 2
    for t in range(1, len(c)):
        value = np.min(value + rho / 2 * (grid[:, None] - beta * grid - c[t]) ** 2, axis=1)
        value += sigma / 2 * (a[t] - (grid >= theta)) ** 2
    return value.min()


def descend(z, c, a, beta, theta, rho, sigma):
    """Update one membrane at a time, the better of its two sides, until nothing moves; all chains at once."""
    steps, below = c.shape[1], np.nextafter(theta, -np.inf)
    for _ in range(500):
        before = z.copy()
        for t in range(steps):
            pull = (beta * z[:, t - 1] if t else 0.0) + c[:, t]
            after = beta * (z[:, t + 1] - c[:, t + 1]) if t + 1 < steps else 0.0
            size = 1.0 + beta**2 if t + 1 < steps else 1.0
            least = (pull + after) / size
            on, off = np.maximum(least, theta), np.minimum(least, below)
            more = rho * size * ((on - least) ** 2 - (off - least) ** 2) + sigma * (1 - 2 * a[:, t])
            z[:, t] = np.where(more <= 0, on, off)
        if np.array_equal(z, before):
            break
    return z


def drawn(n, steps, seed=0, spread=1.0):
    """Return realistic drive and spikes: those of the drive with beta 0.9, a fifth flipped."""
    rng = np.random.default_rng(seed)
    c = 0.5 + spread * rng.standard_normal((n, steps))
    u, a = np.zeros(n), np.zeros((n, steps))
    for t in range(steps):
        u = 0.9 * u + c[:, t]
        a[:, t] = u >= 1
    return c, np.where(rng.random(a.shape) < 0.2, 1 - a, a)


def assert_exact(c, a, beta, theta, rho, sigma):
    z = chain_membranes(c, a, beta, theta, rho, sigma)
    found = chain_objective(z, c, a, beta, theta, rho, sigma)
    betas = np.broadcast_to(beta, len(c))
    wanted = [least_by_patterns(*row, theta, rho, sigma) for row in zip(c, a, betas, strict=True)]
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("ratio", [0.01, 0.3, 1.0, 5.0, 200.0])
@pytest.mark.parametrize("beta", [0.0, 0.3, 0.9, 1.0, 1.3, 4.0])
@pytest.mark.parametrize("theta", [1.0, 0.0, -0.7])
def test_no_pattern_is_better(beta, ratio, theta):
    for steps in (1, 2, 3, 5):
        c, a = drawn(6, steps, seed=steps)
        wild = np.random.default_rng(9).normal(0.5, 1.5, a.shape)
        assert_exact(c, np.where(np.arange(6)[:, None] < 3, a, wild), beta, theta, 1.0, ratio)


@pytest.mark.parametrize("steps", [8, 10])
def test_no_pattern_is_better_in_longer_chains(steps):
    c, a = drawn(4, steps, seed=3, spread=0.6)
    assert_exact(c, a, np.array([0.9, 0.95, 1.0, 1.1]), 1.0, 2.0, 0.5)


halves = st.integers(-4, 4).map(lambda k: k / 2)  # ties: rolled membranes that stand at the threshold


@settings(max_examples=150, deadline=None)
@given(
    rows=st.lists(st.tuples(halves, halves), min_size=1, max_size=5),
    beta=st.sampled_from([0.0, 0.5, 1.0, 2.0]),
    theta=st.sampled_from([0.0, 1.0]),
    sigma=st.sampled_from([0.25, 1.0, 8.0]),
)
def test_no_pattern_is_better_where_many_tie(rows, beta, theta, sigma):
    c, a = np.array(rows).T[:, None]
    assert_exact(c, a, beta, theta, 1.0, sigma)


@pytest.mark.parametrize("steps", [13, 20])
def test_no_grid_is_better(steps):
    c, a = drawn(5, steps, seed=5)
    grid = np.union1d(np.linspace(-8, 8, 801), [1.0, np.nextafter(1.0, 0)])
    z = chain_membranes(c, a, 0.8, 1.0, 1.0, 1.0)
    assert np.abs(z).max() < 8
    found = chain_objective(z, c, a, 0.8, 1.0, 1.0, 1.0)
    best = [least_on_grid(*row, 0.8, 1.0, 1.0, 1.0, grid) for row in zip(c, a, strict=True)]
    assert (found <= best).all()
    np.testing.assert_allclose(found, best, atol=steps * 0.02**2)  # half a cell of 0.02 a step


@pytest.mark.parametrize("beta", [0.0, 0.9, 1.2])
def test_descent_from_no_start_is_better(beta):
    c, a = drawn(400, 7, seed=6)
    given_ = (c, a, beta, 1.0, 1.0, 0.7)
    found = chain_objective(chain_membranes(*given_), *given_)
    stuck = np.zeros(len(c), bool)
    for seed in range(5):
        z = descend(np.random.default_rng(seed).normal(0.5, 2.0, c.shape), *given_)
        reached = chain_objective(z, *given_)
        assert (found <= reached + 1e-12).all()
        stuck |= reached > found + 1e-6
    assert stuck.any() == (beta > 0)  # only steps that decouple let descent arrive everywhere


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("theta", [0.7, 1.0, -0.3])
def test_the_membranes_are_worth_what_the_kernel_says(theta, dtype):
    """Two threads' worth of chains; a spike lost or won by rounding would show as σ/2 |1 − 2 a|."""
    c, a = drawn(10_000, 6)
    given_ = (c.astype(dtype), a, np.linspace(0, 1.2, len(c)), theta, 1.0, 1.0)
    z, above = (found[..., 0] for found in chains._minimize(chains.checked_chains(*given_)))
    claimed = above + 0.5 * np.minimum(a**2, (1 - a) ** 2).sum(axis=1)
    np.testing.assert_allclose(chain_objective(z, *given_), claimed, atol=200 * np.finfo(dtype).eps)
    edge = dtype(theta)
    at, below = (z == edge).mean(), (z == np.nextafter(edge, dtype(-np.inf))).mean()
    assert z.dtype == dtype and 0.02 < at < 0.3 and 0.02 < below < 0.3


def test_float32_is_as_good_as_its_rounding():
    c, a = drawn(10_000, 6, seed=8)
    single, rest = c.astype(np.float32), (a, 0.9, 1.0, 1.0, 1.0)
    found = chain_objective(chain_membranes(single, *rest), single, *rest)
    double = single.astype(float)
    exact = chain_objective(chain_membranes(double, *rest), double, *rest)
    np.testing.assert_allclose(found, exact, atol=1e-5)


def test_a_membrane_a_hair_below_the_threshold_stays_there_in_float32():
    drive = np.array([[1.0, -1e-9]], np.float32)
    z = chain_membranes(drive, [[1, 0]], 1.0, 1.0, 1.0, 1.0)
    assert z.tolist() == [[1.0, float(np.nextafter(np.float32(1), np.float32(0)))]]


def test_a_drive_that_makes_its_spikes_is_followed():
    c, _ = drawn(50, 9)
    c[:, 0] = 1.0
    rolled = np.zeros((50, 10))
    for t in range(9):
        rolled[:, t + 1] = 0.9 * rolled[:, t] + c[:, t]
    assert np.array_equal(chain_membranes(c, rolled[:, 1:] >= 1, 0.9, 1.0, 1.0, 1.0), rolled[:, 1:])


def test_layout_and_types_of_the_arguments_do_not_matter():
    c, a = drawn(30, 4)
    wanted = chain_membranes(c, a, 0.9, 1.0, 1.0, 1.0)
    for other in (np.asfortranarray(c), c.tolist(), np.repeat(c, 2, axis=0)[::2]):
        assert np.array_equal(chain_membranes(other, a > 0, np.full(30, 0.9), 1, 1, 1), wanted)


GOOD = {"drive": [[0.5, 1.0]], "spikes": [[0, 1]], "leak": 0.9, "threshold": 1.0}
GOOD |= {"coupling": 1, "spike_penalty": 1}
BAD = {
    "drive": ([1.0, 2.0], [[np.nan, 0.0]], [[1e308, 1e308]], np.zeros((0, 2))),
    "spikes": ([[0, 1, 0]], [["x", "y"]]),
    "leak": (-0.1, [0.9, 0.9], [np.nan], 1e200),
    "threshold": (np.inf, [1.0]),
    "coupling": (0.0, "1"),
    "spike_penalty": (-1.0, None),
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, bad in BAD.items() for value in bad])
def test_bad_arguments_are_named_in_one_line(name, value):
    with pytest.raises(ShapeError, match=f"^{name}: [^\n]*$"):
        chain_membranes(**{**GOOD, name: value})
