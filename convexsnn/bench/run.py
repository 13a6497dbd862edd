"""Runs of a problem with a solver, each in its own process, and the folder of their results."""

from __future__ import annotations

import json
import math
import os
import queue
import signal
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from convexsnn.arrays import is_number
from convexsnn.bench.machine import conditions_key
from convexsnn.bench.problems import ALONE, BITS, BenchProblem, BitProducts
from convexsnn.errors import ProblemFileError, UnsupportedError, one_line
from convexsnn.files import appearing, locked, read_json
from convexsnn.solvers import SOLVERS, Solver, get_solver, installed
from convexsnn.threads import environment, python

RESULTS = "results.json"
STATUSES = ("optimal", "inaccurate", "limit", "failed", "skipped")
MAKING = 900.0  # seconds to make a problem
GRACE = 30.0  # seconds for a solver to stop after its limit
Record = dict[str, Any]
Pair = tuple[BenchProblem | BitProducts, str]


def solver_of(name: str) -> Solver:
    """Return the solver of a name that may begin with "alone:"; errors as `get_solver`."""
    return get_solver(name.removeprefix(ALONE))


def solvers_for(problem: BenchProblem | BitProducts, names: Sequence[str]) -> list[str]:
    """Return the solvers of `names` that take a problem; all installed ones if `names` is empty."""
    if isinstance(problem, BitProducts):
        return [BITS] if not names or BITS in names else []
    every = [name for name in SOLVERS if installed(name)]
    also = [name for name in problem.also if installed(name.removeprefix(ALONE).partition(":")[0])]
    program = problem.warm_up()
    asked = [name for name in names or (*every, *also) if name != BITS]
    return [name for name in asked if not solver_of(name).capabilities.refusal(program)]


class Results:
    """The results in a folder; every change is written at once, completely.

    Parameters
    ----------
    folder : path
        New, or one that holds ``results.json``.
    conditions : mapping
        From `machine.conditions`; only results under the same conditions are used.

    Raises
    ------
    ProblemFileError
        The folder holds something else, or cannot be written.
    """

    def __init__(self, folder: Path, conditions: Mapping[str, Any]) -> None:
        self.file, self.conditions, self.key = folder / RESULTS, conditions, conditions_key(conditions)
        self.stored: Record = {"format": 1, "conditions": {}, "results": []}
        try:
            if os.path.lexists(self.file):
                self._read()
            elif folder.is_dir() and any(folder.iterdir()):
                raise ProblemFileError(f"out: {folder}: exists and holds no {RESULTS}; choose another folder")
            folder.mkdir(exist_ok=True)
        except (OSError, ValueError, KeyError, TypeError) as error:
            if isinstance(error, ProblemFileError):
                raise
            reason = error.strerror if isinstance(error, OSError) else error
            raise ProblemFileError(f"out: {folder}: {reason}") from error
        self.stored["conditions"][self.key] = dict(conditions)

    def _read(self) -> None:
        """Read what the file has now, which another run may have written."""
        try:
            found = read_json(self.file)
            if found["format"] != 1:
                raise ValueError(f"format {found['format']}, expected 1")
            for record in found["results"]:
                _check_record(record)
            if not isinstance(found["conditions"], dict):
                raise ValueError("conditions: expected an object")
        except ProblemFileError as error:
            raise ProblemFileError(f"out: {error}") from error
        except (KeyError, TypeError, ValueError) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else error
            raise ProblemFileError(f"out: {self.file}: {reason}") from error
        self.stored = found

    @property
    def records(self) -> list[Record]:
        """The results under these conditions."""
        return [record for record in self.stored["results"] if record["conditions"] == self.key]

    def find(self, problem: str, solver: str) -> Record | None:
        """Return the result of a pair, if there is one."""
        pairs = {(record["problem"], record["solver"]): record for record in self.records}
        return pairs.get((problem, solver))

    def add(self, record: Record) -> None:
        """Store a result, replace an earlier one of the same pair, and write the file.

        What another run has stored in the meantime is kept.
        """
        record = {**record, "conditions": self.key}
        names = ("problem", "solver", "conditions")
        with locked(self.file.parent, wait=True):
            if os.path.lexists(self.file):
                self._read()
            others = [r for r in self.stored["results"] if any(r[name] != record[name] for name in names)]
            self.stored["results"] = [*others, record]
            self.stored["conditions"][self.key] = dict(self.conditions)
            write_text(self.file, json.dumps(self.stored, indent=1, allow_nan=False) + "\n")


def _check_record(record: Record) -> None:
    """Raise a ValueError, KeyError or TypeError unless a record holds all that a table shows of it."""
    for name in ("problem", "solver", "conditions", "status", "reason"):
        if not isinstance(record[name], str) or not record[name].isprintable():
            raise ValueError(f"{name}: {record[name]!r}")
    if record["status"] not in STATUSES:
        raise ValueError(f"status: {record['status']!r}, expected one of {', '.join(STATUSES)}")
    runs, seconds = record["runs"], record["seconds"]
    measured = bool(runs) or record["status"] in ("optimal", "inaccurate")
    if not isinstance(runs, list) or {bool(runs), seconds is not None} != {measured}:
        raise ValueError(f"runs: {runs!r} with seconds {seconds!r}")
    others = [seconds, record["gap"], record["memory_gb"] if runs else None]
    numbers = [*runs, *(one for one in others if one is not None)]
    for name in ("parts", "ratios"):
        table = record[name] if runs and record["solver"] == BITS else record.get(name, {})
        if not isinstance(table, dict) or not set(table) <= {"read", "product", "transposed"}:
            raise ValueError(f"{name}: {table!r}")
        numbers += table.values()
    if not all(is_number(one) and one > -1 for one in numbers):
        raise ValueError(f"{record['problem']}, {record['solver']}: expected numbers, got {numbers!r}")


