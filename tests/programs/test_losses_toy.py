"""A loss that the package does not know, through all that takes one, without a change to the package."""

import json
from dataclasses import replace
from fractions import Fraction

import highspy
import numpy as np
import pytest
from scipy import sparse
from small_programs import make_penalty, make_program, places, random_point

import convexsnn
from convexsnn.blocks.outputs import OutputBlock
from convexsnn.errors import ConvexSNNError, ShapeError, UnsupportedError
from convexsnn.problem import Problem, load_problem
from convexsnn.problem.targets import target_code
from convexsnn.programs import FORMS, L1, LOSSES, Group, L1Program, Loss, Point, register_loss
from convexsnn.programs.margin_losses import MarginLoss
from convexsnn.programs.rows import OUTPUTS, ConeRows, ConeStart, Kinks, QuadraticRows, Slack, by_output
from convexsnn.programs.shattered import shattered_optimum
from convexsnn.programs.starts import cone_start, qp_start
from convexsnn.report.forms import explained, form_text
from convexsnn.report.written import Written
from convexsnn.roads import train, verify_folder
from convexsnn.solvers import get_solver, solve

UP, DOWN = 0.3, 0.7  # slopes of the loss below and above the target


class Pinball(Loss):
    """0.3 (y − z)₊ + 0.7 (z − y)₊: its least is the 0.3 quantile of the targets."""

    name = "pinball"
    kind = "lp"
    kinked = True
    formula = "0.3 (y − z)₊ + 0.7 (z − y)₊"
    dual_formula = "u y,  u / (c a) ∈ [−0.7, 0.3]"
    tasks = ("regression",)
    meanings = {
        ("row", "loss"): (OUTPUTS, "z[i,c] + short[i,c] - over[i,c] = y[i,c]"),
        ("row", "fit"): (OUTPUTS, "z[i,c] + short[i,c] - over[i,c] = y[i,c]"),
        ("row", "short >= 0"): (OUTPUTS, "short[i,c] >= 0"),
        ("row", "over >= 0"): (OUTPUTS, "over[i,c] >= 0"),
        ("column", "short"): (OUTPUTS, "how far z[i,c] is below y[i,c]"),
        ("column", "over"): (OUTPUTS, "how far z[i,c] is above y[i,c]"),
    }

    def value(self, z, y):
        return np.sum(np.maximum(UP * (y - z), DOWN * (z - y)), axis=1)

    def exact_value(self, z, y):  # its constants are floats, which a product with fractions would round to
        return np.sum(np.maximum(Fraction(UP) * (y - z), Fraction(DOWN) * (z - y)), axis=1)

    def residual(self, z, y):
        return np.where(z < y, UP, -DOWN)

    def kinks(self, z, y):
        return Kinks(np.abs(z - y) < 1e-7, np.full_like(y, -DOWN), np.full_like(y, UP))

    def dual_value(self, v, y):
        outside = ((v < -DOWN) | (v > UP)).any(axis=1)
        return np.where(outside, -np.inf, np.sum(v * y, axis=1))

    def project(self, v, y):
        return np.clip(v, -DOWN, UP)

    def prox(self, v, y, weight):
        return np.clip(y, v - DOWN / weight, v + UP / weight)

    def quadratic_rows(self, y):
        slacks = {"short": Slack(1.0, 0.0, UP), "over": Slack(-1.0, 0.0, DOWN)}
        return QuadraticRows(np.ones_like(y), y, y, slacks)

    def slack_values(self, z, y):
        return {"short": np.maximum(y - z, 0.0), "over": np.maximum(z - y, 0.0)}

    def cone_rows(self, y, cost):
        eye, zeros = sparse.eye_array(y.size, format="csc"), np.zeros(y.size)
        return [
            ConeRows("fit", "zero", {"z": eye, "short": eye, "over": -eye}, by_output(y)),
            ConeRows("short >= 0", "nonnegative", {"short": -eye}, zeros),
            ConeRows("over >= 0", "nonnegative", {"over": -eye}, zeros),
        ], {"short": (UP * cost, 0.0), "over": (DOWN * cost, 0.0)}

    def cone_start(self, z, u, y, cost):
        values = {name: by_output(value) for name, value in self.slack_values(z, y).items()}
        duals = {"fit": -u, "short >= 0": UP * cost - u, "over >= 0": DOWN * cost + u}
        return ConeStart(values, {name: by_output(dual) for name, dual in duals.items()})

    def cvxpy(self, Z, y, row_scale):
        import cvxpy as cp

        return cp.sum(cp.multiply(row_scale, cp.maximum(UP * (y - Z), DOWN * (Z - y))))


