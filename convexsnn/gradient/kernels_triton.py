"""Forward and backward recursion of a LIF layer on an NVIDIA GPU; one program runs a block of neurons.

Fused multiply-adds are off, so that the spikes equal the simulator's. Scalars are constants of the kernels:
as arguments they would have single precision. With TRITON_INTERPRET=1 in the environment the same kernels
run slowly on the CPU; tests without a GPU use this.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 128  # neurons per program
AHEAD = 4  # steps whose values are loaded together, before the first of them is used


@triton.jit
def _carried(u, fired, beta, theta, reset: tl.constexpr):  # type: ignore[no-untyped-def]
    """Return the carry to the next step, with the arithmetic of `networks.LIF` in the same order."""
    if reset == 0:
        return beta * tl.where(fired, u - theta, u)
    elif reset == 1:
        leaky = beta * u
        return tl.where(fired, leaky - theta, leaky)
    elif reset == 2:
        return beta * tl.where(fired, 0.0, u)
    else:
        return beta * u


@triton.jit
def _slope(x, shape: tl.constexpr, height: tl.constexpr, inverse: tl.constexpr):  # type: ignore[no-untyped-def]
    """Return the surrogate's slope at distance x from the threshold."""
    y = x * inverse
    if shape == 0:
        z = 1.0 + tl.abs(y)
        return height * 0.5 / (z * z)
    elif shape == 1:
        z = 3.141592653589793 * y
        return height / (1.0 + z * z)
    elif shape == 2:
        return height * 0.3989422804014327 * tl.exp(-0.5 * y * y)
    elif shape == 3:
        return height * tl.maximum(1.0 - tl.abs(y), 0.0)
    else:
        return height * (tl.abs(y) <= 0.5).to(y.dtype)


@triton.jit
def _step(  # type: ignore[no-untyped-def]
    u, membranes, spikes, at, inside, beta, theta, reset: tl.constexpr
):
    """Store membrane u and its spikes; return the carry to the next step."""
    fired = u >= theta
    tl.store(membranes + at, u, mask=inside)
    tl.store(spikes + at, fired.to(u.dtype), mask=inside)
    return _carried(u, fired, beta, theta, reset)


