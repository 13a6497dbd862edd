"""Training by gradients: what it learns, what it stops by, and what is refused."""

import json
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from small_gradients import YIN_YANG, accuracy, problem, same  # noqa: E402

import convexsnn  # noqa: E402
from convexsnn.errors import LoweringError, ProblemFileError, ShapeError, SolverFailed  # noqa: E402
from convexsnn.gradient.loop import batches  # noqa: E402
from convexsnn.gradient.losses import LOSSES, penalty_in_torch  # noqa: E402
from convexsnn.gradient.training import GradientTraining, starting_network, train_gradient  # noqa: E402
from convexsnn.programs.losses import LOSSES as OURS  # noqa: E402
from convexsnn.simulate import simulate  # noqa: E402
from convexsnn.training.budget import Budget  # noqa: E402
from convexsnn.training.history import plain  # noqa: E402


@pytest.mark.parametrize("method", ["exodus", "bptt", "slayer"])
def test_it_learns(method):
    made = problem(method=method)
    assert {layer.gradient for layer in GradientTraining(made).module.layers} == {method}
    run = train_gradient(made)
    assert run.stopped_by == "epochs" and [one.epoch for one in run.history] == list(range(1, 21))
    assert run.history[-1].loss < 0.75 * run.history[0].loss
    assert accuracy(made, run.network) > accuracy(made, starting_network(made)) + 0.25
    assert json.loads(json.dumps(plain(run.history), allow_nan=False)) == plain(run.history)


@pytest.mark.parametrize("readout", ["spike", "membrane", "rate", "output_membrane"])
@pytest.mark.parametrize(
    "neuron", [{}, {"neuron": "threshold"}, {"recurrent": True}, {"neuron": "recurrent_threshold"}]
)
def test_every_neuron_and_readout_is_trained(neuron, readout):
    made = problem([{"width": 8, "bias": True, **neuron}] * 2, rows=slice(0, 60), epochs=12)
    made = replace(made, network=replace(made.network, readout=readout))
    run = train_gradient(made)
    assert run.history[-1].loss < run.history[0].loss
    assert run.network.readout == readout


def test_every_key_is_heard():
    """What a key changes, seen in the training's parts or by itself in what is trained."""
    made = GradientTraining(problem(surrogate="triangle", width=0.7, scale=3.0, method="slayer"))
    (layer,) = made.module.layers
    assert (layer.surrogate.shape, layer.surrogate.width, layer.scale) == ("triangle", 0.7, 3.0)
    plain, *others = (
        train_gradient(problem(epochs=2, **key)).network
        for key in ({}, {"surrogate": "gaussian"}, {"width": 0.3}, {"scale": 4.0}, {"method": "slayer"})
    )
    assert not any(same(plain, other) for other in others)
    rates = [
        simulate(starting_network(problem(rate=rate)), YIN_YANG["inputs"]).spikes[0].mean()
        for rate in (0.1, 0.4)
    ]
    assert rates == pytest.approx([0.1, 0.4], abs=0.03)


def test_learning_rates_fall_along_half_a_cosine():
    falling = [one.learning_rate for one in train_gradient(problem(epochs=4, learning_rate=0.01)).history]
    middle = 0.005 * (1 + 0.5**0.5), 0.005, 0.005 * (1 - 0.5**0.5)
    assert falling == pytest.approx([0.01, *middle], rel=1e-12)
    level = train_gradient(problem(epochs=4, learning_rate=0.01, schedule="constant")).history
    assert [one.learning_rate for one in level] == [0.01] * 4


def test_weights_decay_where_there_is_no_gradient():
    for optimizer in ("adam", "sgd"):
        made = problem(epochs=1, weight_decay=0.5, learning_rate=0.1, batch=240, optimizer=optimizer)
        training = GradientTraining(made)
        with torch.no_grad():
            training.module.layers[0].bias[:] = -90.0  # silent, and too far for any slope to matter
            training.module.layers[0].weights[:] = 1.0
            training.module.output_weights.zero_()
        training.run()
        weights = training.module.layers[0].weights.detach()
        assert weights.max() == pytest.approx(1.0 - 0.1 * 0.5, rel=1e-4)


