"""A certificate is proved from data and weights alone: whatever is claimed otherwise, its check says so."""

import json

import numpy as np
import pytest
from altered_folders import (
    add,
    refused,
    set_array,
    set_claim,
    set_problem,
)

import convexsnn
from convexsnn.certify import load_claim, save_claim
from convexsnn.errors import ProblemFileError
from convexsnn.problem import load_problem


def test_the_unaltered_folder_is_accepted(solved):
    claim, checked = convexsnn.verify_folder(solved)
    assert claim.status == "optimal_on_dictionary" and claim.scope == "dictionary"
    assert (checked.objective, checked.lower_bound) == (
        pytest.approx(claim.objective, rel=1e-9),
        pytest.approx(claim.lower_bound, rel=1e-9),
    )
    assert checked.gap == pytest.approx(
        (checked.objective - checked.lower_bound) / abs(checked.objective), abs=1e-12
    )
    assert checked.verification.min_margin >= 1e-6


def test_claim_and_evidence_come_back_as_they_were(solved, tmp_path):
    claim, evidence = load_claim(solved)
    save_claim(tmp_path, claim, evidence)
    again, arrays = load_claim(tmp_path)
    assert again == claim
    assert all(
        np.array_equal(a, b) for a, b in zip(vars(arrays).values(), vars(evidence).values(), strict=True)
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("problem", "other"),
        ("fingerprint", "0" * 64),
        ("scope", "all"),
        ("scope", "global"),
        ("definition", "closed (margin 0)"),
        ("margin", 1e-5),
        ("margin", 0.0),
        ("margin", float("nan")),
        ("weight_box", 4.5),
        ("regularization", 0.031),
        ("regularization", float("nan")),
        ("patterns", 3),
        ("units", 2),
        ("gap", -1.0),
        ("gap", float("nan")),
        ("objective", float("nan")),
        ("lower_bound", float("inf")),
        ("status", "optimal_global"),
        ("status", "bounded"),
        ("status", "failed"),
    ],
)
def test_a_claim_that_is_not_so_is_refused_by_name(folder, key, value):
    set_claim(folder, **{key: value})
    assert f"{key}: " in refused(folder)


@pytest.mark.parametrize("factor", [1 - 1e-7, 1 + 1e-7, -1.0])
@pytest.mark.parametrize("key", ["objective", "lower_bound"])
def test_objective_and_bound_are_held_to_a_part_in_a_billion(folder, key, factor):
    claim, _ = load_claim(folder)
    set_claim(folder, **{key: getattr(claim, key) * factor})
    told = refused(folder)
    assert told.startswith(f"{key}: the certificate states {getattr(claim, key) * factor!r}, found ")


def test_a_gap_that_is_not_the_difference_is_refused(folder):
    set_claim(folder, gap=load_claim(folder)[0].gap + 1e-8)
    assert "gap: the certificate states " in refused(folder)


def test_a_tolerance_below_the_gap_is_refused(folder):
    gap = load_claim(folder)[0].gap
    set_claim(folder, tolerance=gap / 2)
    assert f"tolerance: the certificate states {gap / 2!r}, found 1e-06" in refused(folder)
    set_problem(folder, "solver", tolerance=gap / 2)
    told = refused(folder)
    assert (
        told.startswith("status: 'optimal_on_dictionary' is not shown by a gap of ") and "tolerance" in told
    )
    set_claim(folder, status="limit")  # stopped early is no more than the gap that is stated
    assert convexsnn.verify_folder(folder)[0].status == "limit"


@pytest.mark.parametrize("tolerance", [0.0, -1.0, 1e-3, float("nan"), float("inf")])
def test_a_tolerance_that_was_not_asked_for_is_refused(folder, tolerance):
    set_claim(folder, tolerance=tolerance)
    assert "tolerance: " in refused(folder)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda s: s.pop("gap"), "expected the keys"),
        (lambda s: s.update(extra=1), "expected the keys"),
        (lambda s: s.update(gap="small"), "gap: expected float"),
        (lambda s: s.update(units=True), "units: expected int"),
        (lambda s: s.update(units=2.5), "units: expected int"),
        (lambda s: s.update(status="perfect"), "status: 'perfect', expected one of"),
        (lambda s: s.update(format=99), "format: 99, this version reads 2"),
    ],
)
def test_a_claim_of_another_form_is_refused(folder, change, told):
    path = folder / "certificate.json"
    stated = json.loads(path.read_text())
    change(stated)
    path.write_text(json.dumps(stated))
    assert told in refused(folder)


@pytest.mark.parametrize("content", ["", "{", "[]", "3", "null"])
def test_a_claim_that_is_no_json_object_is_refused(folder, content):
    (folder / "certificate.json").write_text(content)
    assert "certificate.json" in refused(folder)


FILES = ("problem.toml", "data.npz", "network.npz", "dictionary.npz", "certificate.json", "certificate.npz")


def test_these_are_the_files(solved):
    assert sorted(path.name for path in solved.iterdir()) == sorted([*FILES, "manifest.json"])


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("how", ["missing", "truncated", "folder"])
def test_a_file_that_is_missing_or_damaged_is_named(folder, name, how):
    path = folder / name
    content = path.read_bytes()
    path.unlink()
    if how == "truncated":
        path.write_bytes(content[: len(content) * 2 // 3])
    if how == "folder":
        path.mkdir()
    assert name in refused(folder)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    assert refused(tmp_path / "nowhere", ProblemFileError) == f"{tmp_path / 'nowhere'}: no such folder"


# data and problem


@pytest.mark.parametrize(("name", "index"), [("inputs", (3, 1, 0)), ("targets", 5)])
def test_other_data_are_refused(folder, name, index):
    set_array(folder, "data.npz", name, add(index, 1e-9))
    assert "fingerprint: data, network or training are not those" in refused(folder)


@pytest.mark.parametrize(
    ("section", "values"),
    [
        ("training", {"regularization": 0.02}),
        ("training", {"loss": "squared", "task": "regression", "penalty": "group"}),
        ("dictionary", {"margin": 1e-7}),
        ("dictionary", {"weight_box": 5.0}),
        ("network", {"readout": "membrane"}),
    ],
)
def test_another_problem_is_refused(folder, section, values):
    set_problem(folder, section, **values)
    assert "fingerprint: " in refused(folder)


def test_a_title_may_change(folder):
    set_problem(folder, "", title="another title", source="another source")
    convexsnn.verify_folder(folder)


def test_other_data_under_a_new_fingerprint_are_refused_too(folder):
    set_array(folder, "data.npz", "targets", add(5, 0.1))
    set_claim(folder, fingerprint=load_problem(folder / "problem.toml").fingerprint())
    assert "objective: the certificate states " in refused(folder)


def test_other_inputs_under_a_new_fingerprint_are_refused_too(folder):
    set_array(folder, "data.npz", "inputs", lambda x: -x)
    set_claim(folder, fingerprint=load_problem(folder / "problem.toml").fingerprint())
    assert "dictionary: column " in refused(folder)
