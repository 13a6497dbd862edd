"""Gradients of deep networks: norms per layer, and the surrogate width that keeps them equal ([L20]).

With a wide surrogate, whose slope is low, gradients vanish layer by layer. With a narrow one they explode.
The ratio of the norms of the first and the last layer falls with the width. Bisection finds the width with
ratio 1.

[L20] Ledinauskas, Ruseckas, Juršėnas, Buračas, "Training deep spiking neural networks", 2020.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from convexsnn.arrays import FloatArray, whole
from convexsnn.errors import ShapeError, SolverFailed
from convexsnn.gradient.surrogate import Surrogate

NARROW, WIDE = 0.1, 10.0


def gradient_norms(module: Any, inputs: Tensor, seed: int = 0) -> FloatArray:
    """Return ‖∂L/∂W‖ of every hidden layer, (layers,), for a random linear loss of the outputs.

    Parameters
    ----------
    module : NetworkModule or ResidualNetwork
    inputs : tensor
        Input samples of the module.
    seed : int
        Seed of the loss. Parameters and running statistics of the module are unchanged.
    """
    state = {name: value.clone() for name, value in module.state_dict().items()}
    outputs = module(inputs)
    generator = torch.Generator().manual_seed(seed)
    slopes = torch.randn(outputs.shape, generator=generator, dtype=outputs.dtype).to(outputs.device)
    gradients = torch.autograd.grad((outputs * slopes).sum(), module.hidden_weights())
    module.load_state_dict(state)
    return np.array([float(torch.linalg.vector_norm(one)) for one in gradients])


def set_surrogate(module: nn.Module, surrogate: Surrogate) -> None:
    """Set the surrogate of every layer of a network."""
    for part in module.modules():
        if hasattr(part, "surrogate"):
            part.surrogate = surrogate  # type: ignore[assignment]


def tuned_surrogate(module: Any, inputs: Tensor, seed: int = 0, steps: int = 12) -> Surrogate:
    """Return the network's surrogate with a width that gives the first and last layer equal gradient norms.

    The network is unchanged; apply the result with `set_surrogate`.

    Raises
    ------
    ShapeError
        The network has only one hidden layer.
    SolverFailed
        No width between 0.1 and 10 gives equal norms, for example if a layer passes no gradient.
    """
    whole("steps", steps)
    if len(module.hidden_weights()) < 2:
        raise ShapeError("module: has one hidden layer; equal gradient norms need at least two")
    surrogate, low, high = module.surrogate, NARROW, WIDE

    def log_ratio(width: float) -> float:
        set_surrogate(module, replace(surrogate, width=width))
        norms = gradient_norms(module, inputs, seed)
        if not np.isfinite(norms).all():
            return np.inf  # exploded
        if norms[0] == 0.0:
            return -np.inf  # vanished
        return float(np.log(norms[0] / norms[-1]))

    try:
        if not log_ratio(low) > 0.0 > log_ratio(high):
            raise SolverFailed(f"width: none from {low:g} to {high:g} gives equal gradient norms")
        for _ in range(steps):
            middle = float(np.sqrt(low * high))
            low, high = (middle, high) if log_ratio(middle) > 0.0 else (low, middle)
    finally:
        set_surrogate(module, surrogate)
    return replace(surrogate, width=float(np.sqrt(low * high)))


def norms_text(norms: FloatArray) -> str:
    """Return one line per layer: its norm and a bar of the logarithm."""
    logs = np.log10(np.maximum(norms, 1e-300))
    span = max(float(np.ptp(logs)), 1.0)
    bars = ["#" * (1 + round(30 * (value - logs.min()) / span)) for value in logs]
    lines = [
        f"layer {k:<3} {norm:10.3e} {bar}" for k, (norm, bar) in enumerate(zip(norms, bars, strict=True), 1)
    ]
    spread = norms.max() / norms.min() if norms.min() > 0.0 else np.inf
    return "\n".join([*lines, f"largest over smallest: {spread:.3g}"])
