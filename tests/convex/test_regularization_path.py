"""λ paths: certified and monotone, started from the last point, chosen on samples that no row has seen."""

import time
from dataclasses import replace

import numpy as np
import pytest
from small_paths import CLASSES, INPUTS, NUMBERS, SIGNS, WEIGHTS, problem

from convexsnn.convex.regularization_path import path
from convexsnn.convex.training import lower, reconstruct
from convexsnn.convex.words import path_text
from convexsnn.errors import LoweringError, ShapeError, SolverFailed, UnsupportedError
from convexsnn.problem import Problem, load_problem
from convexsnn.programs import Point
from convexsnn.report.plots import plot_path
from convexsnn.roads import train
from convexsnn.simulate import simulate
from convexsnn.solvers import Answer, Capabilities, Solver, Status, get_solver, solve

KINDS = [
    ("squared", "l1", NUMBERS), ("squared", "group", np.stack([NUMBERS, SIGNS], axis=1)),
    ("hinge", "l1", SIGNS), ("logistic", "l1", SIGNS), ("softmax", "l1", CLASSES),
    ("squared_hinge", "l1", CLASSES),
]  # fmt: skip
every_kind = pytest.mark.parametrize(("loss", "penalty", "targets"), KINDS)


# rows


@every_kind
def test_rows_are_certified_and_monotone(loss, penalty, targets):
    given = problem(loss, penalty, targets, sample_weights=WEIGHTS)
    found = path(given, count=6, smallest=0.02)
    base = lower(given).program
    assert found.finished and len(found.rows) == len(found.points) == 6
    assert found.regularization_max == base.regularization_max
    fractions = [row.fraction for row in found.rows]
    assert fractions == pytest.approx(0.02 ** (np.arange(6) / 5)) and fractions[0] == 1.0
    for row, point in zip(found.rows, found.points, strict=True):
        program = lower(
            problem(
                loss, penalty, targets, sample_weights=WEIGHTS,
                training={"loss": loss, "penalty": penalty, "regularization": row.regularization},
            )
        ).program  # fmt: skip
        assert row.regularization == row.fraction * found.regularization_max
        proved = program.certify(point)
        assert (row.objective, row.lower_bound, row.gap) == (proved.objective, proved.lower_bound, proved.gap)
        assert proved.gap <= 1e-6 and row.units == (np.abs(point.weights).max(axis=1) > 0).sum()
        penalised = row.train_loss + row.regularization * program.penalty.value(point.weights)
        assert penalised == pytest.approx(row.objective, rel=1e-12)
        alone = solve(program, tolerance=1e-6).certificate
        assert row.objective == pytest.approx(alone.objective, rel=3e-6)
    assert found.rows[0].units == 0 and found.rows[0].gap <= 1e-14 and found.rows[1].units > 0
    objectives, losses = ([getattr(r, k) for r in found.rows] for k in ("objective", "train_loss"))
    assert all(b <= a * (1 + 1e-6) for a, b in zip(objectives, objectives[1:], strict=False))
    assert all(b <= a + 2e-6 * objectives[0] for a, b in zip(losses, losses[1:], strict=False))


def test_training_accuracy_is_that_of_the_reconstructed_network():
    given = problem("softmax", targets=CLASSES)
    found = path(given, count=4)
    for row, point in zip(found.rows, found.points, strict=True):
        network = reconstruct(found.lowered, point)
        outputs = simulate(network, INPUTS).outputs
        assert row.train_accuracy == np.mean(outputs.argmax(axis=1) == CLASSES)
    assert all(row.train_accuracy is None for row in path(problem("squared", targets=NUMBERS), count=2).rows)
    assert all(row.validation_loss is None and row.validation_accuracy is None for row in found.rows)
    assert found.chosen is found.result is None and len(found.held_out) == 0


def test_every_step_supervised():
    targets = np.sign(INPUTS[:, :, 0])
    given = problem("hinge", targets=targets, network={"supervise": "all"}, sample_weights=WEIGHTS)
    found = path(given, count=3, validation=0.25)
    row, network = found.rows[-1], reconstruct(found.lowered, found.points[-1])
    outputs = simulate(network, INPUTS[found.held_out]).outputs[:, :, 0]
    own = targets[found.held_out]
    assert row.validation_accuracy == np.mean(np.where(outputs > 0, 1, -1) == own)
    losses = WEIGHTS[found.held_out, None] * np.maximum(0, 1 - own * outputs)
    assert row.validation_loss == pytest.approx(losses.mean(), rel=1e-12)


