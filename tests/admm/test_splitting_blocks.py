"""Every block of a splitting: in words, in closed form, in a file, and by every solver that takes it.

What a solver must reach is what its own `Capabilities` say of the block's kind.
"""

from dataclasses import replace

import numpy as np
import pytest
from read_back import read_back
from small_blocks import SETTINGS, membranes, programs, splitting
from solver_cases import CAN, GAPS, Stub, registered, skip_without

from convexsnn.errors import ShapeError, SolverFailed, UnsupportedError
from convexsnn.programs import Point
from convexsnn.solvers import SOLVERS, Status, get_solver, solve

every_setting = pytest.mark.parametrize("setting", SETTINGS)
TAKERS = [name for name, can in CAN.items() if can.form and can.programs & {"qp", "exponential"}]
every_taker = pytest.mark.parametrize("name", TAKERS)


def accuracy(setting):
    """Return how far a closed form may be from the optimum: as far as its floating-point type allows."""
    made, _ = splitting(setting)
    return 1e-9 if made.admm.precision == "float64" else 2e-5


def assert_proved(block, solution, claimed):
    """The certificate is the block's own, of the point as it is, and as good as claimed."""
    found, again = solution.certificate, block.certify(solution.point)
    assert (found.objective, found.lower_bound, found.gap) == (again.objective, again.lower_bound, again.gap)
    assert found.objective == pytest.approx(block.objective(solution.point.weights), rel=1e-6)
    assert found.gap <= claimed, block.name
    assert solution.status is Status.OPTIMAL
    assert not solution.start_used


# --- programs -------------------------------------------------------------------------------------------


@every_setting
def test_the_objective_is_the_plain_formula(setting):
    rng, rel = np.random.default_rng(0), accuracy(setting) / 10
    for case in programs(setting):
        points = [rng.random(case.block.shape) for _ in range(3)]
        found, wanted = ([f(p) for p in points] for f in (case.block.objective, case.plain))
        if case.shifted:
            found, wanted = np.diff(found), np.diff(wanted)
        np.testing.assert_allclose(found, wanted, rtol=rel, atol=rel, err_msg=case.block.name)


@every_setting
def test_a_closed_form_has_no_gap(setting):
    for case in programs(setting):
        certificate = case.block.certify(Point(case.block.minimize()))
        assert certificate.gap <= accuracy(setting), case.block.name
        assert np.isfinite([certificate.objective, certificate.lower_bound]).all()


@every_setting
@every_taker
def test_closed_form_and_solver_agree(setting, name):
    skip_without(name)
    for case in programs(setting):
        block, claimed = case.block, GAPS[name].get(case.block.kind)
        if claimed is None:
            continue
        solution = solve(block, name, tolerance=claimed, start=Point(np.zeros(block.shape)))
        assert_proved(block, solution, claimed)
        closed = block.certify(Point(block.minimize())).objective
        assert solution.certificate.objective == pytest.approx(closed, rel=claimed + accuracy(setting))


@every_setting
def test_auto_takes_every_block(setting):
    for case in programs(setting):
        assert_proved(case.block, solve(case.block), 1e-6)


@every_setting
def test_a_block_says_its_sizes(setting):
    for case in programs(setting):
        words, (rows, unknowns) = case.block.describe(), case.block.shape
        assert f"{rows} rows of {unknowns} unknowns" in words
        assert "  min over " in words
        assert words.startswith(case.block.name)


@every_setting
@pytest.mark.parametrize("ending", [".mps", ".lp"])
def test_highs_reads_the_same_optimum(setting, ending, tmp_path):
    for k, case in enumerate(programs(setting)):
        if case.block.kind == "qp":
            path = tmp_path / f"{k}{ending}"
            case.block.to_mps(path)
            optimum = case.block.certify(Point(case.block.minimize())).objective
            assert read_back(path) == pytest.approx(optimum, rel=GAPS["highs"]["qp"], abs=1e-6), (
                case.block.name
            )


def test_a_block_without_a_qp_form_says_where_to_go(tmp_path):
    with pytest.raises(UnsupportedError, match="loss softmax: .* use to_cone or to_cvxpy"):
        programs("lifted")[0].block.to_mps(tmp_path / "block.mps")
    assert list(tmp_path.iterdir()) == []


# --- membranes ------------------------------------------------------------------------------------------


@every_setting
def test_the_objective_of_membranes_is_the_plain_formula(setting):
    rng, rel = np.random.default_rng(1), accuracy(setting) / 10
    for case in membranes(setting):
        shape = case.block.minimize().shape
        points = [rng.normal(1.0, 1.0, shape) for _ in range(3)]
        found, wanted = ([f(p) for p in points] for f in (case.block.objective, case.plain))
        if case.shifted:
            found, wanted = np.diff(found), np.diff(wanted)
        np.testing.assert_allclose(found, wanted, rtol=rel, atol=rel, err_msg=case.block.name)


