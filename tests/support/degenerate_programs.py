"""Programs at the edges of what solvers can do: each must still end, with what was reached told truly."""

import numpy as np
from small_programs import make_penalty, random_targets

from convexsnn.programs import L1Program


def _random(rng, rows, columns):
    return rng.random((rows, columns)) < 0.4


def _targets(loss, rows, rng):
    return random_targets(loss, rows, 2 if loss == "softmax" else 1, rng)


def _plain(loss, rng, rows, columns):
    return {"dictionary": _random(rng, rows, columns), "targets": _targets(loss, rows, rng)}


def _wide(loss, rng):
    return _plain(loss, rng, 30, 100) if loss == "hinge" else _plain(loss, rng, 12, 40)


def _weighted(loss, rng):
    return {**_plain(loss, rng, 6, 12), "sample_weights": 10.0 ** np.linspace(-15, 0, 6)}


def _duplicates(loss, rng):
    plain = _plain(loss, rng, 6, 8)
    columns = np.repeat(plain["dictionary"], 4, axis=1)
    targets = _targets(loss, 12, rng)  # the same sample with different targets
    return {"dictionary": np.repeat(columns, 2, axis=0), "targets": targets}


def _constant(loss, rng):
    plain = _plain(loss, rng, 12, 20)
    return {**plain, "targets": np.repeat(plain["targets"][:1], 12, axis=0)}


def _zeros(loss, rng):
    plain = _plain(loss, rng, 10, 20)
    plain["dictionary"][:, 5:] = False
    return plain


# name -> (the fields of a program of this loss, λ as a fraction of λ_max)
DEGENERATE = {
    "tiny-lambda": (_wide, 1e-12),
    "vanishing-lambda": (lambda loss, rng: _plain(loss, rng, 10, 20), 1e-200),
    "weights-over-15-orders": (_weighted, 1e-3),
    "weights-and-tiny-lambda": (_weighted, 1e-12),
    "duplicates": (_duplicates, 1e-9),
    "one-sample": (lambda loss, rng: _plain(loss, rng, 1, 3), 1e-6),
    "constant-targets": (_constant, 1e-9),
    "zero-columns": (_zeros, 1e-9),
    "only-zero-columns": (
        lambda loss, rng: {**_plain(loss, rng, 5, 4), "dictionary": np.zeros((5, 4))},
        1.0,
    ),
}


def degenerate(name, loss="hinge", penalty="l1", seed=0):
    """Return a degenerate program."""
    make, fraction = DEGENERATE[name]
    fields = make(loss, np.random.default_rng(seed))
    columns = np.shape(fields["dictionary"])[1]
    fields |= {"loss": loss, "penalty": make_penalty(penalty, columns)}
    largest = L1Program(regularization=1.0, **fields).regularization_max
    return L1Program(regularization=fraction * (largest or 1.0), **fields)
