"""Patterns that are found by force: weights on a lattice, at random sizes, and between crossed thresholds.

Only those count whose bits in rational arithmetic are the simulated ones, and whose exact margin is that of
the definition.
"""

from fractions import Fraction

import numpy as np

from convexsnn.pricing.prices import Witnesses, confirmed, layer_of
from convexsnn.pricing.rational import exact_spikes


def candidates(unit, rng):
    """Return weights (k, d): lattice, random sizes, and between all thresholds that random rays cross."""
    box, d = unit.definition.weight_box, unit.dimension
    lattice = np.stack(np.meshgrid(*[np.linspace(-1.0, 1.0, 5)] * d), axis=-1).reshape(-1, d)
    sizes = 10.0 ** rng.uniform(-14, 0, (60, 1))
    weights = [box * lattice, box * np.clip(sizes * rng.standard_normal((60, d)), -1, 1)]
    g, h = unit.g.reshape(-1, d), unit.h.ravel()
    scale = np.abs(g).max(axis=1) + (g == 0).all(axis=1)
    g, h = (g / scale[:, None])[np.isfinite(h)], (h / scale)[np.isfinite(h)]
    for _ in range(8):
        start = rng.uniform(-1, 1, d) * rng.choice([0.0, 1.0, box])
        ray = rng.uniform(-1, 1, d)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            at = np.sort((h - g @ start) / (g @ ray))
        at = np.unique(at[np.isfinite(at)])
        at = np.r_[at, at / 2 + np.roll(at, 1) / 2, 1.5 * at, -1e-3 * at]
        weights.append(start + at[:, None] * ray)
    every = np.concatenate(weights)
    return every[(np.abs(every) <= box).all(axis=1)]


def exact_bits(units, witnesses):
    """Return what the readout sees of each unit in rational arithmetic, (k, R), and the exact margins."""
    definition = units[0].definition
    coupled = units[0].layer.recurrent is not None  # such units are simulated alone
    parts = np.arange(len(witnesses.unit))[:, None] if coupled else [np.arange(len(witnesses.unit))]
    bits, closest = [], []
    for rows in parts:
        some = witnesses.select(rows)
        run = exact_spikes(layer_of(units, some), units[0].inputs, definition.reads.of_membrane)
        seen = run.membrane if definition.reads.of_membrane else run.spikes
        bits.append(seen[:, definition.steps].reshape(-1, len(rows)).T)
        closest += run.closest
    return np.concatenate(bits), closest


def true_patterns(units, samples, seed=0):
    """Return patterns (k, R) of found weights whose exact margin is that of the definition."""
    rng, definition = np.random.default_rng(seed), units[0].definition
    found = set()
    for k, unit in enumerate(units):
        weights = candidates(unit, rng)
        witnesses = Witnesses(np.full(len(weights), k), weights)
        patterns, margins = confirmed(units, samples, witnesses)
        bits, closest = exact_bits(units, witnesses)
        good = (margins >= definition.margin) & (bits == patterns).all(axis=1)
        good &= np.array([distance >= Fraction(definition.margin) for distance in closest])
        found |= {tuple(row) for row in patterns[good].tolist()}
    return np.array(sorted(found), bool)
