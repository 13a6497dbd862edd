"""Training and test sets from one source of samples, and held-out samples for validation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from convexsnn.arrays import IntArray, whole
from convexsnn.errors import ShapeError


def train_and_test(
    draw: Callable[[int], tuple[np.ndarray, np.ndarray]], train: int, test: int
) -> dict[str, np.ndarray]:
    """Draw `train` samples, then `test` samples from the same random stream.

    Raises
    ------
    ShapeError
        `train` or `test` is not positive.
    """
    whole("train", train)
    whole("test", test)
    (inputs, targets), (test_inputs, test_targets) = draw(train), draw(test)
    return _named(inputs, targets, test_inputs, test_targets)


def split_at(train: int, inputs: np.ndarray, targets: np.ndarray) -> dict[str, np.ndarray]:
    """Return the first `train` samples for training, the others as the test set."""
    return _named(inputs[:train], targets[:train], inputs[train:], targets[train:])


def _named(*arrays: np.ndarray) -> dict[str, np.ndarray]:
    return dict(zip(("inputs", "targets", "test_inputs", "test_targets"), arrays, strict=True))


def held_out_rows(n: int, share: float, seed: int) -> IntArray:
    """Return the sorted indices of a share of n samples, drawn by `seed`; an empty array for a share of 0.

    Raises
    ------
    ShapeError
        A positive share is no sample or all samples.
    """
    count = round(share * n)
    if share and not 0 < count < n:
        raise ShapeError(f"validation: {share:g} of {n} samples is {count}; both parts need at least one")
    return np.sort(np.random.default_rng(seed).permutation(n)[:count])
