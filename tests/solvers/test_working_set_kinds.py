"""The working set on every loss with every penalty; the program's own certificate is the judge."""

from itertools import product

import numpy as np
import pytest
from small_programs import LOSS_NAMES, PENALTY_NAMES, make_program

from convexsnn.programs import L1Program, Point
from convexsnn.solvers import Status, solve
from convexsnn.solvers.working_set import WorkingSet
from convexsnn.solvers.working_set_groups import GroupModel
from convexsnn.solvers.working_set_newton import Entries, gram
from convexsnn.solvers.working_set_simplex import ColumnSimplex

KINDS = list(product(LOSS_NAMES, PENALTY_NAMES))
every_kind = pytest.mark.parametrize(("loss", "penalty"), KINDS)
SHAPES = {
    "tall": {"rows": 150, "columns": 20, "fraction": 0.1},
    "wide": {"rows": 30, "columns": 400, "fraction": 0.05},
    "little penalty": {"rows": 40, "columns": 30, "fraction": 0.005},
}


def solved(program, tolerance=1e-8, **options):
    return WorkingSet().solve(program, tolerance=tolerance, **options)


@pytest.mark.parametrize("shape", SHAPES)
@every_kind
def test_the_gap_closes(loss, penalty, shape):
    program = make_program(loss, penalty, outputs=3, weighted=True, **SHAPES[shape])
    found = solved(program)
    again = program.certify(found.point)
    assert found.status is Status.OPTIMAL and again.gap <= 1e-8
    assert program.dual_norm(again.dual) <= program.regularization * (1 + 1e-9)


@every_kind
def test_columns_that_repeat_do_no_harm(loss, penalty):
    program = make_program(loss, penalty, outputs=3, rows=25, columns=12, fraction=0.1)
    twice = L1Program(
        np.repeat(program.dictionary.toarray(), 2, axis=1),
        program.targets,
        loss,
        program.regularization,
        penalty=make_program(loss, penalty, outputs=3, columns=24).penalty,
    )
    assert solved(twice).certificate.gap <= 1e-8


