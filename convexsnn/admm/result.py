"""The result of an ADMM training: a network, its simulated score, and the curves of the training.

A claim of ADMM is about one network only. ``admm.json`` states its accuracy and loss. Anyone with the folder
can simulate ``network.npz`` again and compare. There is no bound and no gap.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from convexsnn.admm.training import AdmmRun, AdmmTraining
from convexsnn.admm.words import admm_text, confirmed_text
from convexsnn.errors import ConvexSNNError, ProblemFileError, ShapeError, VerificationError
from convexsnn.files import TemporaryFolder, read_json
from convexsnn.lowering.convexify import definition_of
from convexsnn.networks import Network, load_network, save_network
from convexsnn.problem import Problem, load_saved_problem
from convexsnn.training.budget import Budget, Progress
from convexsnn.training.history import plain
from convexsnn.training.manifest import ADMM, check_whole
from convexsnn.training.result import TrainingResult
from convexsnn.training.score import mismatch, score, score_on_test_set

SCOPE = "this network alone: a splitting is not convex as a whole, so there is no lower bound and no gap"
STATUSES = ("stationary", "limit")
RELATIVE = 1e-9


@dataclass(frozen=True)
class Judged:
    """Score of a network, simulated in float64."""

    objective: float
    train_accuracy: float | None
    test_accuracy: float | None
    test_loss: float | None


def judge(problem: Problem, network: Network) -> Judged:
    """Simulate a network on a problem's data; return mean loss and accuracy."""
    fit, test = score(problem, network), score_on_test_set(problem, network)
    return Judged(
        fit.loss,
        fit.accuracy,
        None if test is None else test.accuracy,
        None if test is None else test.loss,
    )


