"""The checkpoint of an ADMM training: everything that the next iteration depends on."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from convexsnn.admm.shards import Variables
from convexsnn.admm.weights import Weights
from convexsnn.arrays import digest, positive
from convexsnn.errors import ProblemFileError
from convexsnn.files import parse_json
from convexsnn.problem import Problem
from convexsnn.training.checkpoint import CheckpointFile, check_alike
from convexsnn.training.history import History, plain

FORMAT = 3
FREE = ("iterations", "checkpoint_every", "patience", "tolerance")  # keys that a resumed run may change

Row = TypeVar("Row")


def _file(path: Path, problem: Problem) -> CheckpointFile:
    """Return the checkpoint of a problem; its identity has `iterations` only if the schedule uses it."""
    tables = problem.tables()
    settings = {
        k: v
        for k, v in tables["admm"].items()
        if k not in FREE or (k == "iterations" and problem.admm.schedule == "linear")
    }
    data = digest(inputs=problem.inputs, targets=problem.encoded_targets(), weights=problem.row_weights())
    identity = {"network": tables["network"], "training": tables["training"], "admm": settings, "data": data}
    return CheckpointFile(path, FORMAT, identity, "another problem, network or [admm] table")


def save_checkpoint(
    path: Path, problem: Problem, state: Any, steps: Any, variables: Sequence[Variables | None]
) -> None:
    """Write a checkpoint, completely or not at all.

    Raises
    ------
    ProblemFileError
        The file cannot be written; an earlier file stays unchanged.
    """
    history = state.history
    arrays: dict[str, np.ndarray] = {
        "history": np.asarray(json.dumps(plain(history.rows))),
        "numbers": np.asarray([state.penalty, history.best_value, history.best_round], dtype=np.float64),
    }
    for name, weights in (("weights", state.weights), ("best", state.best)):
        for k in range(len(weights.layers) + 1):
            arrays[f"{name}{k}"] = weights.table(k)
    arrays |= {f"steps_{name}": value for name, value in steps.arrays().items()}
    for j, shard in enumerate(variables):
        if shard is not None:
            arrays |= shard.arrays(f"shard{j}_")
    _file(path, problem).write(arrays)


def load_checkpoint(
    path: Path,
    problem: Problem,
    row: type[Row],
    like: Weights,
    steps: Any,
    one: Variables | None,
    restore: Callable[[Sequence[Variables | None]], None],
) -> tuple[Weights, Weights, float, History[Row]]:
    """Read a checkpoint of this problem; restore the weight steps and the shards.

    Parameters
    ----------
    row : type
        Dataclass of an iteration.
    like : Weights
        Any weights of the problem's architecture.
    one : Variables, optional
        Those of a single sample; None if each iteration starts at the true dynamics.
    restore : callable
        Called with the variables of every shard, if there are any.

    Returns
    -------
    weights, best, penalty, history

    Raises
    ------
    ProblemFileError
        The file is missing, damaged or altered, or has another format, problem, [admm] table or shards.
    """
    with _file(path, problem).reading() as arrays:
        numbers = arrays.pop("numbers")  # the best value is −inf without held-out samples
        if numbers.shape != (3,) or numbers.dtype != np.float64:
            raise ProblemFileError(f"numbers: expected float64 (3,), got {numbers.dtype} {numbers.shape}")
        check_alike(arrays, _like(arrays, like, steps, one))
        layers = len(like.layers)
        weights, best = (
            like.with_tables({k: arrays[f"{name}{k}"] for k in range(layers + 1)})
            for name in ("weights", "best")
        )
        penalty, value, iteration = numbers.tolist()
        positive("numbers", penalty)
        history = History.read(row, parse_json(str(arrays["history"]), finite=False), value, iteration)
        if one is not None:
            count = len({name.split("_")[0] for name in arrays if name.startswith("shard")})
            restore([Variables.of_arrays(arrays, f"shard{j}_") for j in range(count)])
        steps.restore({k.removeprefix("steps_"): v for k, v in arrays.items() if k.startswith("steps_")})
        return weights, best, penalty, history


def _like(
    arrays: Mapping[str, np.ndarray], like: Weights, steps: Any, one: Variables | None
) -> dict[str, np.ndarray]:
    """Return arrays with the names, types and shapes that a checkpoint has, for the shards of a file."""
    tables = {k: like.table(k) for k in range(len(like.layers) + 1)}
    expected = {f"{name}{k}": table for name in ("weights", "best") for k, table in tables.items()}
    expected |= {f"steps_{name}": value for name, value in steps.like().items()}
    j = 0
    while one is not None and f"shard{j}_outputs" in arrays:
        samples = arrays[f"shard{j}_outputs"].shape[:1]
        shard = one.arrays(f"shard{j}_")
        expected |= {k: np.broadcast_to(a[0], (*samples, *a.shape[1:])) for k, a in shard.items()}
        j += 1
    return {**expected, "history": np.asarray("")}
