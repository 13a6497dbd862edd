"""The blocks of a splitting that hold spikes: membranes, a step at a time or all steps at once.

A unit's membranes z and spikes a are variables of their own, held together by two penalties:

    ρ/2 (z_t − β z_{t−1} − c_t)²                  the dynamics; c_t is what drives the unit at step t
    φ(a_t, z_t)                                   the spike:  a_t = 1{z_t >= θ}

    squared   σ/2 (a − 1{z >= θ})²                [P25]; jumps at θ: two convex branches, z >= θ and z < θ
    lifted    σ [(z − θ)₊ − a (z − θ)]            convex in z, at least 0 for a ∈ [0, 1], and 0 just where a is
                                                  the spike (Gu, Askari & El Ghaoui 2020, "Fenchel lifted networks")

On either side of θ both are a quadratic in z, so that each branch is a `QuadraticBlock`; the cheaper one counts.

[P25] Perin, Bidini, Mazzieri, Rossi, "ADMM-based training for spiking neural networks", arXiv 2505.05527.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from convexsnn.arrays import BoolArray, FloatArray, positive
from convexsnn.errors import ShapeError
from convexsnn.programs.chains import chain_membranes
from convexsnn.programs.lifted_chains import lifted_cost, lifted_membranes
from convexsnn.programs.quadratic import Quadratic, QuadraticBlock

CONSTRAINTS = ("squared", "lifted")


def below(threshold: float, dtype: np.dtype) -> float:
    """Return the largest number under θ in a floating-point type: where the open side of θ ends."""
    return float(np.nextafter(dtype.type(threshold), dtype.type(-np.inf)))


def spike_cost(membranes: FloatArray, spikes: FloatArray, threshold: float, constraint: str) -> FloatArray:
    """Return φ / σ of every entry."""
    if constraint == "squared":
        return 0.5 * (spikes - (membranes >= threshold)) ** 2
    return lifted_cost(membranes, spikes, threshold)


def _side(
    fires: BoolArray, spikes: FloatArray, threshold: float, penalty: float, constraint: str
) -> tuple[FloatArray, FloatArray]:
    """Return slope s and constant k of φ = s z + k on the side of θ that each entry is held to."""
    missed = fires - spikes
    if constraint == "squared":
        return np.zeros_like(spikes), 0.5 * penalty * missed**2
    return penalty * missed, -penalty * missed * threshold


@dataclass(frozen=True, eq=False)
class MembraneBlock:
    """Membranes of one step, given all others: min ½ w (z − v)² + φ(a, z), entry by entry.

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
        if self.constraint not in CONSTRAINTS:
            raise ShapeError(f"constraint: expected one of {', '.join(CONSTRAINTS)}, got {self.constraint!r}")

    def describe(self) -> str:
        """Return the block's mathematics with its sizes."""
        n, m = self.center.shape
        return (
            f"{self.name}\n{self.formula}\n  {n} × {m} entries, each the cheaper of two branches, z >= "
            f"{self.threshold:g} and z < {self.threshold:g}; curvature {np.max(self.curvature):.6g}, {self.constraint}"
        )

    def entries(self, membranes: FloatArray) -> FloatArray:
        """Return the objective entry by entry, (N, m)."""
        near = 0.5 * np.asarray(self.curvature) * (membranes - self.center) ** 2
        return near + self.spike_penalty * spike_cost(
            membranes, self.spikes, self.threshold, self.constraint
        )

    def objective(self, membranes: FloatArray) -> float:
        """Return the objective at membranes (N, m)."""
        return float(self.entries(membranes).sum())

    def branches(self) -> tuple[QuadraticBlock, QuadraticBlock]:
        """Return the program of spikes everywhere, z >= θ, and that of none, z < θ."""
        made = []
        for fires, words in ((True, "z >= θ"), (False, "z < θ")):
            slope, constant = _side(
                np.full(self.spikes.shape, fires), self.spikes, self.threshold, self.spike_penalty, self.constraint
            )  # fmt: skip
            linear = self.curvature * self.center - slope
            total = float(np.sum(constant + 0.5 * self.curvature * self.center**2))
            edge = below(self.threshold, self.center.dtype)
            low, high = (self.threshold, np.inf) if fires else (-np.inf, edge)
            diagonal = np.array(np.broadcast_to(self.curvature, self.center.shape[1:]), self.center.dtype)
            name = f"{self.name}, {words}"
            made.append(QuadraticBlock(name, self.formula, Quadratic(diagonal), linear, low, high, total))
        return made[0], made[1]

    def chosen(self, fires: FloatArray, rests: FloatArray) -> FloatArray:
        """Return, entry by entry, the cheaper of a point of the one branch and of the other."""
        return np.where(self.entries(fires) < self.entries(rests), fires, rests)

    def minimize(self) -> FloatArray:
        """Return the minimiser (N, m): each branch clipped at θ, the cheaper of the two."""
        if self.constraint == "lifted":  # convex: slope −a below θ, 1 − a above it, θ where neither fits
            push = self.spike_penalty / self.curvature
            low, high = self.center + push * self.spikes, self.center + push * (self.spikes - 1.0)
            return np.where(low < self.threshold, low, np.maximum(high, self.threshold)).astype(low.dtype)
        fires = np.maximum(self.center, self.threshold)
        rests = np.minimum(self.center, below(self.threshold, self.center.dtype))
        return self.chosen(fires, rests)


