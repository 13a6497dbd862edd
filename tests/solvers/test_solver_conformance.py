"""One conformance suite for all solvers: whatever a solver is, its point is judged by the program.

What a registered solver must reach is what its own `Capabilities` say; the backends of cvxpy, which have
none of their own, are held to the table of solver_cases.
"""

import subprocess
import sys

import highspy
import numpy as np
import pytest
from slow_shares import one_of
from small_programs import ROWS, make_program, solve_cone
from solver_cases import (
    CAN,
    FIRST,
    GAPS,
    TAKEN,
    Stub,
    assert_sound,
    every_lasso_solver,
    every_pair,
    every_solver,
    skip_without,
    takes,
)

from convexsnn.errors import ShapeError, SolverFailed
from convexsnn.programs import Group, L1Program, Point
from convexsnn.solvers import (
    SOLVERS,
    Status,
    get_solver,
    solve,
)

# --- conformance ----------------------------------------------------------------------------------------


@every_pair
@pytest.mark.parametrize("fraction", [0.05, 0.5])
def test_a_solver_reaches_the_gap_that_it_claims(name, case, fraction):
    skip_without(name)
    program = make_program(*case, fraction=fraction)
    claimed = GAPS[name][program.kind]
    solution = solve(program, name, tolerance=claimed)
    assert_sound(program, solution)
    assert solution.certificate.gap <= claimed
    assert solution.status is Status.OPTIMAL
    assert solution.solver.startswith(name)
    assert set(solution.seconds) == {"build", "solve"}
    assert min(solution.seconds.values()) >= 0.0
    optimum = solve_cone(program.to_cone())[2]  # itself accurate to 1e-8
    assert solution.certificate.objective == pytest.approx(optimum, rel=max(2.0 * claimed, 1e-8))


@every_pair
def test_a_solver_by_itself_gives_the_whole_program(name, case):
    """Without presolve and without splitting, in the adapter's own hands."""
    skip_without(name)
    program = make_program(*case)
    solver = get_solver(name)
    claimed = GAPS[name][program.kind]
    solution = solver.solve(program, tolerance=claimed)
    assert_sound(program, solution)
    assert solution.status is Status.OPTIMAL
    assert solution.certificate.gap <= claimed
    assert solution.solver_status
    assert not solver.capabilities.duals or solution.point.dual.shape == program.targets.shape


@every_solver
@pytest.mark.parametrize("shape", [(40, 5), (6, 30)], ids=["n>P", "n<P"])
def test_a_solver_takes_degenerate_data(name, shape):
    """Rows and columns repeat, a column is zero; neither presolve nor solver may stumble."""
    skip_without(name)
    rng = np.random.default_rng(1)
    dictionary = (rng.random(shape) < 0.5)[rng.integers(4, size=shape[0])]
    dictionary[:, -2:] = dictionary[:, :1]
    dictionary[:, 1] = False
    for loss in (loss for loss in ("hinge", "squared", "logistic") if takes(name, loss)):
        program = make_program(loss, dictionary=dictionary, rows=shape[0])
        claimed = GAPS[name][program.kind]
        solution = solve(program, name, tolerance=claimed)
        assert_sound(program, solution)
        assert solution.certificate.gap <= claimed
        assert not solution.point.weights[1].any()


MARGINS = [("hinge", "l1"), ("squared_hinge", "l1"), ("squared_hinge", "units"), ("logistic", "l1")]
ONE_CLASS = [(name, *case) for case in MARGINS for name in GAPS if takes(name, *case)]


@pytest.mark.parametrize(("name", "loss", "penalty"), ONE_CLASS)
def test_labels_of_one_class(name, loss, penalty):
    skip_without(name)
    for label_ in (1.0, -1.0):
        program = make_program(loss, penalty, targets=np.full(ROWS, label_))
        claimed = GAPS[name][program.kind]
        solution = solve(program, name, tolerance=claimed)
        assert_sound(program, solution)
        assert solution.certificate.gap <= claimed
        assert (label_ * solution.point.weights >= -1e-6).all()  # nothing pulls the other way


@every_pair
def test_a_solver_is_deterministic(name, case):
    skip_without(name)
    first, second = (solve(make_program(*case), name).point.weights for _ in range(2))
    assert np.array_equal(first, second)


@every_lasso_solver
@pytest.mark.parametrize("change", ["objective in millionths", "targets in thousandths"])
def test_the_gap_does_not_depend_on_units(name, change):
    skip_without(name)
    plain = make_program("squared", rows=30, columns=10, fraction=0.1)
    if change == "objective in millionths":
        program = make_program("squared", rows=30, columns=10, fraction=0.1, scale=1e-6 * plain.scale)
    else:
        program = make_program("squared", rows=30, columns=10, fraction=0.1, targets=1e-3 * plain.targets)
    claimed = GAPS[name]["qp"]
    solution = solve(program, name, tolerance=claimed, time_limit=5.0)
    assert solution.certificate.gap <= claimed