class Watched(Solver):
    """Passes everything on to another solver and keeps where it was started."""

    name = "watched"
    capabilities = Capabilities(frozenset({"qp"}), {}, True, True, True)

    def __init__(self, seconds=0.0, pass_start=True):
        self.seconds, self.pass_start, self.starts = seconds, pass_start, []

    def run(self, program, request):
        self.starts.append(request.start)
        time.sleep(self.seconds)
        start = request.start if self.pass_start else None
        return get_solver("working_set").run(program, replace(request, start=start))


def test_each_row_starts_at_the_last_point():
    watched = Watched()
    found = path(problem(), count=6, solver=watched)
    assert len(watched.starts) == 5  # at λ_max nothing is solved
    assert watched.starts[0] is None
    for start, before in zip(watched.starts[1:], found.rows[1:], strict=False):
        assert np.count_nonzero(start.weights) == before.units > 0
    assert [row.start_used for row in found.rows] == [False, False, True, True, True, True]


def test_a_start_that_was_not_used_is_not_claimed():
    found = path(problem(), count=4, solver=Watched(pass_start=False))
    assert not any(row.start_used for row in found.rows)


def test_the_problems_own_regularization_does_not_matter():
    other = problem(training={"loss": "squared_hinge", "regularization_fraction": 0.5})
    one, two = path(problem(), count=3), path(other, count=3)
    assert [r.objective for r in one.rows] == [r.objective for r in two.rows]


def test_a_lowered_problem_brings_its_dictionary():
    given = problem(dictionary={"source": "column_generation", "count": 20})
    lowered = train(given, tolerance=1e-4).lowered
    found = path(lowered, count=3)
    assert found.lowered is lowered and found.rows[-1].units > 0


def test_over_all_patterns_where_the_dictionary_is_complete():
    given = load_problem("exact-xor")
    found = path(given, count=4)
    assert found.summary()["scope"] == "all_patterns"
    assert path(problem(), count=2).summary()["scope"] == "dictionary"
    training = {"loss": given.training.loss, "regularization": found.rows[2].regularization}
    again = Problem.from_arrays(
        given.inputs, given.targets, layers=given.tables()["network"]["layers"],
        training=training, dictionary={"source": "exact"},
    )  # fmt: skip
    result = train(again)
    assert result.status == "optimal_global"
    assert found.rows[2].objective == pytest.approx(result.certificate.objective, rel=1e-6)


# choice on samples held out


@pytest.mark.parametrize(
    ("loss", "targets"), [("squared", NUMBERS), ("squared_hinge", SIGNS), ("softmax", CLASSES)]
)
def test_the_choice_by_hand(loss, targets):
    given = problem(loss, targets=targets, sample_weights=WEIGHTS)
    found = path(given, count=7, validation=0.3, seed=1)
    held = found.held_out
    kept = np.setdiff1d(np.arange(40), held)
    assert len(held) == 12 and len(found.lowered.problem.inputs) == 28
    fit = Problem.from_arrays(
        INPUTS[kept], targets[kept], layers=[{"bias": True, "leak": [0.5, 0.9]}],
        dictionary={"count": 60, "source": "pairs"}, training={"loss": loss, "regularization": 1.0},
        sample_weights=WEIGHTS[kept],
    )  # fmt: skip
    alone = lower(fit)  # drawn without a look at the samples held out
    assert np.array_equal(alone.dictionary.columns.packed, found.lowered.dictionary.columns.packed)
    marks = []
    for row, point in zip(found.rows, found.points, strict=True):
        z = simulate(reconstruct(alone, point), INPUTS[held]).outputs
        if loss == "squared":
            value = np.mean(WEIGHTS[held] * 0.5 * (z[:, 0] - targets[held]) ** 2)
            assert row.validation_accuracy is None and row.validation_loss == pytest.approx(value, rel=1e-12)
            marks.append(-row.validation_loss)
        else:
            right = z.argmax(axis=1) if loss == "softmax" else np.where(z[:, 0] > 0, 1, -1)
            assert row.validation_accuracy == np.mean(right == targets[held])
            marks.append(row.validation_accuracy)
    assert found.chosen == marks.index(max(marks))  # the first of equal ones: the largest λ
    chosen = found.rows[found.chosen].regularization
    assert found.result.problem.training.regularization == found.result.claim.regularization == chosen
    assert len(found.result.problem.inputs) == 40 and found.result.status == "optimal_on_dictionary"
    direct = train(problem(loss, targets=targets, sample_weights=WEIGHTS,
                           training={"loss": loss, "regularization": chosen}))  # fmt: skip
    assert np.array_equal(direct.point.weights, found.result.point.weights)


