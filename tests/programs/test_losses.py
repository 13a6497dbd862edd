"""Losses against their own definitions: slopes, conjugates and dual domains, all found numerically."""

import numpy as np
import pytest
from scipy.optimize import minimize
from small_programs import LOSS_NAMES, random_targets, row_loss

from convexsnn.errors import ShapeError, UnsupportedError
from convexsnn.programs import LOSSES

# z, y and v of every loss, one output and three (softmax: two and three)
SHAPES = [(name, outputs) for name in LOSS_NAMES for outputs in ((2, 3) if name == "softmax" else (1, 3))]
ROWS = 40


@pytest.fixture(params=SHAPES, ids=lambda p: f"{p[0]}-C{p[1]}")
def drawn(request):
    """A loss with random outputs and targets; no output within 1e-3 of a kink."""
    name, outputs = request.param
    rng = np.random.default_rng(4)
    y = random_targets(name, ROWS, outputs, rng)
    z = 2.0 * rng.standard_normal((ROWS, outputs))
    z += 0.01 * (np.abs(1.0 - y * z) < 1e-3)
    return LOSSES[name], z, y


def random_domain(name, y, rng):
    """Return points of the dual domain by its definition in the table of losses.py, edges included."""
    if name == "softmax":
        q = rng.dirichlet(np.ones(y.shape[1]), len(y))
        q[0] = np.eye(y.shape[1])[0]
        return y - q
    p = rng.random(y.shape)
    p[0], p[1] = 0.0, 1.0
    return {"squared": 5.0 * p - 2.0, "squared_hinge": y * 4.0 * p}.get(name, y * p)


def test_the_value_is_the_formula(drawn):
    loss, z, y = drawn
    wanted = [row_loss(loss.name, *row) for row in zip(z, y, strict=True)]
    np.testing.assert_allclose(loss.value(z, y), wanted, rtol=1e-12)


def test_the_residual_is_minus_the_slope(drawn):
    loss, z, y = drawn
    step = 1e-6
    for c in range(z.shape[1]):
        move = step * np.eye(z.shape[1])[c]
        slope = (loss.value(z + move, y) - loss.value(z - move, y)) / (2 * step)
        np.testing.assert_allclose(loss.residual(z, y)[:, c], -slope, atol=1e-7)


def test_no_dual_value_exceeds_the_loss(drawn):
    """ℓ(z) >= −ℓ*(−v) − v·z for all z and v: Fenchel and Young at −v."""
    loss, z, y = drawn
    rng = np.random.default_rng(5)
    for _ in range(20):
        v, other = random_domain(loss.name, y, rng), z + rng.standard_normal(z.shape)
        assert (loss.value(other, y) >= loss.dual_value(v, y) - np.sum(v * other, axis=1) - 1e-12).all()


