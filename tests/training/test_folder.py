"""The folder of a result: what `force` replaces, what it keeps, and what two runs at once do."""

import json
import os
import signal
import stat
import subprocess
import sys

import pytest
from command_line import files_in

import convexsnn
from convexsnn.errors import ProblemFileError, VerificationError
from convexsnn.training import folder as folder_module
from convexsnn.training.folder import MANIFEST, reserved, unfinished, write_folder
from convexsnn.training.manifest import own_files

CLAIM = {"fingerprint": "f", "lower_bound": 0, "objective": 1, "patterns": 1, "scope": "", "status": ""}


def result(text="one", names=("certificate.json", "curves.png")):
    """Return a writer of a small result."""

    def write(target):
        for name in names:
            (target / name).write_text(json.dumps(CLAIM | {"solver": text}))

    return write


def contents(folder):
    """Return every file below a folder with its bytes, links with their targets."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            found[str(path.relative_to(folder))] = os.readlink(path)
        elif path.is_file():
            found[str(path.relative_to(folder))] = path.read_bytes()
        else:
            found[str(path.relative_to(folder))] = stat.S_IFMT(path.lstat().st_mode)
    return found


def refused(folder, text="two"):
    """Return the reason; nothing at all has changed."""
    before = contents(folder.parent)
    with pytest.raises(ProblemFileError) as caught:
        write_folder(folder, result(text), force=True)
    assert contents(folder.parent) == before and "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def run(tmp_path):
    write_folder(tmp_path / "run", result())
    return tmp_path / "run"


def test_a_manifest_lists_every_file_with_its_digest(run):
    values = json.loads((run / MANIFEST).read_text())
    assert values["format"] == 1 and sorted(values["files"]) == ["certificate.json", "curves.png"]
    assert own_files(run) == ({"certificate.json", "curves.png", MANIFEST}, set())
    assert stat.S_IMODE(run.stat().st_mode) == 0o777 & ~os_umask()


def os_umask():
    now = os.umask(0o022)
    os.umask(now)
    return now


# what is not ours


def test_force_keeps_and_names_what_is_not_ours(run):
    (run / "notes.txt").write_text("mine")
    (run / "photos").mkdir()
    (run / "photos" / "one.jpg").write_text("mine too")
    (run / "link").symlink_to("nowhere")
    identity = run.stat().st_ino
    assert write_folder(run, result("two"), force=True) == ["link", "notes.txt", "photos"]
    after = contents(run)
    assert (after["notes.txt"], after["photos/one.jpg"], after["link"]) == (b"mine", b"mine too", "nowhere")
    assert b"two" in after["certificate.json"] and run.stat().st_ino == identity
    assert files_in(run.parent) == ["run"]
    assert [path for path in after if path.startswith(".")] == []


def test_files_of_an_earlier_result_alone_go(tmp_path):
    write_folder(tmp_path / "run", result("one", ["certificate.json", "trained-1.npz"]))
    write_folder(tmp_path / "run", result("two", ["certificate.json"]), force=True)
    assert files_in(tmp_path / "run") == ["certificate.json", MANIFEST]


@pytest.mark.parametrize("mark", ["path.json", "certificate.json", "admm.json", MANIFEST])
@pytest.mark.parametrize("kind", ["text", "of something else", "folder", "dangling link", "link", "fifo"])
def test_a_name_alone_makes_no_folder_ours(tmp_path, mark, kind):
    folder = tmp_path / "thesis"
    folder.mkdir()
    (folder / "chapter.tex").write_text("five years")
    write_folder(tmp_path / "other", result())
    make = {
        "text": lambda path: path.write_text("a route through the mountains"),
        "of something else": lambda path: path.write_text('{"rows": [], "format": 1, "files": 3}'),
        "folder": lambda path: path.mkdir(),
        "dangling link": lambda path: path.symlink_to("nowhere"),
        "link": lambda path: path.symlink_to(tmp_path / "other" / "certificate.json"),
        "fifo": os.mkfifo,
    }
    make[kind](folder / mark)
    assert "force replaces only a saved result" in refused(folder)


@pytest.mark.parametrize("change", ["edited", "a link", "a folder"])
@pytest.mark.parametrize("name", ["certificate.json", "curves.png"])
def test_a_file_of_ours_that_was_changed_is_the_users(run, name, change):
    text = (run / name).read_text()
    (run / name).unlink()
    if change == "edited":
        (run / name).write_text(text + "\n")
    elif change == "a link":
        (run.parent / "kept").write_text(text)
        (run / name).symlink_to(run.parent / "kept")
    else:
        (run / name).mkdir()
    assert f"{name}: not as convexsnn wrote it; move it" in refused(run)


@pytest.mark.parametrize("name", ["../victim", "sub/victim", "/etc/passwd", "..", "", "C:victim"])
def test_a_manifest_names_files_of_its_own_folder_alone(run, name):
    (run.parent / "victim").write_text("mine")
    (run / "sub").mkdir()
    (run / "sub" / "victim").write_text("mine")
    values = json.loads((run / MANIFEST).read_text())
    values["files"][name] = values["files"]["curves.png"]
    (run / MANIFEST).write_text(json.dumps(values))
    assert "out: " in refused(run)


def test_a_new_file_does_not_take_the_place_of_the_users(run):
    (run / "extra").write_text("mine")
    before = contents(run)
    with pytest.raises(ProblemFileError, match="extra: not as convexsnn wrote it"):
        write_folder(run, result("two", ["certificate.json", "extra"]), force=True)
    assert contents(run) == before


# from inside the folder


@pytest.mark.parametrize("name", ["../run", "."])
def test_a_run_from_inside_the_folder_stays_there(run, monkeypatch, name):
    (run / "notes").write_text("mine")
    monkeypatch.chdir(run)
    assert write_folder(type(run)(name), result("two"), force=True) == ["notes"]
    assert os.path.samefile(".", run) and files_in(type(run)(".")) == [
        "certificate.json", "curves.png", MANIFEST, "notes"
    ]  # fmt: skip


# what stops in between


class Stopped(BaseException):
    pass


def moves(folder):
    """Return how many files change places when a result is replaced."""
    return 2 * len(files_in(folder))


@pytest.mark.parametrize("at", range(6))
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), Stopped()])
def test_whatever_stops_an_exchange_brings_the_old_result_back(run, monkeypatch, at, error):
    (run / "notes").write_text("mine")
    before, rename, count = contents(run), os.rename, []

    def failing(*names):
        count.append(names)
        if len(count) == at + 1:
            raise error
        rename(*names)

    monkeypatch.setattr(folder_module.os, "rename", failing)
    with pytest.raises((ProblemFileError, Stopped)):
        write_folder(run, result("two"), force=True)
    monkeypatch.undo()
    assert contents(run) == before and files_in(run.parent) == ["run"]
    assert write_folder(run, result("three"), force=True) == ["notes"]


KILLED = """
import json, os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from test_folder import result
from convexsnn.training import folder
at, rename, count = int(sys.argv[2]), os.rename, []
def killing(*names):
    if len(count) == at:
        os.kill(os.getpid(), signal.SIGKILL)
    count.append(names)
    rename(*names)