class Huber(Loss):
    """½ r² where |r| = |z − y| <= 1, |r| − ½ beyond: smooth, and without any form."""

    name = "huber"
    kind = "qp"
    formula = "½ r² if |r| <= 1, else |r| − ½, r = z − y"
    dual_formula = "u y − u² / (2 c a),  |u| <= c a"

    def value(self, z, y):
        r = np.abs(z - y)
        return np.sum(np.where(r <= 1, r**2 / 2, (2 * r - 1) / 2), axis=1)  # exact for fractions too

    def residual(self, z, y):
        return np.clip(y - z, -1.0, 1.0)

    def curvature(self, z, y):
        return (np.abs(z - y) <= 1.0).astype(float)

    def dual_value(self, v, y):
        outside = (np.abs(v) > 1.0).any(axis=1)
        return np.where(outside, -np.inf, np.sum(v * y - v**2 / 2, axis=1))

    def project(self, v, y):
        return np.clip(v, -1.0, 1.0)


@pytest.fixture
def known():
    """Pinball and Huber, registered as long as a test runs."""
    for loss in (Pinball(), Huber()):
        register_loss(loss)
    yield
    for loss in (Pinball, Huber):
        del LOSSES[loss.name]


def toy_program(outputs=1, penalty="l1", loss=None, **changes):
    targets = 2.0 * np.random.default_rng(3).standard_normal((13, outputs))
    return make_program(loss or Pinball(), penalty, outputs, True, targets=targets, **changes)


def toy_problem(loss="pinball", **changes):
    rng = np.random.default_rng(5)
    parts = {
        "name": "toy",
        "layers": [{"bias": True}],
        "dictionary": {"count": 30},
        "training": {"loss": loss, "regularization": 0.02},
    }
    return Problem.from_arrays(rng.normal(size=(12, 4, 2)), rng.normal(size=12), **{**parts, **changes})


@pytest.mark.parametrize("penalty", ["l1", "units", "blocks"])
@pytest.mark.parametrize("outputs", [1, 3])
def test_standard_forms_agree_with_cvxpy(penalty, outputs):
    program = toy_program(outputs, penalty)
    by_cone = solve(program, "clarabel", tolerance=1e-7)
    assert by_cone.certificate.gap < 1e-7 and by_cone.status.value == "optimal"
    reference = program.to_cvxpy()
    reference.solve("CLARABEL")
    assert by_cone.certificate.objective == pytest.approx(reference.value, rel=1e-6)
    assert program.kind == ("lp" if penalty == "l1" else "cone")


@pytest.mark.parametrize("solver", ["highs", "clarabel", "scs", "cvxpy"])
def test_solvers_of_standard_forms_take_it(solver):
    found = solve(toy_program(2), solver, tolerance=1e-4)
    assert found.certificate.gap < 1e-4
    assert found.certificate.objective == pytest.approx(
        solve(toy_program(2), "clarabel").certificate.objective, rel=1e-3
    )


@pytest.mark.parametrize("name", ["working_set", "celer", "skglm", "sklearn"])
def test_solvers_with_kernels_of_their_own_refuse_it_by_name(name):
    with pytest.raises(UnsupportedError, match="pinball"):
        solve(toy_program(), get_solver(name))


