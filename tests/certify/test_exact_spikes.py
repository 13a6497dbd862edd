"""Spikes within rounding of a threshold: decided in exact arithmetic, alike in verify, solve and gap."""

from fractions import Fraction

import numpy as np
import pytest

import convexsnn
from convexsnn.dictionary import Definition
from convexsnn.errors import LoweringError, VerificationError
from convexsnn.lowering import Convexification
from convexsnn.lowering.convexify import witnesses_of
from convexsnn.networks import LIF, Layer, Network, Subnetwork, Threshold
from convexsnn.pricing.doubtful import check_doubtful_spikes, check_doubtful_witness
from convexsnn.problem import Problem
from convexsnn.simulate import simulate


def network_of(weights, neuron=None, readout="spike"):
    weights = np.atleast_2d(weights)
    return Network((Layer(weights, neuron or Threshold(0.0)),), np.ones((len(weights), 1)), readout)


def exact_sum(x, w):
    return sum(Fraction(a) * Fraction(b) for a, b in zip(x.tolist(), w.tolist(), strict=True))


def off_by_rounding(count=2000):
    """Return inputs and weights whose float sum has another sign than the exact one, by search."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        x = rng.normal(size=3)
        w = np.array([rng.normal(), rng.normal(), 0.0])
        w[2] = -(x[0] * w[0] + x[1] * w[1]) / x[2]
        trace = simulate(network_of(w), x[None, None])
        if trace.spikes[0][0, 0, 0] != (exact_sum(x, w) >= 0):
            return x, w
    raise AssertionError("no case in the draw")


def test_a_spike_that_is_not_the_exact_one_is_named():
    x, w = off_by_rounding()
    inputs = np.stack([np.ones((1, 3)), x[None]])
    network = network_of(np.stack([[1.0, 0.0, 0.0], w]))
    with pytest.raises(
        VerificationError, match="layer 1: sample 1, step 0, unit 1 is [01] in exact arithmetic"
    ):
        check_doubtful_spikes(network, simulate(network, inputs))


@pytest.mark.parametrize("scale", [1e-160, 1e-11, 1.0, 1e11, 1e150])
def test_it_is_named_at_every_unit_of_the_inputs(scale):
    x, w = off_by_rounding()
    two = 2.0 ** round(np.log2(scale))  # a power of two moves no rounding
    network = network_of(w)
    with pytest.raises(VerificationError, match="layer 1: sample 0"):
        check_doubtful_spikes(network, simulate(network, two * x[None, None]))


@pytest.mark.parametrize("recurrent", [False, True])
def test_a_witness_of_a_column_is_decided_exactly(recurrent):
    x, w = off_by_rounding()
    weights = np.stack([[1.0, 0.0, 0.0], w])
    layer = Layer(weights, Threshold(0.0), recurrent=np.zeros((2, 2)) if recurrent else None)
    subnetwork, definition, inputs = Subnetwork((layer,)), Definition(margin=0.0), x[None, None]
    with pytest.raises(VerificationError, match="is [01] in exact arithmetic"):
        check_doubtful_witness(subnetwork, 1, inputs, definition)
    if not recurrent:  # else its spikes depend on those of the other
        check_doubtful_witness(subnetwork, 0, inputs, definition)


@pytest.mark.parametrize("regularization", ["regularization", "regularization_fraction"])
def test_lambda_max_is_of_a_column_that_exact_arithmetic_knows(regularization):
    x, w = off_by_rounding()
    inputs = np.stack([x, -x, np.eye(3)[0]])[:, None]
    fires = simulate(network_of(w), inputs).spikes[0][:, 0, 0]
    problem = Problem.from_arrays(
        inputs, 1.0 * fires, layers=[{"neuron": "threshold", "threshold": 0.0}],
        training={regularization: 0.5}, dictionary={"source": "exact", "margin": 0.0},
    )  # fmt: skip
    true = Layer(np.array([[0.0, 0.0, -0.1 if fires[0] else 0.1]]), Threshold(0.0))
    both = witnesses_of(problem, (Layer(w[None], Threshold(0.0)),), (true,))
    assert both.patterns == 2
    program = Convexification().lower(problem, both).program
    assert len(program.dictionary.counts()) == (1 if regularization == "regularization_fraction" else 2)
    if regularization == "regularization_fraction":
        alone = Convexification().lower(problem, witnesses_of(problem, (true,))).program
        assert program.regularization == alone.regularization
        with pytest.raises(LoweringError, match="no column is a pattern of the definition: layer 1: sample"):
            Convexification().lower(problem, both.select(np.array([0])))


def test_ties_that_are_exact_pass():
    rng = np.random.default_rng(1)
    inputs = rng.integers(-2, 3, (40, 3, 4)) / 4
    for neuron in (Threshold(0.0), LIF(0.5, 0.5), LIF(0.25, 0.5, "zero")):
        network = network_of(rng.integers(-4, 5, (5, 4)) / 2, neuron, "membrane")
        trace = simulate(network, inputs)
        assert (trace.membranes[0] == neuron.threshold).any()
        check_doubtful_spikes(network, trace)


def test_gap_does_not_cover_it():
    x, w = off_by_rounding()
    rng = np.random.default_rng(2)
    inputs = np.concatenate([x[None, None], rng.normal(size=(7, 1, 3))])
    problem = Problem.from_arrays(
        inputs, rng.normal(size=8), layers=[{"neuron": "threshold"}],
        dictionary={"source": "column_generation", "margin": 0.0, "weight_box": 10.0},
        training={"loss": "squared", "regularization_fraction": 0.5},
    )  # fmt: skip
    found = convexsnn.distance(problem, network_of(w))
    assert found.gap is None and "in exact arithmetic" in found.not_covered
