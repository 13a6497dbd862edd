"""A point written out in a form's variables: at an optimum it satisfies the form's optimality conditions."""

import numpy as np
import pytest
from small_programs import every_case, make_program, random_point, solve_cone

from convexsnn.programs import Point
from convexsnn.programs.presolve import presolve
from convexsnn.programs.scaling import scale
from convexsnn.programs.starts import cone_start, qp_start


def optimum(program):
    """Return an accurate point; the hinge's own dual cannot be had from its weights under groups."""
    form = program.to_cone()
    return form.recover(*solve_cone(form)[:2])


def outside(kind, block):
    """Return by how much a vector misses a cone."""
    if kind == "zero":
        return np.abs(block).max(initial=0.0)
    if kind == "nonnegative":
        return -block.min(initial=0.0)
    if kind == "second_order":
        return np.linalg.norm(block[1:]) - block[0]
    return block[1] * np.exp(block[0] / block[1]) - block[2]


def outside_dual(kind, block):
    """Return by how much a vector misses the dual of a cone."""
    if kind == "zero":
        return 0.0
    if kind == "exponential":  # u < 0, −u exp(v / u) <= e w
        return -block[0] * np.exp(block[1] / block[0] - 1.0) - block[2]
    return outside(kind, block)


def blocks(form, vector):
    stops = np.cumsum([size for _, size in form.cones])
    return zip((kind for kind, _ in form.cones), np.split(vector, stops[:-1]), strict=True)


@every_case
def test_a_start_at_the_optimum_is_optimal_for_the_cone_form(case):
    program = make_program(*case)
    form = program.to_cone()
    x, y, s = cone_start(program, form, optimum(program))
    assert np.abs(form.P @ x + form.q + form.A.T @ y).max() < 1e-12
    assert abs(s @ y) < 1e-6
    assert max(outside(*block) for block in blocks(form, s)) < 1e-12
    assert max(outside_dual(*block) for block in blocks(form, y)) < 1e-12


@every_case
def test_a_start_anywhere_is_feasible_for_the_cone_form(case):
    program = make_program(*case)
    form = program.to_cone()
    start = random_point(program, np.random.default_rng(0))
    x, y, s = cone_start(program, form, start)
    assert max(outside(*block) for block in blocks(form, s)) < 1e-12
    assert max(outside_dual(*block) for block in blocks(form, y)) < 1e-12
    assert 0.5 * x @ (form.P @ x) + form.q @ x == pytest.approx(program.primal_objective(start), rel=1e-12)
    assert np.array_equal(form.recover(x).weights, start.weights)


@pytest.mark.parametrize("loss", ["squared", "hinge", "squared_hinge"])
@pytest.mark.parametrize("outputs", [1, 3])
def test_a_start_for_the_qp_form(loss, outputs):
    program = make_program(loss, outputs=outputs, weighted=True)
    form = program.to_qp()
    for start in (optimum(program), random_point(program, np.random.default_rng(0))):
        x, rows = qp_start(program, form, start)
        products = form.A @ x
        assert (products >= form.row_lower - 1e-12).all() and (products <= form.row_upper + 1e-12).all()
        assert (x >= form.lower).all()
        objective = 0.5 * x @ (form.P @ x) + form.q @ x
        assert objective == pytest.approx(program.primal_objective(start), rel=1e-12)
        np.testing.assert_allclose(form.recover(x, rows).dual, program.certify(start).dual, atol=1e-15)
    x, rows = qp_start(program, form, optimum(program))
    slope = form.P @ x + form.q - form.A.T @ rows  # of the bounds: at least 0, and 0 off them
    assert slope[np.isfinite(form.lower)].min() > -1e-9
    assert np.abs(slope * np.where(np.isfinite(form.lower), x, 1.0)).max() < 1e-7


def test_a_dual_of_the_callers_own_is_used():
    program = make_program("hinge", "units", 3)
    point = optimum(program)
    own, none = (cone_start(program, program.to_cone(), start) for start in (point, Point(point.weights)))
    assert abs(own[1] @ own[2]) < 1e-6 < abs(none[1] @ none[2])


@every_case
def test_a_point_keeps_its_gap_through_presolve_and_scaling(case):
    """Its dual goes along: rows that become one add up theirs."""
    loss, penalty, outputs, weighted = case
    rng = np.random.default_rng(2)
    dictionary = (rng.random((8, 7)) < 0.5)[rng.integers(8, size=24)]
    targets = np.eye(outputs)[np.zeros(24, int)] if loss == "softmax" else np.ones((24, outputs))
    program = make_program(loss, penalty, outputs, weighted, rows=24, dictionary=dictionary, targets=targets)
    point = optimum(program)
    reduced = presolve(program)
    small = reduced.reduce(point)
    scaled = scale(reduced.program)
    assert small.dual.shape == reduced.program.targets.shape < program.targets.shape
    for own, found in ((reduced.program, small), (scaled.program, scaled.reduce(small))):
        bound = own.dual_objective(Point(None, own.certify(found).dual))
        assert own.certify(found).gap < 1e-6
        u = own.row_scale * own.loss.project(found.dual / own.row_scale, own.targets)
        assert own.dual_objective(Point(None, u)) == pytest.approx(bound, rel=1e-6)
