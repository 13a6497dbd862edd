"""A solver defined in this file goes the whole road, and its mistakes are refused by name."""

import json
from dataclasses import replace

import numpy as np
import pytest
from command_line import one_line
from small_programs import make_program

import convexsnn
from convexsnn.errors import ConvexSNNError, ShapeError, SolverFailed, SolverNotInstalled, UnsupportedError
from convexsnn.programs import Point
from convexsnn.report.solver_table import solver_table
from convexsnn.solvers import SOLVERS, Answer, Capabilities, Solver, get_solver, register_solver
from convexsnn.solvers.registry import AUTO

GAP = {"qp": 1e-6, "lp": 1e-6, "logistic": 1e-6}
TAKES = Capabilities(frozenset(GAP), GAP, False, True, True, kinked=frozenset())


class Toy(Solver):
    """Proximal gradient steps on the ℓ1 program of a smooth loss."""

    name = "toy"
    capabilities = TAKES

    def known_options(self):
        return ("steps",)

    def run(self, program, request):
        d, scale = program.dictionary.toarray().astype(float), program.row_scale
        step = 1.0 / np.linalg.norm(np.sqrt(scale) * d, 2) ** 2
        w = np.zeros(program.shape) if request.start is None else request.start.weights
        for k in range(request.options.get("steps", 100_000)):
            if request.late or (k % 100 == 0 and program.certify(Point(w)).gap <= request.tolerance):
                break
            w = w + step * d.T @ (scale * program.loss.residual(d @ w, program.targets))
            w = np.sign(w) * np.maximum(np.abs(w) - step * program.regularization, 0.0)
        return Answer(Point(w), "done", iterations=k, start_used=request.start is not None)


PROBLEM = """
name = "toy"

[data]
file = "data.npz"

[network]
layers = [{ neuron = "threshold", bias = true }]

[dictionary]
count = 20

[training]
loss = "squared"
regularization = 0.02

[solver]
name = "toy"
"""


@pytest.fixture
def toy():
    register_solver(Toy)
    yield Toy
    del SOLVERS["toy"]


def small_problem(**changes):
    return convexsnn.Problem.from_arrays(
        np.random.default_rng(0).normal(size=(9, 3, 2)), np.arange(9.0) / 9.0, layers=[{"bias": True}],
        training={"loss": "squared", "regularization": 0.01}, dictionary={"count": 20}, **changes,
    )  # fmt: skip


# --- the whole road -------------------------------------------------------------------------------------


def test_it_solves_a_program_by_its_name(toy):
    program = make_program("squared", outputs=2)
    solution = convexsnn.solve(program, "toy")
    assert (solution.solver, solution.solver_status, solution.status.value) == ("toy", "done", "optimal")
    assert solution.certificate.gap <= 1e-6
    best = convexsnn.solve(program, "working_set", tolerance=1e-9).certificate.objective
    assert solution.certificate.objective == pytest.approx(best, rel=1e-6)
    assert set(solution.seconds) == {"build", "solve"} and min(solution.seconds.values()) >= 0.0


def test_an_instance_needs_no_registration():
    assert convexsnn.solve(make_program("logistic"), Toy()).certificate.gap <= 1e-6
    assert "toy" not in SOLVERS


def test_it_trains_a_network_that_is_saved_and_verified(toy, tmp_path):
    result = convexsnn.train(small_problem(), solver="toy")
    assert result.solution.solver == "toy" and result.certificate.gap <= 1e-6
    result.save(tmp_path / "run")
    claim, judged = convexsnn.verify_folder(tmp_path / "run")
    assert claim.gap == pytest.approx(result.certificate.gap, abs=1e-12)


def test_a_problem_file_and_the_command_line_name_it(toy, cli, tmp_path):
    rng = np.random.default_rng(1)
    np.savez(tmp_path / "data.npz", inputs=rng.normal(size=(9, 3, 2)), targets=rng.normal(size=9))
    (tmp_path / "toy.toml").write_text(PROBLEM, encoding="utf-8")
    status, out, err = cli("solve", "toy.toml", "--out", "run", "--json")
    assert status == 0, err
    assert json.loads(out)["solver"] == "toy"
    assert cli("verify", "run")[0] == 0


