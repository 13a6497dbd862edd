"""ADMM's hidden layers as a dictionary; the folder of an ADMM training and all that can be wrong in it."""

import hashlib
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from altered_folders import add, put, set_array, set_problem
from command_line import files_in

import convexsnn
from convexsnn.admm.result import admm_problem, train_admm, verify_admm_folder
from convexsnn.arrays import read_npz
from convexsnn.errors import ConvexSNNError, LoweringError, ProblemFileError, ShapeError, VerificationError
from convexsnn.networks import architecture_mismatch
from convexsnn.problem import Problem, load_problem
from convexsnn.roads import verify_folder
from convexsnn.simulate import simulate
from convexsnn.tasks import generate

DATA = generate("yin_yang", {"steps": 3, "train": 60, "test": 30})
LAYERS = [{"width": 8, "bias": True, "leak": 0.8}, {"width": 9, "bias": True}]
ADMM = {"iterations": 4, "batch": 20, "seed": 2}


def convex(**dictionary):
    return Problem.from_arrays(
        DATA["inputs"], DATA["targets"], layers=LAYERS, admm=ADMM,
        training={"loss": "squared_hinge", "regularization_fraction": 0.02},
        dictionary={"source": "admm", "margin": 0.0, "weight_box": 1000.0, **dictionary},
    )  # fmt: skip


