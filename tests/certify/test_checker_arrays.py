"""Network, dictionary and evidence behind a certificate: whatever is altered in them, its check says so."""

from dataclasses import asdict, replace

import numpy as np
import pytest
from altered_folders import (
    INPUTS,
    NUMBERS,
    add,
    put,
    refused,
    set_array,
    set_claim,
    set_problem,
    small_problem,
)

import convexsnn
from convexsnn.arrays import read_npz, write_npz
from convexsnn.certify import Evidence, load_claim, save_claim
from convexsnn.errors import VerificationError
from convexsnn.lowering import Convexification
from convexsnn.problem import Problem, load_problem
from convexsnn.solvers import solve

# network


def test_another_output_weight_is_refused(folder):
    set_array(folder, "network.npz", "output_weights", add(0, 1e-6))
    assert "simulation: output of row " in refused(folder)


def test_a_hidden_weight_that_moves_a_spike_is_refused(folder):
    set_array(folder, "network.npz", "layer2_weights", lambda w: -w)
    told = refused(folder)
    assert told.startswith("simulation: sample ") and ", step 2, unit " in told


def test_a_hidden_weight_that_moves_no_spike_is_accepted(folder):
    set_array(folder, "network.npz", "layer1_bias", add(0, 1e-9))
    convexsnn.verify_folder(folder)


@pytest.mark.parametrize("name", ["layer1_weights", "layer2_bias"])
def test_a_weight_outside_the_box_is_refused(folder, name):
    set_array(folder, "network.npz", name, put(0, 4.1))
    assert refused(folder) == "network: a weight of 4.1 is outside the box of 4"


ARCHITECTURE = {
    "leak": ("layer1_leak", lambda leak: leak + 1e-9),
    "threshold": ("layer2_threshold", lambda theta: theta - 1e-9),
    "reset": ("layer1_reset", lambda reset: np.asarray("none")),
    "readout": ("readout", lambda readout: np.asarray("membrane")),
}


@pytest.mark.parametrize("name", ARCHITECTURE)
def test_a_network_of_another_architecture_is_refused_by_name(folder, name):
    set_array(folder, "network.npz", *ARCHITECTURE[name])
    assert name in refused(folder)


# dictionary


def test_another_bit_is_refused_by_column_and_row(folder):
    def flip(packed):
        packed[2, 0] ^= 1 << (7 - 5)  # bit 5 of the first byte

    set_array(folder, "dictionary.npz", "packed", flip)
    assert refused(folder) == "dictionary: column 2, row 5 is not what its witness does"


def test_another_witness_is_refused(folder):
    set_array(folder, "dictionary.npz", "subnetwork0_layer2_weights", lambda w: -w)
    assert "dictionary: " in refused(folder)


def test_a_witness_outside_the_box_is_refused(folder):
    set_array(folder, "dictionary.npz", "subnetwork0_layer1_weights", put((0, 0), -4.5))
    assert refused(folder) == "dictionary: subnetwork 0: a weight of 4.5 is outside the box of 4"


def test_a_witness_of_smaller_margin_is_refused(folder):
    problem = load_problem(folder / "problem.toml")
    tables = {**asdict(problem.dictionary), "margin": 0.5}
    problem = replace(problem, dictionary=type(problem.dictionary)(**tables))
    set_problem(folder, "dictionary", margin=0.5)
    definition = "robust, margin 0.5, weights in [-4, 4], spike readout, last step"
    set_claim(folder, margin=0.5, fingerprint=problem.fingerprint(), definition=definition)
    set_array(folder, "dictionary.npz", "definition", put(0, 0.5))
    assert "dictionary: margin " in refused(folder)


@pytest.mark.parametrize("change", [put(0, 0.5), put(1, 9.0)])
def test_another_definition_is_refused(folder, change):
    set_array(folder, "dictionary.npz", "definition", change)
    assert "dictionary: defined as " in refused(folder)


def test_another_margin_is_refused(folder):
    set_array(folder, "dictionary.npz", "margins", lambda m: 2 * m)
    assert "margin" in refused(folder)


