"""The convex programs: three forms written apart must agree, and every gap must be an honest one.

References here are hand-derived optima, scipy on dense matrices, and the identities of the mathematics.
"""

from dataclasses import fields, replace

import highspy
import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import logit
from small_programs import (
    CASE_NAMES,
    CASES,
    COLUMNS,
    LOSS_NAMES,
    ROWS,
    dual_norm,
    make_program,
    slow_objective,
    solve_cone,
)

from convexsnn.errors import ShapeError, UnsupportedError
from convexsnn.programs import LOSSES, Group, L1Program, Point, Program
from convexsnn.programs.mps import highs_model
from convexsnn.programs.prune import prune

every_case = pytest.mark.parametrize("case", CASES, ids=CASE_NAMES)


def solve_qp(form):
    """Solve a QPForm with HiGHS itself; return x, the row duals and the objective."""
    solver = highspy.Highs()
    solver.setOptionValue("output_flag", False)
    solver.setOptionValue("threads", 1)  # HiGHS keeps one scheduler a process: the adapter's needs one
    solver.passModel(highs_model(form))
    solver.run()
    assert solver.getModelStatus() == highspy.HighsModelStatus.kOptimal
    found = solver.getSolution()
    return np.array(found.col_value), np.array(found.row_dual), solver.getInfo().objective_function_value


def random_point(program, rng, size=1.0):
    return Point(size * rng.standard_normal(program.shape))


def random_feasible_dual(program, rng):
    """Return a u of the domain with ‖Dᵀu‖ <= λ, made without the package's own scaling."""
    z = 2.0 * rng.standard_normal(program.targets.shape)
    u = program.row_scale * program.loss.residual(z, program.targets) * rng.random()
    largest = dual_norm(program.penalty, program.dictionary.toarray().T.astype(float) @ u)
    return u * min(1.0, program.regularization / largest) * (1.0 - 1e-12)


def lower_bound(program, dual):
    """Return the dual objective of a solver's own dual, moved into the domain and scaled by hand."""
    u = program.row_scale * program.loss.project(dual / program.row_scale, program.targets)
    largest = dual_norm(program.penalty, program.dictionary.toarray().T.astype(float) @ u)
    return program.dual_objective(Point(None, u * min(1.0, program.regularization / largest)))


# --- the three forms ------------------------------------------------------------------------------------


@every_case
@pytest.mark.filterwarnings("ignore:Solution may be inaccurate")  # the certificate says how inaccurate
def test_every_form_has_the_same_optimum(case):
    program = make_program(*case)
    problem = program.to_cvxpy()
    problem.solve(solver="CLARABEL", tol_gap_abs=1e-9, tol_gap_rel=1e-9, tol_feas=1e-9)
    cone = program.to_cone()
    x, y, of_cone = solve_cone(cone)
    point = cone.recover(x, y)
    assert point.weights.shape == program.shape
    assert point.dual.shape == program.targets.shape
    assert of_cone == pytest.approx(problem.value, rel=1e-7)
    by_cvxpy = Point(problem.var_dict["W"].value, -problem.constraints[0].dual_value)
    for found in (point, by_cvxpy):
        assert program.primal_objective(found) == pytest.approx(of_cone, rel=1e-7)
        assert lower_bound(program, found.dual) == pytest.approx(of_cone, rel=1e-6)

    if program.penalty.name == "l1" and program.loss.name not in ("logistic", "softmax"):
        qp = program.to_qp()
        assert qp.linear == (program.loss.name == "hinge")
        x, rows, of_qp = solve_qp(qp)
        # c ½ y² is no part of q'x + ½ x'Px: the residual is a variable, so nothing is left out
        assert of_qp == pytest.approx(of_cone, rel=1e-5)
        assert program.primal_objective(qp.recover(x)) == pytest.approx(of_cone, rel=1e-5)
        assert lower_bound(program, qp.recover(x, rows).dual) == pytest.approx(of_cone, rel=1e-4)


@every_case
def test_the_objective_is_the_formula(case):
    program, rng = make_program(*case), np.random.default_rng(1)
    for size in (0.0, 0.3, 3.0):
        point = random_point(program, rng, size)
        wanted = slow_objective(program, point.weights)
        assert program.primal_objective(point) == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("loss", ["squared", "hinge", "squared_hinge"])