# --- limits ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def big():
    """Programs, by small case, that take every solver well over a millisecond."""
    return {
        case: make_program(*case[:3], rows=450, columns=450, fraction=0.01) for case in set(FIRST.values())
    }


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kind"), [pair for pair in TAKEN if CAN[pair[0]].time_limit])
@pytest.mark.parametrize("seconds", one_of([1e-9, 1e-3], 2))
def test_an_interrupted_solver_leaves_a_point_and_its_gap(name, kind, seconds, big):
    """In the adapter's own hands: through `solve`, presolve may have used up all the time."""
    skip_without(name)
    program = big[FIRST[name, kind]]
    solution = get_solver(name).solve(program, time_limit=seconds)
    assert_sound(program, solution)
    assert solution.certificate.gap > 1e-6
    assert solution.status is Status.LIMIT


@pytest.mark.parametrize(("name", "kind"), TAKEN)
@pytest.mark.parametrize("seconds", one_of([1e-9, 0.02], 2))
def test_solve_has_a_point_and_its_gap_when_time_is_up(name, kind, seconds, big):
    skip_without(name)
    program = big[FIRST[name, kind]]
    solution = solve(program, name, time_limit=seconds)
    assert_sound(program, solution)
    assert solution.status in (Status.LIMIT, Status.OPTIMAL)
    assert (solution.status is Status.LIMIT) == (solution.certificate.gap > 1e-6)


def test_an_inaccurate_point_worse_than_no_network_is_dropped():
    program = make_program("squared")
    solution = solve(program, Stub(Point(np.full(program.shape, 1e3)), Status.OPTIMAL))
    assert solution.status is Status.LIMIT
    assert not solution.point.weights.any()


@every_lasso_solver
def test_a_generous_time_limit_changes_nothing(name):
    skip_without(name)
    program = make_program("squared")
    free, limited = solve(program, name), solve(program, name, time_limit=1000.0)
    assert np.array_equal(free.point.weights, limited.point.weights)


def test_a_gap_above_the_tolerance_is_no_optimum():
    """Whatever the solver says of itself: the program's gap decides."""
    program = make_program("squared")
    found = solve(program, Stub(Point(np.zeros(program.shape))), tolerance=1e-6)
    assert found.certificate.gap > 1e-6
    assert found.status is Status.LIMIT
    with pytest.raises(ShapeError, match="tolerance: .* below 1"):
        solve(program, Stub(Point(np.zeros(program.shape))), tolerance=1e6)


# --- HiGHS ----------------------------------------------------------------------------------------------

OTHER_THREADS = """
import highspy, numpy as np
first = highspy.Highs()
first.setOptionValue("output_flag", False)
first.setOptionValue("threads", 2)
first.addVar(0.0, 1.0)
first.run()
from convexsnn.programs import L1Program
from convexsnn.solvers import solve
print(solve(L1Program(np.eye(4), [1, -1, 1, -1], "hinge", 0.01), "highs").status.value)
"""


@pytest.mark.slow
def test_highs_works_after_another_number_of_threads():
    """HiGHS keeps one scheduler a process: ours must live with one that somebody started before."""
    done = subprocess.run([sys.executable, "-c", OTHER_THREADS], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "optimal"


@pytest.mark.slow
def test_highs_solves_quadratic_programs_of_many_rows():
    rng = np.random.default_rng(0)
    dictionary = rng.random((3000, 20)) < 0.4
    labels = np.sign(dictionary @ rng.standard_normal(20) + 0.3 * rng.standard_normal(3000))
    program = make_program("squared_hinge", dictionary=dictionary, targets=labels, rows=3000, fraction=0.1)
    solution = solve(program, "highs", tolerance=1e-4, time_limit=10.0)
    assert solution.certificate.gap <= SOLVERS["highs"].capabilities.gap["qp"]


def test_a_solver_that_stops_without_a_point_says_so(monkeypatch):
    monkeypatch.setattr(highspy.Highs, "run", lambda solver: highspy.HighsStatus.kError)
    with pytest.raises(SolverFailed, match="highs: stopped with"):
        get_solver("highs").solve(make_program("hinge"))


def test_one_number_under_a_group_penalty():
    """One column in the only group, by hand: ½ (w − 1)² + λ |w| has its least at 1 − λ."""
    program = L1Program(np.ones((1, 1)), [1.0], "squared", 0.25, penalty=Group(np.zeros(1, int)))
    assert solve(program).point.weights[0, 0] == pytest.approx(0.75, abs=1e-6)
