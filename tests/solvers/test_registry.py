"""What solve does around a solver: presolve, outputs apart, starts, progress; names, kinds and refusals."""

from itertools import count

import numpy as np
import pytest
from small_programs import ROWS, make_program
from solver_cases import (
    GAPS,
    KINDS,
    SMALL,
    Stub,
    assert_sound,
    every_lasso_solver,
    every_pair,
    every_refused,
    is_installed,
    label,
    registered,
    skip_without,
)

from convexsnn.errors import ConvexSNNError, ShapeError, SolverFailed, SolverNotInstalled, UnsupportedError
from convexsnn.programs import Point
from convexsnn.solvers import (
    SOLVERS,
    Status,
    get_solver,
    solve,
)

# --- what solve does around a solver --------------------------------------------------------------------


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("case", ["hinge", "squared", "logistic"])
@pytest.mark.parametrize("fraction", [1.0, 1.5, 100.0])
def test_from_lambda_max_on_no_solver_is_asked(case, outputs, fraction):
    stub = Stub()
    program = make_program(case, outputs=outputs, fraction=fraction)
    solution = solve(program, stub)
    assert stub.asked == []
    assert solution.status is Status.OPTIMAL
    assert not solution.point.weights.any()
    assert solution.certificate.gap <= 1e-12


@every_pair
def test_just_below_lambda_max_a_weight_appears(name, case):
    skip_without(name)
    program = make_program(*case, fraction=0.95)
    assert np.abs(solve(program, name).point.weights).max() > 1e-4


@pytest.mark.parametrize("columns", [0, 4])
def test_a_dictionary_without_ones_is_solved_at_once(columns):
    program = make_program(dictionary=np.zeros((ROWS, columns)), regularization=0.1)
    solution = solve(program)
    assert solution.status is Status.OPTIMAL
    assert solution.point.weights.shape == (columns, 1)
    assert solution.certificate.gap == 0.0


@pytest.mark.parametrize("loss", ["hinge", "squared", "squared_hinge", "logistic"])
def test_outputs_solved_apart_are_the_coupled_optimum(loss):
    program = make_program(loss, outputs=3, weighted=True)
    stub = Stub()
    solve(program, stub)
    assert [p.shape[1] for p, _ in stub.asked] == [1, 1, 1]
    apart, coupled = solve(program), get_solver("cvxpy").solve(program)
    assert apart.certificate.objective == pytest.approx(coupled.certificate.objective, rel=1e-6)
    assert apart.certificate.gap < 1e-6
    np.testing.assert_allclose(
        program.outputs(apart.point.weights), program.outputs(coupled.point.weights), atol=1e-3
    )


@pytest.mark.parametrize("case", [("softmax", "l1"), ("squared", "units"), ("hinge", "blocks")], ids=label)
def test_coupled_outputs_stay_together(case):
    stub = Stub()
    solve(make_program(*case, outputs=3), stub)
    assert [p.shape[1] for p, _ in stub.asked] == [3]


def test_an_output_that_nothing_helps_is_zero_beside_others_that_are_not():
    """λ_max differs by output: above its own, an output needs no solver."""
    rng = np.random.default_rng(2)
    targets = rng.standard_normal((ROWS, 2)) * [1.0, 0.01]
    program, stub = make_program(targets=targets, fraction=0.3), Stub()
    solve(program, stub)
    assert len(stub.asked) == 1
    solution = solve(program)
    assert solution.status is Status.OPTIMAL
    assert not solution.point.weights[:, 1].any()
    assert solution.point.weights[:, 0].any()


def test_the_words_of_a_solver_are_kept_whichever_output_they_are_about():
    targets = np.random.default_rng(2).standard_normal((ROWS, 2)) * [1.0, 0.01]
    assert solve(make_program(targets=targets, fraction=0.3)).solver_status


