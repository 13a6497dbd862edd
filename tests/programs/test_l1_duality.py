"""Duality and optima: every gap must be an honest one.

References here are hand-derived optima, and scipy on dense matrices.
"""

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import logit
from small_programs import (
    ROWS,
    dual_norm,
    every_case,
    make_program,
    random_feasible_dual,
    random_point,
    slow_objective,
    solve_cone,
)

from convexsnn.errors import ShapeError
from convexsnn.programs import LOSSES, Group, Point
from convexsnn.programs.prune import prune

# --- duality and certificates ---------------------------------------------------------------------------


@every_case
def test_no_dual_exceeds_any_primal(case):
    program, rng = make_program(*case), np.random.default_rng(3)
    primal = [program.primal_objective(random_point(program, rng, size)) for size in (0.0, 0.1, 0.5, 2.0)]
    for _ in range(20):
        dual = random_feasible_dual(program, rng)
        assert program.dual_objective(Point(np.zeros(program.shape), dual)) <= min(primal) + 1e-12
        assert program.dual_norm(dual) <= program.regularization


@every_case
def test_a_certificate_of_any_point_is_honest(case):
    program, rng = make_program(*case), np.random.default_rng(4)
    optimum = solve_cone(program.to_cone())[2]
    shape = program.targets.shape
    duals = [
        None,
        np.zeros(shape),
        random_feasible_dual(program, rng),
        10.0 * rng.standard_normal(shape),
        1e-9 * rng.standard_normal(shape),
        np.full(shape, np.nan),
        np.full(shape, np.inf),
    ]
    for size in (0.0, 1e-12, 0.3, 100.0):
        for dual in duals:
            point = replace(random_point(program, rng, size), dual=dual)
            found = program.certify(point)
            assert found.gap >= -1e-12
            assert found.lower_bound <= optimum * (1.0 + 1e-8) <= found.objective * (1.0 + 2e-8)
            assert found.gap == (found.objective - found.lower_bound) / found.objective
            assert found.objective == program.primal_objective(point)
            # what proves the bound can be checked by anybody, with dense arithmetic
            assert program.dual_objective(replace(point, dual=found.dual)) == found.lower_bound
            u = program.dictionary.toarray().T.astype(float) @ found.dual
            assert dual_norm(program.penalty, u) <= program.regularization * (1.0 + 1e-12)


@every_case
def test_the_gap_closes_at_the_optimum(case):
    program = make_program(*case)
    form = program.to_cone()
    x, y, _ = solve_cone(form)
    point = form.recover(x, y)
    assert program.certify(point).gap < 1e-7
    # a hinge's slope at its kinks is free; only under ℓ1 does a linear program find the best one
    if program.loss.name != "hinge" or program.penalty.name == "l1":
        assert program.certify(replace(point, dual=None)).gap < 1e-5


@every_case
def test_a_feasible_dual_is_made_from_weights_alone(case):
    program, rng = make_program(*case), np.random.default_rng(5)
    for size in (0.0, 0.3, 30.0):
        point = random_point(program, rng, size)
        made = program.feasible_dual(point)
        assert made.weights is point.weights
        assert np.isfinite(program.dual_objective(made))
        assert program.dual_norm(made.dual) <= program.regularization * (1.0 + 1e-12)


def test_the_dual_objective_needs_a_dual():
    program = make_program()
    with pytest.raises(ShapeError, match="dual: the point has none; feasible_dual"):
        program.dual_objective(Point(np.zeros(program.shape)))


@pytest.mark.parametrize("shape", [(ROWS,), (ROWS, 2), (1, 1), (ROWS + 1, 1)], ids=str)
def test_a_dual_of_another_shape_is_refused(shape):
    program = make_program("hinge", fraction=0.9)
    point = Point(np.zeros(program.shape), np.full(shape, 1.0 / ROWS))
    with pytest.raises(ValueError):
        program.certify(point)


@every_case
@pytest.mark.parametrize("tolerance", [1e-6, 1e-3])
def test_pruning_zeroes_small_weights_within_the_gap(case, tolerance):
    program = make_program(*case)
    form = program.to_cone()
    x, y, _ = solve_cone(form, accuracy=1e-8)  # an interior point leaves no weight exactly at zero
    point = form.recover(x, y)
    pruned = prune(program, point, tolerance)
    kept = pruned.weights != 0.0
    assert np.array_equal(pruned.weights[kept], point.weights[kept])
    assert program.certify(pruned).gap <= max(program.certify(point).gap, 0.5 * tolerance)
    sizes = np.abs(point.weights)
    assert sizes[kept].min() > sizes[~kept].max(initial=0.0)  # the smallest go, and no others


def test_pruning_leaves_zero_alone():
    program = make_program()
    point = Point(np.zeros(program.shape))
    assert prune(program, point, 1e-6) is point


# --- λ_max ----------------------------------------------------------------------------------------------


@every_case
def test_from_lambda_max_on_zero_is_optimal(case):
    for fraction in (1.0, 1.01, 7.0):
        program = make_program(*case, fraction=fraction)
        assert program.certify(Point(np.zeros(program.shape))).gap <= 1e-12


@every_case
def test_just_below_lambda_max_zero_is_not_optimal(case):
    program = make_program(*case, fraction=0.97)
    at_zero = program.certify(Point(np.zeros(program.shape)))
    form = program.to_cone()
    point = form.recover(solve_cone(form)[0])
    assert program.primal_objective(point) < at_zero.objective - 1e-8
    assert np.abs(point.weights).max() > 1e-4


