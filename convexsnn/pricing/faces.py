"""Weights exactly on faces: what closed patterns need that no full-dimensional cell has.

A pattern that lives on a face exists only where some rows hold with equality, g·w = h, and a point of the
face that is off by rounding fires differently. Here the equalities are solved in rational numbers, with the
free weights at short binary fractions near the given point, so that on data of that kind (binary inputs,
leak 0.5) the simulator's own arithmetic is exact too. Where it is not, the simulator refuses the point.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from convexsnn.arrays import FloatArray
from convexsnn.pricing.decisions import Decisions

NEAR = 1e-9
BITS = (2, 6, 12, 24)


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
    found: dict[int, list[Fraction]] = {}
    for row in rows:
        for pivot, known in found.items():
            row = [a - row[pivot] * b for a, b in zip(row, known, strict=True)]
        pivot = next((j for j, a in enumerate(row[:-1]) if a), -1)
        if pivot < 0:
            continue
        row = [a / row[pivot] for a in row]
        for other, known in found.items():
            found[other] = [a - known[pivot] * b for a, b in zip(known, row, strict=True)]
        found[pivot] = row
    return found


def on_faces(unit: Decisions, weights: FloatArray) -> FloatArray:
    """Return points (k', d) exactly on the face that `weights` (d,) lie on, the nearest to them last."""
    found = _reduced(_ties(unit, weights))
    points: list[FloatArray] = []
    for bits in BITS if found else ():
        point = [Fraction(round(float(w) * 2**bits), 2**bits) for w in weights]
        for pivot, row in found.items():
            free = (a * w for j, (a, w) in enumerate(zip(row[:-1], point, strict=True)) if j not in found)
            point[pivot] = row[-1] - sum(free, Fraction(0))
        points.append(np.array([float(w) for w in point]))
    inside = [w for w in points if np.abs(w).max() <= unit.definition.weight_box]
    return np.array(inside).reshape(len(inside), len(weights))
