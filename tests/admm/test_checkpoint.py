"""A training that goes on from its checkpoint is the one that never stopped; all else is refused."""

import io
import json
import os
import pickle

import numpy as np
import pytest
from small_splittings import TWO_LAYERS, problem

from convexsnn.admm.result import train_admm
from convexsnn.arrays import digest, read_npz, write_npz
from convexsnn.errors import ConvexSNNError, ProblemFileError, SolverFailed
from convexsnn.problem import Problem

RUNS = {
    "lifted": {"variant": "lifted"},
    "lifted in batches": {"variant": "lifted", "batch": 8, "order": "random"},
    "proximal in batches": {"variant": "proximal", "batch": 8, "order": "random"},
    "published": {"variant": "published", "balance": True},
    "eliminated": {"variant": "eliminated", "multiplier_warm_up": 3},
    "float32": {"variant": "proximal", "precision": "float32", "batch": 8},
    "held out": {"variant": "lifted", "validation": 0.25},
}


def small(iterations=8, layers=TWO_LAYERS, samples=21, schedule="constant", **admm):
    spec = {"iterations": iterations, "schedule": schedule, "block_tolerance": 1e-3}
    spec |= {"checkpoint_every": 1, "tolerance": 1e-12}
    return problem(layers, samples=samples, admm={**spec, **admm})


def plain(run):
    """Return a history without what depends on the clock."""
    return [{k: v for k, v in vars(one).items() if k != "seconds"} for one in run.history]


def assert_same(one, other):
    assert plain(one.run) == plain(other.run) and one.judged == other.judged
    assert (one.status, one.run.stopped_by) == (other.status, other.run.stopped_by)
    for k in range(3):
        assert np.array_equal(one.run.weights.table(k), other.run.weights.table(k))


class Stop(Exception):
    pass


def stop_at(iteration):
    def progress(words, share):
        if words.startswith(f"iteration {iteration},"):
            raise Stop

    return progress


@pytest.mark.parametrize("name", RUNS)
def test_a_run_goes_on_where_it_stopped(name, tmp_path):
    file = tmp_path / "run.npz"
    half = train_admm(small(4, **RUNS[name]), checkpoint=file)
    assert len(half.run.history) == 4 and half.run.stopped_by == "iterations"
    whole, resumed = train_admm(small(**RUNS[name])), train_admm(small(**RUNS[name]), checkpoint=file)
    assert len(whole.run.history) == 8
    assert_same(whole, resumed)
    assert [one.seconds for one in resumed.run.history[:4]] == [one.seconds for one in half.run.history]


@pytest.mark.parametrize("name", ["lifted in batches", "proximal in batches"])
def test_an_interrupted_run_goes_on_with_a_falling_step(name, tmp_path):
    file, made = tmp_path / "run.npz", small(schedule="linear", **RUNS[name])
    with pytest.raises(Stop):
        train_admm(made, checkpoint=file, progress=stop_at(4))
    assert len(json.loads(str(read_npz(file)["history"]))) == 3  # the fourth was not kept
    assert_same(train_admm(made), train_admm(made, checkpoint=file))


def test_a_time_limit_stops_and_another_run_goes_on(tmp_path):
    file, made = tmp_path / "run.npz", small(**RUNS["proximal in batches"])
    train_admm(small(3, **RUNS["proximal in batches"]), checkpoint=file)
    stopped = train_admm(made, checkpoint=file, time_limit=1e-9)
    assert (stopped.status, stopped.run.stopped_by, len(stopped.run.history)) == ("limit", "time", 3)
    assert_same(train_admm(made), train_admm(made, checkpoint=file))


def test_checkpoints_are_written_when_due_and_at_the_end(tmp_path):
    file, seen = tmp_path / "run.npz", []

    def progress(words, _):
        kept = len(json.loads(str(read_npz(file)["history"]))) if file.exists() else 0
        seen.append(kept)

    train_admm(small(7, checkpoint_every=3), checkpoint=file, progress=progress)
    # before iterations 1..7 were kept, and before the last simulation
    assert seen == [0, 0, 0, 3, 3, 3, 6, 7]
    assert [path.name for path in tmp_path.iterdir()] == ["run.npz"]


def test_a_finished_run_is_not_run_again(tmp_path):
    file = tmp_path / "run.npz"
    first = train_admm(small(), checkpoint=file)
    again = train_admm(small(), checkpoint=file, progress=stop_at(9))
    assert_same(first, again)