def test_a_solver_is_given_the_presolved_program_and_the_settings():
    program = make_program("hinge", rows=3 * ROWS, dictionary=np.tile(np.eye(ROWS), (3, 1)))
    stub = Stub()
    solve(program, stub, tolerance=1e-3, options={"a": 1})
    ((reduced, request),) = stub.asked
    assert reduced.dictionary.rows < program.dictionary.rows
    assert request.told_to_stop("half way", 0.5) is False  # nobody watches, nobody stops it
    assert (request.tolerance, request.left, request.start) == (1e-3, None, None)
    assert request.options == {"a": 1}


def test_the_time_limit_of_a_later_output_is_what_is_left(monkeypatch):
    ticks, stub, program = count(), Stub(), make_program("hinge", outputs=3)
    monkeypatch.setattr("time.perf_counter", lambda: float(next(ticks)))  # a second a look
    solve(program, stub, time_limit=100.0)
    deadlines = [request.deadline for _, request in stub.asked]
    assert len(deadlines) == 3 and np.ptp(deadlines) == 0.0  # one for all of them
    assert stub.asked[-1][1].left < 100.0


@pytest.mark.parametrize("outputs", [1, 3])
def test_a_start_reaches_the_solver_output_by_output(outputs):
    program, stub = make_program("hinge", outputs=outputs), Stub()
    start = Point(np.random.default_rng(3).standard_normal(program.shape))
    solve(program, stub, start=start)
    given = np.concatenate([request.start.weights for _, request in stub.asked], axis=1)
    assert np.array_equal(given, start.weights)  # random columns: presolve keeps them all


@every_pair
def test_a_start_is_used_or_honestly_not(name, case):
    skip_without(name)
    program = make_program(*case)
    start = Point(np.random.default_rng(4).standard_normal(program.shape))
    claimed = GAPS[name][program.kind]
    solution = solve(program, name, tolerance=claimed, start=start)
    assert solution.certificate.gap <= claimed
    assert not solution.start_used or get_solver(name).capabilities.warm_start


@pytest.mark.parametrize("shape", [(3, 1), (7, 0)], ids=str)
def test_a_start_of_another_shape_is_refused(shape):
    with pytest.raises(ShapeError, match="start"):
        solve(make_program(), start=Point(np.zeros(shape)))


def test_an_interrupted_point_worse_than_zero_is_dropped():
    program = make_program("squared")
    bad = Stub(Point(np.full(program.shape, 1e3)), Status.LIMIT)
    solution = solve(program, bad)
    assert solution.status is Status.LIMIT
    assert not solution.point.weights.any()
    assert_sound(program, solution)


@pytest.mark.parametrize("outputs", [1, 4])
def test_progress_is_told(outputs):
    told = []
    solve(make_program("hinge", outputs=outputs), progress=lambda line, share: told.append((line, share)))
    begun = [share for line, share in told if line.startswith("solving")]
    assert begun == [k / outputs for k in range(outputs)]
    assert all("gap" in line or share in begun for line, share in told)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("tolerance", 0.0),
        ("tolerance", -1.0),
        ("tolerance", np.nan),
        ("time_limit", 0.0),
        ("time_limit", -1.0),
        ("time_limit", np.nan),
    ],
)
def test_bad_settings_are_refused_by_name(key, value):
    with pytest.raises(ShapeError, match=f"{key}: expected a positive number"):
        solve(make_program(), **{key: value})


# --- names, kinds, refusals -----------------------------------------------------------------------------


def test_kinds_are_those_of_the_capabilities():
    for kind, cases in SMALL.items():
        assert {make_program(*case).kind for case in cases} == {kind}
    assert make_program("logistic", "units").kind == "exponential"
    for cls in SOLVERS.values():
        assert cls.capabilities.programs <= set(KINDS)
        assert set(cls.capabilities.gap) == cls.capabilities.programs


@registered
def test_a_solver_is_named_as_it_is_registered(name):
    cls = SOLVERS[name]
    assert cls.name == name
    assert isinstance(get_solver(name), cls)


