"""The convex programs: three forms written apart must agree, and identities of the mathematics must hold."""

from dataclasses import fields, replace

import highspy
import numpy as np
import pytest
from small_programs import (
    COLUMNS,
    LOSS_NAMES,
    ROWS,
    every_case,
    lower_bound,
    make_program,
    random_feasible_dual,
    random_point,
    slow_objective,
    solve_cone,
)

from convexsnn.errors import ShapeError, UnsupportedError
from convexsnn.programs import Group, L1Program, Point, Program
from convexsnn.programs.mps import highs_model
from convexsnn.programs.point import feasible_share, relative_gap


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


# --- numbers that prove nothing ---------------------------------------------------------------------------


@pytest.mark.parametrize("objective", [np.nan, np.inf, -np.inf, 1.0])
@pytest.mark.parametrize("bound", [np.nan, np.inf, -np.inf, 1.0])
def test_a_gap_is_infinite_unless_both_numbers_are_finite(objective, bound):
    expected = 0.0 if objective == bound == 1.0 else np.inf
    assert relative_gap(objective, bound) == expected


@pytest.mark.parametrize(
    ("norm", "share"), [(np.nan, 0.0), (np.inf, 0.0), (-1.0, 0.0), (0.0, 1.0), (2.0, 1.0), (4.0, 0.5)]
)
def test_no_share_of_a_dual_point_is_feasible_where_its_norm_is_no_number(norm, share):
    assert feasible_share(2.0, norm) == share


@pytest.mark.parametrize("norm", [np.nan, np.inf])
@pytest.mark.parametrize("penalty", ["l1", "units"])
def test_a_dual_norm_that_is_no_number_gives_no_bound_above_that_of_zero(norm, penalty, monkeypatch):
    program = make_program("squared", penalty)
    point = Point(np.zeros(program.shape), program.dual_at_zero)
    assert program.certify(point, norm).lower_bound == 0.0
    monkeypatch.setattr(type(program.penalty), "dual_norm", lambda self, gradient: norm)
    found = program.certify(point)
    assert found.lower_bound == 0.0 and not found.dual.any() and found.gap == 1.0


def test_weights_that_overflow_have_no_gap():
    with np.errstate(all="ignore"):
        found = make_program("squared").certify(Point(np.full((COLUMNS, 1), 1e200)))
    assert found.gap == np.inf


@pytest.mark.parametrize("size", [1e-300, 1e-170, 1e-3, 1e170, 1e300])
def test_group_norms_neither_underflow_nor_overflow(size):
    norms = Group(np.array([0, 0, 1])).norms(size * np.array([[3.0], [4.0], [2.0]]))
    assert norms == pytest.approx([5 * size, 2 * size], rel=1e-14)


def test_a_dual_point_is_feasible_in_every_order_of_its_sums():
    """Where λ is far below the sizes that cancel in Dᵀu, rounding decides."""
    rng = np.random.default_rng(0)
    program = make_program("hinge", rows=400, columns=30, fraction=1e-9)
    dual = program.row_scale * program.targets * rng.random((400, 1))
    dense = program.dictionary.toarray().T.astype(float)
    u = program.certify(Point(np.zeros(program.shape), dual)).dual
    u = u if u.any() else dual
    for _ in range(50):
        order = rng.permutation(400)
        assert np.abs(dense[:, order] @ u[order]).max() <= program.regularization * (1 + 1e-12)


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
        (
            {"sample_weights": [1e308, 1e308, 1.0]},
            "sample_weights: numbers up to 1e.308 .*their sum overflows",
        ),
        ({"sample_weights": [5e-324, 1.0, 1.0]}, "scale: 0.333 times the sample weights is 0"),
        ({"sample_weights": [1e300, 1.0, 1.0]}, "targets: .* with weights up to 3.33e.299 are too large"),
        ({"targets": [1e160, 1.0, 1.0]}, "targets: numbers up to 1e.160 .* overflow"),
        ({"targets": np.ma.masked_equal([1.0, 2.0, 1.0], 2.0)}, r"targets: masked value at index \(1,\)"),
        ({"dictionary": np.ma.masked_equal(np.eye(3), 0)}, r"dictionary: masked value at index \(0, 1\)"),
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