def test_the_qp_form_has_the_objective_of_the_program_anywhere(loss, outputs):
    program, rng = make_program(loss, outputs=outputs, weighted=True), np.random.default_rng(2)
    form, weights = program.to_qp(), random_point(program, rng).weights
    z, y = program.outputs(weights), program.targets
    slack = z - y if loss == "squared" else np.maximum(0.0, 1.0 - y * z)
    flat = weights.T.ravel()  # output by output, as the form says
    x = np.concatenate([np.maximum(flat, 0.0), np.maximum(-flat, 0.0), slack.T.ravel()])
    rows = form.A @ x
    assert (rows >= form.row_lower - 1e-12).all()
    assert (rows <= form.row_upper + 1e-12).all()
    assert ((x >= form.lower) & (x <= form.upper)).all()
    assert 0.5 * x @ (form.P @ x) + form.q @ x == pytest.approx(slow_objective(program, weights), rel=1e-12)
    np.testing.assert_allclose(form.recover(x).weights, weights, atol=1e-15)
    assert form.recover(x).dual is None


@every_case
def test_names_and_cones_cover_the_conic_form(case):
    form = make_program(*case).to_cone()
    assert sum(size for _, size in form.cones) == len(form.b) == form.A.shape[0]
    for slices, length in ((form.variables, form.A.shape[1]), (form.rows, form.A.shape[0])):
        covered = sorted(k for s in slices.values() for k in range(s.start, s.stop))
        assert covered == list(range(length))
    assert form.P.shape == (form.A.shape[1], form.A.shape[1])
    order = [kind for kind, _ in form.cones]
    assert order == sorted(order, key=("zero", "nonnegative", "second_order", "exponential").index)


@pytest.mark.parametrize(
    ("loss", "penalty", "told"),
    [
        ("logistic", "l1", "loss logistic"),
        ("softmax", "l1", "loss softmax"),
        ("hinge", "units", "penalty group"),
        ("squared", "blocks", "penalty group"),
        ("softmax", "units", "penalty group"),
    ],
)
def test_no_qp_form_where_there_is_none(loss, penalty, told, tmp_path):
    program = make_program(loss, penalty, outputs=2)
    with pytest.raises(UnsupportedError, match=f"{told}: .*use to_cone or to_cvxpy"):
        program.to_qp()
    with pytest.raises(UnsupportedError, match=told):
        program.to_mps(tmp_path / "program.mps")
    assert list(tmp_path.iterdir()) == []


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


# --- identities -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSS_NAMES)
def test_equal_weights_are_no_weights(loss):
    plain, rng = make_program(loss, outputs=2), np.random.default_rng(6)
    equal = make_program(loss, outputs=2, sample_weights=np.ones(ROWS))
    point = random_point(plain, rng)
    assert equal.primal_objective(point) == plain.primal_objective(point)
    assert equal.certify(point).lower_bound == plain.certify(point).lower_bound


@pytest.mark.parametrize("loss", LOSS_NAMES)
def test_a_weight_counts_as_so_many_rows(loss):
    program, rng = make_program(loss, outputs=2), np.random.default_rng(7)
    times = rng.integers(1, 4, ROWS)
    weighted = replace(program, sample_weights=times)
    repeated = replace(
        program,
        dictionary=np.repeat(program.dictionary.toarray(), times, axis=0),
        targets=np.repeat(program.targets, times, axis=0),
        sample_weights=np.ones(times.sum()),
    )
    assert repeated.scale == program.scale
    assert repeated.regularization_max == pytest.approx(weighted.regularization_max, rel=1e-13)
    for size in (0.0, 0.5):
        point = random_point(program, rng, size)
        one, other = weighted.certify(point), repeated.certify(point)
        assert other.objective == pytest.approx(one.objective, rel=1e-13)
        assert other.lower_bound == pytest.approx(one.lower_bound, rel=1e-9)


@every_case
@pytest.mark.parametrize("factor", [1e-9, 1e6])
def test_gaps_do_not_depend_on_the_unit_of_the_objective(case, factor):
    program, rng = make_program(*case), np.random.default_rng(8)
    other = replace(program, scale=factor * program.scale, regularization=factor * program.regularization)
    weights, dual = random_point(program, rng, 0.3).weights, random_feasible_dual(program, rng)
    mine, theirs = program.certify(Point(weights, dual)), other.certify(Point(weights, factor * dual))
    assert theirs.objective == pytest.approx(factor * mine.objective, rel=1e-12)
    assert theirs.gap == pytest.approx(mine.gap, rel=1e-9, abs=1e-12)


