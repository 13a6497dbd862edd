"""The solution of a program: separate outputs, reductions, the first successful solver, a certificate."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from convexsnn.errors import SolverFailed
from convexsnn.programs import AnyProgram, Block, L1Program, Point, Presolved
from convexsnn.programs.presolve import presolve
from convexsnn.programs.scaling import scale
from convexsnn.solvers.capabilities import over_dictionary
from convexsnn.solvers.failure import in_users_terms
from convexsnn.solvers.registry import chosen_solvers
from convexsnn.solvers.restricted import pays, solve_restricted
from convexsnn.solvers.solver import Progress, Solution, Solver, Status, check_limits, check_start


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

    A program over a dictionary is presolved without loss, and outputs that are not coupled are solved one by
    one. For λ >= λ_max the solution is W = 0. A block of a splitting is solved without reductions.

    Parameters
    ----------
    solver : name or Solver
        "auto" uses our working-set solver, and then HiGHS, Clarabel or SCS if the gap is above the tolerance;
        for a block it uses Clarabel, then SCS.
    tolerance : float
        Relative duality gap; if the gap is larger, the status is LIMIT.
    start : Point, optional
        Not used for a block.
    progress : callable, optional
        Called with a line of text and the share that is done. If it returns True, solvers that report their
        progress stop, and the best point so far is returned.

    Raises
    ------
    UnsupportedError, SolverNotInstalled, SolverFailed
    """
    check_limits(tolerance, time_limit)
    deadline = None if time_limit is None else time.perf_counter() + time_limit
    solvers = chosen_solvers(program, solver)
    check_start(program, start)
    if not program.over_dictionary:
        call = _Call(solvers, tolerance, deadline, options, _Watch(progress, 1))
        return call.block(cast(Block, program))
    program = over_dictionary(program)
    zero = Point(np.zeros(program.shape))
    if program.shape[0] == 0 or program.regularization >= program.regularization_max:
        return Solution(zero, Status.OPTIMAL, program.certify(zero), "presolve", "W = 0: no pattern can help")
    parts = program.outputs_apart()
    call = _Call(solvers, tolerance, deadline, options, _Watch(progress, len(parts)))
    return _join(program, [call.part(k, part, start) for k, part in enumerate(parts)], tolerance)


class _Watch:
    """Reports the progress over all outputs, and remembers a request to stop."""

    def __init__(self, progress: Progress | None, parts: int) -> None:
        self.progress, self.parts = progress, parts
        self.part, self.stopped = 0, False

    def __call__(self, line: str, share: float) -> bool:
        if self.progress is not None and self.progress(line, (self.part + share) / self.parts) is True:
            self.stopped = True
        return self.stopped


@dataclass(frozen=True, eq=False)
class _Call:
    """The arguments of one call of `solve`, the same for all outputs."""

    solvers: Sequence[Solver]
    tolerance: float
    deadline: float | None
    options: Mapping[str, Any] | None
    watch: _Watch

    def part(self, k: int, part: L1Program, start: Point | None) -> Solution:
        """Solve output k, or all coupled outputs; on a subset of the columns if there are too many."""
        small = presolve(part)
        self.watch.part, (rows, columns) = k, small.program.dictionary.shape
        self.watch(f"solving {rows} × {columns}", 0.0)
        if start is not None and self.watch.parts > 1:
            start = Point(start.weights[:, [k]], None if start.dual is None else start.dual[:, [k]])
        if self.solvers[0].capabilities.chooses_columns or not pays(small.program):
            return self.reduced(part, start, small)
        begin = None if start is None else small.reduce(start)
        inner = solve_restricted(small.program, self.reduced, self.tolerance, begin, self._is_over)
        point = small.recover(inner.point)
        return replace(inner, point=point, certificate=part.certify(point))

    def reduced(self, part: L1Program, start: Point | None, small: Presolved | None = None) -> Solution:
        """Presolve and scale a program, and solve it by the first solver that reaches the tolerance."""
        small = small or presolve(part)
        zero = Point(np.zeros(part.shape))
        nothing = Solution(zero, Status.LIMIT, part.certify(zero), self.solvers[0].name, "time limit")
        if part.regularization >= part.regularization_max:
            return replace(nothing, status=Status.OPTIMAL, solver_status="W = 0: no pattern can help")
        scaled = scale(small.program)

        def run(solver: Solver, seconds: float | None) -> Solution:
            solution = solver.solve(
                scaled.program,
                tolerance=self.tolerance,
                time_limit=seconds,
                start=None if start is None else scaled.reduce(small.reduce(start)),
                options=self.options,
                progress=self.watch,
            )
            point = small.recover(scaled.recover(solution.point))
            certificate = part.certify(point)
            if not certificate.objective <= nothing.certificate.objective:
                # the point of a stopped solver can be worse than W = 0
                point = Point(zero.weights, certificate.dual)
                certificate = part.certify(point)
            return replace(solution, point=point, certificate=certificate)

        best, failure = self._first(run, lambda solver: self.watch.stopped)
        if best is None and failure is not None:
            raise in_users_terms(part, failure) from failure
        return best or nothing

    def _is_over(self) -> bool:
        """Return whether the time is up, or the caller asked to stop."""
        late = self.deadline is not None and time.perf_counter() >= self.deadline
        return late or self.watch.stopped

    def block(self, block: Block) -> Solution:
        """Solve a splitting's block without reductions; the gap alone decides on the status."""
        zero = Point(np.zeros(block.shape))

        def run(solver: Solver, seconds: float | None) -> Solution:
            # the block is the only part, so that the watch has no shares to work out
            progress = self.watch.progress
            solution = solver.solve(
                block, tolerance=self.tolerance, time_limit=seconds, options=self.options, progress=progress
            )
            inside = replace(solution.point, weights=block.inside(solution.point.weights))
            return replace(solution, point=inside)

        best, failure = self._first(run, lambda solver: self.watch(f"{solver.name}: {block.name}", 0.0))
        if best is None and failure is not None:
            raise failure
        if best is None:
            return Solution(zero, Status.LIMIT, block.certify(zero), self.solvers[0].name, "time limit")
        enough = best.certificate.gap <= self.tolerance
        return replace(best, status=Status.OPTIMAL if enough else Status.LIMIT)

    def _first(
        self, run: Callable[[Solver, float | None], Solution], stop: Callable[[Solver], bool]
    ) -> tuple[Solution | None, SolverFailed | None]:
        """Run the solvers, for the seconds that are left, until one has a gap within the tolerance.

        Returns the best solution, and the error of the last solver that failed.
        """
        best, failure = None, None
        for solver in self.solvers:
            seconds = None if self.deadline is None else self.deadline - time.perf_counter()
            if (seconds is not None and seconds <= 0) or stop(solver):
                break
            try:
                solution = run(solver, seconds)
            except SolverFailed as error:
                failure = error
                continue
            if best is None or solution.certificate.gap < best.certificate.gap:
                best = solution
            if best.certificate.gap <= self.tolerance:
                break
        return best, failure


def _join(program: L1Program, solutions: list[Solution], tolerance: float) -> Solution:
    """Join the solutions of the outputs and certify the result."""
    point = Point(
        np.concatenate([s.point.weights for s in solutions], axis=1),
        np.concatenate([s.certificate.dual for s in solutions], axis=1),
    )
    certificate = program.certify(point)
    worst = max(solutions, key=lambda s: (list(Status).index(s.status), s.iterations or 0))
    status = worst.status
    if status in (Status.OPTIMAL, Status.LIMIT):  # the gap decides, not the status of the solver
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
