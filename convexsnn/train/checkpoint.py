"""An ADMM training on disk: all that the next iteration depends on, in one ``.npz`` of plain arrays."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from convexsnn.arrays import digest, read_npz, write_npz
from convexsnn.errors import ProblemFileError
from convexsnn.lowering.weights import Weights
from convexsnn.problem import Problem
from convexsnn.train.shards import Variables

FORMAT = 2
FREE = ("iterations", "checkpoint_every", "patience", "tolerance")  # keys that a resumed run may change


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """What a file held."""

    weights: Weights
    best: Weights
    penalty: float
    best_value: float
    best_iteration: int
    history: list[dict[str, Any]]
    steps: dict[str, np.ndarray]
    variables: list[Variables | None]


def _identity(problem: Problem) -> str:
    """Return what must be the same for a run to go on; a schedule depends on the number of iterations."""
    tables = problem.tables()
    spec = {
        k: v
        for k, v in tables["admm"].items()
        if k not in FREE or (k == "iterations" and problem.admm.schedule == "linear")
    }
    data = digest(inputs=problem.inputs, targets=problem.encoded_targets(), weights=problem.row_weights())
    return json.dumps([tables["network"], tables["training"], spec, data], sort_keys=True)


def save_checkpoint(
    path: Path, problem: Problem, state: Any, steps: Any, variables: Sequence[Variables | None]
) -> None:
    """Write a checkpoint, whole or not at all.

    Raises
    ------
    ProblemFileError
        It cannot be written; what was there stays.
    """
    history = [{**asdict(one), "rates": list(one.rates)} for one in state.history]
    arrays: dict[str, np.ndarray] = {
        "format": np.asarray(FORMAT),
        "identity": np.asarray(_identity(problem)),
        "history": np.asarray(json.dumps(history)),
        "numbers": np.asarray([state.penalty, state.best_value, state.best_iteration], dtype=np.float64),
    }
    for name, weights in (("weights", state.weights), ("best", state.best)):
        for k in range(len(weights.layers) + 1):
            arrays[f"{name}{k}"] = weights.table(k)
    arrays |= {f"steps_{name}": value for name, value in steps.arrays().items()}
    for j, own in enumerate(variables):
        if own is None:
            continue
        arrays[f"shard{j}_outputs"], arrays[f"shard{j}_multipliers"] = own.outputs, own.multipliers
        for k, (z, a) in enumerate(zip(own.membranes, own.spikes, strict=True)):
            arrays[f"shard{j}_membranes{k}"], arrays[f"shard{j}_spikes{k}"] = z, a
    try:
        write_npz(path, arrays)
    except OSError as error:
        raise ProblemFileError(f"checkpoint: {path}: {error.strerror or error}") from error


def load_checkpoint(path: Path, problem: Problem, like: Weights) -> Checkpoint:
    """Read a checkpoint of this problem; `like` are weights of its architecture.

    Raises
    ------
    ProblemFileError
        Missing, damaged, of another format, or of another problem or [admm] table.
    """
    arrays = read_npz(path)
    try:
        if int(arrays["format"]) != FORMAT:
            raise ProblemFileError(
                f"{path}: checkpoint format {arrays['format']}, this version reads {FORMAT}"
            )
        if str(arrays["identity"]) != _identity(problem):
            raise ProblemFileError(
                f"{path}: a checkpoint of another problem, network or [admm] table; choose another file"
            )
        layers = len(like.layers)
        both = [
            like.with_tables({k: arrays[f"{name}{k}"] for k in range(layers + 1)})
            for name in ("weights", "best")
        ]
        penalty, value, iteration = (float(x) for x in arrays["numbers"])
        steps = {name.removeprefix("steps_"): v for name, v in arrays.items() if name.startswith("steps_")}
        history = json.loads(str(arrays["history"]))
        return Checkpoint(
            both[0], both[1], penalty, value, int(iteration), history, steps, _variables(arrays, layers)
        )
    except (KeyError, ValueError, TypeError) as error:
        if isinstance(error, ProblemFileError):
            raise
        raise ProblemFileError(f"{path}: damaged checkpoint: {error}") from error


def _variables(arrays: dict[str, np.ndarray], layers: int) -> list[Variables | None]:
    found: list[Variables | None] = []
    while f"shard{len(found)}_outputs" in arrays:
        own = f"shard{len(found)}_"
        found.append(
            Variables(
                [arrays[f"{own}membranes{k}"] for k in range(layers)],
                [arrays[f"{own}spikes{k}"] for k in range(layers)],
                arrays[f"{own}outputs"],
                arrays[f"{own}multipliers"],
            )
        )
    return found
