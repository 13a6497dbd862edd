"""The base class of solvers: check the program, start the clock, run, certify the point, return a Solution.

A solver defines its name, its `Capabilities` and one method, `run`. This method converts the program, calls
the package and maps its answer back. Everything else is common to all solvers and is in this module.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar, Self

import numpy as np

from convexsnn.arrays import FloatArray
from convexsnn.errors import ShapeError, SolverFailed, UnsupportedError, nearest
from convexsnn.programs import AnyProgram, Certificate, Point
from convexsnn.solvers.capabilities import Capabilities, over_dictionary

SOON = 1e-9  # seconds: the time limit when no time is left, because solvers take only positive limits


class Status(Enum):
    """How a solver stopped; the same event has the same status in every adapter."""

    OPTIMAL = "optimal"
    LIMIT = "limit"  # time or iterations ran out; the point is the best one known
    INFEASIBLE = "infeasible"
    UNBOUNDED = "unbounded"
    FAILED = "failed"


@dataclass(frozen=True, eq=False)
class Solution:
    """A solver's point, certified by the program.

    Attributes
    ----------
    certificate : Certificate
        Computed from the point by the program, never taken from the solver.
    solver_status : str
        The status in the words of the solver.
    start_used : bool
        Whether the solver used the starting point.
    seconds : dict
        "build" (conversion of program and answer) and "solve".
    """

    point: Point
    status: Status
    certificate: Certificate
    solver: str
    solver_status: str = ""
    iterations: int | None = None
    start_used: bool = False
    seconds: Mapping[str, float] = field(default_factory=dict)


Progress = Callable[[str, float], object]  # a line of text and the share that is done; True asks to stop


@dataclass(frozen=True, eq=False)
class Request:
    """The arguments of a solver besides the program.

    Attributes
    ----------
    tolerance : float
        Relative duality gap that the solver should reach.
    deadline : float
        Value of `time.perf_counter` at which it must stop; inf without a time limit.
    start : Point, optional
        Starting point; None for a solver or a program that does not use one.
    options : mapping
        Options of this solver; all of them are among its `known_options`.
    """

    tolerance: float
    deadline: float = np.inf
    start: Point | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    progress: Progress | None = None

    @property
    def left(self) -> float | None:
        """Remaining seconds, a positive number; None without a time limit."""
        return None if np.isinf(self.deadline) else max(self.deadline - time.perf_counter(), SOON)

    @property
    def late(self) -> bool:
        """Whether the deadline has passed."""
        return time.perf_counter() > self.deadline

    def is_late(self) -> bool:
        """Return whether the deadline has passed, for inner loops that are given this method."""
        return self.late

    def told_to_stop(self, line: str, share: float = 0.0) -> bool:
        """Report a line and the share that is done; return whether the caller asks to stop."""
        return self.progress is not None and self.progress(line, share) is True


@dataclass(frozen=True, eq=False)
class Answer:
    """The result of a solver, before the program certifies it.

    Attributes
    ----------
    point : Point or None
        None if the solver ran out of time or iterations before it had a point; then W = 0 is used.
    words : str
        The reason why it stopped, in the words of the solver.
    status : Status, optional
        INFEASIBLE, UNBOUNDED or FAILED if the solver reports it. The gap decides between OPTIMAL and LIMIT.
    start_used : bool
        Whether the solver started from `Request.start`.
    seconds : float, optional
        Time in the package, without conversion; the time of the whole `run` if not given.
    """

    point: Point | None
    words: str = ""
    status: Status | None = None
    iterations: int | None = None
    start_used: bool = False
    seconds: float | None = None


class Solver(ABC):
    """Takes a program, returns a point. One subclass and one line of `register_solver` add a solver.

    Attributes
    ----------
    name : str
        The name of the solver in problem files and on the command line.
    capabilities : Capabilities
        The programs that it takes; others are refused before `run`.
    package : str
        Module that must be installed; "numpy" if it needs no further package.
    methods : collection of str, or None
        Texts that may follow the name after a colon; the constructor gets them. None allows every text.

    Raises
    ------
    UnsupportedError
        An instantiated or registered class lacks its name, its capabilities or a method.
    """

    name: str
    capabilities: Capabilities
    package: ClassVar[str] = "numpy"
    methods: ClassVar[Collection[str] | None] = ()

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Refuse a class that lacks a part, by the name of that part."""
        cls.check_complete()
        return super().__new__(cls)

    @classmethod
    def check_complete(cls) -> None:
        """Raise an UnsupportedError that names the first part that is missing or wrong."""
        name = getattr(cls, "name", None)
        if not isinstance(name, str) or not name:
            raise UnsupportedError(f"solver: class {cls.__name__} does not define name, a text")
        if not isinstance(getattr(cls, "capabilities", None), Capabilities):
            raise UnsupportedError(
                f"solver {name}: class {cls.__name__} does not define capabilities, a Capabilities"
            )
        for method in sorted(cls.__abstractmethods__):
            raise UnsupportedError(f"solver {name}: class {cls.__name__} does not define the method {method}")

    @abstractmethod
    def run(self, program: AnyProgram, request: Request) -> Answer:
        """Convert the program, solve it, and map the answer back.

        It gets only programs that `capabilities` accepts. A solver that cannot report its progress does not
        call `request.progress`.

        Raises
        ------
        SolverNotInstalled
            Its package is missing.
        SolverFailed
            It stopped without a point.
        """

    def known_options(self) -> Collection[str] | None:
        """Return the names of its options; None if the package itself checks them."""
        return ()

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
        """Solve `program` without reductions, up to `tolerance` (relative gap) or `time_limit` seconds.

        The program certifies the point; the gap decides between OPTIMAL and LIMIT.

        Raises
        ------
        UnsupportedError
            The program is of a kind that the solver does not take.
        ShapeError
            A limit, the start or the name of an option is wrong.
        SolverNotInstalled
            Its package is missing.
        SolverFailed
            It stopped without a point, or with an invalid one.
        """
        refusal = self.capabilities.refusal(program)
        if refusal:
            raise UnsupportedError(f"solver {self.name}: {refusal}")
        check_limits(tolerance, time_limit)
        check_start(program, start)
        if options:
            self._check_options(options)
        begun = time.perf_counter()
        request = Request(
            tolerance,
            np.inf if time_limit is None else begun + time_limit,
            start if self.capabilities.warm_start and program.over_dictionary else None,
            dict(options or {}),
            progress,
        )
        answer = self.run(program, request)
        total = time.perf_counter() - begun
        point = self._valid_point(program, answer)
        certificate, status = program.certify(point), answer.status
        if status in (None, Status.OPTIMAL, Status.LIMIT):
            status = Status.OPTIMAL if certificate.gap <= tolerance else Status.LIMIT
        inside = total if answer.seconds is None else min(answer.seconds, total)
        return Solution(
            point,
            status,
            certificate,
            self.name,
            answer.words,
            answer.iterations,
            answer.start_used and request.start is not None,
            {"build": total - inside, "solve": inside},
        )

    def failed(self, why: str) -> SolverFailed:
        """Return the error with the reason why this solver failed."""
        return SolverFailed(f"solver {self.name}: {why}")

    def no_point(self, words: str) -> SolverFailed:
        """Return the error of a solver that stopped with this status and no point."""
        return self.failed(f"stopped with {words!r} and no point")

    def _check_options(self, options: Mapping[str, Any]) -> None:
        """Raise a ShapeError that names the first option that is not among the known ones."""
        known = self.known_options()
        unknown = [] if known is None else [key for key in options if key not in known]
        if not unknown:
            return
        if not known:
            raise ShapeError(f"options: solver {self.name} takes none, got {', '.join(unknown)}")
        hint = nearest(unknown[0], known, f"; known: {', '.join(sorted(known))}")
        raise ShapeError(f"options: solver {self.name} has no option {unknown[0]!r}{hint}")

    def _valid_point(self, program: AnyProgram, answer: Answer) -> Point:
        """Return the point of an answer; SolverFailed if it does not fit the program."""
        if not isinstance(answer, Answer):
            raise self.failed(f"its method run returned {type(answer).__name__}, expected an Answer")
        if answer.point is None:
            return Point(np.zeros(program.shape))
        point = answer.point
        tables = [("weights", point.weights, program.shape)]
        if point.dual is not None and program.over_dictionary:
            tables.append(("dual", point.dual, over_dictionary(program).targets.shape))
        for name, table, shape in tables:
            if np.shape(table) != shape:
                raise self.failed(f"returned {name} of shape {np.shape(table)}, expected {shape}")
            if not np.isfinite(table).all():
                raise self.failed(f"stopped with {answer.words!r} and {name} that are not finite")
        return point


def check_limits(tolerance: float, time_limit: float | None) -> None:
    """Raise a ShapeError unless 0 < tolerance < 1 and the time limit is positive and finite."""
    if not 0 < tolerance < 1:
        raise ShapeError(f"tolerance: expected a positive number below 1, got {tolerance}")
    if time_limit is not None and not 0 < time_limit < np.inf:
        raise ShapeError(f"time_limit: expected a positive number of seconds, got {time_limit}")


def check_start(program: AnyProgram, start: Point | None) -> None:
    """Raise a ShapeError if the weights of a start do not have the shape of the program."""
    if start is not None and np.shape(start.weights) != program.shape:
        raise ShapeError(f"start: expected weights {program.shape}, got {np.shape(start.weights)}")


def finite(values: FloatArray) -> FloatArray | None:
    """Return the array, or None if one of its numbers is not finite."""
    return values if np.isfinite(values).all() else None
