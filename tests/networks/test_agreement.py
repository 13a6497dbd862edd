"""A neuron whose inequalities are not those of its dynamics is refused; the package's own agree."""

from dataclasses import dataclass

import numpy as np
import pytest

from convexsnn.errors import UnsupportedError
from convexsnn.networks.agreement import check_agreement
from convexsnn.networks.neuron import NEURONS, Neuron, register_neuron
from convexsnn.networks.neurons import LIF, RecurrentThreshold
from convexsnn.networks.parameters import SHARED, PerUnit, parameter

OWN = ("lif", "threshold", "recurrent_threshold")


@pytest.mark.parametrize("kind", OWN)
def test_the_packages_own_neurons_agree(kind):
    check_agreement(NEURONS[kind])


def variant(base, **methods):
    """Return a neuron with some methods in place of its base's."""
    return dataclass(frozen=True, eq=False)(type("Variant", (base,), {"kind": "variant", **methods}))


def rows_with(change):
    def affine_rows(self, inputs, spikes):
        return change(*LIF.affine_rows(self, inputs, spikes), inputs, spikes)

    return affine_rows


WRONG = {
    "h too high": (LIF, {"affine_rows": rows_with(lambda g, h, x, s: (g, h + 1))}, "affine_rows disagrees"),
    "g scaled": (LIF, {"affine_rows": rows_with(lambda g, h, x, s: (g * 2, h * 2))}, "affine_rows disagrees"),
    "sees the present": (
        LIF,
        {"affine_rows": rows_with(lambda g, h, x, s: (g, h + s * 0 + s))},
        "affine_rows",
    ),
    "a float": (LIF, {"affine_rows": rows_with(lambda g, h, x, s: (g, h + 0.1))}, "got .* from fractions"),
    "a float in carry": (LIF, {"carry": lambda self, u, s: 0.5 * u}, "carry: got .* must be a parameter"),
    "other carry": (LIF, {"carry": lambda self, u, s: u * 0}, "affine_rows disagrees"),
    "other reset": (LIF, {"after_reset": lambda self, u, s: u + s}, "readout_rows disagrees|affine_rows"),
    "certain": (LIF, {"certain": lambda self, s: np.ones_like(s)}, "certain: is True where"),
    "no trained column": (
        RecurrentThreshold,
        {"affine_rows": lambda self, x, s: self.first_rows(x, s)},
        r"affine_rows: expected g \(4, 4, 3\)",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_neuron_that_disagrees_is_refused_when_it_is_registered(name):
    base, methods, message = WRONG[name]
    with pytest.raises(UnsupportedError, match=message):
        register_neuron(variant(base, **methods))
    assert "variant" not in NEURONS


def test_numbers_of_every_range_are_tried():
    @dataclass(frozen=True, eq=False)
    class Ranges(Neuron):
        threshold: float = parameter("θ", "membrane at which a unit fires", -2.0, most=-1.0)
        share: PerUnit = parameter("β", "share", 0.0, of=SHARED, most=0.0)
        kind = "ranges"
        dynamics = "u_t = β u_(t-1) + I_t"

        def carry(self, membrane, spikes):
            return self.share * membrane

        def after_reset(self, membrane, spikes):
            return membrane

        def affine_rows(self, inputs, spikes):  # forgets the carry; at the default β = 0 that is not seen
            return self.first_rows(inputs, spikes)

    with pytest.raises(UnsupportedError, match="affine_rows disagrees .* share = -"):
        check_agreement(Ranges)
