"""The blocks of the membranes in a splitting, for one step or for all steps at once.

A unit's membranes z and spikes a are separate variables, coupled by two penalties:

    ρ/2 (z_t − β z_{t−1} − c_t)²                  the dynamics; c_t is the drive of the unit at step t
    φ(a_t, z_t)                                   the spike:  a_t = 1{z_t >= θ}

    squared   σ/2 (a − 1{z >= θ})²                [P25]; jumps at θ: two convex branches, z >= θ and z < θ
    lifted    σ [(z − θ)₊ − a (z − θ)]            convex in z, at least 0 for a ∈ [0, 1], and 0 only if a is
                                                  the spike (Gu, Askari & El Ghaoui 2020)
    lifted, with a ramp                           the same with the ramp r(z) = clip(½ + (z − θ)/w, 0, 1)
                                                  instead of the spike (`lifted_cost`), for a − ξ, with the
                                                  rounding ξ = 1{z⁰ >= θ} − r(z⁰) at the true dynamics

On each side of θ both are quadratic in z; the solution is the cheaper of these two branches.

[P25] Perin, Bidini, Mazzieri, Rossi, "ADMM-based training for spiking neural networks", arXiv 2505.05527.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from convexsnn.arrays import BoolArray, FloatArray, choice, positive
from convexsnn.blocks.chains import chain_membranes
from convexsnn.blocks.lifted_chains import lifted_membranes
from convexsnn.blocks.ramp import lifted_cost
from convexsnn.errors import ShapeError

CONSTRAINTS = ("squared", "lifted")  # and, for chains, "linearized"


def below(threshold: float, dtype: np.dtype) -> float:
    """Return the largest number below θ in a floating-point type: the upper bound without a spike."""
    return float(np.nextafter(dtype.type(threshold), dtype.type(-np.inf)))


def spike_cost(
    membranes: FloatArray, spikes: FloatArray, threshold: float, constraint: str, width: float = 0.0
) -> FloatArray:
    """Return φ / σ of every entry; `width` is the width of the ramp, for the lifted constraint."""
    if constraint == "squared":
        return 0.5 * (spikes - (membranes >= threshold)) ** 2
    return lifted_cost(membranes, spikes, threshold, width)


@dataclass(frozen=True, eq=False)
class MembraneBlock:
    """Membranes of one step, all others fixed: min ½ w (z − v)² + φ(a, z), entry by entry.

    Parameters
    ----------
    curvature : float or (m,) array
        w > 0: ρ (1 + β²), and ρ at the last step.
    center, spikes : (N, m) arrays
        v and a.
    """

    name: str
    formula: str
    curvature: FloatArray | float
    center: FloatArray
    spikes: FloatArray
    threshold: float
    spike_penalty: float
    constraint: str = "squared"

    def __post_init__(self) -> None:
        positive("curvature", float(np.min(self.curvature)))
        positive("spike_penalty", self.spike_penalty)
        choice("constraint", self.constraint, CONSTRAINTS)

    def describe(self) -> str:
        """Return the block's mathematics with its sizes."""
        n, m = self.center.shape
        return (
            f"{self.name}\n{self.formula}\n  {n} × {m} entries, each the cheaper of two branches, "
            f"z >= {self.threshold:g} and z < {self.threshold:g}; "
            f"curvature {np.max(self.curvature):.6g}, {self.constraint}"
        )

    def entries(self, membranes: FloatArray) -> FloatArray:
        """Return the objective entry by entry, (N, m)."""
        near = 0.5 * np.asarray(self.curvature) * (membranes - self.center) ** 2
        return near + self.spike_penalty * spike_cost(membranes, self.spikes, self.threshold, self.constraint)

    def objective(self, membranes: FloatArray) -> float:
        """Return the objective at membranes (N, m)."""
        return float(self.entries(membranes).sum(dtype=np.float64))

    def minimize(self) -> FloatArray:
        """Return the minimiser (N, m), the cheaper of the two branches, each clipped at θ."""
        if self.constraint == "lifted":  # convex: slope −a below θ, 1 − a above it, else z = θ
            push = self.spike_penalty / self.curvature
            low, high = self.center + push * self.spikes, self.center + push * (self.spikes - 1.0)
            return np.where(low < self.threshold, low, np.maximum(high, self.threshold)).astype(low.dtype)
        fires = np.maximum(self.center, self.threshold)
        rests = np.minimum(self.center, below(self.threshold, self.center.dtype))
        return np.where(self.entries(fires) < self.entries(rests), fires, rests)


