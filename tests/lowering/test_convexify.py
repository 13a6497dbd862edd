"""The test that matters: the convex program and the reconstructed network are the same thing.

Every neuron, architecture, readout, loss and penalty goes the whole road on small random data.
"""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from small_programs import slow_objective

import convexsnn
from convexsnn.dictionary import collect
from convexsnn.dictionary.dictionary import patterns_of
from convexsnn.errors import LoweringError, VerificationError
from convexsnn.lowering import Convexification, definition_of
from convexsnn.networks import LIF, RESETS, Layer, Network, Subnetwork
from convexsnn.problem import Problem
from convexsnn.programs import Point
from convexsnn.simulate import simulate

N, T, D = 9, 3, 2
BOX = 4.0
RNG = np.random.default_rng(7)
INPUTS = RNG.normal(size=(N, T, D))
BINARY = {"last": RNG.choice([-1, 1], N), "all": RNG.choice([-1, 1], (N, T))}
CLASSES = {"last": RNG.permutation(np.arange(N) % 3), "all": RNG.integers(0, 3, (N, T))}
NUMBERS = {"last": RNG.normal(size=(N, 2)), "all": RNG.normal(size=(N, T, 2))}
KINDS = [*(("lif", reset) for reset in RESETS), ("threshold", None), ("recurrent_threshold", None)]
CASES = [
    (kind, reset, depth, recurrent, bias)
    for (kind, reset), depth, recurrent, bias in product(KINDS, (1, 2), (False, True), (False, True))
    if not (kind == "recurrent_threshold" and recurrent)
]
CASE_NAMES = ["-".join(str(part) for part in case) for case in CASES]


def make_problem(
    kind="lif",
    reset="subtract",
    depth=1,
    recurrent=False,
    bias=True,
    *,
    readout="spike",
    supervise="last",
    loss="hinge",
    penalty="l1",
    targets=None,
    inputs=INPUTS,
    width=3,
    weights=None,
    fraction=0.1,
    solver="auto",
    **dictionary,
):
    layer = {"neuron": kind, "leak": [0.3, 0.8, 1.0], "bias": bias, "recurrent": recurrent, "width": width}
    layer |= {"reset": reset} if reset else {}
    if not bias and kind != "lif":
        layer["threshold"] = 0.2  # at threshold 0 a silent input is a tie, whatever the weights
    return Problem.from_arrays(
        inputs,
        BINARY[supervise] if targets is None else targets,
        layers=[layer] * depth,
        network={"subnetworks": 4, "readout": readout, "supervise": supervise},
        dictionary={"count": 24, "weight_box": BOX, "seed": 3, **dictionary},
        training={"loss": loss, "penalty": penalty, "regularization_fraction": fraction},
        solver={"name": solver},
        sample_weights=weights,
    )


def margin_that_matters(result):
    """Return the smallest distance of a membrane from a threshold, readouts of units in use alone."""
    network, used = result.network, result.columns >= 0
    trace = simulate(network, result.problem.inputs)
    pairs = zip(network.layers, trace.membranes, strict=True)
    distances = [np.abs(u - layer.neuron.threshold).min() for layer, u in pairs]
    if network.readout == "membrane":
        neuron, u, s = network.layers[-1].neuron, trace.membranes[-1], trace.spikes[-1]
        v = np.abs(neuron.after_reset(u, s))
        if getattr(neuron, "reset", "") == "zero":
            v[s] = np.inf  # exactly 0 whatever the weights
        distances.append((v if network.supervise == "all" else v[:, -1:])[:, :, used].min())
    return min(distances)


