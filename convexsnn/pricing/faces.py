"""Weights exactly on faces, for closed patterns that no full-dimensional cell has.

Such a pattern exists only where some rows hold with equality, g·w = h. If rounding moves a point off the
face, its pattern changes. Here the equalities are solved in rational numbers, with the free weights at short
binary fractions near the given point. So on suitable data (binary inputs, leak 0.5) the arithmetic of the
simulator is exact too. If it is not, the simulator rejects the point.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from convexsnn.arrays import FloatArray
from convexsnn.pricing.decisions import Decisions

NEAR = 1e-9  # relative distance from a row that counts as equality
BITS = (2, 6, 12, 24)  # after the binary point of the free weights


def _ties(unit: Decisions, weights: FloatArray) -> list[list[Fraction]]:
    """Return the rows (g, h) that hold with equality at `weights`, up to rounding; a tie counts as firing."""
    rows: dict[tuple[float, ...], None] = {}
    for sample in range(unit.samples):
        node = 0
        while node < unit.g.shape[1]:
            g, h = unit.g[sample, node], unit.h[sample, node]
            away = g @ weights - h if np.isfinite(h) else np.inf
            if abs(away) <= NEAR * (np.abs(g) @ np.abs(weights) + abs(h)) and g.any():
                rows[(*g.tolist(), float(h))] = None
                away = 0.0
            node = 2 * node + (2 if away >= 0 else 1)
    return [[Fraction(x) for x in row] for row in rows]


def _reduced(rows: list[list[Fraction]]) -> dict[int, list[Fraction]]:
    """Return the rows in reduced echelon form, by their pivot columns."""
    echelon: dict[int, list[Fraction]] = {}
    for row in rows:
        for pivot, known in echelon.items():
            row = [a - row[pivot] * b for a, b in zip(row, known, strict=True)]
        pivot = next((j for j, a in enumerate(row[:-1]) if a), -1)
        if pivot < 0:
            continue
        row = [a / row[pivot] for a in row]
        for other, known in echelon.items():
            echelon[other] = [a - known[pivot] * b for a, b in zip(known, row, strict=True)]
        echelon[pivot] = row
    return echelon


def on_faces(unit: Decisions, weights: FloatArray) -> FloatArray:
    """Return points (k', d) exactly on the face of `weights` (d,), the nearest one last."""
    echelon = _reduced(_ties(unit, weights))
    points: list[FloatArray] = []
    for bits in BITS if echelon else ():
        point = [Fraction(round(float(w) * 2**bits), 2**bits) for w in weights]
        for pivot, row in echelon.items():
            free = (a * w for j, (a, w) in enumerate(zip(row[:-1], point, strict=True)) if j not in echelon)
            point[pivot] = row[-1] - sum(free, Fraction(0))
        points.append(np.array([float(w) for w in point]))
    inside = [w for w in points if np.abs(w).max() <= unit.definition.weight_box]
    return np.array(inside).reshape(len(inside), len(weights))
