"""All solvers by name, and the way a program goes through one: presolve, split, solve, certify."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from importlib.util import find_spec
from typing import Any

import numpy as np

from convexsnn.errors import ShapeError, SolverFailed, SolverNotInstalled, UnsupportedError
from convexsnn.programs import AnyProgram, Block, L1Program, Point, Presolved, presolve
from convexsnn.programs.scaling import scale
from convexsnn.solvers.blocks import solve_block
from convexsnn.solvers.celer_ import Celer
from convexsnn.solvers.clarabel_ import Clarabel
from convexsnn.solvers.cvxpy_ import Cvxpy
from convexsnn.solvers.failure import in_users_terms
from convexsnn.solvers.highs_ import Highs
from convexsnn.solvers.osqp_ import Osqp
from convexsnn.solvers.restricted import pays, solve_restricted
from convexsnn.solvers.scs_ import Scs
from convexsnn.solvers.skglm_ import Skglm
from convexsnn.solvers.sklearn_ import Sklearn
from convexsnn.solvers.solver import Progress, Solution, Solver, Status, kind_of
from convexsnn.solvers.working_set import WorkingSet

# name -> (class, the module that must be installed)
SOLVERS: dict[str, tuple[type[Solver], str]] = {
    "highs": (Highs, "highspy"),
    "cvxpy": (Cvxpy, "cvxpy"),
    "working_set": (WorkingSet, "numpy"),
    "clarabel": (Clarabel, "clarabel"),
    "scs": (Scs, "scs"),
    "osqp": (Osqp, "osqp"),
    "celer": (Celer, "celer"),
    "skglm": (Skglm, "skglm"),
    "sklearn": (Sklearn, "sklearn"),
}

CHOOSE_COLUMNS = (WorkingSet, Celer, Skglm)  # by themselves, and better than we could for them

# what "auto" tries, of those that take the program, until the certified gap is within the tolerance
AUTO = {
    "lp": ("working_set", "highs", "clarabel"),
    "qp": ("working_set", "clarabel", "scs"),
    "cone": ("working_set", "clarabel", "scs"),
    "logistic": ("working_set", "clarabel", "scs"),
    "exponential": ("working_set", "clarabel", "scs"),
}


def check_limits(tolerance: float, time_limit: float | None) -> None:
    """Raise a ShapeError unless 0 < tolerance < 1 and the time limit is positive and finite."""
    if not 0 < tolerance < 1:
        raise ShapeError(f"tolerance: expected a positive number below 1, got {tolerance}")
    if time_limit is not None and not 0 < time_limit < np.inf:
        raise ShapeError(f"time_limit: expected a positive number of seconds, got {time_limit}")


def installed(name: str) -> bool:
    """Return whether the package behind a registered solver is installed."""
    return find_spec(SOLVERS[name][1]) is not None


def get_solver(name: str) -> Solver:
    """Return the solver of this name; "highs:ipm" is a method of HiGHS, "cvxpy:NAME" cvxpy's solver NAME.

    Raises
    ------
    UnsupportedError
        Unknown name; the message has the nearest one.
    SolverNotInstalled
        Known, but its package is missing; the message says what to install.
    """
    base, _, method = name.partition(":")
    methods = SOLVERS[base][0].methods if base in SOLVERS else ()
    if base not in SOLVERS or (method and methods is not None and method not in methods):
        known = [*SOLVERS, *(f"{name}:{m}" for name, (cls, _) in SOLVERS.items() for m in cls.methods or ())]
        match = get_close_matches(name, known, n=1)
        hint = f"did you mean {match[0]!r}?" if match else f"known: auto, {', '.join(known)}, cvxpy:NAME"
        raise UnsupportedError(f"solver: unknown {name!r}; {hint}")
    cls, _ = SOLVERS[base]
    if not installed(base):
        extra = cls.capabilities.extra
        what = f"'convexsnn[{extra}]'" if extra else "convexsnn"
        raise SolverNotInstalled(f"solver {name}: not installed; pip install {what}")
    return cls(method) if method else cls()  # type: ignore[call-arg]  # those with methods take one


def check(solver: Solver, program: AnyProgram) -> None:
    """Raise an UnsupportedError if `solver` does not take `program`, naming those that do."""
    refusal = solver.capabilities.refusal(program)
    if refusal:
        able = [n for n, (cls, _) in SOLVERS.items() if not cls.capabilities.refusal(program)]
        raise UnsupportedError(f"solver {solver.name}: {refusal}; use {', '.join(able)}")


def chosen_solvers(program: AnyProgram, solver: str | Solver) -> list[Solver]:
    """Return what is to be tried, in this order; errors as `get_solver` and `check`."""
    if solver == "auto":
        every = [get_solver(name) for name in AUTO[kind_of(program)]]
        return [one for one in every if one.capabilities.refusal(program) is None]
    one = get_solver(solver) if isinstance(solver, str) else solver
    check(one, program)
    return [one]


def solve(
    program: AnyProgram,
    solver: str | Solver = "auto",
    *,
    tolerance: float = 1e-6,
    time_limit: float | None = None,
    start: Point | None = None,
    options: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Solution:
    """Solve a program and certify the point on the program itself.

    Over a dictionary, exact presolve comes first; outputs that nothing couples are solved one by one.
    λ >= λ_max is answered at once, by W = 0. A block of a splitting goes to the solver as it is.

    Parameters
    ----------
    solver : name or Solver
        "auto" takes our own working-set solver, and where that does not reach the tolerance HiGHS, Clarabel
        or SCS after it; for a block Clarabel, then SCS.
    tolerance : float
        Relative duality gap; above it the status is LIMIT, whatever the solver says.
    start : Point, optional
        Not used for a block.
    progress : callable, optional
        Called with a line and the finished share. If it returns True, solvers that can be watched stop, and
        the best point so far is the answer.

    Raises
    ------
    UnsupportedError, SolverNotInstalled, SolverFailed
    """
    check_limits(tolerance, time_limit)
    deadline = None if time_limit is None else time.perf_counter() + time_limit
    chosen = chosen_solvers(program, solver)
    if start is not None and np.shape(start.weights) != program.shape:
        raise ShapeError(f"start: expected weights {program.shape}, got {np.shape(start.weights)}")
    if isinstance(program, Block):
        return solve_block(chosen, program, tolerance, deadline, options, progress)
    return _solve_over_dictionary(chosen, program, tolerance, deadline, start, options, progress)


def _solve_over_dictionary(
    chosen: Sequence[Solver],
    program: L1Program,
    tolerance: float,
    deadline: float | None,
    start: Point | None,
    options: Mapping[str, Any] | None,
    progress: Progress | None,
) -> Solution:
    """Solve an ℓ1 program: presolved, its outputs apart, on few columns where there are far too many."""
    zero = Point(np.zeros(program.shape))
    if program.shape[0] == 0 or program.regularization >= program.regularization_max:
        return Solution(zero, Status.OPTIMAL, program.certify(zero), "presolve", "W = 0: no pattern can help")
    parts = [(part, presolve(part)) for part in program.outputs_apart()]
    solutions, watch = [], _Watch(progress, len(parts))
    for k, (part, reduced) in enumerate(parts):
        watch.part, (rows, columns) = k, reduced.program.dictionary.shape
        watch(f"solving {rows} × {columns}", 0.0)
        own = start
        if start is not None and len(parts) > 1:
            own = Point(start.weights[:, [k]], None if start.dual is None else start.dual[:, [k]])

        def through(part: L1Program, own: Point | None, reduced: Presolved | None = None) -> Solution:
            small = reduced or presolve(part)
            return _solve_part(chosen, part, small, tolerance, deadline, own, options, watch)

        if pays(reduced.program) and not isinstance(chosen[0], CHOOSE_COLUMNS):
            small = None if own is None else reduced.reduce(own)
            inner = solve_restricted(reduced.program, through, tolerance, small)
            point = reduced.recover(inner.point)
            solutions.append(replace(inner, point=point, certificate=part.certify(point)))
        else:
            solutions.append(through(part, own, reduced))
    return _joined(program, solutions, tolerance)


class _Watch:
    """Hands on what solvers say of one output after the other, and remembers being told to stop."""

    def __init__(self, progress: Progress | None, parts: int) -> None:
        self.progress, self.parts = progress, parts
        self.part, self.stopped = 0, False

    def __call__(self, line: str, share: float) -> bool:
        if self.progress is not None and self.progress(line, (self.part + share) / self.parts) is True:
            self.stopped = True
        return self.stopped


def _joined(program: L1Program, solutions: list[Solution], tolerance: float) -> Solution:
    """Put the outputs' solutions side by side and certify the whole."""
    point = Point(
        np.concatenate([s.point.weights for s in solutions], axis=1),
        np.concatenate([s.certificate.dual for s in solutions], axis=1),
    )
    certificate = program.certify(point)
    worst = max(solutions, key=lambda s: (list(Status).index(s.status), s.iterations or 0))
    status = worst.status
    if status in (Status.OPTIMAL, Status.LIMIT):  # the gap decides, not the solver's word
        status = Status.OPTIMAL if certificate.gap <= tolerance else Status.LIMIT
    seconds = {k: sum(s.seconds.get(k, 0.0) for s in solutions) for k in ("build", "solve")}
    iterations = [s.iterations for s in solutions if s.iterations is not None]
    return Solution(
        point,
        status,
        certificate,
        worst.solver,
        worst.solver_status,
        sum(iterations) if iterations else None,
        all(s.start_used for s in solutions),
        seconds,
    )


