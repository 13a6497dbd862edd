"""Checkpoints of training by gradients: gone on from alike, refused where they are of others or altered."""

import json
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")

from small_gradients import problem, same, witnesses  # noqa: E402

import convexsnn  # noqa: E402
from convexsnn.arrays import read_npz, write_npz  # noqa: E402
from convexsnn.errors import ProblemFileError  # noqa: E402
from convexsnn.gradient.training import GradientTraining, train_gradient  # noqa: E402
from convexsnn.problem import Problem  # noqa: E402
from convexsnn.training.budget import Budget  # noqa: E402


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("validation", [0.0, 0.25])
def test_a_checkpoint_goes_on_with_the_same_trajectory(tmp_path, optimizer, validation):
    made = problem(epochs=9, checkpoint_every=4, optimizer=optimizer, validation=validation, dropout=0.1)
    whole = train_gradient(made)
    file = tmp_path / "run.npz"
    training = GradientTraining(made, Budget.of(checkpoint=file))
    stop = iter([None] * 7 + ["time"])
    training._stopped = lambda: next(stop)
    assert training.run().stopped_by == "time" and len(training.history) == 7
    again = train_gradient(made, checkpoint=file)
    assert same(again.network, whole.network)
    for one, other in zip(again.history, whole.history, strict=True):
        assert replace(one, seconds=0) == replace(other, seconds=0)


def test_checkpoints_of_others_are_refused(tmp_path):
    file = tmp_path / "run.npz"
    train_gradient(problem(epochs=1), checkpoint=file)
    for other in (problem(epochs=1, seed=5), problem(epochs=1, rows=slice(0, 200)), problem(epochs=2)):
        with pytest.raises(ProblemFileError, match="of other data, another network"):
            train_gradient(other, checkpoint=file)
    train_gradient(problem(epochs=1, networks=3), checkpoint=file)  # a key that is not for one network
    before = file.read_bytes()[:-30]
    file.write_bytes(before)
    with pytest.raises(ProblemFileError, match="run.npz"):
        train_gradient(problem(epochs=1), checkpoint=file)
    assert file.read_bytes() == before


def altered(change):
    def alter(arrays):
        rows = json.loads(str(arrays["history"]))
        arrays["history"] = np.asarray(json.dumps(change(rows)))

    return alter


@pytest.mark.parametrize(
    "change",
    [
        altered(lambda rows: [1, 2]),
        altered(lambda rows: rows[:1]),
        altered(lambda rows: [{**row, "loss": 0.0} for row in rows]),
        lambda arrays: arrays.update({"weights.output_weights": arrays["weights.output_weights"] * 2}),
        lambda arrays: arrays.pop("weights.output_weights"),
        lambda arrays: arrays.pop("optimizer.0.step"),
        lambda arrays: arrays.update({"optimizer.0.exp_avg": np.zeros(3, dtype=np.float32)}),
        lambda arrays: arrays.update(best=np.array([np.nan, np.inf])),
        lambda arrays: arrays.pop("digest"),
        lambda arrays: arrays.update(format=np.asarray("x")),
    ],
)
def test_altered_checkpoints_are_refused(tmp_path, change):
    file, made = tmp_path / "run.npz", problem(epochs=2, validation=0.2)
    train_gradient(made, checkpoint=file)
    arrays = read_npz(file)
    change(arrays)
    write_npz(file, arrays)
    with pytest.raises(ProblemFileError, match="run.npz: damaged") as caught:
        train_gradient(made, checkpoint=file)
    assert str(caught.value).count("\n") == 0


def test_a_checkpoint_needs_a_folder(tmp_path):
    with pytest.raises(ProblemFileError, match="checkpoint: .*no such folder"):
        train_gradient(problem(), checkpoint=tmp_path / "no" / "run.npz")


def test_every_network_has_its_own_checkpoint(cli, tmp_path):
    made = witnesses(checkpoint_every=1)
    made.save(tmp_path)
    stopped = []

    def stop(what, share):
        stopped.append(what)
        if what.startswith("network 2 of 3, epoch 2"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convexsnn.train(made, checkpoint=tmp_path / "run.npz", progress=stop)
    assert sorted(file.name for file in tmp_path.glob("run*")) == ["run-1.npz", "run-2.npz"]
    status, out, err = cli("solve", "problem.toml", "--checkpoint", "run.npz", "--json")
    assert status == 0, err
    assert json.loads(out)["trained"] == convexsnn.train(made).summary()["trained"]
    assert sorted(file.name for file in tmp_path.glob("run*")) == ["run-1.npz", "run-2.npz", "run-3.npz"]
    status, _, err = cli("solve", "xor", "--checkpoint", "run.npz")
    assert status == 2 and 'checkpoint: is for training.method = "admm" or dictionary.source' in err
    status, _, err = cli("solve", "problem.toml", "--checkpoint", "no/run.npz")
    assert status == 2 and "checkpoint: no/run.npz: no such folder no" in err and err.count("\n") == 1


def test_the_same_numbers_in_another_shape_are_other_data(tmp_path):
    inputs = np.random.default_rng(0).normal(size=(6, 4, 3))
    for shape in ((6, 4, 3), (4, 6, 3)):
        made = Problem.from_arrays(
            inputs.reshape(shape), inputs[..., 0].reshape(shape[:2]), layers=[{"width": 5, "bias": True}],
            network={"supervise": "all"}, training={"loss": "squared", "regularization": 0.1},
            gradient={"epochs": 1},
        )  # fmt: skip
        if shape[0] == 6:
            train_gradient(made, checkpoint=tmp_path / "run.npz")
        else:
            with pytest.raises(ProblemFileError, match="of other data"):
                train_gradient(made, checkpoint=tmp_path / "run.npz")


def test_more_epochs_than_asked_for_are_refused(tmp_path):
    file = tmp_path / "run.npz"
    train_gradient(problem(epochs=3, schedule="constant"), checkpoint=file)
    with pytest.raises(ProblemFileError, match="run.npz: a checkpoint of 3 epochs, more than gradient"):
        train_gradient(problem(epochs=2, schedule="constant"), checkpoint=file)
    more = train_gradient(problem(epochs=4, schedule="constant"), checkpoint=file)
    assert same(more.network, train_gradient(problem(epochs=4, schedule="constant")).network)


def test_another_file_is_no_checkpoint(tmp_path):
    write_npz(tmp_path / "data.npz", {"inputs": np.ones(3)})
    with pytest.raises(ProblemFileError, match="data.npz: damaged, or no checkpoint: no 'format'"):
        train_gradient(problem(), checkpoint=tmp_path / "data.npz")
