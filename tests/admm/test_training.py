"""ADMM training: its rules, its choices, and networks that it makes better."""

import json

import numpy as np
import pytest
from small_splittings import TWO_LAYERS, VARIANTS, problem

import convexsnn
from convexsnn.admm.places import LocalShards
from convexsnn.admm.result import train_admm
from convexsnn.admm.shards import Batch
from convexsnn.admm.splitting import initial_weights
from convexsnn.admm.training import FAR, AdmmTraining
from convexsnn.problem import Problem
from convexsnn.simulate import simulate
from convexsnn.tasks import generate
from convexsnn.training.budget import Budget
from convexsnn.training.history import plain

STEPS = {"damping": 0.3, "trust": 0.05, "decay": 0.03, "spike_penalty": 1.0, "inertia": 0.0}
YIN_YANG = generate("yin_yang", {"steps": 3, "train": 200, "test": 10})


def yin_yang(width=12, rows=slice(None), layers=1, targets=None, **admm):
    return Problem.from_arrays(
        YIN_YANG["inputs"][rows], YIN_YANG["targets"][rows] if targets is None else targets,
        layers=[{"width": width, "bias": True}] * layers, network={"readout": "output_membrane"},
        training={"method": "admm", "loss": "softmax"}, admm=admm,
    )  # fmt: skip


def small(iterations=5, **admm):
    return yin_yang(8, slice(0, 40), 2, **{"iterations": iterations, "tolerance": 1e-12, **admm})


def tables(weights):
    return [weights.table(k) for k in range(len(weights.layers) + 1)]


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(tables(one), tables(other), strict=True))


def test_it_stops_when_nothing_moves():
    """One step, spikes that cost too much to move, and a readout that is fitted: nothing is left to do."""
    run = train_admm(problem(steps=1, admm={"iterations": 500, "spike_penalty": 1e4, "schedule": "constant",
                                            "tolerance": 1e-3})).run  # fmt: skip
    assert (run.status, run.stopped_by) == ("stationary", "residuals") and 1 < len(run.history) < 500
    for k, one in enumerate(run.history, start=1):
        assert (max(one.primal_residual, one.dual_residual) <= 1e-3) == (k == len(run.history))


def test_it_stops_after_the_iterations_and_at_the_time_limit():
    run = train_admm(small(3)).run
    assert (run.status, run.stopped_by, len(run.history)) == ("limit", "iterations", 3)
    assert [one.iteration for one in run.history] == [1, 2, 3]
    run = train_admm(small(10_000), time_limit=0.3).run
    assert (run.status, run.stopped_by) == ("limit", "time") and 0 < len(run.history) < 10_000


BATCHES = {"batch": 14, "schedule": "constant", "step": 0.3}


@pytest.mark.parametrize("variant", ["eliminated", "lifted"])
def test_an_iteration_that_the_limit_stops_is_undone_and_goes_on_from_the_checkpoint(
    monkeypatch, tmp_path, variant
):
    made, file = small(4, variant=variant, **BATCHES), tmp_path / "run.npz"
    whole = train_admm(made)
    assert len(whole.run.history) == 4
    late, begun = [], []
    monkeypatch.setattr(Budget, "is_over", property(lambda _: bool(late)))
    sweep = LocalShards.sweep

    def counted(self, weights, order, penalty, batch):
        begun.append(batch.iteration)
        if begun.count(2) == 2:  # in the second batch of the third iteration
            late.append(True)
        return sweep(self, weights, order, penalty, batch)

    monkeypatch.setattr(LocalShards, "sweep", counted)
    short = train_admm(made, time_limit=1e9, checkpoint=file)
    assert short.run.stopped_by == "time" and len(short.run.history) == 2 and begun.count(2) == 2
    monkeypatch.undo()
    resumed = train_admm(made, checkpoint=file)
    assert same(resumed.run.weights, whole.run.weights)
    first = train_admm(small(2, variant=variant, **BATCHES))
    assert same(short.run.weights, first.run.weights)


