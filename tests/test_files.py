"""Files appear complete under names nobody guesses; what is read is regular; folders have one owner."""

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import files_in

from convexsnn import files
from convexsnn.arrays import read_npz, write_npz
from convexsnn.errors import ProblemFileError
from convexsnn.files import (
    TemporaryFolder,
    appearing,
    locked,
    parse_json,
    read_json,
    read_text,
    read_toml,
    reading,
    uninterrupted,
)

pytestmark = pytest.mark.skipif(os.name != "posix", reason="links, pipes and locks")


# files that appear


def test_a_temporary_name_cannot_be_guessed(tmp_path):
    names = set()
    for _ in range(5):
        with appearing(tmp_path / "x.npz") as partial:
            assert (
                partial.parent == tmp_path
                and partial.suffix == ".npz"
                and str(os.getpid()) not in partial.name
            )
            names.add(partial.name)
            partial.write_text("x")
    assert len(names) == 5 and files_in(tmp_path) == ["x.npz"]


def test_a_link_under_the_temporary_name_is_not_followed(tmp_path, monkeypatch):
    monkeypatch.setattr(files.secrets, "token_hex", lambda n: "0" * 16)
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / (".x." + "0" * 16 + ".partial.npz")).symlink_to(victim)
    with pytest.raises(FileExistsError):
        write_npz(tmp_path / "x.npz", {"a": np.ones(2)})
    assert victim.read_text() == "mine"


def test_a_link_is_replaced_and_what_it_leads_to_stays(tmp_path):
    (tmp_path / "victim").write_text("mine")
    (tmp_path / "x.npz").symlink_to("victim")
    write_npz(tmp_path / "x.npz", {"a": np.ones(2)})
    assert (tmp_path / "victim").read_text() == "mine" and not (tmp_path / "x.npz").is_symlink()


def test_a_device_or_pipe_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "x.npz")
    for path in (tmp_path / "x.npz", Path("/dev/null")):
        kind = stat.S_IFMT(path.stat().st_mode)
        with pytest.raises(OSError, match="exists and is not a file"):
            write_npz(path, {"a": np.ones(2)})
        assert stat.S_IFMT(path.stat().st_mode) == kind
    assert files_in(tmp_path) == ["x.npz"]


WRITING = """
import sys
from pathlib import Path
from convexsnn.files import appearing
with appearing(Path(sys.argv[1])) as partial:
    partial.write_text("half")
    print("now", flush=True)
    sys.stdin.readline()
"""


def test_what_a_killed_process_left_goes_with_the_next_and_a_living_ones_stays(tmp_path):
    command = [sys.executable, "-P", "-c", WRITING, tmp_path / "x.npz"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "now\n"
        write_npz(tmp_path / "x.npz", {"a": np.ones(2)})
        assert len(files_in(tmp_path)) == 2
        other.kill()
    assert len(files_in(tmp_path)) == 2
    (tmp_path / ".x.notes.partial.npz").write_text("mine")
    (tmp_path / ".y.0123456789abcdef.partial.npz").write_text("of another file")
    write_npz(tmp_path / "x.npz", {"a": np.zeros(2)})
    assert files_in(tmp_path) == [".x.notes.partial.npz", ".y.0123456789abcdef.partial.npz", "x.npz"]
    assert read_npz(tmp_path / "x.npz")["a"].tolist() == [0, 0]


# files that are read


def test_only_regular_files_within_the_size_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/zero")
    (tmp_path / "gone").symlink_to("nowhere")
    (tmp_path / "text").write_text("four")
    cases = [
        ("pipe", "is a pipe or a device"), ("link", "is a pipe or a device"), ("gone", "no such file"),
        (".", "is a folder"), ("text", "4 bytes, at most 3 are read"), ("no\0name", "embedded null byte"),
    ]  # fmt: skip
    for name, told in cases:
        with pytest.raises(ProblemFileError, match=told), reading(tmp_path / name, 3):
            raise AssertionError("opened")
    assert read_text(tmp_path / "text") == "four"


def test_text_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "x").write_bytes(b"\xff\xfe")
    for read in (read_text, read_json, read_toml):
        with pytest.raises(ProblemFileError, match="x: "):
            read(tmp_path / "x")


