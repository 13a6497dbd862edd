"""Box-constrained quadratics: against least squares with bounds, every active set, and one by one."""

from itertools import product

import numpy as np
import pytest
from scipy import sparse
from scipy.optimize import lsq_linear

from convexsnn.blocks import box_qp as module
from convexsnn.blocks.box_qp import box_qp
from convexsnn.blocks.quadratic import Quadratic


def drawn(rows, unknowns, seed=0, ridge=0.1, extra=2):
    """Return a factor F, the linear terms of targets that lie well outside the box, and Q = F'F + ridge."""
    rng = np.random.default_rng(seed)
    factor = rng.normal(size=(unknowns + extra, unknowns))
    targets = rng.normal(0.5, 2.0, (rows, unknowns + extra))
    return factor, targets, Quadratic(np.full(unknowns, ridge), factor=factor)


def objective(quadratic, linear, x):
    return np.sum((0.5 * quadratic.times(x) - linear) * x, axis=1)


def least_by_active_sets(table, linear, lower, upper):
    """Return the least value of one row: each entry at one bound, at the other, or free."""
    best = np.inf
    for places in product((lower, upper, None), repeat=len(linear)):
        free = np.array([place is None for place in places])
        x = np.array([0.0 if place is None else place for place in places])
        if free.any():
            rest = linear[free] - table[np.ix_(free, ~free)] @ x[~free]
            x[free] = np.linalg.solve(table[np.ix_(free, free)], rest)
        if (x >= lower - 1e-12).all() and (x <= upper + 1e-12).all():
            best = min(best, 0.5 * x @ table @ x - linear @ x)
    return best


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (-0.2, 0.3), (0.0, np.inf), (-np.inf, 0.5)])
@pytest.mark.parametrize("unknowns", [1, 3, 12])
def test_it_is_least_squares_with_bounds(bounds, unknowns):
    factor, targets, quadratic = drawn(5, unknowns)
    found, _ = box_qp(quadratic, targets @ factor, *bounds)
    tall = np.vstack([factor, np.sqrt(0.1) * np.eye(unknowns)])
    for x, p in zip(found, targets, strict=True):
        wanted = lsq_linear(tall, np.append(p, np.zeros(unknowns)), bounds, method="bvls", tol=1e-14).x
        np.testing.assert_allclose(x, wanted, atol=1e-8)


@pytest.mark.parametrize("ridge", [0.0, 0.1])
@pytest.mark.parametrize("unknowns", [1, 2, 4])
def test_no_active_set_is_better(unknowns, ridge):
    factor, targets, quadratic = drawn(6, unknowns, ridge=ridge)
    linear = targets @ factor
    found = objective(quadratic, linear, box_qp(quadratic, linear, 0.0, 1.0)[0])
    wanted = [least_by_active_sets(quadratic.dense(), b, 0.0, 1.0) for b in linear]
    np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=1e-10)


def test_bounds_by_entry_and_by_column():
    factor, targets, quadratic = drawn(4, 3)
    rng = np.random.default_rng(1)
    lower = rng.normal(size=(4, 3))
    upper = lower + rng.random((4, 3))
    found, _ = box_qp(quadratic, targets @ factor, lower, upper)
    assert (found >= lower).all() and (found <= upper).all()
    each = [box_qp(quadratic, (targets @ factor)[[i]], lower[i], upper[i])[0][0] for i in range(4)]
    np.testing.assert_array_equal(found, each)
    held, _ = box_qp(quadratic, targets @ factor, lower[0], lower[0])
    np.testing.assert_array_equal(held, np.tile(lower[0], (4, 1)))


@pytest.mark.parametrize("ridge", [0.0, 0.1])
def test_a_singular_matrix_has_the_least_value_all_the_same(ridge):
    factor, targets, quadratic = drawn(5, 6, ridge=ridge, extra=-3)
    linear = targets @ factor + np.random.default_rng(2).normal(size=(5, 6))
    found = box_qp(quadratic, linear, 0.0, 1.0)[0]
    slopes = quadratic.times(found) - linear
    np.testing.assert_allclose(found, np.clip(found - slopes, 0.0, 1.0), atol=1e-7)  # Karush, Kuhn and Tucker


