"""Dictionaries and prices on a real cluster, how clusters are asked for, and what is refused."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from small_clusters import SAME, far, small

from convexsnn.admm import cluster as distributed
from convexsnn.admm.cluster import cluster, connect, dictionary_on, on_dask, prices_on
from convexsnn.admm.result import train_admm
from convexsnn.bits import PackedBits
from convexsnn.dictionary import Definition, collect, draw_subnetworks
from convexsnn.errors import LoweringError, NotInstalled, ProblemFileError, ShapeError
from convexsnn.networks import LayerSpec, NetworkSpec
from convexsnn.threads import BLAS, OPENMP, VARIABLE, threads, use_threads

ROOT = Path(__file__).parents[2]

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
    with pytest.raises(ShapeError, match="^workers: give either"):
        connect(**given)


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "nonsense", "http://127.0.0.1:9"])
def test_a_scheduler_that_does_not_answer(address, monkeypatch):
    dask = pytest.importorskip("distributed")
    clients = []

    class Recorded(dask.Client):
        def __init__(self, *args, **kwargs):
            clients.append(self)
            super().__init__(*args, **kwargs)

    monkeypatch.setattr(dask, "Client", Recorded)
    monkeypatch.setattr(distributed, "PATIENCE", 1)
    with pytest.raises(ProblemFileError, match=f"^scheduler: no answer at '{address}'"):
        connect(scheduler=address)
    # none is left to the garbage collector
    assert all(getattr(client, "status", "closed") == "closed" for client in clients)


def test_a_program_that_listens_and_says_nothing_is_no_scheduler(monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr(distributed, "PATIENCE", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ProblemFileError, match=f"^scheduler: no answer at '{address}'.*TimeoutError"):
            connect(scheduler=address)  # without our own limit it never returns


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


@pytest.mark.slow
def test_workers_share_the_threads_and_ours_stay(monkeypatch):
    names = (VARIABLE, OPENMP, *BLAS.values())
    for name in names:
        monkeypatch.delenv(name, raising=False)
    before = threads()
    with use_threads(7), connect(workers=2) as client:
        assert set(client.run(threads).values()) == {3}
        assert set(client.run(os.getenv, "OPENBLAS_NUM_THREADS").values()) == {"3"}
        assert not set(names) & set(os.environ)  # dask sets variables in this process too
    assert threads() == before


def test_workers_are_for_admm():
    class Convex:
        class training:
            method = "convex"

    with pytest.raises(ShapeError, match='^workers: need training.method = "admm"'):
        with cluster(Convex, 2, None):
            pass
    with cluster(Convex, None, None) as place:
        assert place is None


# --- how it is called ---------------------------------------------------------------------------

SCRIPT = """
import multiprocessing, sys, tempfile
sys.path.insert(0, {tests!r})
from small_splittings import problem
from convexsnn.admm.result import train_admm
from convexsnn.admm.cluster import connect, on_dask

if __name__ == "__main__":
    made = problem(samples=20, admm={{"variant": "eliminated", "iterations": 4, "checkpoint_every": 2}})
    with connect(workers=2) as client, tempfile.TemporaryDirectory() as folder:
        result = train_admm(made, place=on_dask(client, folder))
    print(len(result.run.history), multiprocessing.active_children(), client.status)
"""


# on a busy machine dask gives up processes that start slowly, and logs how slow they are
PATIENT = {
    "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "900s",
    "DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "900s",
    "DASK_LOGGING__DISTRIBUTED": "error",
}


def run_script(tmp_path, text):
    script, scratch = tmp_path / "script.py", tmp_path / "scratch"
    script.write_text(text.format(tests=str(ROOT / "tests" / "support")))
    scratch.mkdir()
    environment = {**os.environ, **PATIENT, "TMPDIR": str(scratch), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=1000, env=environment, cwd=tmp_path
    )
    assert not list(scratch.iterdir())
    return done


@pytest.mark.slow
def test_a_script_leaves_no_process_no_file_and_no_noise(tmp_path):
    pytest.importorskip("distributed")
    done = run_script(tmp_path, SCRIPT)
    assert (done.stdout, done.stderr) == ("4 [] closed\n", "")


@pytest.mark.night
def test_a_script_without_its_guard_is_told(tmp_path):
    pytest.importorskip("distributed")
    done = run_script(tmp_path, SCRIPT.replace('__name__ == "__main__"', "True"))
    assert done.returncode == 1
    assert "workers: processes do not start; a script needs `if __name__" in done.stderr


@pytest.mark.slow
def test_dask_is_imported_when_it_is_needed():
    text = "import sys, convexsnn.admm.cluster; print({'dask', 'distributed'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "set()\n", done.stderr


DASK = ("cluster.py", "waiting.py", "workers.py")


def test_nobody_else_imports_dask():
    files = [f for f in (ROOT / "convexsnn").rglob("*.py") if f.name not in DASK]
    lines = [line.split()[:2] for f in files for line in f.read_text(encoding="utf-8").splitlines()]
    assert not [
        line
        for line in lines
        if line[:1] in (["import"], ["from"])
        and line[1:]
        and line[1].partition(".")[0] in ("dask", "distributed")
    ]
