"""Iterative solvers of other packages, called in rounds of a few passes.

These packages have neither our gap nor a time limit. So the gap, the clock and the progress callback are
checked between rounds. Outputs that are not coupled are solved one after the other.
"""

from __future__ import annotations

import time
import warnings
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np

from convexsnn.arrays import FloatArray
from convexsnn.programs import AnyProgram, L1Program, Point, relative_gap
from convexsnn.solvers.capabilities import over_dictionary
from convexsnn.solvers.solver import Answer, Request, Solver

# weights (P, C), relative accuracy -> better weights, and a dual point (R, C) or None
Step = Callable[[FloatArray, float], tuple[FloatArray, FloatArray | None]]
ROUNDS = 100
PATIENCE = 5  # rounds without a smaller gap
FINEST = 1e-15


class InRounds(Solver):
    """A solver defined by one round.

    Attributes
    ----------
    known : dict
        Options of the package, with our defaults. One more option, "rounds", is the largest number of rounds.
    """

    known: ClassVar[Mapping[str, Any]]

    @abstractmethod
    def prepare(self, program: L1Program, options: Mapping[str, Any]) -> Step:
        """Return the function for one round on a program; `options` has a value for every known option."""

    def uses_start(self, program: L1Program) -> bool:
        """Return whether a round starts from the weights of its argument."""
        return True

    def known_options(self) -> list[str]:  # noqa: D102
        return ["rounds", *self.known]

    def run(self, program: AnyProgram, request: Request) -> Answer:  # noqa: D102
        begun, program, start = time.perf_counter(), over_dictionary(program), request.start
        run = _Run(self, request)
        parts = program.outputs_apart()
        points = []
        for k, part in enumerate(parts):
            weights = np.zeros(program.shape) if start is None else np.array(start.weights, dtype=np.float64)
            points.append(run.go(part, weights if len(parts) == 1 else weights[:, [k]]))
        weights, dual = (np.concatenate(tables, axis=1) for tables in zip(*points, strict=True))
        return Answer(
            Point(weights, dual),
            run.words,
            iterations=run.rounds,
            start_used=start is not None and self.uses_start(program),
            seconds=time.perf_counter() - begun - run.building,
        )


class _Run:
    """The rounds of all parts, under one deadline."""

    def __init__(self, solver: InRounds, request: Request) -> None:
        self.solver, self.request = solver, request
        self.options = {"rounds": ROUNDS, **solver.known, **request.options}
        self.words, self.rounds, self.building = "gap reached", 0, 0.0

    def go(self, part: L1Program, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the best weights of a part and the dual point that certifies them."""
        begun = time.perf_counter()
        step = self._call(lambda: self.solver.prepare(part, self.options))
        self.building += time.perf_counter() - begun
        first = part.certify(Point(weights))
        best, objective, proof, bound = weights, first.objective, first.dual, first.lower_bound
        gap, stalled, accuracy = first.gap, 0, 0.1 * self.request.tolerance
        for remaining in range(int(self.options["rounds"]), -1, -1):
            words = self._stop_reason(gap, stalled) or ("" if remaining else "rounds ran out")
            if words:
                self.words = self.words if words == "gap reached" else words
                break
            weights, dual = self._call(lambda: step(weights.copy(), accuracy))  # noqa: B023
            self.rounds += 1
            if not np.isfinite(weights).all():
                raise self.solver.failed("its weights are not finite")
            certificate = part.certify(Point(weights, dual))
            if certificate.objective < objective:
                best, objective = weights, certificate.objective
            if certificate.lower_bound > bound:
                proof, bound = certificate.dual, certificate.lower_bound
            stalled = 0 if relative_gap(objective, bound) < gap else stalled + 1
            gap, accuracy = relative_gap(objective, bound), max(0.1 * accuracy, FINEST)
        return best, proof

    def _stop_reason(self, gap: float, stalled: int) -> str:
        """Return the reason to stop before the next round, or ""."""
        if gap <= self.request.tolerance:
            return "gap reached"
        if self.request.late:
            return "time limit"
        if self.request.told_to_stop(f"gap {gap:.2g}"):
            return "interrupted"
        return "no further progress" if stalled >= PATIENCE else ""

    def _call(self, function: Callable[[], Any]) -> Any:
        """Return the result of the package; its exceptions become a SolverFailed."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the gap shows whether it has converged
                return function()
        except (ValueError, TypeError, ArithmeticError, AttributeError) as error:
            raise self.solver.failed(str(error)) from error
