"""No block of a splitting ever raises its augmented Lagrangian, which a slow twin adds up too."""

import numpy as np
import pytest
from slow_shares import one_of
from small_splittings import IMAGES, TWO_LAYERS, VARIANTS, naive_lagrangian, perturbed, problem

from convexsnn.admm.spike_blocks import spike_blocks
from convexsnn.admm.splitting import VARIANTS as CHOICES
from convexsnn.admm.splitting import AdmmSplitting, weight_block
from convexsnn.simulate import simulate

RECURRENT = [{"width": 3, "bias": True, "recurrent": True}, {"width": 4, "recurrent": True}]
GRID = [{"width": 3, "leak": [0.3, 0.9]}, {"width": 4, "leak": [0.0, 1.0], "bias": True}]
THRESHOLD = [{"width": 3, "neuron": "threshold", "threshold": 0.5}, {"width": 4, "neuron": "threshold"}]
LOSSES = ("squared", "hinge", "squared_hinge", "logistic", "softmax")
ARCHITECTURES = {
    "one layer": {"layers": [{"width": 4}]},
    "three layers": {"layers": [*TWO_LAYERS, {"width": 3, "bias": True}]},
    "recurrent": {"layers": RECURRENT},
    "leak grids": {"layers": GRID},
    "threshold": {"layers": THRESHOLD},
    "subtract_after": {"layers": [{"width": 4, "reset": "subtract_after"}] * 2},
    "none": {"layers": [{"width": 4, "reset": "none"}] * 2},
    "images": {"layers": IMAGES, "inputs": 20, "steps": 3},
    "convolution on top": {
        "layers": [{"width": 2, "kernel": 2, "stride": 2, "pool": 2, "shape": [1, 8, 8], "bias": True},
                   {"width": 2, "kernel": 2}],
        "inputs": 64, "steps": 2, "samples": 4,
    },
    "one step": {"steps": 1},
    "width 1": {"layers": [{"width": 1, "bias": True}] * 2},
    "rate": {"readout": "rate"},
    "spike": {"readout": "spike"},
    "leak 1": {"readout_leak": 1.0},
}  # fmt: skip


def put_into(table, where):
    """Return a function that writes a block's point to its place in a table."""

    def put(point):
        table[where] = point.reshape(table[where].shape)

    return put


def block_moves(split, made):
    """Yield every block but the weights', in turn: block, where it is, the new point, how to put it there."""
    shared, steps = split.splitting, split.inputs.shape[1]
    outputs = [split.output_block()]
    places = [(slice(None), -1) if shared.every_output else slice(None)]
    if shared.every_output:
        for t in range(steps - 1):
            block = split.output_step_block(t)
            yield (
                block,
                split.outputs[:, t].copy(),
                block.minimize(),
                put_into(split.outputs, (slice(None), t)),
            )
        outputs = [split.output_block()]
    for block, where in zip(outputs, places, strict=True):
        yield block, split.outputs[where].copy(), block.minimize(), put_into(split.outputs, where)
    for k in reversed(range(len(split.spikes))):
        for where, block in spike_blocks(split, k):
            place, old = (slice(None), where), split.spikes[k][:, where].reshape(block.shape).copy()
            into = put_into(split.spikes[k], place)

            def put(point, into=into):
                into(point)
                split.use(split.weights)

            yield block, old, block.minimize(old, tolerance=1e-11), put
        if shared.membranes == "step":
            for t in range(steps):
                block = split.membrane_block(k, t)
                place = (slice(None), t)
                yield (
                    block,
                    split.membranes[k][:, t].copy(),
                    block.minimize(),
                    put_into(split.membranes[k], place),
                )
        else:
            block = split.chain_block(k)
            yield (
                block,
                split.membranes[k].copy(),
                block.minimize(),
                put_into(split.membranes[k], slice(None)),
            )


def weight_moves(split, made):
    """Yield the block of every layer's weights: table, block, ρ and the point its damping pulls to."""
    full, penalties = (
        CHOICES[made.admm.variant].full_fit,
        [layer.coupling for layer in split.splitting.layers],
    )
    for k, rho in enumerate([*penalties, split.splitting.output_penalty]):
        table, sums = split.weights.table(k), split.sums(k)
        block = weight_block(f"weights {k}", table, sums, sums.gram, made.admm, full)
        yield k, block, rho, table, np.zeros_like(table) if full else table


def descend(made, rounds=3):
    """Move every block some rounds long and return the Lagrangian before and after all of it.

    After each move the Lagrangian has fallen, and by just as much as the block's own objective.
    """
    split = perturbed(made)
    first = last = split.lagrangian()
    scale = 1e-10 * max(1.0, abs(first))
    for _ in range(rounds):
        for block, old, new, put in block_moves(split, made):
            put(new)
            now = split.lagrangian()
            assert now <= last + scale, block.name
            assert now - last == pytest.approx(block.objective(new) - block.objective(old), abs=scale), (
                block.name
            )
            last = now
        for k, block, rho, table, center in weight_moves(split, made):
            new, mu = block.minimize(), float(block.quadratic.diagonal[0])
            split.use(split.weights.with_tables({k: new}))
            now = split.lagrangian()
            pull = 0.5 * mu * (np.sum((new - center) ** 2) - np.sum((table - center) ** 2))
            assert now + rho * pull <= last + scale, block.name
            assert now - last + rho * pull == pytest.approx(
                rho * (block.objective(new) - block.objective(table)), abs=scale
            ), block.name
            last = now
    return first, last


