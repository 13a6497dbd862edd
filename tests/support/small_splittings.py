"""Small deep networks for ADMM, and their augmented Lagrangian the slow and obvious way."""

import math

import numpy as np

from convexsnn.admm.splitting import AdmmSplitting
from convexsnn.problem import Problem

RNG = np.random.default_rng(3)
SAMPLES = 7
IMAGES = [{"width": 2, "kernel": 2, "shape": [1, 5, 4]}, {"width": 3, "pool": 2, "bias": True}]
TWO_LAYERS = [{"width": 4, "bias": True}, {"width": 3, "leak": 0.7}]
VARIANTS = ("published", "eliminated", "proximal", "restarted", "lifted")


def problem(layers=TWO_LAYERS, loss="softmax", steps=4, inputs=5, samples=SAMPLES, admm=None, **network):
    """Return a problem of random binary inputs with two classes, three for softmax, or numbers."""
    rng = np.random.default_rng(8)
    bits = rng.integers(0, 2, (samples, steps, inputs)).astype(float)
    labels = np.arange(samples) % (3 if loss == "softmax" else 2)
    regression = {"targets": rng.normal(size=(samples, 2)), "task": "regression"}
    targets = regression["targets"] if loss == "squared" else labels
    return Problem.from_arrays(
        bits, targets, layers=layers, network={"readout": "output_membrane", **network},
        training={"method": "admm", "loss": loss}, sample_weights=rng.uniform(0.5, 2.0, samples),
        admm={"block_tolerance": 1e-12, "rate": 0.1, "spike_penalty": 1.5, "decay": 0.6,
              **(admm or {})},
    )  # fmt: skip


def perturbed(made, seed=0, size=0.7):
    """Return the splitting of a problem away from its dynamics, with multipliers that are not 0."""
    rng, split = np.random.default_rng(seed), AdmmSplitting().lower(made).split()
    split.membranes = [z + size * rng.normal(size=z.shape) for z in split.membranes]
    split.spikes = [np.clip(a + size * rng.normal(size=a.shape), 0, 1) for a in split.spikes]
    split.outputs = split.outputs + size * rng.normal(size=split.outputs.shape)
    split.multipliers = size * rng.normal(size=split.multipliers.shape)
    split.use(split.weights)  # what is known of the spikes before is forgotten
    return split


def naive_loss(loss, z, y):
    """Return ℓ of one row by the formulas of the table in `convexsnn.programs.losses`."""
    if loss == "softmax":
        return math.log(sum(math.exp(v) for v in z)) - sum(v * w for v, w in zip(z, y, strict=True))
    margins = [1.0 - w * v for v, w in zip(z, y, strict=True)]
    return {
        "squared": lambda: sum(0.5 * (v - w) ** 2 for v, w in zip(z, y, strict=True)),
        "hinge": lambda: sum(max(0.0, m) for m in margins),
        "squared_hinge": lambda: sum(0.5 * max(0.0, m) ** 2 for m in margins),
        "logistic": lambda: sum(math.log(1.0 + math.exp(m - 1.0)) for m in margins),
    }[loss]()


def naive_drive(layer, spec, image, seen):
    """Return the weighted input (m,) of a layer's units at one step; `image` is the shape of `seen`."""
    if not spec.looks:
        return [
            sum(w * x for w, x in zip(row, seen, strict=True)) + (0 if layer.bias is None else layer.bias[j])
            for j, row in enumerate(layer.weights)
        ]
    channels, height, width = image
    side, pixel = spec.pool, np.reshape(seen, image)
    height, width = height // side, width // side

    def mean(c, i, j):
        square = [pixel[c, i * side + a, j * side + b] for a in range(side) for b in range(side)]
        return sum(square) / len(square)

    tall, wide = (height, width) if spec.kernel is None else (spec.kernel, spec.kernel)
    found = []
    for f, row in enumerate(layer.weights):
        kernel = row.reshape(channels, tall, wide)
        for top in range(0, height - tall + 1, spec.stride):
            for left in range(0, width - wide + 1, spec.stride):
                total = 0.0 if layer.bias is None else layer.bias[f]
                for c, i, j in np.ndindex(channels, tall, wide):
                    total += kernel[c, i, j] * mean(c, top + i, left + j)
                found.append(total)
    return found


