"""Regular languages: strings with one label, or with one label at every step."""

from __future__ import annotations

import numpy as np

from convexsnn.arrays import whole
from convexsnn.errors import ShapeError
from convexsnn.tasks.train_test import split_at, train_and_test


def first_last_xor(length: int, train: int = 2000, test: int = 4000, seed: int = 0) -> dict[str, np.ndarray]:
    """Binary strings labelled by first bit XOR last bit ([U26]); the classes are balanced.

    Returns
    -------
    dict
        inputs (train, length, 2): one-hot bits; targets (train,) in {-1, +1}; the same for test.

    Raises
    ------
    ShapeError
        length < 2, or `train` or `test` is not positive.
    """
    whole("length", length, least=2)
    whole("seed", seed, least=0)
    rng = np.random.default_rng(seed)

    def draw(n: int) -> tuple[np.ndarray, np.ndarray]:
        labels = np.where(np.arange(n) % 2 == 0, 1.0, -1.0)
        bits = rng.integers(0, 2, (n, length))
        bits[:, -1] = bits[:, 0] ^ (labels > 0)
        order = rng.permutation(n)
        return np.eye(2)[bits[order]], labels[order]

    return train_and_test(draw, train, test)


def parity(length: int, train: int, test: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Distinct binary strings; the label of every step is the parity of the bits so far.

    Returns
    -------
    dict
        inputs (train, length, 2): one-hot bits; targets (train, length): +1 after an odd number of ones,
        else -1; the same for test.

    Raises
    ------
    ShapeError
        `length` is not in 1..20, `train` or `test` is not positive, or there are too few strings.
    """
    whole("length", length, most=20)
    whole("train", train)
    whole("test", test)
    whole("seed", seed, least=0)
    if train + test > 2**length:
        raise ShapeError(f"train: {train} training and {test} test strings, length {length} has {2**length}")
    words = np.random.default_rng(seed).permutation(2**length)[: train + test]
    bits = words[:, None] >> np.arange(length) & 1
    inputs, targets = np.eye(2)[bits], np.where(np.cumsum(bits, axis=1) % 2 == 1, 1.0, -1.0)
    return split_at(train, inputs, targets)