@pytest.mark.parametrize("patience", [1, 3])
def test_it_stops_when_held_out_samples_no_longer_gain(patience):
    run = train_admm(small(300, validation=0.3, patience=patience)).run
    assert (run.status, run.stopped_by) == ("limit", "validation")
    values = [one.validation_accuracy for one in run.history]
    best = int(np.argmax(values))  # the first of the best
    assert len(values) == best + 1 + patience
    assert all(max(values[: k + 1]) == max(values[: k + 1 - patience]) for k in [len(values) - 1])


def test_the_best_weights_on_held_out_samples_are_kept():
    spec = {"validation": 0.3, "schedule": "constant", **STEPS}
    made = small(12, **spec)
    training = AdmmTraining(made)
    run = training.run()
    values = [one.validation_accuracy for one in run.history]
    best = int(np.argmax(values))
    assert min(values[best + 1 :]) < values[best]
    rows = training.held_out
    outputs = simulate(run.network, made.inputs[rows]).outputs
    assert np.mean(outputs.argmax(axis=1) == made.targets[rows]) == values[best]
    short = train_admm(small(best + 1, **spec)).run
    assert same(run.weights, short.weights)


def test_labels_of_held_out_samples_train_nothing():
    first = AdmmTraining(small(6, validation=0.3, batch=9))
    first.run()
    targets = YIN_YANG["targets"][:40].copy()
    targets[first.held_out] = (targets[first.held_out] + 1) % 3
    other = AdmmTraining(
        yin_yang(8, slice(0, 40), 2, targets, iterations=6, tolerance=1e-12, validation=0.3, batch=9)
    )
    other.run()
    assert len(first.held_out) == 12 and same(first.state.weights, other.state.weights)
    for one, two in zip(first.state.history.rows, other.state.history.rows, strict=True):
        assert (one.loss, one.train_accuracy, one.lagrangian) == (
            two.loss,
            two.train_accuracy,
            two.lagrangian,
        )
        assert one.validation_loss != two.validation_loss


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_seed_gives_the_same_weights_twice(variant):
    one, again, other = (
        train_admm(small(2, variant=variant, batch=20, order="random", seed=s)) for s in (3, 3, 4)
    )
    assert same(one.run.weights, again.run.weights) and one.judged == again.judged
    assert not any(
        np.array_equal(a, b) for a, b in zip(tables(one.run.weights), tables(other.run.weights), strict=True)
    )


def test_orders_of_the_blocks():
    orders = {order: AdmmTraining(small(order=order)) for order in ("reversed", "sequential", "random")}
    assert orders["reversed"]._order(0).blocks == orders["reversed"]._order(7).blocks == (2, 1, 0)
    assert orders["sequential"]._order(3).blocks == (0, 1, 2)
    drawn = [orders["random"]._order(k).blocks for k in range(60)]
    assert set(drawn) == {(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)}
    assert drawn == [AdmmTraining(small(order="random"))._order(k).blocks for k in range(60)]
    ends = [training.run() for training in orders.values()]
    assert not same(ends[0].weights, ends[1].weights) and not same(ends[0].weights, ends[2].weights)
    assert all(np.isfinite(end.history[-1].loss) for end in ends)


@pytest.mark.parametrize(("samples", "batches"), [(40, 4), (41, 4), (7, 7), (5, 1)])
def test_batches_are_all_samples_once(samples, batches):
    parts = [Batch(2, 5, k, batches, samples).rows() for k in range(batches)]
    assert sorted(np.concatenate(parts).tolist()) == list(range(samples))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    other = [Batch(2, 6, k, batches, samples).rows() for k in range(batches)]
    assert batches in (1, 7) or not np.array_equal(parts[0], other[0])


@pytest.mark.parametrize(("batch", "batches"), [(None, 1), (40, 1), (1000, 1), (39, 2), (11, 4), (1, 40)])
def test_a_batch_has_at_most_its_size(batch, batches):
    assert AdmmTraining(small(**({} if batch is None else {"batch": batch}))).batches == batches


