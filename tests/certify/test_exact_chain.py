"""The gap in rational arithmetic: it bounds the true one, and agrees with the floats up to their rounding."""

from fractions import Fraction

import numpy as np
import pytest

import convexsnn
from convexsnn.certify.exact_chain import bound_below, exact_gap, objective_above, rounding
from convexsnn.errors import VerificationError
from convexsnn.problem import Problem
from convexsnn.programs import LOSSES, L1Program, Point
from convexsnn.programs.penalties import Group
from convexsnn.solvers import solve

RNG = np.random.default_rng(4)
LOSS_NAMES = ("squared", "hinge", "squared_hinge", "logistic", "softmax")


def targets_of(loss, rows):
    if loss == "softmax":
        return np.eye(3)[RNG.integers(3, size=rows)]
    values = RNG.normal(size=(rows, 2))
    return values if loss == "squared" else np.sign(values)


def program_of(loss, penalty, rows=9, columns=5):
    bits = (RNG.random((rows, columns)) < 0.5).astype(float)
    chosen = {} if penalty == "l1" else {"penalty": Group(np.arange(columns))}
    return L1Program(bits, targets_of(loss, rows), loss, 0.05, **chosen), bits


@pytest.mark.parametrize("penalty", ["l1", "group"])
@pytest.mark.parametrize("loss", LOSS_NAMES)
def test_objective_and_bound_are_those_of_the_floats_to_the_safe_side(loss, penalty):
    program, bits = program_of(loss, penalty)
    weights = RNG.normal(size=program.shape)
    above = objective_above(program, bits.astype(bool), weights, np.arange(len(weights)))
    stated = program.primal_objective(Point(weights))
    assert stated * (1 - 1e-13) <= float(above) <= stated * (1 + 1e-13)
    certificate = program.certify(Point(weights))
    price = Fraction(program.dual_norm(certificate.dual)) + rounding(certificate.dual)
    below = bound_below(program, certificate.dual, price)
    assert certificate.lower_bound - 1e-11 <= float(below) <= certificate.lower_bound + 1e-14


@pytest.mark.parametrize("loss", LOSS_NAMES)
def test_no_dual_point_gives_a_bound_above_an_objective(loss):
    program, _ = program_of(loss, "l1")
    best = solve(program, tolerance=1e-9).certificate.objective
    for scale in (1e-3, 1.0, 1e3):
        dual = scale * RNG.normal(size=program.targets.shape)
        price = Fraction(program.dual_norm(dual)) + rounding(dual)
        assert float(bound_below(program, dual, price)) <= best


def test_a_larger_price_gives_a_lower_bound():
    program, _ = program_of("squared", "l1")
    dual = np.array(program.dual_at_zero)
    norm = Fraction(program.dual_norm(dual))
    bounds = [bound_below(program, dual, norm * k) for k in (1, 2, 4, 8)]
    assert bounds == sorted(bounds, reverse=True) and len(set(bounds)) == 4


def test_a_dual_point_outside_the_domain_is_moved_and_paid_for():
    """A slope of 2 at the hinge is no dual point; the nearest is 1, and a pattern may cost 1 more a row."""
    program = L1Program(np.ones((1, 1)), [1.0], "hinge", 0.5)
    moved = bound_below(program, np.array([[2.0]]), Fraction(0))
    assert moved == Fraction(1, 2)  # u' = 1, a price of at most 0 + 1, so it is halved


def test_the_gap_is_rounded_up_and_the_bound_down():
    third = Fraction(1, 3)
    found = exact_gap(third, third - Fraction(1, 10**30))
    assert Fraction(found.objective) >= third > Fraction(found.lower_bound)
    assert found.gap > 0 and Fraction(found.gap) >= 3 * Fraction(1, 10**30)
    assert exact_gap(third, third + 1).gap == 0.0


def test_a_gap_that_only_floats_reach_is_refused_exactly(tmp_path):
    """At a tolerance of 1e-14 the floats see a gap of 0; what they round away is more."""
    problem = Problem.from_arrays(
        RNG.normal(size=(12, 2, 2)), RNG.normal(size=12), layers=[{"leak": 0.9}],
        dictionary={"source": "exact", "margin": 1e-3, "weight_box": 5.0},
        training={"loss": "squared", "regularization_fraction": 0.2},
    )  # fmt: skip
    result = convexsnn.train(problem, tolerance=1e-12)
    result.save(tmp_path / "run")
    assert result.status == "optimal_global"
    _, plain = convexsnn.verify_folder(tmp_path / "run")
    try:
        _, exact = convexsnn.verify_folder(tmp_path / "run", exact=True)
    except VerificationError as error:
        assert str(error).startswith("status: 'optimal_global' is not shown by a gap of ")
    else:
        assert 1e-12 >= exact.gap >= plain.gap and exact.lower_bound <= plain.lower_bound


def test_a_loss_without_exact_numbers_is_refused_by_name():
    class Rough(type(LOSSES["squared"])):
        name = "rough"

        def value(self, z, y):
            return 0.5 * np.sum((z - y) ** 2, axis=1)

    program = L1Program(np.ones((2, 1)), [1.0, 2.0], Rough(), 0.1)
    with pytest.raises(convexsnn.errors.UnsupportedError, match="loss rough: value returns .* exact_value"):
        objective_above(program, np.ones((2, 1), bool), np.ones((1, 1)), np.array([0]))
