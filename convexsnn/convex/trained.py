"""Networks trained before the convex program; their hidden layers are the witnesses of the dictionary.

The trainers are registered here, each under the name of its dictionary source.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from convexsnn.admm.result import admm_problem, run_admm
from convexsnn.dictionary.sources import get_source
from convexsnn.errors import LoweringError
from convexsnn.lowering import definition_of
from convexsnn.networks import Network
from convexsnn.problem import Problem
from convexsnn.programs import L1Program
from convexsnn.simulate import Trace, simulate
from convexsnn.training.budget import Budget
from convexsnn.training.score import score_of_outputs, score_on_test_set


@dataclass(frozen=True, eq=False)
class Trained:
    """A network, the reason why its training ended, and the number of epochs (or ADMM iterations)."""

    network: Network
    stopped_by: str
    rounds: int


Train = Callable[[Problem, Budget], list[Trained]]  # returns networks in the order of their training


@dataclass(frozen=True)
class Trainer:
    """The training function of a source, and the number of networks for a problem."""

    train: Train
    networks: Callable[[Problem], int]


TRAINERS: dict[str, Trainer] = {}


def register_trainer(
    source: str, networks: Callable[[Problem], int] = lambda problem: 1
) -> Callable[[Train], Train]:
    """Register the training function of a dictionary source; for use as a decorator.

    Parameters
    ----------
    source : str
        Name of a registered source of the kind "trains".
    networks : callable, optional
        Returns the number of networks for a problem; 1 if not given.

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
        The source trains, and no trainer is registered for it.
    """
    source = get_source(problem.dictionary.source)
    if not source.trains:
        return None
    if source.name not in TRAINERS:
        raise LoweringError(
            f"dictionary.source: {source.name!r} trains networks first, and has no trainer; register one "
            "with convexsnn.convex.trained.register_trainer"
        )
    return TRAINERS[source.name]


def trained_networks(problem: Problem, budget: Budget = Budget()) -> list[Trained]:  # noqa: B008 (frozen)
    """Train the networks of the dictionary source; the list is empty if the source does not train.

    After the budget's deadline no epoch or iteration begins; the networks trained until then are returned.
    Each of several networks has its own checkpoint: run-1.npz, run-2.npz and so on for run.npz.

    Raises
    ------
    LoweringError
        A network that cannot be trained, or has no patterns, or a source without a trainer.
    NotInstalled
        The source is "surrogate_gradient", and torch is not installed.
    """
    trainer = trainer_of(problem)
    if trainer is None:
        return []
    return trainer.train(problem, budget)


@register_trainer("admm")
def _by_admm(problem: Problem, budget: Budget) -> list[Trained]:
    run = run_admm(admm_problem(problem), budget).run
    return [Trained(run.network, run.stopped_by, len(run.history))]


@register_trainer("surrogate_gradient", networks=lambda problem: problem.gradient.networks)
def _by_gradients(problem: Problem, budget: Budget) -> list[Trained]:
    definition_of(problem)  # raises for a network without patterns, before any work
    from convexsnn.gradient.training import GradientTraining

    networks: list[Trained] = []
    for k in range(problem.gradient.networks):
        if networks and budget.is_over:
            break
        one = problem.with_settings(gradient={"seed": problem.gradient.seed + k})
        run = GradientTraining(one, budget.part(k, problem.gradient.networks, "network")).run()
        networks.append(Trained(run.network, run.stopped_by, len(run.history)))
    return networks


def network_objective(program: L1Program, network: Network, trace: Trace) -> float:
    """Return the objective of a network from its simulated outputs and its output weights."""
    table = trace.outputs.reshape(program.targets.shape)
    penalty = program.penalty.on_units(len(network.output_weights))
    losses = program.row_scale[:, 0] @ program.loss.value(table, program.targets)
    return float(losses + program.regularization * penalty.value(network.output_weights))


def trained_rows(problem: Problem, program: L1Program, trained: list[Trained]) -> list[dict[str, Any]]:
    """Return, per trained network: objective (with the program's λ), units, accuracies, end of training."""
    rows = []
    for one in trained:
        network = one.network
        trace, test = simulate(network, problem.inputs), score_on_test_set(problem, network)
        fit = score_of_outputs(problem, trace.outputs, problem.targets, problem.row_weights())
        rows.append({
            "objective": network_objective(program, network, trace),
            "units": network.units,
            "train_accuracy": fit.accuracy,
            "test_accuracy": None if test is None else test.accuracy,
            "stopped_by": one.stopped_by,
            "rounds": one.rounds,
        })  # fmt: skip
    return rows
