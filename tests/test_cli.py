"""The command line: what it prints, where, and with which exit status."""

import json
import os
import pty
import signal
import subprocess
import sys
import time

import highspy
import numpy as np
import pytest

from convexsnn.arrays import read_npz, write_npz
from convexsnn.cli import main
from convexsnn.errors import SolverFailed, VerificationError
from convexsnn.problem import library

KEYS = {
    "problem", "status", "objective", "lower_bound", "gap", "scope", "patterns", "units", "verified",
    "max_output_error", "min_margin", "train_accuracy", "test_accuracy", "solver", "seconds", "out",
}  # fmt: skip
COMMANDS = ("list", "inspect", "solve", "verify", "solvers", "export")


@pytest.fixture
def cli(monkeypatch, capsys, tmp_path):
    """Return a function that runs the command line in an empty folder: (status, out, err)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERMINAL_WIDTH", "200")

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["convexsnn", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            main()
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return left.value.code or 0, out, err

    return run


def one_line(err):
    """Return what an error line says after the name of the program."""
    assert err.startswith("convexsnn: error: ") and err.endswith("\n") and err.count("\n") == 1
    return err.removeprefix("convexsnn: error: ").strip()


def files_in(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def solved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("solved") / "xor"
    subprocess.run([sys.executable, "-m", "convexsnn", "solve", "xor", "--out", folder], check=True)
    return folder


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


@pytest.mark.slow
def test_help_is_instant():
    seconds = []
    for _ in range(5):
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-m", "convexsnn", "--help"], capture_output=True, check=True)
        seconds.append(time.perf_counter() - begun)
    assert min(seconds) < 0.4


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


# out, verify


def test_out_writes_a_folder_that_verify_accepts(cli, tmp_path):
    status, out, _ = cli("solve", "xor", "--json", "--out", "folder")
    assert status == 0 and json.loads(out)["out"] == "folder"
    assert files_in(tmp_path) == ["folder"]  # and nothing half-made beside it
    assert files_in(tmp_path / "folder") == [
        "certificate.json", "certificate.npz", "data.npz", "dictionary.npz", "network.npz", "problem.toml"
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
    monkeypatch.setattr("convexsnn.train.train", no_work)
    status, out, err = cli("solve", "xor", "--out", "there", *force)
    assert (status, out) == (2, "") and one_line(err).startswith(told)
    assert files_in(tmp_path) == ["there"]
    assert not (tmp_path / "there").is_dir() or files_in(tmp_path / "there") in (["precious"], ["there"])


def test_a_folder_of_ours_is_replaced_with_force_alone(cli, monkeypatch, tmp_path):
    assert cli("solve", "xor", "--out", "there")[0] == 0
    (tmp_path / "there" / "extra").touch()
    with monkeypatch.context() as patched:
        patched.setattr("convexsnn.train.train", no_work)
        status, _, err = cli("solve", "xor", "--out", "there")
    assert status == 2 and "--force" in one_line(err)
    assert cli("solve", "xor", "--out", "there", "--force")[0] == 0
    assert "extra" not in files_in(tmp_path / "there") and files_in(tmp_path) == ["there"]
    assert cli("verify", "there")[0] == 0


def test_an_empty_folder_is_taken_with_force(cli, tmp_path):
    (tmp_path / "there").mkdir()
    assert cli("solve", "xor", "--out", "there")[0] == 2
    assert cli("solve", "xor", "--out", "there", "--force")[0] == 0


def test_a_missing_parent_is_named_before_any_work(cli, monkeypatch):
    monkeypatch.setattr("convexsnn.train.train", no_work)
    status, _, err = cli("solve", "xor", "--out", "no/such/place")
    assert status == 2 and one_line(err).startswith("out: no/such/place: no such folder ")


def test_a_parent_that_cannot_be_written_is_named_before_any_work(cli, monkeypatch):
    monkeypatch.setattr("convexsnn.train.train", no_work)
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
    monkeypatch.setattr("convexsnn.train.pipeline.save_claim", full)
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

    monkeypatch.setattr(f"convexsnn.train.pipeline.{where}", fail)
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
        f"import sys, time, convexsnn.train.pipeline as p\n{script}\nfrom convexsnn.cli import main\nmain()"
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


@pytest.fixture(scope="module", params=["solving", "writing"])
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


def test_python_m_convexsnn_is_the_same_program(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "convexsnn", "solve", "nope"], cwd=tmp_path, capture_output=True, text=True
    )
    assert (
        done.returncode == 2
        and done.stdout == ""
        and one_line(done.stderr).startswith("nope: no such problem")
    )


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
