"""Bounds on logarithms, exponentials and roots: right, close, and rational."""

import math
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest

from convexsnn.errors import UnsupportedError
from convexsnn.programs.exact import (
    entropy_below,
    exp_bounds,
    fractions_of,
    log_bounds,
    log_sum_exp_above,
    root_above,
)

NUMBERS = [
    Fraction(n, d) for n, d in ((1, 3), (7, 2), (1, 10**9), (10**9, 7), (1, 2**1000), (2**1000 + 1, 1))
]
TINY = Fraction(1, 10**40)


def log_series(x):
    """Return log x to 70 digits, by halving and the series of artanh; no function of a library."""
    twos, y = 0, x
    while y > Fraction(4, 3):
        y, twos = y / 2, twos + 1
    while y < Fraction(2, 3):
        y, twos = y * 2, twos - 1

    def artanh(z):
        one = 10**90
        total, power = 0, int(z * one)
        square = int(z * z * one)
        for k in range(1, 400, 2):
            total, power = total + power // k, power * square // one
        return Fraction(2 * total, one)

    return artanh((y - 1) / (y + 1)) + twos * artanh(Fraction(1, 3))


@pytest.mark.parametrize("x", NUMBERS)
def test_the_logarithm_lies_between_its_bounds(x):
    low, high = log_bounds(x)
    assert low < log_series(x) < high and high - low < TINY * (1 + abs(high))


@pytest.mark.parametrize("x", [Fraction(0), Fraction(-1, 3), Fraction(-20), Fraction(-999), Fraction(-5000)])
def test_the_exponential_lies_between_its_bounds(x):
    low, high = exp_bounds(x)
    terms, term = Fraction(0), Fraction(1)
    halved = x / 2**16  # a Taylor series near 0, squared 16 times
    for k in range(1, 60):
        terms, term = terms + term, term * halved / k
    with localcontext() as context:
        context.prec, context.Emin = 80, -(10**6)
        value = Decimal(terms.numerator) / Decimal(terms.denominator)
        for _ in range(16):
            value = value * value
        assert low <= Fraction(value) <= high
    assert high - low <= TINY


@pytest.mark.parametrize(
    "x", [Fraction(2), Fraction(1, 9), Fraction(1, 10**300), Fraction(10**300), Fraction(0)]
)
def test_a_root_is_just_above(x):
    root = root_above(x)
    assert root * root >= x and (root * (1 - TINY)) ** 2 <= x


def test_the_log_of_a_sum_is_above_the_floats_and_never_overflows():
    terms = [Fraction(-800), Fraction(900), Fraction(1799, 2)]
    assert float(log_sum_exp_above(terms)) == pytest.approx(900 + math.log1p(math.exp(-0.5)), rel=1e-14)


def test_the_entropy_is_below():
    assert entropy_below(Fraction(0)) == 0
    assert 0 <= -0.25 * math.log(0.25) - float(entropy_below(Fraction(1, 4))) < 1e-15


def test_a_float_among_fractions_is_refused():
    exact = fractions_of("loss x", "value", np.array([Fraction(1, 3), 2, -np.inf], object))
    assert exact.tolist() == [Fraction(1, 3), Fraction(2), None]
    with pytest.raises(UnsupportedError, match="loss x: value returns 0.5 for fractions"):
        fractions_of("loss x", "value", np.array([0.5], object))
