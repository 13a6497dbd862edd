"""Every solver ends by itself and soon after its time limit, whatever the program; its gap is true."""

from itertools import islice
from types import SimpleNamespace

import numpy as np
import pytest
from degenerate_programs import DEGENERATE, degenerate
from slow_shares import one_of
from small_programs import make_program
from solver_cases import CAN, assert_sound, skip_without

from convexsnn.errors import SolverFailed
from convexsnn.programs import L1Program
from convexsnn.solvers import Request, Status, get_solver, highs_, solve, solver, working_set_simplex
from convexsnn.solvers.restricted import solve_restricted
from convexsnn.solvers.sklearn_ import _doubling
from convexsnn.solvers.working_set import WorkingSet
from convexsnn.solvers.working_set_active import quadratic_l1

PAIRS = [
    *((loss, "l1") for loss in ("hinge", "squared", "squared_hinge", "logistic", "softmax")),
    *(("hinge", "units"), ("squared", "blocks"), ("logistic", "units")),
]
SLOW = {"skglm": {"rounds": 4}, "celer": {"rounds": 10}, "sklearn": {"rounds": 4}}  # they end by rounds alone
TAKEN = [
    (name, loss, penalty)
    for loss, penalty in PAIRS
    for name in ("auto", *CAN)
    if name == "auto" or CAN[name].refusal(make_program(loss, penalty, 2 if loss == "softmax" else 1)) is None
]


def label(value):
    return str(value)


@pytest.mark.parametrize(("name", "loss", "penalty"), one_of(TAKEN, 5), ids=label)
def test_a_degenerate_program_ends_without_a_time_limit(name, loss, penalty):
    if name != "auto":
        skip_without(name)
    for case in DEGENERATE:
        program = degenerate(case, loss, penalty)
        if name != "auto" and CAN[name].refusal(program) is not None:
            continue
        try:
            found = solve(program, name, options=SLOW.get(name))
        except SolverFailed as error:
            assert name != "auto", case  # one of several solvers always has a point
            assert "\n" not in str(error)
            continue
        assert_sound(program, found)
        assert found.status is (Status.OPTIMAL if found.certificate.gap <= 1e-6 else Status.LIMIT), case


@pytest.mark.parametrize("seed", range(4))
def test_a_tiny_lambda_is_no_obstacle_for_the_simplex_method(seed):
    """λ = 1e-12 of 30 samples and 100 patterns: below HiGHS's tolerance all columns look violated."""
    rng = np.random.default_rng(seed)
    program = L1Program(rng.random((30, 100)) < 0.4, rng.choice([-1.0, 1.0], 30), "hinge", 1e-12)
    found = get_solver("working_set").solve(program)
    assert_sound(program, found)
    assert found.status is Status.OPTIMAL


def test_a_present_column_is_not_added_again():
    program = make_program("hinge", rows=20, columns=12, fraction=0.1)
    simplex = working_set_simplex.ColumnSimplex(program)
    prices = np.full(12, 2 * program.regularization)
    simplex.add(*simplex.missing(prices))
    assert len(simplex.columns) == 12 and not len(simplex.missing(prices)[0])
    columns, signs = simplex.missing(-prices)  # the other sign is another variable
    assert len(columns) == 12 and (signs == -1).all()


# --- deadlines, by a clock of our own -------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes on by one second each time it is read, in the solvers of this package."""

    class Clock:
        read = 0.0

        def perf_counter(self):
            self.read += 1.0
            return self.read

    ticking = Clock()
    monkeypatch.setattr(solver, "time", SimpleNamespace(perf_counter=ticking.perf_counter))
    return ticking


@pytest.mark.parametrize(("loss", "penalty"), PAIRS, ids=label)
@pytest.mark.parametrize("case", ["tiny-lambda", "weights-and-tiny-lambda", "duplicates"])
def test_every_loop_of_the_working_set_reads_the_clock(loss, penalty, case, clock, monkeypatch):
    monkeypatch.setattr(working_set_simplex, "FIRST", 1)
    monkeypatch.setattr(working_set_simplex, "MORE", 1)
    program = degenerate(case, loss, penalty)
    found = WorkingSet().solve(program, tolerance=1e-15, time_limit=4.0)
    assert found.iterations <= 4
    assert clock.read <= 30  # the loops that the deadline ends each read it once more
    assert_sound(program, found)


def test_the_active_set_method_stops_when_it_is_late():
    rng = np.random.default_rng(0)
    root, asked = rng.standard_normal((40, 60)), []

    def late():
        asked.append(1)
        return True

    quadratic_l1(root.T @ root, root.T @ rng.standard_normal(40), 1e-9, np.zeros(60), 1e-15, late=late)
    assert len(asked) == 1


def test_a_growing_choice_of_columns_stops_between_two_solves():
    program, solved = make_program("squared", rows=20, columns=900, fraction=0.01), []

    def inexact(part, start):
        solved.append(part.shape)
        return solve(part, "scs", tolerance=0.5, options={"max_iters": 1})

    found = solve_restricted(program, inexact, 1e-9, stop=lambda: len(solved) == 2)
    assert len(solved) == 2
    assert_sound(program, found)


@pytest.mark.parametrize("method", ["", ":simplex", ":ipm", ":pdlp"])
def test_highs_has_a_limit_of_its_own(method, monkeypatch):
    """Its methods have none; degenerate programs can make them cycle."""
    for name in ("STEPS", "IPM_STEPS", "PDLP_STEPS"):
        monkeypatch.setattr(highs_, name, 0)
    program = make_program("hinge", rows=60, columns=40, fraction=0.01)
    found = get_solver(f"highs{method}").solve(program, options={"presolve": "off"})
    assert found.status is Status.LIMIT
    assert_sound(program, found)


@pytest.mark.parametrize("loss", ["hinge", "squared"])
def test_highs_under_cvxpy_has_the_same_limit(loss, monkeypatch):
    monkeypatch.setattr(highs_, "STEPS", 0)
    program = make_program(loss, rows=60, columns=40, fraction=0.01)
    for limit in (None, 100.0):
        options = {"presolve": "off"}
        found = get_solver("cvxpy:highs").solve(program, options=options, time_limit=limit)
        assert found.status is Status.LIMIT and found.iterations == 0
        assert_sound(program, found)


def test_the_simplex_method_that_grows_by_columns_has_a_limit_of_its_own(monkeypatch):
    monkeypatch.setattr(working_set_simplex, "PIVOTS", 0)
    program = make_program("hinge", rows=60, columns=40, fraction=0.01)
    found = WorkingSet().solve(program)
    assert found.solver_status == "no further progress" and found.status is Status.LIMIT
    assert_sound(program, found)


def test_the_fits_of_sklearn_grow_since_none_can_be_interrupted():
    skip_without("sklearn")
    assert list(islice(_doubling(100), 5)) == [16, 32, 64, 100, 100]
    assert list(islice(_doubling(3), 2)) == [3, 3]


def test_a_request_without_a_deadline_is_never_late():
    assert not Request(1e-6).is_late() and Request(1e-6, deadline=0.0).is_late()
