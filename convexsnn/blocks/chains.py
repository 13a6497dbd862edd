"""Membranes of one unit on one sample with their spikes: the exact joint minimum over all steps.

    min over z in R^T of  Σ_t  ρ/2 (z_t − β z_{t−1} − c_t)² + σ/2 (a_t − 1{z_t >= θ})²,    z_0 = 0

The program is not convex, but it is a shortest path over T + 1 steps. For fixed spikes a minimiser solves a
convex program whose only bounds are at θ. A step at such a bound is called a post. Between two posts no bound
is active. So the membranes there, called a bridge, solve a least-squares problem with fixed ends. After the
last post they follow the drive, at no coupling cost. Conversely, every z made of posts and bridges is a
feasible point, and its cost is that of its coupling and its spikes. So with F(0) = 0,
m_k = β m_{k−1} + c_k from m_s = θ on (m_0 = 0), and S_j = 1 + β² + … + β^{2j−2},

    F(e) = min over s < e of  F(s) + ρ/2 (θ − m_e)²/S_{e−s} + spikes of the bridge and of step e

and the minimum is the value of the best last post. A bridge is computed backwards from z_e = θ, because then
rounding errors do not grow for any β:

    z_{k−1} = m_{k−1}/S_j + (β S_{j−1}/S_j)(z_k − c_k),  j = k − s

The work is O(T³).

A post takes the cheaper of two values: θ, or the largest number below θ in the floating-point type. The side
without a spike is open; among the numbers of that type its infimum is attained there.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from convexsnn.arrays import FloatArray, positive, real_array
from convexsnn.errors import ShapeError
from convexsnn.threads import in_parts

WORTH = 10_000  # smallest number of drive entries for one more thread
LARGEST = 1e300  # largest β^{2T}, so that S does not overflow


class _Chain(NamedTuple):
    """Working arrays of one chain: steps 0..T, and two tables by the length of a bridge."""

    drive: Any  # c
    prefers_spike: Any  # whether a spike is the cheaper choice
    price: Any  # of the other choice
    posts: Any  # the value of z if the step is a post
    rolled: Any  # m
    path: Any  # z
    cost: Any  # F
    before: Any  # the previous post
    inverse: Any  # 1/S_j
    gain: Any  # β S_{j−1}/S_j


@njit(cache=True, nogil=True)
def _empty(steps):  # type: ignore[no-untyped-def]
    """Return a chain of T steps, all 0."""
    k = steps + 1  # allocated in the kernel, so that threads do not share cache lines
    c, price, posts, rolled, path = np.zeros(k), np.zeros(k), np.zeros(k), np.zeros(k), np.zeros(k)
    cost, inverse, gain = np.zeros(k), np.zeros(k), np.zeros(k)
    prefers_spike, before = np.zeros(k, np.bool_), np.zeros(k, np.int64)
    return _Chain(c, prefers_spike, price, posts, rolled, path, cost, before, inverse, gain)


@njit(cache=True, nogil=True)
def _tables(chain, beta):  # type: ignore[no-untyped-def]
    """Fill in the tables, which depend on the leak alone."""
    less = 0.0
    for j in range(1, len(chain.inverse)):
        size = 1.0 + beta * beta * less
        chain.inverse[j], chain.gain[j] = 1.0 / size, beta * less / size
        less = size


@njit(cache=True, nogil=True)
def _load(chain, drive, spikes, half_penalty, theta, below):  # type: ignore[no-untyped-def]
    """Fill in a chain from its rows (T,) of drive and spikes."""
    for k in range(len(drive)):
        more = 2.0 * float(spikes[k]) - 1.0  # cost of a spike minus cost of no spike: −σ/2 · more
        chain.drive[k + 1], chain.prefers_spike[k + 1] = drive[k], more > 0
        chain.price[k + 1] = half_penalty * abs(more)
        chain.posts[k + 1] = theta if more > 0 else below


@njit(cache=True, nogil=True)
def _roll(chain, beta, first, theta):  # type: ignore[no-untyped-def]
    """Follow the drive from a post to step T; return the cost of the spikes."""
    z, price = chain.posts[first], 0.0
    chain.rolled[first] = z
    for k in range(first + 1, len(chain.drive)):
        z = beta * z + chain.drive[k]
        chain.rolled[k] = z
        if (z >= theta) != chain.prefers_spike[k]:
            price += chain.price[k]
    return price


@njit(cache=True, nogil=True)
def _bridge(chain, first, last, theta):  # type: ignore[no-untyped-def]
    """Write the bridge between two posts from `rolled` of the first; return the cost of its spikes."""
    z, price = chain.posts[last], 0.0
    chain.path[last] = z
    for k in range(last, first + 1, -1):
        j = k - first
        z = chain.rolled[k - 1] * chain.inverse[j] + chain.gain[j] * (z - chain.drive[k])
        chain.path[k - 1] = z
        if (z >= theta) != chain.prefers_spike[k - 1]:
            price += chain.price[k - 1]
    return price


@njit(cache=True, nogil=True)
def _shortest(chain, beta, half_coupling, theta):  # type: ignore[no-untyped-def]
    """Return the minimum, minus the sum of the cheaper spike costs, and the last post."""
    best, last = np.inf, 0
    chain.cost[:] = np.inf
    chain.cost[0] = 0.0
    for first in range(len(chain.drive)):
        if chain.cost[first] >= best:  # no cost is negative
            continue
        total = chain.cost[first] + _roll(chain, beta, first, theta)
        if total < best:
            best, last = total, first
        for k in range(first + 1, len(chain.drive)):
            gap = chain.posts[k] - chain.rolled[k]
            total = chain.cost[first] + half_coupling * gap * (gap * chain.inverse[k - first])
            if total < min(chain.cost[k], best):
                total += _bridge(chain, first, k, theta)
                if total < chain.cost[k]:
                    chain.cost[k], chain.before[k] = total, first
    return best, last


@njit(cache=True, nogil=True)
def _trace(chain, beta, last, theta):  # type: ignore[no-untyped-def]
    """Write the membranes of the shortest path that ends with this post."""
    _roll(chain, beta, last, theta)
    chain.path[last:] = chain.rolled[last:]
    while last > 0:
        first = chain.before[last]
        _roll(chain, beta, first, theta)
        _bridge(chain, first, last, theta)
        last = first


@njit(cache=True, nogil=True)
def _solve(drive, spikes, leak, numbers, out, least, low, high):  # type: ignore[no-untyped-def]
    """Solve the chains of samples low:high; `numbers` are θ, the number below it, ρ/2 and σ/2."""
    theta, below, half_coupling, half_penalty = numbers
    chain, known = _empty(drive.shape[1]), -1.0
    for i in range(low, high):
        for j in range(drive.shape[2]):
            if leak[i, j] != known:
                known = leak[i, j]
                _tables(chain, known)
            _load(chain, drive[i, :, j], spikes[i, :, j], half_penalty, theta, below)
            least[i, j], last = _shortest(chain, known, half_coupling, theta)
            _trace(chain, known, last, theta)
            for k in range(out.shape[1]):  # a float32 must not be rounded across the threshold
                z = chain.path[k + 1]
                out[i, k, j] = z if z >= theta else min(z, below)


class Chains(NamedTuple):
    """Checked arguments: drive and spikes (n, T, m) of one type, θ rounded to it, β (n, m)."""

    drive: FloatArray
    spikes: FloatArray
    leak: FloatArray
    theta: float
    coupling: float
    penalty: float


def checked_chains(
    drive: Any, spikes: Any, leak: Any, threshold: Any, coupling: Any, spike_penalty: Any
) -> Chains:
    """Check the arguments of a call; (N, T) means N samples of one unit. Arrays are not copied."""
    dtype = np.float32 if getattr(drive, "dtype", None) == np.float32 else np.float64
    axes: tuple[Any, ...] = ("N", "T") if np.ndim(drive) == 2 else ("n", "T", "m")
    c = _finite("drive", drive, axes, dtype)
    a = _finite("spikes", spikes, tuple(zip(axes, c.shape, strict=True)), dtype)
    per_unit = (axes[0] if len(axes) == 2 else axes[2], c.shape[0] if len(axes) == 2 else c.shape[2])
    beta = real_array("leak", leak, () if np.ndim(leak) == 0 else (per_unit,))
    if beta.min() < 0 or beta.max() > LARGEST ** (0.5 / c.shape[1]):
        raise ShapeError(f"leak: {beta.min():g} to {beta.max():g}; expected >= 0 and no overflow in T steps")
    theta = float(real_array("threshold", threshold, (), dtype=dtype))
    rho, sigma = positive("coupling", coupling), positive("spike_penalty", spike_penalty)
    if len(axes) == 2:
        c, a, beta = c[:, :, None], a[:, :, None], beta[:, None] if beta.ndim else beta
    return Chains(c, a, np.broadcast_to(beta, (c.shape[0], c.shape[2])), theta, rho, sigma)


def _finite(name: str, value: Any, axes: tuple[Any, ...], dtype: Any) -> FloatArray:
    """Return `value` itself if it is valid, else the result or the error of `real_array`."""
    fits = isinstance(value, np.ndarray) and value.dtype == dtype and value.ndim == len(axes) and value.size
    fits = fits and all(not isinstance(a, tuple) or a[1] == k for a, k in zip(axes, value.shape, strict=True))
    return value if fits and np.isfinite(value.sum()) else real_array(name, value, axes, dtype=dtype)


def _minimize(chains: Chains) -> tuple[FloatArray, FloatArray]:
    """Return membranes (n, T, m) and each chain's cost minus Σ_t min over spikes s of σ/2 (a_t − s)²."""
    drive, spikes, leak, theta, coupling, penalty = chains
    n, _, units = drive.shape
    out, least = np.empty(drive.shape, drive.dtype), np.empty((n, units))
    below = float(np.nextafter(drive.dtype.type(theta), drive.dtype.type(-np.inf)))
    numbers = (theta, below, coupling / 2, penalty / 2)
    in_parts(partial(_solve, drive, spikes, leak, numbers, out, least), n, drive.size, WORTH)
    return out, least


def chain_membranes(
    drive: Any, spikes: Any, leak: Any, threshold: float, coupling: float, spike_penalty: float
) -> FloatArray:
    """Return the membranes that minimise the program of this module exactly, chain by chain.

    Parameters
    ----------
    drive, spikes : (N, T) or (n, T, m) arrays
        c and a, any real numbers; float32 if the drive is, else float64.
    leak : float, or (N,) or (m,) array
        β >= 0.
    threshold : float
        θ, rounded to the type of the drive.
    coupling, spike_penalty : float
        ρ > 0 and σ > 0.

    Returns
    -------
    (N, T) or (n, T, m) array
        z in the type of the drive; a step has a spike if z >= θ. If both sides of a post cost the same, it
        takes the side without a spike.

    Raises
    ------
    ShapeError
        An argument has the wrong shape or values, or the membranes overflow; the message names it.
    """
    membranes, _ = _minimize(checked_chains(drive, spikes, leak, threshold, coupling, spike_penalty))
    if not np.isfinite(membranes.sum()):
        raise ShapeError(f"drive: the membranes that follow it overflow {membranes.dtype}")
    return membranes.reshape(np.shape(drive))
