"""Scaling of a program to the units of a solver's tolerances.

Solvers stop on absolute residuals, so that their gap depends on the units of λ, c and the targets. The
scaled program has row scales of mean 1 and, for a homogeneous loss, targets of largest size 1:

    c a -> c a / κ,   y -> y / σ,   λ -> λ / (κ σ);       back: W = σ W',  u = κ σ u'
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from convexsnn.programs.l1 import L1Program
from convexsnn.programs.point import Point


@dataclass(frozen=True, eq=False)
class Scaled:
    """A program in solver units and the factors that lead back to the original units."""

    program: L1Program
    rows: float
    targets: float

    def recover(self, point: Point) -> Point:
        """Return the unscaled program's point."""
        dual = None if point.dual is None else point.dual * (self.rows * self.targets)
        return Point(point.weights * self.targets, dual)

    def reduce(self, point: Point) -> Point:
        """Return the scaled program's point for an unscaled one."""
        dual = None if point.dual is None else point.dual / (self.rows * self.targets)
        return Point(point.weights / self.targets, dual)


def scale(program: L1Program) -> Scaled:
    """Return the program in solver units."""
    rows = program.scale * float(program.sample_weights.mean())
    targets = 1.0
    if program.loss.homogeneous:
        targets = float(np.abs(program.targets).max()) or 1.0
    if not 0 < program.regularization / rows / targets < np.inf:  # out of reach of floats: nothing is scaled
        return Scaled(program, 1.0, 1.0)
    scaled = replace(
        program,
        targets=program.targets / targets,
        scale=program.scale / rows,
        regularization=program.regularization / (rows * targets),
    )
    return Scaled(scaled, rows, targets)
