"""The LIF layer's two recursions in one pass each, on the CPU; `kernels_torch` is the slow twin.

Arrays are (T, N), N neurons side by side; threads share the neurons. A block of neurons at a time: its state
stays in the cache while time goes by, and every array is read or written once.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

BLOCK = 2048  # neurons whose state stays in the first cache


@njit(cache=True, nogil=True)
def _forward(current, leak, threshold, reset, membranes, spikes, start, stop):  # type: ignore[no-untyped-def]
    """Run neurons start..stop; the arithmetic is that of `networks.LIF`, in its order."""
    zero, one = current.dtype.type(0), current.dtype.type(1)
    carry = np.empty(BLOCK, current.dtype)
    for low in range(start, stop, BLOCK):
        size = min(BLOCK, stop - low)
        beta, theta = leak[low : low + size], threshold[low : low + size]
        carry[:] = zero
        for t in range(current.shape[0]):
            here = slice(low, low + size)
            i, u, s = current[t, here], membranes[t, here], spikes[t, here]
            for j in range(size):
                u[j] = carry[j] + i[j]
                s[j] = one if u[j] >= theta[j] else zero
            if reset == 0:
                for j in range(size):
                    carry[j] = beta[j] * (u[j] - theta[j] * s[j])
            elif reset == 1:
                for j in range(size):
                    carry[j] = beta[j] * u[j] - theta[j] * s[j]
            elif reset == 2:
                for j in range(size):
                    carry[j] = beta[j] * (u[j] * (one - s[j]))
            else:
                for j in range(size):
                    carry[j] = beta[j] * u[j]


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
    grad, membranes, leak, threshold, reset, through, shape, width, scale, parameters, out, by_leak,
    by_threshold, start, stop,
):  # fmt: skip
    """Go back in time: δ_t = σ_t (e_t − r δ_{t+1}) + k δ_{t+1}; sums over time for leak and threshold."""
    zero, one = grad.dtype.type(0), grad.dtype.type(1)
    later, slope = np.empty(BLOCK, grad.dtype), np.empty(BLOCK, grad.dtype)
    for low in range(start, stop, BLOCK):
        size = min(BLOCK, stop - low)
        beta, theta = leak[low : low + size], threshold[low : low + size]
        db, dt = by_leak[low : low + size], by_threshold[low : low + size]
        later[:] = zero
        for t in range(grad.shape[0] - 1, -1, -1):
            here = slice(low, low + size)
            e, u, d = grad[t, here], membranes[t, here], out[t, here]
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


def _on_threads(task: Any, neurons: int) -> None:
    """Call task(start, stop) on as many threads as torch uses, each with a share of the neurons."""
    threads = min(torch.get_num_threads(), -(-neurons // BLOCK))
    if threads == 1:
        return task(0, neurons)
    edges = [neurons * k // threads for k in range(threads + 1)]
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(task, *pair) for pair in zip(edges, edges[1:], strict=False)]:
            done.result()


def forward(current: Tensor, leak: Tensor, threshold: Tensor, reset: int) -> tuple[Tensor, Tensor]:
    """Return membranes and spikes, (T, N), of currents (T, N); leak and threshold are (N,)."""
    membranes, spikes = torch.empty_like(current), torch.empty_like(current)
    arrays = [x.detach().numpy() for x in (current, leak, threshold)]
    out = membranes.numpy(), spikes.numpy()
    _on_threads(lambda low, high: _forward(*arrays, reset, *out, low, high), current.shape[1])
    return membranes, spikes


def backward(
    grad: Tensor, membranes: Tensor, leak: Tensor, threshold: Tensor, reset: int, through: bool,
    surrogate: Any, scale: float, parameters: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Return ∂L/∂I (T, N), ∂L/∂β and ∂L/∂θ (N,) from ∂L/∂s (T, N); the last two are 0 unless asked for."""
    out, by_leak, by_threshold = torch.empty_like(grad), torch.zeros_like(leak), torch.zeros_like(leak)
    arrays = [x.detach().numpy() for x in (grad, membranes, leak, threshold)]
    kind = arrays[0].dtype.type
    settings = reset, kind(through), surrogate.code, kind(surrogate.width), kind(scale), parameters
    sums = out.numpy(), by_leak.numpy(), by_threshold.numpy()
    _on_threads(lambda low, high: _backward(*arrays, *settings, *sums, low, high), grad.shape[1])
    return out, by_leak, by_threshold