@every_kind
def test_a_start_is_taken_up(loss, penalty):
    program = make_program(loss, penalty, outputs=3, rows=40, columns=60, fraction=0.1)
    first = solved(program)
    again = solved(program, start=Point(first.point.weights))
    assert again.start_used and again.iterations <= max(3, first.iterations // 2)
    assert again.certificate.objective == pytest.approx(first.certificate.objective, rel=1e-7)
    poor = Point(np.random.default_rng(0).standard_normal(program.shape))
    assert solved(program, start=poor).certificate.gap <= 1e-8


@every_kind
def test_above_the_largest_penalty_the_answer_is_zero(loss, penalty):
    found = solved(make_program(loss, penalty, outputs=3, fraction=1.5))
    assert found.status is Status.OPTIMAL and not found.point.weights.any()


@pytest.mark.parametrize(("loss", "penalty"), [kind for kind in KINDS if kind[:2] not in
                         [("hinge", "units"), ("hinge", "blocks")]])  # fmt: skip
def test_whoever_watches_may_stop_it(loss, penalty):
    program = make_program(loss, penalty, outputs=3, rows=60, columns=500, fraction=0.01)
    lines = []

    def watch(line, share):
        lines.append(line)
        return len(lines) == 3

    found, zero = solved(program, 1e-10, progress=watch), program.certify(Point(np.zeros(program.shape)))
    assert len(lines) == 3 and all("gap" in line for line in lines)
    assert found.status is Status.LIMIT and found.solver_status == "interrupted"
    assert found.certificate.objective <= zero.objective  # what was reached is kept
    assert found.certificate.lower_bound <= solved(program).certificate.objective * (1 + 1e-9)


@pytest.mark.parametrize("loss", [name for name in LOSS_NAMES if name != "hinge"])
def test_the_gram_matrix_is_how_slopes_change(loss):
    rng = np.random.default_rng(1)
    program = make_program(loss, outputs=3, weighted=True, rows=90, columns=9)
    table = 0.3 * rng.standard_normal(program.shape)
    if loss == "squared_hinge":  # away from its kinks
        table *= 0.1
    entries = Entries.of(rng.random(program.shape) < 0.6)

    def slopes(weights):
        residual = program.loss.residual(program.outputs(weights), program.targets)
        return entries.gather(program.dictionary.transpose_times(program.row_scale * residual))

    numeric = np.empty((len(entries.column), len(entries.column)))
    for k, (column, output) in enumerate(zip(entries.column, entries.output, strict=True)):
        step = np.zeros(program.shape)
        step[column, output] = 1e-6
        numeric[:, k] = (slopes(table - step) - slopes(table + step)) / 2e-6
    np.testing.assert_allclose(gram(program, program.outputs(table), entries), numeric, atol=1e-9)


def test_rows_are_unpacked_in_blocks(monkeypatch):
    program = make_program("softmax", outputs=3, rows=90, columns=9)
    z, entries = np.random.default_rng(0).standard_normal((90, 3)), Entries.of(np.ones((9, 3), bool))
    whole = gram(program, z, entries)
    monkeypatch.setattr("convexsnn.solvers.working_set_newton.BLOCK", 200)
    np.testing.assert_allclose(gram(program, z, entries), whole, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("loss", ["squared", "logistic", "softmax"])
def test_steps_on_groups_never_raise_the_objective(loss):
    program = make_program(loss, "blocks", outputs=3, rows=80, columns=30, fraction=0.05)
    weights = np.random.default_rng(2).standard_normal(program.shape)
    model = GroupModel(
        program,
        np.arange(30),
        program.penalty.index,
        program.regularization,
        weights,
        program.outputs(weights),
    )
    values = [program.primal_objective(Point(weights))]
    for step in (lambda: model.descend(1e-3), lambda: model.newton(1e-3, False)) * 3:
        step()
        values.append(program.primal_objective(Point(model.weights)))
        assert model.objective(model.weights, model.z) == pytest.approx(values[-1], rel=1e-12)
    assert (
        all(b <= a * (1 + 1e-12) for a, b in zip(values, values[1:], strict=False)) and values[-1] < values[0]
    )


def test_columns_priced_below_the_penalty_are_not_missing():
    program = make_program("hinge", rows=40, columns=30, fraction=0.2)
    simplex = ColumnSimplex(program)
    prices = np.zeros(30)
    prices[[3, 7]] = 2 * program.regularization, -1.5 * program.regularization
    columns, signs = simplex.missing(prices)
    assert columns.tolist() == [3, 7] and signs.tolist() == [1.0, -1.0]
    simplex.add(columns, signs)
    point, stopped = simplex.run()
    assert not stopped and set(np.flatnonzero(point.weights)) <= {3, 7}
    assert point.weights[3] >= 0 >= point.weights[7]  # one variable for each sign


@pytest.mark.parametrize("outputs", [1, 3])
def test_solve_hands_progress_on_and_keeps_what_was_reached(outputs):
    program = make_program("logistic", outputs=outputs, rows=60, columns=500, fraction=0.01)
    lines = []

    def watch(line, share):
        lines.append((line, share))
        return len(lines) == 4

    found, best = solve(program, tolerance=1e-10, progress=watch), solve(program, tolerance=1e-9)
    assert len(lines) == 4 + outputs - 1  # the other outputs are announced, not solved
    assert all(0 <= share < 1 for _, share in lines) and "gap" in lines[-outputs][0]
    assert found.status is Status.LIMIT
    assert best.certificate.objective < found.certificate.objective
    assert found.certificate.objective < program.certify(Point(np.zeros(program.shape))).objective


def test_an_output_that_needs_no_weight_has_a_dual_all_the_same():
    program = make_program("hinge", outputs=3, weighted=True, fraction=0.8)
    found = solved(program)
    assert not found.point.weights.any(axis=0).all() and found.certificate.gap <= 1e-8