def test_auto_goes_on_to_a_solver_that_takes_it():
    found = solve(toy_program(2))
    assert found.certificate.gap < 1e-6 and found.solver in ("highs", "clarabel")


def test_a_point_is_certified_without_a_dual_of_a_solver():
    """The slopes at the kinks come out of the weights alone."""
    program = toy_program(2)
    point = Point(solve(program, "highs", tolerance=1e-8).point.weights)
    assert program.certify(point).gap < 1e-6
    assert program.certify(random_point(program, np.random.default_rng(0))).gap > 0.1


def test_a_smooth_loss_without_forms_is_solved_by_our_own_solver():
    program = toy_program(2, loss=Huber())
    assert solve(program, "working_set", tolerance=1e-8).certificate.gap < 1e-8
    for form, method in (("QP", "to_qp"), ("conic", "to_cone"), ("cvxpy", "to_cvxpy")):
        with pytest.raises(UnsupportedError, match=f"loss huber: .*no {form} form"):
            getattr(program, method)()
    assert program.forms == () and toy_program(2).forms == ("qp", "cone", "cvxpy")
    for solver in ("clarabel", "scs", "cvxpy", "highs"):
        with pytest.raises(UnsupportedError, match="huber"):
            solve(program, solver)


def test_the_mathematics_is_described():
    text = toy_program().describe()
    assert Pinball.formula in text and Pinball.dual_formula in text and "(pinball)" in text


def test_mps_holds_the_same_optimum(tmp_path):
    program = toy_program(2)
    program.to_mps(tmp_path / "toy.mps")
    solver = highspy.Highs()
    solver.setOptionValue("output_flag", False)
    solver.setOptionValue("threads", 1)
    solver.readModel(str(tmp_path / "toy.mps"))
    solver.run()
    wanted = solve(program, "clarabel", tolerance=1e-8).certificate.objective
    assert solver.getInfo().objective_function_value == pytest.approx(wanted, rel=1e-7)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("outputs", [1, 2])
def test_every_row_and_column_has_a_meaning(form, outputs):
    program = toy_program(outputs)
    layout, written = program.layout(form), Written(program, form)
    for kind in ("row", "column"):
        for place in places(layout, kind):
            assert place.meaning and getattr(written, kind)(place.index)
    assert any("short" in span.name for span in layout.columns) == (form in ("qp", "cone"))


@pytest.mark.parametrize("optimal", [True, False])
def test_starts_are_feasible_and_optimal_at_the_optimum(optimal):
    program = toy_program(2)
    start = random_point(program, np.random.default_rng(0))
    if optimal:
        start = solve(program, "highs", tolerance=1e-9).point
    form = program.to_qp()
    x, _ = qp_start(program, form, start)
    np.testing.assert_allclose(form.A @ x, form.row_lower, atol=1e-12)
    assert (x >= form.lower).all()
    assert form.q @ x == pytest.approx(program.primal_objective(start), rel=1e-12)
    cone = program.to_cone()
    x, y, s = cone_start(program, cone, start)
    free = sum(size for kind, size in cone.cones if kind == "zero")
    np.testing.assert_allclose(s[:free], 0.0, atol=1e-12)
    assert s[free:].min() > -1e-12 and y[free:].min() > -1e-12
    assert cone.q @ x == pytest.approx(program.primal_objective(start), rel=1e-12)
    if optimal:
        np.testing.assert_allclose(cone.q + cone.A.T @ y, 0.0, atol=1e-9)
        assert abs(y @ s) < 1e-6


def test_the_block_of_admm_takes_it():
    rng = np.random.default_rng(0)
    y, v = rng.normal(size=(2, 8, 2))
    block = OutputBlock("outputs", "", Pinball(), y, np.linspace(0.5, 2.0, 8), v, 0.7)
    assert block.certify(Point(block.minimize())).gap < 1e-9
    assert block.kind == "qp"
    for solver in ("clarabel", "osqp", "cvxpy"):
        objective = solve(block, solver, tolerance=1e-5).certificate.objective
        assert objective == pytest.approx(block.objective(block.minimize()), rel=1e-4)


