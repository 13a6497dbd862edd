"""A small problem for training by gradients, and what is asked of networks."""

import numpy as np

from convexsnn.problem import Problem
from convexsnn.simulate import simulate
from convexsnn.tasks import generate

YIN_YANG = generate("yin_yang", {"steps": 4, "train": 240, "test": 10})


def problem(layers=None, loss="softmax", dictionary=None, regularization=1e-3, rows=slice(None), **gradient):
    layers = layers or [{"width": 20, "bias": True}]
    return Problem.from_arrays(
        YIN_YANG["inputs"][rows], YIN_YANG["targets"][rows], layers=layers,
        training={"loss": loss, "regularization": regularization}, dictionary=dictionary,
        gradient={"epochs": 20, "batch": 20, "learning_rate": 5e-3, **gradient},
    )  # fmt: skip


def accuracy(made, network):
    return np.mean(simulate(network, made.inputs).outputs.argmax(axis=1) == made.targets)


def same(one, other):
    pairs = zip([*one.layers], [*other.layers], strict=True)
    return np.array_equal(one.output_weights, other.output_weights) and all(
        np.array_equal(a.weights, b.weights) and np.array_equal(a.bias, b.bias) for a, b in pairs
    )


def witnesses(**gradient):
    keys = {"epochs": 3, "networks": 3, "seed": 4, **gradient}
    return problem(dictionary={"source": "surrogate_gradient", "margin": 0.0}, **keys)
