"""Networks trained by gradients as witnesses of the convex program, and what is told of them."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("torch")

from small_gradients import accuracy, problem, same, witnesses  # noqa: E402

import convexsnn  # noqa: E402
from convexsnn.convex.words import summary_text  # noqa: E402
from convexsnn.gradient.training import starting_network, train_gradient  # noqa: E402
from convexsnn.programs.losses import LOSSES as OURS  # noqa: E402
from convexsnn.simulate import simulate  # noqa: E402


def test_its_hidden_layers_are_witnesses():
    made = problem(dictionary={"source": "surrogate_gradient", "margin": 0.0}, epochs=10)
    result = convexsnn.train(made)
    trained = train_gradient(made).network
    assert result.status == "optimal_on_dictionary" and result.lowered.dictionary.patterns <= 20
    outputs = simulate(trained, made.inputs).outputs
    loss = OURS["softmax"].value(outputs, made.encoded_targets()).mean()
    objective = loss + 1e-3 * np.abs(trained.output_weights).sum()
    assert result.certificate.objective <= objective
    (row,), (kept,) = result.trained_as, result.trained
    assert same(kept, trained) and result.summary()["trained"] == [row]
    assert row["objective"] == pytest.approx(objective, rel=1e-12) and row["units"] == 20
    assert row["train_accuracy"] == accuracy(made, trained) and row["test_accuracy"] is None
    assert made.fingerprint() == replace(made, gradient=replace(made.gradient, seed=3)).fingerprint()
    assert made.tables()["gradient"]["epochs"] == 10 and "gradient" not in problem().tables()


def test_several_networks_have_seeds_one_apart_and_all_give_witnesses():
    made, told = witnesses(), []
    result = convexsnn.train(made, progress=lambda *given: told.append(given))
    alone = [train_gradient(problem(epochs=3, seed=seed)).network for seed in (4, 5, 6)]
    assert all(same(one, other) for one, other in zip(result.trained, alone, strict=True))
    patterns = np.concatenate([simulate(one, made.inputs).spikes[0][:, -1] for one in alone], axis=1)
    wanted = {column.tobytes() for column in patterns.T if column.any()}
    found = {column.tobytes() for column in result.lowered.dictionary.columns.toarray().T}
    assert found == wanted and len(wanted) > 20
    shares = [share for what, share in told if "epoch" in what]
    assert shares == pytest.approx([k / 9 for k in range(1, 10)])
    epochs = [what.split(", objective")[0] for what, _ in told if "epoch" in what]
    assert epochs == [f"network {i} of 3, epoch {e}" for i in (1, 2, 3) for e in (1, 2, 3)]


def test_a_time_limit_that_cuts_training_short_is_told(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr("convexsnn.training.budget.time", SimpleNamespace(perf_counter=lambda: clock[0]))

    def tick(what, share):
        clock[0] += 2.0 * ("epoch" in what)

    summary = convexsnn.train(witnesses(), time_limit=9.0, progress=tick).summary()
    ends = [(row["stopped_by"], row["rounds"]) for row in summary["trained"]]
    assert ends == [("epochs", 3), ("time", 2)] and summary["trained_of"] == 3
    text = summary_text({**summary, "out": None})
    assert "stopped by time after 2 rounds" in text and "time was over after 2 of 3 networks" in text
    whole = summary_text({**convexsnn.train(witnesses(epochs=1)).summary(), "out": None})
    assert "time" not in whole.replace("times", "")


def test_without_any_time_the_start_gives_the_witnesses():
    result = convexsnn.train(witnesses(precision="float64"), time_limit=1e-9)
    (row,) = result.summary()["trained"]
    assert (row["stopped_by"], row["rounds"]) == ("time", 0)
    assert same(result.trained[0], starting_network(witnesses()))
