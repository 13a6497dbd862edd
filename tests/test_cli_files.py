"""The files of the command line: what it writes and verifies, and what it leaves alone."""

import json
import os
import subprocess
import sys

import highspy
import pytest
from command_line import files_in, one_line

from convexsnn.arrays import read_npz, write_npz


@pytest.fixture(scope="module")
def solved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("solved") / "xor"
    subprocess.run([sys.executable, "-m", "convexsnn", "solve", "xor", "--out", folder], check=True)
    return folder


# out, verify


def test_out_writes_a_folder_that_verify_accepts(cli, tmp_path):
    status, out, _ = cli("solve", "xor", "--json", "--out", "folder")
    assert status == 0 and json.loads(out)["out"] == "folder"
    assert files_in(tmp_path) == ["folder"]  # and nothing half-made beside it
    assert files_in(tmp_path / "folder") == [
        "certificate.json", "certificate.npz", "data.npz", "dictionary.npz", "manifest.json", "network.npz",
        "problem.toml",
    ]  # fmt: skip
    status, out, err = cli("verify", "folder")
    assert (status, err) == (0, "") and out.startswith("accepted: xor, optimal_on_dictionary")
    status, out, err = cli("verify", "folder", "--json")
    told = json.loads(out)
    assert status == 0 and told["accepted"] is True and told["objective"] == pytest.approx(0.2)


def test_verify_refuses_with_the_reason(cli, solved, tmp_path):
    (tmp_path / "copy").mkdir()
    for path in solved.iterdir():
        (tmp_path / "copy" / path.name).write_bytes(path.read_bytes())
    arrays = read_npz(tmp_path / "copy" / "network.npz")
    write_npz(tmp_path / "copy" / "network.npz", {**arrays, "output_weights": 2 * arrays["output_weights"]})
    status, out, err = cli("verify", "copy")
    assert status == 1 and out.startswith("refused: simulation: output of row ") and err == ""
    status, out, err = cli("verify", "copy", "--json")
    told = json.loads(out)
    assert status == 1 and told["accepted"] is False and told["reason"].startswith("simulation: ")


@pytest.mark.parametrize("name", ["nowhere", "certificate.json"])
def test_verify_of_no_folder_is_the_users_mistake(cli, solved, name):
    status, out, err = cli("verify", solved / name)
    assert (status, out) == (2, "") and name in one_line(err)


def test_a_saved_problem_can_be_solved_again(cli, solved):
    told = json.loads(cli("solve", solved / "problem.toml", "--json")[1])
    assert told["objective"] == pytest.approx(0.2) and told["verified"]


def no_work(*_, **__):
    raise AssertionError("solved although the answer has nowhere to go")


@pytest.mark.parametrize("force", [[], ["--force"]])
@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda p: (p.mkdir(), (p / "precious").touch()), "out: there: exists"),
        (lambda p: p.touch(), "out: there: exists and is not a folder"),
        (lambda p: p.symlink_to(p.parent), "out: there: exists and is not a folder"),
    ],
    ids=["folder", "file", "link"],
)
def test_what_is_not_ours_stays_and_nothing_is_solved(cli, monkeypatch, tmp_path, make, told, force):
    make(tmp_path / "there")
    monkeypatch.setattr("convexsnn.roads.train", no_work)
    status, out, err = cli("solve", "xor", "--out", "there", *force)
    assert (status, out) == (2, "") and one_line(err).startswith(told)
    assert files_in(tmp_path) == ["there"]
    assert not (tmp_path / "there").is_dir() or files_in(tmp_path / "there") in (["precious"], ["there"])


def test_a_folder_of_ours_is_replaced_with_force_alone(cli, monkeypatch, tmp_path):
    assert cli("solve", "xor", "--out", "there")[0] == 0
    (tmp_path / "there" / "extra").touch()
    with monkeypatch.context() as patched:
        patched.setattr("convexsnn.roads.train", no_work)
        status, _, err = cli("solve", "xor", "--out", "there")
    assert status == 2 and "replace it with force" in one_line(err)
    status, _, err = cli("solve", "xor", "--out", "there", "--force")
    assert (status, err) == (0, "convexsnn: kept in there, as not ours: 'extra'\n")
    assert "extra" in files_in(tmp_path / "there") and files_in(tmp_path) == ["there"]
    assert cli("verify", "there")[0] == 0


