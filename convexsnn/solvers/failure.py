"""The meaning of a solver's "infeasible" or "unbounded", in the terms of the user's problem.

Every program here is feasible, because W = 0 is feasible, and bounded below by 0. So such an answer has a
numerical cause: the scales are too far apart for the solver's arithmetic, or the solver is wrong. The scales
are those of the user's settings and data.
"""

from __future__ import annotations

import numpy as np

from convexsnn.errors import SolverFailed
from convexsnn.programs import L1Program
from convexsnn.solvers.solver import Solution, Status

FAR = 1e6  # ratio of largest to smallest above which a scale is extreme
HUGE = 1e100  # above it, squares overflow
ANSWERS = ("infeasible", "unbounded")


def scales(program: L1Program) -> tuple[list[str], list[str]]:
    """Return the description of a program's extreme scales, and that of the others."""
    extreme: list[str] = []
    usual: list[str] = []

    def add(is_extreme: bool, text: str) -> None:
        (extreme if is_extreme else usual).append(text)

    fraction = program.regularization / (program.regularization_max or np.inf)
    size = program.regularization
    add(
        fraction < 1.0 / FAR or not 1.0 / HUGE < size < HUGE,
        f"training.regularization {size:.3g} ({fraction:.3g} of λ_max)",
    )
    for name, values in (("targets", program.targets), ("sample_weights", program.sample_weights)):
        sizes = np.abs(values[values != 0])
        if len(sizes):
            low, high = float(sizes.min()), float(sizes.max())
            far = high / FAR > low or high > HUGE or low < 1.0 / HUGE
            add(far, f"{name} of sizes {low:.3g} to {high:.3g}")
    return extreme, usual


def explained(program: L1Program, answer: str) -> str:
    """Return the explanation of a solver's answer that a program is infeasible or unbounded."""
    extreme, usual = scales(program)
    prefix = f"{answer}; but W = 0 is feasible and no objective is below 0, so "
    if extreme:
        return f"{prefix}the numbers are out of scale: {', '.join(extreme)}"
    return f"{prefix}the solver is at fault, as no scale is extreme ({', '.join(usual)}); take another solver"


def failure(program: L1Program, solution: Solution) -> SolverFailed:
    """Return the error for a solution whose status is a failure."""
    answer = f"solver {solution.solver}: {solution.status.value} ({solution.solver_status})"
    if solution.status in (Status.INFEASIBLE, Status.UNBOUNDED):
        answer = explained(program, answer)
    return SolverFailed(answer)


def in_users_terms(program: L1Program, error: SolverFailed) -> SolverFailed:
    """Return a solver's error, with an explanation if it says infeasible or unbounded."""
    text = str(error)
    return SolverFailed(explained(program, text) if any(a in text.lower() for a in ANSWERS) else text)
