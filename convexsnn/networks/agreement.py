"""The check that a neuron's inequalities describe its own dynamics, in exact arithmetic.

Proofs use `affine_rows` and `readout_rows`; the simulator uses `carry` and `after_reset`. If the two
disagree, a proof is about other dynamics than the network's. So `register_neuron` runs this check.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np

from convexsnn.arrays import BoolArray, fraction
from convexsnn.errors import UnsupportedError
from convexsnn.networks.parameters import SHARED, TRAINED, Parameter

SAMPLES, STEPS, INPUTS, DRAWS = 4, 4, 2, 4


def check_agreement(cls: type[Any]) -> None:
    """Hold the rows of a subclass of `Neuron` to its dynamics.

    Let w be the weights of a unit, trained parameters last. Then g·w − h of `affine_rows` must be the
    membrane minus the threshold, and that of `readout_rows` the membrane after its reset, except where the
    neuron says that the event is `certain`. Row (i, t) may depend only on the spikes before t, and in
    `readout_rows` on those up to t.

    Raises
    ------
    UnsupportedError
        They differ, or a number is no fraction; the message names the neuron and the method.
    """
    rng = np.random.default_rng(0)
    for neuron in _samples(cls, rng):
        _check(neuron, rng)


def _samples(cls: type[Any], rng: np.random.Generator) -> Iterator[Any]:
    declared = cls.parameters()
    for k in range(max(DRAWS, *(len(p.choices) for p in declared))):
        yield cls(**{p.name: _value(p, k, rng) for p in declared})


def _value(declared: Parameter, k: int, rng: np.random.Generator) -> Any:
    """Return the k-th value to try: a word in turn; the default, then numbers of the range."""
    if declared.choices:
        return declared.choices[k % len(declared.choices)]
    default = float(declared.default)
    if k == 0 and declared.of == SHARED:
        return default
    floor = max((x for x in (declared.least, declared.above) if x is not None), default=None)
    low = floor if floor is not None else min(default, declared.most or default) - 1.0
    high = declared.most if declared.most is not None else max(default, low) + 1.0
    return low + (high - low) * float(rng.integers(1, 16)) / 16


def _check(neuron: Any, rng: np.random.Generator) -> None:
    exact, name = neuron.exact(), f"neuron {neuron.kind}"
    inputs = fraction(rng.integers(-8, 9, (SAMPLES, STEPS, INPUTS)) / 4)
    weights = fraction(rng.integers(-8, 9, INPUTS) / 4)
    trained = [getattr(exact, p.name) for p in neuron.parameters(TRAINED)]
    membranes, after, spikes = _simulated(exact, inputs @ weights)
    _fractions(name, "carry", membranes)
    _fractions(name, "after_reset", after)
    certain = neuron.certain(spikes)
    if (after[certain] < 0).any():
        raise UnsupportedError(f"{name}: certain: is True where the membrane after its reset is below 0")
    everywhere = np.ones_like(spikes)
    for method, meant, side, held in (
        ("affine_rows", "u - θ", membranes - exact.threshold, everywhere),
        ("readout_rows", "the membrane after its reset", after, ~certain),
    ):
        g, h = getattr(exact, method)(inputs, spikes)
        expected = (SAMPLES, STEPS, INPUTS + len(trained))
        if g.shape != expected or h.shape != spikes.shape:
            raise UnsupportedError(
                f"{name}: {method}: expected g {expected} and h {spikes.shape} for {INPUTS} inputs and "
                f"{len(trained)} trained parameters, got {g.shape} and {h.shape}"
            )
        _fractions(name, method, g)
        _fractions(name, method, h[held])
        states = g @ np.array([*weights, *trained], object) - h
        if wrong := np.argwhere(held & (states != side)).tolist():
            i, t = wrong[0]
            values = ", ".join(f"{p.name} = {getattr(neuron, p.name)}" for p in neuron.parameters())
            raise UnsupportedError(
                f"{name}: {method} disagrees with carry and after_reset: at step {t} g·w - h is "
                f"{float(states[i, t]):g}, but {meant} is {float(side[i, t]):g}; with {values}"
            )
        _check_causal(name, method, exact, inputs, spikes)


def _simulated(exact: Any, drive: Any) -> tuple[Any, Any, BoolArray]:
    """Return membranes, membranes after the reset, and spikes of one unit, each (n, T), in fractions."""
    carry = np.full((len(drive), 1), Fraction(0), object)
    membranes, after = np.empty(drive.shape, object), np.empty(drive.shape, object)
    spikes = np.zeros(drive.shape, bool)
    for t in range(drive.shape[1]):
        membrane, fired, carry = exact.step(drive[:, t, None], carry)
        membranes[:, t], spikes[:, t] = membrane[:, 0], fired[:, 0]
        after[:, t] = exact.after_reset(membrane.copy(), fired)[:, 0]
    return membranes, after, spikes


def _check_causal(name: str, method: str, exact: Any, inputs: Any, spikes: BoolArray) -> None:
    """Change the spikes from some step on; the rows before must stay."""
    g, h = getattr(exact, method)(inputs, spikes)
    for t in range(STEPS):
        changed = spikes.copy()
        changed[:, t:] = ~changed[:, t:]
        other_g, other_h = getattr(exact, method)(inputs, changed)
        end = t if method == "readout_rows" else t + 1  # a row of the readout sees the spike of its own step
        if (g[:, :end] != other_g[:, :end]).any() or (h[:, :end] != other_h[:, :end]).any():
            raise UnsupportedError(f"{name}: {method}: a row before step {end} depends on spikes of step {t}")


def _fractions(name: str, method: str, numbers: Any) -> None:
    for number in np.ravel(numbers).tolist():
        if not isinstance(number, (Fraction, int)):
            raise UnsupportedError(
                f"{name}: {method}: got {number!r} from fractions; a number of its own must be a parameter"
            )