def test_the_scale_is_one_over_the_rows_unless_given():
    assert make_program().scale == pytest.approx(1 / ROWS)
    assert make_program(scale=0.5).scale == 0.5


def test_a_vector_of_targets_is_one_output():
    targets = np.random.default_rng(9).standard_normal(ROWS)
    flat, table = make_program(targets=targets), make_program(targets=targets[:, None])
    assert flat.shape == table.shape == (COLUMNS, 1)
    assert np.array_equal(flat.targets, table.targets)


@every_case
def test_columns_are_taken_with_their_penalty(case):
    program, rng = make_program(*case), np.random.default_rng(10)
    for columns in (np.array([5, 0, 3]), np.arange(COLUMNS) % 2 == 0, slice(2, None)):
        part = program.take_columns(columns)
        kept = np.arange(COLUMNS)[columns]
        weights = np.zeros(program.shape)
        weights[kept] = rng.standard_normal((len(kept), program.shape[1]))
        assert part.shape == (len(kept), program.shape[1])
        wanted = slow_objective(program, weights)
        assert slow_objective(part, weights[kept]) == pytest.approx(wanted, rel=1e-12)


@every_case
def test_outputs_stand_apart_only_where_nothing_couples_them(case):
    program, rng = make_program(*case), np.random.default_rng(11)
    parts = program.outputs_apart()
    coupled = program.loss.name == "softmax" or program.penalty.name != "l1"
    assert len(parts) == (1 if coupled else program.shape[1])
    if not coupled:
        weights = random_point(program, rng).weights
        split = [p.primal_objective(Point(weights[:, [c]])) for c, p in enumerate(parts)]
        assert sum(split) == pytest.approx(program.primal_objective(Point(weights)), rel=1e-12)


def test_a_program_does_not_follow_the_arrays_it_was_given():
    arrays = {
        "dictionary": np.eye(4),
        "targets": np.array([1.0, -1.0, 1.0, -1.0]),
        "sample_weights": np.ones(4),
    }
    program = L1Program(loss="hinge", regularization=0.01, **arrays)
    point = Point(np.full((4, 1), 0.5))
    before = program.primal_objective(point)
    for array in arrays.values():
        array[:] = 0.0
    assert program.primal_objective(point) == before
    for field in fields(program):
        with pytest.raises(AttributeError):
            setattr(program, field.name, None)


def test_every_program_promises_what_a_program_is():
    assert issubclass(L1Program, Program)
    with pytest.raises(TypeError, match="abstract"):
        Program()


# --- describe -------------------------------------------------------------------------------------------


@every_case
def test_the_description_has_this_instance_in_numbers(case):
    program = make_program(*case, scale=0.0123, regularization=0.00456)
    text = program.describe()
    wanted = [
        f"{ROWS} rows × {COLUMNS} columns",
        f"W: {COLUMNS} × {program.shape[1]}",
        "c = 0.0123",
        "λ = 0.00456",
        f"{0.00456 / program.regularization_max:.4g} λ_max",
        f"λ_max = {program.regularization_max:.6g}",
        program.loss.formula,
        program.loss.name,
        program.loss.dual_formula,
        program.penalty.formula,
        program.penalty.dual_formula,
        f"density {program.dictionary.toarray().mean():.3f}",
        f"a in [{program.sample_weights.min():g}, {program.sample_weights.max():g}]" if case[3] else "a = 1",
    ]
    assert [part for part in wanted if part not in text] == []


NOTHING_HELPS = {  # λ_max = 0: no column, no pattern in the columns, or nothing to explain
    "no columns": {"dictionary": np.zeros((ROWS, 0))},
    "columns of zeros": {"dictionary": np.zeros((ROWS, 3))},
    "targets of zeros": {"targets": np.zeros(ROWS)},
}


@pytest.mark.parametrize("changes", NOTHING_HELPS.values(), ids=NOTHING_HELPS)
def test_a_program_that_nothing_helps_can_be_described(changes):
    assert "λ_max = 0" in make_program(regularization=0.1, **changes).describe()


