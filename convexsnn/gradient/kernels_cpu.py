"""Forward and backward recursion of a LIF layer on the CPU, one pass each; `kernels_torch` is the slow twin.

Arrays are (T, N) with N neurons in a row; threads divide the neurons among them. A thread runs one time step
of a block of neurons, then the next step. The state of the block stays in the second-level cache, and long
rows use the memory bandwidth best.
"""

from __future__ import annotations

import math
import sys
import threading
from typing import Any, cast

import numpy as np
import torch
from numba import njit
from torch import Tensor

from convexsnn.threads import in_parts

BLOCK = 1 << 15  # neurons per block
WORTH = 1 << 13  # smallest number of neurons for which a thread pays off
VECTORS = 64  # neurons: a multiple of the vector length of any processor
POOL_BYTES = 1 << 29  # largest total size of the pool of reusable memory
SMALL = 1 << 16  # bytes below which the allocator is fast enough

_pool: list[np.ndarray] = []
_pool_lock = threading.Lock()


@njit(cache=True, nogil=True, error_model="numpy")
def _step(current, beta, theta, reset, carry, u, s):  # type: ignore[no-untyped-def]
    """Run one step of a block, with the arithmetic of `networks.LIF` in the same order."""
    zero, one = current.dtype.type(0), current.dtype.type(1)
    if reset == 0:
        for j in range(len(current)):
            now = carry[j] + current[j]
            fired = now >= theta[j]
            u[j], s[j] = now, one if fired else zero
            carry[j] = beta[j] * (now - theta[j] if fired else now)
    elif reset == 1:
        for j in range(len(current)):
            now = carry[j] + current[j]
            fired = now >= theta[j]
            u[j], s[j] = now, one if fired else zero
            leaky = beta[j] * now
            carry[j] = leaky - theta[j] if fired else leaky
    elif reset == 2:
        for j in range(len(current)):
            now = carry[j] + current[j]
            fired = now >= theta[j]
            u[j], s[j] = now, one if fired else zero
            carry[j] = zero if fired else beta[j] * now
    else:
        for j in range(len(current)):
            now = carry[j] + current[j]
            u[j], s[j] = now, one if now >= theta[j] else zero
            carry[j] = beta[j] * now


@njit(cache=True, nogil=True, error_model="numpy")
def _forward(current, leak, threshold, reset, membranes, spikes, start, stop):  # type: ignore[no-untyped-def]
    """Run the neurons start..stop through all steps."""
    steps, neurons = current.shape
    driven, u, s = current.reshape(-1), membranes.reshape(-1), spikes.reshape(-1)
    carry = np.empty(min(BLOCK, stop - start), current.dtype)
    for low in range(start, stop, BLOCK):
        size = min(BLOCK, stop - low)
        beta, theta = leak[low : low + size], threshold[low : low + size]
        carry[:] = 0
        for t in range(steps):
            a, b = t * neurons + low, t * neurons + low + size  # slices of flat arrays are contiguous
            _step(driven[a:b], beta, theta, reset, carry, u[a:b], s[a:b])


@njit(cache=True, nogil=True, error_model="numpy")
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


@njit(cache=True, nogil=True, error_model="numpy")
def _parameters(e, u, slope, beta, theta, reset, through, later, db, dt):  # type: ignore[no-untyped-def]
    """Add one step's contribution to ∂L/∂β and ∂L/∂θ."""
    zero, one = e.dtype.type(0), e.dtype.type(1)
    for j in range(len(e)):
        s = one if u[j] >= theta[j] else zero
        # derivatives of the carry: rest by β, −theta_pull by θ, −spike_pull by s
        rest, theta_pull, spike_pull = u[j], zero, zero
        if reset == 0:
            rest, theta_pull, spike_pull = u[j] - theta[j] * s, beta[j] * s, beta[j] * theta[j]
        elif reset == 1:
            theta_pull, spike_pull = s, theta[j]
        elif reset == 2:
            rest, spike_pull = u[j] * (one - s), beta[j] * u[j]
        db[j] += later[j] * rest
        dt[j] -= slope[j] * (e[j] - through * spike_pull * later[j]) + later[j] * theta_pull


@njit(cache=True, nogil=True, error_model="numpy")
def _back(e, u, slope, beta, theta, reset, through, later, d):  # type: ignore[no-untyped-def]
    """Take one step back: write δ_t = σ_t (e_t − r δ_{t+1}) + k δ_{t+1} to `d` and `later`."""
    zero = e.dtype.type(0)
    if reset == 0:
        for j in range(len(e)):
            leak = beta[j] * later[j]
            d[j] = later[j] = slope[j] * (e[j] - through * theta[j] * leak) + leak
    elif reset == 1:
        for j in range(len(e)):
            d[j] = later[j] = slope[j] * (e[j] - through * theta[j] * later[j]) + beta[j] * later[j]
    elif reset == 2:
        for j in range(len(e)):
            leak = beta[j] * later[j]
            d[j] = later[j] = slope[j] * (e[j] - through * u[j] * leak) + (zero if u[j] >= theta[j] else leak)
    else:
        for j in range(len(e)):
            d[j] = later[j] = slope[j] * e[j] + beta[j] * later[j]