@pytest.mark.slow
@every_setting
@every_taker
def test_the_best_branch_of_a_solver_is_the_closed_form(setting, name):
    """Above the closed form by what the branches' certificates leave open, and never below it."""
    skip_without(name)
    claimed = GAPS[name].get("qp", 0.0)
    for case in membranes(setting) if claimed else ():
        tables, left = [], 0.0
        for branch in case.branches:
            solution = solve(branch, name, tolerance=claimed)
            assert_proved(branch, solution, claimed)
            tables.append(solution.point.weights)
            left += solution.certificate.objective - solution.certificate.lower_bound
        found, least = case.block.objective(case.chosen(tables)), case.block.objective(case.block.minimize())
        slack = accuracy(setting) * max(1.0, abs(least))
        assert least - slack <= found <= least + left + slack, case.block.name


@every_setting
def test_every_branch_in_closed_form(setting):
    for case in membranes(setting):
        points = [branch.minimize() for branch in case.branches]
        gaps = [b.certify(Point(p)).gap for b, p in zip(case.branches, points, strict=True)]
        assert max(gaps) <= 1e-9
        found, least = case.block.objective(case.chosen(points)), case.block.objective(case.block.minimize())
        assert found == pytest.approx(least, rel=accuracy(setting), abs=accuracy(setting))


@every_setting
def test_membranes_say_their_sizes(setting):
    for case in membranes(setting):
        words, shape = case.block.describe(), case.block.minimize().shape
        n, m = shape[0], shape[-1]
        assert f"{n} × {m} entries" in words or f"{n * m} chains of {shape[1]} steps" in words
        assert "σ" in words or "branches" in words
        assert words.startswith(case.block.name)


# --- what solve does with a block -----------------------------------------------------------------------


class Taker(Stub):
    """A stub that takes blocks."""

    capabilities = replace(Stub.capabilities, form="qp")


@registered
def test_a_refusal_is_one_line_with_an_alternative(name):
    skip_without(name)
    for case in (c for setting in SETTINGS for c in programs(setting)):
        if CAN[name].refusal(case.block) is None:
            continue
        with pytest.raises(UnsupportedError, match=f"solver {name}: takes ") as caught:
            solve(case.block, name)
        assert "\n" not in str(caught.value)
        assert case.block.name in str(caught.value)
        able = str(caught.value).split("; use ")[1].split(", ")
        assert able == [other for other in SOLVERS if CAN[other].refusal(case.block) is None]
        with pytest.raises(UnsupportedError):
            get_solver(name).solve(case.block)


def test_what_needs_a_dictionary_takes_no_block():
    block = programs("lifted, joint")[0].block
    with pytest.raises(
        UnsupportedError, match=r"takes programs over a dictionary, not qp \(outputs\); use highs"
    ):
        solve(block, "working_set")


def test_the_gap_and_not_the_solver_says_what_is_optimal():
    block = programs("lifted, joint")[0].block
    assert solve(block, Taker(Point(block.center + 1.0))).status is Status.LIMIT
    assert solve(block, Taker(Point(block.minimize()), Status.LIMIT)).status is Status.OPTIMAL


def test_a_block_is_given_as_it_is_and_without_a_start():
    block, stub = programs("lifted, joint")[0].block, Taker()
    solve(block, stub, start=Point(np.ones(block.shape)), options={"a": 1}, tolerance=1e-3)
    ((program, request),) = stub.asked
    assert program is block
    assert (request.tolerance, request.left, request.start, request.progress) == (1e-3, None, None, None)
    assert request.options == {"a": 1}
    with pytest.raises(ShapeError, match="start: expected weights"):
        solve(block, stub, start=Point(np.ones((1, 1))))


@every_taker
def test_an_adapter_by_itself_uses_no_start(name):
    skip_without(name)
    block = programs("lifted, joint")[0].block
    if CAN[name].refusal(block) is None:
        found = get_solver(name).solve(block, tolerance=GAPS[name]["qp"], start=Point(block.minimize()))
        assert not found.start_used
        assert found.certificate.gap <= GAPS[name]["qp"]


def test_no_time_and_being_told_to_stop_leave_a_point():
    block = programs("published")[-1].block
    for found in (solve(block, time_limit=1e-9), solve(block, progress=lambda line, share: True)):
        assert found.status is Status.LIMIT
        assert found.certificate.gap == block.certify(Point(np.zeros(block.shape))).gap


def test_the_first_failure_is_not_the_last_word(monkeypatch):
    def fails(solver, program, request):
        raise SolverFailed("solver clarabel: no")

    block = programs("published")[-1].block
    monkeypatch.setattr(SOLVERS["clarabel"], "run", fails)
    assert_proved(block, solve(block), 1e-6)
    with pytest.raises(SolverFailed, match="no"):
        solve(block, "clarabel")
