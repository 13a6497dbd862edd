"""How many threads the package uses, and who decides it."""

import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from unit_trees import unit_decisions

from convexsnn import roads
from convexsnn import threads as module
from convexsnn.dictionary import Definition
from convexsnn.distinct import distinct_samples
from convexsnn.errors import ShapeError
from convexsnn.networks import LayerSpec
from convexsnn.pricing.cells import CellWalk
from convexsnn.pricing.tree import TreeOracle
from convexsnn.threads import (
    OPENMP,
    VARIABLE,
    available,
    environment,
    in_parts,
    on_threads,
    parts_of,
    stopping,
    thread_limit,
    threads,
    use_threads,
)

COUNTS = (1, 2, 3, 8)
WRONG = [0, -1, 1.5, "two", "", "0", "-1", "1.5", True, None, 10**9, "99999999"]


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch):
    for name in (VARIABLE, OPENMP):
        monkeypatch.delenv(name, raising=False)


def test_the_first_that_is_set_decides(monkeypatch):
    assert threads() == available() >= 1 and thread_limit() is None
    monkeypatch.setenv(OPENMP, "7,2")
    assert threads() == 7 and thread_limit() is None
    monkeypatch.setenv(VARIABLE, "5")
    assert threads() == 5 == thread_limit()
    with use_threads(3):
        assert threads() == 3
        with use_threads(2):
            assert threads() == 2
        assert threads() == 3
    assert threads() == 5


@pytest.mark.parametrize("value", ["", " "])
def test_an_empty_variable_of_another_library_sets_no_limit(monkeypatch, value):
    for name in (OPENMP, *module.BLAS.values()):
        monkeypatch.setenv(name, value)
    assert threads() == available()
    with use_threads(2):
        assert threads() == 2


@pytest.mark.parametrize("value", ["x", "0", "-3", ",4", "1e9", "4.0", "5000"])
def test_what_is_no_number_in_a_variable_of_another_library_is_refused(monkeypatch, value):
    monkeypatch.setenv(OPENMP, value)
    with pytest.raises(ShapeError, match=f"^{OPENMP}: expected a whole number of threads from 1 to 4096"):
        threads()
    with use_threads(2):  # then the variable does not count
        assert threads() == 2
    for name in module.BLAS.values():
        monkeypatch.setenv(name, value)
    with pytest.raises(ShapeError, match=f"^({'|'.join(module.BLAS.values())}): expected a whole number"):
        with use_threads(2):
            raise AssertionError("never inside")
    assert thread_limit() is None


@pytest.mark.parametrize("value", WRONG)
def test_wrong_numbers_are_refused_by_the_name_of_who_gave_them(monkeypatch, value):
    with pytest.raises(
        ShapeError, match="^threads: expected a whole number of threads from 1 to 4096, got "
    ) as caught:
        with use_threads(value):
            raise AssertionError("never inside")
    assert repr(value) in str(caught.value) and "\n" not in str(caught.value)
    if isinstance(value, str):
        monkeypatch.setenv(VARIABLE, value)
        with pytest.raises(ShapeError, match=f"^{VARIABLE}: expected a whole number of threads"):
            threads()


def test_a_refused_number_leaves_the_one_before():
    with use_threads(2):
        with pytest.raises(ShapeError), use_threads(0):
            raise AssertionError("never inside")
        assert threads() == 2


GROUPS = {
    "none": ("0::/\n", {}, None),
    "version 2": ("0::/\n", {"cpu.max": "150000 100000\n"}, 2),
    "version 2, whole": ("0::/\n", {"cpu.max": "100000 100000"}, 1),
    "version 2, no limit": ("0::/a\n", {"a/cpu.max": "max 100000\n"}, None),
    "version 2, empty": ("0::/\n", {"cpu.max": ""}, None),
    "the group around": ("0::/a/b\n", {"a/b/cpu.max": "900000 100000", "a/cpu.max": "300000 100000"}, 3),
    "version 1": (
        "3:memory:/m\n2:cpuacct,cpu:/a\n",
        {"cpu/a/cpu.cfs_quota_us": "250000\n", "cpu/a/cpu.cfs_period_us": "100000\n"},
        3,
    ),
    "version 1, no limit": (
        "2:cpu:/\n0::/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None
    ),
    "nonsense": ("what\n", {"cpu.max": "1 1"}, None),
}  # fmt: skip


@pytest.mark.parametrize(("membership", "files", "wanted"), GROUPS.values(), ids=GROUPS)
def test_a_control_group_limits_the_processors(membership, files, wanted, tmp_path):
    for name, text in {**files, "membership": membership}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert module._quota(tmp_path, tmp_path / "membership") == wanted
    assert module._quota(tmp_path, tmp_path / "missing") is None