@triton.jit
def _forward(  # type: ignore[no-untyped-def]
    current, leak, threshold, membranes, spikes, steps, neurons, reset: tl.constexpr, block: tl.constexpr,
    ahead: tl.constexpr,
):  # fmt: skip
    """Run a block of neurons through all steps."""
    here = tl.program_id(0) * block + tl.arange(0, block)
    inside = here < neurons
    beta, theta = tl.load(leak + here, mask=inside), tl.load(threshold + here, mask=inside)
    carry = tl.zeros_like(beta)
    at = here.to(tl.int64)
    for _ in range(steps // ahead):
        loaded = ()
        for k in tl.static_range(ahead):
            loaded = loaded + (tl.load(current + at + k * neurons, mask=inside),)  # type: ignore[assignment]
        for k in tl.static_range(ahead):
            carry = _step(carry + loaded[k], membranes, spikes, at, inside, beta, theta, reset)
            at += neurons
    for _ in range(steps % ahead):
        u = carry + tl.load(current + at, mask=inside)
        carry = _step(u, membranes, spikes, at, inside, beta, theta, reset)
        at += neurons


@triton.jit
def _step_back(  # type: ignore[no-untyped-def]
    u, e, later, db, dt, beta, theta, height: tl.constexpr, inverse: tl.constexpr, reset: tl.constexpr,
    through: tl.constexpr, shape: tl.constexpr, parameters: tl.constexpr,
):  # fmt: skip
    """Return δ_t from δ_{t+1}, and the sums of ∂L/∂β and ∂L/∂θ so far; formulas in `lif`."""
    fired = u >= theta
    by_membrane = beta * later
    # rest: ∂carry/∂β; theta_pull, spike_pull: −∂carry/∂θ and −∂carry/∂s times δ_{t+1}
    rest, theta_pull, spike_pull = u, tl.zeros_like(u), tl.zeros_like(u)
    if reset == 0:
        rest = tl.where(fired, u - theta, u)
        theta_pull, spike_pull = tl.where(fired, by_membrane, 0.0), theta * by_membrane
    elif reset == 1:
        theta_pull, spike_pull = tl.where(fired, later, 0.0), theta * later
    elif reset == 2:
        rest, spike_pull = tl.where(fired, 0.0, u), u * by_membrane
        by_membrane = tl.where(fired, 0.0, by_membrane)
    if through:
        e -= spike_pull
    by_spike = _slope(u - theta, shape, height, inverse) * e
    if parameters:
        db += later * rest
        dt -= by_spike + theta_pull
    return by_spike + by_membrane, db, dt


@triton.jit
def _backward(  # type: ignore[no-untyped-def]
    grad, membranes, leak, threshold, out, by_leak, by_threshold, steps, neurons, last,
    height: tl.constexpr, inverse: tl.constexpr, reset: tl.constexpr, through: tl.constexpr,
    shape: tl.constexpr, parameters: tl.constexpr,
    block: tl.constexpr, ahead: tl.constexpr,
):  # fmt: skip
    """Run a block of neurons back in time, from the flat index last = (steps − 1) · neurons."""
    here = tl.program_id(0) * block + tl.arange(0, block)
    inside = here < neurons
    beta, theta = tl.load(leak + here, mask=inside), tl.load(threshold + here, mask=inside)
    later, db, dt = tl.zeros_like(beta), tl.zeros_like(beta), tl.zeros_like(beta)
    at = here.to(tl.int64) + last
    for _ in range(steps // ahead):
        loaded = ()
        for k in tl.static_range(ahead):
            place = at - k * neurons
            loaded = loaded + (tl.load(membranes + place, mask=inside), tl.load(grad + place, mask=inside))  # type: ignore[assignment]
        for k in tl.static_range(ahead):
            later, db, dt = _step_back(
                loaded[2 * k], loaded[2 * k + 1], later, db, dt, beta, theta,
                height, inverse, reset, through, shape, parameters,
            )  # fmt: skip
            tl.store(out + at, later, mask=inside)
            at -= neurons
    for _ in range(steps % ahead):
        u, e = tl.load(membranes + at, mask=inside), tl.load(grad + at, mask=inside)
        later, db, dt = _step_back(
            u, e, later, db, dt, beta, theta, height, inverse, reset, through, shape, parameters
        )
        tl.store(out + at, later, mask=inside)
        at -= neurons
    if parameters:
        tl.store(by_leak + here, db, mask=inside)
        tl.store(by_threshold + here, dt, mask=inside)


def _grid(neurons: int) -> tuple[int]:
    return (triton.cdiv(neurons, BLOCK),)


def forward(current: Tensor, leak: Tensor, threshold: Tensor, reset: int) -> tuple[Tensor, Tensor]:
    """Return membranes, which `backward` needs, and spikes, (T, N); leak and threshold are (N,)."""
    membranes, spikes = torch.empty_like(current), torch.empty_like(current)
    steps, neurons = current.shape
    _forward[_grid(neurons)](
        current, leak, threshold, membranes, spikes, steps, neurons, reset=reset, block=BLOCK,
        ahead=AHEAD, enable_fp_fusion=False,
    )  # fmt: skip
    return membranes, spikes


def backward(
    grad: Tensor, membranes: Tensor, leak: Tensor, threshold: Tensor, reset: int, through: bool,
    surrogate: Any, scale: float, parameters: bool,
) -> tuple[Tensor, Tensor | None, Tensor | None]:  # fmt: skip
    """Return ∂L/∂I (T, N) from ∂L/∂s (T, N), and with `parameters` ∂L/∂β and ∂L/∂θ (N,)."""
    out = torch.empty_like(grad)
    by_leak, by_threshold = (torch.empty_like(leak) if parameters else leak for _ in range(2))
    steps, neurons = grad.shape
    _backward[_grid(neurons)](
        grad, membranes, leak, threshold, out, by_leak, by_threshold, steps, neurons, (steps - 1) * neurons,
        height=scale / surrogate.width, inverse=1.0 / surrogate.width, reset=reset, through=through,
        shape=surrogate.code, parameters=parameters, block=BLOCK, ahead=AHEAD, enable_fp_fusion=False,
    )  # fmt: skip
    return (out, by_leak, by_threshold) if parameters else (out, None, None)
