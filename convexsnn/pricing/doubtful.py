"""Spikes within rounding of a threshold, decided in rational arithmetic.

A pattern of the definition is what exact arithmetic allows; the simulator runs in floats. Far from the
thresholds the two agree: the distance is above any rounding. Near them, fractions decide.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from convexsnn.arrays import BoolArray, FloatArray, IntArray
from convexsnn.dictionary.dictionary import Definition
from convexsnn.errors import VerificationError
from convexsnn.networks import READOUTS, Layer, Network, Subnetwork
from convexsnn.pricing.rational import exact_spikes
from convexsnn.simulate import Trace, simulate

ROUNDING = 1e-12  # of the largest sum in a membrane: far above the rounding of its float


def check_doubtful_spikes(network: Network, trace: Trace) -> None:
    """Decide the spikes and readouts within rounding of a threshold in exact arithmetic.

    Raises
    ------
    VerificationError
        The simulator's spike or readout is not the exact one; the message names layer, sample, step and unit.
    """
    reads_membrane = READOUTS[network.readout].of_membrane
    signals: tuple[FloatArray | BoolArray, ...] = (trace.inputs, *trace.spikes[:-1])
    layers = zip(network.layers, signals, trace.spikes, trace.membranes, strict=True)
    for k, (layer, signal, spikes, membranes) in enumerate(layers, start=1):
        level = rounding_of(layer, signal)
        steps = np.arange(spikes.shape[1])
        doubtful = ~(np.abs(membranes - layer.neuron.threshold) > level)
        read = reads_membrane and k == len(network.layers)
        after = layer.neuron.after_reset(membranes.copy(), spikes) if read else None
        if after is not None:
            doubtful |= ~(np.abs(after) > level) & ~layer.neuron.certain(spikes)
        rows, units = np.flatnonzero(doubtful.any(axis=(1, 2))), np.flatnonzero(doubtful.any(axis=(0, 1)))
        if not len(rows):
            continue
        if layer.recurrent is not None:  # the spikes of a unit depend on those of all
            units = np.arange(layer.units)
        part = layer if layer.recurrent is not None else layer.select(units)
        exact = exact_spikes(part, signal[rows], read)
        same_bits(f"layer {k}", spikes[np.ix_(rows, steps, units)], exact.spikes, rows, units)
        if after is not None:
            bits = after[np.ix_(rows, steps, units)] >= 0
            same_bits("readout", bits, exact.membrane, rows, units)


def check_doubtful_witness(
    subnetwork: Subnetwork, unit: int, inputs: FloatArray, definition: Definition
) -> None:
    """Decide the bits of one last unit that are within rounding of a threshold in exact arithmetic.

    Raises
    ------
    VerificationError
        A bit that the unit depends on is not the exact one.
    """
    *below, last = subnetwork.layers
    last = last if last.recurrent is not None else last.select([unit])
    weights = np.zeros((last.units, 1))
    network = Network((*below, last), weights, definition.readout, definition.supervise)
    check_doubtful_spikes(network, simulate(network, inputs))


def rounding_of(layer: Layer, signal: FloatArray | BoolArray) -> float:
    """Return a distance far above the rounding in the membranes of a layer."""
    seen = float(np.abs(signal).max(initial=0)) if signal.dtype.kind == "f" else 1.0
    rows, inputs = np.abs(layer.unit_weights()), layer.weights.shape[1]
    sums = seen * rows[:, :inputs].sum(axis=1) + rows[:, inputs:].sum(axis=1)  # then bias and last spikes
    return ROUNDING * signal.shape[1] * (float(sums.max()) + abs(layer.neuron.threshold))


def same_bits(
    name: str, simulated: BoolArray, exact: BoolArray, rows: IntArray | None = None, units: Any = None
) -> None:
    """Compare spikes (n, T, m) of some samples and units; by default of all."""
    wrong = simulated != exact
    if wrong.any():
        sample, step, unit = place = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise VerificationError(
            f"{name}: sample {sample if rows is None else rows[sample]}, step {step}, "
            f"unit {unit if units is None else units[unit]} is {int(exact[place])} in exact "
            f"arithmetic, {int(simulated[place])} in the simulator"
        )
