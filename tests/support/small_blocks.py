"""Every block of a few small splittings, each with its objective the slow and obvious way."""

from functools import cache
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from membrane_branches import best_of, branch_of, branches_of
from small_splittings import (
    naive_loss,
    naive_ramp,
    naive_roundings,
    naive_spike_cost,
    perturbed,
    problem,
    ramp_width,
)

from convexsnn.admm.spike_blocks import is_joint, spike_blocks
from convexsnn.admm.splitting import VARIANTS, weight_block

RECURRENT = [{"width": 3, "bias": True, "recurrent": True}, {"width": 2, "leak": 0.7, "recurrent": True}]
SETTINGS = {  # both constraints and the linearized one, every loss, one and several classes, both precisions
    "published": {"loss": "softmax", "admm": {"variant": "published"}},
    "eliminated": {"loss": "logistic", "layers": RECURRENT, "admm": {"variant": "eliminated"}},
    "proximal": {"loss": "squared_hinge", "admm": {"variant": "proximal", "membrane_update": "step"}},
    "lifted": {"loss": "softmax", "layers": RECURRENT, "admm": {"variant": "lifted", "ramp_width": 0.0}},
    "ramp": {"loss": "softmax", "admm": {"variant": "lifted", "ramp_width": 0.7}},
    "ramp, recurrent": {"loss": "hinge", "layers": RECURRENT, "admm": {"variant": "lifted"}},
    "lifted, joint": {"loss": "hinge", "admm": {"variant": "lifted", "membrane_update": "joint"}},
    "float32": {"loss": "squared", "admm": {"variant": "lifted", "precision": "float32"}},
}


class Case(NamedTuple):
    """A block, its objective as a formula, and whether the block leaves out what no point changes."""

    block: Any
    plain: Any
    shifted: bool = False


class Branched(NamedTuple):
    """Membranes: a block that is no program, its convex branches, its objective, and as above."""

    block: Any
    branches: Any
    plain: Any
    shifted: bool = False

    def chosen(self, tables):
        """Return the best of one point a branch."""
        return best_of(self.block, tables)


def square(table):
    return float(np.sum(np.square(table, dtype=np.float64)))


@cache
def splitting(setting):
    """Return the problem of a setting, and its splitting away from the dynamics."""
    choices = {"steps": 3, **SETTINGS[setting]}
    choices["admm"] = {"rate": 0.3, "ridge": 1e-6, "damping": 0.1, **choices["admm"]}
    made = problem(samples=4, inputs=4, **choices)
    split, dtype = perturbed(made), np.dtype(made.admm.precision)
    split.membranes = [z.astype(dtype) for z in split.membranes]
    split.spikes = [a.astype(dtype) for a in split.spikes]
    split.use(split.weights)
    return made, split


@cache
def programs(setting):
    """Return a case for every block that is a program."""
    made, split = splitting(setting)
    layers = range(len(split.spikes))
    found = [output_case(split)]
    if split.splitting.every_output:
        found += [output_step_case(split, t) for t in range(split.inputs.shape[1] - 1)]
    found += [weight_case(split, made, k) for k in (*layers, len(layers))]
    return found + [case for k in layers for case in spike_cases(split, made, k)]


@cache
def membranes(setting):
    """Return a case for every block of membranes: of one step each, and of all steps at once."""
    made, split = splitting(setting)
    found = []
    for k in range(len(split.spikes)):
        if split.splitting.membranes == "step":
            found += [membrane_case(split, made, k, t) for t in range(split.inputs.shape[1])]
        else:
            found.append(chain_case(split, made, k))
    return found


def penalty(made, split, k, z, a, where=slice(None)):
    """Return φ summed over all entries, of some steps."""
    layer, total = split.splitting.layers[k], 0.0
    held = np.float64(a) - naive_roundings(made, k)[:, where]
    for one, spike in zip(np.float64(z).ravel(), held.ravel(), strict=True):
        total += naive_spike_cost(made, one, spike, layer.threshold)
    return layer.spike_penalty * total


def dynamics(split, k, z, a):
    """Return z_t − β z_{t−1} − W x_t − b − R a_{t−1} + r a_{t−1} of layer k, step by step."""
    layer, shared = split.weights.layers[k], split.splitting.layers[k]
    seen, missed = split.inputs if k == 0 else split.spikes[k - 1], []
    bias = 0.0 if layer.bias is None else layer.bias
    for t in range(z.shape[1]):
        now = z[:, t] - seen[:, t].astype(float) @ layer.weights.T.astype(float) - bias
        if t:
            now = now - shared.leak * z[:, t - 1] + shared.reset * a[:, t - 1]
            now = now - (0.0 if layer.recurrent is None else a[:, t - 1] @ layer.recurrent.T.astype(float))
        missed.append(now)
    return np.stack(missed, axis=1)


def output_case(split):
    shared, last = split.splitting, split.spikes[-1][:, -1].astype(float)
    if shared.every_output:
        center = shared.output_leak * split.outputs[:, -2] + shared.output_gain * last @ split.weights.output
    else:
        steps = split.spikes[-1].shape[1]
        center = sum(shared.kernel[t] * split.spikes[-1][:, t].astype(float) for t in range(steps))
        center = center @ split.weights.output

    def plain(q):
        losses = [naive_loss(shared.loss.name, *row) for row in zip(q, split.targets, strict=True)]
        total = sum(a * loss for a, loss in zip(split.sample_weights, losses, strict=True))
        held = q - center + split.multipliers / shared.output_penalty
        return total + 0.5 * shared.output_penalty * square(held)

    return Case(split.output_block(), plain)


