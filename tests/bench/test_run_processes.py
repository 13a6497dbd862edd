"""The processes of a benchmark: what they import, and what two benchmarks at once do to one folder."""

import json
import os
import signal
import subprocess
import sys
import threading

import pytest
from command_line import files_in

from convexsnn.bench.machine import conditions
from convexsnn.bench.problems import OURS
from convexsnn.bench.run import RESULTS, Results, run_pair
from convexsnn.errors import ProblemFileError

CONDITIONS = conditions(1e-6, 300.0, 1)
NAMES = (  # of the standard library and of what solvers import, first things first
    "highspy", "numba", "numpy", "scipy", "json", "pickle", "queue", "subprocess", "multiprocessing",
    "distributed", "tornado", "convexsnn", "usercustomize", "sitecustomize",
)  # fmt: skip


@pytest.fixture
def trapped(tmp_path, monkeypatch):
    """Return a file that appears if a module of the current folder is imported."""
    folder = tmp_path / "downloaded"
    folder.mkdir()
    for name in NAMES:
        (folder / f"{name}.py").write_text(
            f"open({str(tmp_path / 'ran')!r}, 'w').write(__name__)\nraise SystemExit"
        )
    monkeypatch.chdir(folder)
    return tmp_path / "ran"


@pytest.mark.slow
def test_a_worker_imports_nothing_from_the_current_folder(trapped):
    found = run_pair("quick-squared-l1-1", "highs", CONDITIONS)
    assert not trapped.exists() and found["status"] == "optimal", found["reason"]


@pytest.mark.slow
def test_gradients_import_nothing_from_the_current_folder(trapped):
    pytest.importorskip("torch")
    from convexsnn.bench.gradient_layers import _alone

    asked = {"steps": 2, "batch": 2, "units": 2, "repeat": 1, "device": "cpu"}
    assert _alone("layer", method="exodus", **asked)["seconds"] > 0 and not trapped.exists()


REST = {"status": "optimal", "reason": "", "runs": [1.0], "gap": 0.0, "memory_gb": None}


def record(solver, seconds=1.0):
    return {"problem": "p", "solver": solver, "seconds": seconds, **REST}


def test_of_two_benchmarks_in_one_folder_neither_loses_a_result(tmp_path):
    """Each of them read the file before the other wrote it."""
    one, other = (Results(tmp_path / "out", {**CONDITIONS, "repeat": k}) for k in (1, 2))
    same = Results(tmp_path / "out", one.conditions)
    for k in range(3):
        for results in (one, other, same):
            results.add(record(f"{results is same}-{k}"))
    again = Results(tmp_path / "out", one.conditions)
    assert len(again.stored["results"]) == 9 and len(again.records) == 6
    assert again.stored["conditions"].keys() == {one.key, other.key}
    assert files_in(tmp_path / "out") == [RESULTS]


ADDING = """
import json, sys
from pathlib import Path
from convexsnn.bench.run import Results
results = Results(Path(sys.argv[1]), json.loads(sys.argv[2]))
print("ready", flush=True)
sys.stdin.readline()
for k in range(20):
    results.add({"problem": "p", "solver": f"{sys.argv[3]}-{k}", "seconds": 1.0, **json.loads(sys.argv[4])})
"""


@pytest.mark.slow
def test_two_processes_that_store_at_once_lose_nothing(tmp_path):
    (tmp_path / "out").mkdir()
    command = [sys.executable, "-P", "-c", ADDING, tmp_path / "out", json.dumps(CONDITIONS)]
    rest = json.dumps(REST)
    pipe = subprocess.PIPE
    both = [subprocess.Popen([*command, name, rest], stdin=pipe, stdout=pipe, text=True) for name in "ab"]
    assert [one.stdout.readline() for one in both] == ["ready\n"] * 2
    for one in both:
        one.stdin.write("\n")
        one.stdin.flush()
    for one in both:
        one.communicate()
        assert one.returncode == 0
    assert len(Results(tmp_path / "out", CONDITIONS).records) == 40


@pytest.mark.slow
def test_a_killed_benchmark_leaves_no_process_and_what_it_had_stored(tmp_path):
    results = Results(tmp_path / "out", CONDITIONS)
    results.add(record(OURS))
    script = "import sys\nfrom convexsnn.cli import main\nmain()"
    command = [sys.executable, "-P", "-c", script, "bench", "solvers", "--quick", "--out", "out"]
    pairs = ["--problem", "quick-squared-l1-1", "--problem", "quick-hinge-l1-1"]
    process = subprocess.Popen([*command, *pairs], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    process.stdout.readline()  # a first pair is stored, the next one runs
    process.send_signal(signal.SIGKILL)
    process.communicate()  # ends when the last process that holds the pipe has ended
    assert len(json.loads((tmp_path / "out" / RESULTS).read_text())["results"]) >= 2
    assert files_in(tmp_path / "out") == [RESULTS]


ALONE = """
import subprocess
from convexsnn.bench import gradient_layers
def telling(command, **given):
    process = subprocess.Popen(command, stdin=given["stdin"], env=given["env"], stdout=subprocess.DEVNULL)
    print("now", flush=True)
    process.wait()
gradient_layers.subprocess.run = telling
gradient_layers._alone("layer", method="bptt", steps=400, batch=64, units=64, repeat=10**6, device="cpu")
"""


@pytest.mark.slow
def test_a_killed_benchmark_of_gradients_leaves_no_process():
    pytest.importorskip("torch")
    command = [sys.executable, "-P", "-c", ALONE]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "now\n"
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=300)  # ends when the process that measures, and holds the pipe, has ended


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "[" * 100_000, *(
        f'{{"format": {number}, "results": {results}, "conditions": {given}}}'
        for number, results, given in [(1, 3, {}), (1, [{}], {}), (1, [3], []), (1, [], 3), (2, [], {})]
    )],
)  # fmt: skip
def test_a_file_of_results_that_is_none_is_refused_and_stays(tmp_path, text):
    (tmp_path / RESULTS).write_text(text)
    with pytest.raises(ProblemFileError, match=RESULTS):
        Results(tmp_path, CONDITIONS)
    assert (tmp_path / RESULTS).read_text() == text


@pytest.mark.skipif(os.name != "posix", reason="pipes")
def test_a_pipe_of_results_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / RESULTS)
    done = threading.Event()

    def read():
        with pytest.raises(ProblemFileError, match="is a pipe"):
            Results(tmp_path, CONDITIONS)
        done.set()

    read()
    assert done.is_set()
