"""The LIF layer's two recursions in one pass each, on the CPU; `kernels_torch` is the slow twin.

Arrays are (T, N), N neurons side by side; threads share the neurons. A block of neurons at a time: its state
stays in the cache while time goes by, and every array is read or written once.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import numpy as np
import torch
from numba import njit
from torch import Tensor

CACHE = 1 << 19  # bytes of membranes that stay in a core's second cache
LEAST, MOST = 64, 2048  # neurons at a time


@njit(cache=True, nogil=True)
def _step(current, beta, theta, reset, carry, u, s):  # type: ignore[no-untyped-def]
    """Run one step of a block; the arithmetic is that of `networks.LIF`, in its order."""
    zero, one = current.dtype.type(0), current.dtype.type(1)
    for j in range(len(current)):
        u[j] = carry[j] + current[j]
        s[j] = one if u[j] >= theta[j] else zero
    if reset == 0:
        for j in range(len(current)):
            carry[j] = beta[j] * (u[j] - theta[j] * s[j])
    elif reset == 1:
        for j in range(len(current)):
            carry[j] = beta[j] * u[j] - theta[j] * s[j]
    elif reset == 2:
        for j in range(len(current)):
            carry[j] = beta[j] * (u[j] * (one - s[j]))
    else:
        for j in range(len(current)):
            carry[j] = beta[j] * u[j]


@njit(cache=True, nogil=True)
def _forward(current, leak, threshold, reset, block, spikes, start, stop):  # type: ignore[no-untyped-def]
    """Run neurons start..stop."""
    carry, u = np.empty(block, current.dtype), np.empty(block, current.dtype)
    for low in range(start, stop, block):
        size = min(block, stop - low)
        here = slice(low, low + size)
        carry[:] = 0
        for t in range(current.shape[0]):
            _step(current[t, here], leak[here], threshold[here], reset, carry, u, spikes[t, here])


@njit(cache=True, nogil=True)
def _slopes(u, theta, shape, width, scale, out):  # type: ignore[no-untyped-def]
    """Write the surrogate's slope of every neuron of a block."""
    one, half = u.dtype.type(1), u.dtype.type(0.5)
    height, inverse = scale / width, one / width
    if shape == 0:
        for j in range(len(u)):
            x = one + abs((u[j] - theta[j]) * inverse)
            out[j] = height * half / (x * x)
    elif shape == 1:
        inverse *= u.dtype.type(math.pi)
        for j in range(len(u)):
            x = (u[j] - theta[j]) * inverse
            out[j] = height / (one + x * x)
    elif shape == 2:
        height *= u.dtype.type(1.0 / math.sqrt(2.0 * math.pi))
        for j in range(len(u)):
            x = (u[j] - theta[j]) * inverse
            out[j] = height * np.exp(-half * x * x)
    elif shape == 3:
        zero = u.dtype.type(0)
        for j in range(len(u)):
            out[j] = height * max(one - abs((u[j] - theta[j]) * inverse), zero)
    else:
        zero = u.dtype.type(0)
        for j in range(len(u)):
            out[j] = height if abs((u[j] - theta[j]) * inverse) <= half else zero


