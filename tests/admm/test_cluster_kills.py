"""What is killed or frozen while ADMM trains on a cluster: the run goes on, or ends in one line."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib

import pytest
import tomli_w
from command_line import files_in, one_line

import convexsnn
from convexsnn.problem import library

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="signals"),
]

SCRIPT = """
import sys
from convexsnn.admm import training, waiting
waiting.LOOK, waiting.GONE = 1.0, {gone}
iterate = training.AdmmTraining._iterate
def asked(self, k):
    if k == 2:
        print("now", flush=True)
        sys.stdin.readline()
    return iterate(self, k)
training.AdmmTraining._iterate = asked
from convexsnn.cli import main
if __name__ == "__main__":
    main()
"""


@pytest.fixture
def started(tmp_path):
    """Return a function that starts processes with a temporary folder of their own; all are killed."""
    pytest.importorskip("distributed")
    processes = []
    (tmp_path / "temporary").mkdir()
    tables = tomllib.loads((library() / "yin-yang-admm.toml").read_text())
    tables["admm"] |= {"iterations": 4, "checkpoint_every": 1}
    tables["data"]["arguments"] |= {"train": 100, "test": 20}
    (tmp_path / "short.toml").write_text(tomli_w.dumps(tables))

    def start(*arguments, **variables):
        pipe = subprocess.PIPE
        variables = {**os.environ, "TMPDIR": str(tmp_path / "temporary"), **variables}
        processes.append(
            subprocess.Popen(
                [sys.executable, "-P", *map(str, arguments)], cwd=tmp_path, env=variables, text=True,
                stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True,
            )
        )  # fmt: skip
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture
def outside(tmp_path, started):
    """Return the processes of a scheduler and two workers that nobody restarts, and its address."""
    quiet = {"DASK_LOGGING__DISTRIBUTED": "critical", "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "10s"}
    options = ("--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", "scheduler.json")
    scheduler = started("-m", "distributed.cli.dask_scheduler", *options, **quiet)
    file = tmp_path / "scheduler.json"
    while not (file.exists() and file.read_text().endswith("}")):
        assert scheduler.poll() is None
        time.sleep(0.01)
    options = ("--scheduler-file", file, "--nthreads", "1", "--no-dashboard", "--no-nanny")
    workers = [started("-m", "distributed.cli.dask_worker", *options, **quiet) for _ in range(2)]
    return scheduler, workers, json.loads(file.read_text())["address"]


def run(started, tmp_path, *arguments, gone=10.0):
    """Start a training; return it when two iterations are done."""
    (tmp_path / "script.py").write_text(SCRIPT.format(gone=gone))
    files = ("--checkpoint", "run.npz", "--out", "there")
    process = started("script.py", "solve", "short.toml", *files, *arguments)
    assert process.stdout.readline() == "now\n"
    return process


LEFT = ["run.npz", "scheduler.json", "script.py", "short.toml", "temporary"]


@pytest.mark.parametrize(
    "lost, said",
    [
        ("scheduler", "workers: the scheduler (is gone|gave no answer for 10 seconds)"),
        ("frozen", "workers: the scheduler gave no answer for 10 seconds"),
        ("workers", "workers: none is left for 10 seconds"),
    ],
)
def test_without_scheduler_or_workers_a_run_ends_in_one_line_and_keeps_its_checkpoint(
    tmp_path, started, outside, lost, said
):
    scheduler, workers, address = outside
    process = run(started, tmp_path, "--scheduler", address)
    if lost == "frozen":
        scheduler.send_signal(signal.SIGSTOP)
    for one in {"scheduler": [scheduler], "workers": workers}.get(lost, []):
        one.kill()
        one.wait()
    out, err = process.communicate("\n", timeout=300)
    assert (process.returncode, out) == (1, "") and re.match(said, one_line(err))
    assert files_in(tmp_path) == LEFT
    process = started("-m", "convexsnn", "solve", "short.toml", "--checkpoint", "run.npz", "--workers", "2")
    out, err = process.communicate(timeout=300)  # as many shards as before: it goes on from there
    assert (process.returncode, err) == (0, "")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_without_one_worker_the_run_goes_on_on_the_others(tmp_path, started, outside, number):
    _, workers, address = outside
    process = run(started, tmp_path, "--scheduler", address, gone=300.0)
    workers[0].send_signal(number)
    out, err = process.communicate("\n", timeout=300)
    assert (process.returncode, err) == (0, "")
    assert files_in(tmp_path) == [*LEFT, "there"]
    assert convexsnn.verify_folder(tmp_path / "there")


def living(process):
    """Return whether any process of a session is left."""
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_driver_that_is_ended_leaves_no_process_and_its_checkpoint(tmp_path, started, number):
    process = run(started, tmp_path, "--workers", "2")
    process.send_signal(number)
    _, err = process.communicate(timeout=300)  # ends when the last process that holds the pipe has ended
    while living(process):
        time.sleep(0.01)
    left = ["run.npz", "script.py", "short.toml", "temporary"]
    assert files_in(tmp_path) == left
    if number != signal.SIGKILL:
        assert process.returncode == 128 + number and err.count("\n") == 1
        assert err.endswith("; what was written to --checkpoint run.npz is kept, nothing else\n")
    else:  # what it could not delete goes with the next run
        assert process.returncode == -number and files_in(tmp_path / "temporary")
        again = started("-m", "convexsnn", "solve", "short.toml", "--checkpoint", "run.npz", "--workers", "2")
        assert again.communicate(timeout=300)[1] == "" and again.returncode == 0
    assert files_in(tmp_path / "temporary") == [] and files_in(tmp_path) == left
