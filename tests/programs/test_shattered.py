"""All 0/1 patterns: the closed form against solvers on all 2^n columns, its layers against the simulator."""

from itertools import product

import numpy as np
import pytest
from small_programs import make_program, random_targets
from unit_trees import unit_decisions

from convexsnn.dictionary import Definition
from convexsnn.errors import ShapeError, UnsupportedError
from convexsnn.networks import LayerSpec
from convexsnn.pricing.prices import Witnesses, confirmed, trivial_bound
from convexsnn.pricing.shattering import realise, realise_all, shatters
from convexsnn.programs import LOSSES, Group, Point
from convexsnn.programs.shattered import layer_cake, layer_cakes, shattered_optimum

LOSSES_APART = ("squared", "hinge", "squared_hinge", "logistic")


def every_pattern(rows):
    return np.array(list(product((False, True), repeat=rows)))[1:]


def solved(program):
    return shattered_optimum(program.loss, program.targets, program.row_scale, program.regularization)


def penalty_of(z):
    return float((np.maximum(z.max(axis=0), 0) + np.maximum(-z.min(axis=0), 0)).sum())


def objectives(program, z, dual):
    """Return primal and dual objective, without any column."""
    loss = float(program.row_scale[:, 0] @ program.loss.value(z, program.targets))
    return loss + program.regularization * penalty_of(z), program.dual_objective(Point(None, dual))


def check(program, z, dual):
    """Optimal, and proved so; the constraint is tight on a side exactly where the outputs leave 0."""
    primal, bound = objectives(program, z, dual)
    # the logistic loss rounds 1 − u / s, so that its own values are no better than this
    assert abs(primal - bound) <= 1e-12 * primal + 1e-15 * program.row_scale.sum()
    limit = program.regularization
    assert trivial_bound(dual, group=False) <= limit
    for sign in (1.0, -1.0):
        sums = np.maximum(sign * dual, 0).sum(axis=0)
        away = np.maximum(sign * z, 0).max(axis=0) > 0
        np.testing.assert_allclose(sums[away], limit, rtol=1e-10)


# --- the closed form ------------------------------------------------------------------------------------


@pytest.mark.parametrize("fraction", [0.01, 0.2, 0.7, 0.97, 1.0, 1.5])
@pytest.mark.parametrize("loss", LOSSES_APART)
@pytest.mark.parametrize("rows", [4, 7])
@pytest.mark.filterwarnings("ignore:Solution may be inaccurate")  # the gap says how accurate
def test_a_solver_finds_no_better_on_all_columns(rows, loss, fraction):
    columns = every_pattern(rows).T
    for seed, weighted in enumerate((False, True)):
        changes = {"rows": rows, "dictionary": columns, "weighted": weighted, "seed": 10 * rows + seed}
        program = make_program(loss, outputs=2, fraction=fraction, **changes)
        z, dual = solved(program)
        check(program, z, dual)
        assert program.dual_norm(dual) <= program.regularization
        assert fraction <= 1 or not z.any()
        problem = program.to_cvxpy()
        problem.solve(solver="CLARABEL", tol_gap_abs=1e-11, tol_gap_rel=1e-11, tol_feas=1e-11)
        assert objectives(program, z, dual)[0] == pytest.approx(problem.value, rel=1e-8, abs=1e-10)


@pytest.mark.parametrize("loss", LOSSES_APART)
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_targets_of_one_sign_leave_the_other_side_alone(loss, sign):
    program = make_program(
        loss, rows=5, dictionary=every_pattern(5).T, targets=np.full(5, sign), weighted=True
    )
    z, dual = solved(program)
    check(program, z, dual)
    assert (sign * z > 0).any()
    assert (sign * z >= 0).all()


@pytest.mark.parametrize("loss", LOSSES_APART)
@pytest.mark.parametrize("fraction", [1e-9, 1e-6, 1e-3, 1 - 1e-9])
def test_the_gap_is_rounding_at_any_regularization(loss, fraction):
    rng = np.random.default_rng(7)
    y = random_targets(loss, 40, 1, rng) * (10.0 if loss == "squared" else 1.0)
    columns = (y > 0) | np.eye(40, dtype=bool)  # any will do: what is checked is made of z and u alone
    program = make_program(loss, rows=40, targets=y, dictionary=columns, weighted=True, fraction=fraction)
    check(program, *solved(program))


