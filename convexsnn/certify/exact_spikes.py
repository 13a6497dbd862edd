"""A check of a network's spikes in rational arithmetic, without rounding.

A pattern of the definition is what exact arithmetic allows; the simulator runs in floats. A network is
covered by a claim only if the two agree. Far from the thresholds they do: the distance is above any rounding.
"""

from __future__ import annotations

from fractions import Fraction

from convexsnn.arrays import BoolArray, FloatArray
from convexsnn.distinct import DistinctSamples, distinct_samples
from convexsnn.errors import VerificationError
from convexsnn.networks import READOUTS, Network
from convexsnn.pricing.doubtful import same_bits
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
        same_bits(f"layer {k}", spikes, exact.spikes)
        closest = min([*exact.closest, *([] if closest is None else [closest])])
        signal = exact.spikes
    if reads_membrane:
        readout = exact.membrane if network.supervise == "all" else exact.membrane[:, -1:]
        same_bits("readout", trace.features.reshape(readout.shape), readout)
    assert closest is not None
    if closest < Fraction(margin) * (1 - Fraction(1, 10**6)):  # the accuracy of the stated margin
        raise VerificationError(f"margin: {float(closest):.9g} exactly, the definition asks {margin:g}")
    return closest
