"""The convex branches of the blocks of membranes: on each side of θ, the spike's cost is quadratic in z."""

import numpy as np

from convexsnn.blocks.membranes import below
from convexsnn.blocks.quadratic import Quadratic, QuadraticBlock


def _side(fires, block, spikes):
    """Return slope s and constant k of φ = s z + k on the side of θ that `fires` selects for each entry."""
    mismatch, penalty = fires - spikes, block.spike_penalty
    if block.constraint == "squared":
        return np.zeros_like(spikes), 0.5 * penalty * mismatch**2
    return penalty * mismatch, -penalty * mismatch * block.threshold


def branches_of(block):
    """Return the programs of a `MembraneBlock` with all spikes, z >= θ, and without spikes, z < θ."""
    programs, edge = [], below(block.threshold, block.center.dtype)
    center, spikes, curvature = (np.asarray(v, float) for v in (block.center, block.spikes, block.curvature))
    quadratic = Quadratic(np.array(np.broadcast_to(curvature, center.shape[1:])))
    for fires, low, high in ((True, block.threshold, np.inf), (False, -np.inf, edge)):
        slope, constant = _side(np.full(spikes.shape, fires), block, spikes)
        total = float(np.sum(constant + 0.5 * curvature * center**2))
        linear = curvature * center - slope
        programs.append(QuadraticBlock(block.name, block.formula, quadratic, linear, low, high, total))
    return programs


def branch_of(block, pattern):
    """Return the program of all chains of a `ChainBlock` with one pattern (T,); its points are (n m, T)."""
    (leak,) = np.unique(block.leak)
    steps = block.drive.shape[1]
    bidiagonal = np.eye(steps) - leak * np.eye(steps, k=-1)
    c, a = (np.asarray(x, float).swapaxes(1, 2).reshape(-1, steps) for x in (block.drive, block.spikes))
    low, high = -np.inf, np.inf
    if block.present is not None:
        now = block.present.swapaxes(1, 2).reshape(-1, steps)
        slope, constant = block.spike_penalty * (now - a), 0.0
    else:
        slope, constants = _side(np.broadcast_to(pattern, a.shape), block, a)
        constant = float(constants.sum())
        low = np.where(pattern, block.threshold, -np.inf)
        high = np.where(pattern, np.inf, below(block.threshold, block.drive.dtype))
    return QuadraticBlock(
        block.name,
        block.formula,
        Quadratic(np.zeros(steps), factor=np.sqrt(block.coupling) * bidiagonal),
        block.coupling * (c @ bidiagonal) - slope,
        low,
        high,
        constant + 0.5 * block.coupling * float(np.sum(c**2)),
    )


def best_of(block, tables):
    """Return, entry by entry or chain by chain, the best of one point of each branch."""
    if not hasattr(block, "chains"):
        fires, rests = tables
        return np.where(block.entries(fires) < block.entries(rests), fires, rests)
    n, steps, m = block.drive.shape
    points = np.stack([np.reshape(table, (n, m, steps)).swapaxes(1, 2) for table in tables])
    best = np.argmin([block.chains(membranes) for membranes in points], axis=0)
    return np.take_along_axis(points, best[None, :, None, :], axis=0)[0]
