"""A check of every spike of a network in rational arithmetic, without rounding."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from convexsnn.arrays import BoolArray, FloatArray
from convexsnn.distinct import DistinctSamples, distinct_samples
from convexsnn.errors import VerificationError
from convexsnn.networks import READOUTS, Network
from convexsnn.pricing.rational import exact_spikes
from convexsnn.simulate import simulate


def check_spikes_exactly(network: Network, inputs: FloatArray | DistinctSamples, margin: float) -> Fraction:
    """Compare each spike and readout of the simulator with exact arithmetic; return the exact margin.

    Inputs, weights and parameters are the binary fractions of their stored values.

    Raises
    ------
    VerificationError
        A spike or readout differs (the message names layer, sample, step and unit), or the distance of a
        membrane from its threshold is below `margin`.
    """
    samples, _ = distinct_samples(inputs)
    trace = simulate(network, samples)
    reads_membrane = READOUTS[network.readout].of_membrane
    signal: FloatArray | BoolArray = samples
    closest: Fraction | None = None
    for k, (layer, spikes) in enumerate(zip(network.layers, trace.spikes, strict=True), start=1):
        exact = exact_spikes(layer, signal, reads_membrane and k == len(network.layers))
        _same(f"layer {k}", spikes, exact.spikes)
        closest = min([*exact.closest, *([] if closest is None else [closest])])
        signal = exact.spikes
    if reads_membrane:
        readout = exact.membrane if network.supervise == "all" else exact.membrane[:, -1:]
        _same("readout", trace.features.reshape(readout.shape), readout)
    assert closest is not None
    if closest < Fraction(margin) * (1 - Fraction(1, 10**6)):  # the accuracy of the stated margin
        raise VerificationError(f"margin: {float(closest):.9g} exactly, the definition asks {margin:g}")
    return closest


def _same(name: str, simulated: BoolArray, exact: BoolArray) -> None:
    wrong = simulated != exact
    if wrong.any():
        sample, step, unit = (int(i) for i in np.argwhere(wrong)[0])
        raise VerificationError(
            f"{name}: sample {sample}, step {step}, unit {unit} is {int(exact[sample, step, unit])} in exact "
            f"arithmetic, {int(simulated[sample, step, unit])} in the simulator"
        )
