"""Criticality of recurrent layers: their branching ratio, tuned to 1.

The branching ratio is the mean number of units whose spike at step t + 1 changes when one spike at step t is
removed and everything else is unchanged. Below 1, activity dies out. Above 1, it grows to saturation. A
reservoir computes best near 1 (Beggs & Plenz 2003; [U26] tunes its reservoirs in this way).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from convexsnn.arrays import FloatArray
from convexsnn.errors import LoweringError
from convexsnn.networks import Layer
from convexsnn.simulate import run_layer

EVENTS = 2000  # spikes of one estimate
SAMPLES = 200
BISECTIONS = 50
CLOSE, FAR = 0.02, 0.1  # |ratio − 1| that ends the bisection, and the largest accepted: small layers jump


def branching_ratio(layer: Layer, inputs: FloatArray, rng: np.random.Generator) -> float:
    """Return the branching ratio of a recurrent layer driven by `inputs` (n, T, d).

    The estimate uses at most 2000 spikes, drawn without replacement. It is 0 if there is no spike before
    the last step.
    """
    if layer.recurrent is None:
        raise LoweringError("recurrent: a branching ratio needs a recurrent layer")
    membranes, spikes = run_layer(layer, inputs)
    sample, step, unit = np.nonzero(spikes[:, :-1])
    if not len(unit):
        return 0.0
    events = rng.permutation(len(unit))[:EVENTS]
    before = membranes[sample[events], step[events] + 1]
    without = before - layer.recurrent[:, unit[events]].T
    changed = (before >= layer.neuron.threshold) != (without >= layer.neuron.threshold)
    return float(changed.sum(axis=1).mean())


def tune_to_criticality(
    layer: Layer, inputs: FloatArray, rng: np.random.Generator, weight_box: float
) -> Layer:
    """Scale a layer's recurrent matrix so that its branching ratio is close to 1, by bisection.

    Raises
    ------
    LoweringError
        No gain within the weight box brings the ratio to 1, or T = 1.
    """
    recurrent = layer.recurrent
    assert recurrent is not None
    if inputs.shape[1] < 2:
        raise LoweringError("dictionary.source: 'reservoir' needs at least two time steps")
    sample = inputs[rng.permutation(len(inputs))[:SAMPLES]]
    seed = int(rng.integers(2**31))

    def at(gain: float) -> tuple[Layer, float]:
        scaled = replace(layer, recurrent=np.clip(gain * recurrent, -weight_box, weight_box))
        return scaled, branching_ratio(scaled, sample, np.random.default_rng(seed))

    low, high = 0.0, 1.0
    while at(high)[1] < 1.0:
        low, high = high, 2 * high
        if high > 1e3:
            raise LoweringError(
                f"dictionary.source: the reservoir's branching ratio stays at {at(high)[1]:.3g} < 1; "
                "widen the layer, raise dictionary.scale or dictionary.weight_box"
            )
    best, best_ratio = at(high)
    for _ in range(BISECTIONS):
        tuned, ratio = at(0.5 * (low + high))
        if abs(ratio - 1.0) < abs(best_ratio - 1.0):
            best, best_ratio = tuned, ratio
        if abs(best_ratio - 1.0) < CLOSE:
            break
        low, high = (0.5 * (low + high), high) if ratio < 1.0 else (low, 0.5 * (low + high))
    if abs(best_ratio - 1.0) > FAR:
        raise LoweringError(
            f"dictionary.source: the reservoir's branching ratio jumps past 1 (to {best_ratio:.3g}); "
            "widen the layer"
        )
    return best