@pytest.mark.parametrize("count", COUNTS)
def test_parts_cover_everything_once(count):
    with use_threads(count):
        for size, entries, worth, multiple in [
            (0, 0, 1, 1),
            (1, 10, 1, 1),
            (64, 640, 1, 8),
            (37, 99, 10, 4),
            (5, 9, 0, 8),
        ]:
            parts = parts_of(size, entries, worth, multiple)
            assert 1 <= len(parts) <= count and parts[0][0] == 0 and parts[-1][1] == size
            assert all(a[1] == b[0] for a, b in zip(parts, parts[1:], strict=False))
            assert all(low % multiple == 0 for low, _ in parts)
    with use_threads(count):
        assert len(parts_of(800, 800, 100)) == min(count, 8) and len(parts_of(800, 99, 100)) == 1


def test_work_is_done_by_that_many_threads():
    seen, gate = set(), threading.Barrier(3, timeout=30)

    def work(low, high):
        gate.wait()
        seen.add(threading.get_ident())

    with use_threads(3):
        in_parts(work, 30, 30, 1)
        assert len(seen) == 3
        gate.reset()
        on_threads(lambda job: gate.wait(), [0, 1, 2])
        assert on_threads(lambda job: job**2, range(5)) == [0, 1, 4, 9, 16]
    with use_threads(1):
        assert on_threads(lambda job: threading.get_ident(), range(4)) == [threading.get_ident()] * 4


@pytest.mark.parametrize("count", [1, 3])
def test_what_fails_in_a_thread_fails_here(count):
    def work(low, high):
        raise ValueError(f"in {low}")

    with use_threads(count), pytest.raises(ValueError, match="^in 0$"):
        in_parts(work, 30, 30, 1)
    with use_threads(count), pytest.raises(ZeroDivisionError):
        on_threads(lambda job: 1 / job, [1, 0])
    with use_threads(count):  # and everything works afterwards
        assert on_threads(abs, [-1, 2, -3]) == [1, 2, 3]


def until_stopped(job, error):
    """Raise in one of two jobs; the other one looks whether it is still wanted."""
    if job == 0:
        raise error
    while not stopping():
        time.sleep(1e-3)


@pytest.mark.parametrize("error", [KeyboardInterrupt("Ctrl-C"), ValueError("wrong")], ids=repr)
def test_long_jobs_are_told_to_stop(error):
    gate = threading.Barrier(2, timeout=30)

    def work(job):
        gate.wait()
        until_stopped(job, error)

    with use_threads(2), pytest.raises(type(error), match=str(error)):
        on_threads(work, [0, 1])
    assert not stopping()


def test_ctrl_c_goes_before_what_fails_besides():
    gate = threading.Barrier(2, timeout=30)

    def work(job):
        gate.wait()
        raise KeyboardInterrupt if job else ValueError

    with use_threads(2), pytest.raises(KeyboardInterrupt):
        on_threads(work, [0, 1])


@pytest.mark.parametrize("oracle", [CellWalk, TreeOracle])
def test_a_search_that_nobody_waits_for_ends(oracle, monkeypatch):
    """One of the two searches, of the two signs of the prices, fails; without a limit the other one ends."""
    rng = np.random.default_rng(3)
    inputs = rng.standard_normal((40, 6, 6))  # hours of work
    definition = Definition(weight_box=5.0, margin=1e-3)
    units = unit_decisions(inputs, LayerSpec(leak=(0.9,)), definition)
    prices = rng.standard_normal((40 * units[0].rows_per_sample, 1))
    search, gate = oracle.search, threading.Barrier(2, timeout=60)

    def one_fails(self, unit, side, *others):
        gate.wait()
        if np.array_equal(side, prices):
            raise KeyboardInterrupt
        return search(self, unit, side, *others)

    monkeypatch.setattr(oracle, "search", one_fails)
    with use_threads(2), pytest.raises(KeyboardInterrupt):
        oracle(units, distinct_samples(inputs)[0]).price(prices)


def test_what_a_job_shares_stays_on_its_thread():
    gate = threading.Barrier(2, timeout=30)

    def work(job):
        gate.wait()
        inner = on_threads(lambda _: threading.get_ident(), range(4))
        return set(inner) == {threading.get_ident()}

    with use_threads(2):
        assert on_threads(work, [0, 1]) == [True, True]


def test_many_callers_share_the_threads():
    with use_threads(3), ThreadPoolExecutor(8) as callers:
        sums = callers.map(lambda k: sum(on_threads(lambda job: job * k, range(20))), range(40))
        assert list(sums) == [190 * k for k in range(40)]


def test_small_work_does_not_ask_for_the_number(monkeypatch):
    monkeypatch.setattr(module, "threads", None)
    ranges = []
    in_parts(lambda low, high: ranges.append((low, high)), 5, 19, 10)
    assert ranges == [(0, 5)]


