"""The command line: what it prints, where, and with which exit status."""

import json
import os
import pty
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from command_line import files_in, one_line
from slow_shares import one_of

from convexsnn.arrays import write_npz
from convexsnn.errors import SolverFailed, VerificationError
from convexsnn.problem import library

KEYS = {
    "problem", "status", "objective", "lower_bound", "gap", "scope", "patterns", "units", "verified",
    "max_output_error", "min_margin", "train_accuracy", "test_accuracy", "solver", "seconds", "out",
}  # fmt: skip
COMMANDS = ("list", "inspect", "solve", "path", "verify", "gap", "solvers", "export")


# help


def test_help_names_every_command(cli):
    status, out, err = cli("--help")
    assert status == 0 and err == "" and all(command in out for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(cli, command):
    status, out, err = cli(command, "--help")
    assert status == 0 and err == "" and "--help" in out


def test_help_imports_no_solver():
    script = (
        "import sys; sys.argv = ['convexsnn', '--help']\n"
        "from convexsnn.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(sorted({m.partition('.')[0] for m in sys.modules}), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(eval(done.stderr))  # noqa: S307 (our own list)
    assert loaded & {"typer", "numpy"} and not loaded & {
        "cvxpy",
        "scipy",
        "highspy",
        "clarabel",
        "numba",
        "torch",
    }


# list, solvers, inspect


def test_list_names_every_problem(cli):
    names = sorted(path.stem for path in library().glob("*.toml"))
    status, out, err = cli("list")
    assert (status, err) == (0, "") and sorted(line.split()[0] for line in out.splitlines()) == names
    status, out, err = cli("list", "--json")
    assert sorted(row["name"] for row in json.loads(out)) == names and all(
        row["title"] for row in json.loads(out)
    )


def test_solvers_says_what_each_takes(cli):
    status, out, _ = cli("solvers", "--json")
    rows = {row["name"]: row for row in json.loads(out)}
    assert status == 0 and rows["highs"]["installed"] and rows["cvxpy"]["installed"]
    assert rows["highs"]["programs"] == ["lp", "qp"] and "clarabel" in rows["cvxpy"]["backends"]
    status, out, _ = cli("solvers")
    assert status == 0 and "highs" in out and "cvxpy:NAME" in out


def test_inspect_shows_this_instance(cli, tmp_path):
    status, out, err = cli("inspect", "xor")
    assert (status, err) == (0, "") and files_in(tmp_path) == []
    for told in ("4 samples × 2 steps × 2 inputs", "1000", "robust, margin 1e-06", "density",
                 "max(0, 1 − y z)", "λ = 0.05", "λ_max", "presolve: 4 × 9 -> 4 × 9", "linear program",
                 "conic program"):  # fmt: skip
        assert told in out


def test_inspect_says_when_there_is_no_qp_form(cli):
    status, out, _ = cli("inspect", "yin-yang")
    assert status == 0 and "no QP form" in out and "exponential" in out


# solve


def test_solve_json_is_one_object_and_nothing_else(cli, tmp_path):
    status, out, err = cli("solve", "xor", "--json")
    assert (status, err) == (0, "") and out.endswith("}\n") and out.count("\n") == 1
    told = json.loads(out)
    assert told.keys() >= KEYS
    assert told["seconds"].keys() >= {"dictionary", "solve", "reconstruct", "verify", "total"}
    assert told["seconds"]["total"] == pytest.approx(sum(told["seconds"].values()) / 2, abs=1e-3)
    assert told["out"] is None and files_in(tmp_path) == []
    assert (told["problem"], told["status"], told["scope"]) == ("xor", "optimal_on_dictionary", "dictionary")
    assert told["objective"] == pytest.approx(0.2) and told["gap"] <= 1e-8
    assert told["verified"] is True and told["train_accuracy"] == 1.0 and told["test_accuracy"] is None


def test_solve_prints_the_same_numbers(cli, tmp_path):
    status, out, err = cli("solve", "xor")
    assert (status, err) == (0, "") and files_in(tmp_path) == []
    assert out.startswith("xor: optimal_on_dictionary") and "objective     0.2\n" in out


def test_solver_tolerance_and_limit_are_taken(cli):
    _, out, _ = cli(
        "solve", "xor", "--json", "--solver", "cvxpy:clarabel", "--tolerance", "1e-5", "--time-limit", 9
    )
    told = json.loads(out)
    assert told["solver"] == "cvxpy:clarabel" and told["gap"] <= 1e-5 and told["tolerance"] == 1e-5


def test_accuracies_are_null_for_regression(cli, tmp_path):
    write_npz(tmp_path / "data.npz", {"inputs": np.eye(3)[:, None], "targets": np.arange(3.0)})
    (tmp_path / "line.toml").write_text(
        'name = "line"\n[data]\nfile = "data.npz"\n[network]\n[[network.layers]]\nneuron = "threshold"\n'
        "[training]\nregularization = 0.01\n[dictionary]\ncount = 20\n"
    )
    told = json.loads(cli("solve", "line.toml", "--json")[1])
    assert (told["train_accuracy"], told["test_accuracy"]) == (None, None) and told["verified"]
    status, out, _ = cli("solve", "line.toml")
    assert status == 0 and "accuracy" not in out


@pytest.mark.parametrize("problem", ["digits", "yin-yang"])
def test_a_time_limit_keeps_the_best_point_and_its_gap(cli, problem):
    status, out, _ = cli("solve", problem, "--time-limit", 0.01, "--out", "stopped", "--json")
    told = json.loads(out)
    assert (status, told["status"], told["verified"]) == (0, "limit", True)
    assert told["objective"] > told["lower_bound"] > 0
    gap = (told["objective"] - told["lower_bound"]) / abs(told["objective"])
    assert told["gap"] == pytest.approx(gap, rel=1e-9) and gap > 1e-6
    assert cli("verify", "stopped")[0] == 0


# mistakes of the user


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["slove"], "solve"),
        (["solve"], "PROBLEM"),
        (["solve", "xor", "--tolerence", "1"], "--tolerance"),
        (["solve", "xor", "--tolerance", "small"], "--tolerance"),
        (["solve", "xor", "--out"], "--out"),
        (["export", "xor"], "FILE"),
    ],
)
def test_usage_is_explained(cli, arguments, told):
    status, out, err = cli(*arguments)
    assert (status, out) == (2, "") and told in err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["solve", "xorr"], "xorr: no such problem; did you mean 'xor'?"),
        (["inspect", "digit"], "digit: no such problem; did you mean 'digits'?"),
        (["solve", "missing.toml"], "missing.toml: no such problem file"),
        (["solve", "."], ".: is a folder, expected a problem file (.toml) or a name from the library"),
        (["solve", "xor", "--solver", "higs"], "solver: unknown 'higs'; did you mean 'highs'?"),
        (["solve", "xor", "--solver", "cvxpy:nosuch"], "solver cvxpy:nosuch: "),
        (["solve", "yin-yang", "--solver", "highs"], "solver highs: takes lp, qp programs, not exponential"),
        (["solve", "xor", "--tolerance", "0"], "tolerance: expected a positive number below 1, got 0"),
        (["solve", "xor", "--tolerance", "nan"], "tolerance: expected a positive number below 1, got nan"),
        (["solve", "xor", "--time-limit", "-1"], "time_limit: expected a positive number"),
        (["solve", "xor", "--time-limit", "nan"], "time_limit: expected a positive number"),
    ],
)
@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_a_mistake_is_one_line_and_status_2(cli, tmp_path, arguments, told, as_json):
    if arguments[0] == "inspect":
        as_json = []
    status, out, err = cli(*arguments, *as_json)
    assert (status, out) == (2, "") and one_line(err).startswith(told)
    assert files_in(tmp_path) == []


