"""Surrogates: slopes that replace the derivative of the spike 1{x >= 0}, with x = u − θ.

Each is a density of area 1 with a width w, φ'(x) = g(x/w)/w, and has an integral φ. With φ in place of the
spike the network is smooth, and the surrogate gradient is its exact gradient.

    fast_sigmoid   g(x) = ½ / (1 + |x|)²                   [Z18]
    arctangent     g(x) = 1 / (1 + (π x)²)                 [F21]
    gaussian       g(x) = exp(−x²/2) / √(2π)
    triangle       g(x) = (1 − |x|)₊                       [B18]
    rectangle      g(x) = 1 for |x| <= ½, else 0           [W18]

[Z18] Zenke & Ganguli, SuperSpike, 2018. [F21] Fang et al., 2021. [B18] Bellec et al., 2018. [W18] Wu et al.,
Spatio-temporal backpropagation, 2018.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from convexsnn.arrays import choice, positive
from convexsnn.errors import ShapeError
from convexsnn.fields import keys_of
from convexsnn.problem.specs import GradientSpec

SMALLEST, LARGEST = 1e-15, 1e9
SHAPES = tuple(keys_of(GradientSpec)["surrogate"].choices)


@dataclass(frozen=True)
class Surrogate:
    """A shape and its width w, in units of the membrane.

    Raises
    ------
    ShapeError
        Unknown shape, or a width outside [1e-15, 1e9], the range that single precision allows.
    """

    shape: str = "arctangent"
    width: float = 1.0

    def __post_init__(self) -> None:
        choice("surrogate", self.shape, SHAPES)
        if not SMALLEST <= positive("width", self.width) <= LARGEST:
            raise ShapeError(f"width: expected a number in [{SMALLEST:g}, {LARGEST:g}], got {self.width:g}")

    @property
    def code(self) -> int:
        """The number of the shape, for kernels."""
        return SHAPES.index(self.shape)

    def slope(self, distance: Tensor) -> Tensor:
        """Return φ'(u − θ) for every entry of `distance` = u − θ."""
        x = distance / self.width
        match self.shape:
            case "fast_sigmoid":
                g = 0.5 / (1.0 + x.abs()) ** 2
            case "arctangent":
                g = 1.0 / (1.0 + (math.pi * x) ** 2)
            case "gaussian":
                g = torch.exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi)
            case "triangle":
                g = (1.0 - x.abs()).clamp(min=0.0)
            case _:
                g = (x.abs() <= 0.5).to(x.dtype)
        return g / self.width

    def integral(self, distance: Tensor) -> Tensor:
        """Return φ(u − θ), which rises from 0 to 1, for every entry of `distance` = u − θ."""
        x = distance / self.width
        match self.shape:
            case "fast_sigmoid":
                return 0.5 + 0.5 * x / (1.0 + x.abs())
            case "arctangent":
                return 0.5 + torch.atan(math.pi * x) / math.pi
            case "gaussian":
                return 0.5 + 0.5 * torch.erf(x / math.sqrt(2.0))
            case "triangle":
                inside = x.clamp(-1.0, 1.0)
                return 0.5 + inside - 0.5 * inside * inside.abs()
            case _:
                return (0.5 + x).clamp(0.0, 1.0)
