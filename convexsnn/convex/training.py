"""Training by the convex program: problem → program → solution → network → simulation."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from convexsnn.certify import Claim, Evidence, Verification, save_claim, verify
from convexsnn.certify.claim import status_of
from convexsnn.convex.baseline import ridge_baseline
from convexsnn.convex.column_generation import ColumnGeneration, Generated, Iteration, Proof, certified
from convexsnn.convex.trained import Trained, trained_networks, trained_rows, trainer_of
from convexsnn.convex.words import summary_text
from convexsnn.dictionary import SpikeDictionary
from convexsnn.dictionary.sources import get_source
from convexsnn.lowering import Convexification, Lowered, build_dictionary, witnesses_of
from convexsnn.networks import Network, save_network
from convexsnn.problem import Problem
from convexsnn.problem.problem import SAVED_WITNESSES
from convexsnn.programs import Certificate, Point
from convexsnn.programs.prune import prune
from convexsnn.solvers import Solution, Solver, Status, check_limits, get_solver, solve
from convexsnn.solvers.failure import failure
from convexsnn.training.budget import Budget, Progress
from convexsnn.training.result import TrainingResult
from convexsnn.training.score import score_of_outputs, score_on_test_set


@dataclass(frozen=True, eq=False)
class Result(TrainingResult):
    """All intermediate and final results of one run.

    Attributes
    ----------
    point, certificate : the solver's point after pruning, and its certificate
    proof : Proof or None
        The proof of a bound over all patterns; None if the bound is on the dictionary.
    iterations : tuple of Iteration
        The rounds of column generation; empty for other sources.
    trained, trained_as : tuple of Network, list of dict
        The networks whose hidden layers are the witnesses, with ``source = "admm"`` or "surrogate_gradient",
        and their objective (at the program's λ) and accuracies before the program.
    columns : (m,) int array
        Dictionary column of every last unit of `network`.
    seconds : dict
        dictionary, solve, reconstruct, verify, total.
    """

    problem: Problem
    lowered: Lowered
    solution: Solution
    point: Point
    certificate: Certificate
    network: Network
    columns: np.ndarray
    verification: Verification
    train_accuracy: float | None
    test_accuracy: float | None
    baseline: dict[str, Any] | None
    seconds: dict[str, float]
    proof: Proof | None = None
    iterations: tuple[Iteration, ...] = ()
    trained: tuple[Network, ...] = ()
    trained_as: list[dict[str, Any]] = field(default_factory=list)

    @property
    def status(self) -> str:
        """Return the status from the gap, over all patterns if there is a proof, else on the dictionary."""
        return status_of(self.certificate.gap, self.problem.solver.tolerance, self.scope)

    @property
    def scope(self) -> str:
        """Return the set of patterns that the bound covers: "all_patterns" or this "dictionary"."""
        return "dictionary" if self.proof is None else "all_patterns"

    @property
    def claim(self) -> Claim:
        """The claim of this run, as `save` writes it."""
        definition = self.lowered.dictionary.definition
        return Claim(
            problem=self.problem.name,
            fingerprint=self.problem.fingerprint(),
            status=self.status,
            scope=self.scope,
            definition=str(definition),
            margin=float(definition.margin),
            weight_box=float(definition.weight_box),
            regularization=self.lowered.program.regularization,
            objective=self.certificate.objective,
            lower_bound=self.certificate.lower_bound,
            gap=self.certificate.gap,
            tolerance=float(self.problem.solver.tolerance),
            patterns=self.lowered.dictionary.patterns,
            units=self.network.units,
            solver=self.solution.solver,
            oracle=self.proof.oracle if self.proof else "",
            oracle_bound=self.proof.norm if self.proof else None,
        )

    def summary(self) -> dict[str, Any]:
        """Return the run as plain numbers and words, the object that ``solve --json`` prints."""
        claim = self.claim
        names = ("problem", "status", "objective", "lower_bound", "gap", "scope", "patterns", "units")
        summary: dict[str, Any] = {
            **{name: getattr(claim, name) for name in names},
            "verified": True,
            "max_output_error": self.verification.max_output_error,
            "min_margin": self.verification.min_margin,
            "train_accuracy": self.train_accuracy,
            "test_accuracy": self.test_accuracy,
            "solver": claim.solver,
            "seconds": {k: round(v, 4) for k, v in self.seconds.items()},
            "out": None,
            "regularization": claim.regularization,
            "tolerance": claim.tolerance,
            "expected": self.problem.expected.get("objective"),
            "oracle": claim.oracle or None,
            "oracle_bound": claim.oracle_bound,
            "iterations": [asdict(one) for one in self.iterations],
        }
        if self.baseline:
            summary["baseline"] = self.baseline
        if self.trained:
            trainer = trainer_of(self.problem)
            summary |= {
                "trained": self.trained_as,
                "trained_of": len(self.trained) if trainer is None else trainer.networks(self.problem),
            }
        return summary

    def text(self, out: str | None = None) -> str:
        """Return the lines that ``convexsnn solve`` prints; `out` is the folder of the saved run."""
        return summary_text({**self.summary(), "out": out})

    def write(self, folder: Path) -> None:
        """Write the files of `save`; the claim is a certificate, with the dictionary that it is about."""
        self.problem.save(folder)
        if get_source(self.problem.dictionary.source).keeps_file:
            file = self.problem.dictionary.file or ""
            path = (self.problem.folder / file) if self.problem.folder else file
            shutil.copyfile(path, folder / SAVED_WITNESSES)
        save_network(folder / "network.npz", self.network)
        for k, network in enumerate(self.trained, 1):
            save_network(folder / f"trained-{k}.npz", network)
        self.lowered.dictionary.save(folder / "dictionary.npz")
        dual = self.proof.dual if self.proof else self.certificate.dual
        save_claim(folder, self.claim, Evidence(dual, self.point.weights, self.columns))


def lower(problem: Problem, *, time_limit: float | None = None, progress: Progress | None = None) -> Lowered:
    """Build the dictionary of a problem and state its convex program.

    With ``dictionary.source = "admm"`` or "surrogate_gradient" this trains networks first, for at most
    `time_limit` seconds. An enumeration ends then with the patterns known.

    Raises
    ------
    LoweringError
        The problem has no convex program, or no dictionary.
    NotInstalled
        The source is "surrogate_gradient", and torch is not installed.
    """
    budget = Budget.of(time_limit, progress)
    return _lower(problem, trained_networks(problem, budget), budget)


def _lower(problem: Problem, trained: list[Trained], budget: Budget) -> Lowered:
    if not trained:
        deadline = np.inf if budget.deadline is None else budget.deadline
        return Convexification().lower(problem, build_dictionary(problem, deadline))
    stacks = (one.network.layers for one in trained)
    return Convexification().lower(problem, witnesses_of(problem, *stacks))


def reconstruct(lowered: Lowered, point: Point) -> Network:
    """Return the network of a point of the program."""
    return Convexification().reconstruct(lowered, point)


def _with_solver(
    problem: Problem, solver: str | Solver | None, tolerance: float | None, time_limit: float | None
) -> Problem:
    """Return the problem with the caller's solver settings, so that the saved problem has them too."""
    check_limits(problem.solver.tolerance if tolerance is None else tolerance, time_limit)
    arguments = {
        "name": solver.name if isinstance(solver, Solver) else solver,
        "tolerance": tolerance,
        "time_limit": time_limit,
    }
    settings: dict[str, Any] = {key: value for key, value in arguments.items() if value is not None}
    return problem.with_settings(solver=settings) if settings else problem


def train_convex(
    problem: Problem,
    *,
    solver: str | Solver | None = None,
    tolerance: float | None = None,
    time_limit: float | None = None,
    progress: Progress | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    start: SpikeDictionary | None = None,
) -> Result:
    """Train by the convex program; arguments and errors as `convexsnn.train`.

    `start` is the first dictionary of column generation; if not given, the problem's own.
    """
    problem = _with_solver(problem, solver, tolerance, time_limit)
    clock = [time.perf_counter()]
    spec, source = problem.solver, get_source(problem.dictionary.source)
    if not isinstance(solver, Solver) and spec.name != "auto":
        get_solver(spec.name)
    budget = Budget.of(spec.time_limit, progress, checkpoint)
    budget.report("dictionary")
    trained = trained_networks(problem, budget)
    chosen = solver if isinstance(solver, Solver) else spec.name
    lowered = None if source.covers_all_patterns else _lower(problem, trained, budget)
    trained_as = trained_rows(problem, lowered.program, trained) if lowered else []
    clock.append(time.perf_counter())
    problem, generated = _solved(problem, lowered, chosen, start, progress)
    lowered, solution, proof = generated.lowered, generated.solution, generated.proof
    budget.report("pruning")
    point = prune(lowered.program, solution.point, spec.tolerance)
    certificate = certified(lowered.program, point, proof) if proof else lowered.program.certify(point)
    clock.append(time.perf_counter())
    budget.report("reconstruction")
    network = reconstruct(lowered, point)
    columns = Convexification().columns_of_units(lowered, point)
    clock.append(time.perf_counter())
    budget.report("simulation")
    verification = verify(network, lowered, point, columns)
    fit = score_of_outputs(problem, verification.outputs, problem.targets, problem.row_weights())
    test = score_on_test_set(problem, network)
    baseline = ridge_baseline(lowered) if source.has_baseline else None
    clock.append(time.perf_counter())
    stages = ("dictionary", "solve", "reconstruct", "verify")
    seconds = {name: b - a for name, a, b in zip(stages, clock, clock[1:], strict=False)}
    return Result(
        problem,
        lowered,
        solution,
        point,
        certificate,
        network,
        columns,
        verification,
        fit.accuracy,
        None if test is None else test.accuracy,
        baseline,
        {**seconds, "total": clock[-1] - clock[0]},
        proof,
        generated.iterations,
        tuple(one.network for one in trained),
        trained_as,
    )


def _solved(
    problem: Problem, lowered: Lowered | None, solver: str | Solver, start: SpikeDictionary | None,
    progress: Progress | None,
) -> tuple[Problem, Generated]:  # fmt: skip
    """Solve the program; without one, generate columns, which may set the problem's λ."""
    spec = problem.solver
    if lowered is None:
        run = ColumnGeneration(problem, solver, spec.tolerance, spec.time_limit, progress)
        generated = run.run(start)
        problem = run.problem
    else:
        limits: dict[str, Any] = {"tolerance": spec.tolerance, "time_limit": spec.time_limit}
        solution = solve(lowered.program, solver, progress=progress, **limits)
        generated = Generated(lowered, solution, None, ())
    if generated.solution.status not in (Status.OPTIMAL, Status.LIMIT):
        raise failure(generated.lowered.program, generated.solution)
    return problem, generated
