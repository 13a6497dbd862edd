"""Rational arithmetic for losses and penalties: logarithms, exponentials and roots with bounds.

A float is a fraction, so sums and products of a program's numbers are exact in fractions. Where a loss needs
a logarithm or an exponential, it takes bounds from here. The decimal module rounds both correctly in its last
digit; the bounds are far wider than that.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Context, Decimal
from fractions import Fraction
from math import isqrt
from typing import Any

import numpy as np

from convexsnn.errors import UnsupportedError

DIGITS = 60
WIDTH = Fraction(1, 10**45)  # far above an error in the last of the digits
CONTEXT = Context(prec=DIGITS, Emax=999_999, Emin=-999_999)
SMALLEST = Fraction(1, 10**400)  # above exp(x) for x below −1000


def log_bounds(x: Fraction) -> tuple[Fraction, Fraction]:
    """Return bounds on log x for x > 0."""
    quotient = CONTEXT.divide(Decimal(x.numerator), Decimal(x.denominator))
    value = Fraction(CONTEXT.ln(quotient))
    pad = WIDTH * (1 + abs(value))
    return value - pad, value + pad


def exp_bounds(x: Fraction) -> tuple[Fraction, Fraction]:
    """Return bounds on exp x for x <= 0."""
    if x < -1000:
        return Fraction(0), SMALLEST
    quotient = CONTEXT.divide(Decimal(x.numerator), Decimal(x.denominator))
    value = Fraction(CONTEXT.exp(quotient))
    return value * (1 - WIDTH), value * (1 + WIDTH)


def root_above(x: Fraction) -> Fraction:
    """Return an upper bound on √x for x >= 0, close to it at any size of x."""
    if x == 0:
        return x
    shift = max(0, x.denominator.bit_length() - x.numerator.bit_length()) // 2 + 160
    whole = (x.numerator << 2 * shift) // x.denominator
    return Fraction(isqrt(whole) + 1, 1 << shift)


def log_sum_exp_above(terms: list[Fraction]) -> Fraction:
    """Return an upper bound on log Σ exp of the terms."""
    largest = max(terms)
    total = sum((exp_bounds(term - largest)[1] for term in terms), Fraction(0))
    return largest + log_bounds(total)[1]


def entropy_below(p: Fraction) -> Fraction:
    """Return a lower bound on −p log p for 0 <= p; 0 at p = 0."""
    return Fraction(0) if p == 0 else -p * log_bounds(p)[1]


def fractions_of(name: str, method: str, numbers: Any) -> Any:
    """Return numbers that a method made from fractions, as fractions; -inf becomes None.

    Raises
    ------
    UnsupportedError
        A number is a float: something was rounded.
    """

    def exact(number: Any) -> Fraction | None:
        if isinstance(number, (int, np.integer, Fraction)):
            return Fraction(int(number) if isinstance(number, np.integer) else number)
        if number == -np.inf:
            return None
        raise UnsupportedError(
            f"{name}: {method} returns {number!r} for fractions, so it is not exact; use whole numbers, "
            f"not floats, in it, or define exact_{method}"
        )

    return np.frompyfunc(exact, 1, 1)(np.asarray(numbers, dtype=object))


def by_row(function: Callable[..., Fraction | None], *tables: Any) -> Any:
    """Return a function of rows, of tables of fractions (R, C), as an array of fractions (R,)."""
    values = np.empty(len(tables[0]), object)
    for i, rows in enumerate(zip(*(table.tolist() for table in tables), strict=True)):
        values[i] = function(*rows)
    return values
