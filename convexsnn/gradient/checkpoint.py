"""A gradient training on disk: weights, the optimizer's state and the history, as plain arrays."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from convexsnn.arrays import digest, read_npz, write_npz
from convexsnn.errors import ProblemFileError

FORMAT = 4
FREE = ("checkpoint_every", "patience", "device", "networks")  # keys that a resumed run may change


def _identity(training: Any) -> str:
    """Return what must be the same for a run to go on; a schedule depends on the number of epochs."""
    spec = {k: v for k, v in asdict(training.spec).items() if k not in FREE}
    if training.spec.schedule == "constant":
        del spec["epochs"]
    return json.dumps([training.identity(), spec], sort_keys=True)


def save_checkpoint(path: Path, training: Any) -> None:
    """Write a checkpoint, whole or not at all.

    Raises
    ------
    ProblemFileError
        It cannot be written; what was there stays.
    """
    value, epoch, best = training.best
    arrays: dict[str, np.ndarray] = {
        "format": np.asarray(FORMAT),
        "identity": np.asarray(_identity(training)),
        "history": np.asarray(json.dumps([asdict(one) for one in training.history])),
        "best": np.asarray([value, epoch], dtype=np.float64),
    }
    for prefix, tensors in (("weights.", training.module.state_dict()), ("best.", best)):
        arrays |= {prefix + name: tensor.cpu().numpy() for name, tensor in tensors.items()}
    for index, state in training.optimizer.state_dict()["state"].items():
        arrays |= {
            f"optimizer.{index}.{name}": np.asarray(torch.as_tensor(v).cpu()) for name, v in state.items()
        }
    arrays["digest"] = np.asarray(digest(**arrays))
    try:
        write_npz(path, arrays)
    except OSError as error:
        raise ProblemFileError(f"checkpoint: {path}: {error.strerror or error}") from error


def load_checkpoint(path: Path, training: Any) -> list[dict[str, Any]]:
    """Put a training where a checkpoint left it; return the rows of its history.

    Raises
    ------
    ProblemFileError
        Missing, damaged, of another format, of another problem or [gradient] table, or of more epochs.
    """
    arrays = read_npz(path)
    try:
        if int(arrays["format"]) != FORMAT:
            raise ProblemFileError(
                f"{path}: checkpoint format {arrays['format']}, this version reads {FORMAT}"
            )
        if str(arrays["identity"]) != _identity(training):
            raise ProblemFileError(
                f"{path}: of other data, another network or [gradient] table; choose another file"
            )
        if str(arrays.pop("digest")) != digest(**arrays):
            raise ProblemFileError(f"{path}: damaged or altered checkpoint: its digest is of other values")
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
        rows = json.loads(str(arrays["history"]))
        if len(rows) > training.spec.epochs:
            raise ProblemFileError(
                f"{path}: of {len(rows)} epochs, more than gradient.epochs, {training.spec.epochs}; "
                "choose another file"
            )
        training.module.load_state_dict(weights)
        groups = training.optimizer.state_dict()["param_groups"]
        training.optimizer.load_state_dict({"state": state, "param_groups": groups})
        training.best = float(value), int(epoch), best
        return list(rows)
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        if isinstance(error, ProblemFileError):
            raise
        words = f"no {error}" if isinstance(error, KeyError) else error
        raise ProblemFileError(f"{path}: damaged, or no checkpoint: {words}") from error
