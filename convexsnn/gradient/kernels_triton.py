"""The LIF layer's two recursions on an NVIDIA GPU: a program has a block of neurons and walks through time.

Contractions to fused multiply-adds are off, so that spikes are the simulator's. Numbers are constants of the
kernels, since as arguments they would come in single precision. With TRITON_INTERPRET=1 in the environment
the same kernels run on the CPU, slowly, which is how they are tested where there is no GPU.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 128  # neurons of a program
AHEAD = 4  # steps whose values are loaded before the first of them is taken: memory answers them together


@triton.jit
def _carried(u, fired, beta, theta, reset: tl.constexpr):  # type: ignore[no-untyped-def]
    """Return what a step leaves to the next one, in the order of `networks.LIF`."""
    if reset == 0:
        return beta * tl.where(fired, u - theta, u)
    elif reset == 1:
        left = beta * u
        return tl.where(fired, left - theta, left)
    elif reset == 2:
        return beta * tl.where(fired, 0.0, u)
    else:
        return beta * u


@triton.jit
def _slope(x, shape: tl.constexpr, height: tl.constexpr, inverse: tl.constexpr):  # type: ignore[no-untyped-def]
    """Return the surrogate's slope at a distance x from the threshold."""
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
def _stepped(  # type: ignore[no-untyped-def]
    u, membranes, spikes, at, inside, beta, theta, reset: tl.constexpr
):
    """Take a step from membrane u: store it and its spikes, return what it leaves to the next one."""
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
        given = ()
        for k in tl.static_range(ahead):
            given = given + (tl.load(current + at + k * neurons, mask=inside),)  # type: ignore[assignment]
        for k in tl.static_range(ahead):
            carry = _stepped(carry + given[k], membranes, spikes, at, inside, beta, theta, reset)
            at += neurons
    for _ in range(steps % ahead):
        u = carry + tl.load(current + at, mask=inside)
        carry = _stepped(u, membranes, spikes, at, inside, beta, theta, reset)
        at += neurons


@triton.jit
def _stepped_back(  # type: ignore[no-untyped-def]
    u, e, later, db, dt, beta, theta, height: tl.constexpr, inverse: tl.constexpr, reset: tl.constexpr,
    through: tl.constexpr, shape: tl.constexpr, parameters: tl.constexpr,
):  # fmt: skip
    """Return δ_t, and the sums of ∂L/∂β and ∂L/∂θ so far, from δ_{t+1}; formulas in `lif`."""
    fired = u >= theta
    passed = beta * later
    kept, pull, taken = u, tl.zeros_like(u), tl.zeros_like(u)
    if reset == 0:
        kept, pull, taken = tl.where(fired, u - theta, u), theta * passed, tl.where(fired, passed, 0.0)
    elif reset == 1:
        pull, taken = theta * later, tl.where(fired, later, 0.0)
    elif reset == 2:
        kept, pull = tl.where(fired, 0.0, u), u * passed
        passed = tl.where(fired, 0.0, passed)
    if through:
        e -= pull
    wanted = _slope(u - theta, shape, height, inverse) * e
    if parameters:
        db += later * kept
        dt -= wanted + taken
    return wanted + passed, db, dt


@triton.jit
def _backward(  # type: ignore[no-untyped-def]
    grad, membranes, leak, threshold, out, by_leak, by_threshold, steps, neurons, last,
    height: tl.constexpr, inverse: tl.constexpr, reset: tl.constexpr, through: tl.constexpr,
    shape: tl.constexpr, parameters: tl.constexpr,
    block: tl.constexpr, ahead: tl.constexpr,
):  # fmt: skip
    """Go back in time with a block of neurons, from entry last = (steps − 1) · neurons."""
    here = tl.program_id(0) * block + tl.arange(0, block)
    inside = here < neurons
    beta, theta = tl.load(leak + here, mask=inside), tl.load(threshold + here, mask=inside)
    later, db, dt = tl.zeros_like(beta), tl.zeros_like(beta), tl.zeros_like(beta)
    at = here.to(tl.int64) + last
    for _ in range(steps // ahead):
        given = ()
        for k in tl.static_range(ahead):
            place = at - k * neurons
            given = given + (tl.load(membranes + place, mask=inside), tl.load(grad + place, mask=inside))  # type: ignore[assignment]
        for k in tl.static_range(ahead):
            later, db, dt = _stepped_back(
                given[2 * k], given[2 * k + 1], later, db, dt, beta, theta,
                height, inverse, reset, through, shape, parameters,
            )  # fmt: skip
            tl.store(out + at, later, mask=inside)
            at -= neurons
    for _ in range(steps % ahead):
        u, e = tl.load(membranes + at, mask=inside), tl.load(grad + at, mask=inside)
        later, db, dt = _stepped_back(
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
    """Return what `backward` needs, membranes, and spikes, (T, N); leak and threshold are (N,)."""
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
