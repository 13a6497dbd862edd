"""Readouts: the features of the last hidden layer that the output weights see.

    spike             φ_t = s_t
    membrane          φ_t = 1{v_t >= 0}, v the membrane after its reset
    rate              φ_t = (s_1 + ... + s_t) / t
    output_membrane   φ_t = β_out φ_{t-1} + s_t, φ_0 = 0: leaky output units without spikes

All except "membrane" are a linear filter of the spikes, φ_t = c_t Σ_τ β^{t−τ} s_τ. Here β is 0, 1 or β_out,
and c_t is 1, or 1/t for the mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from convexsnn.arrays import BoolArray, FloatArray, choice
from convexsnn.networks.neuron import Neuron


@dataclass(frozen=True)
class Readout:
    """One readout.

    Attributes
    ----------
    bits : bool
        Whether its features are bits, which a dictionary can hold.
    of_membrane : bool
        Whether it sees the sign of the membrane, which is a separate decision from the spike.
    leak : float or None
        β of its filter of spikes; None for the network's β_out.
    mean : bool
        Whether the sum is divided by the number of steps so far.
    """

    name: str
    bits: bool = False
    of_membrane: bool = False
    leak: float | None = 0.0
    mean: bool = False

    def filter_leak(self, output_leak: float) -> float:
        """Return β of the filter; `output_leak` is the network's β_out."""
        return output_leak if self.leak is None else self.leak

    def scale(self, steps: int) -> float:
        """Return c_T, the factor of the filter's sum over T steps."""
        return 1.0 / steps if self.mean else 1.0

    def kernel(self, steps: int, output_leak: float) -> FloatArray:
        """Return the weights k (T,) of the steps in the output at the last one: φ_T = Σ_t k_t s_t.

        Raises
        ------
        ShapeError
            The readout does not depend on spikes alone.
        """
        choice("readout", self.name, tuple(name for name, entry in READOUTS.items() if not entry.of_membrane))
        return self.scale(steps) * np.power(self.filter_leak(output_leak), np.arange(steps - 1, -1, -1.0))

    def seen(self, neuron: Neuron, membranes: FloatArray | None, spikes: BoolArray) -> BoolArray:
        """Return the bits that the readout sees at every step, (n, T, m)."""
        if not self.of_membrane:
            return spikes
        assert membranes is not None
        return neuron.after_reset(membranes, spikes) >= 0

    def filtered(
        self, spikes: BoolArray, output_leak: float, every: bool, dtype: npt.DTypeLike = np.float64
    ) -> FloatArray:
        """Return φ of spikes (n, T, m): (n, m) of the last step, or (n, T, m) of every step."""
        n, steps, m = spikes.shape
        leak = self.filter_leak(output_leak)
        features = np.empty((n, steps, m) if every else (n, m), dtype)
        total = np.zeros((n, m), dtype)
        for t in range(steps):
            total *= leak
            total += spikes[:, t]
            if every:
                features[:, t] = total / (t + 1) if self.mean else total
        if not every:
            features[:] = total / steps if self.mean else total
        return features


READOUTS: dict[str, Readout] = {
    readout.name: readout
    for readout in (
        Readout("spike", bits=True),
        Readout("membrane", bits=True, of_membrane=True),
        Readout("rate", leak=1.0, mean=True),
        Readout("output_membrane", leak=None),
    )
}
FILTERED = tuple(name for name, readout in READOUTS.items() if not readout.bits)


def readout_of(name: Any) -> Readout:
    """Return the readout of a name.

    Raises
    ------
    ShapeError
        No readout has this name.
    """
    choice("readout", name, tuple(READOUTS))
    return READOUTS[name]
