"""The losses and penalties of `programs` in torch, by name; a loss is Σ over outputs, one value per row.

A loss or penalty without an entry here is refused; no other one replaces it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from convexsnn.errors import UnsupportedError

LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "squared": lambda z, y: (0.5 * (z - y) ** 2).sum(dim=-1),
    "hinge": lambda z, y: (1.0 - y * z).clamp(min=0.0).sum(dim=-1),
    "squared_hinge": lambda z, y: (0.5 * (1.0 - y * z).clamp(min=0.0) ** 2).sum(dim=-1),
    "logistic": lambda z, y: torch.nn.functional.softplus(-y * z).sum(dim=-1),
    "softmax": lambda z, y: torch.logsumexp(z, dim=-1) - (z * y).sum(dim=-1),
}


PENALTIES: dict[str, Callable[[Tensor], Tensor]] = {
    "l1": lambda weights: weights.abs().sum(),
    "group": lambda weights: torch.linalg.vector_norm(weights, dim=1).sum(),
}


def loss_in_torch(name: str) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a loss as a function of outputs and targets (…, C); UnsupportedError if it has no torch form."""
    if name not in LOSSES:
        raise UnsupportedError(f"loss {name}: has no torch form; gradients train {', '.join(LOSSES)}")
    return LOSSES[name]


def penalty_in_torch(name: str) -> Callable[[Tensor], Tensor]:
    """Return a penalty as a function of output weights (m, C); UnsupportedError if it has no torch form."""
    if name not in PENALTIES:
        raise UnsupportedError(f"penalty {name}: has no torch form; gradients train {', '.join(PENALTIES)}")
    return PENALTIES[name]