def check_road(problem):
    """Train; judge the outcome by the simulator and by slow formulas; return it."""
    result = convexsnn.train(problem)
    program, dictionary, network = result.lowered.program, result.lowered.dictionary, result.network
    assert result.status == "optimal_on_dictionary"
    # the network predicts D W
    wanted = dictionary.columns.toarray().astype(float) @ result.point.weights
    outputs = simulate(network, problem.inputs).outputs
    assert outputs.shape == np.shape(problem.targets)[: outputs.ndim - 1] + (program.shape[1],)
    assert np.allclose(outputs.reshape(wanted.shape), wanted, rtol=1e-9, atol=1e-12)
    # each unit does what its column says
    features = simulate(network, problem.inputs).features.reshape(problem.rows, -1)
    used = result.columns >= 0
    assert np.array_equal(features[:, used], dictionary.columns.toarray(result.columns[used]))
    # the objective is the program's, and its gap holds
    objective = slow_objective(program, result.point.weights)
    assert result.certificate.objective == pytest.approx(objective, rel=1e-9)
    assert result.verification.objective == pytest.approx(objective, rel=1e-9)
    assert result.certificate.lower_bound <= objective * (1 + 1e-12)
    assert result.certificate.gap <= problem.solver.tolerance
    # hidden weights stay in the box
    assert max(np.abs(layer.unit_weights()).max() for layer in network.layers) <= BOX
    return result


@pytest.mark.parametrize("supervise", ["last", "all"])
@pytest.mark.parametrize("readout", ["spike", "membrane"])
@pytest.mark.parametrize(("kind", "reset", "depth", "recurrent", "bias"), CASES, ids=CASE_NAMES)
def test_the_network_is_the_program(kind, reset, depth, recurrent, bias, readout, supervise):
    margin = 1e-6 if depth == 1 or bias or readout == "spike" else 0.0
    problem = make_problem(
        kind, reset, depth, recurrent, bias, readout=readout, supervise=supervise, margin=margin
    )
    result = check_road(problem)
    margins = result.lowered.dictionary.margins[result.columns[result.columns >= 0]]
    found = margin_that_matters(result)
    assert found >= margin * (1 - 1e-9)
    assert found >= margins.min() * (1 - 1e-9)  # max_margin never lowers it
    assert result.verification.min_margin <= found * (1 + 1e-9)  # what is reported is no exaggeration
    plain = replace(problem, dictionary=replace(problem.dictionary, max_margin=False))
    assert margin_that_matters(check_road(plain)) <= found * (1 + 1e-9) or recurrent


LOSSES = [
    ("squared", NUMBERS, "regression"),
    ("squared", CLASSES, "classification"),
    ("hinge", CLASSES, "classification"),
    ("squared_hinge", BINARY, "classification"),
    ("logistic", BINARY, "classification"),
    ("logistic", CLASSES, "classification"),
    ("softmax", CLASSES, "classification"),
]


@pytest.mark.parametrize("supervise", ["last", "all"])
@pytest.mark.parametrize("penalty", ["l1", "group"])
@pytest.mark.parametrize(("loss", "targets", "task"), LOSSES, ids=lambda v: v if isinstance(v, str) else "")
def test_every_loss_and_penalty(loss, targets, task, penalty, supervise):
    weights = np.linspace(0.5, 2.0, N)
    problem = make_problem(
        loss=loss, penalty=penalty, targets=targets[supervise], supervise=supervise,
        depth=2, weights=weights,
    )  # fmt: skip
    problem = replace(problem, training=replace(problem.training, task=task))
    result = check_road(problem)
    assert result.train_accuracy is None if task == "regression" else 0 <= result.train_accuracy <= 1
    if penalty == "group":  # one group a unit
        patterns = result.lowered.dictionary.patterns
        assert np.array_equal(result.lowered.program.penalty.index, np.arange(patterns))


@pytest.mark.parametrize("max_margin", [False, True])
@pytest.mark.parametrize("recurrent", [False, True])
@pytest.mark.parametrize("kind", ["lif", "recurrent_threshold"])
def test_side_by_side_is_the_sum_of_the_subnetworks(kind, recurrent, max_margin):
    if kind == "recurrent_threshold" and recurrent:
        kind = "threshold"
    problem = make_problem(kind, None, 2, recurrent, max_margin=max_margin, loss="squared_hinge")
    result = check_road(problem)
    dictionary, network, point = result.lowered.dictionary, result.network, result.point
    total = np.zeros((N, 1))
    for k, subnetwork in enumerate(dictionary.subnetworks):
        features = patterns_of(subnetwork, problem.inputs, dictionary.definition)[0].toarray()
        mine = dictionary.subnetwork_of == k
        total += features[:, dictionary.unit_of[mine]] @ point.weights[mine]
    assert np.allclose(simulate(network, problem.inputs).outputs, total)
    # nothing of one subnetwork reaches another: last layer against last layer, block by block
    active = np.unique(dictionary.subnetwork_of[np.abs(point.weights[:, 0]) > 0])
    assert len(active) > 1
    upper = network.layers[1]
    owner = np.full(upper.units, -1)
    used = result.columns >= 0
    owner[used] = dictionary.subnetwork_of[result.columns[used]]
    for one, other in product(active, active):
        if one != other:
            reach = (upper.weights[owner == one] != 0).any(axis=0)
            assert not (reach & (upper.weights[owner == other] != 0).any(axis=0)).any()
            if upper.recurrent is not None:
                assert not upper.recurrent[np.ix_(owner == one, owner == other)].any()


