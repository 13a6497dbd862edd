"""Neurons: the dynamics that turn a drive into spikes, and the inequalities that describe these spikes.

Every neuron here has the same form. The drive ``I_t`` is the weighted input of step t. The carry
``c_{t-1}`` is the part of the past that the unit keeps; it is zero before the first step.

    u_t = c_{t-1} + I_t          membrane
    s_t = 1{u_t >= θ}            spike
    c_t = carry(u_t, s_t)        start value of the next step

    LIF, reset "subtract"        c = β (u − θ s)      [U26]: θ is subtracted first, then the leak acts
    LIF, reset "subtract_after"  c = β u − θ s        [P25]: the leak acts first, θ is subtracted after it
    LIF, reset "zero"            c = β u (1 − s)
    LIF, reset "none"            c = β u
    Threshold                    c = 0                [E23]
    RecurrentThreshold           c = ρ s              a trained weight on the unit's own last spike

**If a unit's own spikes are fixed, "fires at (i, t)" is one affine inequality g·w >= h in its weights.**
`affine_rows` returns these g and h. Proofs about a neuron use only `affine_rows`. Simulations use only
`step`. A property test checks that the two agree. All methods take arrays of floats; those of `Neuron.exact`
take arrays of fractions. So exact arithmetic uses the same dynamics.

**A new neuron** is a frozen dataclass, a subclass of `Neuron`, with the decorator `register_neuron`. It has
fields made by `parameter`, and defines `kind`, `dynamics`, `carry`, `after_reset` and `affine_rows`. If a
spike resets the membrane, it also defines `readout_rows` and `certain`. If the kernels of ADMM and gradients
can run it, it defines `kernel_form`. Its numbers belong in parameters, because a float in a method is no
fraction.

References
----------
[E23] Ergen et al., Globally optimal training of neural networks with threshold activations, ICLR 2023.
[U26] Udupi, Yang, Zhai, Globally optimal training of spiking neural networks via parameter
reconstruction, arXiv 2605.08022. [P25] Perin et al., ADMM-based training for SNNs, arXiv 2505.05527.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from convexsnn.arrays import BoolArray, FloatArray
from convexsnn.networks.neuron import NEURONS, RESETS, LeakyForm, Neuron, joined, last_spikes, own_neuron
from convexsnn.networks.parameters import GRID, TRAINED, PerUnit, parameter

__all__ = ["LIF", "NEURONS", "RESETS", "LeakyForm", "Neuron", "RecurrentThreshold", "Threshold", "joined"]


@own_neuron
@dataclass(frozen=True, eq=False)
class LIF(Neuron):
    """Leaky integrate-and-fire neuron.

    Parameters
    ----------
    threshold : float
        θ > 0, in units of the membrane.
    leak : float or (m,) array
        β in [0, 1], per step.
    reset : {"subtract", "subtract_after", "zero", "none"}
    """

    threshold: float = parameter("θ", "membrane at which a unit fires", 1.0, above=0)
    leak: PerUnit = parameter("β", "share of the membrane that a step keeps", 0.9, of=GRID, least=0, most=1)
    reset: str = parameter("", "what a spike does to the membrane", "subtract", choices=RESETS)
    kind: ClassVar[str] = "lif"

    @property
    def dynamics(self) -> str:  # noqa: D102
        return {
            "subtract": "u_t = β (u_(t-1) - θ s_(t-1)) + I_t",
            "subtract_after": "u_t = β u_(t-1) - θ s_(t-1) + I_t",
            "zero": "u_t = β u_(t-1) (1 - s_(t-1)) + I_t",
            "none": "u_t = β u_(t-1) + I_t",
        }[self.reset]

    def carry(self, membrane: FloatArray, spikes: BoolArray) -> FloatArray:  # noqa: D102
        if self.reset == "subtract_after":
            return self.leak * membrane - spikes * membrane.dtype.type(self.threshold)
        after = self.after_reset(membrane, spikes)
        return np.multiply(after, self.leak, out=None if after is membrane else after)

    def after_reset(self, membrane: FloatArray, spikes: BoolArray) -> FloatArray:  # noqa: D102
        if self.reset == "none":
            return membrane
        if self.reset == "zero":
            return membrane * ~spikes
        reset = spikes * membrane.dtype.type(self.threshold)
        return np.subtract(membrane, reset, out=reset)

    def _subtraction(self) -> PerUnit:
        """Return the amount that a spike subtracts from the next membrane; not for a reset to zero."""
        return {"subtract": self.leak * self.threshold, "subtract_after": self.threshold}.get(self.reset, 0)

    def affine_rows(self, inputs: FloatArray, spikes: BoolArray) -> tuple[FloatArray, FloatArray]:  # noqa: D102
        g, h = self.first_rows(inputs, spikes)
        subtraction = self._subtraction()
        for t in range(1, g.shape[1]):
            before = spikes[:, t - 1]
            carried = self.leak * g[:, t - 1]
            g[:, t] += carried * ~before[:, None] if self.reset == "zero" else carried
            h[:, t] += self.leak * (h[:, t - 1] - self.threshold) + subtraction * before
        return g, h

    def readout_rows(self, inputs: FloatArray, spikes: BoolArray) -> tuple[FloatArray, FloatArray]:  # noqa: D102
        g, h = self.affine_rows(inputs, spikes)
        if self.reset == "zero":  # v = 0 >= 0 after a spike, for all weights
            return g * ~spikes[..., None], np.where(spikes, -np.inf, h - self.threshold)
        reset = 0 if self.reset == "none" else self.threshold
        return g, h - self.threshold + reset * spikes

    def certain(self, spikes: BoolArray) -> BoolArray:  # noqa: D102
        return spikes if self.reset == "zero" else super().certain(spikes)

    def kernel_form(self) -> LeakyForm:  # noqa: D102
        return LeakyForm(self.leak, self.reset, None if self.reset == "zero" else self._subtraction())


@own_neuron
@dataclass(frozen=True, eq=False)
class Threshold(Neuron):
    """Feed-forward threshold unit s = 1{w·x + b >= θ}, without memory ([E23])."""

    kind: ClassVar[str] = "threshold"

    @property
    def dynamics(self) -> str:  # noqa: D102
        return "u_t = I_t"

    def carry(self, membrane: FloatArray, spikes: BoolArray) -> FloatArray | float:  # noqa: D102
        return 0

    def after_reset(self, membrane: FloatArray, spikes: BoolArray) -> FloatArray:  # noqa: D102
        return membrane

    def affine_rows(self, inputs: FloatArray, spikes: BoolArray) -> tuple[FloatArray, FloatArray]:  # noqa: D102
        return self.first_rows(inputs, spikes)

    def kernel_form(self) -> LeakyForm:  # noqa: D102
        return LeakyForm(None, "none", 0.0)


@own_neuron
@dataclass(frozen=True, eq=False)
class RecurrentThreshold(Threshold):
    """Threshold unit that sees its own last spike: s_t = 1{w·x_t + ρ s_{t-1} + b >= θ} ([U26]).

    Parameters
    ----------
    threshold : float
    own_weight : float or (m,) array
        ρ, a trained weight, one per unit.
    """

    own_weight: PerUnit = parameter(
        "ρ", "weight on the unit's own last spike", 0.0, of=TRAINED, multiplies="own last spike"
    )
    kind: ClassVar[str] = "recurrent_threshold"
    sees_own_spike: ClassVar[bool] = True

    @property
    def dynamics(self) -> str:  # noqa: D102
        return "u_t = I_t + ρ s_(t-1)"

    def carry(self, membrane: FloatArray, spikes: BoolArray) -> FloatArray:  # noqa: D102
        return (self.own_weight * spikes).astype(membrane.dtype)

    def affine_rows(self, inputs: FloatArray, spikes: BoolArray) -> tuple[FloatArray, FloatArray]:  # noqa: D102
        g, h = self.first_rows(inputs, spikes)
        return np.concatenate([g, last_spikes(spikes)[..., None].astype(g.dtype)], axis=2), h

    def kernel_form(self) -> LeakyForm:  # noqa: D102
        return LeakyForm(None, "none", 0.0, self.own_weight)
