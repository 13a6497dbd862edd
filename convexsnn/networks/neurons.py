"""Neurons: how a unit turns its drive into spikes, and the inequalities that say so.

Every neuron here has one shape. With drive ``I_t`` (the weighted inputs of step t) and a carry
``c_{t-1}`` (what the unit keeps from the past, zero before the first step)

    u_t = c_{t-1} + I_t          membrane
    s_t = 1{u_t >= θ}            spike
    c_t = carry(u_t, s_t)        what the next step starts from

    LIF, reset "subtract"        c = β (u − θ s)      [U26]: θ is subtracted at once, then the leak acts
    LIF, reset "subtract_after"  c = β u − θ s        [P25]: the leak acts first, θ is subtracted after it
    LIF, reset "zero"            c = β u (1 − s)
    LIF, reset "none"            c = β u
    Threshold                    c = 0                [E23]
    RecurrentThreshold           c = ρ s              a trained weight on the unit's own last spike

**Fix a unit's own spikes and "fires at (i, t)" is one affine inequality g·w >= h in its weights.**
`affine_rows` returns those g and h; everything that proves something about a neuron uses only them,
everything that runs a neuron uses only `step`, and a property test holds the two together.

References
----------
[E23] Ergen et al., Globally optimal training of neural networks with threshold activations, ICLR 2023.
[U26] Udupi, Yang, Zhai, Globally optimal training of spiking neural networks via parameter
reconstruction, arXiv 2605.08022. [P25] Perin et al., ADMM-based training for SNNs, arXiv 2505.05527.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from convexsnn.arrays import BoolArray, FloatArray, positive
from convexsnn.errors import ShapeError

RESETS = ("subtract", "subtract_after", "zero", "none")

PerUnit = float | FloatArray


def _per_unit(name: str, value: Any) -> PerUnit:
    raw = np.array(value)  # a copy: what was checked here must not change later
    if raw.dtype.kind not in "iuf":
        raise ShapeError(f"{name}: expected a finite number or one a unit, got {value!r}")
    array = raw.astype(np.float64)
    if array.ndim > 1 or array.size == 0 or not np.isfinite(array).all():
        raise ShapeError(f"{name}: expected a finite number or one a unit, got {value!r}")
    return float(array) if array.ndim == 0 else array


def _pick(value: PerUnit, units: Any) -> PerUnit:
    return value if isinstance(value, float) else _per_unit("units", value[units])


def _cast(value: PerUnit, dtype: npt.DTypeLike) -> PerUnit:
    return value if isinstance(value, float) else value.astype(dtype)


@dataclass(frozen=True, eq=False)
class Neuron(ABC):
    """What the units of one layer have in common; parameters are shared or one a unit."""

    threshold: float = 0.0
    kind: ClassVar[str]
    has_own_weight: ClassVar[bool] = False

    @abstractmethod
    def carry(self, membrane: FloatArray, spikes: BoolArray) -> FloatArray | float:
        """Return what a step leaves to the next one, (n, m)."""

    def step(
        self, drive: FloatArray, carry: FloatArray | float, out: FloatArray | None = None
    ) -> tuple[FloatArray, BoolArray, FloatArray | float]:
        """Run one step.

        Parameters
        ----------
        drive : (n, m) array
            Weighted inputs of this step, bias included.
        carry : (n, m) array, or 0 before the first step
        out : (n, m) array, optional
            Where to write the membrane, as in numpy; may be `drive` itself.

        Returns
        -------
        membrane, spikes, carry : (n, m) arrays
        """
        membrane = np.add(carry, drive, out=out)
        spikes = membrane >= self.threshold
        return membrane, spikes, self.carry(membrane, spikes)

    @abstractmethod
    def after_reset(self, membrane: FloatArray, spikes: BoolArray) -> FloatArray:
        """Return the membrane v after its reset, the quantity of the membrane readout 1{v >= 0}."""

    @abstractmethod
    def affine_rows(self, inputs: FloatArray, spikes: BoolArray) -> tuple[FloatArray, FloatArray]:
        """Return g (n, T, d') and h (n, T): given `spikes`, the unit fires at (i, t) iff g·w >= h.

        Parameters
        ----------
        inputs : (n, T, d) array
            All inputs of the unit: the layer's, a column of ones for a bias, neighbours' last spikes.
        spikes : (n, T) bool array
            The unit's own spikes; row (i, t) depends on those before t alone.

        Notes
        -----
        d' is d, plus one for a unit with a weight of its own (`has_own_weight`), which comes last.
        """

    def readout_rows(self, inputs: FloatArray, spikes: BoolArray) -> tuple[FloatArray, FloatArray]:
        """Return g, h as `affine_rows` for the event v_t >= 0 of the membrane readout."""
        g, h = self.affine_rows(inputs, spikes)
        return g, h - self.threshold

    def unit(self, units: Any) -> Neuron:
        """Return the same neuron for some of the units: an index, a slice or an array of indices."""
        return self

    def astype(self, dtype: npt.DTypeLike) -> Neuron:
        """Return the same neuron with per-unit parameters of another floating-point type."""
        return self


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

    threshold: float = 1.0
    leak: PerUnit = 0.9
    reset: str = "subtract"
    kind: ClassVar[str] = "lif"

    def __post_init__(self) -> None:
        object.__setattr__(self, "threshold", positive("threshold", self.threshold))
        object.__setattr__(self, "leak", _per_unit("leak", self.leak))
        if np.min(self.leak) < 0 or np.max(self.leak) > 1:
            raise ShapeError(f"leak: expected values in [0, 1], got {self.leak}")
        if self.reset not in RESETS:
            raise ShapeError(f"reset: expected one of {', '.join(RESETS)}, got {self.reset!r}")

    def carry(self, membrane: FloatArray, spikes: BoolArray) -> FloatArray:  # noqa: D102
        if self.reset == "subtract_after":
            return self.leak * membrane - spikes * membrane.dtype.type(self.threshold)
        kept = self.after_reset(membrane, spikes)
        return np.multiply(kept, self.leak, out=None if kept is membrane else kept)

    def after_reset(self, membrane: FloatArray, spikes: BoolArray) -> FloatArray:  # noqa: D102
        if self.reset == "none":
            return membrane
        if self.reset == "zero":
            return membrane * ~spikes
        removed = spikes * membrane.dtype.type(self.threshold)
        return np.subtract(membrane, removed, out=removed)

    def affine_rows(  # noqa: D102
        self, inputs: FloatArray, spikes: BoolArray
    ) -> tuple[FloatArray, FloatArray]:
        if not isinstance(self.leak, float):
            raise ShapeError(
                f"leak: affine_rows is for one unit, got {self.leak.shape[0]} leaks; use unit(j)"
            )
        g = np.array(inputs, dtype=np.float64)
        h = np.full(spikes.shape, self.threshold)
        removed = {
            "subtract": self.leak * self.threshold,
            "subtract_after": self.threshold,
            "zero": 0.0,
            "none": 0.0,
        }[self.reset]
        for t in range(1, g.shape[1]):
            fired = spikes[:, t - 1]
            kept = ~fired[:, None] if self.reset == "zero" else 1.0
            g[:, t] += self.leak * g[:, t - 1] * kept
            h[:, t] += self.leak * (h[:, t - 1] - self.threshold) + removed * fired
        return g, h

    def readout_rows(  # noqa: D102
        self, inputs: FloatArray, spikes: BoolArray
    ) -> tuple[FloatArray, FloatArray]:
        g, h = self.affine_rows(inputs, spikes)
        if self.reset == "zero":  # v = 0 >= 0 after a spike, whatever the weights
            return g * ~spikes[..., None], np.where(spikes, -np.inf, h - self.threshold)
        subtracted = 0.0 if self.reset == "none" else self.threshold
        return g, h - self.threshold + subtracted * spikes

    def unit(self, units: Any) -> LIF:  # noqa: D102
        return replace(self, leak=_pick(self.leak, units))

    def astype(self, dtype: npt.DTypeLike) -> LIF:  # noqa: D102
        cast = replace(self)
        object.__setattr__(cast, "leak", _cast(self.leak, dtype))
        return cast


@dataclass(frozen=True, eq=False)
class Threshold(Neuron):
    """Feed-forward threshold unit s = 1{w·x + b >= θ}, without memory ([E23])."""

    kind: ClassVar[str] = "threshold"

    def __post_init__(self) -> None:
        object.__setattr__(self, "threshold", float(_per_unit("threshold", self.threshold)))

    def carry(self, membrane: FloatArray, spikes: BoolArray) -> float:  # noqa: D102
        return 0.0

    def after_reset(self, membrane: FloatArray, spikes: BoolArray) -> FloatArray:  # noqa: D102
        return membrane

    def affine_rows(  # noqa: D102
        self, inputs: FloatArray, spikes: BoolArray
    ) -> tuple[FloatArray, FloatArray]:
        return np.array(inputs, dtype=np.float64), np.full(spikes.shape, self.threshold)


@dataclass(frozen=True, eq=False)
class RecurrentThreshold(Threshold):
    """Threshold unit that sees its own last spike: s_t = 1{w·x_t + ρ s_{t-1} + b >= θ} ([U26]).

    Parameters
    ----------
    threshold : float
    own_weight : float or (m,) array
        ρ, a trained weight, one a unit.
    """

    own_weight: PerUnit = field(default=0.0)
    kind: ClassVar[str] = "recurrent_threshold"
    has_own_weight: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "own_weight", _per_unit("own_weight", self.own_weight))

    def carry(self, membrane: FloatArray, spikes: BoolArray) -> FloatArray:  # type: ignore[override] # noqa: D102
        return (self.own_weight * spikes).astype(membrane.dtype)

    def affine_rows(  # noqa: D102
        self, inputs: FloatArray, spikes: BoolArray
    ) -> tuple[FloatArray, FloatArray]:
        g, h = super().affine_rows(inputs, spikes)
        own = np.zeros((*spikes.shape, 1))
        own[:, 1:, 0] = spikes[:, :-1]
        return np.concatenate([g, own], axis=2), h

    def unit(self, units: Any) -> RecurrentThreshold:  # noqa: D102
        return replace(self, own_weight=_pick(self.own_weight, units))

    def astype(self, dtype: npt.DTypeLike) -> RecurrentThreshold:  # noqa: D102
        cast = replace(self)
        object.__setattr__(cast, "own_weight", _cast(self.own_weight, dtype))
        return cast


NEURONS: dict[str, type[Neuron]] = {cls.kind: cls for cls in (LIF, Threshold, RecurrentThreshold)}
