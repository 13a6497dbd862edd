"""The checkpoint of a gradient training: weights, optimizer state and history."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from convexsnn.errors import ProblemFileError
from convexsnn.files import parse_json
from convexsnn.training.checkpoint import CheckpointFile, check_alike
from convexsnn.training.history import History, plain

FORMAT = 5
FREE = ("checkpoint_every", "patience", "device", "networks")  # keys that a resumed run may change

Row = TypeVar("Row")


def _file(path: Path, training: Any) -> CheckpointFile:
    """Return the checkpoint of a training; its identity has the number of epochs if a schedule uses it."""
    settings = {k: v for k, v in asdict(training.spec).items() if k not in FREE}
    if training.spec.schedule == "constant":
        del settings["epochs"]
    identity = {"training": training.identity(), "gradient": settings}
    return CheckpointFile(path, FORMAT, identity, "other data, another network or [gradient] table")


def save_checkpoint(path: Path, training: Any) -> None:
    """Write a checkpoint, completely or not at all.

    Raises
    ------
    ProblemFileError
        The file cannot be written; an earlier file stays unchanged.
    """
    history = training.history
    arrays: dict[str, np.ndarray] = {
        "history": np.asarray(json.dumps(plain(history.rows))),
        "best": np.asarray([history.best_value, history.best_round], dtype=np.float64),
    }
    for prefix, tensors in (("weights.", training.module.state_dict()), ("best.", training.best)):
        arrays |= {prefix + name: tensor.cpu().numpy() for name, tensor in tensors.items()}
    for index, state in training.optimizer.state_dict()["state"].items():
        arrays |= {
            f"optimizer.{index}.{name}": np.asarray(torch.as_tensor(v).cpu()) for name, v in state.items()
        }
    _file(path, training).write(arrays)


def load_checkpoint(path: Path, training: Any, row: type[Row]) -> History[Row]:
    """Restore a training from a checkpoint; return its history.

    Parameters
    ----------
    row : type
        Dataclass of an epoch.

    Raises
    ------
    ProblemFileError
        The file is missing, damaged or altered, has another format, another problem or [gradient] table, or
        more epochs than ``gradient.epochs``.
    """
    with _file(path, training).reading() as arrays:
        best_value = arrays.pop("best")  # −inf without held-out samples
        if best_value.shape != (2,) or best_value.dtype != np.float64:
            raise ProblemFileError(f"best: expected float64 (2,), got {best_value.dtype} {best_value.shape}")
        tables = parse_json(str(arrays["history"]), finite=False)
        history = History.read(row, tables, *best_value.tolist())
        check_alike(arrays, _like(training, bool(history.best_round)))
        if len(history) > training.spec.epochs:
            raise ProblemFileError(
                f"{path}: a checkpoint of {len(history)} epochs, more than gradient.epochs, "
                f"{training.spec.epochs}; choose another file"
            )
        state: dict[int, dict[str, Any]] = {}
        for name, value in _part(arrays, "optimizer.").items():
            index, key = name.split(".")
            if key == "step" and value < 1:
                raise ProblemFileError(f"optimizer.{name}: {float(value):g} steps, expected at least 1")
            state.setdefault(int(index), {})[key] = value
        training.module.load_state_dict(_part(arrays, "weights."))
        groups = training.optimizer.state_dict()["param_groups"]
        training.optimizer.load_state_dict({"state": state, "param_groups": groups})
        training.best = _part(arrays, "best.")
        return history


def _part(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, torch.Tensor]:
    names = (name for name in arrays if name.startswith(prefix))
    return {name.removeprefix(prefix): torch.from_numpy(arrays[name]) for name in names}


def _like(training: Any, has_best: bool) -> dict[str, np.ndarray]:
    """Return arrays with the names, types and shapes that a checkpoint has after its first epoch."""
    tensors = {name: tensor.cpu().numpy() for name, tensor in training.module.state_dict().items()}
    expected = {f"weights.{name}": array for name, array in tensors.items()}
    expected |= {f"best.{name}": array for name, array in tensors.items() if has_best}
    kinds = ("momentum_buffer",) if training.spec.optimizer == "sgd" else ("exp_avg", "exp_avg_sq")
    for k, parameter in enumerate(training.module.parameters()):
        expected |= {f"optimizer.{k}.{kind}": parameter.detach().cpu().numpy() for kind in kinds}
        if training.spec.optimizer != "sgd":
            expected[f"optimizer.{k}.step"] = np.zeros((), np.float32)
    return {**expected, "history": np.asarray("")}
