"""How far gradient training is from the optimum, in the table that `convexsnn gap` prints."""

import json

import pytest

pytest.importorskip("torch")

from dataclasses import replace  # noqa: E402

from convexsnn.convex.column_generation import ColumnGeneration  # noqa: E402
from convexsnn.convex.distance_to_optimum import distance  # noqa: E402
from convexsnn.gradient.training import train_gradient  # noqa: E402
from convexsnn.networks import save_network  # noqa: E402
from convexsnn.problem import load_problem  # noqa: E402
from convexsnn.simulate import simulate  # noqa: E402


@pytest.mark.parametrize("seed", range(3))
def test_trained_readout_optimum_and_bound_are_in_order(cli, tmp_path, seed):
    problem = load_problem("exact-xor")
    layers = tuple(replace(layer, width=6) for layer in problem.network.layers)
    spec = replace(problem.gradient, epochs=60, batch=4, learning_rate=0.02, seed=seed)
    wider = replace(problem, gradient=spec, network=replace(problem.network, layers=layers, subnetworks=1))
    save_network(tmp_path / "trained.npz", train_gradient(wider).network)
    status, out, err = cli("gap", "exact-xor", tmp_path / "trained.npz", "--json")
    assert status == 0, err
    told = json.loads(out)
    best = told["optimum"]
    assert best["status"] == "optimal_global"
    if told["readout"] is not None:
        assert best["objective"] <= told["readout"]["objective"] * (1 + 1e-6)
        assert told["readout"]["objective"] <= told["objective"] * (1 + 1e-6)
    assert best["lower_bound"] <= best["objective"] <= told["objective"]
    status, text, _ = cli("gap", "exact-xor", tmp_path / "trained.npz")
    lines = [line.split()[:2] for line in text.splitlines()[1:5]]
    assert lines == [["this", "network"], ["its", "readout"], ["best", "found"], ["lower", "bound"]]


def test_column_generation_begins_with_the_networks_patterns(monkeypatch):
    problem = load_problem("exact-xor")
    layers = tuple(replace(layer, width=6) for layer in problem.network.layers)
    spec = replace(problem.gradient, epochs=60, batch=4, learning_rate=0.02, seed=1)
    network = replace(problem.network, layers=layers, subnetworks=1)
    sampled = replace(problem.dictionary, source="gaussian")
    made = replace(problem, gradient=spec, network=network, dictionary=sampled)
    trained = train_gradient(made).network
    starts, run = [], ColumnGeneration.run
    monkeypatch.setattr(ColumnGeneration, "run", lambda self, start: starts.append(start) or run(self, start))
    found = distance(made, trained)
    columns = starts[0].columns.toarray()
    patterns = simulate(trained, made.inputs).spikes[-1][:, -1]
    assert {c.tobytes() for c in columns.T} == {c.tobytes() for c in patterns.T if c.any()}
    assert found.result.iterations[0].patterns == columns.shape[1]
    assert found.result.iterations[0].objective == pytest.approx(found.readout.objective, rel=1e-6)


def test_a_folder_has_the_networks_that_gave_the_witnesses(cli, tmp_path):
    problem = load_problem("exact-xor")
    dictionary = replace(problem.dictionary, source="surrogate_gradient")
    layers = tuple(replace(layer, width=6) for layer in problem.network.layers)
    spec = replace(problem.gradient, epochs=60, batch=4, learning_rate=0.02, networks=2)
    network = replace(problem.network, layers=layers, subnetworks=1)
    replace(problem, gradient=spec, network=network, dictionary=dictionary).save(tmp_path)
    status, out, err = cli("solve", tmp_path / "problem.toml", "--json", "--out", tmp_path / "run")
    assert status == 0, err
    told = json.loads(out)
    assert len(told["trained"]) == 2 and "baseline" not in told
    assert told["objective"] <= min(row["objective"] for row in told["trained"]) * (1 + 1e-6)
    for k, row in enumerate(told["trained"], 1):
        weights = tmp_path / "run" / f"trained-{k}.npz"
        status, out, err = cli("gap", tmp_path / "run" / "problem.toml", weights, "--json")
        assert status == 0, err
        assert json.loads(out)["objective"] == pytest.approx(row["objective"], rel=1e-9)
    assert cli("verify", tmp_path / "run")[0] == 0
    status, text, _ = cli("solve", tmp_path / "problem.toml")
    lines = [line.split() for line in text.splitlines()]
    assert ["trained", "2", "objective", f"{told['trained'][1]['objective']:.6g},"] in [x[:4] for x in lines]
