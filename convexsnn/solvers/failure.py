"""What a solver's "infeasible" or "unbounded" says of a program, in the terms of who stated it.

Every program here is feasible, W = 0 will do, and bounded below by 0. So such an answer is about numbers:
scales too far apart for the solver's arithmetic, or a solver at fault. The scales are those that a user sets.
"""

from __future__ import annotations

import numpy as np

from convexsnn.errors import SolverFailed
from convexsnn.programs import L1Program
from convexsnn.solvers.solver import Solution, Status

FAR = 1e6  # largest over smallest from which on a scale is called extreme
HUGE = 1e100  # beyond it, squares overflow
ANSWERS = ("infeasible", "unbounded")


def scales(program: L1Program) -> tuple[list[str], list[str]]:
    """Return a program's scales in words: those that are extreme, and the others."""
    extreme: list[str] = []
    usual: list[str] = []

    def say(is_extreme: bool, words: str) -> None:
        (extreme if is_extreme else usual).append(words)

    fraction = program.regularization / (program.regularization_max or np.inf)
    size = program.regularization
    say(
        fraction < 1.0 / FAR or not 1.0 / HUGE < size < HUGE,
        f"training.regularization {size:.3g} ({fraction:.3g} of λ_max)",
    )
    for name, values in (("targets", program.targets), ("sample_weights", program.sample_weights)):
        sizes = np.abs(values[values != 0])
        if len(sizes):
            low, high = float(sizes.min()), float(sizes.max())
            far = high / FAR > low or high > HUGE or low < 1.0 / HUGE
            say(far, f"{name} of sizes {low:.3g} to {high:.3g}")
    return extreme, usual


def explained(program: L1Program, answer: str) -> str:
    """Return what to make of a solver's answer that a program is infeasible or unbounded."""
    extreme, usual = scales(program)
    said = f"{answer}; but W = 0 is feasible and no objective is below 0, so "
    if extreme:
        return f"{said}the numbers are out of scale: {', '.join(extreme)}"
    return f"{said}the solver is at fault, as no scale is extreme ({', '.join(usual)}); take another solver"


def failure(program: L1Program, solution: Solution) -> SolverFailed:
    """Return the error for a solution that is none."""
    answer = f"solver {solution.solver}: {solution.status.value} ({solution.solver_status})"
    if solution.status in (Status.INFEASIBLE, Status.UNBOUNDED):
        answer = explained(program, answer)
    return SolverFailed(answer)


def in_users_terms(program: L1Program, error: SolverFailed) -> SolverFailed:
    """Return a solver's own error, explained if it says infeasible or unbounded."""
    words = str(error)
    return SolverFailed(explained(program, words) if any(a in words.lower() for a in ANSWERS) else words)
