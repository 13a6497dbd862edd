"""Membranes of one unit on one sample under the lifted spike constraint: a convex program.

    min over z ∈ ℝ^T of  Σ_t  ρ/2 (z_t − β z_{t−1} − c_t)² + σ [(z_t − θ)₊ − a_t (z_t − θ)],    z_0 = 0

(z − θ)₊ is the maximum of p (z − θ) over p ∈ [0, 1]. For a fixed p the residuals e_t = z_t − β z_{t−1} − c_t
are computed backwards, e_t = β e_{t+1} + σ/ρ (a_t − p_t), and the membranes forwards. p is optimal if p_t is
1 above the threshold, 0 below it, and between 0 and 1 only where z_t = θ. The method changes one p_t at a
time. An increase of p_t by 1 lowers z_t by σ/ρ S_t, with S_t = 1 + β² + … + β^{2t−2}, so the step to θ is
exact. The lifting is that of Gu, Askari & El Ghaoui, "Fenchel lifted networks" (2020), with the spike as the
activation. If a ∈ {0, 1} already are the spikes of the chain, p = a is optimal at the start.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numba import njit

from convexsnn.arrays import FloatArray
from convexsnn.blocks.chains import WORTH, checked_chains
from convexsnn.threads import in_parts

SWEEPS = 10_000
EXACT = 1e-14  # largest change of p in the last sweep


@njit(cache=True, nogil=True)
def _roll(drive, extra, beta, z):  # type: ignore[no-untyped-def]
    """Write the membranes that follow drive + extra."""
    last = 0.0
    for t in range(len(z)):
        last = beta * last + drive[t] + extra[t]
        z[t] = last


@njit(cache=True, nogil=True)
def _dual(c, a, p, e, z, reach, beta, threshold, ratio):  # type: ignore[no-untyped-def]
    """Sweep over p until it no longer changes; update e and z."""
    steps = len(c)
    for _ in range(SWEEPS):
        last, change = 0.0, 0.0
        for t in range(steps - 1, -1, -1):
            last = beta * last + ratio * (a[t] - p[t])
            e[t] = last
        _roll(c, e, beta, z)
        for t in range(steps - 1, -1, -1):
            new = min(max(p[t] + (z[t] - threshold) / reach[t], 0.0), 1.0)
            delta, p[t] = new - p[t], new
            if delta == 0.0:
                continue
            change, pull = max(change, abs(delta)), ratio * delta
            for s in range(t, -1, -1):
                e[s] -= pull
                pull *= beta
            _roll(c, e, beta, z)
        if change <= EXACT:
            break


@njit(cache=True, nogil=True)
def _solve(drive, spikes, leak, threshold, ratio, out, low, high):  # type: ignore[no-untyped-def]
    """Solve the chains of samples low:high; membranes to `out`."""
    steps = drive.shape[1]
    p, e, z, reach = np.zeros(steps), np.zeros(steps), np.zeros(steps), np.zeros(steps)
    c, a = np.zeros(steps), np.zeros(steps)
    for i in range(low, high):
        for j in range(drive.shape[2]):
            beta, last = leak[i, j], 0.0
            for t in range(steps):
                last = 1.0 + beta * beta * last
                reach[t], c[t], a[t], e[t] = ratio * last, drive[i, t, j], spikes[i, t, j], 0.0
            _roll(c, e, beta, z)
            for t in range(steps):  # at the threshold every p is optimal
                p[t] = (1.0 if z[t] > threshold else 0.0) if z[t] != threshold else min(max(a[t], 0.0), 1.0)
            _dual(c, a, p, e, z, reach, beta, threshold, ratio)
            for t in range(steps):
                out[i, t, j] = threshold if 0.0 < p[t] < 1.0 else z[t]


def lifted_membranes(
    drive: Any, spikes: Any, leak: Any, threshold: float, coupling: float, spike_penalty: float
) -> FloatArray:
    """Return the minimisers z, in the type of `drive`; arguments and errors as in `chain_membranes`."""
    c, a, beta, theta, rho, sigma = checked_chains(drive, spikes, leak, threshold, coupling, spike_penalty)
    out = np.empty(c.shape, c.dtype)
    in_parts(partial(_solve, c, a, beta, theta, sigma / rho, out), len(c), c.size, WORTH)
    return out.reshape(np.shape(drive))
