"""ADMM, dictionaries and prices on a real cluster: two worker processes on this machine."""

import gc
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from small_splittings import problem

from convexsnn.bits import PackedBits
from convexsnn.dictionary import Definition, collect, draw_subnetworks
from convexsnn.errors import LoweringError, NotInstalled, ProblemFileError, ShapeError, SolverFailed
from convexsnn.networks import LayerSpec, NetworkSpec
from convexsnn.train import distributed, train_admm
from convexsnn.train.distributed import cluster, connect, dictionary_on, on_dask, prices_on
from convexsnn.train.places import LocalShards, shards_of

ROOT = Path(__file__).parent.parent
WIDE = [{"width": 40, "bias": True}, {"width": 20, "leak": 0.7}]
SAME = 1e-9


@pytest.fixture(scope="module")
def two_workers():
    pytest.importorskip("distributed")
    with connect(workers=2) as client:
        # a worker with nothing to do takes tasks of the other, with copies of what they need; without that it
        # is certain what a worker that dies takes with it
        client.sync(client.cluster.scheduler.extensions["stealing"].stop)
        yield client


@pytest.fixture
def client(two_workers):
    """Return the client, with two workers whatever happened to those of the test before."""
    two_workers.wait_for_workers(2, timeout=30)
    return two_workers


def small(variant, samples=25, **admm):
    loss, layers = admm.pop("loss", "softmax"), admm.pop("layers", {})
    spec = {"variant": variant, "iterations": 8, "checkpoint_every": 3, "tolerance": 1e-12, **admm}
    spec = {"spike_penalty": None, "decay": 1.0, "block_tolerance": 1e-3, **spec}
    return problem(samples=samples, loss=loss, **({"layers": layers} if layers else {}), admm=spec)


def tables(result):
    weights = result.run.weights
    return [weights.table(k) for k in range(len(weights.layers) + 1)]


def far(one, other):
    return max(np.abs(a - b).max() for a, b in zip(tables(one), tables(other), strict=True))


def trajectory(result):
    """Return what every iteration ended with, but for what hangs on the machine."""
    free = ("seconds", "bytes_sent", "bytes_received")
    return [{k: v for k, v in asdict(row).items() if k not in free} for row in result.run.history]


# --- the same result ----------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [None, 13])
@pytest.mark.parametrize("loss", ["softmax", "squared"])
@pytest.mark.parametrize("variant", ["published", "eliminated", "lifted"])
def test_the_result_is_that_of_one_process(client, variant, loss, batch):
    made = small(variant, loss=loss, batch=batch, iterations=6)
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


@pytest.mark.slow
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
        progress=lambda *_: seen.append(len(list(tmp_path.glob("admm-*")))),
    )
    assert set(seen) == {0, 1} or set(seen) == {1}
    assert not list(tmp_path.glob("admm-*"))


def test_a_relative_folder_is_one_for_all(client, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "work").mkdir()
    train_admm(small("eliminated", iterations=4), place=on_dask(client, "work"))
    assert not list((tmp_path / "work").iterdir())


# --- dictionaries and prices --------------------------------------------------------------------

DEFINITION = Definition(margin=1e-3)
STACKS = {
    "deep": NetworkSpec((LayerSpec(width=6, bias=True), LayerSpec(width=9)), subnetworks=5),
    "recurrent": NetworkSpec((LayerSpec(width=7, bias=True, recurrent=True),), subnetworks=3),
}


@pytest.mark.parametrize("supervise", ["last", "all"])
@pytest.mark.parametrize("name", STACKS)
def test_a_dictionary_is_that_of_one_process_bit_for_bit(client, name, supervise):
    rng = np.random.default_rng(5)
    inputs = rng.normal(size=(903, 3, 4))
    inputs[::7] = inputs[0]  # samples that are the same are simulated once
    definition = Definition(margin=1e-3, supervise=supervise)
    stacks = draw_subnetworks(
        inputs, rng.integers(0, 2, (903, 1)), STACKS[name], definition, source="gaussian", count=40
    )
    here, there = (
        collect(inputs, stacks, definition),
        dictionary_on(client, inputs, stacks, definition, rows=250),
    )
    assert here.patterns > 10
    assert np.array_equal(here.columns.packed, there.columns.packed)
    for field in ("subnetwork_of", "unit_of", "margins"):
        assert np.array_equal(getattr(here, field), getattr(there, field)), field
    assert (here.candidates, here.columns.rows) == (there.candidates, there.columns.rows)


def test_a_dictionary_without_patterns_is_refused_as_here(client):
    with pytest.raises(LoweringError, match="no unit of this network"):
        dictionary_on(client, np.ones((3, 2, 2)), [], DEFINITION)


@pytest.mark.parametrize("rows, patterns", [(100, 10), (8, 77), (1 << 15, 1 << 11)])
@pytest.mark.parametrize("outputs", [(), (3,)])
def test_prices_are_those_of_one_process(client, rows, patterns, outputs):
    rng = np.random.default_rng(6)
    columns = PackedBits.from_array(rng.integers(0, 2, (203, 77)))
    dual = rng.normal(size=(203, *outputs))
    found = prices_on(client, columns, dual, rows=rows, patterns=patterns)
    assert found.shape == (77, *outputs)
    assert np.abs(found - columns.transpose_times(dual)).max() <= 1e-12


