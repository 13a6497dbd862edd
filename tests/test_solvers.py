"""One conformance suite for all solvers: whatever a solver is, its point is judged by the program.

What a registered solver must reach is what its own `Capabilities` say; the backends of cvxpy, which have
none of their own, are held to the table below.
"""

import subprocess
import sys

import cvxpy
import highspy
import numpy as np
import pytest
from small_programs import ROWS, dual_norm, make_program, slow_objective, solve_cone

from convexsnn.errors import ConvexSNNError, ShapeError, SolverFailed, SolverNotInstalled, UnsupportedError
from convexsnn.programs import Group, L1Program, Point
from convexsnn.solvers import (
    SOLVERS,
    Capabilities,
    Solution,
    Solver,
    Status,
    get_solver,
    installed,
    kind_of,
    solve,
)

# Gap that the backends of cvxpy reach on small programs, by kind: first-order methods less than others.
BACKENDS = {
    "cvxpy:clarabel": dict.fromkeys(("lp", "qp", "cone", "logistic", "exponential"), 1e-6),
    "cvxpy:scs": dict.fromkeys(("lp", "qp", "cone", "logistic", "exponential"), 1e-4),
    "cvxpy:osqp": {"lp": 1e-4, "qp": 1e-4},
}
GAPS = {**{name: cls.capabilities.gap for name, (cls, _) in SOLVERS.items()}, **BACKENDS}
KINDS = ("lp", "qp", "cone", "logistic", "exponential")
SMALL = {  # every kind of program, the losses and penalties that make it up, few and many outputs
    "lp": [("hinge", "l1", 1, False), ("hinge", "l1", 3, True)],
    "qp": [("squared", "l1", 1, True), ("squared_hinge", "l1", 1, False), ("squared", "l1", 3, False)],
    "cone": [
        ("squared", "units", 3, False),
        ("hinge", "blocks", 1, True),
        ("squared_hinge", "units", 2, True),
    ],
    "logistic": [("logistic", "l1", 1, True), ("logistic", "l1", 3, False)],
    "exponential": [
        ("softmax", "l1", 3, False),
        ("softmax", "blocks", 2, True),
        ("logistic", "units", 2, True),
    ],
}
TAKEN = [(name, kind) for name, gaps in GAPS.items() for kind in KINDS if kind in gaps]
REFUSED = [(name, kind) for name, gaps in GAPS.items() for kind in KINDS if kind not in gaps]
PAIRS = [(name, case) for name, kind in TAKEN for case in SMALL[kind]]


def is_installed(name):
    base, _, backend = name.partition(":")
    return installed(base) and (not backend or backend.upper() in cvxpy.installed_solvers())


def skip_without(name):
    if not is_installed(name):
        pytest.skip(f"{name} is not installed")


def label(value):
    return value if isinstance(value, str) else "-".join(map(str, value))


every_solver = pytest.mark.parametrize("name", GAPS)
registered = pytest.mark.parametrize("name", SOLVERS)
every_pair = pytest.mark.parametrize(("name", "case"), PAIRS, ids=label)
every_refused = pytest.mark.parametrize(("name", "kind"), REFUSED)


def assert_sound(program, solution):
    """The certificate is finite, honest and the program's own; anybody can check it with dense arrays."""
    found = solution.certificate
    assert solution.point.weights.shape == program.shape
    assert np.isfinite(solution.point.weights).all()
    again = program.certify(solution.point)
    assert (again.objective, again.lower_bound, again.gap) == (found.objective, found.lower_bound, found.gap)
    assert np.isfinite([found.objective, found.lower_bound, found.gap]).all()
    assert found.gap >= -1e-12
    assert found.objective == pytest.approx(slow_objective(program, solution.point.weights), rel=1e-12)
    assert program.dual_objective(Point(solution.point.weights, found.dual)) == found.lower_bound
    u = program.dictionary.toarray().T.astype(float) @ found.dual
    assert dual_norm(program.penalty, u) <= program.regularization * (1.0 + 1e-12)


class Stub(Solver):
    """Answers with one point, keeps what it was asked."""

    name = "stub"
    capabilities = Capabilities(frozenset(KINDS), dict.fromkeys(KINDS, 0.0), True, True, True)

    def __init__(self, point=None, status=Status.OPTIMAL):
        self.point, self.status, self.asked = point, status, []

    def solve(self, program, **settings):
        self.asked.append((program, settings))
        point = Point(np.zeros(program.shape)) if self.point is None else self.point
        return Solution(point, self.status, program.certify(point), self.name)