def test_the_residual_attains_the_dual_value(drawn):
    loss, z, y = drawn
    v = loss.residual(z, y)
    attained = loss.value(z, y) + np.sum(v * z, axis=1)
    np.testing.assert_allclose(loss.dual_value(v, y), attained, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", LOSS_NAMES)
def test_the_dual_value_is_the_least_of_loss_plus_linear(name):
    """−ℓ*(−v) = min over z of ℓ(z) + v·z, by a minimiser that needs no slopes."""
    rng = np.random.default_rng(6)
    y = random_targets(name, 6, 3, rng)
    loss, v = LOSSES[name], 0.5 * random_domain(name, y, rng)[2:]  # halved: the least is attained
    for k, row in enumerate(y[2:]):

        def total(z, k=k, row=row):
            return float(loss.value(z[None], row[None])[0] + v[k] @ z)

        found = minimize(total, row - 0.3, method="Powell", options={"xtol": 1e-9, "ftol": 1e-13})
        assert found.fun == pytest.approx(loss.dual_value(v[[k]], row[None])[0], abs=1e-6)


OUTSIDE = [
    ("hinge", [[1.0]], [[-1e-9]]),
    ("hinge", [[1.0]], [[1.0 + 1e-9]]),
    ("hinge", [[-1.0]], [[0.5]]),
    ("hinge", [[1.0, 1.0]], [[0.5, 2.0]]),
    ("squared_hinge", [[1.0]], [[-1e-9]]),
    ("squared_hinge", [[-1.0, 1.0]], [[-1.0, -1.0]]),
    ("logistic", [[1.0]], [[1.0 + 1e-9]]),
    ("logistic", [[-1.0]], [[0.5]]),
    ("logistic", [[1.0, -1.0]], [[0.5, 0.5]]),
    ("softmax", [[1.0, 0.0]], [[0.5, 0.5]]),
    ("softmax", [[1.0, 0.0]], [[0.5, -0.4]]),
    ("softmax", [[1.0, 0.0]], [[-0.1, 0.1]]),
    ("softmax", [[1.0, 0.0, 0.0]], [[1.1, -0.5, -0.6]]),
]


@pytest.mark.parametrize(("name", "y", "v"), OUTSIDE)
def test_outside_its_domain_the_dual_value_is_minus_infinity(name, y, v):
    assert LOSSES[name].dual_value(np.array(v), np.array(y)).tolist() == [-np.inf]


@pytest.mark.parametrize(("name", "y", "v"), OUTSIDE)
def test_one_bad_row_leaves_the_others_alone(name, y, v):
    y, v = np.repeat(y, 3, axis=0), np.repeat(v, 3, axis=0) * [[0.0], [1.0], [0.0]]
    assert np.isfinite(LOSSES[name].dual_value(v, y)).tolist() == [True, False, True]


def test_projection_lands_in_the_domain(drawn):
    loss, _, y = drawn
    rng = np.random.default_rng(7)
    for size in (1e-9, 0.1, 1.0, 100.0, 1e9):
        wild = size * rng.standard_normal(y.shape)
        assert np.isfinite(loss.dual_value(loss.project(wild, y), y)).all()


def test_projection_leaves_the_domain_alone(drawn):
    loss, _, y = drawn
    v = random_domain(loss.name, y, np.random.default_rng(8))
    np.testing.assert_allclose(loss.project(v, y), v, rtol=0, atol=1e-14)


@pytest.mark.parametrize("shrink", [0.0, 1e-9, 0.3, 1.0 - 1e-13])
def test_domains_are_star_shaped_about_zero(drawn, shrink):
    loss, _, y = drawn
    v = loss.project(random_domain(loss.name, y, np.random.default_rng(9)), y)
    assert np.isfinite(loss.dual_value(shrink * v, y)).all()


@pytest.mark.parametrize("size", [50.0, 1e4, 1e8])
def test_large_outputs_do_not_overflow(drawn, size):
    loss, z, y = drawn
    far = size * np.sign(z)
    assert np.isfinite(loss.value(far, y)).all()
    assert np.isfinite(loss.dual_value(loss.residual(far, y), y)).all()


@pytest.mark.parametrize("name", ["hinge", "squared_hinge", "logistic"])
@pytest.mark.parametrize("bad", [0.0, 2.0, 0.999])
def test_margin_losses_take_only_plus_and_minus_one(name, bad):
    with pytest.raises(ShapeError, match=f"targets: {bad:g}; loss {name} takes -1 and"):
        LOSSES[name].check(np.array([[1.0], [bad]]))


@pytest.mark.parametrize("y", [[[1], [1]], [[0.5, 0.5]], [[1, 1]], [[0, 0]], [[-1, 2]], [[-1, 1]]])
def test_softmax_takes_only_one_hot_rows(y):
    with pytest.raises(ShapeError, match="targets: loss softmax takes one-hot"):
        LOSSES["softmax"].check(np.array(y, float))


@pytest.mark.parametrize("name", ["logistic", "softmax"])
def test_no_quadratic_rows_where_the_loss_is_not_quadratic(name):
    with pytest.raises(UnsupportedError, match=f"loss {name}: .*use to_cone or to_cvxpy"):
        LOSSES[name].quadratic_rows(np.eye(2))


def test_losses_are_registered_under_their_names():
    assert {name: loss.name for name, loss in LOSSES.items()} == {name: name for name in LOSS_NAMES}
    assert [name for name, loss in LOSSES.items() if not loss.separable] == ["softmax"]
