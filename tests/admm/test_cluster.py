"""ADMM on a real cluster: two worker processes on this machine."""

import gc
import os
import pickle
import signal
import tempfile
import threading
import time

import numpy as np
import pytest
from slow_shares import one_of
from small_clusters import SAME, far, small, tables, trajectory

from convexsnn.admm import cluster as distributed
from convexsnn.admm.cluster import on_dask
from convexsnn.admm.places import LocalShards, shards_of
from convexsnn.admm.result import train_admm
from convexsnn.errors import ProblemFileError, SolverFailed

WIDE = [{"width": 40, "bias": True}, {"width": 20, "leak": 0.7}]

# --- the same result ----------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [None, 13])
@pytest.mark.parametrize("loss", ["softmax", "squared"])
@pytest.mark.parametrize("variant", one_of(["eliminated", "published", "lifted"], 3))
def test_the_result_is_that_of_one_process(client, variant, loss, batch):
    made = small(variant, loss=loss, batch=batch, iterations=6, damping=100.0)
    here, there = train_admm(made), train_admm(made, place=on_dask(client))
    assert len(there.run.history) == 6
    assert far(here, there) <= SAME
    assert there.judged.objective == pytest.approx(here.judged.objective, rel=SAME)
    assert [row.rates for row in there.run.history] == [row.rates for row in here.run.history]


@pytest.mark.parametrize("variant", ["published", "lifted"])
def test_the_result_is_just_that_of_the_same_shards_in_one_process(client, variant):
    """One shard or two differ by the rounding of sums, which a long training may blow up; places do not."""
    made = small(variant, batch=13)
    here = train_admm(
        made,
        place=lambda lowered, rows: LocalShards(shards_of(lowered, rows, 2), lowered.weights, made),
    )
    there = train_admm(made, place=on_dask(client))
    assert trajectory(there) == trajectory(here)
    assert far(here, there) == 0.0


@pytest.mark.parametrize("variant", ["proximal", "restarted"])
def test_float32_held_out_samples_and_more_shards_than_workers(client, variant):
    made = small(variant, validation=0.2, precision="float32", multiplier_warm_up=2, sweeps=2)
    here, there = train_admm(made), train_admm(made, place=on_dask(client, count=3))
    assert far(here, there) <= 1e-4
    assert there.run.history[0].validation_loss == here.run.history[0].validation_loss


def test_never_more_shards_than_samples(client):
    made = small("eliminated", samples=4, iterations=2)
    assert far(train_admm(made), train_admm(made, place=on_dask(client, count=9))) <= SAME


def test_workers_hold_what_grows_with_the_samples(client):
    """One shard on each; when a training is over they hold nothing."""
    seen = []

    def look(*_):
        held = client.has_what().values()
        seen.append([sum(key.startswith("_load_shard") for key in keys) for keys in held])

    train_admm(small("eliminated", iterations=2), place=on_dask(client), progress=look)
    assert seen[0] == [1, 1]
    gc.collect()
    for _ in range(100):
        if not any(client.has_what().values()):
            break
        time.sleep(0.05)
    assert not any(client.has_what().values())


# --- a worker dies ------------------------------------------------------------------------------


def done(client, name, since):
    """Return how many tasks of a name the scheduler saw finished after a moment."""

    def count(dask_scheduler):
        return sum(
            str(key).startswith(name) and end == "memory" and when > since
            for key, _, end, _, _, when in dask_scheduler.transition_log
        )

    return client.run_on_scheduler(count)


