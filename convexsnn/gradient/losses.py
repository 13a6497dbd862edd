"""The losses of `programs.losses` in torch, for training: Σ over outputs, one value a row."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def _softmax(outputs: Tensor, targets: Tensor) -> Tensor:
    return torch.logsumexp(outputs, dim=-1) - (outputs * targets).sum(dim=-1)


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "squared": lambda z, y: (0.5 * (z - y) ** 2).sum(dim=-1),
    "hinge": lambda z, y: (1.0 - y * z).clamp(min=0.0).sum(dim=-1),
    "squared_hinge": lambda z, y: (0.5 * (1.0 - y * z).clamp(min=0.0) ** 2).sum(dim=-1),
    "logistic": lambda z, y: torch.nn.functional.softplus(-y * z).sum(dim=-1),
    "softmax": _softmax,
}


def penalty(output_weights: Tensor, kind: str) -> Tensor:
    """Return ‖A‖₁, or with "group" the sum of the units' norms ‖A_j‖₂."""
    if kind == "group":
        return torch.linalg.vector_norm(output_weights, dim=1).sum()
    return output_weights.abs().sum()
