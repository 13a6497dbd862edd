"""Every adapter in its own hands: bad data, limits, starts, options, packages that are missing or fail."""

import subprocess
import sys
from pkgutil import resolve_name

import numpy as np
import pytest
from small_programs import make_program
from solver_cases import CAN, FIRST, GAPS, TAKEN, assert_sound, every_lasso_solver, skip_without, takes

from convexsnn.errors import ShapeError, SolverFailed, SolverNotInstalled, UnsupportedError
from convexsnn.programs import Point
from convexsnn.solvers import SOLVERS, Status, get_solver, solve
from convexsnn.solvers.capabilities import copies

DIRECT = ("highs", "clarabel", "scs", "osqp", "celer", "skglm", "sklearn")
KINDS = [pair for pair in TAKEN if pair[0] in DIRECT]
every_kind = pytest.mark.parametrize(("name", "kind"), KINDS)
every_direct = pytest.mark.parametrize("name", DIRECT)


def own(name, program, **settings):
    """Solve a program by an adapter, without presolve, to the gap that it claims."""
    skip_without(name)
    claimed = GAPS[name][program.kind]
    solution = get_solver(name).solve(program, tolerance=claimed, **settings)
    assert_sound(program, solution)
    return solution, claimed


# --- bad data -------------------------------------------------------------------------------------------


@every_kind
def test_rows_that_are_all_equal(name, kind):
    loss, penalty, outputs, weighted = FIRST[name, kind]
    dictionary = np.tile([1.0, 0, 1, 1, 0, 0, 1], (13, 1))  # zero columns too
    program = make_program(loss, penalty, outputs, weighted, dictionary=dictionary)
    solution, claimed = own(name, program)
    assert solution.certificate.gap <= claimed


@every_kind
@pytest.mark.parametrize("fraction", [1.01, 3.0])
def test_above_lambda_max_the_weights_are_zero(name, kind, fraction):
    program = make_program(*FIRST[name, kind], fraction=fraction)
    solution, claimed = own(name, program)
    assert solution.certificate.gap <= claimed
    assert np.abs(solution.point.weights).max() < 1e-4
    assert not solve(program, name).point.weights.any()  # exactly, as presolve knows it


