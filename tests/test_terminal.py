"""What ends a process leaves nothing behind, and output that cannot be written is one line."""

import json
import os
import signal
import subprocess
import sys
import tomllib

import pytest
import tomli_w
from command_line import files_in, one_line
from slow_shares import one_of

import convexsnn
from convexsnn.problem import library

MAIN = "import sys, signal, threading\n{before}\nfrom convexsnn.cli import main\nmain()"
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
PLACES = {  # what a run does when it is ended
    "solving": ("solve", "import convexsnn.convex.training as place"),
    "writing": ("save_claim", "import convexsnn.convex.training as place"),
    "exchanging": ("_exchange", "import convexsnn.training.folder as place"),
    "simulating": ("judge", "import convexsnn.admm.result as place"),
}
STOPPING = """
{module}
work = place.{name}
def stopping(*given, **named):
    print("now", flush=True)
    {wait}
    return work(*given, **named)
place.{name} = stopping
"""


def begun(folder, before, *arguments, **variables):
    """Start the command line after a script, with a temporary folder of its own."""
    (folder / "temporary").mkdir(exist_ok=True)
    variables = {**os.environ, "TMPDIR": str(folder / "temporary"), **variables}
    return subprocess.Popen(
        [sys.executable, "-P", "-c", MAIN.format(before=before), *arguments],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=variables,
    )  # fmt: skip


def ended(folder, number, place, *arguments, wait="threading.Event().wait()"):
    """Send a signal when a run is at a place; return status and errors."""
    name, module = PLACES[place]
    process = begun(folder, STOPPING.format(module=module, name=name, wait=wait), *arguments)
    assert process.stdout.readline() == "now\n"
    process.send_signal(number)
    out, err = process.communicate()
    assert out == "" and "Traceback" not in err
    return process.returncode, err


@pytest.mark.parametrize(
    ("place", "number"), one_of([("solving", SIGNALS[1]), *(("writing", one) for one in SIGNALS)], 4)
)
def test_what_ends_a_process_leaves_nothing_behind(tmp_path, number, place):
    status, err = ended(tmp_path, number, place, "solve", "xor", "--out", "there")
    assert (status, err) == (128 + number, "convexsnn: interrupted; nothing was written\n")
    assert files_in(tmp_path) == ["temporary"] and files_in(tmp_path / "temporary") == []


@pytest.mark.slow
def test_what_ends_an_exchange_waits_for_its_end(tmp_path, solved_xor):
    (solved_xor / "notes").write_text("mine")
    wait = "signal.raise_signal(signal.SIGTERM)"
    arguments = ("solve", "xor", "--out", "run", "--force")
    status, err = ended(solved_xor.parent, 0, "exchanging", *arguments, wait=wait)
    assert (status, err) == (143, "convexsnn: interrupted; written and whole: run\n")
    assert convexsnn.verify_folder(solved_xor)
    assert files_in(solved_xor.parent) == ["run", "temporary"] and "notes" in files_in(solved_xor)
    assert [name for name in files_in(solved_xor) if name.startswith(".")] == []