@dataclass(frozen=True, eq=False)
class ChainBlock:
    """Membranes of all steps at once: min Σ_t ρ/2 (z_t − β z_{t−1} − c_t)² + φ(a_t, z_t), chain by chain.

    Parameters
    ----------
    drive, spikes : (n, T, m) arrays
        c and a.
    leak : float or (m,) array
    constraint : "squared", "lifted" or "linearized"
        "linearized" has φ = σ (s⁰ − a) z, with the slope of "lifted" at the present membranes z⁰.
    present : (n, T, m) array
        s⁰, for "linearized": the spikes 1{z⁰ >= θ}, or the ramp plus its rounding, r(z⁰) + ξ.
    """

    name: str
    formula: str
    drive: FloatArray
    spikes: FloatArray
    leak: FloatArray | float
    threshold: float
    coupling: float
    spike_penalty: float
    constraint: str = "squared"
    present: FloatArray | BoolArray | None = None

    def __post_init__(self) -> None:
        positive("coupling", self.coupling)
        positive("spike_penalty", self.spike_penalty)
        choice("constraint", self.constraint, (*CONSTRAINTS, "linearized"))
        if (self.constraint == "linearized") != (self.present is not None):
            raise ShapeError(f"present: needed for 'linearized' alone, got constraint {self.constraint!r}")

    def describe(self) -> str:
        """Return the block's mathematics with its sizes."""
        n, steps, m = self.drive.shape
        how = "a binary each step, exact by a shortest path" if self.constraint == "squared" else "convex"
        return (
            f"{self.name}\n{self.formula}\n  {n * m} chains of {steps} steps, {how}; "
            f"ρ = {self.coupling:.6g}, σ = {self.spike_penalty:.6g}, {self.constraint}"
        )

    def residual(self, membranes: FloatArray) -> FloatArray:
        """Return z_t − β z_{t−1} − c_t, (n, T, m)."""
        residual = membranes - self.drive
        residual[:, 1:] -= self.leak * membranes[:, :-1]
        return residual

    def chains(self, membranes: FloatArray) -> FloatArray:
        """Return the objective chain by chain, (n, m)."""
        cost: FloatArray
        if self.present is not None:
            cost = (self.present - self.spikes) * membranes
        else:
            cost = spike_cost(membranes, self.spikes, self.threshold, self.constraint)
        near = 0.5 * self.coupling * np.sum(self.residual(membranes) ** 2, axis=1, dtype=np.float64)
        return np.asarray(near + self.spike_penalty * cost.sum(axis=1, dtype=np.float64))

    def objective(self, membranes: FloatArray) -> float:
        """Return the objective at membranes (n, T, m)."""
        return float(self.chains(membranes).sum())

    def minimize(self) -> FloatArray:
        """Return the exact joint minimiser (n, T, m)."""
        if self.present is not None:
            return self._linearized(self.present)
        solve = chain_membranes if self.constraint == "squared" else lifted_membranes
        return solve(self.drive, self.spikes, self.leak, self.threshold, self.coupling, self.spike_penalty)

    def _linearized(self, present: FloatArray | BoolArray) -> FloatArray:
        """Return the minimiser without bounds on z: residuals backwards in time, then membranes forwards."""
        dtype = self.drive.dtype
        leak = np.asarray(self.leak, dtype)
        z = (self.spikes - present) * dtype.type(self.spike_penalty / self.coupling)
        for t in range(z.shape[1] - 2, -1, -1):
            z[:, t] += leak * z[:, t + 1]
        z += self.drive
        for t in range(1, z.shape[1]):
            z[:, t] += leak * z[:, t - 1]
        return z
