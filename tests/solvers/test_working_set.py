"""Our own solver and the growing choice of columns against solvers that know neither."""

import cvxpy as cp
import numpy as np
import pytest
from small_programs import make_program

from convexsnn.programs import L1Program, Point
from convexsnn.solvers import Status, get_solver, solve
from convexsnn.solvers.restricted import pays, solve_restricted
from convexsnn.solvers.working_set import WorkingSet
from convexsnn.solvers.working_set_active import quadratic_l1

SMOOTH = ("squared", "squared_hinge", "logistic")
TIGHT = dict.fromkeys(("tol_gap_abs", "tol_gap_rel", "tol_feas", "tol_ktratio"), 1e-11)

# the quadratic inside


def quadratic(gram, linear, regularization, w):
    return 0.5 * w @ gram @ w - linear @ w + regularization * np.abs(w).sum()


def reference(root, linear, regularization):
    """Return the least value of ½ ‖root w‖² − linear·w + λ ‖w‖₁."""
    w = cp.Variable(len(linear))
    program = cp.Problem(
        cp.Minimize(cp.sum_squares(root @ w) / 2 - linear @ w + regularization * cp.norm1(w))
    )
    program.solve(cp.CLARABEL, **TIGHT)
    return program.value


def binary(rng, rows, columns):
    return (rng.random((rows, columns)) < 0.4).astype(float)


ROOTS = {
    "tall": lambda rng: rng.standard_normal((30, 8)),
    "square": lambda rng: rng.standard_normal((10, 10)),
    "wide": lambda rng: rng.standard_normal((6, 20)),
    "duplicates": lambda rng: np.repeat(rng.standard_normal((12, 5)), 3, axis=1),
    "opposites": lambda rng: np.hstack([m := rng.standard_normal((12, 5)), -m]),
    "zero-column": lambda rng: np.hstack([rng.standard_normal((9, 4)), np.zeros((9, 2))]),
    "rank-one": lambda rng: np.outer(rng.standard_normal(7), rng.standard_normal(9)),
    "binary": lambda rng: binary(rng, 12, 40),
    "badly-scaled": lambda rng: rng.standard_normal((12, 9)) * 10.0 ** np.arange(-3, 6),
    "nearly-equal": lambda rng: (
        np.repeat(rng.standard_normal((15, 4)), 2, axis=1) + 1e-9 * rng.standard_normal((15, 8))
    ),
}


@pytest.mark.parametrize("share", [0.9, 0.3, 0.01])
@pytest.mark.parametrize("start", ["zero", "random", "wrong-signs"])
@pytest.mark.parametrize("name", ROOTS)
def test_the_quadratic_is_solved_whatever_its_gram_matrix(name, start, share):
    rng = np.random.default_rng(len(name))
    root = ROOTS[name](rng)
    gram, linear = root.T @ root, root.T @ rng.standard_normal(len(root))
    regularization = share * np.abs(linear).max()
    begin = {
        "zero": np.zeros(len(linear)),
        "random": rng.standard_normal(len(linear)),
        "wrong-signs": -np.sign(linear),
    }[start]
    kept = begin.copy()
    w = quadratic_l1(gram, linear, regularization, begin)
    assert np.array_equal(begin, kept)
    best, value = reference(root, linear, regularization), quadratic(gram, linear, regularization, w)
    assert value <= best + 1e-8 * max(abs(best), 1e-3)
    gradient = linear - gram @ w  # |gradient| <= λ, and = λ sign(w) where w is not 0
    assert np.abs(gradient).max() <= regularization * (1 + 1e-6)
    assert np.abs(gradient - regularization * np.sign(w))[w != 0].max(initial=0) <= 1e-6 * regularization


# the solver


def optimum(program):
    """Return the optimum of a program with smooth loss, stated again for cvxpy."""
    d, y = program.dictionary.toarray().astype(float), program.targets
    w = cp.Variable(program.shape)
    z = d @ w
    margins = cp.multiply(y, z)
    losses = {
        "squared": lambda: cp.square(z - y) / 2,
        "squared_hinge": lambda: cp.square(cp.pos(1 - margins)) / 2,
        "logistic": lambda: cp.logistic(-margins),
    }[program.loss.name]()
    scale = program.scale * program.sample_weights[:, None]
    fit = cp.sum(cp.multiply(np.broadcast_to(scale, y.shape), losses))
    stated = cp.Problem(cp.Minimize(fit + program.regularization * cp.sum(cp.abs(w))))
    stated.solve(cp.CLARABEL, **TIGHT)
    return stated.value


def duplicated(loss, **parts):
    program = make_program(loss, rows=25, columns=12, **parts)
    return L1Program(
        np.repeat(program.dictionary.toarray(), 3, axis=1),
        program.targets,
        loss,
        program.regularization,
        program.sample_weights,
    )