def test_five_thousand_rows():
    rng = np.random.default_rng(0)
    y = rng.standard_normal((5000, 1))
    program = make_program("squared", rows=5000, dictionary=y > 0, targets=y, weighted=True, fraction=0.1)
    z, dual = solved(program)
    check(program, z, dual)
    patterns, weights = layer_cake(z[:, 0])
    np.testing.assert_allclose(weights @ patterns, z[:, 0], atol=1e-12)


def test_what_has_no_closed_form_is_refused():
    y, scale = np.eye(3), np.ones((3, 1))
    with pytest.raises(UnsupportedError, match="loss softmax"):
        shattered_optimum(LOSSES["softmax"], y, scale, 0.1)
    with pytest.raises(UnsupportedError, match="penalty group"):
        shattered_optimum("squared", y, scale, 0.1, Group(np.arange(7)))
    with pytest.raises(ShapeError, match="takes -1 and"):
        shattered_optimum("hinge", y, scale, 0.1)
    with pytest.raises(ShapeError, match="row_scale"):
        shattered_optimum("squared", y, np.zeros(3), 0.1)


@pytest.mark.parametrize("seed", range(20))
def test_layers_add_up_at_least_cost(seed):
    rng = np.random.default_rng(seed)
    z = rng.choice([rng.standard_normal(30), rng.integers(-3, 4, 30).astype(float)])
    z = np.maximum(z, 0) if seed % 5 == 0 else z
    patterns, weights = layer_cake(z)
    assert len(patterns) == len(weights) == len(np.unique(z[z != 0])) <= 32
    assert patterns.any(axis=1).all()
    np.testing.assert_allclose(weights @ patterns, z, atol=1e-14)
    assert np.abs(weights).sum() == pytest.approx(penalty_of(z[:, None]), rel=1e-14)
    both, table = layer_cakes(np.stack([z, z[::-1], -z], axis=1))
    assert len(np.unique(both, axis=0)) == len(both) == len(table)
    np.testing.assert_allclose(both.T @ table, np.stack([z, z[::-1], -z], axis=1), atol=1e-14)
    assert np.abs(table).sum() == pytest.approx(3 * penalty_of(z[:, None]), rel=1e-14)


def test_no_outputs_have_no_layers():
    patterns, table = layer_cakes(np.zeros((5, 2)))
    assert patterns.shape == (0, 5)
    assert table.shape == (0, 2)


# --- units that produce the layers ----------------------------------------------------------------------


def check_layers(units, samples, z):
    """Every layer has weights in the box that the simulator confirms."""
    patterns, table = layer_cakes(z)
    witnesses = realise_all(units, samples, patterns).witnesses
    assert witnesses is not None
    definition = units[0].definition
    seen, margins = confirmed(units, samples, witnesses)
    np.testing.assert_array_equal(seen, patterns)
    np.testing.assert_allclose(seen.T @ table, z, atol=1e-12)
    assert (margins >= definition.margin).all()
    assert np.abs(witnesses.weights).max() <= definition.weight_box


@pytest.mark.parametrize(("n", "d"), [(20, 100), (50, 50)])
@pytest.mark.parametrize("loss", LOSSES_APART)
def test_the_sizes_of_the_paper(loss, n, d):
    rng = np.random.default_rng(n)
    samples = rng.standard_normal((n, 1, d))
    units = unit_decisions(samples, LayerSpec("threshold"), Definition(1e-6, 10.0))
    assert shatters(units[0])
    y = random_targets(loss, n, 1, rng)
    program = make_program(loss, rows=n, targets=y, dictionary=(y > 0) | np.eye(n, dtype=bool), fraction=0.1)
    z, dual = solved(program)
    check(program, z, dual)
    check_layers(units, samples, z)


ARCHITECTURES = [
    *({"neuron": "lif", "reset": reset} for reset in ("subtract", "subtract_after", "zero", "none")),
    {"neuron": "recurrent_threshold"},
    {"neuron": "threshold", "recurrent": True, "bias": True},
    {"neuron": "threshold", "threshold": -0.3},
]