class Killer:
    """A progress callback that kills workers after an iteration."""

    def __init__(self, client, count, after=5):
        self.client, self.count, self.after, self.killed = client, count, after, []

    def __call__(self, words, _):
        if words.startswith(f"iteration {self.after},"):
            held = self.client.has_what()
            assert all(any(key.startswith("_load_shard") for key in keys) for keys in held.values())
            self.killed = list(self.client.run(os.getpid).values())[: self.count]
            for pid in self.killed:
                os.kill(pid, signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize("variant, count", [("eliminated", 1), ("eliminated", 2), ("lifted", 1)])
def test_a_killed_worker_loses_nothing(client, variant, count):
    """Killed after iteration 5, files are of iteration 3: 4 and 5 are done again for what it held."""
    made, killer, begun = small(variant), Killer(client, count), time.time()
    there = train_admm(made, place=on_dask(client), progress=killer)
    assert len(killer.killed) == count
    client.wait_for_workers(2, timeout=30)
    assert not set(killer.killed) & set(client.run(os.getpid).values())
    redone = 2 * count if variant == "eliminated" else 0
    assert done(client, "sweep-", begun) >= 2 * 8 + redone
    assert done(client, "_load_shard", begun) >= 2 + count
    undisturbed = train_admm(made, place=on_dask(client))
    assert far(undisturbed, there) <= SAME and far(train_admm(made), there) <= SAME
    assert trajectory(undisturbed)[-1]["rates"] == trajectory(there)[-1]["rates"]


@pytest.mark.night
@pytest.mark.parametrize("variant", ["eliminated", "lifted"])
def test_a_worker_is_killed_while_it_works(client, variant):
    made = small(variant, samples=3000, layers=WIDE)
    timers, killed = [], []

    def kill():
        os.kill(killed[0], signal.SIGKILL)

    def later(words, _):
        if words.startswith("iteration 5,"):
            killed.extend(client.run(os.getpid).values())
            timers.append(threading.Timer(0.5 * undisturbed.run.history[4].seconds, kill))
            timers[0].start()

    undisturbed = train_admm(made, place=on_dask(client))
    there = train_admm(made, place=on_dask(client), progress=later)
    timers[0].join()
    client.wait_for_workers(2, timeout=30)
    assert killed[0] not in client.run(os.getpid).values()
    assert far(undisturbed, there) <= SAME


def test_a_task_that_kills_its_workers_is_given_up(client, monkeypatch):
    monkeypatch.setattr(client.cluster.scheduler, "allowed_failures", 0)
    with pytest.raises(SolverFailed, match="workers: died again and again"):
        list(distributed._in_order(client, os._exit, [(1,)]))


@pytest.mark.slow
def test_what_a_shard_raises_is_raised_here(client, tmp_path):
    made = small("eliminated", penalty=1e308)
    with pytest.raises(SolverFailed, match="^admm: "):
        train_admm(made, place=on_dask(client, tmp_path))
    assert not list(tmp_path.iterdir())


# --- what travels -------------------------------------------------------------------------------


class Scales:
    """Weighs all that the driver sends, futures apart, and gets."""

    def __init__(self, monkeypatch):
        self.sent = self.received = self.messages = 0
        submit, results = distributed._submit, distributed._results

        def weighed_submit(client, work, *arguments):
            plain = [a for a in arguments if type(a).__name__ != "Future"]
            self.sent += len(pickle.dumps(plain))
            self.messages += 1
            return submit(client, work, *arguments)

        def weighed_results(client, futures):
            found = results(client, futures)
            self.received += len(pickle.dumps(found))
            return found

        monkeypatch.setattr(distributed, "_submit", weighed_submit)
        monkeypatch.setattr(distributed, "_results", weighed_results)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["published", "eliminated", "lifted"])
def test_traffic_does_not_grow_with_the_samples(client, monkeypatch, variant):
    reported, weighed = [], []
    for samples in (25, 100):
        scales = Scales(monkeypatch)
        there = train_admm(small(variant, samples, layers=WIDE, iterations=4), place=on_dask(client))
        monkeypatch.undo()
        reported.append([(row.bytes_sent, row.bytes_received) for row in there.run.history])
        weighed.append(scales)
    assert reported[0] == reported[1]
    # pickled whole numbers and paths differ by a few bytes
    assert abs(weighed[0].sent - weighed[1].sent) <= 16 * weighed[0].messages
    assert abs(weighed[0].received - weighed[1].received) <= 16 * weighed[0].messages
    sizes = [table.shape for table in tables(there)]
    weights = 8 * sum(a * b for a, b in sizes)
    first = 2 * (weights + 8 * sum(b * b for _, b in sizes))  # of two shards: moments and Gram matrices
    for k, (sent, received) in enumerate(reported[0]):
        assert sent == 2 * (3 if k == 0 else 2) * weights  # to sweep, to be judged, at first for the inputs
        constant = 0 if k == 0 else 2 * 8 * sizes[0][1] ** 2  # the inputs' Gram matrix comes but once
        assert first - constant < received < first - constant + 200
    total = np.sum(reported[0], axis=0)
    assert total[0] <= weighed[0].sent <= total[0] + 4000 * weighed[0].messages
    assert total[1] <= weighed[0].received <= total[1] + 1000 * weighed[0].messages