@pytest.fixture
def signals():
    """Put back what the process does on signals: a command that hears one ignores the next."""
    before = {one: signal.getsignal(one) for one in SIGNALS}
    yield
    for one, handler in before.items():
        signal.signal(one, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_run_that_is_ended_after_its_files_names_them(cli, tmp_path, monkeypatch, signals, number):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr("convexsnn.files._appeared", {})
    monkeypatch.setattr("convexsnn.cli._show", lambda *_: signal.raise_signal(number))
    status, _, err = cli("path", "xor", "--count", "3", "--out", "there", "--plot", "path.png")
    assert (status, err) == (128 + number, "convexsnn: interrupted; written and whole: there, path.png\n")
    assert files_in(tmp_path) == ["path.png", "there"]


@pytest.fixture
def solved_xor(tmp_path):
    convexsnn.train(convexsnn.load_problem("xor")).save(tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.slow
def test_a_simulation_that_is_ended_leaves_no_temporary_folder(tmp_path):
    tables = tomllib.loads((library() / "yin-yang-admm.toml").read_text())
    tables["admm"]["iterations"] = 1
    (tmp_path / "short.toml").write_text(tomli_w.dumps(tables))
    status, _ = ended(tmp_path, signal.SIGTERM, "simulating", "solve", "short.toml", "--out", "there")
    assert status == 143 and files_in(tmp_path / "temporary") == []
    assert files_in(tmp_path) == ["short.toml", "temporary"]


@pytest.mark.slow
def test_a_signal_that_is_ignored_stays_ignored(tmp_path):
    before = "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n" + STOPPING.format(
        module=PLACES["solving"][1], name="solve", wait="signal.raise_signal(signal.SIGHUP)"
    )
    process = begun(tmp_path, before, "solve", "xor")
    out, err = process.communicate()
    assert (process.returncode, err) == (0, "") and "optimal_on_dictionary" in out


@pytest.mark.slow
def test_a_kill_leaves_nothing_half_written(tmp_path):
    status, _ = ended(tmp_path, signal.SIGKILL, "writing", "solve", "xor", "--out", "there")
    assert status == -signal.SIGKILL and "there" not in files_in(tmp_path)
    process = begun(tmp_path, "", "solve", "xor", "--out", "there")
    assert process.communicate()[1] == "" and process.returncode == 0
    assert files_in(tmp_path) == ["temporary", "there"]


# output


@pytest.mark.slow
@pytest.mark.parametrize("encoding", one_of(["ascii", "latin-1"], 2))
@pytest.mark.parametrize("arguments", [("inspect", "xor"), ("solve", "no-λ‖")])
def test_any_encoding_is_written(tmp_path, encoding, arguments):
    process = begun(tmp_path, "", *arguments, PYTHONIOENCODING=encoding, PYTHONUTF8="0")
    process.stdout.reconfigure(errors="replace")
    out, err = process.communicate()
    assert "Traceback" not in err and process.returncode == (2 if arguments[1:] == ("no-λ‖",) else 0)
    assert out or err


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no full disk")
def test_a_full_disk_behind_the_output_is_one_line_and_loses_no_result(tmp_path):
    for arguments in (("list",), ("solve", "xor", "--out", "there", "--json"), ("inspect", "xor")):
        with open("/dev/full", "w") as full:
            done = subprocess.run(
                [sys.executable, "-P", "-c", MAIN.format(before=""), *arguments],
                cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
        assert done.returncode == 1 and "No space left on device" in one_line(done.stderr), arguments
    assert convexsnn.verify_folder(tmp_path / "there")


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [("solve", "xor", "--out", "there"), ("inspect", "xor")])
def test_a_reader_that_leaves_is_no_error_and_loses_no_result(tmp_path, arguments):
    process = begun(tmp_path, "", *arguments)
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait() in (0, 1) and err == ""
    assert "--out" not in arguments or convexsnn.verify_folder(tmp_path / "there")


@pytest.mark.slow
def test_no_output_at_all_is_no_error(tmp_path):
    script = "import os; os.close(1)\n" + MAIN.format(before="")
    command = [sys.executable, "-P", "-c", script, "list", "--json"]
    done = subprocess.run(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1 and one_line(done.stderr).endswith("Bad file descriptor")
    done = subprocess.run(
        f"exec {sys.executable} -P -m convexsnn solve xor --out there >&-", cwd=tmp_path, shell=True,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "") and convexsnn.verify_folder(tmp_path / "there")


@pytest.mark.slow
def test_the_json_is_whole_in_any_encoding(tmp_path):
    process = begun(tmp_path, "", "solve", "xor", "--json", PYTHONIOENCODING="ascii")
    assert json.loads(process.communicate()[0])["verified"]