@every_case
def test_lambda_max_is_the_dual_norm_of_the_slope_at_zero(case):
    program, step = make_program(*case), 1e-6
    nothing, slope = np.zeros(program.shape), np.zeros(program.shape)
    for entry in np.ndindex(program.shape):
        move = nothing.copy()
        move[entry] = step
        slope[entry] = (slow_objective(program, move) - slow_objective(program, -move)) / (
            2 * step
        )  # ‖move‖ = ‖−move‖: the penalty drops out
    assert program.regularization_max == pytest.approx(dual_norm(program.penalty, slope), rel=1e-6)


# --- optima known by hand -------------------------------------------------------------------------------


def shrink(b, limit):
    return np.sign(b) * np.maximum(np.abs(b) - limit, 0.0)


DISJOINT = np.repeat(np.eye(4), 3, axis=0)  # four columns of three ones each, no row in two of them


def assert_optimal(program, weights):
    """The hand-derived weights have the smallest objective, as certificate and solver both say."""
    point = Point(np.asarray(weights, float))
    assert program.certify(point).gap == pytest.approx(0.0, abs=1e-9)
    optimum = solve_cone(program.to_cone())[2]
    assert slow_objective(program, point.weights) == pytest.approx(optimum, rel=1e-8)


@pytest.mark.parametrize("fraction", [0.05, 0.5, 0.95])
@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("weighted", [False, True])
def test_lasso_on_disjoint_columns_is_soft_thresholding(fraction, outputs, weighted):
    program = make_program(
        "squared", "l1", outputs, weighted, fraction=fraction, dictionary=DISJOINT, rows=12
    )
    b, curvature = DISJOINT.T @ (program.row_scale * program.targets), DISJOINT.T @ program.row_scale
    assert_optimal(program, shrink(b, program.regularization) / curvature)


@pytest.mark.parametrize("fraction", [0.05, 0.5, 0.95])
@pytest.mark.parametrize("index", [[0, 1, 2, 3], [0, 0, 1, 1], [1, 0, 0, 0], [0, 0, 0, 0]], ids=str)
def test_group_lasso_on_disjoint_columns_is_block_soft_thresholding(fraction, index):
    group = Group(np.array(index))
    program = make_program("squared", group, 2, dictionary=DISJOINT, rows=12, fraction=fraction)
    b, weights = DISJOINT.T @ program.targets / 12, np.zeros((4, 2))
    for g in set(index):
        own = np.array(index) == g
        kept = max(0.0, 1.0 - program.regularization / np.linalg.norm(b[own]))
        weights[own] = kept * b[own] / (3 / 12)  # curvature: three rows of twelve in each column
    assert_optimal(program, weights)


@pytest.mark.parametrize("loss", ["hinge", "squared_hinge", "logistic"])
@pytest.mark.parametrize("fraction", [0.1, 0.6, 0.9])
def test_one_constant_column_is_solved_by_hand(loss, fraction):
    """Nine labels +1 and three −1 under one column of ones: a function of one number."""
    targets = np.repeat([1.0, -1.0], [9, 3])
    program = make_program(loss, dictionary=np.ones((12, 1)), rows=12, targets=targets, fraction=fraction)
    limit = program.regularization
    # λ_max = (9 − 3) / 12, halved by σ(0)
    assert limit / fraction == pytest.approx(0.25 if loss == "logistic" else 0.5)
    weight = {
        "hinge": 1.0,  # slope −(9 − 3)/12 + λ until every +1 is beyond its margin
        "squared_hinge": 0.5 - limit,  # slope −9 (1 − w) + 3 (1 + w) = 12 w − 6, over 12, plus λ
        "logistic": logit(0.75 - limit),  # slope σ(w) − 9/12 + λ
    }[loss]
    assert_optimal(program, [[weight]])


@pytest.mark.parametrize("fraction", [0.1, 0.6, 0.9])
def test_softmax_of_two_classes_under_a_constant_column(fraction):
    """Only w₁ − w₂ = t counts and costs λ |t| however it is shared: slope σ(t) − 9/12 + λ."""
    targets = np.eye(2)[np.repeat([0, 1], [9, 3])]
    program = make_program(
        "softmax", outputs=2, dictionary=np.ones((12, 1)), rows=12, targets=targets, fraction=fraction
    )
    t = logit(0.75 - program.regularization)
    assert_optimal(program, [[0.25 * t, -0.75 * t]])


@pytest.mark.parametrize("loss", ["squared", "squared_hinge", "logistic"])
@pytest.mark.parametrize("weighted", [False, True])
def test_smooth_losses_agree_with_scipy_on_the_split_problem(loss, weighted):
    """W = w⁺ − w⁻ with w± >= 0 turns ℓ1 into a sum: a smooth problem with bounds."""
    program = make_program(loss, weighted=weighted, rows=20, columns=8, fraction=0.2)
    D, columns = program.dictionary.toarray().astype(float), program.shape[0]

    def split(x):
        w = (x[:columns] - x[columns:])[:, None]
        z = D @ w
        value = program.row_scale[:, 0] @ LOSSES[loss].value(z, program.targets)
        slope = -D.T @ (program.row_scale * LOSSES[loss].residual(z, program.targets))[:, 0]
        penalty = program.regularization
        return value + penalty * x.sum(), np.concatenate([slope + penalty, penalty - slope])

    found = minimize(
        split,
        np.zeros(2 * columns),
        jac=True,
        method="L-BFGS-B",
        bounds=[(0, None)] * (2 * columns),
        options={"ftol": 1e-15, "gtol": 1e-12, "maxiter": 10_000},
    )
    assert solve_cone(program.to_cone())[2] == pytest.approx(found.fun, rel=1e-9)
    weights = (found.x[:columns] - found.x[columns:])[:, None]
    assert program.certify(Point(weights)).gap < 1e-6
