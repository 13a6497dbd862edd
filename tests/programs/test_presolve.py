"""Presolve must change nothing but the size: objectives, duals and optima come back exactly."""

from dataclasses import replace

import numpy as np
import pytest
from small_programs import (
    CASE_NAMES,
    CASES,
    LOSS_NAMES,
    dual_norm,
    make_program,
    random_targets,
    slow_objective,
    solve_cone,
)

from convexsnn.programs import Group, Point
from convexsnn.programs.presolve import presolve

every_case = pytest.mark.parametrize("case", CASES, ids=CASE_NAMES)


def degenerate(case, rows=24, columns=11, **changes):
    """Return a program whose rows, targets and columns repeat, with a column of zeros and one of ones."""
    loss, penalty, outputs, weighted = case
    rng = np.random.default_rng(1)
    base = rng.random((rows // 3, columns // 2)) < 0.5
    dictionary = base[rng.integers(len(base), size=rows)][:, rng.integers(base.shape[1], size=columns)]
    dictionary[:, 0], dictionary[:, -1] = False, True
    # few distinct targets, so that some equal rows of D have equal targets and some do not
    targets = random_targets(loss, 3, outputs, rng)[rng.integers(3, size=rows)]
    changes = {"dictionary": dictionary, "targets": targets, **changes}
    return make_program(loss, penalty, outputs, weighted, rows=rows, columns=columns, seed=1, **changes)


def distinct(table):
    return len({tuple(row) for row in table.tolist()})


@every_case
@pytest.mark.parametrize("shape", [(24, 11), (12, 40), (60, 4)], ids=["n>P", "n<P", "n>>P"])
def test_what_is_left_is_what_is_distinct(case, shape):
    program = degenerate(case, *shape)
    D, reduced = program.dictionary.toarray(), presolve(program).program
    used = D[:, D.any(axis=0)]
    assert reduced.dictionary.rows == distinct(np.column_stack([D, program.targets]))
    assert reduced.dictionary.rows < program.dictionary.rows
    # in a group of several, (c/2, c/2) has a smaller norm than (c, 0): equal columns must stay
    merged = case[1] != "blocks"
    assert reduced.shape[0] == (distinct(used.T) if merged else used.shape[1])
    assert reduced.shape[0] < program.shape[0]
    assert reduced.sample_weights.sum() == pytest.approx(program.sample_weights.sum(), rel=1e-14)
    assert (reduced.scale, reduced.regularization) == (program.scale, program.regularization)


@every_case
def test_every_reduced_point_is_as_good_on_the_original(case):
    program, rng = degenerate(case), np.random.default_rng(2)
    reduced = presolve(program)
    for size in (0.0, 0.3, 3.0):
        weights = size * rng.standard_normal(reduced.program.shape)
        back = reduced.recover(Point(weights))
        assert back.dual is None
        assert back.weights.shape == program.shape
        wanted = slow_objective(reduced.program, weights)
        assert slow_objective(program, back.weights) == pytest.approx(wanted, rel=1e-13)
        assert np.array_equal(reduced.reduce(back).weights, weights)


@every_case
def test_no_original_point_is_better_than_its_reduced_one(case):
    """Weights of equal columns add up: the outputs stay and the norm can only shrink."""
    program, rng = degenerate(case), np.random.default_rng(3)
    reduced = presolve(program)
    D = program.dictionary.toarray()
    kept, weights = D[:, reduced.columns], rng.standard_normal(program.shape)
    summed = np.zeros(reduced.program.shape)
    if case[1] == "blocks":
        summed[:] = weights[reduced.columns]
    else:
        for p in np.flatnonzero(D.any(axis=0)):
            summed[np.flatnonzero((kept == D[:, [p]]).all(axis=0))] += weights[p]
    original = slow_objective(program, weights)
    assert slow_objective(reduced.program, summed) <= original * (1.0 + 1e-13)


@every_case
def test_every_reduced_dual_proves_the_same_bound_on_the_original(case):
    program, rng = degenerate(case), np.random.default_rng(4)
    reduced = presolve(program)
    small = reduced.program
    for _ in range(10):
        z = rng.standard_normal(small.targets.shape)
        dual = small.feasible_dual(Point(rng.standard_normal(small.shape))).dual * rng.random()
        # half a certified point, half any point of the domain
        dual = 0.5 * dual + 0.5 * small.row_scale * small.loss.residual(z, small.targets)
        point = Point(np.zeros(small.shape), dual)
        back = reduced.recover(point)
        assert back.dual.shape == program.targets.shape
        assert program.dual_objective(back) == pytest.approx(small.dual_objective(point), rel=1e-12)
        D = program.dictionary.toarray().T.astype(float)
        assert dual_norm(program.penalty, D @ back.dual) == pytest.approx(small.dual_norm(dual), rel=1e-12)


@every_case
@pytest.mark.parametrize("shape", [(24, 11), (12, 40)], ids=["n>P", "n<P"])
def test_the_optimum_stays(case, shape):
    """What is proved of the reduced optimum is proved of the original, to rounding."""
    program = degenerate(case, *shape)
    reduced = presolve(program)
    form = reduced.program.to_cone()
    x, y, _ = solve_cone(form, accuracy=1e-12)
    found = form.recover(x, y)
    small, original = reduced.program.certify(found), program.certify(reduced.recover(found))
    assert small.gap < 1e-8  # as far as an interior point goes
    assert original.objective == pytest.approx(small.objective, rel=1e-12)
    assert original.lower_bound == pytest.approx(small.lower_bound, rel=1e-11)
    # and a solver that has never heard of presolve says so too, as well as it can
    assert solve_cone(program.to_cone())[2] == pytest.approx(small.objective, rel=1e-7)


@pytest.mark.parametrize("loss", LOSS_NAMES)
def test_equal_rows_become_one(loss):
    targets = np.repeat([[1.0, 0.0] if loss == "softmax" else [1.0, -1.0]], 9, axis=0)
    weights = np.arange(1.0, 10.0)
    dictionary = np.tile([1, 0, 1], (9, 1))
    program = make_program(
        loss, outputs=2, rows=9, dictionary=dictionary, targets=targets, sample_weights=weights
    )
    reduced = presolve(program)
    assert reduced.program.dictionary.toarray().tolist() == [[True]]
    assert reduced.program.sample_weights.tolist() == [45.0]
    assert reduced.columns.tolist() == [0]
    dual = reduced.recover(Point(np.zeros((1, 2)), np.array([[45.0, -45.0]]))).dual
    np.testing.assert_allclose(dual, np.column_stack([weights, -weights]))  # shared out by weight


def test_rows_of_equal_patterns_but_other_targets_stay_apart():
    labels, weights = [1.0, -1.0, 1.0, -1.0], [1.0, 2.0, 3.0, 5.0]
    program = make_program(
        "hinge", dictionary=np.ones((4, 1)), targets=labels, sample_weights=weights, rows=4, fraction=0.5
    )
    reduced = presolve(program)
    assert reduced.program.targets[:, 0].tolist() == [1.0, -1.0]
    assert reduced.program.sample_weights.tolist() == [4.0, 7.0]
    assert reduced.row_of.tolist() == [0, 1, 0, 1]


def test_targets_a_rounding_error_apart_stay_apart():
    close = [1.0, np.nextafter(1.0, 2.0), 1.0]
    program = make_program(dictionary=np.ones((3, 1)), targets=close, rows=3)
    assert presolve(program).program.targets[:, 0].tolist() == close[:2]


@pytest.mark.parametrize("penalty", ["l1", "units", "blocks"])
def test_nothing_degenerate_means_nothing_to_do(penalty):
    program = make_program("squared", penalty, rows=20, columns=6)
    reduced = presolve(program)
    assert np.array_equal(reduced.program.dictionary.packed, program.dictionary.packed)
    assert np.array_equal(reduced.program.targets, program.targets)
    assert reduced.columns.tolist() == list(range(6))
    assert reduced.row_of.tolist() == list(range(20))


@every_case
def test_presolving_again_finds_nothing(case):
    once = presolve(degenerate(case)).program
    twice = presolve(once)
    assert twice.program.shape == once.shape
    assert twice.program.dictionary.rows == once.dictionary.rows


@pytest.mark.parametrize("columns", [0, 3])
@pytest.mark.parametrize("outputs", [1, 2])
def test_a_program_without_ones_has_no_columns_left(columns, outputs):
    targets = np.tile(np.arange(3.0)[:, None], (2, outputs))
    program = make_program(
        outputs=outputs, dictionary=np.zeros((6, columns)), targets=targets, rows=6, regularization=0.1
    )
    reduced = presolve(program)
    assert reduced.program.shape == (0, outputs)
    assert reduced.program.dictionary.rows == 3
    assert np.array_equal(reduced.recover(Point(np.zeros((0, outputs)))).weights, np.zeros(program.shape))


def test_equal_columns_of_one_group_share_their_weight():
    """Two equal columns in one group: c/2 each costs λ|c|/√2, one alone λ|c|; merging would lose that."""
    group = Group(np.zeros(2, int))
    both = make_program(
        penalty=group, dictionary=np.ones((2, 2)), targets=[1.0, 1.0], rows=2, regularization=0.1
    )
    reduced = presolve(both).program
    assert reduced.shape == (2, 1)
    alone = replace(both, dictionary=np.ones((2, 1)), penalty=Group(np.zeros(1, int)))
    # by hand: least of ½ (1 − total)² + λ share total, the total weight costing λ times its share
    for program, share in ((both, 1.0 / np.sqrt(2.0)), (alone, 1.0)):
        total = 1.0 - 0.1 * share
        wanted = 0.5 * (1.0 - total) ** 2 + 0.1 * share * total
        assert solve_cone(program.to_cone())[2] == pytest.approx(wanted, rel=1e-8)


def test_a_group_that_loses_its_columns_goes():
    dictionary = np.array([[0, 1, 0, 1], [0, 0, 0, 1], [0, 1, 0, 0]])
    program = make_program(dictionary=dictionary, rows=3, penalty=Group(np.array([0, 2, 1, 2])))
    reduced = presolve(program)
    assert reduced.columns.tolist() == [1, 3]
    assert reduced.program.penalty.index.tolist() == [0, 0]
