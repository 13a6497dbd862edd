"""Training and test set from one source of samples."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from convexsnn.arrays import whole


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