FORK = """
import os
from convexsnn.threads import on_threads, use_threads
with use_threads(3):
    assert on_threads(abs, [-1, -2, -3]) == [1, 2, 3]
    child = os.fork()
    if child == 0:
        os._exit(0 if on_threads(abs, [-4, -5, -6]) == [4, 5, 6] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert on_threads(abs, [-1, -2, -3]) == [1, 2, 3]
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a system without fork")
def test_a_forked_process_has_threads_of_its_own():
    subprocess.run([sys.executable, "-W", "ignore", "-c", FORK], check=True, timeout=60)


@pytest.mark.parametrize("value", ["0", "-1", "two", "1.5"])
@pytest.mark.parametrize(
    "command",
    [
        ("solve", "xor"),
        ("inspect", "xor"),
        ("path", "xor"),
        ("export", "xor", "xor.mps"),
        ("bench", "solvers"),
    ],
)
def test_the_command_line_refuses_in_one_line(cli, command, value):
    status, out, err = cli(*command, "--threads", value)
    assert status == 2 and out == "" and err.count("\n") == 1
    assert err.startswith("convexsnn: error: threads: expected a whole number of threads") and value in err


def test_the_command_line_takes_a_number_for_one_command(cli, monkeypatch):
    seen = []
    real = roads.train
    monkeypatch.setattr(
        "convexsnn.roads.train",
        lambda *a, **k: seen.append((threads(), environment()[VARIABLE])) or real(*a, **k),
    )
    status, _, err = cli("solve", "xor", "--threads", "2")
    assert (status, err, seen) == (0, "", [(2, "2")])
    assert VARIABLE not in os.environ and threads() == available()
    monkeypatch.setenv(VARIABLE, "none")
    status, _, err = cli("solve", "xor")
    assert status == 2 and err.startswith(f"convexsnn: error: {VARIABLE}: ")
    assert cli("solve", "xor", "--threads", "1")[0] == 0
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setenv(OPENMP, "many")
    status, out, err = cli("solve", "xor")
    assert (status, out) == (2, "") and err.startswith(f"convexsnn: error: {OPENMP}: ") and "'many'" in err


@pytest.mark.skipif(sys.platform != "linux", reason="counts processors as Linux does")
def test_as_many_as_the_process_may_use():
    assert available() <= len(os.sched_getaffinity(0))


def blas():
    """Return the number of threads of every BLAS that is loaded."""
    from threadpoolctl import threadpool_info

    return {pool["filepath"]: pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def test_blas_is_limited_too(monkeypatch):
    import scipy.linalg  # noqa: F401  # it has a BLAS of its own

    for name in module.BLAS.values():
        monkeypatch.delenv(name, raising=False)
    before = blas()
    with use_threads(2):
        assert max(blas().values(), default=2) <= 2  # some libraries are built for one thread
        with use_threads(1):
            assert set(blas().values()) <= {1}
        for name in module.BLAS.values():
            monkeypatch.setenv(name, "1")
        with use_threads(2):  # the limits of its own variables hold
            assert set(blas().values()) <= {1}
    assert blas() == before


LATE = """
from convexsnn.threads import use_threads
with use_threads(1):
    import scipy.linalg
    from threadpoolctl import threadpool_info
    assert {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"} <= {1}
"""


def test_blas_that_is_loaded_later_is_limited():
    kept = {name: text for name, text in os.environ.items() if not name.endswith("_NUM_THREADS")}
    subprocess.run([sys.executable, "-c", LATE], check=True, timeout=60, env=kept)


def test_the_command_line_limits_blas_to_the_variable(cli, monkeypatch):
    seen = []
    monkeypatch.setattr("convexsnn.terminal.Progress.__enter__", lambda _: seen.append(blas()))
    monkeypatch.setenv(VARIABLE, "1")
    assert cli("solve", "xor")[0] == 0
    assert seen and set(seen[0].values()) <= {1}


def test_processes_get_the_same_number(monkeypatch):
    for name in (*module.BLAS.values(), "NUMBA_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MKL_NUM_THREADS", "2")
    assert environment() == {**os.environ, "PYTHONSAFEPATH": "1"}
    with use_threads(5):
        there = environment()
    assert {there[name] for name in (VARIABLE, OPENMP, "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")} == {"5"}
    assert there["MKL_NUM_THREADS"] == "2" and there["PATH"] == os.environ["PATH"]


@pytest.mark.slow
def test_a_benchmark_runs_and_notes_the_number(cli):
    status, out, err = cli(
        "bench", "solvers", "--quick", "--problem", "quick-products", "--threads", "3", "--json"
    )
    assert (status, err) == (0, "")
    told = json.loads(out)["conditions"]["threads"]
    assert told["convexsnn"] == told[OPENMP] == "3"