def deep(**network):
    return Problem.from_arrays(
        DATA["inputs"], DATA["targets"], layers=LAYERS, name="deep",
        network={"readout": "output_membrane", **network},
        training={"method": "admm", "loss": "softmax"}, admm={**ADMM, "validation": 0.2},
        test_inputs=DATA["test_inputs"], test_targets=DATA["test_targets"],
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained():
    return convexsnn.train(deep())


@pytest.fixture(scope="module")
def saved(trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("admm") / "saved"
    trained.save(folder)
    return folder


@pytest.fixture
def copy(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "copy")


@pytest.mark.parametrize("margin", [0.0, 1e-9])
def test_hidden_layers_of_admm_become_a_dictionary(margin, tmp_path):
    given = convex(margin=margin)
    result = convexsnn.train(given)
    assert (result.status, result.scope) == ("optimal_on_dictionary", "dictionary")
    assert 0 <= result.certificate.gap <= given.solver.tolerance
    layers = train_admm(admm_problem(given)).network.layers
    dictionary = result.lowered.dictionary
    (witness,) = dictionary.subnetworks
    for one, other in zip(witness.layers, layers, strict=True):
        assert np.array_equal(one.weights, other.weights) and np.array_equal(one.bias, other.bias)
    last = simulate(convexsnn.Network(layers, np.eye(9)), given.inputs).spikes[-1][:, -1]
    patterns = {tuple(p) for p in last.T.astype(int)} - {(0,) * 60}
    columns = {tuple(p) for p in dictionary.columns.toarray().T.astype(int)}
    assert columns <= patterns and (columns == patterns or margin > 0)
    result.save(tmp_path / "out")
    claim, _ = convexsnn.verify_folder(tmp_path / "out")
    assert claim == result.claim and claim.patterns == dictionary.patterns
    again = convexsnn.train(load_problem(tmp_path / "out" / "problem.toml"))
    assert again.certificate.objective == result.certificate.objective


def test_admm_trains_the_readout_that_the_dictionary_sees():
    given = convex()
    asked = admm_problem(given)
    assert asked.training.method == "admm" and asked.training.regularization_fraction is None
    assert (asked.network.readout, asked.network.supervise) == ("spike", "last")
    assert asked.training.loss == given.training.loss and asked.admm == given.admm
    assert asked.network.layers == given.network.layers and np.array_equal(asked.inputs, given.inputs)


def test_a_box_that_is_too_small_is_named():
    with pytest.raises(LoweringError) as caught:
        convexsnn.train(convex(weight_box=0.01))
    assert str(caught.value).startswith("dictionary.weight_box: 0.01, but a weight of layer 1 is ")


def test_a_convolution_is_no_source_of_patterns():
    given = Problem.from_arrays(
        DATA["inputs"], DATA["targets"], layers=[{"width": 4, "kernel": 2, "shape": [1, 2, 2]}], admm=ADMM,
        training={"loss": "hinge", "regularization": 0.1}, dictionary={"source": "admm"},
    )  # fmt: skip
    with pytest.raises(LoweringError, match=r"network.layers\[1\].kernel: 2 has no convex program"):
        convexsnn.train(given)


def test_a_summary_proves_no_bound(trained):
    told = json.loads(json.dumps(trained.summary(), allow_nan=False))
    assert told["lower_bound"] is None and told["gap"] is None and told["patterns"] is None
    assert "no lower bound and no gap" in told["scope"] and told["verified"] is True
    assert told["status"] == trained.status == "limit" and told["stopped_by"] == "iterations"
    assert told["units"] == 17 and told["solver"] == "admm:lifted" and len(told["iterations"]) == 4
    assert set(told["seconds"]) == {"train", "verify", "total"}
    best = max(one.validation_accuracy for one in trained.run.history)
    assert told["validation_accuracy"] == best


def test_what_is_told_is_what_the_simulator_says(trained):
    told, network = trained.summary(), trained.network
    outputs = simulate(network, DATA["inputs"]).outputs
    right = np.mean(outputs.argmax(axis=1) == DATA["targets"])
    entropy = np.log(np.exp(outputs).sum(axis=1)) - outputs[np.arange(60), DATA["targets"]]
    assert told["train_accuracy"] == right and told["objective"] == pytest.approx(entropy.mean(), rel=1e-12)
    on_test = simulate(network, DATA["test_inputs"]).outputs.argmax(axis=1)
    assert told["test_accuracy"] == np.mean(on_test == DATA["test_targets"])


def test_a_folder_holds_problem_data_network_and_claim(trained, saved):
    assert files_in(saved) == ["admm.json", "data.npz", "manifest.json", "network.npz", "problem.toml"]
    claim = json.loads((saved / "admm.json").read_text(encoding="utf-8"))
    stated = {k: v for k, v in trained.summary().items() if k != "out"}
    assert {k: claim[k] for k in stated} == json.loads(json.dumps(stated))
    assert verify_folder(saved) == (verify_admm_folder(saved).claim, trained.judged)
    assert (
        claim["fingerprint"]
        == trained.problem.fingerprint()
        == load_problem(saved / "problem.toml").fingerprint()
    )
    network = convexsnn.load_network(saved / "network.npz")
    assert architecture_mismatch(trained.problem.network, network.layers, 4) is None
    for name in ("inputs", "targets", "test_inputs", "test_targets"):
        assert np.array_equal(read_npz(saved / "data.npz")[name], DATA[name])


def test_a_folder_is_not_written_over_another(trained, copy):
    with pytest.raises(ProblemFileError, match="copy: exists"):
        trained.save(copy)
    trained.save(copy, force=True)
    assert verify_admm_folder(copy).claim.units == 17


def test_an_admm_folder_proves_no_optimum(copy):
    told = verify_admm_folder(copy).summary()
    assert told["lower_bound"] is None and told["gap"] is None and "no lower bound" in told["scope"]
    with pytest.raises(ShapeError, match="exact: a claim of ADMM has no proof"):
        verify_folder(copy, exact=True)


def test_a_folder_has_one_claim(copy):
    (copy / "certificate.json").write_text("{}")
    with pytest.raises(VerificationError, match="holds certificate.json and admm.json; .* one claim"):
        verify_folder(copy)


def set_admm(folder, **values):
    claim = json.loads((folder / "admm.json").read_text())
    assert set(values) <= set(claim)
    (folder / "admm.json").write_text(json.dumps({**claim, **values}))


def not_verified(folder):
    with pytest.raises(ConvexSNNError) as caught:
        verify_admm_folder(folder)
    assert isinstance(caught.value, VerificationError) and "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"objective": 0.01}, "objective: the claim states 0.01, the simulator says "),
        ({"objective": None}, "objective: the claim states None"),
        ({"objective": float("nan")}, "objective: the claim states nan"),
        ({"train_accuracy": 1.0}, "train_accuracy: the claim states 1.0, the simulator says "),
        ({"test_accuracy": 1.0}, "test_accuracy: the claim states 1.0, the simulator says "),
        ({"test_accuracy": None}, "test_accuracy: the claim states None"),
        ({"status": "optimal_global"}, "status: 'optimal_global'"),
        ({"status": ["limit"]}, "status: ['limit']"),
        ({"lower_bound": 0.0}, "proves no bound"),
        ({"gap": 0.0}, "proves no bound"),
        ({"fingerprint": "0" * 64}, "fingerprint: "),
        ({"network": "0" * 64}, "network: network.npz is not the file of the claim"),
        ({"units": 1}, "network: 17 units, the claim states 1"),
    ],
)
def test_another_claim_is_refused(copy, values, told):
    set_admm(copy, **values)
    assert told in not_verified(copy)