@dataclass(frozen=True, eq=False)
class ChainBlock:
    """Membranes of all steps at once: min Σ_t ρ/2 (z_t − β z_{t−1} − c_t)² + φ(a_t, z_t), chain by chain.

    Parameters
    ----------
    drive, spikes : (n, T, m) arrays
        c and a.
    leak : float or (m,) array
    constraint : "squared", "lifted" or "linearized"
        The last has σ (1{z⁰ >= θ} − a) z for φ, the slope of "lifted" at present membranes z⁰.
    present : (n, T, m) bool array
        1{z⁰ >= θ}, for "linearized".
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
    present: BoolArray | None = None

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
        found = membranes - self.drive
        found[:, 1:] -= self.leak * membranes[:, :-1]
        return found

    def objective(self, membranes: FloatArray) -> float:
        """Return the objective at membranes (n, T, m)."""
        if self.present is not None:
            cost = (self.present - self.spikes) * membranes
        else:
            cost = spike_cost(membranes, self.spikes, self.threshold, self.constraint)
        near = 0.5 * self.coupling * np.sum(self.residual(membranes) ** 2, dtype=np.float64)
        return float(near + self.spike_penalty * cost.sum(dtype=np.float64))

    def minimize(self) -> FloatArray:
        """Return the exact joint minimiser (n, T, m)."""
        if self.present is not None:
            return self._linearized(self.present)
        solve = chain_membranes if self.constraint == "squared" else lifted_membranes
        return solve(
            self.drive, self.spikes, self.leak, self.threshold, self.coupling, self.spike_penalty
        )

    def _linearized(self, present: BoolArray) -> FloatArray:
        """Return the minimiser where nothing bounds z: residuals backwards in time, membranes forwards."""
        dtype = self.drive.dtype
        leak = np.asarray(self.leak, dtype)
        z = (self.spikes - present) * dtype.type(self.spike_penalty / self.coupling)
        for t in range(z.shape[1] - 2, -1, -1):
            z[:, t] += leak * z[:, t + 1]
        z += self.drive
        for t in range(1, z.shape[1]):
            z[:, t] += leak * z[:, t - 1]
        return z

    def branch(self, pattern: BoolArray) -> QuadraticBlock:
        """Return the convex program of all chains held to one spike pattern (T,); linearized, to none.

        Raises
        ------
        ShapeError
            Units with different leaks: their chains have different matrices.
        """
        if np.size(np.unique(self.leak)) > 1:
            raise ShapeError("leak: chains of different leaks share no matrix; take one unit")
        steps, dtype = self.drive.shape[1], self.drive.dtype
        bidiagonal = np.eye(steps, dtype=dtype)
        bidiagonal[np.arange(1, steps), np.arange(steps - 1)] = -np.ravel(self.leak)[0]
        c, a = (x.swapaxes(1, 2).reshape(-1, steps) for x in (self.drive, self.spikes))
        fires = np.broadcast_to(np.asarray(pattern, bool), a.shape)
        if self.present is not None:
            now = self.present.swapaxes(1, 2).reshape(-1, steps)
            slope, constant = self.spike_penalty * (now - a), np.zeros(1)
        else:
            slope, constant = _side(fires, a, self.threshold, self.spike_penalty, self.constraint)
        low = np.where(pattern, self.threshold, -np.inf) if self.present is None else -np.inf
        high = np.where(pattern, np.inf, below(self.threshold, dtype)) if self.present is None else np.inf
        return QuadraticBlock(
            f"{self.name}, spikes {''.join(str(int(s)) for s in pattern)}",
            self.formula,
            Quadratic(np.zeros(steps, dtype), factor=np.sqrt(self.coupling) * bidiagonal),
            self.coupling * (c @ bidiagonal) - slope,
            low,
            high,
            float(np.sum(constant) + 0.5 * self.coupling * np.sum(c**2)),
        )