folder.os.rename = killing
folder._clear = lambda made: os.kill(os.getpid(), signal.SIGKILL)
folder.write_folder(Path(sys.argv[1]), result("two"), force=True)
"""


def killed(folder, at):
    here = os.path.dirname(__file__)
    paths = [os.path.join(here, "..", "support"), *sys.path]
    done = subprocess.run(
        [sys.executable, "-P", "-c", KILLED, folder, str(at), here],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr


def named(run):
    """Return the reason why a result that is half replaced is refused; to verify changes nothing."""
    before = contents(run)
    with pytest.raises(VerificationError) as caught:
        convexsnn.verify_folder(run)
    assert contents(run) == before and "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("at", [0, 1, 3, 5])
def test_a_kill_in_the_middle_loses_nothing_is_named_and_the_next_run_cleans(run, at):
    (run / "notes").write_text("mine")
    before = {path.read_bytes() for path in run.iterdir()}
    killed(run, at)
    left = {path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert before <= left  # the old result is there, whole, in place or aside
    (made,) = (name for name in files_in(run) if name.startswith("."))
    assert f"its files of before lie in {made}/replaced" in named(run)
    assert named(run).endswith(f"any run with --out {run} --force first puts them back")
    with reserved(run, force=True):  # what is advised does it before any work
        assert unfinished(run) is None and {path.read_bytes() for path in run.iterdir()} == before
    assert write_folder(run, result("three"), force=True) == ["notes"]
    assert files_in(run) == ["certificate.json", "curves.png", MANIFEST, "notes"]
    assert b"three" in (run / "certificate.json").read_bytes()


def test_after_a_kill_behind_the_exchange_the_new_result_is_whole(run):
    killed(run, 6)
    assert unfinished(run) is None and b"two" in (run / "certificate.json").read_bytes()
    write_folder(run, result("three"), force=True)
    assert files_in(run) == ["certificate.json", "curves.png", MANIFEST]


def test_a_result_that_is_just_being_replaced_is_not_called_killed(run):
    told = []
    rename = os.rename

    def asked(*names):
        rename(*names)
        told.append(named(run))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folder_module.os, "rename", asked)
        write_folder(run, result("two"), force=True)
    assert len(told) == 6
    assert all("another run is just replacing this result; try again" in one for one in told[:5])


def test_a_kill_before_a_new_folder_is_cleaned_by_the_next_run(tmp_path):
    killed(tmp_path / "run", 0)
    assert len(files_in(tmp_path)) == 1 and "run" not in files_in(tmp_path)
    write_folder(tmp_path / "run", result())
    assert files_in(tmp_path) == ["run"]


# two at once


def test_of_two_that_begin_with_nothing_there_one_is_refused(tmp_path):
    def write(target):
        write_folder(tmp_path / "run", result("first"))
        result("second")(target)

    with pytest.raises(ProblemFileError, match="another run has written it meanwhile"):
        write_folder(tmp_path / "run", write)
    assert b"first" in (tmp_path / "run" / "certificate.json").read_bytes()
    assert files_in(tmp_path) == ["run"]


TWO = """
import sys
from pathlib import Path
from convexsnn.training.folder import reserved
with reserved(Path(sys.argv[1]), True) as there:
    print(there, flush=True)
    sys.stdin.readline()
"""


def test_of_two_that_replace_one_is_refused_at_once(run):
    command = [sys.executable, "-P", "-c", TWO, run]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "True\n"
        assert "another run is about to write it" in refused(run)
        other.communicate("\n")
    write_folder(run, result("two"), force=True)


def test_a_lock_ends_with_its_process(run):
    command = [sys.executable, "-P", "-c", TWO, run]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        other.stdout.readline()
        other.kill()
    write_folder(run, result("two"), force=True)
    assert files_in(run) == ["certificate.json", "curves.png", MANIFEST]
