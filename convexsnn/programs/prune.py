"""Set the small weights of an interior-point solution to zero, as far as the certified gap allows."""

from __future__ import annotations

import numpy as np

from convexsnn.programs.l1 import L1Program
from convexsnn.programs.point import Point

FRACTIONS = 10.0 ** -np.arange(2.0, 12.0)


def prune(program: L1Program, point: Point, tolerance: float) -> Point:
    """Return the point with as many small weights at zero as the certified gap allows.

    Its gap is at most the larger of the gap of `point` and a half of `tolerance`.
    """
    largest = float(np.abs(point.weights).max(initial=0.0))
    if largest == 0.0:
        return point
    allowed = max(program.certify(point).gap, 0.5 * tolerance)
    for fraction in FRACTIONS:
        weights = np.where(np.abs(point.weights) < fraction * largest, 0.0, point.weights)
        if program.certify(Point(weights, point.dual)).gap <= allowed:
            return Point(weights, point.dual)
    return point
