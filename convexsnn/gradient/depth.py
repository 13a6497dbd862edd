"""Gradients at depth: norms by layer, and the surrogate's width that keeps them level ([L20]).

A wide surrogate has a low slope, and gradients vanish layer by layer; a narrow one makes them explode. The
norms' ratio of the first layer to the last falls with the width, so that bisection finds where it is 1.

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
        Samples that the module takes.
    seed : int
        Of the loss; the module's parameters and running statistics stay as they are.
    """
    state = {name: value.clone() for name, value in module.state_dict().items()}
    outputs = module(inputs)
    made = torch.Generator().manual_seed(seed)
    wanted = torch.randn(outputs.shape, generator=made, dtype=outputs.dtype).to(outputs.device)
    found = torch.autograd.grad((outputs * wanted).sum(), module.hidden_weights())
    module.load_state_dict(state)
    return np.array([float(torch.linalg.vector_norm(one)) for one in found])


def set_surrogate(module: nn.Module, surrogate: Surrogate) -> None:
    """Give all layers of a network a surrogate."""
    for part in module.modules():
        if hasattr(part, "surrogate"):
            part.surrogate = surrogate  # type: ignore[assignment]


def tuned_surrogate(module: Any, inputs: Tensor, seed: int = 0, steps: int = 12) -> Surrogate:
    """Return the surrogate, of the shape that a network has, whose width keeps its gradient norms level.

    The network is left as it was; `set_surrogate` gives it the new one.

    Raises
    ------
    ShapeError
        There is one hidden layer alone.
    SolverFailed
        No width between 0.1 and 10 does, as where a layer passes no gradient at all.
    """
    whole("steps", steps)
    if len(module.hidden_weights()) < 2:
        raise ShapeError("module: one hidden layer, whose gradient norm is level with itself at any width")
    given, low, high = module.surrogate, NARROW, WIDE

    def rise(width: float) -> float:
        set_surrogate(module, replace(given, width=width))
        norms = gradient_norms(module, inputs, seed)
        if not np.isfinite(norms).all():
            return np.inf  # exploded
        if norms[0] == 0.0:
            return -np.inf  # vanished
        return float(np.log(norms[0] / norms[-1]))

    try:
        if not rise(low) > 0.0 > rise(high):
            raise SolverFailed(f"width: none from {low:g} to {high:g} keeps gradient norms level")
        for _ in range(steps):
            middle = float(np.sqrt(low * high))
            low, high = (middle, high) if rise(middle) > 0.0 else (low, middle)
    finally:
        set_surrogate(module, given)
    return replace(given, width=float(np.sqrt(low * high)))


def norms_text(norms: FloatArray) -> str:
    """Return the norms as lines, a layer each, with bars of their logarithms."""
    logs = np.log10(np.maximum(norms, 1e-300))
    span = max(float(np.ptp(logs)), 1.0)
    bars = ["#" * (1 + round(30 * (value - logs.min()) / span)) for value in logs]
    lines = [
        f"layer {k:<3} {norm:10.3e} {bar}" for k, (norm, bar) in enumerate(zip(norms, bars, strict=True), 1)
    ]
    spread = norms.max() / norms.min() if norms.min() > 0.0 else np.inf
    return "\n".join([*lines, f"largest over smallest: {spread:.3g}"])
