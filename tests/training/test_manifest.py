"""Which files of a folder are ours: with a manifest, and in the folders of versions without one."""

import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import files_in

from convexsnn.errors import ProblemFileError
from convexsnn.report.plots import draw_curves
from convexsnn.training.folder import write_folder
from convexsnn.training.manifest import KNOWN, MANIFEST, own_files

RUNS = Path(__file__).parent.parent / "contract" / "runs"
ROADS = sorted(path.name for path in RUNS.iterdir())


def claim(target):
    (target / "path.json").write_text("{}")


@pytest.fixture(params=["gaussian", "admm", "path", "file"])
def old(request, tmp_path):
    return shutil.copytree(RUNS / request.param, tmp_path / "old")


@pytest.mark.parametrize("road", ROADS)
def test_every_file_of_a_folder_without_manifest_is_known(road):
    owned, others = own_files(RUNS / road)
    assert (owned, others) == ({path.name for path in (RUNS / road).iterdir()}, set())
    assert MANIFEST not in owned


def test_a_folder_without_manifest_is_replaced_and_its_notes_stay(old):
    (old / "notes").write_text("mine")
    (old / "plots").mkdir()
    assert write_folder(old, claim, force=True) == ["notes", "plots"]
    assert files_in(old) == [MANIFEST, "notes", "path.json", "plots"]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("problem.toml", lambda path: path.write_text("# my own remarks\n" + path.read_text())),
        ("problem.toml", lambda path: path.write_text(path.read_text().replace('name = "', 'name = "my '))),
        ("data.npz", lambda path: np.savez(path, inputs=np.ones((3, 2, 2)), targets=np.ones(3))),
        ("data.npz", lambda path: np.savez(path, measured=np.ones(3))),
        ("network.npz", lambda path: np.savez(path, mine=np.ones(3))),
        ("curves.png", lambda path: path.write_bytes(b"\x89PNG\r\n")),
        ("trained-7.npz", lambda path: path.write_text("mine")),
        ("dictionary.npz", lambda path: (path.unlink(missing_ok=True), path.mkdir())),
        ("witnesses.npz", lambda path: (path.unlink(missing_ok=True), path.symlink_to("network.npz"))),
    ],
)
def test_what_has_a_name_of_ours_and_other_content_is_the_users(tmp_path, name, change):
    old = shutil.copytree(RUNS / "gaussian", tmp_path / "old")
    change(old / name)
    if name == "problem.toml" and "remarks" not in (old / name).read_text():
        (old / name).write_text((old / name).read_text().replace("weight_box = ", "weight_box = 1"))
    with pytest.raises(ProblemFileError, match=f"{name}.*: not as convexsnn wrote it"):
        write_folder(old, claim, force=True)
    assert os.path.lexists(old / name) and (old / "certificate.json").exists()


HISTORY = {
    name: 1.0 for name in ("primal_residual", "dual_residual", "loss", "validation_loss", "train_accuracy")
}  # fmt: skip


@pytest.mark.parametrize("accuracy", [0.5, None])
def test_curves_of_a_folder_without_manifest_are_ours_beside_a_claim_of_admm_alone(tmp_path, accuracy):
    pytest.importorskip("matplotlib")
    row = {**HISTORY, "train_accuracy": accuracy, "validation_accuracy": None}
    rows = [{**row, "iteration": k} for k in (1, 2)]
    old = shutil.copytree(RUNS / "admm", tmp_path / "old")
    draw_curves(rows, old / "curves.png")
    shutil.copy(old / "curves.png", shutil.copytree(RUNS / "gaussian", tmp_path / "other"))
    assert write_folder(old, claim, force=True) == [] and files_in(old) == [MANIFEST, "path.json"]
    with pytest.raises(ProblemFileError, match="curves.png: not as convexsnn wrote it; move it"):
        write_folder(tmp_path / "other", claim, force=True)


@pytest.mark.parametrize("place", [0, 12, 17, 40])
def test_another_picture_with_the_name_of_the_curves_is_the_users(tmp_path, place):
    pytest.importorskip("matplotlib")
    old = shutil.copytree(RUNS / "admm", tmp_path / "old")
    draw_curves([{**HISTORY, "validation_accuracy": None, "iteration": 1}], old / "curves.png")
    drawn = bytearray((old / "curves.png").read_bytes())
    drawn[place] ^= 1
    (old / "curves.png").write_bytes(drawn)
    with pytest.raises(ProblemFileError, match="curves.png: not as convexsnn wrote it; move it"):
        write_folder(old, claim, force=True)
    (old / "curves.png").write_bytes(drawn[:20])
    assert own_files(old)[1] == {"curves.png"}


def test_names_of_ours_without_a_claim_make_no_folder_ours(tmp_path):
    old = shutil.copytree(RUNS / "gaussian", tmp_path / "old")
    (old / "certificate.json").unlink()
    assert own_files(old) is None


@pytest.mark.parametrize("content", ["[" * 100_000, '{"format": ' + "1" * 401 + "}", "", "\xff", "{}"])
def test_a_manifest_that_is_none_of_ours(tmp_path, content):
    (tmp_path / MANIFEST).write_text(content)
    assert own_files(tmp_path) is None
    (tmp_path / MANIFEST).unlink()
    (tmp_path / MANIFEST).symlink_to(tmp_path / MANIFEST)
    assert own_files(tmp_path) is None


@pytest.mark.skipif(sys.platform == "win32", reason="pipes")
@pytest.mark.parametrize("name", [*KNOWN, MANIFEST, "trained-1.npz"])
def test_a_pipe_is_not_waited_for(tmp_path, name):
    os.mkfifo(tmp_path / name)
    assert own_files(tmp_path) is None


def test_the_digests_are_of_the_content(tmp_path):
    write_folder(tmp_path / "run", claim)
    assert json.loads((tmp_path / "run" / MANIFEST).read_text())["files"] == {
        "path.json": "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    }