@pytest.mark.parametrize(("name", "kind"), [pair for pair in KINDS if FIRST[pair][1] == "l1"])
@pytest.mark.parametrize("shape", [(40, 8), (10, 30)], ids=["n>P", "n<P"])
def test_columns_that_tie(name, kind, shape):
    """Each column stands there twice, so that the optimum is not unique; the objective is."""
    loss, penalty, outputs, weighted = FIRST[name, kind]
    half = np.random.default_rng(5).random((shape[0], shape[1] // 2)) < 0.4
    once, twice = (
        make_program(loss, penalty, outputs, weighted, rows=shape[0], dictionary=dictionary)
        for dictionary in (half, np.concatenate([half, half], axis=1))
    )
    solution, claimed = own(name, twice)
    assert solution.certificate.gap <= claimed
    known = own(name, once)[0].certificate
    assert solution.certificate.objective == pytest.approx(known.objective, rel=2.0 * claimed)


# --- limits ---------------------------------------------------------------------------------------------

SHORT = {
    "highs": {"simplex_iteration_limit": 1, "qp_iteration_limit": 1},
    "clarabel": {"max_iter": 2},
    "scs": {"max_iters": 5},
    "osqp": {"max_iter": 5},
    "celer": {"rounds": 1, "max_iter": 1, "max_epochs": 1},
    "skglm": {"rounds": 1, "max_epochs": 1},
    "sklearn": {"rounds": 1, "max_iter": 1},
}


@every_kind
def test_iterations_that_run_out_leave_the_best_point(name, kind):
    skip_without(name)
    loss, penalty, outputs, _ = FIRST[name, kind]
    program = make_program(loss, penalty, outputs, rows=60, columns=40, fraction=0.02)
    alone = get_solver(name).solve(program, tolerance=1e-9, options=SHORT[name])
    through = solve(program, name, tolerance=1e-9, options=SHORT[name])
    for solution in (alone, through):
        assert_sound(program, solution)
        assert solution.status is Status.LIMIT
        assert solution.certificate.gap > 1e-6
    nothing = program.primal_objective(Point(np.zeros(program.shape)))
    assert through.certificate.objective <= nothing


@pytest.mark.slow
def test_watching_can_stop_a_solver_that_works_in_rounds():
    skip_without("skglm")
    told = []
    program = make_program(rows=60, columns=40, fraction=0.02)

    def progress(line, share):
        told.append(line)
        return len(told) == 3

    solution = get_solver("skglm").solve(program, progress=progress)
    assert len(told) == 3 and all(line.startswith("gap ") for line in told)
    assert solution.solver_status == "interrupted"
    assert solution.status is Status.LIMIT


# --- starts ---------------------------------------------------------------------------------------------

NO_START = {("highs", "qp"), ("sklearn", "logistic")}


@every_kind
def test_a_start_at_the_optimum_saves_work_or_is_refused(name, kind):
    program = make_program(*FIRST[name, kind], rows=40, columns=20, fraction=0.1)
    cold, _ = own(name, program)
    start = solve(program, "clarabel", tolerance=1e-9).point
    warm, claimed = own(name, program, start=start)
    assert warm.certificate.gap <= claimed
    assert not cold.start_used
    assert warm.start_used == (CAN[name].warm_start and (name, kind) not in NO_START)
    if warm.start_used:
        assert warm.iterations < cold.iterations


@pytest.mark.parametrize("method", ["simplex", "ipm", "pdlp"])
def test_which_methods_of_highs_take_a_start(method):
    program = make_program("hinge", rows=60, columns=30, fraction=0.05)
    start = solve(make_program("hinge", rows=60, columns=30, fraction=0.06), "highs").point
    solution, claimed = own(f"highs:{method}", program, start=start)
    assert solution.certificate.gap <= claimed
    assert solution.start_used is (method != "ipm")
    assert get_solver("highs").solve(program, start=start, options={"solver": method}).start_used is (
        method != "ipm"
    )


@pytest.mark.parametrize("name", ["highs", "scs", "celer"])
def test_a_start_goes_on_where_only_some_columns_are_looked_at(name):
    loss = "hinge" if name == "highs" else "squared"
    program = make_program(loss, rows=30, columns=3000, fraction=0.05)
    cold = solve(program, name)
    warm = solve(program, name, start=cold.point)
    assert warm.status is Status.OPTIMAL
    assert warm.start_used and not cold.start_used
    assert warm.iterations <= cold.iterations
    assert warm.certificate.objective == pytest.approx(cold.certificate.objective, rel=2e-6)


# --- options, packages ----------------------------------------------------------------------------------


@every_lasso_solver
def test_a_misspelt_option_is_one_line_with_its_name(name):
    skip_without(name)
    with pytest.raises((ShapeError, SolverFailed)) as caught:
        get_solver(name).solve(make_program("squared"), options={"max_itre": 5})
    assert "max_itre" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["clarabel", "osqp", "celer", "skglm", "sklearn"])
def test_a_misspelt_option_gets_the_nearest(name):
    skip_without(name)
    with pytest.raises(ShapeError, match=f"solver {name} has no option 'max_itr'; did you mean 'max_iter'"):
        get_solver(name).solve(make_program("squared"), options={"max_itr": 5})


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("clarabel", {"max_iter": "many"}),
        ("clarabel", {"direct_solve_method": "no such"}),
        ("scs", {"max_iters": -1}),
        ("osqp", {"max_iter": -1}),
        ("osqp", {"max_iter": "many"}),
        ("celer", {"max_epochs": "many"}),
        ("skglm", {"ws_strategy": "no such"}),
        ("sklearn", {"max_iter": -1}),
    ],
    ids=str,
)
def test_a_value_that_the_package_refuses_is_told_with_its_own_words_behind(name, options):
    skip_without(name)
    with pytest.raises(SolverFailed, match=f"solver {name}: ") as caught:
        get_solver(name).solve(make_program("squared"), options=options)
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize(("name", "extra"), [("celer", "fast"), ("skglm", "fast"), ("sklearn", "reference")])
def test_a_missing_package_names_the_extra(name, extra, monkeypatch):
    monkeypatch.setattr("convexsnn.solvers.registry.find_spec", lambda module: None)
    with pytest.raises(
        SolverNotInstalled, match=rf"solver {name}: not installed; pip install 'convexsnn\[{extra}\]'"
    ):
        solve(make_program("squared"), name)


