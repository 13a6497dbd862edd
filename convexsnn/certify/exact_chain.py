"""The chain from a network's spikes and a dual point to the gap, in rational arithmetic.

The numbers of a program (targets y, row factors c a, λ, output weights W, dual point u) are floats, so they
are fractions. With the bits s of the network, which `exact_spikes` decides:

    objective   at most  Σ_i (c a)_i ℓ(Σ_j s_ij W_j, y_i) + λ ‖W‖
    bound       at least Σ_i −(c a)_i ℓ*(−σ u'_i / (c a)_i),   σ = min(1, λ / (B + Δ))

u' is the point of the dual domain next to u, and Δ = Σ_ic |u' − u|. For a 0/1 pattern d, |dᵀu'| <= |dᵀu| + Δ
(also in the norm of groups). So if ‖dᵀu‖ <= B for all patterns, σ u' is feasible, and weak duality applies.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import inf, nextafter
from typing import Any

import numpy as np

from convexsnn.arrays import BoolArray, FloatArray, fraction
from convexsnn.errors import VerificationError
from convexsnn.programs import L1Program

UNIT = Fraction(1, 2**52)


@dataclass(frozen=True)
class ExactGap:
    """The objective, the lower bound and the gap, each rounded to the side that weakens the claim."""

    objective: float
    lower_bound: float
    gap: float


def rounding(dual: FloatArray) -> Fraction:
    """Return a bound on the rounding of any sum of rows of a dual point (R, C), over all its outputs.

    A sum of R floats has an error of at most R·2^−53 Σ|u| to first order; this is four times that.
    """
    return 2 * (sum(dual.shape) + 8) * UNIT * total(dual)


def total(numbers: Any) -> Fraction:
    """Return Σ |x| of floats or fractions, exactly."""
    return sum((abs(Fraction(x)) for x in np.ravel(numbers).tolist()), Fraction(0))


def objective_above(program: L1Program, bits: BoolArray, weights: FloatArray, columns: Any) -> Fraction:
    """Return an upper bound on the objective of a network.

    Parameters
    ----------
    bits : (R, m) bool array
        Readouts of the last units.
    weights : (P, C) array
        Output weights by column of the dictionary, for the penalty.
    columns : (m,) int array
        Column of each unit, or -1.
    """
    used = columns >= 0
    whole, unit = _whole(weights[columns[used]])
    outputs = np.frompyfunc(lambda k: Fraction(k, unit), 1, 1)(
        bits[:, used].astype(int).astype(object) @ whole
    )
    losses = program.loss.exact_value(outputs, fraction(program.targets))
    data = sum(a * x for a, x in zip(fraction(program.row_scale[:, 0]), losses, strict=True))
    return Fraction(data) + Fraction(program.regularization) * program.penalty.exact_value(fraction(weights))


def bound_below(program: L1Program, dual: FloatArray, price: Fraction) -> Fraction:
    """Return a lower bound on the optimum, if no pattern d has ‖dᵀu‖ above `price` at the dual point u.

    Raises
    ------
    VerificationError
        The loss's point near u is outside its dual domain.
    """
    scale, targets = fraction(program.row_scale), fraction(program.targets)
    v = program.loss.exact_project(dual / program.row_scale, program.targets)
    moved = price + total(v * scale - fraction(dual))
    limit = Fraction(program.regularization)
    shrink = min(Fraction(1), limit / moved) if moved > 0 else Fraction(1)
    values = program.loss.exact_dual_value(v * shrink, targets)
    if None in values.tolist():
        raise VerificationError(f"dual: outside the dual domain of loss {program.loss.name}")
    return Fraction(sum(a * x for a, x in zip(scale[:, 0], values, strict=True)))


def exact_gap(objective: Fraction, bound: Fraction) -> ExactGap:
    """Return objective and gap rounded up, and the bound rounded down; the gap as `relative_gap`."""
    difference = max(Fraction(0), objective - bound)
    gap = difference / abs(objective) if objective else difference
    return ExactGap(_above(objective), -_above(-bound), _above(gap))


def _above(x: Fraction) -> float:
    """Return the smallest float that is not below x."""
    near = float(x)
    return near if Fraction(near) >= x else nextafter(near, inf)


def _whole(numbers: FloatArray) -> tuple[Any, int]:
    """Return whole numbers k and a power of two q with numbers = k / q; sums of fractions are slow."""
    exact = fraction(numbers)
    unit = max((f.denominator for f in np.ravel(exact)), default=1)
    return np.frompyfunc(lambda f: f.numerator * (unit // f.denominator), 1, 1)(exact), unit