@dataclass(frozen=True, eq=False)
class AdmmResult(TrainingResult):
    """One training and the simulated score of its network.

    Attributes
    ----------
    judged : Judged
        Score of the network, read back from a file of `save_network`.
    seconds : dict
        train, verify, total.
    """

    problem: Problem
    run: AdmmRun
    judged: Judged
    seconds: dict[str, float]

    @property
    def network(self) -> Network:
        """The trained network."""
        return self.run.network

    @property
    def status(self) -> str:
        """Result of the training: "stationary" or "limit"."""
        return self.run.status

    @property
    def curves(self) -> list[dict[str, Any]]:
        """The iterations as plain numbers, for plots."""
        return plain(self.run.history)

    def text(self, out: str | None = None) -> str:
        """Return the lines that ``convexsnn solve`` prints; `out` is the folder of the result."""
        return admm_text({**self.summary(), "out": out})

    def summary(self) -> dict[str, Any]:
        """Return the training as plain numbers and strings, the object that ``solve --json`` prints."""
        problem, history = self.problem, self.curves
        validation = [row["validation_accuracy"] for row in history if row["validation_accuracy"] is not None]
        return {
            "problem": problem.name,
            "status": self.status,
            "stopped_by": self.run.stopped_by,
            "objective": self.judged.objective,
            "lower_bound": None,
            "gap": None,
            "scope": SCOPE,
            "patterns": None,
            "units": self.network.units,
            "verified": True,
            "max_output_error": None,
            "min_margin": None,
            "train_accuracy": self.judged.train_accuracy,
            "validation_accuracy": max(validation) if validation else None,
            "test_accuracy": self.judged.test_accuracy,
            "solver": f"admm:{problem.admm.variant}",
            "seconds": {k: round(v, 4) for k, v in self.seconds.items()},
            "out": None,
            "tolerance": problem.admm.tolerance,
            "expected": problem.expected.get("objective"),
            "iterations": history,
        }

    def write(self, folder: Path) -> None:
        """Write the files of `save`; ``admm.json`` holds claim and curves."""
        self.problem.save(folder)
        save_network(folder / "network.npz", self.network)
        digest = hashlib.sha256((folder / "network.npz").read_bytes()).hexdigest()
        claim = {**self.summary(), "fingerprint": self.problem.fingerprint(), "network": digest}
        del claim["out"]
        (folder / ADMM).write_text(json.dumps(claim, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def train_admm(
    problem: Problem,
    *,
    time_limit: float | None = None,
    progress: Progress | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    place: Callable[..., Any] | None = None,
) -> AdmmResult:
    """Train a network by ADMM and simulate it.

    Parameters
    ----------
    time_limit : float, optional
        Limit in seconds; the present iteration is finished first.
    checkpoint : path, optional
        File written every ``admm.checkpoint_every`` iterations. If it exists, training resumes from it.
    place : callable, optional
        Location of the samples: `convexsnn.admm.cluster.on_dask(client)`. Default: this process.

    Raises
    ------
    LoweringError
        The architecture has no splitting, or a layer does not fire at the start.
    SolverFailed
        A block has values that are not finite, or a layer stopped firing.
    ProblemFileError
        The checkpoint is damaged or belongs to another problem.
    VerificationError
        The network read back from its file has another simulated score.
    """
    return run_admm(problem, Budget.of(time_limit, progress, checkpoint), place)


def run_admm(problem: Problem, budget: Budget, place: Callable[..., Any] | None = None) -> AdmmResult:
    """Train by ADMM within a budget; errors as in `train_admm`."""
    begun = time.perf_counter()
    run = AdmmTraining(problem, budget, place).run()
    trained = time.perf_counter()
    budget.report("simulation", 1.0)
    folder = TemporaryFolder()
    try:
        save_network(folder.path / "network.npz", run.network)
        saved = load_network(folder.path / "network.npz")
    finally:
        folder.remove()
    judged = judge(problem, saved)
    if judge(problem, run.network) != judged:
        raise VerificationError("network: its simulation differs after reading it back from its file")
    ended = time.perf_counter()
    seconds = {"train": trained - begun, "verify": ended - trained, "total": ended - begun}
    return AdmmResult(problem, run, judged, seconds)


@dataclass(frozen=True)
class AdmmClaim:
    """The claim in ``admm.json`` about one network; `network` is the SHA-256 of its file.

    There is no bound over other networks: `lower_bound` and `gap` are None in every true claim.
    """

    problem: str
    status: str
    scope: str
    fingerprint: str
    network: str
    units: int
    objective: float
    lower_bound: None
    gap: None
    train_accuracy: float | None
    test_accuracy: float | None


@dataclass(frozen=True)
class ConfirmedAdmm:
    """A claim of ADMM and the simulated score that confirms it."""

    folder: Path
    claim: AdmmClaim
    checked: Judged

    def summary(self) -> dict[str, Any]:
        """Return the object that ``verify --json`` prints; the numbers come from the simulator."""
        values = {
            "status": self.claim.status,
            "scope": SCOPE,
            "objective": self.checked.objective,
            "lower_bound": None,
            "gap": None,
            "train_accuracy": self.checked.train_accuracy,
            "test_accuracy": self.checked.test_accuracy,
        }
        return {"folder": str(self.folder), "accepted": True, **values}

    def text(self) -> str:
        """Return the lines that ``convexsnn verify`` prints."""
        return confirmed_text({**self.summary(), "problem": self.claim.problem})


def _read_claim(folder: Path) -> AdmmClaim:
    try:
        check_whole(folder)
        values = read_json(folder / ADMM, finite=False)  # what is not finite equals no simulated number
        return AdmmClaim(**{field.name: values[field.name] for field in fields(AdmmClaim)})
    except KeyError as error:
        raise VerificationError(f"{ADMM}: no key {error}") from error
    except (ProblemFileError, OSError) as error:
        raise VerificationError(str(error).removeprefix(f"{folder}{os.sep}")) from error


def verify_admm_folder(folder: Path, exact: bool = False, budget: Budget = Budget()) -> ConfirmedAdmm:  # noqa: B008
    """Simulate the network of a saved folder (`AdmmResult.save`) and compare it with its claim.

    Raises
    ------
    ShapeError
        `exact` is set; a claim about one network has no proof in rational arithmetic.
    VerificationError
        A file is missing or damaged, or the simulation does not agree with the claim.
    """
    if exact:
        raise ShapeError("exact: a claim of ADMM has no proof in rational arithmetic")
    budget.report("simulation")  # the only work, which needs no limit
    claim = _read_claim(folder)
    try:
        problem = load_saved_problem(folder)
        network = load_network(folder / "network.npz")
    except (ConvexSNNError, OSError) as error:
        raise VerificationError(str(error)) from error
    if claim.fingerprint != problem.fingerprint():
        raise VerificationError("fingerprint: data, network or training differ from those of the claim")
    bounds = (claim.lower_bound, claim.gap)
    if claim.status not in STATUSES or bounds != (None, None):
        raise VerificationError(f"status: {claim.status!r} with bound and gap {bounds}; ADMM proves no bound")
    for name, value, expected in (("scope", claim.scope, SCOPE), ("problem", claim.problem, problem.name)):
        if value != expected:
            raise VerificationError(f"{name}: the claim states {value!r}, expected {expected!r}")
    reason = mismatch(problem, network, ("readout", "supervise", "readout_leak"))
    if reason is None and claim.network != hashlib.sha256((folder / "network.npz").read_bytes()).hexdigest():
        reason = "network.npz is not the file of the claim"
    if reason is None and claim.units != network.units:
        reason = f"{network.units} units, the claim states {claim.units!r}"
    if reason is not None:
        raise VerificationError(f"network: {reason}")
    judged = judge(problem, network)
    for name in ("objective", "train_accuracy", "test_accuracy"):
        _compare(name, getattr(claim, name), getattr(judged, name))
    return ConfirmedAdmm(folder, claim, judged)


def _compare(name: str, stated: Any, simulated: float | None) -> None:
    """Raise a VerificationError unless both numbers are equal; for objectives, up to rounding."""
    same = stated == simulated
    if not same and name == "objective" and isinstance(stated, (int, float)) and simulated is not None:
        same = abs(stated - simulated) <= RELATIVE * max(abs(simulated), 1e-12)
    if not same:
        raise VerificationError(f"{name}: the claim states {stated!r}, the simulator says {simulated!r}")


def admm_problem(problem: Problem) -> Problem:
    """Return the problem that ADMM trains to obtain the hidden layers for ``dictionary.source = "admm"``.

    It has the same network and data. Its readout uses the spikes of the last step, as the dictionary does.

    Raises
    ------
    LoweringError
        A readout or a layer of the network has no bit patterns.
    """
    definition_of(problem)  # refuses a network without patterns before any work
    return problem.with_settings(
        training={"method": "admm", "regularization": None, "regularization_fraction": None},
        network={"readout": "spike", "supervise": "last", "subnetworks": 1},
    )