def output_step_case(split, t):
    shared = split.splitting
    driven = shared.output_gain * split.spikes[-1] @ split.weights.output

    def plain(y):
        steps = split.outputs.copy()
        steps[:, t] = y
        missed = steps - driven
        missed[:, 1:] -= shared.output_leak * steps[:, :-1]
        return 0.5 * shared.output_penalty * square(missed) + float(np.sum(split.multipliers * missed[:, -1]))

    return Case(split.output_step_block(t), plain, shifted=True)


def weight_case(split, made, k):
    full, sums, table = (
        VARIANTS[made.admm.variant].full_fit,
        split.sums(k),
        split.weights.table(k).astype(float),
    )
    block = weight_block(f"weights {k + 1}", table, sums, sums.gram, made.admm, full)
    if k < len(split.spikes):
        layer, seen, steps = split.weights.layers[k], split.below(k), split.inputs.shape[1]
        features = [seen.reshape(-1, seen.shape[2])]
        if layer.recurrent is not None:
            before = np.zeros_like(split.spikes[k])
            before[:, 1:] = split.spikes[k][:, : steps - 1]
            features.append(before.reshape(len(features[0]), -1))
        if layer.bias is not None:
            features.append(np.ones((len(features[0]), 1)))
        f, residual = np.concatenate(features, axis=1).astype(float), split.residual(k)
    elif split.splitting.every_output:
        f = split.splitting.output_gain * split.spikes[-1].reshape(-1, table.shape[1]).astype(float)
        residual = split.output_residual()
        residual[:, -1] += split.multipliers / split.splitting.output_penalty
    else:
        f = split.filtered().astype(float)
        residual = split.output_residual() + split.multipliers / split.splitting.output_penalty
    wanted = residual.reshape(len(f), -1) + f @ table.T
    mu = float(block.quadratic.diagonal[0])

    def plain(w):
        return 0.5 * square(wanted - f @ w.T) + 0.5 * mu * square(w if full else w - table)

    return Case(block, plain)


def spike_cases(split, made, k):
    shared, layer, z = split.splitting, split.splitting.layers[k], split.membranes[k].astype(float)

    def case(where, block):
        steps = range(*where.indices(z.shape[1]))

        def plain(rows):
            a = split.spikes[k].astype(float)
            a[:, where] = rows.reshape(a[:, where].shape)
            total = penalty(made, split, k, z[:, where], a[:, where], where)
            total += sum(
                0.5 * layer.coupling * square(dynamics(split, k, z, a)[:, t + 1])
                for t in steps[: z.shape[1] - 1 - steps[0]]
            )
            if is_joint(split, k):
                read = sum(c * a[:, t] for t, c in enumerate(shared.kernel)) @ split.weights.output
                return total + 0.5 * shared.output_penalty * square(
                    split.outputs + split.multipliers / shared.output_penalty - read
                )
            if k == len(split.spikes) - 1:
                missed = split.outputs - shared.output_gain * a @ split.weights.output
                missed[:, 1:] -= shared.output_leak * split.outputs[:, :-1]
                missed[:, -1] += split.multipliers / shared.output_penalty
                return total + 0.5 * shared.output_penalty * square(missed[:, where])
            mine, split.spikes[k] = split.spikes[k], a
            above = dynamics(
                split, k + 1, split.membranes[k + 1].astype(float), split.spikes[k + 1].astype(float)
            )
            split.spikes[k] = mine
            return total + 0.5 * shared.layers[k + 1].coupling * square(above[:, where])

        return Case(block, plain)

    return [case(where, block) for where, block in spike_blocks(split, k)]


def membrane_case(split, made, k, t):
    block = split.membrane_block(k, t)

    def plain(now):
        z = split.membranes[k].astype(float)
        z[:, t] = now
        missed = dynamics(split, k, z, split.spikes[k].astype(float))[:, t : t + 2]
        near = 0.5 * split.splitting.layers[k].coupling * square(missed)
        return near + penalty(made, split, k, now[:, None], split.spikes[k][:, t : t + 1], slice(t, t + 1))

    return Branched(block, branches_of(block), plain, shifted=True)


def chain_case(split, made, k):
    block, layer = split.chain_block(k), split.splitting.layers[k]
    patterns = list(product((False, True), repeat=split.inputs.shape[1]))
    if block.present is not None:
        patterns = patterns[:1]

    def plain(z):
        a = split.spikes[k].astype(float)
        near = 0.5 * layer.coupling * square(dynamics(split, k, z, a))
        if block.present is None:
            return near + penalty(made, split, k, z, a)
        now = np.float64(split.membranes[k] >= layer.threshold)
        if width := ramp_width(made):
            now = np.vectorize(lambda v: naive_ramp(v, layer.threshold, width))(split.membranes[k])
            now = now + naive_roundings(made, k)
        return near + layer.spike_penalty * float(np.sum((now - a) * z))

    return Branched(block, [branch_of(block, np.array(p)) for p in patterns], plain)
