"""How many threads the package uses, who decides it, and that no result depends on it."""

import os
import sys
import threading

import numpy as np
import pytest

import convexsnn
from convexsnn import threads as module
from convexsnn.bits import PackedBits
from convexsnn.blocks import box_qp, chains, lifted_chains
from convexsnn.errors import ShapeError
from convexsnn.problem import Problem
from convexsnn.threads import (
    OPENMP,
    VARIABLE,
    available,
    in_parts,
    on_threads,
    parts_of,
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


@pytest.mark.parametrize("value", ["", "x", "0", "-3", ",4", "1e9"])
def test_what_openmp_does_not_understand_sets_no_limit(monkeypatch, value):
    monkeypatch.setenv(OPENMP, value)
    assert threads() == available()


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


def test_a_control_group_limits_the_processors(tmp_path):
    file = tmp_path / "cpu.max"
    for text, reference in (("150000 100000\n", 2), ("100000 100000", 1), ("max 100000\n", None), ("", None)):
        file.write_text(text)
        assert module._quota(file) == reference
    assert module._quota(tmp_path / "none") is None


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


def same_for_all(compute):
    answers = []
    for count in COUNTS:
        with use_threads(count):
            answers.append(compute())
    for answer in answers[1:]:
        for one, other in zip(answers[0], answer, strict=True):
            assert np.array_equal(one, other)


def test_products_with_bits_are_the_same_to_the_bit(monkeypatch):
    monkeypatch.setattr("convexsnn.bits.WORTH", 1)
    rng = np.random.default_rng(0)
    bits = PackedBits.from_array(rng.random((203, 117)) < 0.3)
    w, u = rng.standard_normal((117, 2)), rng.standard_normal((203, 2))
    same_for_all(lambda: (bits @ w, bits.transpose_times(u)))


def test_blocks_of_admm_are_the_same_to_the_bit(monkeypatch):
    for one in (box_qp, chains, lifted_chains):
        monkeypatch.setattr(one, "WORTH", 1)
    rng = np.random.default_rng(1)
    drive, spikes = rng.normal(size=(2, 41, 5, 3))
    same_for_all(lambda: (chains.chain_membranes(drive, spikes, 0.8, 1.0, 1.0, 2.0),))
    same_for_all(lambda: (lifted_chains.lifted_membranes(drive, spikes, 0.8, 1.0, 1.0, 2.0),))


def test_gradients_are_the_same_to_the_bit(monkeypatch):
    torch = pytest.importorskip("torch")
    from convexsnn.gradient import kernels_cpu
    from convexsnn.gradient.lif import lif

    monkeypatch.setattr(kernels_cpu, "WORTH", 1)
    current = torch.randn(9, 13, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def both():
        given = current.clone().requires_grad_()
        spikes = lif(given, torch.tensor(0.9), torch.tensor(0.5), gradient="exodus")
        (spikes * current).sum().backward()
        return spikes.detach().numpy(), given.grad.numpy()

    same_for_all(both)


@pytest.mark.parametrize("oracle", ["cells", "tree"])
def test_a_training_is_the_same(oracle):
    rng = np.random.default_rng(6)
    test_problem = Problem.from_arrays(
        rng.normal(size=(9, 3, 2)), rng.normal(size=9), layers=[{}],
        training={"loss": "squared", "regularization": 0.05},
        dictionary={"source": "column_generation", "margin": 1e-3, "weight_box": 5.0, "oracle": oracle},
    )  # fmt: skip

    def train():
        result = convexsnn.train(test_problem)
        return [
            np.array([result.certificate.objective, result.claim.oracle_bound]),
            result.network.output_weights,
        ]

    same_for_all(train)


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
    real = convexsnn.roads.train
    monkeypatch.setattr(
        "convexsnn.roads.train",
        lambda *a, **k: seen.append((threads(), os.environ[VARIABLE])) or real(*a, **k),
    )
    status, _, err = cli("solve", "xor", "--threads", "2")
    assert (status, err, seen) == (0, "", [(2, "2")])
    assert VARIABLE not in os.environ and threads() == available()
    monkeypatch.setenv(VARIABLE, "none")
    status, _, err = cli("solve", "xor")
    assert status == 2 and err.startswith(f"convexsnn: error: {VARIABLE}: ")
    assert cli("solve", "xor", "--threads", "1")[0] == 0


@pytest.mark.skipif(sys.platform != "linux", reason="counts processors as Linux does")
def test_as_many_as_the_process_may_use():
    assert available() <= len(os.sched_getaffinity(0))


def test_blas_is_limited_too():
    from threadpoolctl import threadpool_info

    def most():
        return max(
            (pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"), default=1
        )

    with use_threads(1):
        assert most() == 1