def test_one_process_has_no_traffic():
    assert {row.bytes_sent for row in train_admm(small("lifted", iterations=2)).run.history} == {0}


# --- checkpoints and files ----------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "variant, batch", [("published", None), ("eliminated", None), ("eliminated", 13), ("lifted", 13)]
)
def test_a_checkpoint_goes_on_with_the_same_trajectory(client, tmp_path, variant, batch):
    file, spec = tmp_path / "checkpoint.npz", {"batch": batch, "schedule": "constant"}
    whole = train_admm(small(variant, **spec), place=on_dask(client))
    train_admm(small(variant, iterations=5, **spec), place=on_dask(client), checkpoint=file)
    resumed = train_admm(small(variant, **spec), place=on_dask(client), checkpoint=file)
    assert trajectory(resumed) == trajectory(whole)
    assert far(resumed, whole) == 0.0


def test_a_checkpoint_is_for_as_many_shards(client, tmp_path):
    file, spec = tmp_path / "checkpoint.npz", {"schedule": "constant"}
    train_admm(small("eliminated", iterations=4, **spec), place=on_dask(client), checkpoint=file)
    for place, here in ((on_dask(client, count=3), "here are 3"), (None, "here are 1")):
        with pytest.raises(ProblemFileError, match=f"checkpoint: has variables of 2 shards, .*{here}"):
            train_admm(small("eliminated", **spec), place=place, checkpoint=file)
    file.unlink()
    train_admm(small("eliminated", iterations=4, **spec), checkpoint=file)
    with pytest.raises(ProblemFileError, match="checkpoint: has variables of 1 shards, .*here are 2"):
        train_admm(small("eliminated", **spec), place=on_dask(client), checkpoint=file)


def test_what_keeps_nothing_goes_on_with_any_number_of_shards(client, tmp_path):
    file, spec = tmp_path / "checkpoint.npz", {"schedule": "constant"}
    train_admm(small("lifted", iterations=4, **spec), place=on_dask(client), checkpoint=file)
    resumed = train_admm(small("lifted", **spec), place=on_dask(client, count=3), checkpoint=file)
    assert far(resumed, train_admm(small("lifted", **spec))) <= SAME


@pytest.mark.parametrize("variant, each", [("eliminated", 2), ("lifted", 1)])
def test_files_are_gone_when_a_training_is_over(client, tmp_path, variant, each):
    """In between there are data and, of variables, no more than the last that were written."""
    seen = []
    train_admm(
        small(variant),
        place=on_dask(client, tmp_path),
        progress=lambda *_: seen.append(len([f for f in tmp_path.rglob("*") if f.is_file()])),
    )
    assert seen[0] == 2 and seen[4] == 2 * each
    assert not list(tmp_path.iterdir())


def test_the_systems_temporary_folder_is_left_as_it_was(client, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    seen = []
    train_admm(
        small("eliminated", iterations=4),
        place=on_dask(client),
        progress=lambda *_: seen.append(len(list(tmp_path.glob(".convexsnn.*")))),
    )
    assert set(seen) == {0, 1} or set(seen) == {1}
    assert not list(tmp_path.glob(".convexsnn.*"))


def test_a_relative_folder_is_one_for_all(client, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "work").mkdir()
    train_admm(small("eliminated", iterations=4), place=on_dask(client, "work"))
    assert not list((tmp_path / "work").iterdir())
