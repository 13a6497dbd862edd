"""`convexsnn gap`: how far a given network is from the proven optimum, or why that cannot be said."""

import json
import sys
from dataclasses import replace

import cvxpy as cp
import numpy as np
import pytest

import convexsnn
from convexsnn.cli import main
from convexsnn.convex import distance_to_optimum as gap_module
from convexsnn.networks import LIF, Layer, Network, save_network
from convexsnn.problem import load_problem
from convexsnn.simulate import simulate

KEYS = set(
    "problem objective gap not_covered min_margin train_accuracy units readout no_readout optimum excess "
    "seconds".split()
)
OPTIMUM = set("status scope objective lower_bound gap patterns units oracle".split())
NAME = "exact-subtract"


@pytest.fixture
def gap(monkeypatch, capsys, tmp_path):
    """Return a function that runs `convexsnn gap` on a network: (status, out, err)."""
    monkeypatch.chdir(tmp_path)

    def run(network, *arguments, problem=NAME):
        if isinstance(network, Network):
            save_network(tmp_path / "weights.npz", network)
            network = tmp_path / "weights.npz"
        monkeypatch.setattr(sys, "argv", ["convexsnn", "gap", problem, str(network), *arguments])
        with pytest.raises(SystemExit) as left:
            main()
        out, err = capsys.readouterr()
        return left.value.code or 0, out, err

    return run


def told(answer):
    assert answer[0] == 0 and answer[2] == ""
    return json.loads(answer[1])


def random_network(seed=0, units=4, outputs=1, inputs=2, scale=1.0, **neuron):
    rng = np.random.default_rng(seed)
    weights = np.clip(scale * rng.standard_normal((units, inputs)), -5, 5)
    lif = LIF(**{"leak": 0.9, "threshold": 1.0, "reset": "subtract", **neuron})
    return Network((Layer(weights, lif),), 0.3 * rng.standard_normal((units, outputs)))


def objective_of(problem, network):
    """Return the objective by hand: half the mean squared error, and λ times the sum of the weights."""
    error = simulate(network, problem.inputs).outputs[:, 0] - problem.targets
    return np.mean(error**2) / 2 + problem.training.regularization * np.abs(network.output_weights).sum()


@pytest.mark.parametrize("source", ["exact", "column_generation", "gaussian"])
def test_the_optimum_is_no_distance_away(gap, tmp_path, source):
    problem = load_problem(NAME)
    convexsnn.train(problem).save(tmp_path / "run")
    path = tmp_path / "run" / "problem.toml"
    path.write_text(path.read_text().replace('source = "exact"', f'source = "{source}"'))
    found = told(gap(tmp_path / "run" / "network.npz", "--json", problem=str(path)))
    assert set(found) == KEYS and set(found["optimum"]) == OPTIMUM
    assert 0 <= found["gap"] < 1e-7 and found["not_covered"] is None and abs(found["excess"]) < 1e-8
    assert found["optimum"]["status"] == "optimal_global" and found["optimum"]["scope"] == "all_patterns"
    assert found["objective"] == pytest.approx(problem.expected["objective"], rel=1e-7)
    assert found["train_accuracy"] is None and found["min_margin"] >= 1e-6


def readout_by_cvxpy(problem, network):
    """Return the least objective with the network's hidden weights as they are."""
    features = simulate(network, problem.inputs).features.astype(float)
    weights = cp.Variable((features.shape[1], 1))
    missed = features @ weights - problem.encoded_targets()
    loss = cp.sum_squares(missed) / (2 * len(features))
    return cp.Problem(cp.Minimize(loss + problem.training.regularization * cp.norm1(weights))).solve()


@pytest.mark.parametrize("seed", range(4))
def test_a_worse_network_is_as_far_as_its_simulation_says(gap, seed):
    problem, network = load_problem(NAME), random_network(seed, scale=2.0)
    found = told(gap(network, "--json"))
    objective, bound = objective_of(problem, network), found["optimum"]["lower_bound"]
    assert found["objective"] == pytest.approx(objective, rel=1e-12)
    assert found["gap"] == pytest.approx((objective - bound) / objective, rel=1e-9) and found["gap"] > 0.01
    assert found["gap"] == pytest.approx(1 - problem.expected["objective"] / objective, abs=1e-6)
    assert found["excess"] == pytest.approx(objective - found["optimum"]["objective"]) and found["units"] == 4
    readout = found["readout"]
    assert found["no_readout"] is None and readout["units"] <= readout["patterns"] <= 4
    assert found["optimum"]["lower_bound"] <= readout["objective"] <= objective and readout["gap"] < 1e-6
    assert readout["objective"] == pytest.approx(readout_by_cvxpy(problem, network), rel=1e-6)


LAYER = random_network().layers[0]


@pytest.mark.parametrize(
    ("network", "word"),
    [
        (random_network(leak=0.8), "leak"),
        (random_network(threshold=2.0), "threshold"),
        (random_network(reset="zero"), "reset"),
        (random_network(inputs=3), "inputs"),
        (random_network(outputs=2), "2 outputs"),
        (replace(random_network(), readout="membrane"), "readout"),
        (replace(random_network(), supervise="all"), "supervise"),
        (Network((LAYER, random_network(inputs=4).layers[0]), np.ones((4, 1))), "layers"),
        (Network((replace(LAYER, bias=np.zeros(4)),), np.ones((4, 1))), "bias"),
    ],
)
def test_another_network_is_refused_in_one_line(gap, network, word):
    status, out, err = gap(network, "--json")
    assert status == 2 and out == "" and err.startswith("convexsnn: error: ")
    assert err.count("\n") == 1 and word in err


def test_weights_outside_the_box_have_no_gap(gap):
    (network := random_network()).layers[0].weights[1, 0] = -7.5
    found = told(gap(network, "--json"))
    assert found["gap"] is None and "7.5" in found["not_covered"] and "box of 5" in found["not_covered"]
    assert found["readout"] is None and "7.5" in found["no_readout"]
    assert found["objective"] == pytest.approx(objective_of(load_problem(NAME), network), rel=1e-12)


def test_a_margin_below_the_definition_has_no_gap(gap):
    problem, network = load_problem(NAME), random_network()
    row = problem.inputs[0, 0]
    network.layers[0].weights[0] = row * (1.0 + 1e-9) / (row @ row)  # u = 1 + 1e-9 at the first step
    found = told(gap(network, "--json"))
    assert found["gap"] is None and "margin" in found["not_covered"] and found["min_margin"] < 1e-6
    assert "margin" in gap(network)[1]
    assert f"{told(gap(random_network(1), '--json'))['gap']:.3g} at most" in gap(random_network(1))[1]


def test_the_readout_has_the_tolerance_and_what_is_left_of_the_time(monkeypatch):
    asked = []

    def solve(program, name, **given):
        asked.append(given)
        return real(program, name, **given)

    real = gap_module.solve
    monkeypatch.setattr(gap_module, "solve", solve)
    problem = load_problem("xor")
    network = convexsnn.train(problem).network
    found = gap_module.distance(problem, network, tolerance=1e-3, time_limit=50.0)
    (given,) = asked
    left = 50.0 - found.result.seconds["total"]
    assert given == {"tolerance": 1e-3, "time_limit": pytest.approx(left, abs=1e-3)}
    asked.clear()
    gap_module.distance(problem, network)
    assert asked == [{"tolerance": problem.solver.tolerance, "time_limit": None}]