def _solve_part(
    solvers: Sequence[Solver],
    part: L1Program,
    reduced: Presolved,
    tolerance: float,
    deadline: float | None,
    start: Point | None,
    options: Mapping[str, Any] | None,
    watch: _Watch,
) -> Solution:
    """Solve one output's program (or the coupled whole), by the first solver that reaches the tolerance."""
    zero = Point(np.zeros(part.shape))
    nothing = Solution(zero, Status.LIMIT, part.certify(zero), solvers[0].name, "time limit")
    if part.regularization >= part.regularization_max:
        return replace(nothing, status=Status.OPTIMAL, solver_status="W = 0: no pattern can help")
    scaled, best, failure = scale(reduced.program), nothing, None
    for solver in solvers:
        left = None if deadline is None else deadline - time.perf_counter()
        if watch.stopped or (left is not None and left <= 0):
            break
        try:
            solution = solver.solve(
                scaled.program,
                tolerance=tolerance,
                time_limit=left,
                start=None if start is None else scaled.reduce(reduced.reduce(start)),
                options=options,
                progress=watch,
            )
        except SolverFailed as error:
            failure = error
            continue
        point = reduced.recover(scaled.recover(solution.point))
        solution = replace(solution, point=point, certificate=part.certify(point))
        # a stopped solver can be worse than no network at all
        if best is nothing or solution.certificate.gap < best.certificate.gap:
            best = solution
            if solution.certificate.objective > nothing.certificate.objective:
                point = Point(zero.weights, solution.certificate.dual)
                best = replace(solution, point=point, certificate=part.certify(point))
        if best.certificate.gap <= tolerance:
            return best
    if best is nothing and failure is not None:
        raise in_users_terms(part, failure) from failure
    return best