def refused(file, made, **options):
    before = file.read_bytes() if file.is_file() else None
    with pytest.raises(ConvexSNNError) as caught:
        train_admm(made, checkpoint=file, **options)
    assert isinstance(caught.value, ProblemFileError) and caught.value.exit_status == 2
    assert "\n" not in str(caught.value) and str(file) in str(caught.value)
    assert before is None or file.read_bytes() == before
    return str(caught.value)


@pytest.fixture
def file(tmp_path):
    train_admm(small(2, variant="proximal"), checkpoint=tmp_path / "run.npz")
    return tmp_path / "run.npz"


def test_a_checkpoint_of_another_problem_is_refused(file):
    others = {
        "seed": small(variant="proximal", seed=1),
        "variant": small(variant="restarted"),
        "step": small(variant="proximal", step=1.0),
        "width": small(variant="proximal", layers=[{"width": 5, "bias": True}, TWO_LAYERS[1]]),
        "leak": small(variant="proximal", layers=[{**TWO_LAYERS[0], "leak": 0.8}, TWO_LAYERS[1]]),
        "samples": small(variant="proximal", samples=20),
        "schedule": small(variant="proximal", schedule="linear"),
    }
    for made in others.values():
        assert "a checkpoint of another problem, network or [admm] table" in refused(file, made)


def test_the_same_samples_in_another_order_are_another_problem(file):
    """Sums over all samples are the same."""
    made = small(variant="proximal")
    for name in ("inputs", "targets", "sample_weights"):
        table = getattr(made, name).copy()
        table[[0, 1]] = table[[1, 0]]
        assert not np.array_equal(table, getattr(made, name))
        other = small(variant="proximal")
        object.__setattr__(other, name, table)
        assert "a checkpoint of another problem" in refused(file, other)


def test_the_same_numbers_in_another_shape_are_another_problem(tmp_path):
    """Four steps of three inputs have the bytes of three steps of four."""
    table = np.random.default_rng(0).normal(size=(6, 12))
    one, other = (
        Problem.from_arrays(
            table.reshape(6, *shape), table[:, 0], layers=[{"width": 5, "bias": True}],
            network={"readout": "output_membrane"}, training={"method": "admm", "loss": "squared"},
            admm={"iterations": 2},
        )
        for shape in ((4, 3), (3, 4))
    )  # fmt: skip
    train_admm(one, checkpoint=tmp_path / "run.npz")
    assert "a checkpoint of another problem" in refused(tmp_path / "run.npz", other)


@pytest.mark.parametrize("key", ["iterations", "tolerance", "checkpoint_every"])
def test_keys_that_change_no_iteration_may_change(file, key):
    changed = {"iterations": 3, "tolerance": 1e-6, "checkpoint_every": 4}
    spec = {"iterations": 3, **{key: changed[key]}}
    assert_same(train_admm(small(variant="proximal", **spec), checkpoint=file),
                train_admm(small(variant="proximal", **spec)))  # fmt: skip


def test_patience_may_change(tmp_path):
    file, held = tmp_path / "held.npz", {"validation": 0.25}
    train_admm(small(2, **held), checkpoint=file)
    assert_same(train_admm(small(4, patience=9, **held), checkpoint=file), train_admm(small(4, **held)))


