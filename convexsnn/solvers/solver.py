"""What every solver says of itself and gives back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar

from convexsnn.programs import Certificate, L1Program, Point


class Status(Enum):
    """How a solver stopped; the same event has the same status in every adapter."""

    OPTIMAL = "optimal"
    LIMIT = "limit"  # time or iterations ran out; the point is the best one known
    INFEASIBLE = "infeasible"
    UNBOUNDED = "unbounded"
    FAILED = "failed"


@dataclass(frozen=True)
class Capabilities:
    """What a solver takes and gives; refusals and the conformance suite are made from this.

    Attributes
    ----------
    programs : frozenset of str
        Among "lp" (ℓ1 with hinge), "qp" (ℓ1 with squared losses), "logistic" (ℓ1 with it), "cone" (group
        penalties) and "exponential" (softmax, and groups with the logistic loss).
    gap : dict
        Relative gap that it reaches on small programs, by kind of program.
    """

    programs: frozenset[str]
    gap: Mapping[str, float]
    duals: bool
    warm_start: bool
    time_limit: bool
    extra: str | None = None


@dataclass(frozen=True, eq=False)
class Solution:
    """A solver's point, judged by the program.

    Attributes
    ----------
    certificate : Certificate
        Computed from the point by the program, never taken from the solver.
    solver_status : str
        The solver's own words.
    start_used : bool
        Whether a starting point was really used.
    seconds : dict
        "build" (conversion) and "solve".
    """

    point: Point
    status: Status
    certificate: Certificate
    solver: str
    solver_status: str = ""
    iterations: int | None = None
    start_used: bool = False
    seconds: Mapping[str, float] = field(default_factory=dict)


Progress = Callable[[str, float], object]  # a line and the finished share; what returns True asks to stop


class Solver(ABC):
    """Takes a program, returns a point. One subclass and one registry line add a solver."""

    name: ClassVar[str]
    capabilities: ClassVar[Capabilities]

    @abstractmethod
    def solve(
        self,
        program: L1Program,
        *,
        tolerance: float = 1e-6,
        time_limit: float | None = None,
        start: Point | None = None,
        options: Mapping[str, Any] | None = None,
        progress: Progress | None = None,
    ) -> Solution:
        """Solve `program` until its own measure of `tolerance` (relative) or `time_limit` seconds.

        A solver that cannot be watched does not call `progress`.

        Raises
        ------
        UnsupportedError
            The program is of a kind that the solver does not take.
        SolverNotInstalled
            Its package is missing.
        SolverFailed
            It stopped without a point.
        """


def kind_of(program: L1Program) -> str:
    """Return which of the kinds of `Capabilities.programs` a program is."""
    if program.loss.name == "logistic" and program.penalty.name == "l1":
        return "logistic"
    if program.loss.name in ("logistic", "softmax"):
        return "exponential"
    if program.penalty.name != "l1":
        return "cone"
    return "lp" if program.loss.name == "hinge" else "qp"