@njit(cache=True, nogil=True)
def _backward(  # type: ignore[no-untyped-def]
    grad, current, leak, threshold, reset, block, through, shape, width, scale, parameters, out, by_leak,
    by_threshold, start, stop,
):  # fmt: skip
    """Go back in time: δ_t = σ_t (e_t − r δ_{t+1}) + k δ_{t+1}; sums over time for leak and threshold.

    Membranes are worked out again, block by block: that costs less than to write and read them.
    """
    zero, one = grad.dtype.type(0), grad.dtype.type(1)
    steps = grad.shape[0]
    later, slope = np.empty(block, grad.dtype), np.empty(block, grad.dtype)
    carry, fired = np.empty(block, grad.dtype), np.empty(block, grad.dtype)
    membranes = np.empty((steps, block), grad.dtype)
    for low in range(start, stop, block):
        size = min(block, stop - low)
        here = slice(low, low + size)
        beta, theta, db, dt = leak[here], threshold[here], by_leak[here], by_threshold[here]
        carry[:] = 0
        for t in range(steps):
            _step(current[t, here], beta, theta, reset, carry, membranes[t], fired)
        later[:] = zero
        for t in range(steps - 1, -1, -1):
            e, u, d = grad[t, here], membranes[t, :size], out[t, here]
            _slopes(u, theta, shape, width, scale, slope)
            if parameters:
                for j in range(size):
                    s = one if u[j] >= theta[j] else zero
                    kept, taken, pull = u[j], zero, zero
                    if reset == 0:
                        kept, taken, pull = u[j] - theta[j] * s, beta[j] * s, beta[j] * theta[j]
                    elif reset == 1:
                        taken, pull = s, theta[j]
                    elif reset == 2:
                        kept, pull = u[j] * (one - s), beta[j] * u[j]
                    db[j] += later[j] * kept
                    dt[j] -= slope[j] * (e[j] - through * pull * later[j]) + later[j] * taken
            if reset == 0:
                for j in range(size):
                    d[j] = slope[j] * (e[j] - through * beta[j] * theta[j] * later[j]) + beta[j] * later[j]
            elif reset == 1:
                for j in range(size):
                    d[j] = slope[j] * (e[j] - through * theta[j] * later[j]) + beta[j] * later[j]
            elif reset == 2:
                for j in range(size):
                    kept = beta[j] * later[j]
                    d[j] = slope[j] * (e[j] - through * u[j] * kept) + (zero if u[j] >= theta[j] else kept)
            else:
                for j in range(size):
                    d[j] = slope[j] * e[j] + beta[j] * later[j]
            later[:size] = d


def _block(steps: int, dtype: torch.dtype) -> int:
    """Return how many neurons to take at a time."""
    fit = CACHE // (max(steps, 1) * dtype.itemsize)
    return max(LEAST, min(MOST, fit // LEAST * LEAST))


def _on_threads(task: Any, neurons: int, block: int) -> None:
    """Call task(start, stop) on as many threads as torch uses, each with a share of the neurons."""
    threads = min(torch.get_num_threads(), -(-neurons // block))
    if threads == 1:
        return task(0, neurons)
    edges = [neurons * k // threads for k in range(threads + 1)]
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(task, *pair) for pair in zip(edges, edges[1:], strict=False)]:
            done.result()


def forward(current: Tensor, leak: Tensor, threshold: Tensor, reset: int) -> tuple[Tensor, Tensor]:
    """Return what `backward` needs, here the currents, and spikes (T, N); leak and threshold are (N,)."""
    spikes, block = torch.empty_like(current), _block(len(current), current.dtype)
    arrays = [x.detach().numpy() for x in (current, leak, threshold)]
    out, run = spikes.numpy(), cast(Any, _forward)
    _on_threads(lambda a, b: run(*arrays, reset, block, out, a, b), current.shape[1], block)
    return current, spikes


def backward(
    grad: Tensor, current: Tensor, leak: Tensor, threshold: Tensor, reset: int, through: bool,
    surrogate: Any, scale: float, parameters: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Return ∂L/∂I (T, N), ∂L/∂β and ∂L/∂θ (N,) from ∂L/∂s (T, N); the last two are 0 unless asked for."""
    out, by_leak, by_threshold = torch.empty_like(grad), torch.zeros_like(leak), torch.zeros_like(leak)
    arrays = [x.detach().numpy() for x in (grad, current, leak, threshold)]
    kind, block = arrays[0].dtype.type, _block(len(grad), grad.dtype)
    settings = block, kind(through), surrogate.code, kind(surrogate.width), kind(scale), parameters
    sums, run = (out.numpy(), by_leak.numpy(), by_threshold.numpy()), cast(Any, _backward)
    _on_threads(lambda a, b: run(*arrays, reset, *settings, *sums, a, b), grad.shape[1], block)
    return out, by_leak, by_threshold
