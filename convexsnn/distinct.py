"""Distinct rows of a table, and the distinct samples of a data set: equal inputs give equal spikes."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from convexsnn.arrays import FloatArray, IntArray


class DistinctSamples(NamedTuple):
    """The distinct samples of a data set, in order of appearance.

    Attributes
    ----------
    samples : (k, T, d) array
    which : (n,) int array
        For each sample of the data set, the index of its distinct sample.
    """

    samples: FloatArray
    which: IntArray

    @property
    def first(self) -> IntArray:
        """Index of the first occurrence of each distinct sample in the data set, (k,)."""
        return np.unique(self.which, return_index=True)[1]


def distinct_samples(inputs: FloatArray | DistinctSamples) -> DistinctSamples:
    """Return the distinct samples of (n, T, d) inputs; `DistinctSamples` are returned unchanged."""
    if isinstance(inputs, DistinctSamples):
        return inputs
    first, which = unique_rows(inputs.reshape(len(inputs), -1))
    return DistinctSamples(inputs[first], which)


def distinct_rows(inputs: FloatArray | DistinctSamples, supervise: str) -> tuple[FloatArray, IntArray]:
    """Return the distinct samples of (n, T, d) inputs, and each supervised row's index in their rows."""
    samples, which = distinct_samples(inputs)
    steps = samples.shape[1] if supervise == "all" else 1
    return samples, (which[:, None] * steps + np.arange(steps)).ravel()


def unique_rows(table: npt.NDArray[Any]) -> tuple[IntArray, IntArray]:
    """Return the indices of the first of each distinct row, in order of appearance, and the inverse."""
    if table.shape[1] == 0:
        return np.arange(min(1, len(table))), np.zeros(len(table), int)
    flat = np.ascontiguousarray(table)
    void = flat.view(np.dtype((np.void, flat.dtype.itemsize * flat.shape[1]))).ravel()
    _, first, inverse = np.unique(void, return_index=True, return_inverse=True)
    order = np.argsort(first, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return first[order], rank[inverse.ravel()]
