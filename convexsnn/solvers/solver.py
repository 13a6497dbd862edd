"""What every solver says of itself and gives back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import Enum
from typing import Any, ClassVar

import numpy as np

from convexsnn.arrays import FloatArray, IntArray
from convexsnn.errors import ShapeError, UnsupportedError
from convexsnn.programs import AnyProgram, Block, Certificate, L1Program, Point

MOST_COPIES = 100_000


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
    duals : bool
        Whether its own dual point comes back with the weights.
    losses : frozenset of str, optional
        Of these kinds only programs with these losses; any if not given.
    whole_weights : frozenset of str
        Losses of which it takes only sample weights that are `copies`.
    standard_forms : bool
        Whether it works from standard forms, and so takes any program of its kinds; else only an `L1Program`.
    """

    programs: frozenset[str]
    gap: Mapping[str, float]
    duals: bool
    warm_start: bool
    time_limit: bool
    extra: str | None = None
    losses: frozenset[str] | None = None
    whole_weights: frozenset[str] = frozenset()
    standard_forms: bool = False

    def refusal(self, program: AnyProgram) -> str | None:
        """Return what stands between a solver and a program, or None if it takes it."""
        kind = kind_of(program)
        described = f"{kind} ({details(program)})"
        if kind not in self.programs:
            return f"takes {', '.join(sorted(self.programs))} programs, not {described}"
        if isinstance(program, Block):
            return None if self.standard_forms else f"takes programs over a dictionary, not {described}"
        loss = program.loss.name
        if self.losses is not None and loss not in self.losses:
            return f"takes the losses {', '.join(sorted(self.losses))}, not {described}"
        if loss in self.whole_weights and copies(program.sample_weights) is None:
            return f"takes {described} only with sample weights in ratios of small whole numbers"
        return None


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
    """Takes a program, returns a point. One subclass and one registry line add a solver.

    Attributes
    ----------
    methods : collection of str, or None
        What may follow its name after a colon and is handed to its constructor; None: anything.
    """

    name: str
    capabilities: Capabilities
    methods: ClassVar[Collection[str] | None] = ()

    @abstractmethod
    def solve(
        self,
        program: AnyProgram,
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


def copies(weights: FloatArray) -> IntArray | None:
    """Return how many equal rows each weight (R,) stands for, up to one factor; None if too many."""
    for unit in range(1, 1001):
        times = weights * (unit / weights.min())
        if times.sum() > MOST_COPIES:
            return None
        if (abs(times - np.rint(times)) <= 1e-9 * times).all():
            return np.rint(times).astype(np.int64)
    return None


def refuse_unknown(name: str, options: Mapping[str, Any], known: Collection[str]) -> None:
    """Raise a ShapeError that names the first option of a solver that is not among the known ones."""
    for key in options:
        if key not in known:
            match = get_close_matches(key, known, n=1)
            hint = f"did you mean {match[0]!r}?" if match else f"known: {', '.join(sorted(known))}"
            raise ShapeError(f"options: solver {name} has no option {key!r}; {hint}")


def kind_of(program: AnyProgram) -> str:
    """Return which of the kinds of `Capabilities.programs` a program is."""
    if isinstance(program, Block):
        return program.kind
    if program.loss.name == "logistic" and program.penalty.name == "l1":
        return "logistic"
    if program.loss.name in ("logistic", "softmax"):
        return "exponential"
    if program.penalty.name != "l1":
        return "cone"
    return "lp" if program.loss.name == "hinge" else "qp"


def details(program: AnyProgram) -> str:
    """Return what a program of its kind is, as refusals say it."""
    if isinstance(program, Block):
        return program.name
    return f"loss {program.loss.name}, penalty {program.penalty.name}"


def over_dictionary(solver: Solver, program: AnyProgram) -> L1Program:
    """Return the program, one that `solver` takes and that has a dictionary, or raise an UnsupportedError."""
    refusal = solver.capabilities.refusal(program)
    if refusal or isinstance(program, Block):
        raise UnsupportedError(f"solver {solver.name}: {refusal}")
    return program
