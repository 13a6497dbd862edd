"""Small dictionaries, and a slow simulation of what is in them: one unit and one step at a time."""

import numpy as np

from convexsnn.dictionary import (
    Definition,
    collect,
    draw_subnetworks,
)
from convexsnn.networks import (
    LIF,
    LayerSpec,
    NetworkSpec,
    RecurrentThreshold,
)

N, T, D = 7, 3, 2
INPUTS = np.random.default_rng(0).normal(size=(N, T, D))
LABELS = np.arange(N)[:, None] % 2


def number(value, unit):
    return float(value if np.ndim(value) == 0 else value[unit])


def slow_layer(layer, inputs):
    """Return spikes, |u − θ| and v of every unit, straight from the equations in networks/neurons.py."""
    neuron, theta = layer.neuron, layer.neuron.threshold
    shape = (*inputs.shape[:2], layer.units)
    spikes, distance, after = np.zeros(shape, bool), np.zeros(shape), np.zeros(shape)
    for i in range(shape[0]):
        u = np.zeros(layer.units)
        fired = np.zeros(layer.units)
        for t in range(shape[1]):
            before, last = u.copy(), fired.copy()
            for j in range(layer.units):
                drive = sum(w * x for w, x in zip(layer.weights[j], inputs[i, t], strict=True))
                drive += 0.0 if layer.bias is None else layer.bias[j]
                if layer.recurrent is not None:
                    drive += sum(r * s for r, s in zip(layer.recurrent[j], last, strict=True))
                if isinstance(neuron, LIF):
                    beta = number(neuron.leak, j)
                    u[j] = drive + beta * before[j] * (1 - last[j] if neuron.reset == "zero" else 1)
                    u[j] -= {"subtract": beta * theta, "subtract_after": theta}.get(neuron.reset, 0) * last[j]
                else:
                    own = number(neuron.own_weight, j) if isinstance(neuron, RecurrentThreshold) else 0.0
                    u[j] = drive + own * last[j]
                fired[j] = u[j] >= theta
                after[i, t, j] = u[j]
                if isinstance(neuron, LIF) and neuron.reset != "none":
                    after[i, t, j] = (
                        u[j] * (1 - fired[j]) if neuron.reset == "zero" else u[j] - theta * fired[j]
                    )
            spikes[i, t], distance[i, t] = fired, np.abs(u - theta)
    return spikes, distance, after


def slow_patterns(subnetwork, inputs, definition):
    """Return the patterns (R, m) of the last units and how close a membrane comes to a threshold, (m,)."""
    signal, margins = inputs, []
    for layer in subnetwork.layers:
        spikes, distance, after = slow_layer(layer, np.asarray(signal, float))
        own = distance.min(axis=(0, 1))
        if layer.recurrent is not None or layer is not subnetwork.layers[-1]:
            own = np.full(layer.units, own.min())  # whatever hangs on this layer hangs on all its units
        margins.append(own)
        signal = spikes
    margin = np.minimum(margins[-1], min((m.min() for m in margins[:-1]), default=np.inf))
    seen = spikes
    if definition.readout == "membrane":
        seen = after >= 0
        read = np.abs(after)
        if getattr(layer.neuron, "reset", "") == "zero":
            read[spikes] = np.inf  # exactly 0, whatever the weights
        read = read[:, -1:] if definition.supervise == "last" else read
        margin = np.minimum(margin, read.min(axis=(0, 1)))
    rows = seen[:, -1] if definition.supervise == "last" else seen.reshape(-1, seen.shape[2])
    return rows, margin


def draw(layers, definition, count=12, inputs=INPUTS, **options):
    spec = NetworkSpec(tuple(LayerSpec(**layer) for layer in layers))
    options = {"source": "gaussian", "seed": 1, **options}
    return draw_subnetworks(inputs, LABELS[: len(inputs)], spec, definition, count=count, **options)


def small_dictionary():
    definition = Definition(1e-5, 4.0, "membrane", "all")
    layers = [{"width": 3}, {"width": 3, "recurrent": True, "bias": True}]
    return collect(INPUTS, draw(layers, definition), definition)
