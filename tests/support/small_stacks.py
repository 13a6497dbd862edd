"""Networks of two and three hidden layers, small enough that all their patterns can be enumerated."""

from functools import cache
from itertools import product

import numpy as np
from naive_stacks import naive_stack_patterns

from convexsnn.lowering import definition_of
from convexsnn.problem import Problem

TWO_BITS, THREE_BITS = (np.array(list(product([0, 1], repeat=k)), float)[:, None] for k in (2, 3))
UNIT = {"neuron": "threshold", "bias": True}
PAIR = {**UNIT, "width": 2}
EVERY_STEP = {"supervise": "all"}
CLOSED = {"margin": 0.0, "weight_box": 10.0}
ROBUST, SMALL_BOX = ({"margin": 1e-3, "weight_box": box} for box in (1.5, 1.2))


def numbers(*shape, seed):
    return np.round(np.random.default_rng(seed).normal(size=shape), 1)


def lif(width=1, **keys):
    return {"neuron": "lif", "leak": 0.9, "width": width, **keys}


# name: inputs, layers, definition, readout and supervision
STACKS = {
    "xor closed": (TWO_BITS, [PAIR, UNIT], CLOSED, {}),
    "xor robust": (TWO_BITS, [PAIR, UNIT], {"margin": 1e-3, "weight_box": 4.0}, {}),
    "three bits": (THREE_BITS, [PAIR, UNIT], CLOSED, {}),
    "one hidden unit": (numbers(5, 1, 2, seed=3), [UNIT, UNIT], ROBUST, {}),
    "subtract": (numbers(4, 2, 2, seed=1), [lif(2), lif()], ROBUST, {}),
    "zero": (numbers(4, 2, 2, seed=2), [lif(2, reset="zero"), lif(reset="zero")], ROBUST, {}),
    "other resets": (
        numbers(3, 2, 2, seed=0), [lif(2, reset="subtract_after"), lif(reset="none")], ROBUST,
        EVERY_STEP,
    ),
    "three units": (numbers(3, 2, 1, seed=4), [lif(3), lif()], {**ROBUST, "weight_box": 0.9}, EVERY_STEP),
    "membrane": (numbers(4, 2, 2, seed=5), [lif(2), lif()], SMALL_BOX, {"readout": "membrane"}),
    "membrane zero": (
        numbers(3, 2, 1, seed=2), [lif(2), lif(reset="zero", bias=True)], ROBUST,
        {"readout": "membrane", **EVERY_STEP},
    ),
    "every step": (numbers(3, 3, 1, seed=3), [lif(2), lif()], ROBUST, EVERY_STEP),
    "two leaks": (numbers(4, 3, 1, seed=5), [lif(2, leak=[0.3, 0.9]), lif()], ROBUST, EVERY_STEP),
    "two leaks last": (numbers(3, 3, 1, seed=5), [lif(2), lif(leak=[0.3, 0.9])], ROBUST, {}),
    "recurrent closed": (
        np.round(2 * numbers(3, 3, 1, seed=2)),
        [{"neuron": "recurrent_threshold", "threshold": 0.5, "width": w} for w in (2, 1)],
        {"margin": 0.0, "weight_box": 1.0}, EVERY_STEP,
    ),
    "two kinds": (numbers(3, 2, 1, seed=1), [PAIR, lif()], ROBUST, EVERY_STEP),
    "equal samples": (numbers(3, 2, 2, seed=1)[[0, 1, 0, 2, 1]], [lif(2), lif()], ROBUST, EVERY_STEP),
    "on the face": (np.array([[[2.0]], [[1.0]]]), [lif(2), lif()], {"margin": 0.0, "weight_box": 0.5}, {}),
    "three layers": (numbers(3, 2, 2, seed=1), [lif(2), lif(2), lif()], SMALL_BOX, EVERY_STEP),
    "zero on the threshold": (np.eye(2)[:, None], 3 * [{"neuron": "threshold"}], ROBUST, {}),
    "three layers of bits": (TWO_BITS, [UNIT, PAIR, UNIT], CLOSED, {}),
}  # fmt: skip


def stack(name, source="exact", training=None, outputs=(), **dictionary):
    """Return the problem of a stack, with targets drawn for so many `outputs`."""
    inputs, layers, definition, network = STACKS[name]
    rows = inputs.shape[: 2 if network.get("supervise") == "all" else 1]
    targets = np.random.default_rng(7).normal(size=(*rows, *outputs))
    training = {"loss": "squared", "regularization": 0.02, **(training or {})}
    if training["loss"] != "squared":
        targets = np.where(targets > 0, 1, -1)
    return Problem.from_arrays(
        inputs, targets, layers=layers, network=network, training=training, name=name,
        dictionary={"source": source, **definition, **dictionary},
    )  # fmt: skip


@cache
def patterns_of_stack(name):
    """Return the set of all patterns of a stack."""
    problem = stack(name)
    return naive_stack_patterns(problem.inputs, problem.network.layers, definition_of(problem))