def nans(answer):
    """Return an answer of a package with every number replaced by NaN."""
    if isinstance(answer, tuple):
        return tuple(map(nans, answer))
    return {**answer, "x": answer["x"] * np.nan} if isinstance(answer, dict) else np.asarray(answer) * np.nan


@pytest.mark.parametrize(
    ("name", "owner", "call"),
    [
        ("scs", "scs:SCS", "solve"),
        ("celer", "celer.homotopy", "celer_path"),
        ("skglm", "skglm.solvers:AndersonCD", "solve"),
    ],
)
def test_numbers_that_are_none_never_come_back(name, owner, call, monkeypatch):
    skip_without(name)
    kept = getattr(resolve_name(owner), call)
    monkeypatch.setattr(resolve_name(owner), call, lambda *args, **given: nans(kept(*args, **given)))
    with pytest.raises(SolverFailed, match=f"solver {name}"):
        get_solver(name).solve(make_program("squared"))


@pytest.mark.parametrize(("status", "error"), [(-5, KeyboardInterrupt), (-2, SolverFailed), (-7, None)])
def test_the_numbers_that_scs_stops_with(status, error, monkeypatch):
    """Ctrl-C, which SCS catches itself; infeasible, which no program here is; a guess of it at a limit."""

    def stopped(*_, **__):
        x = np.full(200, np.nan)
        return {"x": x, "y": x, "info": {"status_val": status, "status": "stopped", "iter": 1}}

    monkeypatch.setattr("scs.SCS.solve", stopped)
    if error:
        with pytest.raises(error):
            get_solver("scs").solve(make_program("squared"))
    else:
        solution = get_solver("scs").solve(make_program("squared"))
        assert solution.status is Status.LIMIT
        assert not solution.point.weights.any()


IMPORTS = """
import sys
import convexsnn.solvers
print(sorted({"highspy", "clarabel", "scs", "osqp", "celer", "skglm", "sklearn", "cvxpy"} & set(sys.modules)))
"""


def test_no_package_is_imported_before_it_is_asked():
    done = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


# --- what some take only in part ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ([1.0, 1.0], [1, 1]),
        ([0.5, 1.5], [1, 3]),
        ([8.0, 11.0, 10.0], [8, 11, 10]),
        ([0.1 + 0.2, 0.1], [3, 1]),
        ([1.0, np.sqrt(2.0)], None),
        ([1.0, 1e6], None),
    ],
)
def test_weights_as_copies_of_rows(weights, expected):
    found = copies(np.array(weights))
    assert (found is None) == (expected is None)
    assert found is None or found.tolist() == expected


def test_celer_repeats_rows_for_the_logistic_loss():
    weights = np.random.default_rng(0).integers(2, 6, 13) / 4.0
    program = make_program("logistic", sample_weights=weights, fraction=0.1)
    solution, claimed = own("celer", program)
    assert solution.certificate.gap <= claimed
    odd = make_program("logistic", weighted=True)
    with pytest.raises(UnsupportedError, match="celer: .* ratios of small whole numbers; use .*skglm"):
        solve(odd, "celer")


def test_a_method_of_highs_takes_linear_programs_only():
    with pytest.raises(UnsupportedError, match="highs:ipm: takes lp programs, not qp .*; use .*osqp"):
        solve(make_program("squared"), "highs:ipm")


@every_direct
def test_every_direct_adapter_is_registered_with_its_gaps(name):
    cls = SOLVERS[name]
    assert set(cls.capabilities.gap) == cls.capabilities.programs
    assert any(takes(name, loss) for loss in ("squared", "hinge"))