PROGRAMS = {
    "small": lambda loss: make_program(loss),
    "tall": lambda loss: make_program(loss, rows=120, columns=10, fraction=0.05),
    "wide": lambda loss: make_program(loss, rows=20, columns=150, fraction=0.05),
    "weighted": lambda loss: make_program(loss, outputs=3, weighted=True, rows=40, columns=30, fraction=0.1),
    "duplicates": lambda loss: duplicated(loss, fraction=0.1, weighted=True),
    "near-the-end": lambda loss: make_program(loss, rows=30, columns=40, fraction=0.999),
    "just-below": lambda loss: make_program(loss, rows=30, columns=40, fraction=1 - 1e-8),
    "little-penalty": lambda loss: make_program(loss, rows=40, columns=15, fraction=1e-3),
}


@pytest.mark.parametrize("loss", SMOOTH)
@pytest.mark.parametrize("name", PROGRAMS)
def test_the_working_set_finds_the_optimum(name, loss):
    program = PROGRAMS[name](loss)
    found, best = WorkingSet().solve(program, tolerance=1e-9), optimum(program)
    assert found.status is Status.OPTIMAL and found.certificate.gap <= 1e-9
    assert found.certificate.objective == pytest.approx(best, rel=1e-7)
    assert found.certificate.lower_bound <= best * (1 + 1e-8)
    again = program.certify(found.point)
    assert again.gap <= 1e-9 and program.dual_norm(again.dual) <= program.regularization * (1 + 1e-12)


@pytest.mark.parametrize("loss", SMOOTH)
def test_from_the_optimum_it_returns_at_once(loss):
    program = make_program(loss, rows=40, columns=60, outputs=2, fraction=0.1)
    first = WorkingSet().solve(program, tolerance=1e-8)
    assert first.iterations > 0 and not first.start_used
    again = WorkingSet().solve(program, tolerance=1e-8, start=Point(first.point.weights))
    assert again.iterations == 0 and again.start_used and again.status is Status.OPTIMAL
    assert np.array_equal(again.point.weights, first.point.weights)


@pytest.mark.parametrize("loss", SMOOTH)
def test_from_a_poor_start_it_finds_the_same(loss):
    program = make_program(loss, rows=40, columns=60, fraction=0.1)
    start = Point(3 * np.random.default_rng(0).standard_normal(program.shape))
    found = WorkingSet().solve(program, tolerance=1e-9, start=start)
    assert found.certificate.objective == pytest.approx(optimum(program), rel=1e-7)


@pytest.mark.parametrize("loss", SMOOTH)
@pytest.mark.parametrize("fraction", [1.0, 1.5])
def test_at_the_largest_penalty_and_above_the_answer_is_zero(loss, fraction):
    found = WorkingSet().solve(make_program(loss, fraction=fraction), tolerance=1e-9)
    assert found.status is Status.OPTIMAL and not found.point.weights.any()


@pytest.mark.parametrize("loss", SMOOTH)
def test_out_of_time_the_gap_is_still_certified(loss):
    program = make_program(loss, rows=60, columns=150, fraction=0.02)
    found = WorkingSet().solve(program, tolerance=1e-12, time_limit=1e-9)
    assert found.status is Status.LIMIT and found.solver_status == "time limit"
    best = WorkingSet().solve(program, tolerance=1e-8).certificate.objective
    assert found.certificate.lower_bound <= best * (1 + 1e-9)
    assert found.certificate.objective >= best * (1 - 1e-7)


# many columns, few rows


@pytest.mark.parametrize("fraction", [0.5, 0.1])
def test_on_a_choice_of_columns_the_optimum_is_that_of_all(fraction):
    program = make_program("hinge", rows=40, columns=5000, fraction=fraction)
    assert pays(program)
    whole = get_solver("highs").solve(program, tolerance=1e-9)  # no presolve, no choice
    found = solve(program, "highs", tolerance=1e-8)
    assert found.status is Status.OPTIMAL and found.certificate.gap <= 1e-8
    assert found.point.weights.shape == program.shape
    assert found.certificate.objective == pytest.approx(whole.certificate.objective, rel=1e-8)


def test_an_inexact_solver_leaves_a_gap_that_is_told():
    program = make_program("hinge", rows=40, columns=3000, fraction=0.3)
    best = solve(program, "highs").certificate.objective

    def poor(part, start):
        found = get_solver("highs").solve(part)
        point = Point(0.9 * found.point.weights, found.point.dual)
        return type(found)(point, Status.LIMIT, part.certify(point), "poor", "")

    found = solve_restricted(program, poor, 1e-9)
    assert found.certificate.gap > 1e-4 and found.certificate.lower_bound <= best * (1 + 1e-9)
