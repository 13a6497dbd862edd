"""The classical readout of a reservoir: ridge regression on its spikes (the liquid state machine)."""

from __future__ import annotations

from typing import Any

import numpy as np

from convexsnn.arrays import FloatArray
from convexsnn.dictionary.dictionary import patterns_of
from convexsnn.lowering import Lowered

RIDGE = 1.0


def ridge_baseline(lowered: Lowered) -> dict[str, Any]:
    """Return the accuracies of a ridge readout on all units of the dictionary's subnetworks.

    min over W of ½‖F W − Y‖² + ½‖W‖², where F holds the patterns of the
    units and Y the targets as the squared loss encodes them.
    """
    problem, definition = lowered.problem, lowered.dictionary.definition

    def features(inputs: FloatArray) -> FloatArray:
        parts = [patterns_of(net, inputs, definition)[0].toarray() for net in lowered.dictionary.subnetworks]
        return np.concatenate(parts, axis=1).astype(np.float64)

    def accuracy(table: FloatArray, name: str, targets: Any, n: int) -> float | None:
        steps = (problem.inputs.shape[1],) if definition.supervise == "all" else ()
        accuracies = problem.target_code.accuracies(table.reshape(n, *steps, -1), name, targets)
        return None if accuracies is None else float(np.mean(accuracies))

    F, Y = features(problem.inputs), problem.encoded_targets()
    weights = np.linalg.solve(F.T @ F + RIDGE * np.eye(F.shape[1]), F.T @ Y)
    result: dict[str, Any] = {"method": "ridge", "units": F.shape[1]}
    result["train_accuracy"] = accuracy(F @ weights, "targets", problem.targets, len(problem.inputs))
    result["test_accuracy"] = None
    if problem.test_inputs is not None:
        table = features(problem.test_inputs) @ weights
        result["test_accuracy"] = accuracy(
            table, "test_targets", problem.test_targets, len(problem.test_inputs)
        )
    return result
