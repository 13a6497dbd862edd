"""Folders, checkpoints and networks of earlier versions, in ``runs`` and ``old``: read, or refused."""

import json
import shutil
import tomllib

import numpy as np
import pytest
from command_line import one_line
from contract_roads import ROADS, SAVED
from freeze import CHECKPOINTS, OLD, RUNS

import convexsnn

ADMM = [road for road in SAVED if (RUNS / road / "admm.json").is_file()]
PROVED = [road for road in SAVED if road not in ADMM]
OPTIMUM = {  # derived by hand or enumerated, as the library's problem files tell
    road: ROADS[road][0]["expected"]["objective"] for road in PROVED if "expected" in ROADS[road][0]
}
EVERY_PATTERN = {"exact", "column_generation"}
ROUNDS = {"admm": ("admm", "iterations"), "surrogate_gradient": ("gradient", "epochs")}


def tables_of(folder, file="problem.toml"):
    return tomllib.loads((folder / file).read_text(encoding="utf-8"))


def test_every_saved_road_is_there():
    assert {path.name for path in RUNS.iterdir()} == set(SAVED) and ADMM and len(OPTIMUM) > 5


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("road", PROVED)
def test_a_saved_certificate_is_proved_again(road, exact):
    claim, checked = convexsnn.verify_folder(RUNS / road, exact=exact)
    proved = tables_of(RUNS / road)["dictionary"]["source"] in EVERY_PATTERN
    assert claim.scope == ("all_patterns" if proved else "dictionary") and bool(checked.oracle) == proved
    assert checked.lower_bound <= checked.objective * (1 + 1e-12)
    assert checked.gap <= claim.tolerance or claim.status != "optimal"
    if road in OPTIMUM:
        assert checked.objective == pytest.approx(OPTIMUM[road], rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("road", SAVED)
def test_a_saved_folder_is_accepted_on_the_command_line(cli, road):
    status, out, err = cli("verify", RUNS / road, "--json")
    assert (status, err) == (0, "") and json.loads(out)["accepted"] is True


@pytest.mark.parametrize("road", SAVED)
def test_a_saved_folder_with_other_targets_is_refused(cli, tmp_path, road):
    folder = shutil.copytree(RUNS / road, tmp_path / "copy")
    with np.load(folder / "data.npz") as arrays:
        data = dict(arrays)
    data["targets"] = data["targets"][::-1].copy()
    data["targets"][0] = data["targets"][1]
    np.savez(folder / "data.npz", **data)
    status, out, err = cli("verify", folder, "--json")
    assert status == 1 and json.loads(out)["accepted"] is False


@pytest.mark.parametrize("road", SAVED)
def test_a_saved_problem_is_still_the_one_of_its_claim(tmp_path, road):
    """Everything in problem.toml is still read: the fingerprint is the one that was written down."""
    file = next(RUNS.glob(f"{road}/[ac]*.json"))
    problem = convexsnn.load_problem(RUNS / road / "problem.toml")
    assert problem.fingerprint() == json.loads(file.read_text())["fingerprint"]


def naive_outputs(arrays, inputs):
    """Return the last step's spikes of LIF layers with reset "subtract", times the output weights."""
    seen = inputs
    for k in (1, 2):
        part = {name: arrays[f"layer{k}_{name}"] for name in ("weights", "threshold", "leak")}
        assert (str(arrays[f"layer{k}_neuron"]), str(arrays[f"layer{k}_reset"])) == ("lif", "subtract")
        bias = arrays.get(f"layer{k}_bias", 0.0)
        carried, spikes = np.zeros((len(seen), len(part["weights"]))), []
        for t in range(seen.shape[1]):
            membrane = carried + seen[:, t] @ part["weights"].T + bias
            assert abs(membrane - part["threshold"]).min() > 1e-6  # no spike depends on rounding
            spikes.append((membrane >= part["threshold"]).astype(float))
            carried = part["leak"] * (membrane - part["threshold"] * spikes[-1])
        seen = np.stack(spikes, axis=1)
    return seen[:, -1] @ arrays["output_weights"]


def test_a_saved_network_that_gradients_trained_still_does_the_same():
    folder = OLD / "gradient_network"
    with np.load(folder / "network.npz") as file:
        arrays = dict(file)
    problem = convexsnn.load_problem(folder / "gradient_network.toml")
    network = convexsnn.load_network(folder / "network.npz")
    outputs = convexsnn.simulate(network, problem.inputs).outputs
    assert np.ptp(outputs, axis=0).min() > 0
    assert np.allclose(outputs, naive_outputs(arrays, problem.inputs))


def history_of(file):
    with np.load(file) as arrays:
        return json.loads(str(arrays["history"]))


@pytest.mark.parametrize("road", CHECKPOINTS)
def test_a_saved_checkpoint_is_gone_on_from_or_refused_by_its_format(cli, tmp_path, road):
    if road == "surrogate_gradient":
        pytest.importorskip("torch")
    folder = shutil.copytree(OLD / road, tmp_path / "old")
    checkpoint, problem = folder / "checkpoint.npz", folder / f"{road}.toml"
    section, rounds = ROUNDS[road]
    text = problem.read_text().replace(f"{rounds} = 2", f"{rounds} = 3")
    problem.write_text(text)
    assert tables_of(folder, problem.name)[section][rounds] == 3
    before, bytes_before = history_of(checkpoint), checkpoint.read_bytes()
    status, _, err = cli("solve", problem, "--checkpoint", checkpoint, "--json")
    assert len(before) == 2 and status in (0, 2)
    if status == 0:
        after = history_of(checkpoint)
        assert len(after) == 3 and after[:2] == before
    else:
        assert "checkpoint format" in one_line(err) and checkpoint.read_bytes() == bytes_before
