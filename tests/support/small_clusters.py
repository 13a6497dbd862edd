"""What tests of the cluster share: small trainings, and how far two of them are apart."""

from dataclasses import asdict

import numpy as np
from small_splittings import problem

SAME = 1e-9


def small(variant, samples=25, **admm):
    loss, layers = admm.pop("loss", "softmax"), admm.pop("layers", {})
    spec = {"variant": variant, "iterations": 8, "checkpoint_every": 3, "tolerance": 1e-12, **admm}
    spec = {"spike_penalty": None, "decay": 1.0, "block_tolerance": 1e-3, **spec}
    return problem(samples=samples, loss=loss, **({"layers": layers} if layers else {}), admm=spec)


def tables(result):
    weights = result.run.weights
    return [weights.table(k) for k in range(len(weights.layers) + 1)]


def far(one, other):
    return max(np.abs(a - b).max() for a, b in zip(tables(one), tables(other), strict=True))


def trajectory(result):
    """Return what every iteration ended with, but for what hangs on the machine."""
    free = ("seconds", "bytes_sent", "bytes_received")
    return [{k: v for k, v in asdict(row).items() if k not in free} for row in result.run.history]
