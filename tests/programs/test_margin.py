"""The point of a cell farthest from its walls: against one linear program over all rows at once."""

import numpy as np
import pytest
from scipy.optimize import linprog

from convexsnn.programs.margin import ROWS_AT_A_TIME, max_margin


def random_cell(rows, d, seed, box=5.0):
    """Return (g, h, fires, box, start): the cell that a random start in the box lies in."""
    rng = np.random.default_rng(seed)
    g, h = rng.standard_normal((rows, d)), 0.5 * rng.standard_normal(rows)
    start = rng.uniform(-box, box, d)
    return g, h, g @ start >= h, box, start


def margin_of(g, h, fires, weights):
    """Return the smallest slack of any row, row by row."""
    slacks = [(1 if f else -1) * (row @ weights - b) for row, b, f in zip(g, h, fires, strict=True)]
    return min(s for s, b in zip(slacks, h, strict=True) if np.isfinite(b))


def largest_margin(g, h, fires, box):
    """Solve max m over all finite rows at once."""
    real = np.isfinite(h)
    sign = np.where(fires[real], 1.0, -1.0)
    d = g.shape[1]
    found = linprog(
        np.r_[np.zeros(d), -1.0],
        np.column_stack([-sign[:, None] * g[real], np.ones(real.sum())]),
        -sign * h[real],
        bounds=[(-box, box)] * d + [(None, None)],
    )
    assert found.success
    return found.x[-1]


def assert_largest(g, h, fires, box, start):
    weights, margin = max_margin(g, h, fires, box, start)
    assert weights.shape == start.shape
    assert np.abs(weights).max() <= box
    assert margin == pytest.approx(margin_of(g, h, fires, weights), rel=1e-12, abs=1e-13)
    assert margin == pytest.approx(largest_margin(g, h, fires, box), rel=1e-6, abs=1e-7)
    assert margin >= margin_of(g, h, fires, start)
    return weights, margin


AROUND_A_BATCH = [ROWS_AT_A_TIME - 1, ROWS_AT_A_TIME, ROWS_AT_A_TIME + 1]


@pytest.mark.parametrize("rows", [1, 2, 10, *AROUND_A_BATCH, 300, 2000])
@pytest.mark.parametrize("d", [1, 2, 3, 7, 40])
def test_the_margin_is_the_largest_one(rows, d):
    for seed in range(3 if rows < 1000 else 1):
        assert_largest(*random_cell(rows, d, seed))


@pytest.mark.parametrize("d", [2, 40])
def test_more_weights_than_rows_come_at_a_time(d, monkeypatch):
    """With few rows at a time, most are met only because they are violated."""
    monkeypatch.setattr("convexsnn.programs.margin.ROWS_AT_A_TIME", 1)
    assert_largest(*random_cell(400, d, 0))


@pytest.mark.parametrize("box", [1e-3, 1.0, 1e4])
def test_the_box_binds_where_the_cell_is_open(box):
    """One row: the whole box is open, and the corner along its weights is farthest."""
    g, start = np.array([[1.0, -2.0, 0.5]]), np.array([0.1, 0.0, 0.0]) * box
    weights, margin = assert_largest(g, np.zeros(1), np.array([True]), box, start)
    np.testing.assert_allclose(weights, [box, -box, box], rtol=1e-9)
    assert margin == pytest.approx(3.5 * box, rel=1e-9)


@pytest.mark.parametrize("repeats", [2, 100])
def test_equal_and_opposite_rows(repeats):
    """The same unit at many samples: rows repeat, and both sides of one wall occur scaled."""
    g, h, _, box, start = random_cell(20, 4, 1)
    g, h = np.tile(g, (repeats, 1)), np.tile(h, repeats)
    g[::3] *= -1.0
    h[::3] *= -1.0
    assert_largest(g, h, g @ start >= h, box, start)


@pytest.mark.parametrize("value", [-np.inf, np.inf])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_rows_that_hold_for_all_weights_do_not_count(value, share):
    g, h, fires, box, start = random_cell(200, 5, 2)
    left_out = np.random.default_rng(3).random(200) < share
    h = np.where(left_out, value, h)
    fires = np.where(left_out, value < 0, fires)
    weights, margin = assert_largest(g, h, fires, box, start)
    without, alone = max_margin(g[~left_out], h[~left_out], fires[~left_out], box, start)
    assert margin == pytest.approx(alone, rel=1e-9)
    np.testing.assert_allclose(weights, without, atol=1e-9)


@pytest.mark.parametrize("rows", [0, 1, 60])
def test_without_a_wall_the_start_has_any_margin(rows):
    start = np.array([0.25, -1.0])
    h = np.where(np.arange(rows) % 2, np.inf, -np.inf)
    weights, margin = max_margin(np.ones((rows, 2)), h, h < 0, 2.0, start)
    assert np.array_equal(weights, start)
    assert margin == np.inf


@pytest.mark.parametrize("repeats", [1, ROWS_AT_A_TIME])
def test_the_best_start_is_returned_as_it_is(repeats):
    """0 <= w < 1 is widest at a half, which rounding cannot improve."""
    g, h = np.ones((2 * repeats, 1)), np.tile([0.0, 1.0], repeats)
    start = np.array([0.5])
    weights, margin = max_margin(g, h, g[:, 0] * 0.5 >= h, 3.0, start)
    assert weights is start
    assert margin == 0.5


def test_a_face_has_no_margin_and_keeps_its_start():
    """x and −x both fire only at w = 0, on the wall of both: the closed cell is that one point."""
    start = np.zeros(1)
    weights, margin = max_margin(np.array([[1.0], [-1.0]]), np.zeros(2), np.ones(2, bool), 5.0, start)
    assert weights is start
    assert margin == 0.0


def test_a_row_without_weights_limits_the_margin():
    """g = 0 and h = −0.1: fires whatever the weights, by 0.1 and no more."""
    g, h = np.array([[0.0, 0.0], [1.0, 0.0]]), np.array([-0.1, 0.0])
    _, margin = assert_largest(g, h, np.ones(2, bool), 5.0, np.array([1.0, 1.0]))
    assert margin == pytest.approx(0.1)


def test_rows_of_a_leaky_neuron():
    """The rows it is used for: leaky sums of binary inputs, thresholds that resets have shifted."""
    rng = np.random.default_rng(4)
    spikes = rng.random((50, 8, 6)) < 0.3
    g = np.zeros((50, 8, 6))
    for t in range(8):
        g[:, t] = spikes[:, t] + (0.9 * g[:, t - 1] if t else 0.0)
    h = 1.0 + 0.9 * rng.integers(0, 3, (50, 8))
    start = rng.uniform(-1.0, 1.0, 6)
    g, h = g.reshape(-1, 6), h.ravel()
    assert_largest(g, h, g @ start >= h, 5.0, start)


def test_what_is_given_stays_as_it_is():
    given = random_cell(100, 3, 5)
    kept = [np.copy(array) for array in given]
    max_margin(*given)
    assert all(np.array_equal(a, b) for a, b in zip(given, kept, strict=True))
