"""Networks that were trained otherwise first, whose hidden layers are the dictionary's witnesses."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from convexsnn.lowering import definition_of
from convexsnn.networks import Network
from convexsnn.problem import Problem
from convexsnn.programs import L1Program
from convexsnn.simulate import Trace, simulate
from convexsnn.train.admm_result import admm_problem, train_admm

Progress = Callable[[str, float], None]


@dataclass(frozen=True, eq=False)
class Trained:
    """A network, what ended its training, and after how many epochs, or iterations of ADMM."""

    network: Network
    stopped_by: str
    rounds: int


def trained_networks(
    problem: Problem,
    *,
    time_limit: float | None = None,
    progress: Progress | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
) -> list[Trained]:
    """Return the networks that the dictionary's source asks for; none where it trains nothing.

    After `time_limit` seconds no epoch or iteration begins; what is trained until then is returned. Each of
    several networks has a checkpoint of its own: run-1.npz, run-2.npz and so on for run.npz.

    Raises
    ------
    LoweringError
        A network that cannot be trained, or has no patterns.
    NotInstalled
        The source is "surrogate_gradient", and torch is not there.
    """
    match problem.dictionary.source:
        case "admm":
            limited: dict[str, Any] = {"time_limit": time_limit, "progress": progress}
            run = train_admm(admm_problem(problem), **limited, checkpoint=checkpoint).run
            return [Trained(run.network, run.stopped_by, len(run.history))]
        case "surrogate_gradient":
            return _by_gradients(problem, time_limit, progress, Path(checkpoint) if checkpoint else None)
        case _:
            return []


def _by_gradients(
    problem: Problem, time_limit: float | None, progress: Progress | None, checkpoint: Path | None
) -> list[Trained]:
    definition_of(problem)  # refuses what has no patterns, before any work
    from convexsnn.gradient.training import train_gradient

    begun, found, count = time.perf_counter(), list[Trained](), problem.gradient.networks
    for k in range(count):
        left = time_limit
        if found and time_limit is not None:
            left = time_limit - (time.perf_counter() - begun)
            if left <= 0:
                break

        def report(what: str, share: float, k: int = k) -> None:
            if progress is not None:
                progress(f"network {k + 1} of {count}, {what}" if count > 1 else what, (k + share) / count)

        own = checkpoint
        if own is not None and count > 1:
            own = own.with_name(f"{own.stem}-{k + 1}{own.suffix}")
        one = replace(problem, gradient=replace(problem.gradient, seed=problem.gradient.seed + k))
        run = train_gradient(one, time_limit=left, progress=report, checkpoint=own)
        found.append(Trained(run.network, run.stopped_by, len(run.history)))
    return found


def network_objective(program: L1Program, network: Network, trace: Trace) -> float:
    """Return the objective of a network from its simulated outputs and its output weights."""
    table = trace.outputs.reshape(program.targets.shape)
    penalty = program.penalty.on_units(len(network.output_weights))
    losses = program.row_scale[:, 0] @ program.loss.value(table, program.targets)
    return float(losses + program.regularization * penalty.value(network.output_weights))


def accuracy(problem: Problem, outputs: np.ndarray, name: str) -> float | None:
    """Return the mean accuracy over heads of a problem's "targets" or "test_targets"; None in regression."""
    shares = problem.target_code.accuracies(outputs, name, getattr(problem, name))
    return None if shares is None else float(np.mean(shares))


def accuracy_on_test_set(problem: Problem, network: Network) -> float | None:
    """Return the accuracy of a simulated network on the test set; None where there is none."""
    if problem.test_inputs is None:
        return None
    return accuracy(problem, simulate(network, problem.test_inputs).outputs, "test_targets")


def trained_rows(problem: Problem, program: L1Program, trained: list[Trained]) -> list[dict[str, Any]]:
    """Return objective, with the program's λ, units, accuracies and end of every trained network."""
    rows = []
    for one in trained:
        network = one.network
        trace = simulate(network, problem.inputs)
        rows.append({
            "objective": network_objective(program, network, trace),
            "units": network.units,
            "train_accuracy": accuracy(problem, trace.outputs, "targets"),
            "test_accuracy": accuracy_on_test_set(problem, network),
            "stopped_by": one.stopped_by,
            "rounds": one.rounds,
        })  # fmt: skip
    return rows
