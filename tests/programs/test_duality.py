"""A loss or a penalty whose dual is not that of its value is refused; the package's own pass."""

import numpy as np
import pytest

from convexsnn.errors import UnsupportedError
from convexsnn.programs import LOSSES, PENALTIES, L1Program, register_loss, register_penalty
from convexsnn.programs.duality import check_duality, check_norms
from convexsnn.programs.losses import Squared
from convexsnn.programs.penalties import L1, Group


@pytest.mark.parametrize("name", ["squared", "hinge", "squared_hinge", "logistic", "softmax"])
def test_the_packages_own_losses_pass(name):
    check_duality(LOSSES[name])


@pytest.mark.parametrize("name", ["l1", "group"])
def test_the_packages_own_penalties_pass(name):
    check_norms(PENALTIES[name])


def loss_with(base, **methods):
    return type("Wrong", (base,), {"name": "wrong", **methods})()


WRONG = {
    "dual too high": (
        Squared,
        {"dual_value": lambda self, v, y: np.sum(v * y, axis=1)},
        "dual_value is above",
    ),
    "dual too low": (
        Squared,
        {"dual_value": lambda self, v, y: np.sum(v * y - v**2, axis=1)},
        "dual_value at residual",
    ),
    "slope of another sign": (Squared, {"residual": lambda self, z, y: z - y}, "dual_value at residual"),
    "not a number": (
        Squared,
        {"dual_value": lambda self, v, y: np.full(len(v), np.nan)},
        "dual_value: expected one number a row",
    ),
    "value a table": (Squared, {"value": lambda self, z, y: (z - y) ** 2 / 2}, "value: expected one finite"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_loss_with_another_dual_is_refused(name):
    base, methods, message = WRONG[name]
    with pytest.raises(UnsupportedError, match=f"loss wrong: {message}"):
        register_loss(loss_with(base, **methods))
    with pytest.raises(UnsupportedError, match=f"loss wrong: {message}"):
        L1Program(np.ones((2, 1)), [1.0, -1.0], loss_with(base, **methods), 1.0)
    assert "wrong" not in LOSSES


PENALTIES_WRONG = {
    "dual norm too small": (L1, {"dual_norm": lambda self, g: float(np.abs(g).max()) / 2}, "dual_norm: "),
    "value not a number": (L1, {"value": lambda self, w: np.nan}, "value: "),
    "costs of others": (L1, {"entry_costs": lambda self, p, c: np.full((p, c), 2.0)}, "entry_costs: the sum"),
    "groups of others": (Group, {"groups": lambda self, p: np.zeros(p, int)}, "groups: the sum"),
}


@pytest.mark.parametrize("name", PENALTIES_WRONG)
def test_a_penalty_with_another_dual_norm_is_refused(name):
    base, methods, message = PENALTIES_WRONG[name]
    with pytest.raises(UnsupportedError, match=f"penalty wrong: {message}"):
        register_penalty(type("Wrong", (base,), {"name": "wrong", **methods}))
    assert "wrong" not in PENALTIES