# --- conformance ----------------------------------------------------------------------------------------


@every_pair
@pytest.mark.parametrize("fraction", [0.05, 0.5])
def test_a_solver_reaches_the_gap_that_it_claims(name, case, fraction):
    skip_without(name)
    program = make_program(*case, fraction=fraction)
    claimed = GAPS[name][kind_of(program)]
    solution = solve(program, name, tolerance=claimed)
    assert_sound(program, solution)
    assert solution.certificate.gap <= claimed
    assert solution.status is Status.OPTIMAL
    assert solution.solver.startswith(name)
    assert set(solution.seconds) == {"build", "solve"}
    assert min(solution.seconds.values()) >= 0.0
    optimum = solve_cone(program.to_cone())[2]
    assert solution.certificate.objective == pytest.approx(optimum, rel=2.0 * claimed)


@every_pair
def test_a_solver_by_itself_gives_the_whole_program(name, case):
    """Without presolve and without splitting, in the adapter's own hands."""
    skip_without(name)
    program = make_program(*case)
    solver = get_solver(name)
    claimed = GAPS[name][kind_of(program)]
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
    losses = {"lp": "hinge", "qp": "squared", "logistic": "logistic"}
    for loss in (loss for kind, loss in losses.items() if kind in GAPS[name]):
        program = make_program(loss, dictionary=dictionary, rows=shape[0])
        claimed = GAPS[name][kind_of(program)]
        solution = solve(program, name, tolerance=claimed)
        assert_sound(program, solution)
        assert solution.certificate.gap <= claimed
        assert not solution.point.weights[1].any()


@pytest.mark.parametrize(("name", "kind"), TAKEN)
def test_labels_of_one_class(name, kind):
    skip_without(name)
    loss = {"lp": "hinge", "logistic": "logistic", "exponential": "logistic"}.get(kind, "squared_hinge")
    for label_ in (1.0, -1.0):
        penalty = "units" if kind in ("cone", "exponential") else "l1"
        program = make_program(loss, penalty, targets=np.full(ROWS, label_))
        claimed = GAPS[name][kind]
        solution = solve(program, name, tolerance=claimed)
        assert_sound(program, solution)
        assert solution.certificate.gap <= claimed
        assert (label_ * solution.point.weights >= -1e-6).all()  # nothing pulls the other way


@every_pair
def test_a_solver_is_deterministic(name, case):
    skip_without(name)
    first, second = (solve(make_program(*case), name).point.weights for _ in range(2))
    assert np.array_equal(first, second)


UNITS_DO_NOT_MATTER = {("cvxpy:osqp", "targets in thousandths")}


@every_solver
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
    """Programs, one of every kind, that take every solver well over a millisecond."""
    made = {}
    for kind, (loss, penalty, outputs, _) in {k: cases[0] for k, cases in SMALL.items()}.items():
        made[kind] = make_program(loss, penalty, outputs, rows=600, columns=600, fraction=0.01)
    return made


@pytest.mark.parametrize(("name", "kind"), TAKEN)
@pytest.mark.parametrize("seconds", [1e-9, 1e-3])
def test_an_interrupted_solver_leaves_a_point_and_its_gap(name, kind, seconds, big):
    """In the adapter's own hands: through `solve`, presolve may have used up all the time."""
    skip_without(name)
    solution = get_solver(name).solve(big[kind], time_limit=seconds)
    assert_sound(big[kind], solution)
    assert solution.certificate.gap > 1e-6
    assert solution.status is Status.LIMIT


@pytest.mark.parametrize(("name", "kind"), TAKEN)
@pytest.mark.parametrize("seconds", [1e-9, 0.02])
def test_solve_has_a_point_and_its_gap_when_time_is_up(name, kind, seconds, big):
    skip_without(name)
    solution = solve(big[kind], name, time_limit=seconds)
    assert_sound(big[kind], solution)
    assert solution.status in (Status.LIMIT, Status.OPTIMAL)
    assert (solution.status is Status.LIMIT) == (solution.certificate.gap > 1e-6)


