"""The LIF layer's two recursions step by step in torch: run anywhere; kernels are held to them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def carried(membrane: Tensor, spike: Tensor, leak: Tensor, threshold: Tensor, reset: int) -> Tensor:
    """Return what a step leaves to the next one; the arithmetic is that of `networks.LIF`, in its order."""
    match reset:
        case 0:
            return leak * (membrane - threshold * spike)
        case 1:
            return leak * membrane - threshold * spike
        case 2:
            return leak * (membrane * (1.0 - spike))
        case _:
            return leak * membrane


def after_reset(membrane: Tensor, spike: Tensor, threshold: Tensor, reset: int) -> Tensor:
    """Return the membrane after its reset, the quantity of the membrane readout."""
    match reset:
        case 0 | 1:
            return membrane - threshold * spike
        case 2:
            return membrane * (1.0 - spike)
        case _:
            return membrane


def forward(current: Tensor, leak: Tensor, threshold: Tensor, reset: int) -> tuple[Tensor, Tensor]:
    """Return what `backward` needs, membranes, and spikes, (T, N); leak and threshold are (N,)."""
    membranes, spikes = torch.empty_like(current), torch.empty_like(current)
    carry = torch.zeros_like(current[0])
    for t in range(len(current)):
        membranes[t] = carry + current[t]
        spikes[t] = membranes[t] >= threshold
        carry = carried(membranes[t], spikes[t], leak, threshold, reset)
    return membranes, spikes


def backward(
    grad: Tensor, membranes: Tensor, leak: Tensor, threshold: Tensor, reset: int, through: bool,
    surrogate: Any, scale: float, parameters: bool,
) -> tuple[Tensor, Tensor | None, Tensor | None]:  # fmt: skip
    """Return ∂L/∂I (T, N) from ∂L/∂s (T, N), and with `parameters` ∂L/∂β and ∂L/∂θ (N,)."""
    spikes = (membranes >= threshold).to(grad.dtype)
    return adjoint(grad, membranes, spikes, leak, threshold, reset, through, surrogate, scale, parameters)


def adjoint(
    grad: Tensor, membranes: Tensor, spikes: Tensor, leak: Tensor, threshold: Tensor, reset: int,
    through: bool, surrogate: Any, scale: float, parameters: bool = True,
) -> tuple[Tensor, Tensor | None, Tensor | None]:  # fmt: skip
    """Return what `backward` does, for spikes that may also be those of a smooth activation."""
    out, later = torch.empty_like(grad), torch.zeros_like(grad[0])
    by_leak, by_threshold = torch.zeros_like(later), torch.zeros_like(later)
    slopes = scale * surrogate.slope(membranes - threshold)
    for t in range(len(grad) - 1, -1, -1):
        u, s = membranes[t], spikes[t]
        kept, pull, taken = u, torch.zeros_like(u), torch.zeros_like(u)
        if reset == 0:
            kept, pull, taken = u - threshold * s, leak * threshold, leak * s
        elif reset == 1:
            pull, taken = threshold, s
        elif reset == 2:
            kept, pull = u * (1.0 - s), leak * u
        wanted = slopes[t] * (grad[t] - pull * later) if through else slopes[t] * grad[t]
        if parameters:
            by_leak += later * kept
            by_threshold -= wanted + later * taken
        out[t] = wanted + leak * later * ((1.0 - s) if reset == 2 else 1.0)
        later = out[t]
    return (out, by_leak, by_threshold) if parameters else (out, None, None)
