"""Mutated checkpoints of ADMM, most of them with a digest that fits: refused in one line, or gone on from."""

import random
from collections import Counter

import numpy as np
import pytest
from fuzzed_files import LARGEST, mutated_checkpoint
from guarded import outcome
from small_splittings import problem

from convexsnn.admm.result import train_admm

KINDS = {
    "lifted": {"variant": "lifted"},
    "proximal in batches": {"variant": "proximal", "batch": 4, "order": "random"},
    "published": {"variant": "published", "balance": True},
    "restarted, held out": {"variant": "restarted", "validation": 0.25, "precision": "float32"},
}
BLOCK = 1000


def small(iterations, **admm):
    spec = {"iterations": iterations, "schedule": "constant", "block_tolerance": 1e-3, "tolerance": 1e-12}
    return problem(samples=9, admm={**spec, **admm})


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Return the problem of three iterations and the checkpoint after two, for every kind."""
    file, kinds = tmp_path_factory.mktemp("fuzz") / "run.npz", []
    for admm in KINDS.values():
        train_admm(small(2, **admm), checkpoint=file)
        kinds.append((small(3, **admm), file.read_bytes()))
        file.unlink()
    return file, kinds


def one(file, kinds, seed):
    rng = random.Random(seed)
    made, data = rng.choice(kinds)
    file.write_bytes(mutated_checkpoint(rng, data))
    result, refusal = outcome(train_admm, made, checkpoint=file)
    if refusal:
        return type(refusal).__name__
    assert len(result.run.history) == 3 and np.isfinite(result.judged.objective)
    return "accepted"


@pytest.fixture(autouse=True)
def small_files(monkeypatch):
    monkeypatch.setenv("CONVEXSNN_LARGEST_GB", LARGEST)


def test_mutated_checkpoints_are_refused_or_gone_on_from(checkpoints):
    found = Counter(one(*checkpoints, seed) for seed in range(40))
    assert found["ProblemFileError"] > 15 and found["accepted"] > 3


@pytest.mark.night
@pytest.mark.parametrize("block", range(1, 9))
def test_more_mutated_checkpoints_are_refused_or_gone_on_from(checkpoints, block):
    for seed in range(block * BLOCK, (block + 1) * BLOCK):
        one(*checkpoints, seed)