@pytest.mark.parametrize("membranes", ["joint", "step"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_no_block_of_any_variant_raises_the_lagrangian(variant, membranes):
    first, last = descend(problem(admm={"variant": variant, "membrane_update": membranes}), rounds=5)
    assert last < first - 0.3 * abs(first)


@pytest.mark.parametrize("membranes", ["joint", "step"])
@pytest.mark.parametrize(
    "variant", ["published", "eliminated", "lifted"]
)  # the others differ in the road alone
@pytest.mark.parametrize("name", one_of(ARCHITECTURES, 2))
def test_no_block_of_any_network_raises_the_lagrangian(variant, membranes, name):
    made = problem(admm={"variant": variant, "membrane_update": membranes}, **ARCHITECTURES[name])
    first, last = descend(made)
    assert last < first - 0.3 * abs(first)


@pytest.mark.parametrize("variant", ["published", "lifted"])
@pytest.mark.parametrize("loss", LOSSES)
def test_no_block_raises_the_lagrangian_of_any_loss(loss, variant):
    first, last = descend(problem(loss=loss, admm={"variant": variant, "membrane_update": "joint"}))
    assert last < first - 0.3 * abs(first)


@pytest.mark.parametrize("variant", VARIANTS)
def test_minima_are_minima_of_the_lagrangian_itself(variant):
    """Nothing near a block's point, within what it may move, is better."""
    made, rng = problem(admm={"variant": variant, "membrane_update": "step"}), np.random.default_rng(1)
    split = perturbed(made)
    for block, _, new, put in block_moves(split, made):
        put(new)
        least = split.lagrangian()
        for size in (1e-3, 0.1, 3.0):
            other = new + size * rng.normal(size=new.shape)
            put(np.clip(other, 0, 1) if block.name.startswith("spikes") else other)
            assert split.lagrangian() >= least - 1e-10 * max(1.0, abs(least)), block.name
        put(new)


@pytest.mark.parametrize("variant", ["published", "eliminated", "lifted"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_lagrangian_is_the_sum_that_is_written(variant, name):
    made = problem(admm={"variant": variant, "penalty": 0.7}, **ARCHITECTURES[name])
    split = perturbed(made)
    assert split.lagrangian() == pytest.approx(naive_lagrangian(made, split), rel=1e-12)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_lagrangian_of_every_loss_is_the_sum_that_is_written(loss):
    made = problem(loss=loss)
    split = perturbed(made)
    assert split.lagrangian() == pytest.approx(naive_lagrangian(made, split), rel=1e-12)


@pytest.mark.parametrize("variant", ["published", "eliminated", "lifted"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_restart_is_feasible_and_costs_the_loss_of_the_simulated_network(variant, name):
    made = problem(admm={"variant": variant}, **ARCHITECTURES[name])
    split = perturbed(made)
    split.restart(split.weights)
    network = AdmmSplitting().reconstruct(AdmmSplitting().lower(made), split.weights)
    trace = simulate(network, made.inputs)
    for k, (z, a) in enumerate(zip(trace.membranes, trace.spikes, strict=True)):
        assert np.array_equal(split.spikes[k], a) and np.array_equal(split.membranes[k], z)
        assert np.abs(split.residual(k)).max() <= 1e-14 * max(1.0, np.abs(z).max())
    assert np.abs(split.output_residual()).max() <= 1e-14 * max(1.0, np.abs(split.outputs).max())
    assert not split.multipliers.any() and split.violation()[0] == 0
    loss = made.row_weights() @ split.splitting.loss.value(trace.outputs, made.encoded_targets())
    assert split.lagrangian() == pytest.approx(loss, rel=1e-13)


def test_multipliers_move_along_the_residual_of_the_readout():
    for variant in ("published", "lifted"):
        split = perturbed(problem(admm={"variant": variant, "penalty": 0.7}))
        before, residual = split.multipliers.copy(), split.output_residual()
        split.step_multipliers()
        last = residual[:, -1] if variant == "published" else residual
        assert np.array_equal(split.multipliers, before + 0.7 * last)


@pytest.mark.parametrize("layers", [TWO_LAYERS, RECURRENT])
def test_samples_apart_are_samples_together(layers):
    """The Lagrangian and the sums for the weights add up over samples."""
    lowered = AdmmSplitting().lower(problem(layers))
    whole, parts = lowered.split(), [lowered.split(slice(0, 3)), lowered.split(slice(3, None))]
    assert whole.lagrangian() == pytest.approx(sum(part.lagrangian() for part in parts), rel=1e-14)
    for k in range(3):
        sums, total = whole.sums(k), parts[0].sums(k).plus(parts[1].sums(k))
        assert np.allclose(sums.gram, total.gram, rtol=1e-13, atol=0)
        assert np.allclose(sums.moment, total.moment, rtol=0, atol=1e-12)
        assert sums.square == pytest.approx(total.square, abs=1e-12)