@pytest.mark.parametrize("text", ["1" * 20, "-" + "9" * 19, "1" * 5000, "1e400", "Infinity", "NaN"])
def test_numbers_of_json_fit_in_the_machine(tmp_path, text):
    (tmp_path / "x").write_text(f'{{"a": [{text}]}}')
    with pytest.raises(ProblemFileError, match="x: .*(more than 64 bits|not a finite number)"):
        read_json(tmp_path / "x")
    (tmp_path / "x").write_text(f'{{"a": [{2**63 - 1}, {1 - 2**63}, -0.0, 1e308]}}')
    assert read_json(tmp_path / "x") == {"a": [2**63 - 1, 1 - 2**63, 0.0, 1e308]}


def test_json_in_which_a_key_stands_twice_is_refused(tmp_path):
    (tmp_path / "x").write_text('{"a": {"b": 1, "b": 2}}')
    with pytest.raises(ProblemFileError, match="a key stands twice"):
        read_json(tmp_path / "x")


def test_a_history_may_have_values_that_are_not_finite(tmp_path):
    assert parse_json("[NaN, -Infinity, 1e999, 1]", finite=False)[1:] == [-np.inf, np.inf, 1]
    with pytest.raises(ValueError):
        parse_json("[NaN]")


# locks and signals


HOLDING = """
import sys
from pathlib import Path
from convexsnn.files import locked
with locked(Path(sys.argv[1])) as ours:
    print(ours, flush=True)
    sys.stdin.readline()
"""


def test_a_locked_folder_has_one_owner_until_its_process_ends(tmp_path):
    command = [sys.executable, "-P", "-c", HOLDING, tmp_path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "True\n"
        with locked(tmp_path) as ours:
            assert not ours
        other.kill()
    with locked(tmp_path) as ours, locked(tmp_path) as again, locked(tmp_path, nested=False) as other:
        assert (ours, again, other) == (True, True, False)
    assert files_in(tmp_path) == []


@pytest.mark.parametrize("number", files.STOPS)
def test_a_signal_waits_for_a_short_block(number):
    came = []
    before = signal.signal(number, lambda *_: came.append(True))
    try:
        with uninterrupted():
            signal.raise_signal(number)
            assert came == []
        assert came == [True]
    finally:
        signal.signal(number, before)


# temporary folders


MAKING = """
import sys
from pathlib import Path
from convexsnn.files import TemporaryFolder
folder = TemporaryFolder(Path(sys.argv[1]))
(folder.path / "inside").mkdir()
(folder.path / "inside" / "large").write_text("data")
print("made", flush=True)
sys.stdin.readline()
"""


def making(parent):
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", MAKING, parent], stdin=pipe, stdout=pipe, text=True
    )
    assert process.stdout.readline() == "made\n"
    return process


def test_a_temporary_folder_is_ours_alone_and_goes_at_the_end(tmp_path):
    folder = TemporaryFolder(tmp_path)
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700 and folder.path.parent == tmp_path
    (folder.path / "a").write_text("x")
    folder.remove()
    folder.remove()
    assert files_in(tmp_path) == []
    folder = TemporaryFolder(tmp_path)
    del folder
    assert files_in(tmp_path) == []


def test_what_a_killed_process_left_goes_with_the_next_folder_and_what_lives_stays(tmp_path):
    killed, living = making(tmp_path), making(tmp_path)
    kept = set(files_in(tmp_path))
    killed.kill()
    killed.communicate()
    folder = TemporaryFolder(tmp_path)
    assert len(kept & set(files_in(tmp_path))) == 1 and folder.path.name in files_in(tmp_path)
    living.communicate("\n")
    folder.remove()
    assert files_in(tmp_path) == []


def test_what_only_looks_like_a_temporary_folder_stays(tmp_path):
    name, victim = ".convexsnn." + "0" * 16 + ".temporary", tmp_path / "victim"
    victim.mkdir()
    (victim / "mine").write_text("mine")
    places = [tmp_path / kind for kind in ("link", "file", "other")]
    for place in places:
        place.mkdir()
    (places[0] / name).symlink_to(victim)
    (places[1] / name).write_text("mine")
    (places[2] / ".convexsnn.mine.temporary").mkdir()
    for place in places:
        before = files_in(place)
        TemporaryFolder(place).remove()
        assert files_in(place) == before and files_in(victim) == ["mine"]
