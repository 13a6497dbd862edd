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
from convexsnn.training.checkpoint import CheckpointFile
from convexsnn.training.history import History, plain, read_rows

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
        weights, best = ({
            name.removeprefix(prefix): torch.from_numpy(value)
            for name, value in arrays.items() if name.startswith(prefix)
        } for prefix in ("weights.", "best."))  # fmt: skip
        state: dict[int, dict[str, Any]] = {}
        for name, value in arrays.items():
            if name.startswith("optimizer."):
                _, index, key = name.split(".")
                state.setdefault(int(index), {})[key] = torch.from_numpy(value)
        value, epoch = arrays["best"]
        history = History(
            read_rows(row, parse_json(str(arrays["history"]), finite=False)), float(value), int(epoch)
        )
        if len(history) > training.spec.epochs:
            raise ProblemFileError(
                f"{path}: a checkpoint of {len(history)} epochs, more than gradient.epochs, "
                f"{training.spec.epochs}; choose another file"
            )
        training.module.load_state_dict(weights)
        groups = training.optimizer.state_dict()["param_groups"]
        training.optimizer.load_state_dict({"state": state, "param_groups": groups})
        training.best = best
        return history