def test_the_neighbours_of_a_row_do_not_matter(monkeypatch):
    """Rows are done at their own time and leave; what each comes to is that of the row alone."""
    factor, targets, quadratic = drawn(40, 5)
    targets[::3] *= 100.0
    linear = targets @ factor
    whole, taken = box_qp(quadratic, linear, 0.0, 1.0)
    alone = [box_qp(quadratic, linear[[i]], 0.0, 1.0) for i in range(40)]
    assert len({steps for _, steps in alone}) > 3
    assert taken == max(steps for _, steps in alone)
    np.testing.assert_allclose(whole, [x[0] for x, _ in alone], rtol=0, atol=1e-13)  # products round by shape
    monkeypatch.setattr(module, "WORTH", 1)
    np.testing.assert_array_equal(whole, box_qp(quadratic, linear, 0.0, 1.0)[0])


@pytest.mark.parametrize("tolerance", [1e-2, 1e-5, 1e-10])
def test_the_tolerance_is_the_last_projected_step(tolerance):
    factor, targets, quadratic = drawn(20, 6, ridge=0.01)
    linear = targets @ factor
    found, _ = box_qp(quadratic, linear, 0.0, 1.0, tolerance=tolerance)
    slopes = quadratic.times(found) - linear
    step = found - np.clip(found - slopes / quadratic.largest, 0.0, 1.0)
    assert np.abs(step).max() <= 2.0 * tolerance  # taken from a point that was one step ahead
    _, more = box_qp(quadratic, linear, 0.0, 1.0, tolerance=tolerance / 10)
    assert more > box_qp(quadratic, linear, 0.0, 1.0, tolerance=tolerance)[1]


def test_float32_stays_float32():
    factor, targets, quadratic = drawn(30, 5)
    small = Quadratic(quadratic.diagonal.astype(np.float32), factor=factor.astype(np.float32))
    linear = targets @ factor
    found, _ = box_qp(small, linear.astype(np.float32), 0.0, 1.0, tolerance=1e-6)
    assert found.dtype == np.float32
    assert (found >= 0).all() and (found <= 1).all()
    np.testing.assert_allclose(found, box_qp(quadratic, linear, 0.0, 1.0)[0], atol=2e-5)


def test_a_start_is_where_it_begins():
    factor, targets, quadratic = drawn(10, 5)
    linear = targets @ factor
    exact, cold = box_qp(quadratic, linear, 0.0, 1.0)
    again, warm = box_qp(quadratic, linear, 0.0, 1.0, exact)
    assert warm < cold / 4
    np.testing.assert_allclose(again, exact, atol=1e-9)
    outside, _ = box_qp(quadratic, linear, 0.0, 1.0, exact + 7.0, steps=0)
    np.testing.assert_array_equal(outside, np.ones((10, 5)))  # moved into the box


def test_steps_end_it_with_a_point_inside():
    factor, targets, quadratic = drawn(10, 5, ridge=1e-6)
    found, taken = box_qp(quadratic, targets @ factor, 0.0, 1.0, steps=3)
    assert taken == 3
    assert (found >= 0).all() and (found <= 1).all()


@pytest.mark.parametrize("as_sparse", [False, True])
@pytest.mark.parametrize("shape", [(2, 9), (9, 4)])
def test_the_parts_of_a_matrix_are_one_matrix(as_sparse, shape):
    """Gram matrix, factor and diagonal, formed or not: the same products and bounds of the eigenvalues."""
    rng = np.random.default_rng(5)
    factor, k = rng.normal(size=shape), shape[1]
    gram, diagonal = (lambda g: g.T @ g)(rng.normal(size=(3, k))), rng.random(k)
    for parts in ({"gram": gram}, {"factor": factor}, {"gram": gram, "factor": factor}, {}):
        table = np.diag(diagonal) + parts.get("gram", 0.0)
        if "factor" in parts:
            table = table + factor.T @ factor
            parts = {**parts, "factor": sparse.csr_array(factor) if as_sparse else factor}
        found, rows = Quadratic(diagonal, **parts), rng.normal(size=(4, k))
        np.testing.assert_allclose(found.dense(), table, atol=1e-12)
        np.testing.assert_allclose(found.times(rows), rows @ table, atol=1e-12)
        values = np.linalg.eigvalsh(table)
        assert values[-1] <= found.largest
        assert values[0] * (1 - 1e-6) - 1e-9 <= found.smallest <= values[0] * (1 + 1e-12)
