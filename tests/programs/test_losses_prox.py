"""Proximal operators of all losses: against a search of 60 digits, scipy and cvxpy, over all scales."""

import warnings
from decimal import Decimal, localcontext

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from small_programs import LOSS_NAMES, random_targets, row_loss

from convexsnn.blocks.outputs import OutputBlock
from convexsnn.programs import LOSSES, Point

SEPARABLE = [name for name in LOSS_NAMES if LOSSES[name].separable]
WEIGHTS = [1e-6, 1e-3, 1.0, 1e3, 1e6]
SIZES = [1e-3, 1.0, 30.0, 1e3]
every_loss = pytest.mark.parametrize("name", LOSS_NAMES)
every_weight = pytest.mark.parametrize("weight", WEIGHTS)
every_size = pytest.mark.parametrize("size", SIZES)


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings(), np.errstate(over="raise", divide="raise", invalid="raise"):
        warnings.simplefilter("error")
        yield


def drawn(name, size, rows=6, outputs=3, seed=0):
    rng = np.random.default_rng(seed)
    y = random_targets(name, rows, outputs, rng)
    v = size * rng.standard_normal((rows, outputs))
    v[0], v[1] = size * y[0], -size * y[1]  # all right and all wrong
    return v, y


def prox(name, v, y, weight):
    return LOSSES[name].prox(v, y, np.full((len(v), 1), weight))


def least_by_digits(name, v, y, weight):
    """Return the minimiser of one number's ℓ(z, y) + ½ τ (z − v)², to 60 digits, by halving."""
    v, y, tau = (Decimal(float(x)) for x in (v, y, weight))
    slopes = {
        "squared": lambda z: z - y,
        "hinge": lambda z: -y * (y * z < 1),
        "squared_hinge": lambda z: -y * max(0, 1 - y * z),
        "logistic": lambda z: -y / (1 + (y * z).exp()),
    }
    reach = abs(v) + abs(y) + 1 / tau + 1
    low, high = v - reach, v + reach
    for _ in range(180):
        middle = (low + high) / 2
        low, high = (low, middle) if slopes[name](middle) + tau * (middle - v) > 0 else (middle, high)
    return float(low)


@every_size
@every_weight
@pytest.mark.parametrize("name", SEPARABLE)
def test_separable_losses_to_rounding(name, weight, size):
    v, y = drawn(name, size, rows=4, outputs=1)
    found = prox(name, v, y, weight)[:, 0]
    with localcontext(prec=60):
        wanted = [least_by_digits(name, *pair, weight) for pair in zip(v[:, 0], y[:, 0], strict=True)]
    np.testing.assert_allclose(found, wanted, rtol=1e-13, atol=1e-13)


def better_by_digits(z, v, label, tau):
    """Return one of Newton's steps from z, and the largest slope at z, all Decimal."""
    sizes = [x.exp() for x in z]
    q = [x / sum(sizes) for x in sizes]
    slope = [tau * (x - c) + p - (j == label) for j, (x, c, p) in enumerate(zip(z, v, q, strict=True))]
    share = [p / (p + tau) for p in q]
    own = [g / (p + tau) for g, p in zip(slope, q, strict=True)]
    pull = sum(p * o for p, o in zip(q, own, strict=True)) / (
        1 - sum(p * s for p, s in zip(q, share, strict=True))
    )
    step = [o + s * pull for o, s in zip(own, share, strict=True)]
    return [x - d for x, d in zip(z, step, strict=True)], max(map(abs, slope))


@every_size
@every_weight
def test_softmax_to_rounding(weight, size):
    """Newton's method with 60 digits, from the answer itself, has no slope left and is still there."""
    v, y = drawn("softmax", size, rows=3)
    for z, center, label in zip(prox("softmax", v, y, weight), v, y.argmax(axis=1), strict=True):
        with localcontext(prec=60):
            exact, tau = [Decimal(x) for x in z.tolist()], Decimal(weight)
            for _ in range(4):
                exact, slope = better_by_digits(exact, [Decimal(x) for x in center.tolist()], label, tau)
            assert slope < Decimal("1e-40") * (1 + tau)
        np.testing.assert_allclose(z, [float(x) for x in exact], rtol=1e-13, atol=1e-13 * (1 + size))


@every_loss
@every_weight
def test_no_other_point_is_better(name, weight):
    v, y = drawn(name, 3.0)
    rng = np.random.default_rng(1)

    def value(z):
        losses = [row_loss(name, *row) for row in zip(z, y, strict=True)]
        return np.array(losses) + 0.5 * weight * np.sum((z - v) ** 2, axis=1)

    found = prox(name, v, y, weight)
    least = value(found)
    for step in 10.0 ** np.arange(-6, 2):
        assert (value(found + step * rng.standard_normal(v.shape)) >= least - 1e-12 * (1 + abs(least))).all()


@pytest.mark.parametrize("name", SEPARABLE)
@pytest.mark.parametrize("weight", [0.01, 1.0, 100.0])
def test_a_search_finds_the_same(name, weight):
    v, y = drawn(name, 2.0, rows=5, outputs=1)
    for found, center, target in zip(prox(name, v, y, weight)[:, 0], v[:, 0], y[:, 0], strict=True):
        wanted = minimize_scalar(
            lambda z, c=center, t=target: row_loss(name, [z], [t]) + 0.5 * weight * (z - c) ** 2,
            bounds=(center - 1 / weight - 4, center + 1 / weight + 4),
            method="bounded",
            options={"xatol": 1e-9},
        )
        assert found == pytest.approx(wanted.x, abs=1e-5)


@every_loss
def test_cvxpy_finds_the_same(name):
    v, y = drawn(name, 2.0, rows=8)
    block = OutputBlock("outputs", "", LOSSES[name], y, np.linspace(0.5, 2.0, 8), v, 0.7)
    problem = block.to_cvxpy()
    problem.solve(solver="CLARABEL", tol_gap_abs=1e-11, tol_gap_rel=1e-11, tol_feas=1e-11)
    np.testing.assert_allclose(block.minimize(), problem.var_dict["W"].value, atol=2e-5)
    assert block.objective(block.minimize()) == pytest.approx(problem.value, rel=1e-8)


@every_loss
def test_a_row_does_not_depend_on_the_others(name):
    v, y = drawn(name, 30.0, rows=20)
    weight = 10.0 ** np.random.default_rng(2).uniform(-6, 6, (20, 1))
    whole = LOSSES[name].prox(v, y, weight)
    each = [LOSSES[name].prox(v[[i]], y[[i]], weight[[i]])[0] for i in range(20)]
    np.testing.assert_array_equal(whole, each)


@every_loss
@every_weight
@every_size
def test_the_closed_form_of_a_block_has_no_gap(name, weight, size):
    v, y = drawn(name, size)
    block = OutputBlock("outputs", "", LOSSES[name], y, np.linspace(0.5, 2.0, len(v)), v, weight)
    q = block.minimize()
    certificate = block.certify(Point(q))
    assert certificate.gap <= 1e-10
    for other in (q + 0.1, np.zeros_like(q), v):  # what one point proves binds all others
        assert block.certify(Point(other)).lower_bound <= certificate.objective * (1 + 1e-12) + 1e-15
