"""Binary matrices with one bit per entry, and the products that programs need."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from convexsnn.arrays import BoolArray, FloatArray, IntArray, plain_array
from convexsnn.bit_kernels import add_columns, column_sums, reversed_by_eights
from convexsnn.distinct import unique_rows
from convexsnn.errors import ShapeError
from convexsnn.threads import in_parts

BLOCK = 1 << 22  # entries unpacked at a time
WORTH = 1 << 23  # entries of a product from which another thread saves time


@dataclass(frozen=True, eq=False)
class PackedBits:
    """An R × P binary matrix, each column packed along its rows.

    Attributes
    ----------
    packed : (P, ceil(R / 8)) uint8 array
        ``numpy.packbits`` of each column; padding bits are zero.
    rows : int
        R.
    """

    packed: npt.NDArray[np.uint8]
    rows: int

    def __post_init__(self) -> None:
        width, packed = -(-self.rows // 8), self.packed
        if packed.dtype != np.uint8 or packed.shape[1:] != (width,):
            raise ShapeError(
                f"packed: expected uint8 (P, {width}) for {self.rows} rows, got {packed.dtype} {packed.shape}"
            )
        object.__setattr__(self, "packed", np.ascontiguousarray(self.packed))  # the layout of the kernels

    @classmethod
    def from_array(cls, array: npt.ArrayLike) -> PackedBits:
        """Pack an (R, P) array of zeros and ones.

        Raises
        ------
        ShapeError
            Not two-dimensional, or an entry other than 0 and 1.
        """
        dense = plain_array("dictionary", array)
        if dense.ndim != 2 or dense.shape[0] == 0:
            raise ShapeError(f"dictionary: expected (R, P), got {dense.shape}")
        if dense.dtype != bool and not np.isin(dense, (0, 1)).all():
            raise ShapeError("dictionary: expected entries 0 and 1 only")
        return cls(np.packbits(dense.astype(bool).T, axis=1), dense.shape[0])

    @property
    def shape(self) -> tuple[int, int]:
        """(R, P)."""
        return self.rows, len(self.packed)

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return int(self.packed.nbytes)

    def select(self, columns: Any) -> PackedBits:
        """Return some of the columns, by a slice, a mask or indices."""
        return PackedBits(self.packed[columns], self.rows)

    def toarray(self, columns: Any = slice(None)) -> BoolArray:
        """Return all or some columns as an (R, k) bool array."""
        return np.unpackbits(self.packed[columns], axis=1, count=self.rows).T.view(bool)

    def counts(self) -> IntArray:
        """Return the number of ones in every column, (P,)."""
        return np.bitwise_count(self.packed).sum(axis=1, dtype=np.int64)

    def __matmul__(self, weights: FloatArray) -> FloatArray:
        """Return D W for W (P,) or (P, C), without unpacking D."""
        if len(weights) != len(self.packed):
            raise ShapeError(f"weights: expected {len(self.packed)} rows, got {weights.shape}")
        columns = int(np.prod(weights.shape[1:]))
        table = np.asarray(weights, dtype=np.float64).reshape(len(self.packed), columns)
        out = np.empty((self.rows, columns))
        for c in range(columns):
            nonzero = np.flatnonzero(table[:, c])  # few, at a sparse point
            sums = np.zeros(8 * self.packed.shape[1])
            work = partial(add_columns, self.packed, nonzero, table[nonzero, c], sums)
            in_parts(work, self.packed.shape[1], len(nonzero) * self.rows, WORTH, 8)
            out[:, c] = reversed_by_eights(sums)[: self.rows]
        return out.reshape(self.rows, *weights.shape[1:])

    def transpose_times(self, rows: FloatArray) -> FloatArray:
        """Return Dᵀ U for U (R,) or (R, C), without unpacking D."""
        if len(rows) != self.rows:
            raise ShapeError(f"rows: expected {self.rows}, got {rows.shape}")
        table = np.asarray(rows, dtype=np.float64).reshape(self.rows, -1)
        out = np.empty((table.shape[1], len(self.packed)))
        for c in range(table.shape[1]):
            padded = np.zeros(8 * self.packed.shape[1])
            padded[: self.rows] = table[:, c]
            work = partial(column_sums, self.packed, reversed_by_eights(padded), out[c])
            in_parts(work, len(self.packed), len(self.packed) * self.rows, WORTH, 4)
        return np.ascontiguousarray(out.T).reshape(len(self.packed), *rows.shape[1:])

    def unique_columns(self) -> tuple[IntArray, IntArray]:
        """Return (first, inverse): indices of the first of each distinct column, in order of appearance."""
        return unique_rows(self.packed)

    def take_rows(self, rows: IntArray) -> PackedBits:
        """Return some of the rows."""
        width = max(1, BLOCK // max(self.rows, 1))
        parts = [slice(k, k + width) for k in range(0, len(self.packed), width)]
        blocks = [np.packbits(self.toarray(part)[rows].T, axis=1) for part in parts]
        empty = np.zeros((0, -(-len(rows) // 8)), np.uint8)
        return PackedBits(np.concatenate(blocks) if blocks else empty, len(rows))

    def row_bytes(self) -> npt.NDArray[np.uint8]:
        """Return the rows, packed along the columns, (R, ceil(P / 8)), for comparisons of rows."""
        blocks = [self.toarray(slice(k, k + 4096)) for k in range(0, len(self.packed), 4096)]
        packed = [np.packbits(b, axis=1) for b in blocks]
        return np.concatenate(packed, axis=1) if packed else np.zeros((self.rows, 0), np.uint8)