def test_idle_units_are_left_out():
    problem = make_problem(depth=2, width=1, count=30)
    result = check_road(problem)
    active = int((np.abs(result.point.weights).max(axis=1) > 0).sum())
    assert [layer.units for layer in result.network.layers] == [active, active]  # width 1: a chain each
    recurrent = check_road(make_problem(recurrent=True, width=6))
    assert recurrent.network.layers[0].units % 6 == 0  # a recurrent layer stays whole


def test_pruning_keeps_the_certified_gap():
    problem = make_problem(loss="logistic", depth=2, count=60)
    problem = replace(problem, solver=replace(problem.solver, name="cvxpy"))
    result = check_road(problem)
    tolerance, program = problem.solver.tolerance, result.lowered.program
    assert result.certificate.gap <= max(result.solution.certificate.gap, 0.5 * tolerance)
    before = (result.solution.point.weights != 0).sum()
    assert (result.point.weights != 0).sum() < before  # an interior point leaves no zeros
    # the dual point is feasible and its objective is the bound, by hand
    u, y = result.certificate.dual[:, 0], program.targets[:, 0]
    p = N * u * y
    bound = -(p * np.log(p) + (1 - p) * np.log(1 - p)).sum() / N
    assert result.certificate.lower_bound == pytest.approx(bound, rel=1e-9)
    assert np.abs(program.dictionary.toarray().T @ u).max() <= program.regularization * (1 + 1e-12)


@pytest.mark.parametrize("readout", ["spike", "membrane"])
@pytest.mark.parametrize("recurrent", [False, True])
def test_lambda_above_its_largest_gives_the_zero_function(readout, recurrent):
    result = check_road(make_problem(fraction=1.5, readout=readout, recurrent=recurrent))
    assert not result.point.weights.any() and result.network.units == (3 if recurrent else 1)
    assert not simulate(result.network, INPUTS).outputs.any()
    assert result.certificate.gap == pytest.approx(0.0, abs=1e-12)


def test_a_fraction_of_lambda_max_is_one():
    lowered = convexsnn.lower(make_problem(fraction=0.25))
    # hinge at W = 0: u = y / n, so λ_max is the largest |Σ_{i in S} y_i| / n over the patterns S
    sums = lowered.dictionary.columns.toarray().astype(float).T @ BINARY["last"]
    assert lowered.program.regularization == pytest.approx(0.25 * np.abs(sums).max() / N, rel=1e-12)


def test_targets_that_ask_for_nothing_are_answered_by_nothing():
    result = check_road(make_problem(loss="squared", targets=np.zeros(N)))
    assert result.certificate.objective == 0.0 and result.certificate.gap == 0.0


@pytest.mark.parametrize("unit", [2.0**-50, 2.0**40])
def test_lambda_max_has_the_units_of_the_targets(unit):
    targets = np.random.default_rng(5).standard_normal(N)
    one, other = (
        convexsnn.lower(make_problem(loss="squared", targets=t, fraction=0.25)).program
        for t in (targets, unit * targets)
    )
    assert one.regularization == pytest.approx(0.25 * one.regularization_max, rel=1e-12)
    assert other.regularization == pytest.approx(unit * one.regularization, rel=1e-12)