def test_an_empty_folder_is_taken_with_force(cli, tmp_path):
    (tmp_path / "there").mkdir()
    assert cli("solve", "xor", "--out", "there")[0] == 2
    assert cli("solve", "xor", "--out", "there", "--force")[0] == 0


def test_a_missing_parent_is_named_before_any_work(cli, monkeypatch):
    monkeypatch.setattr("convexsnn.roads.train", no_work)
    status, _, err = cli("solve", "xor", "--out", "no/such/place")
    assert status == 2 and one_line(err).startswith("out: no/such/place: no such folder ")


def test_a_parent_that_cannot_be_written_is_named_before_any_work(cli, monkeypatch):
    monkeypatch.setattr("convexsnn.roads.train", no_work)
    monkeypatch.setattr(os, "access", lambda *_: False)  # as root every folder can be written
    status, _, err = cli("solve", "xor", "--out", "there")
    assert status == 2 and one_line(err).startswith("out: there: ") and "cannot be written" in err


@pytest.mark.parametrize("force", [False, True])
def test_a_full_disk_leaves_nothing_half_written(cli, monkeypatch, tmp_path, force):
    def full(*_):
        raise OSError(28, "No space left on device")

    before = {}
    if force:
        cli("solve", "xor", "--out", "there")
        before = {path.name: path.read_bytes() for path in (tmp_path / "there").iterdir()}
    monkeypatch.setattr("convexsnn.convex.training.save_claim", full)
    status, out, err = cli("solve", "xor", "--out", "there", *["--force"] * force)
    assert status != 0 and one_line(err) == "out: there: No space left on device"
    assert files_in(tmp_path) == ["there"] * force
    assert not force or {path.name: path.read_bytes() for path in (tmp_path / "there").iterdir()} == before


# export


@pytest.mark.parametrize("ending", [".mps", ".lp"])
def test_export_writes_what_another_run_of_highs_solves_alike(cli, tmp_path, ending):
    status, out, err = cli("export", "xor", "xor" + ending)
    assert (status, out, err) == (0, f"wrote xor{ending}\n", "") and files_in(tmp_path) == ["xor" + ending]
    model = highspy.Highs()
    model.setOptionValue("output_flag", False)
    model.readModel(str(tmp_path / ("xor" + ending)))
    model.run()
    assert model.getInfo().objective_function_value == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("problem", "name", "told"),
    [
        ("xor", "xor.txt", "xor.txt: expected a name that ends in"),
        ("xor", "xor", "xor: expected a name that ends in"),
        ("xor", "no/xor.mps", "no/xor.mps: no such folder no"),
        ("yin-yang", "out.mps", "penalty group: "),
        ("xorr", "xor.mps", "xorr: no such problem; did you mean 'xor'?"),
    ],
)
def test_export_refuses_in_one_line(cli, tmp_path, problem, name, told):
    status, out, err = cli("export", problem, name)
    assert (status, out) == (2, "") and one_line(err).startswith(told) and files_in(tmp_path) == []


def test_export_replaces_a_file_with_force_alone(cli, tmp_path):
    (tmp_path / "xor.mps").write_text("mine")
    status, _, err = cli("export", "xor", "xor.mps")
    assert status == 2 and "--force" in one_line(err) and (tmp_path / "xor.mps").read_text() == "mine"
    assert cli("export", "xor", "xor.mps", "--force")[0] == 0
    assert (tmp_path / "xor.mps").read_text() != "mine"


def test_export_onto_a_folder_is_refused_even_with_force(cli, tmp_path):
    (tmp_path / "xor.mps").mkdir()
    for force in ([], ["--force"]):
        status, _, err = cli("export", "xor", "xor.mps", *force)
        assert status == 2 and "xor.mps" in one_line(err) and files_in(tmp_path) == ["xor.mps"]