def test_of_equal_accuracies_the_largest_regularization_is_chosen():
    """Eight copies of five samples: what is held out has been trained on, so that small λ are all perfect."""
    given = Problem.from_arrays(
        np.tile(INPUTS[:5], (8, 1, 1)), np.tile([1, -1, 1, -1, -1], 8), layers=[{"bias": True}],
        dictionary={"count": 200}, training={"loss": "hinge", "regularization": 1.0},
    )  # fmt: skip
    found = path(given, count=6, validation=0.25)
    perfect = [row.validation_accuracy == 1.0 for row in found.rows]
    assert sum(perfect) > 1 and not perfect[0] and found.chosen == perfect.index(True)


def test_a_seed_says_which_samples_are_held_out():
    one, same, other = (path(problem(), count=3, validation=0.2, seed=seed) for seed in (5, 5, 6))
    assert np.array_equal(one.held_out, same.held_out) and len(one.held_out) == 8
    assert not np.array_equal(one.held_out, other.held_out)
    plain = [{**row, "seconds": 0} for row in one.summary()["rows"]]
    assert plain == [{**row, "seconds": 0} for row in same.summary()["rows"]]


# time


def test_a_time_limit_leaves_the_finished_rows():
    whole = path(problem(), count=12, solver=Watched())
    found = path(problem(), count=12, solver=Watched(seconds=0.2), time_limit=1.0)
    assert 1 < len(found.rows) < 12 and not found.finished
    for row, same in zip(found.rows, whole.rows, strict=False):
        assert row.objective == same.objective and row.gap <= 1e-6
    summary = found.summary()
    assert summary["status"] == "limit" and summary["count"] == 12
    assert "the time limit came before the end of the path" in path_text(summary)


def test_no_time_at_all_leaves_the_largest_regularization(tmp_path):
    found = path(problem(), time_limit=1e-9, validation=0.25)
    assert len(found.rows) == 1 and found.rows[0].units == 0
    assert (found.chosen, found.result) == (0, None)
    assert "not trained on all samples" in path_text(found.summary())
    plot_path(found.summary(), tmp_path / "one.png")


# mistakes


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        ({"count": 1}, ShapeError, "count: expected a whole number >= 2, got 1"),
        ({"count": 2.5}, ShapeError, "count: expected a whole number"),
        ({"smallest": 0.0}, ShapeError, "smallest: expected a positive number, got 0"),
        ({"smallest": 1.0}, ShapeError, "smallest: expected a fraction of λ_max between 0 and 1, got 1.0"),
        ({"smallest": "1e-2"}, ShapeError, "smallest: expected a positive number, got '1e-2'"),
        ({"validation": 1.0}, ShapeError, r"validation: expected a share of the samples in \[0, 1\)"),
        ({"validation": -0.1}, ShapeError, "validation: expected a positive number, got -0.1"),
        ({"validation": float("nan")}, ShapeError, "validation: expected a positive number, got nan"),
        ({"validation": 0.01}, ShapeError, "validation: 0.01 of 40 samples is 0"),
        ({"validation": 0.99}, ShapeError, "validation: 0.99 of 40 samples is 40"),
        ({"seed": -1}, ShapeError, "seed: expected a whole number >= 0, got -1"),
        ({"tolerance": 0.0}, ShapeError, "tolerance: expected a positive number"),
        ({"time_limit": -1.0}, ShapeError, "time_limit: expected a positive number"),
        ({"solver": "higs"}, UnsupportedError, "did you mean 'highs'"),
    ],
)
def test_a_wrong_argument_is_named(options, error, told):
    with pytest.raises(error, match=told):
        path(problem(), **options)


def test_what_has_no_path_says_why():
    grown = problem(dictionary={"source": "column_generation"})
    with pytest.raises(LoweringError, match="dictionary.source: column_generation finds other patterns"):
        path(grown)
    with pytest.raises(ShapeError, match="validation: 0.2, but the dictionary was made from all samples"):
        path(lower(problem()), validation=0.2)
    with pytest.raises(LoweringError, match="targets: λ_max is 0, W = 0 is optimal for every λ"):
        path(problem("squared", targets=np.zeros(40)))
    rare = np.where(np.arange(40) == 3, 2, CLASSES % 2)
    seed = next(s for s in range(40) if 3 in np.random.default_rng(s).permutation(40)[:20])
    with pytest.raises(ShapeError, match=f"held out by seed {seed}, the training samples lack a label"):
        path(problem("softmax", targets=rare), validation=0.5, seed=seed)


class Broken(Solver):
    """Says that every program is infeasible."""

    name = "broken"
    capabilities = Capabilities(frozenset({"qp"}), {}, False, False, False)

    def run(self, program, request):
        return Answer(Point(np.zeros(program.shape)), "its words", Status.INFEASIBLE)


def test_a_solver_that_fails_ends_the_path():
    with pytest.raises(SolverFailed, match=r"broken: infeasible \(its words\); but W = 0 is feasible"):
        path(problem(), solver=Broken())