def test_an_inaccurate_point_worse_than_no_network_is_dropped():
    program = make_program("squared")
    solution = solve(program, Stub(Point(np.full(program.shape, 1e3)), Status.OPTIMAL))
    assert solution.status is Status.LIMIT
    assert not solution.point.weights.any()


@every_solver
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
    ((reduced, settings),) = stub.asked
    assert reduced.dictionary.rows < program.dictionary.rows
    assert settings == {"tolerance": 1e-3, "time_limit": None, "start": None, "options": {"a": 1}}


def test_the_time_limit_of_a_later_output_is_what_is_left():
    stub = Stub()
    solve(make_program("hinge", outputs=3), stub, time_limit=100.0)
    limits = [settings["time_limit"] for _, settings in stub.asked]
    assert 100.0 > limits[0] > limits[1] > limits[2] > 99.0


@pytest.mark.parametrize("outputs", [1, 3])
def test_a_start_reaches_the_solver_output_by_output(outputs):
    program, stub = make_program("hinge", outputs=outputs), Stub()
    start = Point(np.random.default_rng(3).standard_normal(program.shape))
    solve(program, stub, start=start)
    given = np.concatenate([settings["start"].weights for _, settings in stub.asked], axis=1)
    assert np.array_equal(given, start.weights)  # random columns: presolve keeps them all


@every_pair
def test_a_start_is_used_or_honestly_not(name, case):
    skip_without(name)
    program = make_program(*case)
    start = Point(np.random.default_rng(4).standard_normal(program.shape))
    claimed = GAPS[name][kind_of(program)]
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
    assert [share for _, share in told] == [k / outputs for k in range(outputs)]
    assert all(line for line, _ in told)


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
        assert {kind_of(make_program(*case)) for case in cases} == {kind}
    assert kind_of(make_program("logistic", "units")) == "exponential"
    for cls, _ in SOLVERS.values():
        assert cls.capabilities.programs <= set(KINDS)
        assert set(cls.capabilities.gap) == cls.capabilities.programs


@registered
def test_a_solver_is_named_as_it_is_registered(name):
    cls, _ = SOLVERS[name]
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
def test_a_program_that_a_solver_does_not_take_is_refused_with_an_alternative(name, kind):
    skip_without(name)
    program = make_program(*SMALL[kind][0])
    able = [other for other, (cls, _) in SOLVERS.items() if kind in cls.capabilities.programs]
    with pytest.raises(UnsupportedError, match=name) as caught:
        solve(program, name)
    assert program.loss.name in str(caught.value)
    assert program.penalty.name in str(caught.value)
    assert any(other in str(caught.value).split("use ")[1] for other in able)


@every_refused
def test_an_adapter_by_itself_refuses_too(name, kind):
    skip_without(name)
    with pytest.raises(UnsupportedError):
        get_solver(name).solve(make_program(*SMALL[kind][0]))


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


@every_solver
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


def test_highs_works_after_another_number_of_threads():
    """HiGHS keeps one scheduler a process: ours must live with one that somebody started before."""
    done = subprocess.run([sys.executable, "-c", OTHER_THREADS], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "optimal"


def test_highs_solves_quadratic_programs_of_many_rows():
    rng = np.random.default_rng(0)
    dictionary = rng.random((3000, 20)) < 0.4
    labels = np.sign(dictionary @ rng.standard_normal(20) + 0.3 * rng.standard_normal(3000))
    program = make_program("squared_hinge", dictionary=dictionary, targets=labels, rows=3000, fraction=0.1)
    solution = solve(program, "highs", tolerance=1e-4, time_limit=10.0)
    assert solution.certificate.gap <= SOLVERS["highs"][0].capabilities.gap["qp"]


def test_a_solver_that_stops_without_a_point_says_so(monkeypatch):
    monkeypatch.setattr(highspy.Highs, "run", lambda solver: highspy.HighsStatus.kError)
    with pytest.raises(SolverFailed, match="highs: stopped with"):
        get_solver("highs").solve(make_program("hinge"))


def test_one_number_under_a_group_penalty():
    """One column in the only group, by hand: ½ (w − 1)² + λ |w| has its least at 1 − λ."""
    program = L1Program(np.ones((1, 1)), [1.0], "squared", 0.25, penalty=Group(np.zeros(1, int)))
    assert solve(program).point.weights[0, 0] == pytest.approx(0.75, abs=1e-6)