@njit(cache=True, nogil=True, error_model="numpy")
def _backward(  # type: ignore[no-untyped-def]
    grad, membranes, leak, threshold, reset, through, shape, width, scale, parameters, out, by_leak,
    by_threshold, start, stop,
):  # fmt: skip
    """Run the neurons start..stop back in time; add up ∂L/∂β and ∂L/∂θ over the steps."""
    steps, neurons = grad.shape
    e, u, d = grad.reshape(-1), membranes.reshape(-1), out.reshape(-1)
    most = min(BLOCK, stop - start)
    later, slope = np.empty(most, grad.dtype), np.empty(most, grad.dtype)
    for low in range(start, stop, BLOCK):
        size = min(BLOCK, stop - low)
        beta, theta = leak[low : low + size], threshold[low : low + size]
        db, dt = by_leak[low : low + size], by_threshold[low : low + size]
        later[:] = 0
        for t in range(steps - 1, -1, -1):
            a, b = t * neurons + low, t * neurons + low + size
            _slopes(u[a:b], theta, shape, width, scale, slope)
            if parameters:
                _parameters(e[a:b], u[a:b], slope, beta, theta, reset, through, later, db, dt)
            _back(e[a:b], u[a:b], slope, beta, theta, reset, through, later, d[a:b])


def _share(work: Any, neurons: int) -> None:
    """Run `work(start, stop)` on ranges that cover all neurons, in at most as many threads as torch uses.

    A range is a whole number of vectors: the exponential may round differently in a vector and alone.
    """
    in_parts(work, neurons, neurons, WORTH, VECTORS, torch.get_num_threads())


def _references(pool: list[np.ndarray], index: int) -> int:
    return sys.getrefcount(pool[index])


FREE = _references([np.empty(1)], 0)  # reference count of an array that only its list refers to


def _memory(size: int) -> np.ndarray:
    """Return unused memory of the pool, else new memory, added to the pool if it fits."""
    free = [k for k in range(len(_pool)) if _references(_pool, k) == FREE]
    fitting = [k for k in free if len(_pool[k]) == size]
    if fitting:
        _pool.append(_pool.pop(fitting[-1]))  # the array used last may still be in the caches
        return _pool[-1]
    total, array = sum(map(len, _pool)), np.empty(size, np.uint8)
    unused = []
    for k in free:
        if total + size > POOL_BYTES:
            unused.append(k)
            total -= len(_pool[k])
    for k in reversed(unused):
        del _pool[k]
    if total + size <= POOL_BYTES:
        _pool.append(array)
    return array


def _room(like: Tensor) -> Tensor:
    """Return an empty tensor, in reused memory if the pool has some of this size.

    The first access to new memory costs more than the kernels; torch reuses memory on GPUs only. Memory is
    free when the last tensor on its storage is gone: torch then releases the array behind it. The reference
    count shows this; a callback instead would swallow a Ctrl-C that arrives while it runs.
    """
    size = like.numel() * like.element_size()
    if size < SMALL:
        return torch.empty_like(like, memory_format=torch.contiguous_format)
    with _pool_lock:
        array = _memory(size).view(np.float32 if like.dtype == torch.float32 else np.float64)
        return torch.from_numpy(array.reshape(tuple(like.shape)))


def forward(current: Tensor, leak: Tensor, threshold: Tensor, reset: int) -> tuple[Tensor, Tensor]:
    """Return membranes, which `backward` needs, and spikes, (T, N); leak and threshold are (N,)."""
    membranes, spikes = _room(current), _room(current)
    arrays = [x.detach().numpy() for x in (current, leak, threshold)]
    out, run = (membranes.numpy(), spikes.numpy()), cast(Any, _forward)
    neurons = current.shape[1]
    _share(lambda a, b: run(*arrays, reset, *out, a, b), neurons)
    return membranes, spikes


def backward(
    grad: Tensor, membranes: Tensor, leak: Tensor, threshold: Tensor, reset: int, through: bool,
    surrogate: Any, scale: float, parameters: bool,
) -> tuple[Tensor, Tensor | None, Tensor | None]:  # fmt: skip
    """Return ∂L/∂I (T, N) from ∂L/∂s (T, N), and with `parameters` ∂L/∂β and ∂L/∂θ (N,)."""
    out = _room(grad)
    by_leak, by_threshold = (torch.zeros_like(leak) if parameters else leak for _ in range(2))
    arrays = [x.detach().numpy() for x in (grad, membranes, leak, threshold)]
    kind = arrays[0].dtype.type
    settings = reset, kind(through), surrogate.code, kind(surrogate.width), kind(scale), parameters
    sums = [x.detach().numpy() for x in (out, by_leak, by_threshold)]
    run = cast(Any, _backward)
    neurons = grad.shape[1]
    _share(lambda a, b: run(*arrays, *settings, *sums, a, b), neurons)
    return (out, by_leak, by_threshold) if parameters else (out, None, None)
