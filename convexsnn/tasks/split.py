"""Training and test set from one source of samples, and samples held out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from convexsnn.arrays import IntArray, whole
from convexsnn.errors import ShapeError


def train_and_test(
    draw: Callable[[int], tuple[np.ndarray, np.ndarray]], train: int, test: int
) -> dict[str, np.ndarray]:
    """Draw `train` samples, then `test` more from the same stream.

    Raises
    ------
    ShapeError
        train or test not positive.
    """
    whole("train", train)
    whole("test", test)
    inputs, targets = draw(train)
    test_inputs, test_targets = draw(test)
    return {
        "inputs": inputs,
        "targets": targets,
        "test_inputs": test_inputs,
        "test_targets": test_targets,
    }


def held_out_rows(n: int, share: float, seed: int) -> IntArray:
    """Return the sorted indices of a share of n samples, drawn by `seed`; none for a share of 0.

    Raises
    ------
    ShapeError
        A positive share that is no sample or all.
    """
    held = round(share * n)
    if share and not 0 < held < n:
        raise ShapeError(f"validation: {share:g} of {n} samples is {held}; both parts need one at least")
    return np.sort(np.random.default_rng(seed).permutation(n)[:held])