def test_it_is_listed_with_what_it_takes(toy, cli):
    status, out, _ = cli("solvers")
    assert status == 0
    assert any(line.split()[0] == "toy" and "takes logistic, lp, qp" in line for line in out.splitlines())
    (row,) = [row for row in json.loads(cli("solvers", "--json")[1]) if row["name"] == "toy"]
    assert row["installed"] is True and row["programs"] == ["logistic", "lp", "qp"]


def test_others_name_it_where_they_refuse(toy):
    with pytest.raises(UnsupportedError, match=r"solver highs: .* logistic .*; use .*toy"):
        convexsnn.solve(make_program("logistic"), "highs")


def test_where_columns_are_far_too_many_it_sees_few_of_them(toy):
    program, widths = make_program("squared", rows=30, columns=3000, fraction=0.3), []

    class Watched(Toy):
        def run(self, program, request):
            widths.append(program.shape[0])
            return super().run(program, request)

    assert convexsnn.solve(program, Watched()).certificate.gap <= 1e-6
    assert max(widths) < 1000


# --- what it is handed ----------------------------------------------------------------------------------


class Keeps(Toy):
    """Keeps what it is asked."""

    def run(self, program, request):
        self.request, self.left = request, request.left
        return Answer(None, "out of time")


def test_limits_options_start_and_progress_are_handed_down():
    keeps, program, told = Keeps(), make_program("squared"), []
    start = Point(np.ones(program.shape))
    solution = keeps.solve(
        program,
        tolerance=1e-3,
        time_limit=60.0,
        start=start,
        options={"steps": 7},
        progress=lambda line, share: told.append((line, share)),
    )
    assert 0.0 < keeps.left <= 60.0
    assert (keeps.request.tolerance, keeps.request.start, keeps.request.options) == (
        1e-3,
        start,
        {"steps": 7},
    )
    assert not keeps.request.told_to_stop("a line", 0.5) and told == [("a line", 0.5)]
    assert not keeps.request.late
    assert not solution.point.weights.any()  # W = 0 stands for a point that it does not have
    assert (solution.status.value, solution.solver_status) == ("limit", "out of time")


def test_time_that_is_over_is_still_a_positive_limit():
    keeps = Keeps()
    keeps.solve(make_program("squared"), time_limit=1e-12)
    assert keeps.left > 0.0 and keeps.request.late


def test_a_solver_that_takes_no_start_gets_none():
    class Cold(Keeps):
        capabilities = Capabilities(frozenset({"qp"}), {}, False, False, False)

    cold, program = Cold(), make_program("squared")
    cold.solve(program, start=Point(np.ones(program.shape)))
    assert cold.request.start is None


# --- refusals -------------------------------------------------------------------------------------------


def refused(error, call, *words):
    """Return the error of a call: one line with these words in it."""
    with pytest.raises(error) as caught:
        call()
    told = str(caught.value)
    assert "\n" not in told
    assert all(word in told for word in words), told
    return told


@pytest.mark.parametrize(
    ("case", "words"),
    [
        (("squared", "units"), "takes logistic, lp, qp programs, not cone (loss squared, penalty group)"),
        (("hinge",), "lp (loss hinge, penalty l1)"),
    ],
)
def test_a_program_that_it_does_not_take(toy, case, words):
    refused(UnsupportedError, lambda: Toy().solve(make_program(*case)), "solver toy: ", words)
    refused(UnsupportedError, lambda: convexsnn.solve(make_program(*case), "toy"), words, "; use ")


def test_an_unknown_option(toy):
    program = make_program("squared")
    words = "options: solver toy has no option 'step'; did you mean 'steps'?"
    refused(ShapeError, lambda: convexsnn.solve(program, "toy", options={"step": 1}), words)

    class Plain(Toy):
        def known_options(self):
            return ()

    refused(ShapeError, lambda: Plain().solve(program, options={"steps": 1}), "toy takes none, got steps")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"tolerance": 2.0}, "tolerance: "),
        ({"time_limit": -1.0}, "time_limit: "),
        ({"start": Point(np.ones((2, 2)))}, "start: expected weights (7, 1), got (2, 2)"),
    ],
)
def test_wrong_settings_never_reach_it(settings, words):
    keeps = Keeps()
    refused(ShapeError, lambda: keeps.solve(make_program("squared"), **settings), words)
    assert not hasattr(keeps, "request")


