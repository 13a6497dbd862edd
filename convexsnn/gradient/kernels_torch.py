"""Forward and backward recursion of a LIF layer, step by step in torch, on any device.

The tests compare the other kernels with these.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def carried(membrane: Tensor, spike: Tensor, leak: Tensor, threshold: Tensor, reset: int) -> Tensor:
    """Return the carry to the next step, with the arithmetic of `networks.LIF` in the same order."""
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
    """Return the membrane after its reset, which the membrane readout reads."""
    match reset:
        case 0 | 1:
            return membrane - threshold * spike
        case 2:
            return membrane * (1.0 - spike)
        case _:
            return membrane


def forward(current: Tensor, leak: Tensor, threshold: Tensor, reset: int) -> tuple[Tensor, Tensor]:
    """Return membranes, which `backward` needs, and spikes, (T, N); leak and threshold are (N,)."""
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
    """Return the gradients of `backward`; the spikes may be values of a smooth activation."""
    out, later = torch.empty_like(grad), torch.zeros_like(grad[0])
    by_leak, by_threshold = torch.zeros_like(later), torch.zeros_like(later)
    slopes = scale * surrogate.slope(membranes - threshold)
    for t in range(len(grad) - 1, -1, -1):
        u, s = membranes[t], spikes[t]
        # derivatives of the carry: rest by β, −theta_pull by θ, −spike_pull by s
        rest, theta_pull, spike_pull = u, torch.zeros_like(u), torch.zeros_like(u)
        if reset == 0:
            rest, theta_pull, spike_pull = u - threshold * s, leak * s, leak * threshold
        elif reset == 1:
            theta_pull, spike_pull = s, threshold
        elif reset == 2:
            rest, spike_pull = u * (1.0 - s), leak * u
        by_spike = slopes[t] * (grad[t] - spike_pull * later) if through else slopes[t] * grad[t]
        if parameters:
            by_leak += later * rest
            by_threshold -= by_spike + later * theta_pull
        out[t] = by_spike + leak * later * ((1.0 - s) if reset == 2 else 1.0)
        later = out[t]
    return (out, by_leak, by_threshold) if parameters else (out, None, None)