def test_a_unit_that_is_not_there_is_refused(folder):
    set_array(folder, "dictionary.npz", "unit_of", put(0, 99))
    assert "dictionary: unit 99 of subnetwork " in refused(folder)


@pytest.mark.parametrize("number", [99, -1])
def test_a_column_without_a_witness_is_refused(folder, number):
    unused = int(np.setdiff1d(np.arange(9), load_claim(folder)[1].columns)[0])
    set_array(folder, "dictionary.npz", "subnetwork_of", put(unused, number))
    assert "dictionary: " in refused(folder)


def forge(folder, dictionary):
    """Solve over a dictionary that is not the problem's, and write a claim in which all else holds."""
    problem = load_problem(folder / "problem.toml")
    lowered = Convexification().lower(problem, dictionary)
    point = solve(lowered.program, tolerance=1e-6).point
    certificate = lowered.program.certify(point)
    network = convexsnn.reconstruct(lowered, point)
    columns = Convexification().columns_of_units(lowered, point)
    claim = replace(
        load_claim(folder)[0], objective=certificate.objective, lower_bound=certificate.lower_bound,
        gap=certificate.gap, patterns=dictionary.patterns, units=network.units,
    )  # fmt: skip
    dictionary.save(folder / "dictionary.npz")
    convexsnn.save_network(folder / "network.npz", network)
    save_claim(folder, claim, Evidence(certificate.dual, point.weights, columns))


def test_a_smaller_dictionary_with_its_own_claim_is_accepted(folder):
    """The scope is the dictionary that is there: forge() itself makes nothing that is not so."""
    lowered = convexsnn.lower(small_problem())
    forge(folder, lowered.dictionary.select(np.arange(5)))
    assert convexsnn.verify_folder(folder)[0].patterns == 5


# evidence


def test_another_dual_entry_is_refused(folder):
    set_array(folder, "certificate.npz", "dual", add((3, 0), 1e-5))
    assert refused(folder).startswith(("dual: not feasible", "lower_bound: "))


def test_a_dual_that_is_too_long_is_refused_whatever_is_claimed(folder):
    set_array(folder, "certificate.npz", "dual", lambda u: 1.01 * u)
    set_claim(folder, lower_bound=load_claim(folder)[0].objective, gap=0.0)
    told = refused(folder)
    assert told.startswith("dual: not feasible, max |Dᵀu| = 0.030") and "at most 0.03 is allowed" in told


def test_a_dual_outside_the_domain_of_its_loss_is_refused(tmp_path):
    targets = np.where(NUMBERS > 0, 1.0, -1.0)
    problem = Problem.from_arrays(
        INPUTS, targets, layers=[{"bias": True}], training={"loss": "hinge", "regularization": 0.02},
        dictionary={"count": 20},
    )  # fmt: skip
    convexsnn.train(problem).save(tmp_path / "hinge")
    convexsnn.verify_folder(tmp_path / "hinge")
    set_array(tmp_path / "hinge", "certificate.npz", "dual", lambda u: -u)  # still feasible for D
    told = refused(tmp_path / "hinge")
    assert told.startswith("dual: not feasible") and "dual objective -inf" in told


def test_another_weight_is_refused(folder):
    used = load_claim(folder)[1].columns[0]
    set_array(folder, "certificate.npz", "weights", add((used, 0), 1e-6))
    assert refused(folder).startswith(("simulation: output of row ", "objective: "))


@pytest.mark.parametrize("name", ["dual", "weights"])
@pytest.mark.parametrize(
    "change", [lambda a: a[:-1], lambda a: a[:, 0], lambda a: a * np.nan, lambda a: a.astype(str)]
)
def test_evidence_of_another_shape_or_value_is_refused(folder, name, change):
    set_array(folder, "certificate.npz", name, change)
    assert f"certificate.npz: {name}: " in refused(folder)