@pytest.mark.parametrize("supervise", ["last", "all"])
@pytest.mark.parametrize("reads", ["spike", "membrane"])
@pytest.mark.parametrize("spec", ARCHITECTURES, ids=lambda s: "-".join(map(str, s.values())))
def test_independent_stacked_inputs_shatter(spec, reads, supervise):
    rng = np.random.default_rng(3)
    n, steps, d = 4, 3, 16
    samples = rng.standard_normal((n, steps, d))
    units = unit_decisions(samples, LayerSpec(**spec), Definition(1e-6, 10.0, reads, supervise))
    assert shatters(units[0])
    rows = n * (steps if supervise == "all" else 1)
    check_layers(units, samples, rng.standard_normal((rows, 2)))
    some = rng.random((40, rows)) < 0.5 if supervise == "all" else every_pattern(rows)
    assert np.isfinite(realise(units[0], samples, some)[1]).all()


def test_dependent_rows_are_not_called_independent():
    rng = np.random.default_rng(0)
    samples = rng.standard_normal((4, 1, 6))
    samples[3] = samples[0] - samples[1] + 1e-12 * samples[3]
    assert not shatters(unit_decisions(samples, LayerSpec("threshold"), Definition())[0])
    assert not shatters(unit_decisions(samples[:, :, :3], LayerSpec("threshold"), Definition())[0])


def test_a_pattern_that_no_unit_has_is_not_realised():
    samples = np.array([0.0, 1.0, 2.0])[:, None, None]
    units = unit_decisions(samples, LayerSpec("threshold", bias=True), Definition(1e-6, 10.0))
    wanted = every_pattern(3)
    realised = realise(units[0], samples, wanted)[1] > -np.inf
    # 1 0 1 and 0 1 0 would turn twice on a line
    np.testing.assert_array_equal(
        realised, ~((wanted[:, 0] == wanted[:, 2]) & (wanted[:, 0] != wanted[:, 1]))
    )
    assert realise_all(units, samples, wanted) is None
    found = realise_all(units, samples, wanted[realised])
    np.testing.assert_array_equal(confirmed(units, samples, found.witnesses)[0], wanted[realised])


def test_linear_programs_find_every_pattern_of_a_threshold_unit():
    """More rows than weights, and a threshold that puts least-norm weights out of a small box."""
    rng = np.random.default_rng(5)
    samples = rng.standard_normal((8, 1, 2))
    spec, definition = LayerSpec("threshold", bias=True, threshold=0.9), Definition(1e-3, 1.0)
    units = unit_decisions(samples, spec, definition)
    drawn = Witnesses(np.zeros(3000, int), rng.uniform(-1, 1, (3000, 3)))
    seen, margins = confirmed(units, samples, drawn)
    patterns = np.unique(seen[margins >= 2e-3], axis=0)
    assert len(patterns) > 10
    assert np.isfinite(realise(units[0], samples, patterns)[1]).all()
    assert not np.isfinite(realise(units[0], samples, patterns, programs=False)[1]).all()


def test_a_box_too_small_is_no_proof():
    samples = np.eye(3)[:, None, :]
    spec = LayerSpec("threshold", threshold=0.5)
    for box, exists in ((0.6, True), (0.4, False)):
        units = unit_decisions(samples, spec, Definition(1e-6, box))
        assert shatters(units[0])  # rank knows no box
        assert (realise_all(units, samples, every_pattern(3)) is not None) == exists


def test_units_of_several_leaks_share_the_patterns():
    samples, patterns = np.random.default_rng(2).standard_normal((3, 2, 7)), every_pattern(3)
    units = unit_decisions(samples, LayerSpec("lif", leak=(0.5, 0.9)), Definition(1e-6, 0.6))
    assert not np.isfinite(realise(units[0], samples, patterns)[1]).all()
    witnesses = realise_all(units, samples, patterns).witnesses
    assert set(witnesses.unit) == {0, 1}
    np.testing.assert_array_equal(confirmed(units, samples, witnesses)[0], patterns)
