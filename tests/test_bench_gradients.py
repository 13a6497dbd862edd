"""`convexsnn bench gradients`: what it measures and writes, and what it refuses."""

import json

import pytest

torch = pytest.importorskip("torch")

SMALL = ("--steps", "4", "--steps", "9", "--batch", "8", "--units", "6", "--repeat", "2")


def test_every_method_is_measured_at_every_number_of_steps(cli, tmp_path):
    status, out, err = cli("bench", "gradients", *SMALL, "--device", "cpu", "--json")
    assert status == 0, err
    told = json.loads(out)
    rows = told["results"]
    assert [(row["steps"], row["method"]) for row in rows] == [
        (steps, method) for steps in (4, 9) for method in ("bptt", "exodus", "slayer")
    ]
    for row in rows:
        assert len(row["runs"]) == 2 and row["seconds"] > 0 and row["peak_bytes"] >= 0
        reference = next(r for r in rows if r["steps"] == row["steps"])
        assert row["speed_up"] == pytest.approx(reference["seconds"] / row["seconds"])
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


@pytest.mark.parametrize(
    "arguments, words",
    [
        (("--steps", "0"), "steps: "),
        (("--batch", "-1"), "batch: "),
        (("--repeat", "0"), "repeat: "),
        (("--device", "tpu"), "device: expected one of auto, cpu, cuda, got 'tpu'"),
    ],
)
def test_a_mistake_is_one_line(cli, tmp_path, arguments, words):
    status, out, err = cli("bench", "gradients", *arguments)
    assert status == 2 and words in err and err.count("\n") == 1
    assert not list(tmp_path.iterdir())
