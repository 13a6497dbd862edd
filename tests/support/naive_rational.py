"""Spikes and rows in rational arithmetic with the dynamics of the three neurons written out once more.

The package runs a neuron's own methods on fractions; here nothing of the neuron is called.
"""

from fractions import Fraction

import numpy as np

from convexsnn.networks import LIF, RecurrentThreshold

fraction = np.frompyfunc(lambda x: Fraction(float(x)), 1, 1)


def exact_spikes(layer, inputs):
    """Run one layer on inputs (n, T, d) in rational arithmetic; its spikes are the next layer's inputs."""
    n, steps, _ = inputs.shape
    neuron, theta = layer.neuron, Fraction(layer.neuron.threshold)
    leak = fraction(np.broadcast_to(getattr(neuron, "leak", 0.0), layer.units))
    own = fraction(np.broadcast_to(getattr(neuron, "own_weight", 0.0), layer.units))
    reset = getattr(neuron, "reset", "none")
    drive = _products(fraction(inputs), layer.weights)
    if layer.bias is not None:
        drive = drive + fraction(layer.bias)
    spikes, membrane = np.zeros((2, n, steps, layer.units), bool)
    closest, carry = np.full(layer.units, np.inf, object), np.zeros((n, layer.units), object)
    for t in range(steps):
        u = carry + drive[:, t]
        if layer.recurrent is not None and t > 0:
            u = u + _products(spikes[:, t - 1].astype(int).astype(object), layer.recurrent)
        fired = u >= theta
        closest = np.minimum(closest, np.abs(u - theta).min(axis=0))
        v = u if reset == "none" else u * ~fired if reset == "zero" else u - theta * fired
        carry = leak * u - theta * fired if reset == "subtract_after" else leak * v + own * fired
        spikes[:, t], membrane[:, t] = fired, v >= 0
    return spikes, membrane, tuple(closest)


def _products(inputs, weights):
    """Return inputs @ weights.T in whole numbers over one denominator, as adding fractions is slow."""
    (x, unit_x), (w, unit_w) = _whole(inputs), _whole(fraction(weights))
    return np.frompyfunc(lambda k: Fraction(k, unit_x * unit_w), 1, 1)(x @ w.T)


def _whole(fractions):
    """Return whole numbers k and a power of two q with fractions = k / q."""
    unit = max(f.denominator for f in np.ravel(fractions))
    return np.frompyfunc(lambda f: f.numerator * (unit // f.denominator), 1, 1)(fractions), unit


def exact_rows(layer, inputs, spikes, readout=False):
    """Return g (T, d') and h (T,) of a single unit on one sample (T, d), as Fractions.

    Given its own `spikes` (T,), of which row t needs those before t, the unit fires at t iff g·w >= h. With
    `readout` the event is that of the membrane readout, v_t >= 0, which needs the spike at t as well; its h
    is −inf where it happens whatever the weights.
    """
    neuron, theta = layer.neuron.unit(0), Fraction(layer.neuron.threshold)
    leak = Fraction(neuron.leak) if isinstance(neuron, LIF) else Fraction(0)
    reset = neuron.reset if isinstance(neuron, LIF) else "none"
    g, h = [], []
    total, past = np.zeros(layer.weights.shape[1], object), Fraction(0)  # of u_t, the constant apart
    before = False
    for x, fired in zip(inputs, spikes, strict=True):
        extra = [Fraction(1)] * (layer.bias is not None)
        extra += [Fraction(int(before))] * (layer.recurrent is not None)
        extra += [Fraction(int(before))] * isinstance(neuron, RecurrentThreshold)
        now = np.array([*fraction(x), *extra], object)
        total = now + leak * total if g else now
        removed = theta * bool(fired)
        always = readout and reset == "zero" and fired
        g.append(0 * total if always else total)
        v_removed = removed if reset in ("subtract", "subtract_after") else 0
        h.append(-np.inf if always else past + v_removed if readout else past + theta)
        past = leak * (past + removed) if reset == "subtract" else leak * past
        past += removed if reset == "subtract_after" else 0
        if reset == "zero" and fired:
            total, past = 0 * total, Fraction(0)
        before = bool(fired)
    return np.array(g, object), np.array(h, object)
