"""A small problem of every loss for tests of λ paths."""

import numpy as np

from convexsnn.problem import Problem

RNG = np.random.default_rng(3)
INPUTS = RNG.normal(size=(40, 4, 2))
SIGNS = np.sign(INPUTS[:, 0, 0] * INPUTS[:, -1, 1])
NUMBERS = INPUTS[:, :, 0].sum(axis=1) + 0.1 * RNG.normal(size=40)
CLASSES = np.digitize(INPUTS[:, :, 0].sum(axis=1), [-1.0, 1.0])
WEIGHTS = RNG.uniform(0.5, 2.0, 40)


def problem(loss="squared_hinge", penalty="l1", targets=SIGNS, **changes):
    parts = {
        "layers": [{"bias": True, "leak": [0.5, 0.9]}],
        "dictionary": {"count": 60, "source": "pairs"},
        "training": {"loss": loss, "penalty": penalty, "regularization": 123.0},
        "solver": {"tolerance": 1e-6},
        "name": "small",
    }
    return Problem.from_arrays(INPUTS, targets, **{**parts, **changes})
