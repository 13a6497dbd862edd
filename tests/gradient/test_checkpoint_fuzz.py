"""Mutated checkpoints of gradients, most with a digest that fits: refused in one line, or gone on from."""

import random
from collections import Counter

import pytest

pytest.importorskip("torch")

from fuzzed_files import LARGEST, mutated_checkpoint  # noqa: E402
from guarded import outcome  # noqa: E402
from small_gradients import problem  # noqa: E402

from convexsnn.gradient.training import train_gradient  # noqa: E402

KINDS = {
    "adam": {},
    "sgd": {"optimizer": "sgd"},
    "held out": {"validation": 0.25},
    "normalized": {"normalize": True, "precision": "float64"},
}
BLOCK = 1000


def small(epochs, **gradient):
    return problem(rows=slice(0, 40), epochs=epochs, schedule="constant", **gradient)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Return the problem of two epochs and the checkpoint after one, for every kind."""
    file, kinds = tmp_path_factory.mktemp("fuzz") / "run.npz", []
    for gradient in KINDS.values():
        train_gradient(small(1, **gradient), checkpoint=file)
        kinds.append((small(2, **gradient), file.read_bytes()))
        file.unlink()
    return file, kinds


def one(file, kinds, seed):
    rng = random.Random(seed)
    made, data = rng.choice(kinds)
    file.write_bytes(mutated_checkpoint(rng, data))
    result, refusal = outcome(train_gradient, made, checkpoint=file)
    if refusal:
        return type(refusal).__name__
    assert len(result.history) == 2
    return "accepted"


@pytest.fixture(autouse=True)
def small_files(monkeypatch):
    monkeypatch.setenv("CONVEXSNN_LARGEST_GB", LARGEST)


def test_mutated_checkpoints_are_refused_or_gone_on_from(checkpoints):
    found = Counter(one(*checkpoints, seed) for seed in range(40))
    assert found["ProblemFileError"] > 15 and found["accepted"] > 1


@pytest.mark.night
@pytest.mark.parametrize("block", range(1, 9))
def test_more_mutated_checkpoints_are_refused_or_gone_on_from(checkpoints, block):
    for seed in range(block * BLOCK, (block + 1) * BLOCK):
        one(*checkpoints, seed)
