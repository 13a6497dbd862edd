"""What all trainings share: budgets, weighted scores, histories with their rules, checkpoint files."""

import json
from dataclasses import dataclass

import numpy as np
import pytest

from convexsnn.arrays import digest, read_npz, write_npz
from convexsnn.errors import ProblemFileError, ShapeError
from convexsnn.networks import LIF, Layer, Network
from convexsnn.problem import Problem
from convexsnn.training import budget as budget_module
from convexsnn.training.budget import Budget
from convexsnn.training.checkpoint import CheckpointFile
from convexsnn.training.history import History, plain, read_rows
from convexsnn.training.score import Score, score, score_on_test_set

RNG = np.random.default_rng(4)
INPUTS = RNG.normal(size=(12, 3, 2))
WEIGHTS = RNG.uniform(0.2, 3.0, 12)
NETWORK = Network((Layer(RNG.normal(size=(5, 2)), LIF(0.4)),), RNG.normal(size=(5, 1)))


def regression(**more):
    targets = INPUTS.sum(axis=(1, 2))
    return Problem.from_arrays(
        INPUTS, targets, layers=[{"width": 5}], training={"loss": "squared", "regularization": 0.1},
        sample_weights=WEIGHTS, **more,
    )  # fmt: skip


class Clock:
    def __init__(self, monkeypatch):
        self.now = 100.0
        monkeypatch.setattr(budget_module, "time", self)

    def perf_counter(self):
        return self.now


def test_a_budget_is_over_when_its_time_is(monkeypatch):
    clock = Clock(monkeypatch)
    limited, free = Budget.of(5.0), Budget.of()
    assert (limited.left, limited.is_over, free.left, free.is_over) == (5.0, False, None, False)
    clock.now += 5.5
    assert (limited.left, limited.is_over, free.is_over) == (-0.5, True, False)


@pytest.mark.parametrize("limit", [0, -1.0, np.nan, np.inf, "5"])
def test_a_time_limit_is_a_positive_number(limit):
    with pytest.raises(ShapeError, match="^time_limit: "):
        Budget.of(limit)


def test_parts_share_the_deadline_and_have_checkpoints_of_their_own(tmp_path):
    told = []
    whole = Budget.of(60.0, lambda *said: told.append(said), tmp_path / "run.npz")
    part = whole.part(1, 4, "network")
    part.report("epoch 3", 0.5)
    assert told == [("network 2 of 4, epoch 3", 0.375)]
    assert part.checkpoint == tmp_path / "run-2.npz" and part.deadline == whole.deadline
    assert whole.part(0, 1, "network") is whole
    with pytest.raises(ProblemFileError, match="^checkpoint: .*no such folder"):
        Budget.of(checkpoint=tmp_path / "none" / "run.npz")


def test_scores_weigh_samples():
    """A slow sum over the samples, on all of them and on those held out."""
    made = regression()
    for rows in (None, np.array([1, 4, 7])):
        at = range(12) if rows is None else rows
        total = 0.0
        for i in at:
            u, s = np.zeros(5), np.zeros(5)
            for t in range(3):
                u = 0.9 * (u - 0.4 * s) + NETWORK.layers[0].weights @ INPUTS[i, t]
                s = (u >= 0.4).astype(float)
            z = float(s @ NETWORK.output_weights[:, 0])
            total += WEIGHTS[i] * 0.5 * (z - INPUTS[i].sum()) ** 2
        found = score(made, NETWORK, rows)
        assert found.accuracy is None and found.loss == pytest.approx(total / len(at), rel=1e-12)
        assert found.value == -found.loss
    assert score_on_test_set(made, NETWORK) is None


def test_test_sets_have_no_weights():
    made = regression(test_inputs=INPUTS[:4], test_targets=INPUTS[:4].sum(axis=(1, 2)))
    plain_problem = Problem.from_arrays(
        INPUTS[:4], INPUTS[:4].sum(axis=(1, 2)), layers=[{"width": 5}],
        training={"loss": "squared", "regularization": 0.1},
    )  # fmt: skip
    assert score_on_test_set(made, NETWORK) == score(plain_problem, NETWORK)


@dataclass(frozen=True)
class Row:
    number: int
    rates: tuple[float, ...]


def test_the_best_round_is_the_first_of_the_largest_value():
    history = History()
    for k, value in enumerate([0.5, 0.7, np.nan, 0.7, 0.6], start=1):
        history = history.after(Row(k, ()), Score(1.0, value))
        assert history.improved == (k in (1, 2))
    assert (len(history), history.best_round, history.best_value) == (5, 2, 0.7)
    free = Budget()
    assert history.stopped(9, "epochs", 3, free) == "validation"
    assert history.stopped(9, "epochs", 4, free) is None
    assert history.stopped(5, "epochs", None, free) == "epochs"
    assert history.stopped(9, "epochs", None, Budget(deadline=0.0)) == "time"
    assert History().stopped(9, "epochs", 1, free) is None


def test_a_loss_that_is_no_number_is_never_the_best():
    assert not History().after(Row(1, ()), Score(np.nan, None)).improved
    assert not History().after(Row(1, ()), None).improved


def test_rows_go_to_json_and_back():
    rows = (Row(1, (0.5, 0.25)), Row(2, ()))
    assert read_rows(Row, json.loads(json.dumps(plain(rows)))) == rows
    with pytest.raises(TypeError):
        read_rows(Row, [{"number": 1, "rate": 2}])


def test_a_checkpoint_gives_back_what_was_written(tmp_path):
    file = CheckpointFile(tmp_path / "run.npz", 7, {"seed": 1}, "another seed")
    assert not file.exists
    file.write({"a": np.arange(3), "b": np.asarray("text")})
    with file.reading() as arrays:
        assert arrays["a"].tolist() == [0, 1, 2] and str(arrays["b"]) == "text"
    with pytest.raises(ProblemFileError, match="run.npz: a checkpoint of another seed; choose another file"):
        with CheckpointFile(file.path, 7, {"seed": 2}, "another seed").reading():
            raise AssertionError("nothing is read")
    with pytest.raises(ProblemFileError, match="format 7, this version reads 8; finish it with the version"):
        with CheckpointFile(file.path, 8, {"seed": 1}, "").reading():
            raise AssertionError("nothing is read")


@pytest.mark.parametrize("name", ["format", "identity", "a", "digest"])
def test_a_checkpoint_with_another_or_no_array_is_refused(tmp_path, name):
    file = CheckpointFile(tmp_path / "run.npz", 7, {"seed": 1}, "another seed")
    file.write({"a": np.arange(3)})
    arrays = read_npz(file.path)
    for change in ({}, {name: np.asarray("x")}):
        write_npz(file.path, {k: v for k, v in arrays.items() if k != name} | change)
        with pytest.raises(ProblemFileError, match="run.npz: ") as caught:
            with file.reading() as read:
                read["a"]
        assert "\n" not in str(caught.value)


def test_what_the_reader_cannot_use_is_a_damaged_checkpoint(tmp_path):
    file = CheckpointFile(tmp_path / "run.npz", 7, {}, "")
    file.write({"a": np.arange(3)})
    assert str(read_npz(file.path)["digest"]) == digest(
        **{k: v for k, v in read_npz(file.path).items() if k != "digest"}
    )
    for error in (KeyError("b"), ValueError("of 3 values"), ProblemFileError("other shards")):
        with pytest.raises(ProblemFileError, match="run.npz: damaged"):
            with file.reading():
                raise error