def naive_image(spec, image):
    """Return the shape of a layer's units as an image."""
    if not spec.looks:
        return None
    sides = [length // spec.pool for length in image[1:]]
    if spec.kernel is not None:
        sides = [(length - spec.kernel) // spec.stride + 1 for length in sides]
    else:
        sides = [1, 1]
    return (spec.width, *sides)


def naive_lagrangian(made, split):
    """Return the sum in the docstring of `convexsnn.admm.state`, sample by sample, step by step."""
    spec, network, weights = made.admm, made.network, split.weights
    steps, total, rho = made.inputs.shape[1], 0.0, spec.penalty
    targets, importance = made.encoded_targets(), made.row_weights()
    delta = {"rate": 1.0, "spike": 0.0, "output_membrane": network.readout_leak}[network.readout]
    gain = 1.0 / steps if network.readout == "rate" else 1.0
    A = weights.output
    for i in range(len(made.inputs)):
        last = split.spikes[-1][i]
        driven = [
            [gain * sum(last[t, j] * A[j, c] for j in range(len(A))) for c in range(A.shape[1])]
            for t in range(steps)
        ]
        if spec.variant == "published":
            y = split.outputs[i]
            missed = [
                [y[t, c] - (delta * y[t - 1, c] if t else 0.0) - driven[t][c] for c in range(A.shape[1])]
                for t in range(steps)
            ]
            final, held = y[-1], missed[-1]
        else:
            final = split.outputs[i]
            read = [
                sum(delta ** (steps - 1 - t) * driven[t][c] for t in range(steps)) for c in range(A.shape[1])
            ]
            held = [final[c] - read[c] for c in range(A.shape[1])]
            missed = [held]
        total += importance[i] * naive_loss(made.training.loss, final, targets[i])
        total += sum(split.multipliers[i, c] * held[c] for c in range(A.shape[1]))
        total += 0.5 * spec.penalty * sum(v**2 for row in missed for v in row)
    for k in reversed(range(len(weights.layers))):
        rho *= spec.decay
        total += naive_layer(made, split, k, rho, rho * spec.spike_penalty)
    return total


def ramp_width(made):
    """Return the width of the ramp that stands for the spike, 0 where nothing does."""
    spec = made.admm
    if spec.variant != "lifted" or spec.membrane_update not in (None, "linearized"):
        return 0.0
    return 1.0 if spec.ramp_width is None else spec.ramp_width


def naive_ramp(z, theta, width):
    """Return the line through ½ at θ that rises from 0 to 1 within a width."""
    return min(max(0.5 + (z - theta) / width, 0.0), 1.0)


def naive_roundings(made, k):
    """Return the spike less the ramp for every membrane of the true dynamics, where there is a ramp."""
    theta, width = made.network.layers[k].threshold, ramp_width(made)
    z = AdmmSplitting().lower(made).split().membranes[k]
    if not width:
        return np.zeros(z.shape)
    return np.vectorize(lambda v: float(v >= theta) - naive_ramp(v, theta, width))(z.astype(float))


def naive_spike_cost(made, z, a, theta):
    """Return φ / σ: for a ramp the integral of r − a from where r(z) = a, in its three pieces."""
    above, width = z - theta, ramp_width(made)
    if made.admm.variant != "lifted":
        return 0.5 * (a - (1.0 if above >= 0 else 0.0)) ** 2
    if not width:
        return max(above, 0.0) - a * above
    if above < -width / 2:
        return -a * above - width / 2 * a + width / 2 * a**2
    if above > width / 2:
        return (1 - a) * (above - width / 2) + width / 2 * (1 - a) ** 2
    return width / 2 * (0.5 + above / width - a) ** 2


def naive_layer(made, split, k, rho, sigma):
    """Return a hidden layer's part: the dynamics and the spikes."""
    image = made.network.layers[0].shape
    for below in made.network.layers[:k]:
        image = naive_image(below, image)
    spec, layer, total = made.network.layers[k], split.weights.layers[k], 0.0
    z, a, theta = split.membranes[k], split.spikes[k], spec.threshold
    missed = naive_roundings(made, k)
    for i in range(len(z)):
        seen = made.inputs[i] if k == 0 else split.spikes[k - 1][i]
        for t in range(z.shape[1]):
            drive = naive_drive(layer, spec, image, seen[t])
            for j in range(z.shape[2]):
                beta = (
                    0.0
                    if spec.neuron == "threshold"
                    else float(np.broadcast_to(layer.neuron.leak, z.shape[2])[j])
                )
                taken = {"subtract": beta * theta, "subtract_after": theta, "none": 0.0}[spec.reset]
                current = drive[j]
                if t:
                    current += -(0.0 if spec.neuron == "threshold" else taken) * a[i, t - 1, j]
                    if layer.recurrent is not None:
                        current += sum(layer.recurrent[j, u] * a[i, t - 1, u] for u in range(z.shape[2]))
                before = z[i, t - 1, j] if t else 0.0
                total += 0.5 * rho * (z[i, t, j] - beta * before - current) ** 2
                total += sigma * naive_spike_cost(made, z[i, t, j], a[i, t, j] - missed[i][t][j], theta)
    return total
