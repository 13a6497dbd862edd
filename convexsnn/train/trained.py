"""Networks that were trained otherwise first, whose hidden layers are the dictionary's witnesses."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from convexsnn.lowering import definition_of
from convexsnn.networks import Network
from convexsnn.problem import Problem
from convexsnn.programs import L1, Group, L1Program
from convexsnn.simulate import Trace, simulate
from convexsnn.train.admm_result import admm_problem, train_admm

Progress = Callable[[str, float], None]


def trained_networks(
    problem: Problem, *, time_limit: float | None = None, progress: Progress | None = None
) -> list[Network]:
    """Return the networks that the dictionary's source asks for; none where it trains nothing.

    After `time_limit` seconds no epoch or iteration begins; what is trained until then is returned.

    Raises
    ------
    LoweringError
        A network that cannot be trained, or has no patterns.
    NotInstalled
        The source is "surrogate_gradient", and torch is not there.
    """
    match problem.dictionary.source:
        case "admm":
            return [train_admm(admm_problem(problem), time_limit=time_limit, progress=progress).network]
        case "surrogate_gradient":
            return _by_gradients(problem, time_limit, progress)
        case _:
            return []


def _by_gradients(problem: Problem, time_limit: float | None, progress: Progress | None) -> list[Network]:
    definition_of(problem)  # refuses what has no patterns, before any work
    from convexsnn.gradient.training import train_gradient

    begun, networks = time.perf_counter(), list[Network]()
    for k in range(problem.gradient.networks):
        left = None if time_limit is None else time_limit - (time.perf_counter() - begun)
        if networks and left is not None and left <= 0:
            break
        one = replace(problem, gradient=replace(problem.gradient, seed=problem.gradient.seed + k))
        networks.append(train_gradient(one, time_limit=left, progress=progress).network)
    return networks


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


def trained_rows(problem: Problem, program: L1Program, networks: list[Network]) -> list[dict[str, Any]]:
    """Return objective, with the program's λ, units and accuracies of every network as it was trained."""
    rows = []
    for network in networks:
        trace = simulate(network, problem.inputs)
        rows.append({
            "objective": network_objective(program, network, trace),
            "units": network.units,
            "train_accuracy": accuracy(problem, trace.outputs, "targets"),
            "test_accuracy": accuracy_on_test_set(problem, network),
        })  # fmt: skip
    return rows