@pytest.mark.parametrize("loss", ["pinball", "huber"])
def test_a_problem_is_trained_saved_and_verified(known, loss, tmp_path):
    result = train(toy_problem(loss))
    assert result.certificate.gap < 1e-6 and result.status == "optimal_on_dictionary"
    result.save(tmp_path / "run")
    assert load_problem(tmp_path / "run" / "problem.toml").training.loss == loss
    for exact in (False, True):
        claim, checked = verify_folder(tmp_path / "run", exact=exact)
        assert checked.objective == pytest.approx(result.certificate.objective, rel=1e-9)
        assert claim.objective == pytest.approx(checked.objective, rel=1e-9)
    stated = json.loads((tmp_path / "run" / "certificate.json").read_text(encoding="utf-8"))
    assert stated["gap"] < 1e-6


def test_a_problem_is_inspected(known):
    lowered = convexsnn.lower(toy_problem())
    for form in FORMS:
        assert "pinball" in form_text(lowered, form) or "u" in form_text(lowered, form)
    assert "above y" in explained(lowered, lowered.program.layout("qp").columns[-1].start, "column", "qp")
    assert lowered.explain(0, "row", "qp").sample.sample == 0


def test_its_task_is_the_first_that_it_takes(known):
    assert toy_problem().training.task == "regression"
    with pytest.raises(ShapeError, match="'pinball' is for regression; classification takes squared, hinge"):
        toy_problem(training={"loss": "pinball", "task": "classification", "regularization": 0.1})


def test_gradients_refuse_it_by_name(known):
    pytest.importorskip("torch")
    from convexsnn.gradient.training import train_gradient

    with pytest.raises(UnsupportedError, match="loss pinball: has no torch form"):
        train_gradient(toy_problem())


def test_column_generation_goes_on_without_a_closed_form(known):
    """For four independent samples the squared loss has a closed form, this one has not."""
    rng = np.random.default_rng(1)
    given = {"layers": [{"neuron": "threshold", "bias": True}], "dictionary": {"source": "column_generation"}}
    parts = {**given, "name": "toy", "training": {"loss": "pinball", "regularization": 0.05}}
    problem = Problem.from_arrays(rng.normal(size=(4, 1, 4)), rng.normal(size=4), **parts)
    result = train(problem)
    assert result.scope == "all_patterns" and result.certificate.gap < 1e-6
    assert result.solution.solver != "closed form"


# what a class leaves out is named

PARTS = ("name", "formula", "dual_formula", "kind", "value", "residual", "dual_value")


def without(part, base=Huber):
    """Return a class with every part of a loss but one."""
    parts = {name: value for name, value in vars(base).items() if not name.startswith("__")}
    del parts[part]
    return type("Incomplete", (Loss,), parts)


@pytest.mark.parametrize("part", [*PARTS, "curvature"])
def test_a_class_without_a_needed_part_is_refused_and_the_part_named(part):
    loss = without(part)()
    for use in (register_loss, lambda loss: toy_program(loss=loss, regularization=1.0)):
        with pytest.raises(ConvexSNNError, match=f"class Incomplete does not define {part}") as caught:
            use(loss)
        assert "\n" not in str(caught.value)
    assert "huber" not in LOSSES


def test_every_needed_part_is_tried_above():
    assert set(Loss.needed) == set(PARTS)


def test_conic_rows_need_their_start():
    with pytest.raises(UnsupportedError, match="loss pinball: .* defines cone_rows and not cone_start"):
        register_loss(without("cone_start", Pinball)())


def test_a_kind_that_no_solver_knows_is_refused():
    loss = type("Strange", (Huber,), {"kind": "quartic"})()
    with pytest.raises(UnsupportedError, match="loss huber: kind 'quartic'; expected one of lp, qp"):
        register_loss(loss)


