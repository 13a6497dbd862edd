"""The dense dual simplex against HiGHS, and its multipliers against the definition of a proof."""

import numpy as np
import pytest
from scipy.optimize import linprog

from convexsnn.pricing.small_lp import (
    BELOW,
    OPTIMAL,
    RAY,
    TOLERANCE,
    largest_margin,
    maximise,
    refresh,
    row_of,
    solved,
    start_basis,
)


def reference(rows, bounds, kappa, box, cap):
    """Return m by HiGHS, −inf if there is no point."""
    count, d = rows.shape
    answer = linprog(
        np.r_[np.zeros(d), -1.0],
        A_ub=np.c_[-rows, kappa] if count else None,
        b_ub=-bounds if count else None,
        bounds=[(-box, box)] * d + [(None, cap)],
        method="highs",
    )
    assert answer.status in (0, 2)
    return -answer.fun if answer.status == 0 else -np.inf


def instance(rng, kind):
    d, count = int(rng.integers(1, 9)), int(rng.integers(0, 201))
    if "whole" in kind:
        rows, bounds = rng.integers(-2, 3, (count, d)).astype(float), rng.integers(-4, 2, count).astype(float)
    else:
        rows, bounds = rng.standard_normal((count, d)), rng.standard_normal(count) - 1.0
    if "cone" in kind:
        bounds[:] = 0.0
    kappa = rng.integers(0, 2, count).astype(float) if "faces" in kind else np.ones(count)
    return rows, bounds, kappa, float(rng.choice([0.5, 1.0, 5.0]))


