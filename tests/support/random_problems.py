"""Random tiny problems: every neuron and reset with every loss; some at the edge of floats."""

import numpy as np

from convexsnn.problem import Problem

SOURCES = ["exact", "column_generation"]
NEURONS = [("lif", reset) for reset in ("subtract", "subtract_after", "zero", "none")]
NEURONS += [("threshold", "subtract"), ("recurrent_threshold", "subtract")]
LOSSES = ["squared", "hinge", "squared_hinge", "logistic", "softmax"]


def random_problem(seed, coupled=False):
    """Return a problem of at most 4 samples, 3 steps and 2 inputs; 30 seeds in a row meet all pairs above.

    With `coupled`, some LIF units see their own last spike.
    """
    rng = np.random.default_rng([16, seed])
    (neuron, reset), loss = NEURONS[seed % 6], LOSSES[seed % 5]
    n, steps, d = rng.integers(2, 5), rng.integers(1, 4), rng.integers(1, 3)
    if neuron == "threshold" and seed % 4:
        steps = 1
    whole = rng.random() < 0.4
    inputs = rng.integers(-2, 3, (n, steps, d)) * 1.0 if whole else rng.normal(size=(n, steps, d)).round(2)
    every, heads = bool(rng.random() < 0.4), int(rng.integers(1, 3)) if loss != "softmax" else 1
    shape = (n, *[steps] * every, *[heads] * (heads > 1))
    if loss == "squared":
        targets = rng.normal(size=shape).round(2)
    elif loss == "softmax":
        targets = rng.integers(0, 3, shape)
    else:
        targets = rng.choice([-1, 1], shape)
    layer = {"neuron": neuron, "bias": bool(rng.random() < 0.4), "threshold": float(rng.choice([0.5, 1.0]))}
    if neuron == "lif":
        layer |= {"reset": reset, "leak": [[0.5], [0.9], [0.0, 0.75], [1.0]][rng.integers(4)]}
        layer["recurrent"] = coupled and bool(np.random.default_rng([18, seed]).random() < 0.2)
    weighted = {"sample_weights": rng.uniform(0.5, 2, n).round(2)} if rng.random() < 0.3 else {}
    return Problem.from_arrays(
        inputs, targets, **weighted, name=f"random-{seed}", layers=[layer],
        network={"readout": str(rng.choice(["spike", "membrane"])), "supervise": "all" if every else "last"},
        dictionary={
            "source": SOURCES[(seed // 6) % 2], "margin": [0.0, 1e-6, 0.05][rng.integers(3)],
            "weight_box": float(rng.choice([1.0, 2.5, 10.0])),
        },
        training={
            "loss": loss, "penalty": ["l1", "group"][(seed // 5) % 2],
            "regularization": float(rng.choice([0.01, 0.03, 0.1])) / (steps if every else 1),
        },
        solver={"tolerance": 1e-7},
    )  # fmt: skip


UNITS = [1e-150, 1e-11, 1e-6, 1e6, 1e11, 1e150]


def strange_problem(seed, coupled=False):
    """Return a random problem in other units, in a large box, or with two samples that are nearly equal."""
    problem, rng = random_problem(seed, coupled), np.random.default_rng([17, seed])
    tables, arrays = problem.tables(), dict(problem.arrays())
    layer, dictionary = tables["network"]["layers"][0], tables["dictionary"]
    scale, kind = float(rng.choice(UNITS)), seed % 4
    if kind == 0:
        arrays["inputs"], dictionary["weight_box"] = (
            arrays["inputs"] * scale,
            dictionary["weight_box"] / scale,
        )
    elif kind == 1:
        arrays["inputs"], dictionary["margin"] = arrays["inputs"] * scale, dictionary["margin"] * scale
        layer["threshold"] *= scale
    else:
        dictionary["weight_box"] = float(rng.choice([1.0, 1e3, 1e6, 1e9]))
    if kind == 3:
        arrays["inputs"] = np.array(arrays["inputs"])
        arrays["inputs"][1] = arrays["inputs"][0] * (1 + 2.0 ** -rng.integers(38, 52))
        dictionary["margin"] = 0.0
    network = {name: value for name, value in tables["network"].items() if name != "layers"}
    rest = {name: tables[name] for name in ("name", "training", "solver")}
    return Problem.from_arrays(**arrays, layers=[layer], network=network, dictionary=dictionary, **rest)
