"""Points of a program, and the bounds that are proved for them."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isfinite

from convexsnn.arrays import FloatArray


def relative_gap(objective: float, lower_bound: float) -> float:
    """Return (objective − lower_bound) / |objective|, or the absolute difference where the objective is 0.

    A negative difference, which comes from rounding, counts as 0. The gap is inf unless both are finite:
    numbers that overflow prove nothing.
    """
    if not (isfinite(objective) and isfinite(lower_bound)):
        return inf
    difference = max(0.0, objective - lower_bound)
    return difference / abs(objective) if objective else difference


def feasible_share(limit: float, norm: float) -> float:
    """Return min(1, limit / norm), the share of a dual point of this dual norm that is feasible.

    It is 0 unless the norm is a finite number: NaN and inf are above every limit, and u = 0 is feasible.
    """
    if not 0.0 <= norm < inf:
        return 0.0
    return 1.0 if norm <= limit else limit / norm


@dataclass(frozen=True, eq=False)
class Point:
    """A primal point and, if a solver returned one, a dual point.

    Attributes
    ----------
    weights : (P, C) array
    dual : (R, C) array or None
        u, in the scale of the dual objective.
    """

    weights: FloatArray
    dual: FloatArray | None = None


@dataclass(frozen=True, eq=False)
class Certificate:
    """A point's objective and a lower bound of the optimum, with the dual point that proves it.

    Attributes
    ----------
    objective, lower_bound : float
        objective >= optimum >= lower_bound.
    gap : float
        (objective − lower_bound) / |objective|; the absolute difference where the objective is 0.
    dual : (R, C) array
        Feasible for this program; its dual objective is the lower bound.
    """

    objective: float
    lower_bound: float
    gap: float
    dual: FloatArray
