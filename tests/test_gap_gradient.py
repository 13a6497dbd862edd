"""How far gradient training is from the optimum, in the table that `convexsnn gap` prints."""

import json

import pytest

pytest.importorskip("torch")

from dataclasses import replace  # noqa: E402

from convexsnn.gradient.training import train_gradient  # noqa: E402
from convexsnn.networks import save_network  # noqa: E402
from convexsnn.problem import load_problem  # noqa: E402


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