def test_batches_are_of_the_size_asked_for():
    training, sizes = GradientTraining(problem(epochs=1, batch=60)), []
    loss = training.loss
    training.loss = lambda rows: sizes.append(rows) or loss(rows)
    training.run()
    assert [len(rows) for rows in sizes] == [60] * 4
    assert np.array_equal(np.sort(np.concatenate(sizes)), np.arange(240))
    for count, most, expected in ((149, 100, [75, 74]), (5, 2, [2, 2, 1]), (3, 7, [3])):
        assert [len(rows) for rows in batches(np.arange(count), most)] == expected


def test_no_epoch_begins_when_the_time_is_over(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("convexsnn.gradient.loop.time.perf_counter", lambda: clock[0])

    def tick(*_):
        clock[0] += 1.0

    run = train_gradient(problem(), time_limit=2.5, progress=tick)
    assert run.stopped_by == "time" and len(run.history) == 3
    monkeypatch.undo()
    made = problem(precision="float64")
    none = train_gradient(made, time_limit=1e-9)
    assert none.stopped_by == "time" and not none.history and same(none.network, starting_network(made))


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_an_epoch_that_the_limit_stops_is_undone_and_goes_on_from_the_checkpoint(
    monkeypatch, tmp_path, optimizer
):
    keys = {"precision": "float64", "optimizer": optimizer, "batch": 50, "schedule": "constant"}
    made, file = problem(epochs=4, **keys), tmp_path / "run.npz"
    whole = train_gradient(made)
    late, begun = [], []
    monkeypatch.setattr(Budget, "is_over", property(lambda _: bool(late)))
    loss = GradientTraining.loss

    def counted(self, rows):
        begun.append(len(self.history))
        if begun.count(2) == 2:  # in the second batch of the third epoch
            late.append(True)
        return loss(self, rows)

    monkeypatch.setattr(GradientTraining, "loss", counted)
    short = train_gradient(made, time_limit=1e9, checkpoint=file)
    assert short.stopped_by == "time" and len(short.history) == 2 and begun.count(2) == 2
    monkeypatch.undo()
    assert same(short.network, train_gradient(problem(epochs=2, **keys)).network)
    assert same(train_gradient(made, checkpoint=file).network, whole.network)


@pytest.mark.parametrize("kind", ["l1", "group"])
def test_the_objective_is_the_problems_own(kind):
    """What is trained on is loss and penalty as the program has them, on all samples, with their weights."""
    penalties = {"l1": lambda w: np.abs(w).sum(), "group": lambda w: np.linalg.norm(w, axis=1).sum()}
    for loss in LOSSES:
        rows = np.flatnonzero(YIN_YANG["targets"] < (3 if loss == "softmax" else 2))
        made = problem(loss=loss, precision="float64", regularization=0.01, rows=rows)
        made = replace(
            made, training=replace(made.training, penalty=kind),
            sample_weights=np.random.default_rng(0).uniform(0.2, 3.0, len(rows)),
        )  # fmt: skip
        training = GradientTraining(made)
        with torch.no_grad():
            found = float(training.loss(np.arange(len(rows))))
        network = training.module.network()
        program = convexsnn.lower(replace(made, dictionary=replace(made.dictionary, count=20))).program
        table = simulate(network, made.inputs).outputs.reshape(program.targets.shape)
        losses = program.row_scale[:, 0] @ program.loss.value(table, program.targets)
        assert found == pytest.approx(losses + 0.01 * penalties[kind](network.output_weights), rel=1e-12)


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_are_those_of_the_programs(loss):
    rng = np.random.default_rng(0)
    z = rng.normal(size=(40, 3)) * 3
    y = np.eye(3)[rng.integers(0, 3, 40)] if loss == "softmax" else np.sign(rng.normal(size=(40, 3)))
    found = LOSSES[loss](torch.tensor(z), torch.tensor(y))
    assert found.numpy() == pytest.approx(OURS[loss].value(z, y), rel=1e-12)
    weights = torch.tensor(z)
    assert float(penalty_in_torch("l1")(weights)) == pytest.approx(np.abs(z).sum())
    assert float(penalty_in_torch("group")(weights)) == pytest.approx(np.linalg.norm(z, axis=1).sum())


def test_the_seed_is_all_that_is_random():
    runs = [train_gradient(problem(epochs=3, seed=seed)).network for seed in (1, 1, 2)]
    assert same(runs[0], runs[1]) and not same(runs[0], runs[2])


def test_dropout_leaves_out_inputs_while_training():
    training = GradientTraining(problem(dropout=0.25))
    given = torch.rand(200, 4, 5) + 1.0
    first, second = training.dropped(given), training.dropped(given)
    kept = first != 0
    assert torch.allclose(first[kept], (given / 0.75)[kept]) and not torch.equal(first, second)
    assert torch.equal(kept, kept[:, :1].expand_as(kept))  # in all steps the same inputs
    assert 0.2 < (~kept[:, 0]).double().mean() < 0.3
    assert len({tuple(row) for row in kept[:, 0].tolist()}) > 5  # others for other samples
    training.module.eval()
    assert torch.equal(training.dropped(given), given)
    plain, other = (train_gradient(problem(epochs=3, dropout=p)).history for p in (0.0, 0.25))
    assert plain[-1].loss != other[-1].loss


def test_the_best_on_held_out_samples_is_kept():
    made = problem(epochs=15, validation=0.3)
    run = train_gradient(made)
    held = GradientTraining(made).held_out
    outputs = simulate(run.network, made.inputs[held]).outputs
    best = max(one.validation_accuracy for one in run.history)
    assert np.mean(outputs.argmax(axis=1) == np.asarray(made.targets)[held]) == pytest.approx(best, abs=1e-12)
    early = train_gradient(problem(epochs=500, validation=0.3, patience=3, learning_rate=0.05))
    assert early.stopped_by == "validation" and len(early.history) < 500


def test_mixed_precision_is_near_single():
    runs = [train_gradient(problem(epochs=3, precision=p)) for p in ("mixed", "float32", "float64")]
    losses = [run.history[-1].loss for run in runs]
    assert losses[0] == pytest.approx(losses[1], rel=0.1) and losses[1] == pytest.approx(losses[2], rel=0.05)
    assert losses[0] != losses[1]


def test_normalised_training_ends_in_a_plain_network():
    made = problem([{"width": 20, "bias": True}] * 3, normalize=True, validation=0.2)
    run = train_gradient(made)
    assert run.history[-1].loss < 0.75 * run.history[0].loss
    held = GradientTraining(made).held_out
    outputs = simulate(run.network, made.inputs[held]).outputs
    best = max(one.validation_accuracy for one in run.history)
    assert np.mean(outputs.argmax(axis=1) == np.asarray(made.targets)[held]) == pytest.approx(best, abs=1e-12)
    with pytest.raises(ShapeError, match="normalize: folds into a bias"):
        train_gradient(problem([{"width": 20}], normalize=True))


def test_hidden_weights_stay_in_the_box():
    made = problem(dictionary={"weight_box": 0.8}, epochs=5, learning_rate=0.1)
    layer = train_gradient(made).network.layers[0]
    assert np.abs(layer.weights).max() == pytest.approx(0.8, rel=1e-6)


@pytest.mark.parametrize("box", [0.1, 0.3, 0.5, 0.7])  # two are rounded up to single precision, one down
def test_weights_on_the_edge_of_the_box_are_in_it(box):
    dictionary = {"source": "surrogate_gradient", "weight_box": box, "margin": 0.0}
    result = convexsnn.train(problem(dictionary=dictionary, epochs=3, learning_rate=0.1))
    largest = np.abs(result.trained[0].layers[0].weights).max()
    assert 0.999 * box < largest <= box


def test_held_out_samples_are_judged_with_their_weights():
    made = problem(loss="squared", epochs=1, validation=0.3, precision="float64", rows=slice(0, 60))
    given = np.random.default_rng(0).uniform(0.01, 3.0, 60)
    made = replace(made, sample_weights=given)
    training = GradientTraining(made)
    (last,), rows = training.run().history, training.held_out
    outputs = simulate(training.module.network(), made.inputs[rows]).outputs
    losses = OURS["squared"].value(outputs, made.encoded_targets()[rows])
    assert last.validation_loss == pytest.approx(np.mean(given[rows] * losses))


def test_a_loss_that_is_not_finite_stops(tmp_path):
    file = tmp_path / "run.npz"
    made = problem(epochs=4, checkpoint_every=1, loss="softmax")
    training = GradientTraining(made, Budget.of(checkpoint=file))
    objective = training.loss
    training.loss = lambda rows: objective(rows) * (torch.nan if len(training.history) == 2 else 1.0)
    with pytest.raises(
        SolverFailed, match=r"the loss is nan in epoch 3; take a smaller gradient.learning_rate"
    ):
        training.run()
    assert len(train_gradient(made, checkpoint=file).history) == 4


def test_gradients_and_weights_that_are_not_finite_stop(tmp_path):
    """Units with weights that are NaN never fire, so that the loss is finite."""
    file = tmp_path / "run.npz"
    training = GradientTraining(problem(epochs=1, batch=240), Budget.of(checkpoint=file))
    training.module.output_weights.register_hook(lambda grad: grad * torch.inf)
    with pytest.raises(SolverFailed, match="a gradient is not finite in epoch 1; .* a larger gradient.width"):
        training.run()
    training = GradientTraining(problem(epochs=1, batch=240), Budget.of(checkpoint=file))
    (layer,) = training.module.layers
    training.optimizer.register_step_post_hook(lambda *_: layer.weights.data.fill_(np.nan))
    with pytest.raises(SolverFailed, match="a weight is not finite in epoch 1"):
        training.run()
    assert not file.exists()


def test_one_value_cannot_be_normalised():
    made = problem([{"width": 4, "bias": True}], batch=1, normalize=True)
    made = replace(made, inputs=made.inputs[:, :1])
    with pytest.raises(ShapeError, match="batch: 1; a batch of 1: Expected more than 1 value") as caught:
        train_gradient(made)
    assert str(caught.value).count("\n") == 0


@pytest.mark.parametrize(
    "made, error, words",
    [
        (lambda: problem(device="cuda"), ShapeError, "device: 'cuda', but torch finds no GPU"),
        (lambda: subnetworks(2), LoweringError, "network.subnetworks: 2: gradients train one stack"),
        (lambda: problem([{"width": 2, "pool": 1, "kernel": 1, "shape": [4, 1, 1]}]), LoweringError, "dense"),
        (lambda: problem(validation=0.001), ShapeError, "validation: "),
        (lambda: problem(width=1e-16), ProblemFileError, "gradient.width: expected at least 1e-15"),
        (lambda: problem(scale=1e10), ProblemFileError, "gradient.scale: expected at most"),
        (lambda: problem(weight_decay=1e10), ProblemFileError, "gradient.weight_decay: expected at most"),
    ],
)
def test_what_is_refused(made, error, words):
    if torch.cuda.is_available() and "cuda" in words:
        pytest.skip("there is a GPU")
    with pytest.raises((error, ShapeError, ProblemFileError), match=words):
        train_gradient(made())


def subnetworks(count):
    made = problem()
    return replace(made, network=replace(made.network, subnetworks=count))


def test_without_torch_the_extra_is_named(monkeypatch):
    import sys

    for name in [name for name in sys.modules if name.startswith("convexsnn.gradient")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(convexsnn.NotInstalled, match=r"convexsnn\[torch\]"):
        convexsnn.lower(problem(dictionary={"source": "surrogate_gradient"}))


def test_progress_tells_epochs():
    told = []
    train_gradient(problem(epochs=3), progress=lambda *given: told.append(given))
    assert [share for _, share in told] == [pytest.approx(k / 3) for k in (1, 2, 3)]
    assert told[0][0].startswith("epoch 1, objective ")


@pytest.mark.parametrize("limit", ["a", np.nan, -1, 0])
def test_a_time_limit_is_a_positive_number(limit):
    with pytest.raises(ShapeError, match="^time_limit: expected a positive number"):
        train_gradient(problem(), time_limit=limit)
