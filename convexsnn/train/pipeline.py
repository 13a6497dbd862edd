"""The whole road: problem → program → solution → network → simulator, each station kept."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from convexsnn.arrays import positive
from convexsnn.certify import Checked, Claim, Evidence, Verification, check, load_claim, save_claim, verify
from convexsnn.certify.certificate import status_of
from convexsnn.dictionary import SpikeDictionary, load_dictionary
from convexsnn.errors import LoweringError, ProblemFileError, ShapeError, VerificationError
from convexsnn.lowering import Convexification, Lowered, witnesses_of
from convexsnn.networks import Network, load_network, save_network
from convexsnn.problem import Problem, load_problem
from convexsnn.programs import Certificate, Point
from convexsnn.programs.prune import prune
from convexsnn.solvers import Solution, Solver, Status, check_limits, failure, get_solver, solve
from convexsnn.train.admm_result import AdmmResult, train_admm
from convexsnn.train.baseline import ridge_baseline
from convexsnn.train.column_generation import ColumnGeneration, Generated, Iteration, Proof, certified
from convexsnn.train.folder import write_folder
from convexsnn.train.trained import (
    Progress,
    Trained,
    accuracy,
    accuracy_on_test_set,
    trained_networks,
    trained_rows,
)

OVER_ALL_PATTERNS = ("exact", "column_generation")
TRAINING = ("admm", "surrogate_gradient")  # sources that train networks first


@dataclass(frozen=True, eq=False)
class Result:
    """Every station of one run.

    Attributes
    ----------
    point, certificate : the solver's point after pruning, and what the program says of it
    proof : Proof or None
        What bounds the optimum over all patterns, where that was asked for and found.
    iterations : tuple of Iteration
        The rounds of column generation, if there were any.
    trained, trained_as : tuple of Network, list of dict
        The networks whose hidden layers are the witnesses, with ``source = "admm"`` or "surrogate_gradient",
        and how good they were before the program: objective with its λ, accuracies.
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
        """Return what the gap shows, over all patterns if there is a proof, else on the dictionary."""
        return status_of(self.certificate.gap, self.problem.solver.tolerance, self.scope)

    @property
    def scope(self) -> str:
        """Return for which networks the bound holds: of "all_patterns", or of this "dictionary"."""
        return "dictionary" if self.proof is None else "all_patterns"

    @property
    def claim(self) -> Claim:
        """What this run claims."""
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
        summary: dict[str, Any] = {
            k: getattr(claim, k)
            for k in (
                "problem",
                "status",
                "objective",
                "lower_bound",
                "gap",
                "scope",
                "patterns",
                "units",
            )
        }
        summary |= {
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
            summary |= {"trained": self.trained_as, "trained_of": self._asked}
        return summary

    @property
    def _asked(self) -> int:
        """Number of networks that the problem asks gradients for; ADMM trains one."""
        return self.problem.gradient.networks if self.problem.dictionary.source == "surrogate_gradient" else 1

    def save(self, folder: str | os.PathLike[str], *, force: bool = False) -> None:
        """Write problem, data, network, dictionary and certificate into a new folder.

        Raises
        ------
        ProblemFileError
            The folder exists (without `force`) or cannot be written; then nothing is.
        """
        write_folder(Path(folder), self.write, force)

    def write(self, folder: Path) -> None:
        """Write the files of `save` into an existing folder."""
        self.problem.save(folder)
        if self.problem.dictionary.source == "file":
            given = self.problem.dictionary.file or ""
            shutil.copyfile(
                (self.problem.folder / given) if self.problem.folder else given, folder / "witnesses.npz"
            )
        save_network(folder / "network.npz", self.network)
        for k, network in enumerate(self.trained, 1):
            save_network(folder / f"trained-{k}.npz", network)
        self.lowered.dictionary.save(folder / "dictionary.npz")
        dual = self.proof.dual if self.proof else self.certificate.dual
        save_claim(folder, self.claim, Evidence(dual, self.point.weights, self.columns))


def lower(problem: Problem, *, time_limit: float | None = None, progress: Progress | None = None) -> Lowered:
    """Build the dictionary of a problem and state its convex program.

    With ``dictionary.source = "admm"`` or "surrogate_gradient" that takes a training, of `time_limit` seconds
    at most.

    Raises
    ------
    LoweringError
        The problem has no convex program, or no dictionary.
    NotInstalled
        The source is "surrogate_gradient", and torch is not there.
    """
    return _lower(problem, trained_networks(problem, time_limit=time_limit, progress=progress))


def _lower(problem: Problem, trained: list[Trained]) -> Lowered:
    if not trained:
        return Convexification().lower(problem)
    stacks = (one.network.layers for one in trained)
    return Convexification().lower(problem, witnesses_of(problem, *stacks))


def reconstruct(lowered: Lowered, point: Point) -> Network:
    """Return the network that a point of the program stands for."""
    return Convexification().reconstruct(lowered, point)


def _with_solver(
    problem: Problem, solver: str | Solver | None, tolerance: float | None, time_limit: float | None
) -> Problem:
    """Return the problem with what the caller asked for in its place, so that it is also what is saved."""
    check_limits(problem.solver.tolerance if tolerance is None else tolerance, time_limit)
    given = {
        "name": solver.name if isinstance(solver, Solver) else solver,
        "tolerance": tolerance,
        "time_limit": time_limit,
    }
    asked: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    return problem.with_settings(solver=asked) if asked else problem


def _for_admm(problem: Problem, solver: str | Solver | None, tolerance: float | None) -> Problem:
    if solver is not None:
        raise ShapeError(f'solver: {solver!r} with training.method = "admm", whose blocks have closed forms')
    if tolerance is None:
        return problem
    return problem.with_settings(admm={"tolerance": positive("tolerance", tolerance)})


def train(
    problem: Problem,
    *,
    solver: str | Solver | None = None,
    tolerance: float | None = None,
    time_limit: float | None = None,
    progress: Progress | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    place: Callable[..., Any] | None = None,
) -> Result | AdmmResult:
    """Go the whole road and keep every station; with ``training.method = "admm"`` train by ADMM.

    Parameters
    ----------
    solver, tolerance, time_limit : optional
        In place of the problem's own. `time_limit`, in seconds, is for the solver, and before it for the
        training of networks whose hidden layers are the witnesses: what is trained until then is taken.
    progress : callable, optional
        Called with what is being done and the finished share of it.
    checkpoint : path, optional
        For training by ADMM or gradients: file to keep, and to go on from if it is there; as in `train_admm`
        and `trained_networks`.
    place : optional
        For ADMM, as in `convexsnn.train.admm_result.train_admm`.

    Raises
    ------
    LoweringError, UnsupportedError, SolverNotInstalled, SolverFailed
        Where the road ends early.
    VerificationError
        The simulator does not confirm the network.
    """
    if problem.training.method == "admm":
        problem = _for_admm(problem, solver, tolerance)
        limit = time_limit if time_limit is not None else problem.solver.time_limit
        return train_admm(problem, time_limit=limit, progress=progress, checkpoint=checkpoint, place=place)
    if place is not None:
        raise ShapeError('place: is for training.method = "admm", this problem has "convex"')
    if checkpoint is not None and problem.dictionary.source not in TRAINING:
        raise ShapeError(
            f'checkpoint: is for training.method = "admm" or dictionary.source {" or ".join(TRAINING)}; '
            f'this problem has "convex" and "{problem.dictionary.source}"'
        )
    around: dict[str, Any] = {"time_limit": time_limit, "progress": progress, "checkpoint": checkpoint}
    return train_convex(problem, solver=solver, tolerance=tolerance, **around)


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
    """Go the road of the convex program; arguments and errors as `train`.

    `start` is a dictionary that column generation begins with, in place of the problem's own.
    """
    problem = _with_solver(problem, solver, tolerance, time_limit)

    def report(what: str, share: float = 0.0) -> None:
        if progress:
            progress(what, share)

    clock = [time.perf_counter()]
    spec = problem.solver
    if not isinstance(solver, Solver) and spec.name != "auto":
        get_solver(spec.name)
    report("dictionary")
    around: dict[str, Any] = {"progress": progress, "checkpoint": checkpoint}
    trained = trained_networks(problem, time_limit=spec.time_limit, **around)
    chosen = solver if isinstance(solver, Solver) else spec.name
    given = None if problem.dictionary.source in OVER_ALL_PATTERNS else _lower(problem, trained)
    trained_as = trained_rows(problem, given.program, trained) if given else []
    clock.append(time.perf_counter())
    problem, generated = _solved(problem, given, chosen, start, progress)
    lowered, solution, proof = generated.lowered, generated.solution, generated.proof
    report("pruning")
    point = prune(lowered.program, solution.point, spec.tolerance)
    certificate = certified(lowered.program, point, proof) if proof else lowered.program.certify(point)
    clock.append(time.perf_counter())
    report("reconstruction")
    network = reconstruct(lowered, point)
    columns = Convexification().columns_of_units(lowered, point)
    clock.append(time.perf_counter())
    report("simulation")
    verification = verify(network, lowered, point, columns)
    shares = accuracy(problem, verification.outputs, "targets"), accuracy_on_test_set(problem, network)
    baseline = ridge_baseline(lowered) if problem.dictionary.source == "reservoir" else None
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
        *shares,
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
    """Solve a program as it stands, or grow one over all patterns; λ may come with the latter's problem."""
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


def verify_folder(folder: str | os.PathLike[str], *, exact: bool = False) -> tuple[Claim, Checked]:
    """Prove what a folder of `Result.save` claims again, from its data and weights alone.

    Parameters
    ----------
    exact : bool
        Decide every spike in rational arithmetic, so that no rounding is involved.

    Raises
    ------
    ProblemFileError
        There is no such folder.
    VerificationError
        Something in it is missing or damaged, or something it claims does not hold.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ProblemFileError(f"{folder}: no such folder")
    try:
        problem = load_problem(folder / "problem.toml")
        claim, evidence = load_claim(folder)
        network = load_network(folder / "network.npz")
        dictionary = load_dictionary(folder / "dictionary.npz")
        return claim, check(problem, network, dictionary, claim, evidence, exact)
    except (ProblemFileError, ShapeError, LoweringError) as error:
        raise VerificationError(str(error)) from error  # what cannot be read is not proved
