"""Addition of two numbers, digit by digit, in any base ([U26])."""

from __future__ import annotations

import numpy as np

from convexsnn.arrays import whole
from convexsnn.tasks.train_test import train_and_test


def addition_rows(base: int) -> dict[str, np.ndarray]:
    """Every possible input row of `addition`, once: (a, b, carry in) / (base - 1), with a single step.

    Returns
    -------
    dict
        inputs (2 base², 1, 3); targets (2 base², 2): the digit of the sum and the carry out.

    Raises
    ------
    ShapeError
        base < 2.
    """
    whole("base", base, least=2)
    terms = np.stack(np.meshgrid(range(base), range(base), range(2), indexing="ij"), axis=-1).reshape(-1, 3)
    total = terms.sum(axis=1)
    targets = np.column_stack([total % base, total // base])
    return {"inputs": terms[:, None, :] / (base - 1), "targets": targets}


def addition(
    base: int, digits: int = 5, train: int = 1000, test: int = 1000, seed: int = 0
) -> dict[str, np.ndarray]:
    """Two random numbers, the least significant digit first; two labels at every step.

    The input of step t is (a_t, b_t, carry_in) / (base - 1). T = digits + 1; the last step is (0, 0, carry).

    Returns
    -------
    dict
        inputs (train, T, 3); targets (train, T, 2): the digit of the sum, in 0..base-1, and the
        carry out, in 0..1; the same for test.

    Raises
    ------
    ShapeError
        base < 2, or `digits`, `train` or `test` is not positive.
    """
    whole("base", base, least=2)
    whole("digits", digits)
    whole("seed", seed, least=0)
    rng = np.random.default_rng(seed)

    def draw(n: int) -> tuple[np.ndarray, np.ndarray]:
        terms = np.zeros((n, digits + 1, 2), dtype=np.int64)
        terms[:, :digits] = rng.integers(0, base, (n, digits, 2))
        carry = np.zeros(n, dtype=np.int64)
        inputs, targets = np.zeros((n, digits + 1, 3)), np.zeros((n, digits + 1, 2), dtype=np.int64)
        for t in range(digits + 1):
            total = terms[:, t].sum(axis=1) + carry
            inputs[:, t] = np.column_stack([terms[:, t], carry]) / (base - 1)
            carry = total // base
            targets[:, t] = np.column_stack([total % base, carry])
        return inputs, targets

    return train_and_test(draw, train, test)