@pytest.mark.parametrize("kind", KINDS)
def test_auto_takes_every_kind(kind):
    program = make_program(*SMALL[kind][0])
    solution = solve(program)
    assert_sound(program, solution)
    assert solution.status is Status.OPTIMAL
    assert solution.certificate.gap <= 1e-6


@every_refused
def test_a_program_that_a_solver_does_not_take_is_refused_with_an_alternative(name, case):
    skip_without(name)
    program = make_program(*case)
    able = [other for other, cls in SOLVERS.items() if not cls.capabilities.refusal(program)]
    with pytest.raises(UnsupportedError, match=name) as caught:
        solve(program, name)
    assert program.loss.name in str(caught.value)
    assert program.penalty.name in str(caught.value)
    assert any(other in str(caught.value).split("use ")[1] for other in able)


@every_refused
def test_an_adapter_by_itself_refuses_too(name, case):
    skip_without(name)
    with pytest.raises(UnsupportedError):
        get_solver(name).solve(make_program(*case))


@pytest.mark.parametrize(
    ("given", "nearest"), [("highz", "highs"), ("Highs", "highs"), ("cvxp", "cvxpy"), ("highs:x", "highs")]
)
def test_an_unknown_name_gets_the_nearest(given, nearest):
    with pytest.raises(UnsupportedError, match=f"unknown '{given}'; did you mean '{nearest}'"):
        solve(make_program(), given)


@pytest.mark.parametrize("given", ["zzzzzz", "", ":highs"])
def test_a_name_like_no_other_gets_them_all(given):
    with pytest.raises(UnsupportedError, match=f"unknown '{given}'") as caught:
        solve(make_program(), given)
    assert all(name in str(caught.value) for name in SOLVERS) or "did you mean" in str(caught.value)


def test_get_solver_does_not_propose_what_it_refuses():
    with pytest.raises(UnsupportedError) as caught:
        get_solver("auto")
    assert "did you mean 'auto'" not in str(caught.value)


def test_a_backend_that_is_not_installed_says_what_to_install():
    if is_installed("cvxpy:mosek"):
        pytest.skip("MOSEK is installed")
    with pytest.raises(SolverNotInstalled, match="cvxpy:mosek.*pip install mosek") as caught:
        solve(make_program(), "cvxpy:mosek")
    assert "clarabel" in str(caught.value)  # what is there instead
    assert caught.value.exit_status == 2


def test_a_misspelt_backend_is_not_something_to_install():
    with pytest.raises(ConvexSNNError, match="clarabel") as caught:
        solve(make_program(), "cvxpy:clarabell")
    assert "pip install" not in str(caught.value)


@registered
def test_a_missing_package_says_what_to_install(name, monkeypatch):
    monkeypatch.setattr("convexsnn.solvers.registry.find_spec", lambda module: None)
    with pytest.raises(SolverNotInstalled, match=f"solver {name}: not installed; pip install"):
        solve(make_program("hinge"), name)


@every_lasso_solver
def test_an_option_that_the_solver_does_not_know_is_refused(name):
    skip_without(name)
    with pytest.raises(ConvexSNNError, match="nonsense"):
        solve(make_program("squared"), name, options={"nonsense": 1})


@pytest.mark.parametrize(
    "value",
    [
        "fast",
        1.5,
        [1],
    ],
    ids=str,
)
def test_an_option_value_that_highs_refuses_is_told(value):
    with pytest.raises(SolverFailed, match="highs: option threads = "):
        solve(make_program("hinge"), "highs", options={"threads": value})


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("highs", {"simplex_iteration_limit": 1}),
        ("cvxpy", {"max_iter": 1}),
        ("cvxpy:scs", {"max_iters": 2}),
    ],
)
def test_options_reach_the_solver(name, options):
    """An iteration limit stops it early: the status says so, and the point still has its gap."""
    skip_without(name)
    program = make_program("hinge", rows=60, columns=20, fraction=0.05)
    solution = solve(program, name, options=options)
    assert_sound(program, solution)
    assert solution.status is Status.LIMIT
    assert solution.certificate.gap > 1e-3