def write_text(file: Path, text: str) -> None:
    """Write a file completely or not at all."""
    try:
        with appearing(file) as target:
            target.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ProblemFileError(f"out: {file}: {error.strerror or error}") from error


def run_pair(problem: str, solver: str, conditions: Mapping[str, Any]) -> Record:
    """Run one solver on one problem in a fresh process and return its result, ready for JSON."""
    names = ("tolerance", "time_limit", "repeat")
    request = {"problem": problem, "solver": solver, **{name: conditions[name] for name in names}}
    runs: list[Record] = []
    reason, ready = "", False
    with tempfile.TemporaryFile() as errors:
        for event in _events(request, errors):
            ready = ready or event["event"] == "ready"
            if event["event"] == "run":
                runs.append(event)
            reason = event.get("reason", reason)
        errors.seek(0)
        last = errors.read()[-4000:].decode(errors="replace").strip().splitlines()
    if not runs and not reason:
        reason = f"the process died{': ' + last[-1] if last else ''}"
    return {"problem": problem, "solver": solver, **summarised(runs, one_line(reason), conditions)}


def _events(request: Mapping[str, Any], errors: IO[bytes]) -> Iterator[Record]:
    """Yield the events of a worker; kill it when it is late, or when the caller stops."""
    command = python("convexsnn.bench.worker", json.dumps(request))
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=errors, env=environment(), text=True, start_new_session=True
    )
    lines: queue.Queue[str] = queue.Queue()

    def listen() -> None:
        for line in process.stdout or ():
            lines.put(line)
        lines.put("")

    threading.Thread(target=listen, daemon=True).start()
    limit, patience = request["time_limit"], MAKING
    try:
        while True:
            try:
                line = _wait(lines, patience)
            except queue.Empty:
                ready = patience != MAKING
                yield {"event": "late", "reason": "time limit" if ready else "not made in time"}
                return
            if not line:
                return
            yield json.loads(line)
            patience = limit + GRACE
    finally:
        with suppress(ProcessLookupError, PermissionError, AttributeError):
            os.killpg(process.pid, signal.SIGKILL)  # also its own child processes
        process.kill()
        process.wait()


def _wait(lines: queue.Queue[str], seconds: float) -> str:
    deadline = time.monotonic() + seconds
    while True:  # short waits, so that an interrupt is noticed at once
        try:
            return lines.get(timeout=min(0.5, max(deadline - time.monotonic(), 0.01)))
        except queue.Empty:
            if time.monotonic() > deadline:
                raise


def summarised(runs: Sequence[Record], reason: str, conditions: Mapping[str, Any]) -> Record:
    """Return status, median time and worst gap of some runs.

    The status is "optimal" (gap and time within their limits), "inaccurate" (the solver stopped with a
    larger gap), "limit" or "failed".
    """
    if not runs:
        return _without_runs("limit" if reason == "time limit" else "failed", reason)
    seconds = statistics.median(run["seconds"] for run in runs)
    gap = max(run.get("gap", 0.0) for run in runs)  # products have none
    late = seconds > conditions["time_limit"] or reason == "time limit"
    status = "optimal" if gap <= conditions["tolerance"] else "inaccurate"
    memory = [run["memory_gb"] for run in runs if run["memory_gb"] is not None]
    return {
        **{key: value for key, value in runs[-1].items() if key not in ("event", "seconds", "gap")},
        "status": "limit" if late else status,
        "reason": reason,
        "seconds": seconds,
        "runs": [run["seconds"] for run in runs],
        "gap": gap if math.isfinite(gap) and "gap" in runs[-1] else None,
        "memory_gb": max(memory, default=None),
    }


def _without_runs(status: str, reason: str) -> Record:
    return {"status": status, "reason": reason, "seconds": None, "runs": [], "gap": None}


def pairs_of(problems: Sequence[BenchProblem | BitProducts], solvers: Sequence[str]) -> list[Pair]:
    """Return every problem with each of its solvers from `solvers_for`.

    Raises
    ------
    UnsupportedError
        There are no pairs.
    """
    pairs = [(problem, name) for problem in problems for name in solvers_for(problem, solvers)]
    if not pairs:
        raise UnsupportedError("solver: none of those given takes any of the problems given")
    return pairs


def run_all(pairs: Sequence[Pair], results: Results, report: Callable[[Record, bool], object]) -> None:
    """Run every pair without a stored result; `report` gets each result and whether it was stored."""
    for problem, name in pairs:
        stored, missing = results.find(problem.name, name), problem.missing()
        if missing:
            report({"problem": problem.name, "solver": name, **_without_runs("skipped", missing)}, False)
            continue
        if stored is None:
            results.add(run_pair(problem.name, name, results.conditions))
        report(results.find(problem.name, name) or {}, stored is not None)