@pytest.mark.parametrize("variant", VARIANTS)
def test_single_precision_begins_as_double_does(variant):
    """The same start and, before thresholds part them, nearly the same first step."""
    double, single = (  # the inputs and a bias are collinear: a full fit needs a ridge above rounding
        train_admm(small(1, variant=variant, precision=p, ridge=1e-4)).run for p in ("float64", "float32")
    )
    assert {t.dtype for t in tables(single.weights)} == {np.dtype("float32")}
    for a, b in zip(tables(double.weights), tables(single.weights), strict=True):
        assert np.allclose(a, b, rtol=0, atol=2e-3 * np.abs(a).max())
    assert single.history[0].loss == pytest.approx(double.history[0].loss, rel=2e-2)


def test_penalties_are_balanced_by_the_rule():
    run = train_admm(small(12, balance=True, variant="published")).run
    expected = 1.0
    for one in run.history:
        assert one.penalty == expected
        if one.primal_residual > FAR * one.dual_residual:
            expected *= 2.0
        elif one.dual_residual > FAR * one.primal_residual:
            expected /= 2.0
    assert run.history[-1].penalty != 1.0
    assert {one.penalty for one in train_admm(small(12, variant="published")).run.history} == {1.0}


@pytest.mark.parametrize("variant", ["published", "eliminated", "proximal"])
def test_multipliers_rest_during_the_warm_up(variant):
    for warm_up in (0, 2):
        training, seen = AdmmTraining(small(4, variant=variant, multiplier_warm_up=warm_up)), []
        iterate = training._iterate

        def watched(iteration, iterate=iterate, training=training, seen=seen):
            iterate(iteration)
            seen.append(bool(np.abs(training.shards.variables()[0].multipliers).max() > 1e-12))

        training._iterate = watched
        training.run()
        assert seen == [k >= max(warm_up, 1) for k in range(4)]  # the start is feasible: nothing to move by


def test_two_sweeps_take_more_products_and_another_road():
    one, two = (train_admm(small(2, sweeps=s, damping=100.0)).run for s in (1, 2))
    assert two.history[0].products > one.history[0].products and not same(one.weights, two.weights)


def test_spikes_without_a_box_and_then_clamped_are_no_exact_update():
    spec = {"variant": "proximal", "iterations": 1}
    exact, clamped = (train_admm(small(**spec, spike_update=how)).run for how in ("exact", "clamped"))
    assert clamped.history[0].products == 0 < exact.history[0].products
    assert (
        not same(exact.weights, clamped.weights)
        and exact.history[0].lagrangian <= clamped.history[0].lagrangian
    )


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_is_reported_is_what_the_simulator_says(variant):
    made = small(3, variant=variant)
    result = train_admm(made)
    outputs = simulate(result.network, made.inputs).outputs
    share = np.mean(outputs.argmax(axis=1) == made.targets)
    loss = np.log(np.exp(outputs).sum(axis=1)) - outputs[np.arange(40), made.targets]
    last = result.run.history[-1]
    assert last.train_accuracy == result.judged.train_accuracy == share
    assert (
        last.loss
        == pytest.approx(loss.mean(), rel=1e-12)
        == pytest.approx(result.judged.objective, rel=1e-12)
    )
    rates = [float(s.mean()) for s in simulate(result.network, made.inputs).spikes]
    assert last.rates == pytest.approx(rates, rel=1e-15)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("layers", [TWO_LAYERS, [{"width": 5, "bias": True, "recurrent": True}] * 2])
def test_histories_are_finite(variant, layers):
    spec = {"variant": variant, "iterations": 10, "block_tolerance": 1e-3, "decay": 3e-2}
    run = train_admm(problem(layers, samples=21, admm=spec)).run
    told = plain(run.history)
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    for row in told:
        numbers = [v for k, v in row.items() if isinstance(v, float)] + row["rates"]
        assert np.isfinite(numbers).all() and row["dual_residual"] >= 0 and 0 < min(row["rates"])