KINDS = ["generic", "whole", "generic faces", "whole faces", "whole cone", "whole faces cone"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_optimum_is_that_of_highs(kind):
    rng = np.random.default_rng(KINDS.index(kind))
    infeasible = 0
    for k in range(60):
        rows, bounds, kappa, box = instance(rng, kind)
        cap = 1.0 if k % 2 else 1e3
        w, m = largest_margin(rows, bounds, kappa, box, cap=cap)
        assert m == pytest.approx(reference(rows, bounds, kappa, box, cap), rel=1e-8, abs=1e-8)
        assert np.abs(w).max() <= box
        if np.isfinite(m):
            assert (rows @ w - kappa * m - bounds).min(initial=0.0) > -1e-9
        infeasible += m == -np.inf
    assert (infeasible > 5) == (kind in ("generic faces", "whole faces"))


def test_a_cap_is_found_where_none_is_given():
    rng = np.random.default_rng(7)
    for _ in range(20):
        rows, bounds, kappa, box = instance(rng, "generic")
        if len(rows):
            assert largest_margin(rows, bounds, kappa, box)[1] == pytest.approx(
                reference(rows, bounds, kappa, box, None), abs=1e-8
            )
    assert largest_margin(np.ones((1, 2)), np.zeros(1), np.zeros(1), 1.0)[1] == 1.0  # no row limits m


def test_scales_of_rows_do_not_matter():
    rng = np.random.default_rng(8)
    for _ in range(20):
        rows, bounds, kappa, box = instance(rng, "generic")
        scale = 10.0 ** rng.integers(-6, 7, len(rows))
        one = largest_margin(rows, bounds, kappa, box, cap=10.0)[1]
        other = largest_margin(rows * scale[:, None], bounds * scale, kappa * scale, box, cap=10.0)[1]
        assert other == pytest.approx(one, rel=1e-8, abs=1e-8)


def test_the_start_does_not_matter():
    rng = np.random.default_rng(9)
    for _ in range(20):
        rows, bounds, kappa, box = instance(rng, "whole faces")
        start = rng.uniform(-box, box, rows.shape[1])
        one, other = (largest_margin(rows, bounds, kappa, box, s, cap=3.0)[1] for s in (None, start))
        assert other == pytest.approx(one, abs=1e-9)


class Program:
    """The arrays of one program, solved row by row."""

    def __init__(self, rows, bounds, kappa, box, cap):
        self.given = (rows, kappa, bounds, box, cap)
        d = self.d = rows.shape[1]
        self.basis, self.inverse = np.zeros(d + 1, np.int64), np.zeros((d + 1, d + 1))
        self.y, self.point = np.zeros(d + 1), np.zeros(d + 1)
        start_basis(d, self.basis, self.inverse, self.y, self.point, box, cap)

    def maximise(self, count, least=-np.inf):
        state = (self.basis, self.inverse, self.y, self.point)
        return maximise(count, *self.given, *state, least, TOLERANCE)

    def proof(self, entering=None):
        """Return Σ y (row) over the basis and Σ y b, with the entering row of a ray at y = 1."""
        numbers, y = list(self.basis), list(self.y)
        if entering is not None:
            numbers, y = [*numbers, entering], [*y, 1.0]
        total, bound, row = np.zeros(self.d + 1), 0.0, np.empty(self.d + 1)
        for number, weight in zip(numbers, y, strict=True):
            assert weight >= 0
            bound += weight * row_of(number, *self.given, row)
            total += weight * row
        return total, bound


def scaled(rng, kind):
    rows, bounds, kappa, box = instance(rng, kind)
    size = box * np.abs(rows).sum(axis=1) + np.abs(bounds) + 1e-9
    return rows / size[:, None], bounds / size, kappa / size, box


@pytest.mark.parametrize("kind", KINDS)
def test_multipliers_prove_the_result(kind):
    rng = np.random.default_rng(20 + KINDS.index(kind))
    met = set()
    for k in range(60):
        rows, bounds, kappa, box = scaled(rng, kind)
        program = Program(rows, bounds, kappa, box, 2.0)
        exact = reference(rows, bounds, kappa, box, 2.0)
        least = -np.inf if k % 3 else (exact if np.isfinite(exact) else 0.0) + 1e-3 * rng.standard_normal()
        state = program.maximise(len(rows), least)
        end = np.r_[np.zeros(program.d), -1.0]
        if state in (OPTIMAL, BELOW):
            total, bound = program.proof()
            assert total == pytest.approx(end, abs=1e-9)
            assert -bound == pytest.approx(program.point[-1], abs=1e-8) and -bound > exact - 1e-8
            assert -bound >= least - 1e-9 if state == OPTIMAL else -bound < least + 1e-9
        else:
            assert state > RAY // 2 and exact == -np.inf
            total, bound = program.proof(state - RAY)
            assert total == pytest.approx(0.0, abs=1e-9) and bound > 0
        met.add(min(state, 2))
    assert {OPTIMAL, BELOW} <= met


def test_a_program_goes_on_from_the_basis_of_fewer_rows():
    rng = np.random.default_rng(30)
    for kind in KINDS:
        rows, bounds, kappa, box = scaled(rng, kind)
        program = Program(rows, bounds, kappa, box, 2.0)
        last = np.inf
        for count in range(len(rows) + 1):
            state = program.maximise(count)
            if state != OPTIMAL:
                assert reference(rows[:count], bounds[:count], kappa[:count], box, 2.0) == -np.inf
                break
            assert program.point[-1] <= last + 1e-9
            last = program.point[-1]
        else:
            assert last == pytest.approx(reference(rows, bounds, kappa, box, 2.0), abs=1e-8)


def test_wrong_numbers_are_refreshed():
    rng = np.random.default_rng(31)
    rows, bounds, kappa, box = scaled(rng, "generic")
    program = Program(rows, bounds, kappa, box, 2.0)
    assert program.maximise(len(rows)) == OPTIMAL
    point = program.point.copy()
    program.inverse += 1e-7 * rng.standard_normal(program.inverse.shape)
    program.point += 1e-7
    assert program.maximise(len(rows)) == OPTIMAL
    assert program.point == pytest.approx(point, abs=1e-10)
    program.basis[:] = program.basis[0]
    state = (program.basis, program.inverse, program.y, program.point)
    assert not refresh(*state, *program.given)


def test_many_ties_end():
    """All rows pass through one vertex: every pivot but the last is degenerate."""
    rng = np.random.default_rng(32)
    for _ in range(30):
        d = int(rng.integers(2, 8))
        rows = rng.integers(-1, 2, (150, d)).astype(float)
        corner = np.ones(d)
        solution = solved(rows, rows @ corner, np.zeros(150), 1.0, cap=1.0)
        assert solution.state == OPTIMAL and solution.margin == 1.0
        assert (rows @ solution.weights >= rows @ corner - 1e-9).all()
        assert solved(rows, rows @ corner, np.ones(150), 1.0).margin == pytest.approx(0.0, abs=1e-9)
