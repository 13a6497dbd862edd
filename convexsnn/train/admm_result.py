"""What an ADMM training gives back: a network, what the simulator says of it, and its curves.

A claim of ADMM is about one network alone. ``admm.json`` states its accuracy and loss; whoever has the folder
can simulate ``network.npz`` again and compare. There is no bound and no gap, and nothing here says so
otherwise.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from convexsnn.errors import ProblemFileError, ShapeError, VerificationError
from convexsnn.files import with_folder
from convexsnn.lowering.convexify import definition_of
from convexsnn.networks import Network, architecture_mismatch, load_network, save_network
from convexsnn.problem import Problem, load_problem
from convexsnn.programs.losses import get_loss
from convexsnn.simulate import simulate
from convexsnn.train.admm import AdmmRun, AdmmTraining, Progress, history_rows
from convexsnn.train.folder import ADMM, write_folder

SCOPE = "this network alone: a splitting is not convex as a whole, so there is no lower bound and no gap"
STATUSES = ("stationary", "limit")
RELATIVE = 1e-9
SAMPLES_AT_A_TIME = 4096  # in the simulator, so that its spikes fit in memory


@dataclass(frozen=True)
class Judged:
    """What the simulator says of a network, in float64."""

    objective: float
    train_accuracy: float | None
    test_accuracy: float | None
    test_loss: float | None


def judge(problem: Problem, network: Network) -> Judged:
    """Simulate a network on a problem's data: mean loss and accuracy."""
    loss, code = get_loss(problem.training.loss), problem.target_code

    def on(name: str, inputs: Any, targets: Any) -> tuple[float, float | None]:
        parts = range(0, len(inputs), SAMPLES_AT_A_TIME)
        outputs = np.concatenate(
            [simulate(network, inputs[k : k + SAMPLES_AT_A_TIME]).outputs for k in parts]
        )
        values = loss.value(outputs, code.values(name, targets, len(inputs)))
        shares = code.accuracies(outputs, name, targets)
        weights = problem.row_weights() if name == "targets" else np.ones(len(inputs))
        return float(weights @ values / len(inputs)), None if shares is None else float(np.mean(shares))

    objective, accuracy = on("targets", problem.inputs, problem.targets)
    test: tuple[float | None, float | None] = (None, None)
    if problem.test_inputs is not None:
        test = on("test_targets", problem.test_inputs, problem.test_targets)
    return Judged(objective, accuracy, test[1], test[0])


@dataclass(frozen=True, eq=False)
class AdmmResult:
    """One training, judged by the simulator.

    Attributes
    ----------
    judged : Judged
        Of the network as read back from the file that `save_network` writes.
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
        """Return "stationary" or "limit"."""
        return self.run.status

    def summary(self) -> dict[str, Any]:
        """Return the training as plain numbers and words, the object that ``solve --json`` prints."""
        problem, history = self.problem, history_rows(self.run.history)
        best = [row["validation_accuracy"] for row in history if row["validation_accuracy"] is not None]
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
            "validation_accuracy": max(best) if best else None,
            "test_accuracy": self.judged.test_accuracy,
            "solver": f"admm:{problem.admm.variant}",
            "seconds": {k: round(v, 4) for k, v in self.seconds.items()},
            "out": None,
            "tolerance": problem.admm.tolerance,
            "expected": problem.expected.get("objective"),
            "iterations": history,
        }

    def save(
        self,
        folder: str | os.PathLike[str],
        *,
        force: bool = False,
        also: Callable[[Path], None] | None = None,
    ) -> None:
        """Write problem, data, network, and ``admm.json`` with claim and curves, into a new folder.

        `also` is handed the folder before it takes its place, to add files.

        Raises
        ------
        ProblemFileError
            The folder exists (without `force`) or cannot be written; then nothing is.
        """

        def write(made: Path) -> None:
            self.write(made)
            if also is not None:
                also(made)

        write_folder(Path(folder), write, force)

    def write(self, folder: Path) -> None:
        """Write the files of `save` into an existing folder."""
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
    """Train a network by ADMM and let the simulator judge it.

    Parameters
    ----------
    time_limit : float, optional
        Seconds; the iteration at hand is finished.
    checkpoint : path, optional
        Written every ``admm.checkpoint_every`` iterations; if the file is there, training goes on from it.
    place : callable, optional
        Where the samples are worked on: `convexsnn.train.distributed.on_dask(client)`; here if not given.

    Raises
    ------
    LoweringError
        The architecture has no splitting, or a layer does not fire at the start.
    SolverFailed
        A block gave values that are not finite, or a layer stopped firing.
    ProblemFileError
        The checkpoint is damaged or of another problem.
    VerificationError
        The network read back from its file does something else.
    """
    begun = time.perf_counter()
    file = None if checkpoint is None else with_folder("checkpoint", checkpoint)
    training = AdmmTraining(problem, time_limit=time_limit, progress=progress, checkpoint=file, place=place)
    run = training.run()
    trained = time.perf_counter()
    if progress is not None:
        progress("simulation", 1.0)
    with tempfile.TemporaryDirectory() as folder:
        save_network(Path(folder) / "network.npz", run.network)
        saved = load_network(Path(folder) / "network.npz")
    judged = judge(problem, saved)
    if judge(problem, run.network) != judged:
        raise VerificationError("network: read back from its file it simulates otherwise")
    ended = time.perf_counter()
    seconds = {"train": trained - begun, "verify": ended - trained, "total": ended - begun}
    return AdmmResult(problem, run, judged, seconds)


def _mismatch(problem: Problem, network: Network) -> str | None:
    """Return how a network differs from a problem's architecture."""
    for name in ("readout", "supervise", "readout_leak"):
        found, asked = getattr(network, name), getattr(problem.network, name)
        if found != asked:
            return f"{name} {found!r}, the problem has {asked!r}"
    outputs, asked = network.output_weights.shape[1], problem.encoded_targets().shape[1]
    if outputs != asked:
        return f"{outputs} outputs, the problem has {asked}"
    return architecture_mismatch(problem.network, network.layers, problem.inputs.shape[2])