@pytest.mark.parametrize("option", ["--tolerance", "--time-limit"])
def test_an_infinite_number_is_no_traceback(cli, option):
    status, out, err = cli("solve", "xor", "--json", option, "inf")
    assert (status == 0 and json.loads(out)["verified"]) or (status == 2 and one_line(err))


def test_a_solver_that_is_not_installed_names_the_install(cli, monkeypatch):
    monkeypatch.setattr("convexsnn.solvers.registry.installed", lambda name: False)
    status, _, err = cli("solve", "xor", "--solver", "highs")
    assert status == 2 and one_line(err).startswith("solver highs: not installed; pip install ")


# failures of ours


@pytest.mark.parametrize(
    ("where", "error"), [("solve", SolverFailed("highs: gave up")), ("verify", VerificationError("unit 3"))]
)
def test_a_failure_of_ours_is_status_1_and_a_failed_object(cli, monkeypatch, tmp_path, where, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(f"convexsnn.convex.training.{where}", fail)
    status, out, err = cli("solve", "xor", "--json", "--out", "there")
    told = json.loads(out)
    assert status == 1 and told.keys() >= KEYS and one_line(err) == str(error)
    assert (told["status"], told["verified"], told["out"], told["reason"]) == (
        "failed",
        False,
        None,
        str(error),
    )
    status, out, err = cli("solve", "xor", "--out", "there")
    assert (status, out) == (1, "") and one_line(err) == str(error) and files_in(tmp_path) == []


# processes


def interrupt(folder, script, *arguments):
    """Run the command line after `script`, send SIGINT when it prints a line; return status, out, err."""
    script = (
        f"import sys, time, convexsnn.convex.training as p\n{script}\nfrom convexsnn.cli import main\nmain()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "now\n"
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


WHILE_SOLVING = """
solve = p.solve
def slow(*a, **k):
    print("now", flush=True)
    return solve(*a, **k)
p.solve = slow
"""
WHILE_WRITING = """
def save_claim(*_):
    print("now", flush=True)
    time.sleep(30)
p.save_claim = save_claim
"""


@pytest.fixture(scope="module", params=one_of(["writing", "solving"], 2))
def interrupted(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("interrupted")
    if request.param == "solving":
        return folder, *interrupt(folder, WHILE_SOLVING, "solve", "digits", "--out", "there")
    return folder, *interrupt(folder, WHILE_WRITING, "solve", "xor", "--out", "there")


def test_ctrl_c_leaves_nothing_behind(interrupted):
    folder, status, out, err = interrupted
    assert status == 130 and "Traceback" not in err and out == ""
    assert files_in(folder) == []


def test_ctrl_c_says_so_in_one_line(interrupted):
    _, _, _, err = interrupted
    assert err == "convexsnn: interrupted; nothing was written\n"


@pytest.mark.slow
def test_python_m_convexsnn_is_the_same_program(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "convexsnn", "solve", "nope"], cwd=tmp_path, capture_output=True, text=True
    )
    assert (
        done.returncode == 2
        and done.stdout == ""
        and one_line(done.stderr).startswith("nope: no such problem")
    )


@pytest.mark.slow
def test_no_progress_with_json_on_a_terminal(tmp_path):
    reader, terminal = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "convexsnn", "solve", "xor", "--json"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=terminal, check=True,
    )  # fmt: skip
    os.write(terminal, b"end")
    assert os.read(reader, 100) == b"end" and json.loads(done.stdout)["verified"]
    os.close(reader)
    os.close(terminal)


def test_a_reader_that_leaves_is_no_error():
    process = subprocess.Popen(
        [sys.executable, "-m", "convexsnn", "list"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait() in (0, 1) and "Traceback" not in err


@pytest.mark.slow
def test_ctrl_c_says_that_a_checkpoint_stays(tmp_path):
    script = """
from convexsnn.admm import training
iterate = training.AdmmTraining._iterate
def slow(self, k):
    if k == 2:
        print("now", flush=True)
        time.sleep(30)
    return iterate(self, k)
training.AdmmTraining._iterate = slow
"""
    (tmp_path / "short.toml").write_text(
        (library() / "yin-yang-admm.toml").read_text().replace("[admm]", "[admm]\ncheckpoint_every = 1")
    )
    status, out, err = interrupt(tmp_path, script, "solve", "short.toml", "--checkpoint", "run.npz")
    assert (status, out) == (130, "") and files_in(tmp_path) == ["run.npz", "short.toml"]
    assert err == "convexsnn: interrupted; what was written to --checkpoint run.npz is kept, nothing else\n"


@pytest.mark.slow
def test_ctrl_c_in_the_middle_of_a_file_is_no_other_error(tmp_path):
    """A zip file that is left while it has a member open says so, in the place of what it was left for."""
    script = """
import zipfile
begun = []
def closing(self):
    if not begun:
        begun.append(print("now", flush=True))
        time.sleep(30)
zipfile._ZipWriteFile.close = closing
"""
    status, out, err = interrupt(tmp_path, script, "solve", "xor", "--out", "there")
    assert (status, out, files_in(tmp_path)) == (130, "", [])
    assert err.startswith("convexsnn: interrupted; nothing was written\n")  # then what zipfile says of itself