def without(part):
    """Return a class that leaves a part out."""
    parts = {"name": "part", "capabilities": TAKES, "run": Toy.run}
    del parts[part]
    return type("Partial", (Solver,), parts)


@pytest.mark.parametrize("part", ["name", "capabilities", "run"])
def test_a_class_that_leaves_a_part_out(part):
    for call in (lambda: without(part)(), lambda: register_solver(without(part))):
        refused(ConvexSNNError, call, "class Partial does not define", part)
    assert "part" not in SOLVERS


def test_names_that_are_taken_or_are_none(toy):
    class Other(Toy):
        pass

    refused(ShapeError, lambda: register_solver(Other), "'toy' is registered already, as Toy")
    assert register_solver(Toy) is Toy
    for name in ("auto", "toy:fast"):
        refused(ShapeError, lambda: register_solver(type("Odd", (Toy,), {"name": name})), name)  # noqa: B023
    refused(ShapeError, lambda: register_solver("toy"), "expected a subclass of Solver, got 'toy'")
    refused(UnsupportedError, lambda: get_solver("toy:fast"), "did you mean 'toy'")


def test_capabilities_that_are_wrong_or_not_complete():
    refused(UnsupportedError, lambda: Capabilities(frozenset({"QP"}), {}, True, True, True), "'QP'")
    bare = type("Bare", (Toy,), {"name": "bare", "capabilities": replace(TAKES, gap={"qp": 1e-6, "lp": 1.0})})
    refused(UnsupportedError, lambda: register_solver(bare), "solver bare: ", "no gap for logistic programs")


def test_a_package_that_is_missing(toy, monkeypatch):
    monkeypatch.setattr(Toy, "package", "no_such_package")
    program = make_program("squared")
    words = "solver toy: not installed; pip install no_such_package"
    refused(SolverNotInstalled, lambda: convexsnn.solve(program, "toy"), words)


NAN = np.full((7, 1), np.nan)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer(Point(NAN), "solved"), "stopped with 'solved' and weights that are not finite"),
        (Answer(Point(np.zeros((7, 1)), np.full((13, 1), np.inf)), "solved"), "dual that are not finite"),
        (Answer(Point(np.zeros(7)), "solved"), "returned weights of shape (7,), expected (7, 1)"),
        (Answer(Point(np.zeros((7, 1)), np.zeros(13))), "returned dual of shape (13,), expected (13, 1)"),
        (None, "its method run returned NoneType, expected an Answer"),
        (np.zeros((7, 1)), "its method run returned ndarray, expected an Answer"),
    ],
)
def test_an_answer_that_is_none_is_never_certified(answer, words, monkeypatch):
    class Wrong(Toy):
        def run(self, program, request):
            return answer

    certified = []
    monkeypatch.setattr("convexsnn.programs.L1Program.certify", lambda *_: certified.append(1))
    refused(SolverFailed, lambda: Wrong().solve(make_program("squared")), "solver toy: ", words)
    assert certified == []


def test_the_command_line_says_in_one_line_what_is_wrong(toy, cli, tmp_path):
    rng = np.random.default_rng(1)
    np.savez(tmp_path / "data.npz", inputs=rng.normal(size=(9, 3, 2)), targets=np.sign(rng.normal(size=9)))
    text = PROBLEM.replace('loss = "squared"', 'loss = "hinge"')
    (tmp_path / "toy.toml").write_text(text, encoding="utf-8")
    status, _, err = cli("solve", "toy.toml")
    assert status != 0 and "solver toy: takes losses without kinks" in one_line(err)


def test_auto_says_when_none_of_its_solvers_takes_a_program(monkeypatch):
    monkeypatch.setitem(AUTO, "logistic", ("highs",))
    call, words = (
        lambda: convexsnn.solve(make_program("logistic")),
        "solver auto: none of highs",
    )
    assert "working_set" in refused(UnsupportedError, call, words).split("; use ")[1]
    monkeypatch.delitem(AUTO, "logistic")
    refused(UnsupportedError, call, "solver auto: has no solvers for logistic programs")


def test_the_table_of_solvers_has_a_row_of_it(toy):
    (row,) = [line for line in solver_table().splitlines() if line.startswith("| `toy` |")]
    assert "ℓ1 1e-6" in row