def test_progress_tells_iterations():
    seen = []
    train_admm(small(3), progress=lambda words, share: seen.append((words.split(",")[0], share)))
    assert seen == [("iteration 1", 1 / 3), ("iteration 2", 2 / 3), ("iteration 3", 1.0), ("simulation", 1.0)]


def test_a_regression_falls():
    rng = np.random.default_rng(0)
    inputs = rng.integers(0, 2, (80, 4, 5)).astype(float)
    made = Problem.from_arrays(
        inputs, inputs[:, -1, :2].sum(axis=1) + 0.1 * inputs[:, 0, 2], layers=[{"width": 10, "bias": True}],
        network={"readout": "output_membrane"}, training={"method": "admm"},
        admm={"iterations": 20, "batch": 20, **STEPS},
    )  # fmt: skip
    result = convexsnn.train(made)
    start = simulate(initial_weights(made).network(made.network), inputs).outputs[:, 0]
    assert result.judged.train_accuracy is None and result.run.history[-1].train_accuracy is None
    outputs = simulate(result.network, inputs).outputs[:, 0]
    assert result.judged.objective == pytest.approx(0.5 * np.mean((outputs - made.targets) ** 2), rel=1e-12)
    assert result.judged.objective < 0.3 * 0.5 * np.mean((start - made.targets) ** 2)


def bright_quadrants(layers):
    """Return images of 6 x 6 noisy bits with one bright half or all even, to tell which."""
    rng, labels = np.random.default_rng(5), np.arange(60) % 3
    chance = np.full((60, 6, 6), 0.3)
    chance[labels == 0, :3] = chance[labels == 1, 3:] = 0.9
    bits = (rng.random((60, 4, 6, 6)) < chance[:, None]).astype(float).reshape(60, 4, 36)
    return Problem.from_arrays(
        bits, labels, layers=layers, network={"readout": "output_membrane"},
        training={"method": "admm", "loss": "softmax"},
        admm={"iterations": 20, "batch": 20, "validation": 0.2, **STEPS},
    )  # fmt: skip


CONVOLUTION = [
    {"width": 4, "kernel": 3, "shape": [1, 6, 6], "bias": True},
    {"width": 8, "pool": 2, "bias": True},
]


@pytest.mark.parametrize("layers", [CONVOLUTION, [{"width": 8, "recurrent": True, "bias": True}]])
def test_images_and_recurrent_layers_learn(layers):
    made = bright_quadrants(layers)
    start = simulate(initial_weights(made).network(made.network), made.inputs).outputs
    before = np.log(np.exp(start).sum(axis=1)) - start[np.arange(60), made.targets]
    result = train_admm(made)
    assert result.judged.objective < 0.6 * before.mean() and result.judged.train_accuracy > 0.8


def fitted_readout(made):
    """Return the train accuracy of the random hidden layer of the start, read out by least squares."""
    features = simulate(initial_weights(made).network(made.network), made.inputs).features
    outputs = features @ np.linalg.lstsq(features, made.encoded_targets())[0]
    return np.mean(outputs.argmax(axis=1) == made.targets)


def test_lifted_hidden_layers_are_better_than_random_ones():
    spec = {"iterations": 20, "batch": 20, "validation": 0.2, **STEPS, "decay": 0.1, "spike_penalty": 3.0}
    starts, random, trained = [], [], []
    for seed in range(3):
        made = yin_yang(8, seed=seed, **spec)
        outputs = simulate(initial_weights(made).network(made.network), made.inputs).outputs
        starts.append(np.mean(outputs.argmax(axis=1) == made.targets))
        random.append(fitted_readout(made))
        trained.append(train_admm(made).judged.train_accuracy)
    assert np.mean(trained) > np.mean(starts) + 0.2
    assert np.mean(trained) > np.mean(random) + 0.05