@pytest.mark.parametrize(
    ("part", "use"),
    [
        ("quadratic_rows", lambda p: p.to_qp()),
        ("cone_rows", lambda p: p.to_cone()),
        ("cvxpy", lambda p: p.to_cvxpy()),
        ("slack_values", lambda p: qp_start(p, p.to_qp(), Point(np.zeros(p.shape)))),
        ("meanings", lambda p: p.layout("qp")),
    ],
)
def test_what_a_class_may_leave_out_is_refused_by_name_when_it_is_asked_for(part, use):
    program = toy_program(loss=without(part, Pinball)())
    with pytest.raises(UnsupportedError, match="loss pinball"):
        use(program)


def test_prox_is_refused_by_name():
    block = OutputBlock("o", "", Huber(), np.ones((3, 1)), np.ones(3), np.ones((3, 1)), 1.0)
    with pytest.raises(UnsupportedError, match="loss huber: has no prox, which ADMM needs"):
        block.minimize()


@pytest.mark.parametrize("name", ["squared", "hinge", "pinball"])
def test_a_name_is_registered_once(known, name):
    with pytest.raises(ShapeError, match=f"loss: '{name}' is registered already, as "):
        register_loss(type("Second", (Huber,), {"name": name})())


@pytest.mark.parametrize("wrong", [Huber, "huber", None, L1()])
def test_only_a_loss_is_registered(wrong):
    with pytest.raises(ShapeError, match="loss: expected an instance of a subclass of Loss"):
        register_loss(wrong)


# an unknown loss is refused by name wherever one is taken


def by_torch(name):
    pytest.importorskip("torch")
    from convexsnn.gradient.losses import loss_in_torch

    loss_in_torch(name)


UNKNOWN = {
    "L1Program": lambda name: L1Program(np.ones((2, 1)), np.ones(2), name, 1.0),
    "problem file": lambda name: toy_problem(name),
    "training": lambda name: replace(
        toy_problem("squared"), training=replace(toy_problem("squared").training, loss=name)
    ),
    "target_code": lambda name: target_code([0, 1], n=2, steps=None, loss=name, task="classification"),
    "shattered_optimum": lambda name: shattered_optimum(name, np.ones((2, 1)), np.ones(2), 1.0),
    "gradients": by_torch,
}


@pytest.mark.parametrize("entry", UNKNOWN)
@pytest.mark.parametrize("name", ["huber", "Squared", "", "hinge "])
def test_an_unknown_loss_is_refused_by_name(entry, name):
    with pytest.raises(ConvexSNNError, match=f"loss.*{name}"):
        UNKNOWN[entry](name)


@pytest.mark.parametrize("wrong", [None, 3, Pinball, ["squared"]])
def test_what_is_no_loss_is_refused(wrong):
    with pytest.raises(ShapeError, match="loss: expected one of squared, hinge, "):
        L1Program(np.ones((2, 1)), np.ones(2), wrong, 1.0)


@pytest.mark.parametrize("penalty", ["l1", "blocks"])
def test_a_margin_loss_of_ones_own_takes_the_rules_of_its_base(penalty):
    class Perceptron(MarginLoss):
        name, kind, kinked = "perceptron", "lp", True
        formula = dual_formula = "max(0, −y z)"

        def value(self, z, y):
            return np.maximum(0.0, -y * z).sum(axis=1)

        def residual(self, z, y):
            return y * (y * z < 0.0)

        def dual_value(self, v, y):
            return np.where(((v * y < 0) | (v * y > 1)).any(axis=1), -np.inf, 0.0)

    with pytest.raises(ShapeError, match="targets: 0.5; loss perceptron takes -1 and"):
        L1Program(np.ones((2, 1)), [0.5, 1.0], Perceptron(), 1.0)
    program = L1Program(np.ones((2, 3)), [-1.0, 1.0], Perceptron(), 1.0, penalty=make_penalty(penalty, 3))
    assert program.kind == ("lp" if penalty == "l1" else "cone")
    assert isinstance(program.penalty, Group) == (penalty == "blocks")
    assert program.regularization_max == 0.0
