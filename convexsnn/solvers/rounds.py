"""Solvers of other packages that come back after a few passes: judged, watched and stopped between rounds.

They know neither our gap nor a clock. Outputs that nothing couples are solved one after the other.
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

# weights (P, C) and the accuracy wanted, relative -> better weights and, if it has one, a dual point (R, C)
Step = Callable[[FloatArray, float], tuple[FloatArray, FloatArray | None]]
ROUNDS = 100
PATIENCE = 5  # rounds without a smaller gap
FINEST = 1e-15


class InRounds(Solver):
    """A solver given by one round of it.

    Attributes
    ----------
    known : dict
        Options that the package takes, with our choices; "rounds" is ours: how many at most.
    """

    known: ClassVar[Mapping[str, Any]]

    @abstractmethod
    def prepare(self, program: L1Program, options: Mapping[str, Any]) -> Step:
        """Return the round for a program; `options` has all that are known."""

    def uses_start(self, program: L1Program) -> bool:
        """Return whether a round goes on from the weights that it is given."""
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
        whole = [np.concatenate(tables, axis=1) for tables in zip(*points, strict=True)]
        return Answer(
            Point(*whole),
            run.words,
            iterations=run.rounds,
            start_used=start is not None and self.uses_start(program),
            seconds=time.perf_counter() - begun - run.building,
        )


class _Run:
    """Rounds on one part after another, under one deadline."""

    def __init__(self, solver: InRounds, request: Request) -> None:
        self.solver, self.request = solver, request
        self.options = {"rounds": ROUNDS, **solver.known, **request.options}
        self.words, self.rounds, self.building = "gap reached", 0, 0.0

    def go(self, part: L1Program, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the best weights of a part and the dual point that certifies them."""
        begun = time.perf_counter()
        step = self._asked(lambda: self.solver.prepare(part, self.options))
        self.building += time.perf_counter() - begun
        first = part.certify(Point(weights))
        best, objective, proof, bound = weights, first.objective, first.dual, first.lower_bound
        gap, waited, accuracy = first.gap, 0, 0.1 * self.request.tolerance
        for left in range(int(self.options["rounds"]), -1, -1):
            words = self._stopped(gap, waited) or ("" if left else "rounds ran out")
            if words:
                self.words = self.words if words == "gap reached" else words
                break
            weights, dual = self._asked(lambda: step(weights.copy(), accuracy))  # noqa: B023
            self.rounds += 1
            if not np.isfinite(weights).all():
                raise self.solver.failed("its weights are not finite")
            found = part.certify(Point(weights, dual))
            if found.objective < objective:
                best, objective = weights, found.objective
            if found.lower_bound > bound:
                proof, bound = found.dual, found.lower_bound
            waited = 0 if relative_gap(objective, bound) < gap else waited + 1
            gap, accuracy = relative_gap(objective, bound), max(0.1 * accuracy, FINEST)
        return best, proof

    def _stopped(self, gap: float, waited: int) -> str:
        """Return why there is no further round, "" if there is one."""
        if gap <= self.request.tolerance:
            return "gap reached"
        if self.request.late:
            return "time limit"
        if self.request.told_to_stop(f"gap {gap:.2g}"):
            return "interrupted"
        return "no further progress" if waited >= PATIENCE else ""

    def _asked(self, call: Callable[[], Any]) -> Any:
        """Return what the package answers; what it raises becomes a SolverFailed."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that it has not converged is seen from the gap
                return call()
        except (ValueError, TypeError, ArithmeticError, AttributeError) as error:
            raise self.solver.failed(str(error)) from error
