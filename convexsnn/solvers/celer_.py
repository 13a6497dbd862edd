"""Celer: coordinate descent on working sets chosen by dual points; squared loss, and logistic with ℓ1.

Its problems are ‖y − X w‖² / 2n + α ‖w‖ and Σ log(1 + exp(−y X w)) + α ‖w‖₁. For the squared
loss, sample weights scale the rows of X and y. The logistic loss of celer has no weights; there rows are
repeated, which needs weights in ratios of small whole numbers. With a group penalty and several outputs, X is
block-diagonal and its memory grows with the square of their number. The extrapolated dual points prove
smaller gaps than those of the residual. Deterministic.
Massias, Gramfort & Salmon, "Celer" (2018); Massias, Vaiter, Gramfort & Salmon, "Dual extrapolation" (2020).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from convexsnn.arrays import FloatArray
from convexsnn.programs import L1Program
from convexsnn.programs.qp_form import by_output
from convexsnn.solvers.capabilities import Capabilities, copies
from convexsnn.solvers.rounds import InRounds, Step


def _squared(program: L1Program, celer_path: Any, settings: Mapping[str, Any]) -> Step:
    """Return a round for all outputs with the squared loss; sample weights scale the rows of X and y."""
    rows, outputs = np.sqrt(program.row_scale), program.shape[1]
    x = np.kron(np.eye(outputs), rows * program.dictionary.toarray())
    y, index = by_output(rows * program.targets), program.penalty.groups(program.shape[0])
    inputs = {"X": np.asfortranarray(x), "y": y, "alphas": [program.regularization / len(y)], **settings}
    inputs |= {"pb": "lasso"}
    if index is not None:
        index = np.tile(index, outputs)
        groups = [np.flatnonzero(index == g).tolist() for g in range(int(index.max()) + 1)]
        inputs |= {"pb": "grouplasso", "groups": groups}

    def step(weights: FloatArray, accuracy: float) -> tuple[FloatArray, FloatArray]:
        _, w, _, theta = celer_path(**inputs, coef_init=by_output(weights), tol=accuracy, return_thetas=True)
        dual = rows * (len(y) * theta[0]).reshape(outputs, -1).T
        return w[:, 0].reshape(outputs, -1).T, dual

    return step


def _logistic(program: L1Program, celer_path: Any, settings: Mapping[str, Any]) -> Step:
    """Return a round for one output with the logistic loss, rows repeated by their weights."""
    times = copies(program.sample_weights)
    assert times is not None  # ensured by the capabilities
    x = np.repeat(program.dictionary.toarray().astype(np.float64), times, axis=0)
    y, first = np.repeat(program.targets[:, 0], times), np.cumsum(times) - times
    unit = float(program.row_scale[0, 0]) / int(times[0])
    inputs = {"X": np.asfortranarray(x), "y": y, "alphas": [program.regularization / unit], **settings}

    def step(weights: FloatArray, accuracy: float) -> tuple[FloatArray, FloatArray]:
        _, w, _, theta = celer_path(
            **inputs, pb="logreg", coef_init=weights[:, 0], tol=accuracy, return_thetas=True
        )
        return w, program.row_scale * theta[0][first][:, None]

    return step


ROUNDS = {"squared": _squared, "logistic": _logistic}


class Celer(InRounds):
    """Adapter to celer; a round is one call, which extends the working set a few times."""

    name = "celer"
    known = {"max_iter": 3, "max_epochs": 300, "p0": 10, "prune": 1, "use_PN": True}
    capabilities = Capabilities(
        programs=frozenset({"qp", "cone", "logistic"}),
        gap=dict.fromkeys(("qp", "cone", "logistic"), 1e-8),
        duals=True,
        warm_start=True,
        time_limit=True,
        extra="fast",
        losses=frozenset(ROUNDS),
        whole_weights=frozenset({"logistic"}),
        penalties=frozenset({"uniform", "euclidean"}),
        chooses_columns=True,
    )
    package = "celer"

    def prepare(self, program: L1Program, options: Mapping[str, Any]) -> Step:  # noqa: D102
        from celer.homotopy import celer_path

        return ROUNDS[program.loss.name](program, celer_path, {key: options[key] for key in self.known})
