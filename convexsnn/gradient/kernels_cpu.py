"""The LIF layer's two recursions in one pass each, on the CPU; `kernels_torch` is the slow twin.

Arrays are (T, N), N neurons side by side; threads share the neurons. Time goes by a step at a time over many
neurons, whose state stays in the second cache: long rows are what the memory is fast at.
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

BLOCK = 1 << 15  # neurons at a time
WORTH = 1 << 13  # neurons that pay for a thread
VECTORS = 64  # neurons: whole vectors of any processor
KEPT = 1 << 29  # bytes of memory kept for the next call
SMALL = 1 << 16  # bytes that the allocator has at hand anyway

_pool: list[np.ndarray] = []
_pool_lock = threading.Lock()


@njit(cache=True, nogil=True, error_model="numpy")
def _step(current, beta, theta, reset, carry, u, s):  # type: ignore[no-untyped-def]
    """Run one step of a block; the arithmetic is that of `networks.LIF`, in its order."""
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
            kept = beta[j] * now
            carry[j] = kept - theta[j] if fired else kept
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
    """Run neurons start..stop."""
    steps, neurons = current.shape
    driven, u, s = current.reshape(-1), membranes.reshape(-1), spikes.reshape(-1)
    carry = np.empty(min(BLOCK, stop - start), current.dtype)
    for low in range(start, stop, BLOCK):
        size = min(BLOCK, stop - low)
        beta, theta = leak[low : low + size], threshold[low : low + size]
        carry[:] = 0
        for t in range(steps):
            a, b = t * neurons + low, t * neurons + low + size  # parts of flat arrays are contiguous
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
    """Add one step's part of ∂L/∂β and ∂L/∂θ."""
    zero, one = e.dtype.type(0), e.dtype.type(1)
    for j in range(len(e)):
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


@njit(cache=True, nogil=True, error_model="numpy")
def _back(e, u, slope, beta, theta, reset, through, later, d):  # type: ignore[no-untyped-def]
    """Take one step back: δ_t = σ_t (e_t − r δ_{t+1}) + k δ_{t+1}, to `d` and `later`."""
    zero = e.dtype.type(0)
    if reset == 0:
        for j in range(len(e)):
            kept = beta[j] * later[j]
            d[j] = later[j] = slope[j] * (e[j] - through * theta[j] * kept) + kept
    elif reset == 1:
        for j in range(len(e)):
            d[j] = later[j] = slope[j] * (e[j] - through * theta[j] * later[j]) + beta[j] * later[j]
    elif reset == 2:
        for j in range(len(e)):
            kept = beta[j] * later[j]
            d[j] = later[j] = slope[j] * (e[j] - through * u[j] * kept) + (zero if u[j] >= theta[j] else kept)
    else:
        for j in range(len(e)):
            d[j] = later[j] = slope[j] * e[j] + beta[j] * later[j]


@njit(cache=True, nogil=True, error_model="numpy")
def _backward(  # type: ignore[no-untyped-def]
    grad, membranes, leak, threshold, reset, through, shape, width, scale, parameters, out, by_leak,
    by_threshold, start, stop,
):  # fmt: skip
    """Go back in time with neurons start..stop; sums over time for leak and threshold."""
    steps, neurons = grad.shape
    wanted, u, d = grad.reshape(-1), membranes.reshape(-1), out.reshape(-1)
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
                _parameters(wanted[a:b], u[a:b], slope, beta, theta, reset, through, later, db, dt)
            _back(wanted[a:b], u[a:b], slope, beta, theta, reset, through, later, d[a:b])


def _share(work: Any, neurons: int) -> None:
    """Do `work(start, stop)` for all neurons, on no more threads than torch uses.

    Parts are whole vectors: the exponential of a vector may round otherwise than that of a number alone.
    """
    in_parts(work, neurons, neurons, WORTH, VECTORS, torch.get_num_threads())


def _references(pool: list[np.ndarray], index: int) -> int:
    return sys.getrefcount(pool[index])


FREE = _references([np.empty(1)], 0)  # references to an array that only its list has


def _memory(size: int) -> np.ndarray:
    """Return memory of the pool that nobody uses, or fresh memory, in the pool if there is room."""
    free = [k for k in range(len(_pool)) if _references(_pool, k) == FREE]
    fitting = [k for k in free if len(_pool[k]) == size]
    if fitting:
        _pool.append(_pool.pop(fitting[-1]))  # the last one used is the one still in the caches
        return _pool[-1]
    held, made = sum(map(len, _pool)), np.empty(size, np.uint8)
    dropped = []
    for k in free:
        if held + size > KEPT:
            dropped.append(k)
            held -= len(_pool[k])
    for k in reversed(dropped):
        del _pool[k]
    if held + size <= KEPT:
        _pool.append(made)
    return made


def _room(like: Tensor) -> Tensor:
    """Return an empty tensor in memory that was used before, if there is some of this size.

    The first touch of fresh memory costs more than the kernels do; torch keeps memory on GPUs only. Memory is
    free when the last tensor on its storage is gone: then torch lets go of the array it was made from. This
    shows in the count of references; a callback would swallow a Ctrl-C that comes while it runs.
    """
    size = like.numel() * like.element_size()
    if size < SMALL:
        return torch.empty_like(like, memory_format=torch.contiguous_format)
    with _pool_lock:
        array = _memory(size).view(np.float32 if like.dtype == torch.float32 else np.float64)
        return torch.from_numpy(array.reshape(tuple(like.shape)))


def forward(current: Tensor, leak: Tensor, threshold: Tensor, reset: int) -> tuple[Tensor, Tensor]:
    """Return what `backward` needs, membranes, and spikes, (T, N); leak and threshold are (N,)."""
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
