"""A penalty that the package does not know, through all that takes one, without a change to the package."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from scipy import sparse
from small_programs import LOSS_NAMES, make_program, places, random_point, solve_cone

import convexsnn
from convexsnn.bench.data import arrays_of
from convexsnn.errors import ConvexSNNError, ShapeError, UnsupportedError
from convexsnn.problem import Problem, load_problem
from convexsnn.programs import FORMS, L1, PENALTIES, L1Program, Penalty, Point, get_penalty, register_penalty
from convexsnn.programs.presolve import presolve
from convexsnn.programs.rows import ENTRIES, ConeRows, ConeStart, by_output
from convexsnn.programs.scaling import scale
from convexsnn.programs.shattered import shattered_optimum
from convexsnn.programs.starts import cone_start, qp_start
from convexsnn.report.forms import explained, form_text
from convexsnn.report.written import Written
from convexsnn.roads import train, verify_folder
from convexsnn.solvers import get_solver, solve


@dataclass(frozen=True, eq=False)
class Weighted(Penalty):
    """Σ costs_p |W_pc|: some patterns cost more than others."""

    costs: np.ndarray
    name = "weighted"
    entrywise = separable = True
    formula = "Σ costs_p |W_pc|"
    dual_formula = "max |(Dᵀu)_pc| / costs_p"
    meanings = {
        ("column", "height"): (ENTRIES, "upper bound of |W[p,c]|"),
        ("row", "W <= height"): (ENTRIES, "W[p,c] <= height[p,c]"),
        ("row", "-W <= height"): (ENTRIES, "-W[p,c] <= height[p,c]"),
        ("row", "price"): (ENTRIES, "|sum of u[i,c] over the rows i where p fires| <= λ costs[p]"),
    }

    @classmethod
    def for_columns(cls, columns):
        return cls(1.0 + 0.5 * (np.arange(columns) % 3))

    def check(self, columns):
        if np.shape(self.costs) != (columns,):
            raise ShapeError(f"costs: expected (P={columns},), got {np.shape(self.costs)}")

    def value(self, weights):
        return float(np.sum(self.costs[:, None] * np.abs(weights)))

    def dual_norm(self, gradient):
        return float((np.abs(gradient) / self.costs[:, None]).max(initial=0.0))

    def take(self, columns):
        return Weighted(self.costs[columns])

    def entry_costs(self, columns, outputs):
        return np.repeat(self.costs[:, None], outputs, axis=1)

    def cone_rows(self, columns, outputs):
        eye, zeros = sparse.eye_array(columns * outputs, format="csc"), np.zeros(columns * outputs)
        return [
            ConeRows("W <= height", "nonnegative", {"W": eye, "height": -eye}, zeros),
            ConeRows("-W <= height", "nonnegative", {"W": -eye, "height": -eye}, zeros),
        ], {"height": by_output(self.entry_costs(columns, outputs))}

    def cone_start(self, weights, price, regularization):
        limit = regularization * self.costs[:, None]
        duals = {"W <= height": limit + price, "-W <= height": limit - price}
        return ConeStart(
            {"height": by_output(np.abs(weights))},
            {row: by_output(np.maximum(dual, 0.0) / 2.0) for row, dual in duals.items()},
        )

    def cvxpy(self, W):
        import cvxpy as cp

        return cp.sum(cp.multiply(self.entry_costs(*W.shape), cp.abs(W)))


@pytest.fixture
def known():
    """Weighted, registered as long as a test runs."""
    register_penalty(Weighted)
    yield
    del PENALTIES[Weighted.name]


CASES = [(loss, outputs) for loss in LOSS_NAMES for outputs in (1, 3) if loss != "softmax" or outputs > 1]


def toy_program(loss="squared", outputs=1, **changes):
    return make_program(loss, Weighted.for_columns(7), outputs, True, **changes)


def toy_problem(**changes):
    rng = np.random.default_rng(5)
    parts = {
        "name": "toy",
        "layers": [{"bias": True}],
        "dictionary": {"count": 30},
        "training": {"loss": "squared_hinge", "penalty": "weighted", "regularization": 0.02},
    }
    return Problem.from_arrays(rng.normal(size=(12, 4, 2)), np.arange(12) % 2, **{**parts, **changes})


@pytest.mark.parametrize(("loss", "outputs"), CASES)
def test_all_forms_agree_under_every_loss(loss, outputs):
    program = toy_program(loss, outputs)
    found = solve(program, "clarabel", tolerance=1e-6)
    assert found.certificate.gap < 1e-6
    reference = program.to_cvxpy()
    reference.solve("CLARABEL")
    assert found.certificate.objective == pytest.approx(reference.value, rel=1e-5)
    assert solve_cone(program.to_cone())[2] == pytest.approx(reference.value, rel=1e-5)
    assert program.kind == L1Program(program.dictionary, program.targets, loss, 1.0).kind


def test_with_equal_costs_it_is_the_l1_norm():
    plain = make_program("squared", "l1", 2)
    toy = replace(plain, penalty=Weighted(np.ones(plain.shape[0])))
    wanted = solve(plain, tolerance=1e-9).certificate.objective
    assert solve(toy, "clarabel", tolerance=1e-8).certificate.objective == pytest.approx(wanted, rel=1e-7)
    assert toy.regularization_max == plain.regularization_max


def test_at_its_largest_lambda_the_answer_is_zero_and_just_below_it_is_not():
    program = toy_program(outputs=2)
    at = replace(program, regularization=program.regularization_max)
    assert not solve(at).point.weights.any()
    below = replace(program, regularization=0.99 * program.regularization_max)
    assert np.abs(solve(below, "clarabel").point.weights).max() > 1e-6


@pytest.mark.parametrize("name", ["working_set", "celer", "skglm", "sklearn"])
def test_solvers_with_kernels_of_their_own_refuse_it_by_name(name):
    with pytest.raises(UnsupportedError, match="weighted"):
        solve(toy_program(), get_solver(name))


@pytest.mark.parametrize("loss", LOSS_NAMES)
def test_auto_goes_on_to_a_solver_that_takes_it(loss):
    found = solve(toy_program(loss, 2))
    assert found.certificate.gap < 1e-6 and found.solver in ("highs", "clarabel", "scs")


def test_equal_columns_of_unequal_costs_are_not_merged():
    dictionary = np.repeat(np.random.default_rng(0).random((13, 4)) < 0.5, 2, axis=1)
    program = make_program(dictionary=dictionary, penalty=Weighted(np.array([2.0, 1.0] * 4)))
    assert presolve(program).program.shape[0] == 8
    weights = solve(program, "clarabel", tolerance=1e-9).point.weights
    assert np.abs(weights[::2]).max() < 1e-6 < np.abs(weights[1::2]).max()


def test_slopes_at_kinks_keep_to_the_costs():
    program = toy_program("hinge", 2)
    point = Point(solve(program, "highs", tolerance=1e-9).point.weights)
    assert program.certify(point).gap < 1e-6


@pytest.mark.parametrize("form", FORMS)
def test_every_row_and_column_has_a_meaning_and_is_written_out(form):
    program = toy_program(outputs=2)
    layout, written = program.layout(form), Written(program, form)
    for kind in ("row", "column"):
        for place in places(layout, kind):
            assert place.meaning and getattr(written, kind)(place.index)
    if form == "dual":
        limits = [float(written.row(p).rpartition("<= ")[2]) for p in range(7)]
        np.testing.assert_allclose(limits, program.regularization * program.penalty.costs, rtol=1e-5)


@pytest.mark.parametrize("loss", ["squared", "hinge", "squared_hinge"])
def test_starts_are_feasible_and_optimal_at_the_optimum(loss):
    program = toy_program(loss, 2)
    optimum = solve(program, "clarabel", tolerance=1e-8).point
    for start in (optimum, random_point(program, np.random.default_rng(0))):
        wanted = program.primal_objective(start)
        form, cone = program.to_qp(), program.to_cone()
        x, _ = qp_start(program, form, start)
        assert 0.5 * x @ (form.P @ x) + form.q @ x == pytest.approx(wanted, rel=1e-12)
        x, y, s = cone_start(program, cone, start)
        assert 0.5 * x @ (cone.P @ x) + cone.q @ x == pytest.approx(wanted, rel=1e-12)
        assert s.min() > -1e-12
        if start is optimum:
            np.testing.assert_allclose(cone.P @ x + cone.q + cone.A.T @ y, 0.0, atol=1e-6)


def test_a_problem_is_trained_saved_and_verified(known, tmp_path):
    result = train(toy_problem())
    assert result.certificate.gap < 1e-6 and result.status == "optimal_on_dictionary"
    result.save(tmp_path / "run")
    assert load_problem(tmp_path / "run" / "problem.toml").training.penalty == "weighted"
    for exact in (False, True):
        _, checked = verify_folder(tmp_path / "run", exact=exact)
        assert checked.objective == pytest.approx(result.certificate.objective, rel=1e-9)


def test_a_problem_is_inspected(known):
    lowered = convexsnn.lower(toy_problem())
    assert isinstance(lowered.program.penalty, Weighted)
    for form in FORMS:
        assert form_text(lowered, form)
    entry = lowered.program.layout("cone").columns[1]
    assert entry.name == "height" and "bound of |W" in explained(lowered, entry.start + 3, "column", "cone")
    assert "costs_p" in lowered.program.describe()


def test_columns_are_not_generated_under_it(known):
    problem = toy_problem(dictionary={"source": "column_generation", "count": 10})
    with pytest.raises(UnsupportedError, match="penalty weighted: no oracle prices new patterns"):
        train(problem)


def test_gradients_refuse_it_by_name(known):
    pytest.importorskip("torch")
    from convexsnn.gradient.training import train_gradient

    with pytest.raises(UnsupportedError, match="penalty weighted: has no torch form"):
        train_gradient(toy_problem())


def test_what_is_for_the_l1_norm_alone_refuses_it_by_name():
    program = toy_program()
    with pytest.raises(UnsupportedError, match="penalty weighted: all 0/1 patterns"):
        shattered_optimum("squared", program.targets, program.row_scale, 1.0, program.penalty)
    with pytest.raises(UnsupportedError, match="penalty weighted: the benchmark's files"):
        arrays_of(program)
    with pytest.raises(UnsupportedError, match="penalty weighted: is not defined for a network"):
        program.penalty.on_units(3)


# what a class leaves out is named

PARTS = ("name", "formula", "dual_formula", "value", "dual_norm", "take")


def without(part, **changes):
    """Return a class with every part of the penalty but one."""
    parts = {name: value for name, value in vars(Weighted).items() if not name.startswith("__")}
    del parts[part]
    incomplete = type("Incomplete", (Penalty,), {**parts, **changes})
    return dataclass(frozen=True, eq=False)(
        type("Incomplete", (incomplete,), {"__annotations__": {"costs": "Any"}})
    )


@pytest.mark.parametrize("part", [*PARTS, "entry_costs"])
def test_a_class_without_a_needed_part_is_refused_and_the_part_named(part):
    penalty = without(part)
    for use in (
        register_penalty,
        lambda cls: make_program(penalty=cls(np.ones(7)), regularization=1.0),
    ):
        with pytest.raises(
            ConvexSNNError, match=f"class Incomplete .*does? not define {part}|not define {part}"
        ):
            use(penalty)
    assert "weighted" not in PENALTIES


def test_every_needed_part_is_tried_above():
    assert set(Penalty.needed) == set(PARTS)


def test_a_problem_file_needs_for_columns():
    with pytest.raises(UnsupportedError, match="class Incomplete does not define for_columns, which"):
        register_penalty(without("for_columns"))
    assert make_program(penalty=without("for_columns")(np.ones(7))).kind == "qp"


@pytest.mark.parametrize(
    ("part", "use"),
    [
        ("entry_costs", lambda p: p.to_qp()),
        ("cone_rows", lambda p: p.to_cone()),
        ("cvxpy", lambda p: p.to_cvxpy()),
        ("meanings", lambda p: p.layout("cone")),
    ],
)
def test_what_a_class_may_leave_out_is_refused_by_name_when_it_is_asked_for(part, use):
    changes = {"entrywise": False} if part == "entry_costs" else {}
    program = make_program(penalty=without(part, **changes)(np.ones(7)))
    with pytest.raises(UnsupportedError, match="penalty weighted"):
        use(program)


@pytest.mark.parametrize("name", ["l1", "group", "weighted"])
def test_a_name_is_registered_once(known, name):
    with pytest.raises(ShapeError, match=f"penalty: '{name}' is registered already, as "):
        register_penalty(type("Second", (Weighted,), {"name": name}))


@pytest.mark.parametrize("wrong", [L1(), "l1", None, int])
def test_only_a_class_of_penalties_is_registered(wrong):
    with pytest.raises(ShapeError, match="penalty: expected a subclass of Penalty"):
        register_penalty(wrong)


@pytest.mark.parametrize("name", ["weighted", "L1", "", "l2"])
def test_an_unknown_penalty_is_refused_by_name(name):
    known = toy_problem(training={"regularization": 0.1, "loss": "squared"})
    entries = (
        lambda: get_penalty(name),
        lambda: toy_problem(training={"penalty": name, "regularization": 0.1}),
        lambda: replace(known, training=replace(known.training, penalty=name)),
    )
    for entry in entries:
        with pytest.raises(ConvexSNNError, match=f"penalty: expected one of l1, group, got '{name}'"):
            entry()
    with pytest.raises(ShapeError, match="penalty: expected a Penalty"):
        L1Program(np.ones((2, 1)), np.ones(2), "squared", 1.0, penalty=name)


# reductions


def test_presolve_and_scaling_lead_there_and_back():
    rows = np.repeat(np.random.default_rng(0).random((9, 7)) < 0.5, 2, axis=0)
    program = make_program("squared", "l1", 2, True, rows=18, dictionary=rows, targets=5.0 * np.ones((18, 2)))
    small = presolve(program)
    scaled = scale(small.program)
    point = solve(program, "clarabel", tolerance=1e-9).point
    inner = scaled.reduce(small.reduce(point))
    assert scaled.program.certify(inner).gap < 1e-6
    back = small.recover(scaled.recover(inner))
    assert program.certify(back).gap < 1e-6
    np.testing.assert_allclose(program.outputs(back.weights), program.outputs(point.weights), atol=1e-9)
