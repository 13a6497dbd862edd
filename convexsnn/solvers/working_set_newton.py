"""Newton models of a smooth loss on some entries of W; a column is unpacked only while it is in use.

At outputs z the second derivative of the loss of row i is c a_i (diag(h_i) − q_i q_i'), where q = 0 unless
outputs are coupled (softmax: h = q = p). On entries (p, o) of W the Gram matrix is

    G[(p, o), (p', o')] = Σ_i c a_i D_ip D_ip' (h_io [o = o'] − q_io q_io').
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from convexsnn.arrays import BoolArray, FloatArray, IntArray
from convexsnn.programs import L1Program

BLOCK = 1 << 23  # largest number of unpacked values at a time
FLAT = 1e-10  # least curvature of a row, relative to the largest


@dataclass(frozen=True, eq=False)
class Entries:
    """Entries of W, output by output; entry k is in ``column[k]`` and ``output[k]``."""

    column: IntArray
    output: IntArray

    @classmethod
    def of(cls, mask: BoolArray) -> Entries:
        """Return the entries where a (P, C) table is True."""
        output, column = np.nonzero(mask.T)
        return cls(column, output)

    def gather(self, table: FloatArray) -> FloatArray:
        """Return these entries of a (P, C) table."""
        return table[self.column, self.output]

    def outputs_of(self, program: L1Program, values: FloatArray) -> FloatArray:
        """Return D W, (R, C), for the W with these values (k,) at these entries and 0 elsewhere."""
        used = values != 0
        columns, place = np.unique(self.column[used], return_inverse=True)
        table = np.zeros((len(columns), program.shape[1]))
        table[place, self.output[used]] = values[used]
        return program.dictionary.select(columns) @ table


def gram(program: L1Program, z: FloatArray, entries: Entries) -> FloatArray:
    """Return G (k, k) at outputs z (R, C)."""
    bend = program.row_scale * program.loss.curvature(z, program.targets)
    bend = np.maximum(bend, FLAT * max(float(bend.max()), float(program.row_scale.max()) * FLAT))
    coupling = program.loss.coupling(z, program.targets)
    columns, place = np.unique(entries.column, return_inverse=True)
    packed, rows = program.dictionary.packed[columns], program.dictionary.rows
    slices = np.searchsorted(entries.output, np.arange(program.shape[1] + 1))
    matrix = np.zeros((len(place), len(place)))
    size = max(8, BLOCK // max(len(columns), 1) // 8 * 8)
    for start in range(0, rows, size):
        stop = min(start + size, rows)
        bits = np.unpackbits(packed[:, start // 8 : -(-stop // 8)], axis=1, count=stop - start)
        x = bits.T.astype(np.float64)
        weighted = np.empty((stop - start, len(place)) if coupling is not None else (0, 0))
        for c in range(program.shape[1]):
            of_output = slice(slices[c], slices[c + 1])
            part = x if len(columns) == of_output.stop - of_output.start else x[:, place[of_output]]
            root = part * np.sqrt(bend[start:stop, [c]])
            matrix[of_output, of_output] += root.T @ root  # symmetric: BLAS computes one half
            if coupling is not None:
                weighted[:, of_output] = part * (np.sqrt(program.row_scale) * coupling)[start:stop, [c]]
        if coupling is not None:
            matrix -= weighted.T @ weighted
    return matrix