@pytest.mark.parametrize(
    "key", ["objective", "train_accuracy", "status", "fingerprint", "lower_bound", "network"]
)
def test_a_claim_without_a_key_is_refused(copy, key):
    claim = json.loads((copy / "admm.json").read_text())
    del claim[key]
    (copy / "admm.json").write_text(json.dumps(claim))
    assert not_verified(copy) == f"admm.json: no key '{key}'"


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "[" * 100_000])
def test_a_claim_that_is_no_object_is_refused(copy, text):
    (copy / "admm.json").write_text(text)
    assert not_verified(copy).startswith("admm.json: ")


CHANGES = {
    "a bias": ("layer2_bias", add(0, 1.0)),
    "an output weight": ("output_weights", add((0, 0), 0.5)),
    "no number": ("output_weights", put((0, 0), np.nan)),
    "an output less": ("output_weights", lambda a: a[:, :2]),
    "units less": ("layer1_weights", lambda a: a[:4]),
    "dead units": ("layer1_weights", np.zeros_like),
}


@pytest.mark.parametrize("forged", [False, True])
@pytest.mark.parametrize("change", CHANGES)
def test_another_network_is_refused(copy, change, forged):
    set_array(copy, "network.npz", *CHANGES[change])
    if forged:
        set_admm(copy, network=hashlib.sha256((copy / "network.npz").read_bytes()).hexdigest())
    told = not_verified(copy)
    assert not told.startswith("admm.json") and (not forged or "not the file" not in told)


def test_a_network_that_spikes_the_same_is_another_file(copy):
    set_array(copy, "network.npz", "layer1_weights", add((0, 0), 1e-13))
    assert "not the file of the claim" in not_verified(copy)


def test_a_network_of_another_readout_is_refused(trained, copy):
    for changes in ({"readout": "rate"}, {"supervise": "all"}, {"readout_leak": 0.5}):
        convexsnn.save_network(copy / "network.npz", replace(trained.network, **changes))
        name, value = next(iter(changes.items()))
        assert not_verified(copy).startswith(f"network: {name} {value!r}, the problem has ")


@pytest.mark.parametrize("name", ["inputs", "targets", "test_targets"])
def test_other_data_are_refused(copy, name):
    set_array(copy, "data.npz", name, lambda a: (a + 1) % 3)
    assert not_verified(copy).split(":")[0] == ("test_accuracy" if name.startswith("test") else "fingerprint")


def test_another_problem_is_refused(copy):
    set_problem(copy, "admm", seed=3)
    assert not_verified(copy).startswith("fingerprint: ")


@pytest.mark.parametrize("file", ["problem.toml", "data.npz", "network.npz", "admm.json"])
def test_missing_and_truncated_files_are_refused(copy, file):
    whole = (copy / file).read_bytes()
    (copy / file).write_bytes(whole[: len(whole) // 2])
    assert not_verified(copy)
    (copy / file).unlink()
    assert file in not_verified(copy)