def test_prices_of_no_column(client):
    assert prices_on(client, PackedBits(np.zeros((0, 2), np.uint8), 9), np.ones((9, 2))).shape == (0, 2)


# --- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, -1, 1.5, True])
def test_workers_are_a_positive_number(workers):
    with pytest.raises(ShapeError, match="^workers: expected a whole number >= 1"):
        connect(workers=workers)


@pytest.mark.parametrize("given", [{}, {"workers": 2, "scheduler": "tcp://127.0.0.1:9"}])
def test_workers_or_a_scheduler(given):
    with pytest.raises(ShapeError, match="^workers: .*one of both"):
        connect(**given)


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "nonsense", "http://127.0.0.1:9"])
def test_a_scheduler_that_does_not_answer(address, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr(distributed, "PATIENCE", 1)
    begun = time.perf_counter()
    with pytest.raises(ProblemFileError, match=f"^scheduler: no answer at '{address}'"):
        connect(scheduler=address)
    assert time.perf_counter() - begun < 5


def test_a_scheduler_without_workers(monkeypatch):
    LocalCluster = pytest.importorskip("distributed").LocalCluster
    monkeypatch.setattr(distributed, "PATIENCE", 1)
    with LocalCluster(n_workers=0, processes=False, dashboard_address=None) as empty:
        with pytest.raises(ProblemFileError, match="^scheduler: .*no worker"):
            connect(scheduler=empty.scheduler_address)


def test_a_scheduler_at_an_address(client):
    made = small("lifted", iterations=3)
    with cluster(made, None, client.scheduler.address) as place:
        assert far(train_admm(made, place=place), train_admm(made)) <= SAME
    assert client.submit(sum, [1, 2]).result() == 3  # it was not ours to close


def test_without_dask_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(NotInstalled, match=r"convexsnn\[distributed\]"):
        connect(workers=2)


def test_bad_arguments(client, tmp_path):
    with pytest.raises(ProblemFileError, match="^folder: no such folder"):
        on_dask(client, tmp_path / "nowhere")
    with pytest.raises(ShapeError, match="^count: expected a whole number"):
        on_dask(client, tmp_path, count=0)
    with pytest.raises(ProblemFileError, match="^folder: a worker finds no .*shard0"):
        distributed._load_shard(tmp_path / "shard0.npz", {})
    bits = PackedBits.from_array(np.ones((9, 2)))
    with pytest.raises(ShapeError, match="^dual: expected 9 rows, got 8"):
        prices_on(client, bits, np.ones(8))
    with pytest.raises(ShapeError, match="^patterns: "):
        prices_on(client, bits, np.ones(9), patterns=0)
    with pytest.raises(ShapeError, match="^rows: "):
        dictionary_on(client, np.ones((3, 2, 2)), [], DEFINITION, rows=0)


def test_workers_are_for_admm():
    class Convex:
        class training:
            method = "convex"

    with pytest.raises(ShapeError, match='^workers: are for training.method = "admm"'):
        with cluster(Convex, 2, None):
            pass
    with cluster(Convex, None, None) as place:
        assert place is None


# --- how it is called ---------------------------------------------------------------------------

SCRIPT = """
import multiprocessing, sys, tempfile
sys.path.insert(0, {tests!r})
from small_splittings import problem
from convexsnn.train import train_admm
from convexsnn.train.distributed import connect, on_dask

if __name__ == "__main__":
    made = problem(samples=20, admm={{"variant": "eliminated", "iterations": 4, "checkpoint_every": 2}})
    with connect(workers=2) as client, tempfile.TemporaryDirectory() as folder:
        result = train_admm(made, place=on_dask(client, folder))
    print(len(result.run.history), multiprocessing.active_children(), client.status)
"""


def run_script(tmp_path, text):
    script, scratch = tmp_path / "script.py", tmp_path / "scratch"
    script.write_text(text.format(tests=str(ROOT / "tests")))
    scratch.mkdir()
    environment = {**os.environ, "TMPDIR": str(scratch), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=100, env=environment, cwd=tmp_path
    )
    assert not list(scratch.iterdir())
    return done


def test_a_script_leaves_no_process_no_file_and_no_noise(tmp_path):
    pytest.importorskip("distributed")
    done = run_script(tmp_path, SCRIPT)
    assert (done.stdout, done.stderr) == ("4 [] closed\n", "")


@pytest.mark.slow
def test_a_script_without_its_guard_is_told(tmp_path):
    pytest.importorskip("distributed")
    done = run_script(tmp_path, SCRIPT.replace('__name__ == "__main__"', "True"))
    assert done.returncode == 1
    assert "workers: processes do not start; a script needs `if __name__" in done.stderr


def test_dask_is_imported_when_it_is_needed():
    text = "import sys, convexsnn.train.distributed; print({'dask', 'distributed'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "set()\n", done.stderr


def test_nobody_else_imports_dask():
    files = [f for f in (ROOT / "convexsnn").rglob("*.py") if f.name != "distributed.py"]
    lines = [line.split()[:2] for f in files for line in f.read_text(encoding="utf-8").splitlines()]
    assert not [
        line
        for line in lines
        if line[:1] in (["import"], ["from"])
        and line[1:]
        and line[1].partition(".")[0] in ("dask", "distributed")
    ]