def test_a_closed_dictionary_goes_the_road_with_its_ties():
    bits = np.array([[[0, 0], [1, 0]], [[1, 1], [0, 1]], [[1, 0], [1, 1]], [[0, 1], [0, 0]]], float)
    weights = [[1.0, 0.5], [0.5, 0.5], [0.5, -0.5], [1.0, 1.0]]  # multiples of θ/2: membranes meet θ exactly
    problem = make_problem("lif", bias=False, inputs=bits, targets=[1, -1, 1, -1], margin=0.0)
    stack = Subnetwork((Layer(np.array(weights), LIF(1.0, np.full(4, 0.5))),))
    dictionary = collect(bits, [stack], definition_of(problem))
    assert dictionary.margins.min() == 0.0
    lowered = Convexification().lower(problem, dictionary)
    point = Point(np.arange(1.0, 1.0 + dictionary.patterns)[:, None])
    network = Convexification().reconstruct(lowered, point)
    columns = Convexification().columns_of_units(lowered, point)
    checked = convexsnn.verify(network, lowered, point, columns)
    assert checked.max_output_error == 0.0


def first_difference(network, lowered, columns):
    """Return sample, step and unit of the first wrong bit, in order of samples, steps and units."""
    features = simulate(network, lowered.problem.inputs).features
    features = features.reshape(N, -1, features.shape[-1])
    wanted = lowered.dictionary.columns.toarray(columns).reshape(features.shape)
    sample, step, unit = np.argwhere(features != wanted)[0]
    return sample, step if lowered.problem.network.supervise == "all" else T - 1, unit


@pytest.mark.parametrize("supervise", ["last", "all"])
@pytest.mark.parametrize("unit", [0, -1])
def test_a_wrong_weight_is_found_by_sample_step_and_unit(supervise, unit):
    result = check_road(make_problem(supervise=supervise))
    (layer,) = result.network.layers
    weights = layer.weights.copy()
    weights[unit] = -weights[unit]
    wrong = Network((replace(layer, weights=weights),), result.network.output_weights, supervise=supervise)
    sample, step, found = first_difference(wrong, result.lowered, result.columns)
    assert found == unit % layer.units
    with pytest.raises(
        VerificationError, match=f"sample {sample}, step {step}, unit {found} of the last layer"
    ):
        convexsnn.verify(wrong, result.lowered, result.point, result.columns)


def test_a_wrong_weight_of_a_hidden_layer_is_found_too():
    result = check_road(make_problem(depth=2))
    first, last = result.network.layers
    wrong = Network((replace(first, weights=-first.weights), last), result.network.output_weights)
    sample, step, unit = first_difference(wrong, result.lowered, result.columns)
    with pytest.raises(VerificationError, match=f"sample {sample}, step {step}, unit {unit} "):
        convexsnn.verify(wrong, result.lowered, result.point, result.columns)


def test_a_wrong_output_weight_is_found_by_row():
    result = check_road(make_problem())
    weights = result.network.output_weights.copy()
    weights[0] += 1e-6
    wrong = Network(result.network.layers, weights)
    with pytest.raises(
        VerificationError, match=r"simulation: output of row \d+ is off the program's by 1e-06"
    ):
        convexsnn.verify(wrong, result.lowered, result.point, result.columns)


def test_two_units_of_one_column_are_refused():
    """W and −W on two units of one column leave D W as it is, but the network's own ‖W‖ grows."""
    result = check_road(make_problem())
    (layer,), weights = result.network.layers, result.network.output_weights
    twice = np.r_[np.arange(layer.units), 0, 0]
    wrong = Network((layer.select(twice),), np.concatenate([weights, [[0.5], [-0.5]]]))
    with pytest.raises(VerificationError, match="columns: two units"):
        convexsnn.verify(wrong, result.lowered, result.point, result.columns[twice])


@pytest.mark.parametrize("columns", [[], [0], [99] * 50])
def test_columns_that_do_not_fit_are_refused(columns):
    result = check_road(make_problem())
    with pytest.raises(VerificationError, match="columns: "):
        convexsnn.verify(result.network, result.lowered, result.point, np.array(columns, int))


def test_a_unit_without_a_column_must_be_silent():
    result = check_road(make_problem())
    columns = result.columns.copy()
    columns[0] = -1
    with pytest.raises(VerificationError, match="a unit without a column is read out with weight"):
        convexsnn.verify(result.network, result.lowered, result.point, columns)


def test_a_margin_out_of_reach_is_an_error_that_says_so():
    with pytest.raises(LoweringError, match="none of 24 units has a pattern to use.*dictionary.margin 100"):
        convexsnn.lower(make_problem(margin=100.0))
