"""Networks that were trained otherwise first, whose hidden layers are the dictionary's witnesses.

The trainers are registered here, by the name of the dictionary source that they train for.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from convexsnn.dictionary.sources import get_source
from convexsnn.errors import LoweringError
from convexsnn.lowering import definition_of
from convexsnn.networks import Network
from convexsnn.problem import Problem
from convexsnn.programs import L1, Group, L1Program
from convexsnn.simulate import Trace, simulate
from convexsnn.train.admm_result import admm_problem, train_admm

Progress = Callable[[str, float], None]


@dataclass(frozen=True, eq=False)
class Trained:
    """A network, what ended its training, and after how many epochs, or iterations of ADMM."""

    network: Network
    stopped_by: str
    rounds: int


# of a problem, seconds, what to report to and a checkpoint: returns networks in the order they were trained
Train = Callable[[Problem, float | None, Progress | None, Path | None], list[Trained]]


@dataclass(frozen=True)
class Trainer:
    """What trains the networks of a source, and how many of them a problem asks for."""

    train: Train
    networks: Callable[[Problem], int]


TRAINERS: dict[str, Trainer] = {}


def register_trainer(
    source: str, networks: Callable[[Problem], int] = lambda problem: 1
) -> Callable[[Train], Train]:
    """Register what trains the networks of a dictionary source; for use as a decorator.

    Parameters
    ----------
    source : str
        Name of a registered source of the kind "trains".
    networks : callable, optional
        How many networks a problem asks for; 1 if not given.

    Raises
    ------
    LoweringError
        The source does not train, or has a trainer already.
    """
    if not get_source(source).trains:
        raise LoweringError(f"trainer: source {source!r} {get_source(source).kind}, it does not train")
    if source in TRAINERS:
        raise LoweringError(f"trainer: source {source!r} has one already")

    def registered(train: Train) -> Train:
        TRAINERS[source] = Trainer(train, networks)
        return train

    return registered


def trainer_of(problem: Problem) -> Trainer | None:
    """Return the trainer of a problem's dictionary source, None if the source does not train.

    Raises
    ------
    LoweringError
        The source trains, and nobody has registered its trainer.
    """
    source = get_source(problem.dictionary.source)
    if not source.trains:
        return None
    if source.name not in TRAINERS:
        raise LoweringError(
            f"dictionary.source: {source.name!r} trains networks first, and has no trainer; register one "
            "with convexsnn.train.trained.register_trainer"
        )
    return TRAINERS[source.name]


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
        A network that cannot be trained, or has no patterns, or a source without a trainer.
    NotInstalled
        The source is "surrogate_gradient", and torch is not there.
    """
    trainer = trainer_of(problem)
    if trainer is None:
        return []
    return trainer.train(problem, time_limit, progress, Path(checkpoint) if checkpoint else None)


@register_trainer("admm")
def _by_admm(
    problem: Problem, time_limit: float | None, progress: Progress | None, checkpoint: Path | None
) -> list[Trained]:
    limited: dict[str, Any] = {"time_limit": time_limit, "progress": progress}
    run = train_admm(admm_problem(problem), **limited, checkpoint=checkpoint).run
    return [Trained(run.network, run.stopped_by, len(run.history))]


@register_trainer("surrogate_gradient", networks=lambda problem: problem.gradient.networks)
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
    penalty = L1() if program.penalty.name == "l1" else Group(np.arange(len(network.output_weights)))
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
