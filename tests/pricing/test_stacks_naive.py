"""The slow enumeration of stacks is right: networks drawn at random do what it says, and nothing else."""

from dataclasses import replace

import numpy as np
import pytest
from naive_enumeration import naive_patterns
from naive_stacks import naive_stack_patterns
from slow_shares import one_of
from small_stacks import STACKS, patterns_of_stack, stack

from convexsnn.dictionary.dictionary import Definition
from convexsnn.lowering import definition_of
from convexsnn.networks import LayerSpec

DRAWS, LAST_UNITS = 1500, 300
SHARE = {"three layers": 0.4}  # of all patterns that the draws must meet; the rest have small cells


def run(spec, weights, signal):
    """Simulate units (m, d') of a layer as it is defined; return spikes, membranes before and after reset."""
    n, steps, d = signal.shape
    leak, weights = weights[:, 0], weights[:, 1:]
    drive = signal @ weights[:, :d].T
    if spec.bias:
        drive = drive + weights[:, d]
    last = np.zeros((n, len(weights)), bool)
    u, v = np.zeros((2, n, len(weights)))
    spikes, before, after = [], [], []
    for t in range(steps):
        if spec.neuron == "threshold":
            u = drive[:, t]
        elif spec.neuron == "recurrent_threshold":
            u = drive[:, t] + last * weights[:, -1]
        elif spec.reset == "subtract_after" and t:
            u = leak * u - spec.threshold * last + drive[:, t]
        else:
            u = leak * v + drive[:, t]
        last = u >= spec.threshold
        v = u
        if spec.neuron == "lif" and spec.reset in ("subtract", "subtract_after"):
            v = u - spec.threshold * last
        if spec.neuron == "lif" and spec.reset == "zero":
            v = np.where(last, 0.0, u)
        spikes.append(last), before.append(u), after.append(v)
    return (np.stack(part, axis=1) for part in (spikes, before, after))


def drawn(spec, units, inputs, box, rng):
    """Draw leaks and weights of some units, (units, 1 + d'): evenly in the box, on a grid, at its corners."""
    shape = (units, inputs + spec.bias + (spec.neuron == "recurrent_threshold"))
    weights = rng.uniform(-1, 1, size=shape)
    cells = rng.choice([0, 1, 4], size=(units, 1))
    weights = box * np.where(cells, np.round(weights * cells) / np.maximum(cells, 1), weights)
    return np.hstack([rng.choice(spec.leak, size=(units, 1)), weights])


def seen_at_random(problem, rng):
    """Return all patterns but the zeros of random networks that keep the margin."""
    definition, layers = definition_of(problem), problem.network.layers
    box, blocks = definition.weight_box, []
    for _ in range(DRAWS):
        signal, near = problem.inputs, np.inf
        for spec in layers[:-1]:
            signal, u, _ = run(spec, drawn(spec, spec.width, signal.shape[2], box, rng), signal)
            near = min(near, np.abs(u - spec.threshold).min())
        if near < definition.margin:
            continue
        last = layers[-1]
        spikes, u, v = run(last, drawn(last, LAST_UNITS, signal.shape[2], box, rng), signal)
        near = np.abs(u - last.threshold).min(axis=(0, 1))
        steps = slice(None) if definition.supervise == "all" else slice(-1, None)
        read = spikes[:, steps]
        if definition.readout == "membrane":
            read = v[:, steps] >= 0
            exact = spikes[:, steps] & (last.neuron == "lif" and last.reset == "zero")
            near = np.minimum(near, np.where(exact, np.inf, np.abs(v[:, steps])).min(axis=(0, 1)))
        blocks.append(np.packbits(read.reshape(-1, LAST_UNITS).T[near >= definition.margin], axis=1))
    rows = np.unpackbits(np.unique(np.concatenate(blocks), axis=0), axis=1, count=problem.rows)
    return {tuple(row) for row in rows.tolist() if any(row)}


@pytest.mark.parametrize("name", one_of(STACKS, 6))
def test_networks_at_random_have_these_patterns_and_no_others(name):
    problem, patterns = stack(name), patterns_of_stack(name)
    met = seen_at_random(problem, np.random.default_rng(0))
    assert met <= patterns
    assert len(met) >= SHARE.get(name, 0.7) * len(patterns) > 0


@pytest.mark.parametrize(
    ("name", "absent"),
    [
        ("xor closed", ""),
        ("xor robust", ""),
        ("three layers of bits", "0110 1001"),  # what one unit has joined no later layer takes apart
        ("three bits", "01101001 10010110"),  # a plane cuts 6 of the 12 edges at most, none the 6 it leaves
        ("zero on the threshold", "01 10"),  # a silent unit's successor has no margin, so all must fire
        ("on the face", "01 11"),  # inputs 2 and 1, weights 1/2: the membranes are 1 and 1/2
    ],
)
def test_the_patterns_derived_by_hand(name, absent):
    rows = stack(name).rows
    there = {tuple(map(int, f"{k:0{rows}b}")) for k in range(1, 2**rows)}
    assert patterns_of_stack(name) == there - {tuple(map(int, pattern)) for pattern in absent.split()}


def test_one_layer_has_the_patterns_of_its_unit():
    problem = stack("subtract")
    last, definition = problem.network.layers[-1], definition_of(problem)
    assert naive_stack_patterns(problem.inputs, (last,), definition) == naive_patterns(
        problem.inputs, last, definition
    )


@pytest.mark.parametrize(
    ("margin", "box", "width", "patterns"),
    [
        (0.0, 0.5, 1, set()),  # u = 1/2
        (0.0, 0.5, 2, {(1,)}),  # two equal units, u = 1/2 + 1/2: it fires
        (1e-3, 0.5, 2, set()),  # but not by a margin
        (1e-3, 0.5, 3, {(1,)}),
        (0.0, 0.3, 3, set()),
    ],
)
def test_equal_units_together_go_beyond_the_box(margin, box, width, patterns):
    layers = (LayerSpec(width=width), LayerSpec())
    assert naive_stack_patterns([[[4.0]]], layers, Definition(margin, box)) == patterns


@pytest.mark.slow
@pytest.mark.parametrize("name", ["subtract", "every step", "recurrent closed", "two kinds"])
def test_more_units_have_more_patterns(name):
    problem, patterns = stack(name), patterns_of_stack(name)
    first, last = problem.network.layers
    narrow = naive_stack_patterns(problem.inputs, (replace(first, width=1), last), definition_of(problem))
    assert narrow < patterns


def test_each_unit_takes_its_own_leak():
    problem, patterns = stack("two leaks"), patterns_of_stack("two leaks")
    first, last = problem.network.layers
    alone = [
        naive_stack_patterns(problem.inputs, (replace(first, leak=(leak,)), last), definition_of(problem))
        for leak in first.leak
    ]
    assert alone[0] | alone[1] < patterns
