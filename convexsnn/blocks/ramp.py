"""The ramp that replaces the spike, and the lifted cost that couples spikes to it; one pass over the entries.

    r(z) = clip(x, 0, 1),  x = ½ + (z − θ)/w                            for w = 0 the spike 1{z >= θ}
    φ(a, z) / σ = w/2 [(a − x)² − (r − x)²] = w/2 (a − r)(a + r − 2x)   for w = 0  (z − θ)₊ − a (z − θ)

φ is the Fenchel lifting (Gu, Askari & El Ghaoui, "Fenchel lifted networks", 2020) of r: convex in z and in a,
at least 0 for a ∈ [0, 1], and 0 only if a = r(z). Its slope in z is σ (r − a).
"""

from __future__ import annotations

import numpy as np
from numba import njit

from convexsnn.arrays import FloatArray


@njit(cache=True, nogil=True)
def _ramp(z, threshold, width, out):  # type: ignore[no-untyped-def]
    """Write r(z) of every entry."""
    half, one, zero = z.dtype.type(0.5), z.dtype.type(1), z.dtype.type(0)
    for i in range(z.size):
        out[i] = min(max(half + (z[i] - threshold) / width, zero), one)


@njit(cache=True, nogil=True)
def _cost(z, spikes, threshold, width, out):  # type: ignore[no-untyped-def]
    """Write φ / σ of every entry."""
    half, one, zero = z.dtype.type(0.5), z.dtype.type(1), z.dtype.type(0)
    for i in range(z.size):
        x = half + (z[i] - threshold) / width
        r = min(max(x, zero), one)
        out[i] = half * width * (spikes[i] - r) * (spikes[i] + r - x - x)


@njit(cache=True, nogil=True)
def _parabola(z, rounding, threshold, width, sigma, linear, constant):  # type: ignore[no-untyped-def]
    """Write b and c of φ = ½ σw a² − b a + c; c summed over a row."""
    half, one, zero = z.dtype.type(0.5), z.dtype.type(1), z.dtype.type(0)
    for i in range(z.shape[0]):
        total = 0.0
        for j in range(z.shape[1]):
            x = half + (z[i, j] - threshold) / width
            excess = min(max(x, zero), one) - x
            aim = x + rounding[i, j]
            linear[i, j] = sigma * width * aim
            total += aim * aim - excess * excess
        constant[i] = half * sigma * width * total


def ramp(membranes: FloatArray, threshold: float, width: float) -> FloatArray:
    """Return r(z) of every entry, in the type of `membranes`."""
    kind = membranes.dtype.type
    if width == 0.0:
        return (membranes >= threshold).astype(kind)
    out = np.empty(membranes.size, kind)
    _ramp(membranes.ravel(), kind(threshold), kind(width), out)
    return out.reshape(membranes.shape)


def lifted_cost(
    membranes: FloatArray, spikes: FloatArray, threshold: float, width: float = 0.0
) -> FloatArray:
    """Return φ / σ of every entry."""
    if width == 0.0:
        above = membranes - threshold
        return np.maximum(above, 0.0) - spikes * above
    kind = membranes.dtype.type
    out = np.empty(membranes.size, kind)
    _cost(membranes.ravel(), spikes.ravel(), kind(threshold), kind(width), out)
    return out.reshape(membranes.shape)


def lifted_parabola(
    membranes: FloatArray, rounding: FloatArray, threshold: float, width: float, penalty: float
) -> tuple[FloatArray, FloatArray]:
    """Return b (n, T, m) and c (n, T) of Σ φ(a − ξ, z) = ½ σw ‖a‖² − b'a + c, summed over units; w > 0."""
    kind, (n, steps, m) = membranes.dtype.type, membranes.shape
    linear, constant = np.empty((n * steps, m), kind), np.empty(n * steps)
    rows = membranes.reshape(-1, m), rounding.reshape(-1, m)
    _parabola(*rows, kind(threshold), kind(width), kind(penalty), linear, constant)
    return linear.reshape(n, steps, m), constant.reshape(n, steps)
