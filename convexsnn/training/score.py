"""The score of a network: loss and accuracy of its simulated outputs, the same in every training.

The loss is the mean over supervised rows r of a_r ℓ(z_r, y_r); a are the sample weights, all 1 on a test set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from convexsnn.arrays import FloatArray, IntArray
from convexsnn.networks import Network, architecture_mismatch
from convexsnn.problem import Problem
from convexsnn.programs.losses import get_loss
from convexsnn.simulate import simulate

SAMPLES_AT_A_TIME = 4096  # limits the memory that the simulator needs for spikes


@dataclass(frozen=True)
class Score:
    """Loss of the simulated outputs, and mean accuracy over heads; the accuracy is None in regression."""

    loss: float
    accuracy: float | None

    @property
    def value(self) -> float:
        """Value to maximize in the choice of a network: the accuracy; in regression, minus the loss."""
        return -self.loss if self.accuracy is None else self.accuracy


def mismatch(problem: Problem, network: Network, names: Sequence[str]) -> str | None:
    """Return the difference between a network and the architecture of a problem; None if they agree.

    `names` are the attributes besides layers and outputs that must agree.
    """
    for name in names:
        value, expected = getattr(network, name), getattr(problem.network, name)
        if value != expected:
            return f"{name} {value!r}, the problem has {expected!r}"
    outputs, expected = network.output_weights.shape[1], problem.encoded_targets().shape[1]
    if outputs != expected:
        return f"{outputs} outputs, the problem has {expected}"
    return architecture_mismatch(problem.network, network.layers, problem.inputs.shape[2])


def score_of_outputs(
    problem: Problem, outputs: FloatArray, targets: Any, weights: FloatArray, name: str = "targets"
) -> Score:
    """Return the score of outputs (n, C) or (n, T, C) against targets of the problem's kind.

    Parameters
    ----------
    weights : (R,) array
        Weight a of every supervised row.
    name : str
        Name of the targets in error messages.
    """
    code = problem.target_code
    values = code.values(name, targets, len(outputs))
    losses = get_loss(problem.training.loss).value(outputs.reshape(values.shape), values)
    shares = code.accuracies(outputs, name, targets)
    return Score(float(np.mean(weights * losses)), None if shares is None else float(np.mean(shares)))


def outputs_of(network: Network, inputs: FloatArray, dtype: npt.DTypeLike = np.float64) -> FloatArray:
    """Return the simulated outputs, (n, C) or (n, T, C) in float64; samples are simulated in batches."""
    starts = range(0, max(len(inputs), 1), SAMPLES_AT_A_TIME)
    parts = [simulate(network, inputs[k : k + SAMPLES_AT_A_TIME], dtype=dtype).outputs for k in starts]
    return np.concatenate(parts).astype(np.float64, copy=False)


def score(
    problem: Problem, network: Network, rows: IntArray | None = None, dtype: npt.DTypeLike = np.float64
) -> Score:
    """Simulate a network on the training samples `rows` (all if None) and return its score."""
    at: Any = slice(None) if rows is None else rows
    inputs, targets = problem.inputs[at], np.asarray(problem.targets)[at]
    weights = problem.row_weights().reshape(len(problem.inputs), -1)[at].ravel()
    return score_of_outputs(problem, outputs_of(network, inputs, dtype), targets, weights)


def score_on_test_set(problem: Problem, network: Network) -> Score | None:
    """Simulate a network on the test set and return its score; None without a test set."""
    if problem.test_inputs is None:
        return None
    outputs = outputs_of(network, problem.test_inputs)
    rows = len(outputs) * (problem.rows // len(problem.inputs))
    return score_of_outputs(problem, outputs, problem.test_targets, np.ones(rows), "test_targets")