@pytest.mark.parametrize("name", NOTHING_HELPS)
def test_a_program_that_nothing_helps_is_certified_at_zero(name):
    program = make_program(regularization=0.1, **NOTHING_HELPS[name])
    assert program.regularization_max == 0.0
    found = program.certify(Point(np.zeros(program.shape)))
    assert found.gap == 0.0
    assert found.objective == pytest.approx(np.mean(program.targets**2) / 2)


# --- what is refused ------------------------------------------------------------------------------------

SOME = np.eye(3)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"dictionary": [[0, 2], [1, 0], [0, 1]]}, "dictionary: .*0 and 1"),
        ({"dictionary": [[np.nan, 1.0], [1, 0], [0, 1]]}, "dictionary: .*0 and 1"),
        ({"dictionary": [1, 0, 1]}, r"dictionary: expected \(R, P\)"),
        ({"dictionary": np.zeros((0, 3))}, "dictionary"),
        ({"targets": [1.0, -1.0]}, r"targets: expected \(R=3, C\), got \(2, 1\)"),
        ({"targets": np.ones((3, 1, 1))}, r"targets: expected \(R=3, C\)"),
        ({"targets": 1.0}, r"targets: expected \(R=3, C\)"),
        ({"targets": np.zeros((3, 0))}, "targets: empty"),
        ({"targets": [1.0, np.nan, 1.0]}, "targets: nan"),
        ({"targets": [1.0, np.inf, 1.0]}, "targets: inf"),
        ({"targets": ["a", "b", "c"]}, "targets: expected real numbers"),
        ({"targets": [1.0, 0.0, 1.0], "loss": "hinge"}, "targets: 0; loss hinge takes -1 and"),
        ({"targets": [1.0, 0.0, 1.0], "loss": "logistic"}, "targets: 0; loss logistic"),
        ({"targets": [1.0, 2.0, 1.0], "loss": "squared_hinge"}, "targets: 2; loss squared_hinge"),
        ({"targets": [0.0, 1.0, 2.0], "loss": "softmax"}, "targets: loss softmax takes one-hot"),
        ({"loss": "hing"}, "loss: expected one of squared, hinge, .*got 'hing'"),
        ({"loss": "Squared"}, "loss: expected one of"),
        ({"regularization": 0.0}, "regularization: expected a positive number, got 0"),
        ({"regularization": -1.0}, "regularization: expected a positive number, got -1"),
        ({"regularization": np.nan}, "regularization: expected a positive number, got nan"),
        ({"regularization": np.inf}, "regularization: expected a positive number, got inf"),
        ({"regularization": "1"}, "regularization: expected a positive number"),
        ({"scale": 0.0}, "scale: expected a positive number"),
        ({"sample_weights": [1.0, 1.0]}, r"sample_weights: expected \(R=3,\)"),
        ({"sample_weights": np.ones((3, 1))}, r"sample_weights: expected \(R=3,\)"),
        ({"sample_weights": [1.0, 0.0, 1.0]}, "sample_weights: 0; every weight must be positive"),
        ({"sample_weights": [1.0, -2.0, 1.0]}, "sample_weights: -2; every weight must be positive"),
        ({"sample_weights": [1.0, np.nan, 1.0]}, "sample_weights: nan"),
    ],
)
def test_bad_input_is_refused_by_name(changes, told):
    good = {"dictionary": SOME, "targets": np.ones(3), "loss": "squared", "regularization": 0.1}
    L1Program(**good)
    with pytest.raises(ShapeError, match=told):
        L1Program(**{**good, **changes})


@pytest.mark.parametrize(
    "index", [[0, 1], [0, 1, 2, 3], [0, -1, 1], [0, 2, 2], [0.0, 0.5, 1.0], [[0], [1], [2]]], ids=str
)
def test_a_group_index_must_fit_the_columns(index):
    with pytest.raises(ShapeError, match="penalty|group|index"):
        L1Program(SOME, np.ones(3), "squared", 0.1, penalty=Group(np.array(index)))


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros(COLUMNS),
        np.zeros((COLUMNS, 2)),
        np.zeros((COLUMNS + 1, 1)),
        np.full((COLUMNS, 1), np.nan),
        np.full((COLUMNS, 1), -np.inf),
    ],
)
def test_weights_that_are_none_of_the_program_are_refused(bad):
    program = make_program()
    for judged in (program.primal_objective, program.certify, program.feasible_dual):
        with pytest.raises(ShapeError, match="weights: "):
            judged(Point(bad))