def verify_admm_folder(folder: Path) -> dict[str, Any]:
    """Simulate the network of a folder that `AdmmResult.save` wrote again, and compare with its claim.

    Returns
    -------
    dict
        The claim.

    Raises
    ------
    VerificationError
        Something is missing or damaged, or the simulator does not say what the claim does.
    """
    try:
        problem = load_problem(folder / "problem.toml")
        network = load_network(folder / "network.npz")
        claim = json.loads((folder / ADMM).read_text(encoding="utf-8"))
        if not isinstance(claim, dict):
            raise ProblemFileError(f"{ADMM}: expected an object, got {type(claim).__name__}")
        status, fingerprint = claim["status"], claim["fingerprint"]
        stated = {k: claim[k] for k in ("objective", "train_accuracy", "test_accuracy")}
        units, digest = claim["units"], claim["network"]
        bounds = (claim["lower_bound"], claim["gap"])
    except KeyError as error:
        raise VerificationError(f"{ADMM}: no key {error}") from error
    except (ProblemFileError, ShapeError, OSError) as error:
        raise VerificationError(str(error)) from error
    except (ValueError, RecursionError) as error:
        raise VerificationError(f"{ADMM}: {error}") from error
    if fingerprint != problem.fingerprint():
        raise VerificationError("fingerprint: data, network or training are not those of the claim")
    if status not in STATUSES or bounds != (None, None):
        raise VerificationError(f"status: {status!r} with bound and gap {bounds}; ADMM proves no bound")
    reason = _mismatch(problem, network)
    if reason is None and digest != hashlib.sha256((folder / "network.npz").read_bytes()).hexdigest():
        reason = "network.npz is not the file that the claim was made for"
    if reason is None and units != network.units:
        reason = f"{network.units} units, the claim states {units!r}"
    if reason is not None:
        raise VerificationError(f"network: {reason}")
    judged = judge(problem, network)
    for name, value in stated.items():
        found = getattr(judged, name)
        same = value == found
        if not same and isinstance(value, (int, float)) and isinstance(found, float) and name == "objective":
            same = abs(value - found) <= RELATIVE * max(abs(found), 1e-12)
        if not same:
            raise VerificationError(f"{name}: the claim states {value!r}, the simulator says {found!r}")
    return claim


def admm_problem(problem: Problem) -> Problem:
    """Return the problem whose training gives the hidden layers for ``dictionary.source = "admm"``.

    The same network and data; the readout that ADMM trains sees the last step's spikes, as the dictionary
    does.

    Raises
    ------
    LoweringError
        The network has a readout or a layer that is no pattern of bits.
    """
    definition_of(problem)  # refuses what has no patterns, before any work
    training = replace(problem.training, method="admm", regularization=None, regularization_fraction=None)
    network = replace(problem.network, readout="spike", supervise="last", subnetworks=1)
    return replace(problem, training=training, network=network)