def test_a_missing_array_of_the_evidence_is_named(folder):
    arrays = read_npz(folder / "certificate.npz")
    del arrays["dual"]
    write_npz(folder / "certificate.npz", arrays)
    assert "no array 'dual'" in refused(folder)


def other_column(columns):
    columns[0] = np.setdiff1d(np.arange(9), columns)[0]  # of no other unit


def test_another_column_index_is_refused(folder):
    set_array(folder, "certificate.npz", "columns", other_column)
    assert "simulation: " in refused(folder)


@pytest.mark.parametrize("change", [put(0, 999), put(0, -2), lambda c: c[:-1]])
def test_a_column_that_is_not_there_is_refused(folder, change):
    set_array(folder, "certificate.npz", "columns", change)
    assert "columns: " in refused(folder)


# what differs by rounding alone


def test_a_weight_on_the_box_is_inside_and_the_next_float_is_not(folder):
    weights = read_npz(folder / "network.npz")["layer1_weights"]
    idle = int(np.argmin(np.abs(weights).max(axis=1)))
    set_array(folder, "network.npz", "layer1_weights", put((idle, 0), np.nextafter(4.0, 5.0)))
    assert refused(folder) == "network: a weight of 4.000000000000001 is outside the box of 4"


@pytest.mark.parametrize("relative", [1e-15, 1e-12])
def test_output_weights_are_exactly_those_of_the_evidence(folder, relative):
    set_array(folder, "certificate.npz", "weights", lambda w: w * (1 + relative))
    assert refused(folder).startswith("weights: column ")


def test_a_column_without_a_unit_has_no_weight(folder):
    unused = int(np.setdiff1d(np.arange(9), load_claim(folder)[1].columns)[0])
    set_array(folder, "certificate.npz", "weights", put((unused, 0), 1e-300))
    assert refused(folder).startswith("weights: column ")


# what must end in one line and not in numpy's own words

ILL_FITTING = [
    ("network.npz", "layer1_weights", lambda w: np.hstack([w, w]), "network: layer 1 has inputs 4"),
    ("network.npz", "supervise", lambda s: np.asarray("all"), "network: supervise 'all'"),
    (
        "dictionary.npz",
        "subnetwork0_layer1_weights",
        lambda w: np.hstack([w, w]),
        "dictionary: subnetwork 0: ",
    ),
    ("certificate.npz", "columns", lambda c: c[:0], "columns: 0 entries"),
    pytest.param("dictionary.npz", "definition", lambda d: d.astype("S8"), "definition"),
    pytest.param("dictionary.npz", "definition", lambda d: d + 0j, "definition"),
    pytest.param("dictionary.npz", "rows", lambda r: r + 0.5, "rows"),
    pytest.param("dictionary.npz", "complete", lambda c: c + 0, "complete"),
    pytest.param("certificate.npz", "columns", lambda c: np.full(c.shape, "a"), "columns"),
    pytest.param("certificate.npz", "columns", lambda c: c[:, None], "columns"),
    pytest.param("certificate.npz", "columns", lambda c: c + 0.5, "columns"),
    pytest.param("dictionary.npz", "unit_of", lambda u: u + 0.5, "unit_of"),
    pytest.param("dictionary.npz", "unit_of", lambda u: np.stack([u, u], axis=1), "unit_of"),
    pytest.param("network.npz", "output_weights", lambda w: np.hstack([w, w]), "output"),
]


@pytest.mark.parametrize(("file", "name", "change", "told"), ILL_FITTING)
def test_arrays_that_do_not_fit_end_in_one_line(folder, file, name, change, told):
    set_array(folder, file, name, change)
    with pytest.raises(VerificationError) as caught:
        convexsnn.verify_folder(folder)
    assert told in str(caught.value) and "\n" not in str(caught.value)


def test_a_network_read_at_the_last_step_alone_is_refused(tmp_path):
    folder = tmp_path / "all"
    convexsnn.train(small_problem("all")).save(folder)
    convexsnn.verify_folder(folder)
    set_array(folder, "network.npz", "supervise", lambda s: np.asarray("last"))
    assert "network: supervise 'last'" in refused(folder)
