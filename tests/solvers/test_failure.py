"""A solver that says infeasible or unbounded: the error speaks of the scales that a user sets."""

import numpy as np
import pytest
from small_programs import make_program

import convexsnn
from convexsnn.errors import SolverFailed
from convexsnn.programs import Point
from convexsnn.solvers import Answer, Capabilities, Solver, Status, solve
from convexsnn.solvers.failure import failure


class Answers(Solver):
    """Says one thing, by a status or an error."""

    name = "oracle"
    capabilities = Capabilities(frozenset({"lp", "qp"}), {}, False, False, False)

    def __init__(self, answer):
        self.answer = answer

    def run(self, program, request):
        if isinstance(self.answer, str):
            raise SolverFailed(self.answer)
        return Answer(Point(np.zeros(program.shape)), "its words", self.answer)


FAR = 10.0 ** np.linspace(-8, 8, 13)


@pytest.mark.parametrize(
    ("changes", "extreme", "usual"),
    [
        ({"fraction": 1e-9}, "training.regularization", "targets"),
        ({"sample_weights": FAR}, "sample_weights of sizes 1e-08 to 1e+08", "targets"),
        ({"targets": FAR}, "targets of sizes 1e-08 to 1e+08", "training"),
    ],
)
@pytest.mark.parametrize("answer", [Status.INFEASIBLE, Status.UNBOUNDED, "oracle: stopped with 'Infeasible'"])
def test_an_impossible_answer_names_the_extreme_scales(answer, changes, extreme, usual):
    program = make_program("squared", **changes)
    with pytest.raises(SolverFailed) as caught:
        solution = solve(program, Answers(answer))
        raise failure(program, solution)
    told = str(caught.value)
    assert "the numbers are out of scale: " in told and "\n" not in told
    assert extreme in told and usual not in told


def test_an_impossible_answer_on_a_usual_program_blames_the_solver():
    program = make_program("squared")
    told = str(failure(program, solve(program, Answers(Status.UNBOUNDED))))
    assert told.startswith("solver oracle: unbounded (its words); but W = 0 is feasible")
    assert "the solver is at fault" in told and "(0.3 of λ_max)" in told and "take another solver" in told
    given = convexsnn.Problem.from_arrays(
        np.random.default_rng(0).normal(size=(9, 3, 2)), np.arange(9.0), layers=[{"bias": True}],
        training={"loss": "squared", "regularization": 0.01}, dictionary={"count": 20},
    )  # fmt: skip
    with pytest.raises(SolverFailed, match="W = 0 is feasible"):
        convexsnn.train(given, solver=Answers(Status.INFEASIBLE))


@pytest.mark.parametrize("answer", [Status.FAILED, "oracle: option x was refused"])
def test_other_failures_are_not_explained_away(answer):
    program = make_program("squared")
    with pytest.raises(SolverFailed) as caught:
        raise failure(program, solve(program, Answers(answer)))
    assert "feasible" not in str(caught.value)