def test_damaged_files_are_refused(file):
    good, made = file.read_bytes(), small(variant="proximal")
    for bad in (b"", b"no archive", good[: len(good) // 2], good[:-10], good[:200] + b"\0" * 50 + good[250:]):
        file.write_bytes(bad)
        assert "damaged" in refused(file, made)


def test_pickled_files_are_refused(file):
    class Loaded:
        def __reduce__(self):
            return os.mkdir, (str(file) + ".loaded",)

    made = small(variant="proximal")
    file.write_bytes(pickle.dumps(Loaded()))
    assert "damaged" in refused(file, made)
    stream = io.BytesIO()
    np.savez(stream, format=np.array([Loaded()], dtype=object))
    file.write_bytes(stream.getvalue())
    assert "holds pickled Python objects" in refused(file, made)
    assert [path.name for path in file.parent.iterdir()] == ["run.npz"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"format": np.asarray(99)}, "checkpoint format 99, this version reads 3; finish it with"),
        ({"format": None}, "damaged"),
        ({"identity": None}, "damaged"),
        ({"weights1": None}, "damaged"),
        ({"best0": np.full((4, 6), np.nan)}, "damaged"),
        ({"numbers": np.zeros(2)}, "damaged"),
        ({"history": np.asarray("[1]")}, "damaged"),
        ({"history": np.asarray("[{}]")}, "damaged"),
        ({"history": np.asarray('[{"rates": [], "iterations": 1}]')}, "damaged"),
        ({"history": np.asarray("{")}, "damaged"),
        ({"history": np.asarray("[" * 100_000)}, "nested too deeply"),
        ({"history": np.asarray('[{"iteration": ' + "1" * 401 + "}]")}, "more than 64 bits"),
        ({"steps_velocity0": None}, "damaged"),
        ({"shard0_outputs": None}, "shard0_membranes0: unknown"),
        ({"shard0_spikes1": None}, "damaged"),
        ({"shard0_outputs": np.zeros((3, 3))}, "shard0_multipliers: expected float64 (3, 3)"),
    ],
)
def test_what_is_missing_or_wrong_is_refused(file, change, told):
    arrays = read_npz(file)
    assert all(name in arrays for name in change)
    kept = {k: change.get(k, v) for k, v in arrays.items() if change.get(k, v) is not None}
    write_npz(file, kept)
    assert "damaged" in refused(file, small(variant="proximal")) or "format" in change
    del kept["digest"]
    write_npz(file, {**kept, "digest": np.asarray(digest(**kept))})
    assert told in refused(file, small(variant="proximal"))


def test_every_altered_array_is_refused(file):
    """A value, a type, a shape or a name: the digest is of all of them."""
    arrays, made = read_npz(file), small(variant="proximal")
    changes = {
        "value": lambda a: a + 1 if a.dtype.kind in "biuf" else np.asarray(str(a) + " "),
        "type": lambda a: a.astype("<f4") if a.dtype.kind == "f" else np.asarray([str(a)]),
        "shape": lambda a: a[None],
    }
    for name, array in arrays.items():
        for change in changes.values():
            write_npz(file, {**arrays, name: change(array)})
            refused(file, made)
        write_npz(file, {**{k: v for k, v in arrays.items() if k != name}, name + "0": array})
        refused(file, made)
    write_npz(file, {**arrays, "more": np.ones(1)})
    refused(file, made)


def test_every_damaged_byte_is_refused_or_changes_nothing(file):
    content, arrays, made = file.read_bytes(), read_npz(file), small(variant="proximal")
    for place in np.random.default_rng(0).integers(0, len(content), 250):
        damaged = bytearray(content)
        damaged[place] ^= 0x55
        file.write_bytes(bytes(damaged))
        try:
            same = read_npz(file)
        except ProblemFileError:
            continue
        if same.keys() != arrays.keys() or any(not np.array_equal(same[k], arrays[k]) for k in arrays):
            refused(file, made)


@pytest.mark.skipif(os.name != "posix", reason="pipes")
def test_a_pipe_is_no_checkpoint_and_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "run.npz")
    assert "is a pipe or a device" in refused(tmp_path / "run.npz", small())


def test_a_folder_is_no_checkpoint(tmp_path):
    (tmp_path / "run.npz").mkdir()
    assert "is a folder" in refused(tmp_path / "run.npz", small())
    assert "no such folder" in refused(tmp_path / "none" / "run.npz", small())


def test_a_failed_run_leaves_the_last_checkpoint(file, monkeypatch):
    before = file.read_bytes()

    def fail(*_):
        raise SolverFailed("admm: outputs: values are not finite")

    with monkeypatch.context() as patch:
        patch.setattr("convexsnn.admm.shards._move", fail)
        with pytest.raises(SolverFailed, match="outputs"):
            train_admm(small(variant="proximal"), checkpoint=file)
    assert file.read_bytes() == before
    assert_same(train_admm(small(variant="proximal"), checkpoint=file), train_admm(small(variant="proximal")))


@pytest.mark.parametrize("call", ["os.replace", "np.lib.format.write_array"])
def test_a_checkpoint_that_cannot_be_written_leaves_the_last_one(file, monkeypatch, call):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(f"convexsnn.arrays.{call}", full)
        told = refused(file, small(variant="proximal"))
    assert told == f"checkpoint: {file}: No space left on device"
    assert [path.name for path in file.parent.iterdir()] == ["run.npz"]
