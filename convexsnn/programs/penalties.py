"""Penalties on the output weights W (P, C): norm, dual norm, and which entries belong together."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from convexsnn.arrays import FloatArray, IntArray
from convexsnn.errors import ShapeError


class Penalty(ABC):
    """A norm ‖W‖ and its dual; the dual constraint of a program is ‖Dᵀu‖_dual <= λ.

    Attributes
    ----------
    entrywise : bool
        Whether it is Σ cost_pc |W_pc|, which linear rows state; any other takes second-order cones.
    separable : bool
        Whether it is a sum over outputs, the same on each.
    uniform : bool
        Whether it is the ℓ1 norm itself, every entry at the cost 1.
    euclidean : bool
        Whether it is the sum of the ℓ2 norms of its `groups`, each at the cost 1.
    """

    name: ClassVar[str]
    entrywise: ClassVar[bool] = False
    separable: ClassVar[bool] = False
    uniform: ClassVar[bool] = False
    euclidean: ClassVar[bool] = False
    formula: ClassVar[str]
    dual_formula: ClassVar[str]

    @abstractmethod
    def value(self, weights: FloatArray) -> float:
        """Return ‖W‖."""

    @abstractmethod
    def dual_norm(self, gradient: FloatArray) -> float:
        """Return the dual norm of Dᵀu, (P, C); 0 where there are no columns."""

    @abstractmethod
    def take(self, columns: IntArray) -> Penalty:
        """Return the penalty on some of the rows of W."""

    def check(self, columns: int) -> None:  # noqa: B027 (a penalty on entries fits any W)
        """Raise a ShapeError if the penalty does not fit W with this many rows."""

    def groups(self, columns: int) -> IntArray | None:
        """Return the group of every row of W, 0..G-1; None where rows do not belong together."""
        return None

    @property
    def merges_columns(self) -> bool:
        """Whether equal columns may be merged without changing the optimum."""
        return True


@dataclass(frozen=True)
class L1(Penalty):
    """Σ |W_pc|."""

    name = "l1"
    entrywise = separable = uniform = True
    formula = "Σ |W_pc|"
    dual_formula = "max |Dᵀu|"

    def value(self, weights: FloatArray) -> float:  # noqa: D102
        return float(np.abs(weights).sum())

    def dual_norm(self, gradient: FloatArray) -> float:  # noqa: D102
        return float(np.abs(gradient).max(initial=0.0))

    def take(self, columns: IntArray) -> L1:  # noqa: D102
        return self


@dataclass(frozen=True, eq=False)
class Group(Penalty):
    """Σ_g ‖W_g‖₂, a group being all entries of the rows of W that carry its index.

    Attributes
    ----------
    index : (P,) int array
        Group of every column of the dictionary, in 0..G-1.
    """

    index: IntArray
    name = "group"
    euclidean = True
    formula = "Σ_g ‖W_g‖₂"
    dual_formula = "max_g ‖(Dᵀu)_g‖₂"

    def check(self, columns: int) -> None:  # noqa: D102
        index = np.asarray(self.index)
        if index.shape != (columns,) or index.dtype.kind not in "iu":
            raise ShapeError(f"index: expected (P={columns},) whole numbers, got {index.dtype} {index.shape}")
        if columns and not np.array_equal(np.unique(index), np.arange(index.max() + 1)):
            raise ShapeError(f"index: expected groups 0..G-1, each with a member, got {np.unique(index)[:8]}")

    def groups(self, columns: int) -> IntArray:  # noqa: D102
        return self.index

    def norms(self, table: FloatArray) -> FloatArray:
        """Return the ℓ2 norm of every group of a (P, C) table."""
        return np.sqrt(np.bincount(self.index, weights=np.sum(table**2, axis=1)))

    def value(self, weights: FloatArray) -> float:  # noqa: D102
        return float(self.norms(weights).sum())

    def dual_norm(self, gradient: FloatArray) -> float:  # noqa: D102
        return float(self.norms(gradient).max(initial=0.0))

    def take(self, columns: IntArray) -> Group:  # noqa: D102
        return Group(np.unique(self.index[columns], return_inverse=True)[1])

    @property
    def merges_columns(self) -> bool:
        """Two equal columns of one larger group are worth more than one: (c/2, c/2) has a smaller norm."""
        return len(np.unique(self.index)) == len(self.index)
