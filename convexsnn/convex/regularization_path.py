"""The λ path: one program at falling λ. Each solve starts from the last point; each point is certified.

From λ_max, where W = 0 is optimal, λ falls by equal factors. With a validation share, samples are held out
before the dictionary is built. Every point of the path becomes a network, which is simulated on the held-out
samples. The best λ is then used for a training on all samples.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from convexsnn.arrays import FloatArray, IntArray, positive, whole
from convexsnn.convex.column_generation import SOON
from convexsnn.convex.training import Result, lower, reconstruct, train_convex
from convexsnn.convex.words import path_text
from convexsnn.dictionary.sources import get_source
from convexsnn.errors import LoweringError, ShapeError
from convexsnn.lowering import Lowered
from convexsnn.problem import Problem
from convexsnn.programs import Point
from convexsnn.programs.prune import prune
from convexsnn.solvers import Solver, Status, check_limits, get_solver, solve
from convexsnn.solvers.failure import failure
from convexsnn.training.budget import Progress
from convexsnn.training.folder import write_folder
from convexsnn.training.hold_out import hold_out
from convexsnn.training.manifest import PLOT_DATA
from convexsnn.training.score import Score, score, score_of_outputs


@dataclass(frozen=True)
class PathRow:
    """One λ.

    Attributes
    ----------
    fraction : float
        λ / λ_max.
    objective, lower_bound, gap : float
        From the certificate of the pruned point.
    units : int
        Number of patterns with a nonzero weight.
    train_loss, validation_loss : float
        Mean over the rows of a ℓ, without the penalty; `validation_loss` is None if no samples are held out.
    train_accuracy, validation_accuracy : float or None
        None for regression, and for validation if no samples are held out.
    seconds : float
        For solving, pruning and certifying.
    start_used : bool
        Whether the solver reports that it started from the last point.
    """

    regularization: float
    fraction: float
    objective: float
    lower_bound: float
    gap: float
    units: int
    train_loss: float
    train_accuracy: float | None
    validation_loss: float | None
    validation_accuracy: float | None
    seconds: float
    start_used: bool


@dataclass(frozen=True, eq=False)
class RegularizationPath:
    """Rows from λ_max down, their points, and the chosen row.

    Attributes
    ----------
    lowered : Lowered
        Dictionary and program of the samples that were not held out.
    rows : tuple of PathRow; points : tuple of Point
        The rows that were finished in time.
    count : int
        Number of rows requested.
    held_out : (k,) int array
        Samples of the problem that no row was trained on.
    chosen : int or None
        The best row on the held-out samples; of equal rows, the largest λ. None if no samples are held out.
    result : Result or None
        The training on all samples at the chosen λ; None if no row was chosen or the time was over.
    """

    lowered: Lowered
    rows: tuple[PathRow, ...]
    points: tuple[Point, ...]
    count: int
    regularization_max: float
    tolerance: float
    validation: float
    seed: int
    held_out: IntArray
    chosen: int | None
    result: Result | None
    seconds: float

    @property
    def finished(self) -> bool:
        """Whether all requested rows are solved, and the training at the chosen λ is done."""
        return len(self.rows) == self.count and (self.chosen is None or self.result is not None)

    def summary(self) -> dict[str, Any]:
        """Return plot data: plain numbers and words, the object that ``path --json`` prints."""
        program = self.lowered.program
        return {
            "problem": self.lowered.problem.name,
            "status": "finished" if self.finished else "limit",
            "loss": program.loss.name,
            "scope": "all_patterns" if self.lowered.dictionary.complete else "dictionary",
            "patterns": program.shape[0],
            "samples": len(self.lowered.problem.inputs),
            "held_out": len(self.held_out),
            "validation": self.validation,
            "seed": self.seed,
            "tolerance": self.tolerance,
            "regularization_max": self.regularization_max,
            "count": self.count,
            "rows": [asdict(row) for row in self.rows],
            "chosen": self.chosen,
            "result": None if self.result is None else self.result.summary(),
            "seconds": round(self.seconds, 4),
        }

    def text(self, out: str | None = None) -> str:
        """Return the table that ``convexsnn path`` prints; `out` is the folder of the saved run."""
        return path_text({**self.summary(), "out": out})

    def save(self, folder: str | os.PathLike[str], *, force: bool = False) -> list[str]:
        """Write ``path.json`` into a folder, with the files of `Result.save` for the chosen λ; as that.

        Raises
        ------
        ProblemFileError
            The folder exists (without `force`) or cannot be written; then no file is written.
        """

        def write(target: Path) -> None:
            if self.result is not None:
                self.result.write(target)
            text = json.dumps(self.summary(), indent=1, allow_nan=False) + "\n"
            (target / PLOT_DATA).write_text(text, encoding="utf-8")

        return write_folder(Path(folder), write, force)


def path(
    given: Problem | Lowered,
    *,
    count: int = 20,
    smallest: float = 0.01,
    solver: str | Solver | None = None,
    tolerance: float | None = None,
    time_limit: float | None = None,
    validation: float = 0.0,
    seed: int = 0,
    progress: Progress | None = None,
) -> RegularizationPath:
    """Solve a problem's program at `count` values of λ, from λ_max down by equal factors.

    Parameters
    ----------
    given : Problem or Lowered
        Its λ is not used. A Lowered is solved on its own dictionary.
    smallest : float
        The last λ, as a fraction of λ_max.
    solver, tolerance : optional
        Replace the problem's settings.
    time_limit : float, optional
        Seconds for the whole call; the rows finished by then are returned.
    validation : float
        Share of the samples to hold out, drawn by `seed`. The λ with the best accuracy on them (for
        regression: the best loss) is trained on all samples.
    progress : callable, optional
        Called with the name of the present step and its finished share.

    Raises
    ------
    ShapeError
        An argument is out of its range, or the training samples lack a label.
    LoweringError
        The dictionary changes with λ, or λ_max is 0, or as `lower`.
    UnsupportedError, SolverNotInstalled, SolverFailed, VerificationError
        As `train`.
    """
    begun = time.perf_counter()
    problem = given if isinstance(given, Problem) else given.problem
    chosen_solver = solver or problem.solver.name
    tolerance = problem.solver.tolerance if tolerance is None else tolerance
    check_limits(tolerance, time_limit)
    whole("count", count, 2)
    whole("seed", seed, 0)
    if positive("smallest", smallest) >= 1:
        raise ShapeError(f"smallest: expected a fraction of λ_max between 0 and 1, got {smallest}")
    if isinstance(chosen_solver, str) and chosen_solver != "auto":
        get_solver(chosen_solver)
    training_part, held_out = _training_part(given, validation, seed)
    if progress:
        progress("dictionary", 0.0)
    lowered = training_part
    if isinstance(lowered, Problem):
        lowered = lower(lowered, time_limit=time_limit)
    walk = _Walk(problem, lowered, held_out, chosen_solver, tolerance, progress)
    walk.deadline = np.inf if time_limit is None else begun + time_limit
    walk.go(np.geomspace(1.0, smallest, count))
    chosen = walk.best()
    result, remaining = None, walk.deadline - time.perf_counter()
    if chosen is not None and len(walk.rows) == count and remaining > 0:
        training = {"regularization": walk.rows[chosen].regularization, "regularization_fraction": None}
        limit = None if time_limit is None else remaining
        full = problem.with_settings(training=training, expected={})
        result = train_convex(full, solver=solver, tolerance=tolerance, time_limit=limit, progress=progress)
    return RegularizationPath(
        lowered,
        tuple(walk.rows),
        tuple(walk.points),
        count,
        lowered.program.regularization_max,
        tolerance,
        validation,
        seed,
        held_out,
        chosen,
        result,
        time.perf_counter() - begun,
    )


def _training_part(given: Problem | Lowered, share: float, seed: int) -> tuple[Problem | Lowered, IntArray]:
    """Return the problem or program to train on, and the indices of the held-out samples."""
    if isinstance(given, Problem) and get_source(given.dictionary.source).grows:
        raise LoweringError(
            f"dictionary.source: {given.dictionary.source} finds other patterns for every λ, a path needs "
            "the same patterns; use another source, or give path(train(problem).lowered)"
        )
    if share != 0 and positive("validation", share) >= 1:
        raise ShapeError(f"validation: expected a share of the samples in [0, 1), got {share}")
    if share == 0:
        return given, np.arange(0)
    if isinstance(given, Problem):
        return hold_out(given, share, seed)
    raise ShapeError(
        f"validation: {share:g}, but the dictionary was made from all samples; give the problem instead"
    )


class _Walk:
    """Solves at falling λ; `rows` and `points` hold the finished part."""

    def __init__(
        self,
        problem: Problem,
        lowered: Lowered,
        held_out: IntArray,
        solver: str | Solver,
        tolerance: float,
        progress: Progress | None,
    ) -> None:
        self.problem, self.lowered, self.held_out = problem, lowered, held_out
        self.solver, self.tolerance, self.progress = solver, tolerance, progress
        self.deadline = np.inf
        self.rows: list[PathRow] = []
        self.points: list[Point] = []

    def go(self, fractions: FloatArray) -> None:
        """Add a row for every fraction of λ_max until the time is over."""
        program = self.lowered.program
        largest = program.regularization_max
        if program.zero_is_always_optimal:
            raise LoweringError(f"targets: λ_max is {largest:.3g}, W = 0 is optimal for every λ; no path")
        for k, fraction in enumerate(fractions):
            if self.progress:
                self.progress(f"λ {k + 1} of {len(fractions)}", k / len(fractions))
            if not self._add(float(fraction), largest):
                return

    def _add(self, fraction: float, largest: float) -> bool:
        """Solve at one λ; return whether it was finished in time."""
        begun = time.perf_counter()
        limit = self.deadline - begun if np.isfinite(self.deadline) else None
        if limit is not None and not self.rows:
            limit = max(limit, SOON)  # the first row is kept as it is: W = 0 is its optimum
        if limit is not None and limit <= 0:
            return False
        program = replace(self.lowered.program, regularization=fraction * largest)
        last = self.points[-1] if self.points and self.points[-1].weights.any() else None
        solution = solve(program, self.solver, tolerance=self.tolerance, time_limit=limit, start=last)
        if solution.status not in (Status.OPTIMAL, Status.LIMIT):
            raise failure(program, solution)
        if solution.status is Status.LIMIT and limit is not None and self.rows:
            if time.perf_counter() - begun >= 0.9 * limit:  # solvers stop a little before their limit
                return False
        point = prune(program, solution.point, self.tolerance)
        certificate = program.certify(point)
        seconds = time.perf_counter() - begun
        fit = self._fit(program.outputs(point.weights))
        held_out = self._held_out(point)
        self.points.append(point)
        self.rows.append(
            PathRow(
                program.regularization,
                fraction,
                certificate.objective,
                certificate.lower_bound,
                certificate.gap,
                int(np.count_nonzero(point.weights.any(axis=1))),
                fit.loss,
                fit.accuracy,
                None if held_out is None else held_out.loss,
                None if held_out is None else held_out.accuracy,
                seconds,
                solution.start_used and last is not None,
            )
        )
        return True

    def _fit(self, outputs: FloatArray) -> Score:
        """Return the score of outputs D W on the samples that the point was trained on."""
        problem = self.lowered.problem
        shape = (*np.shape(problem.targets)[: 2 if problem.network.supervise == "all" else 1], -1)
        return score_of_outputs(problem, outputs.reshape(shape), problem.targets, problem.row_weights())

    def _held_out(self, point: Point) -> Score | None:
        """Return the score of the point's network on the held-out samples; None if there are none."""
        if not len(self.held_out):
            return None
        return score(self.problem, reconstruct(self.lowered, point), self.held_out)

    def best(self) -> int | None:
        """Return the best row on the held-out samples, the first of equal rows."""
        if not len(self.held_out) or not self.rows:
            return None
        if self.rows[0].validation_accuracy is None:
            return int(np.argmin(np.array([row.validation_loss for row in self.rows], dtype=np.float64)))
        return int(np.argmax(np.array([row.validation_accuracy for row in self.rows], dtype=np.float64)))
