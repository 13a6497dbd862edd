"""Pairs of a problem and a solver, each in a process of its own, and the folder that keeps what they gave."""

from __future__ import annotations

import json
import math
import os
import queue
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from convexsnn.bench.machine import conditions_key
from convexsnn.bench.problems import ALONE, BITS, BenchProblem, BitProducts
from convexsnn.errors import ProblemFileError, UnsupportedError
from convexsnn.files import appearing
from convexsnn.solvers import SOLVERS, get_solver, installed
from convexsnn.threads import environment

RESULTS = "results.json"
MAKING = 900.0  # seconds for a problem to be made
GRACE = 30.0  # seconds that a solver may need to stop after its limit
Record = dict[str, Any]
Pair = tuple[BenchProblem | BitProducts, str]


def check_solver(name: str) -> None:
    """Raise the error of `get_solver` if there is no such solver."""
    get_solver(name.removeprefix(ALONE))


def solvers_for(problem: BenchProblem | BitProducts, names: Sequence[str]) -> list[str]:
    """Return the solvers to run on a problem: those of `names` that take it, all installed ones if none."""
    if isinstance(problem, BitProducts):
        return [BITS] if not names or BITS in names else []
    every = [name for name in SOLVERS if installed(name)]
    also = [name for name in problem.also if installed(name.removeprefix(ALONE).partition(":")[0])]
    program = problem.warm_up()
    return [
        name
        for name in names or (*every, *also)
        if name != BITS and not get_solver(name.removeprefix(ALONE)).capabilities.refusal(program)
    ]


class Results:
    """What is known so far, in a folder; every change is written at once and whole.

    Parameters
    ----------
    folder : path
        New, or one that holds ``results.json``.
    conditions : mapping
        As `machine.conditions` makes it; only results under the same conditions are looked at.

    Raises
    ------
    ProblemFileError
        The folder holds something else, or cannot be written.
    """

    def __init__(self, folder: Path, conditions: Mapping[str, Any]) -> None:
        self.file, self.conditions, self.key = folder / RESULTS, conditions, conditions_key(conditions)
        self.stored: Record = {"format": 1, "conditions": {}, "results": []}
        try:
            if self.file.exists():
                self.stored = json.loads(self.file.read_text(encoding="utf-8"))
                if self.stored["format"] != 1:
                    raise ValueError(f"format {self.stored['format']}, expected 1")
            elif folder.is_dir() and any(folder.iterdir()):
                raise ProblemFileError(f"out: {folder}: exists and holds no {RESULTS}; choose another folder")
            folder.mkdir(exist_ok=True)
        except (OSError, ValueError, KeyError, TypeError) as error:
            if isinstance(error, ProblemFileError):
                raise
            reason = error.strerror if isinstance(error, OSError) else error
            raise ProblemFileError(f"out: {folder}: {reason}") from error
        self.stored["conditions"][self.key] = dict(conditions)

    @property
    def records(self) -> list[Record]:
        """The results under these conditions."""
        return [record for record in self.stored["results"] if record["conditions"] == self.key]

    def find(self, problem: str, solver: str) -> Record | None:
        """Return the result of a pair, if there is one."""
        pairs = {(record["problem"], record["solver"]): record for record in self.records}
        return pairs.get((problem, solver))

    def add(self, record: Record) -> None:
        """Keep a result, in place of an earlier one of the same pair, and write the file."""
        record = {**record, "conditions": self.key}
        names = ("problem", "solver", "conditions")
        others = [r for r in self.stored["results"] if any(r[name] != record[name] for name in names)]
        self.stored["results"] = [*others, record]
        write_text(self.file, json.dumps(self.stored, indent=1, allow_nan=False) + "\n")


def write_text(file: Path, text: str) -> None:
    """Write a file that appears whole or not at all."""
    try:
        with appearing(file) as made:
            made.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ProblemFileError(f"out: {file}: {error.strerror or error}") from error


def run_pair(problem: str, solver: str, conditions: Mapping[str, Any]) -> Record:
    """Run one solver on one problem in a fresh process and return its result, ready for JSON."""
    names = ("tolerance", "time_limit", "repeat")
    asked = {"problem": problem, "solver": solver, **{name: conditions[name] for name in names}}
    runs: list[Record] = []
    reason, ready = "", False
    with tempfile.TemporaryFile() as errors:
        for event in _events(asked, errors):
            ready = ready or event["event"] == "ready"
            if event["event"] == "run":
                runs.append(event)
            reason = event.get("reason", reason)
        errors.seek(0)
        last = errors.read()[-4000:].decode(errors="replace").strip().splitlines()
    if not runs and not reason:
        reason = f"the process died{': ' + last[-1] if last else ''}"
    return {"problem": problem, "solver": solver, **summarised(runs, reason, conditions)}


def _events(asked: Mapping[str, Any], errors: IO[bytes]) -> Iterator[Record]:
    """Yield what a worker tells; end it when it is late, and whenever nobody listens any more."""
    command = [sys.executable, "-m", "convexsnn.bench.worker", json.dumps(asked)]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        env=environment(),
        text=True,
        start_new_session=True,
    )
    lines: queue.Queue[str] = queue.Queue()

    def listen() -> None:
        for line in process.stdout or ():
            lines.put(line)
        lines.put("")

    threading.Thread(target=listen, daemon=True).start()
    limit, patience = asked["time_limit"], MAKING
    try:
        while True:
            try:
                line = _wait(lines, patience)
            except queue.Empty:
                made = patience != MAKING
                yield {"event": "late", "reason": "time limit" if made else "not made in time"}
                return
            if not line:
                return
            yield json.loads(line)
            patience = limit + GRACE
    finally:
        with suppress(ProcessLookupError, PermissionError, AttributeError):
            os.killpg(process.pid, signal.SIGKILL)  # with what it may have started itself
        process.kill()
        process.wait()


def _wait(lines: queue.Queue[str], seconds: float) -> str:
    deadline = time.monotonic() + seconds
    while True:  # by short waits, so that an interrupt is seen at once
        try:
            return lines.get(timeout=min(0.5, max(deadline - time.monotonic(), 0.01)))
        except queue.Empty:
            if time.monotonic() > deadline:
                raise


def summarised(runs: Sequence[Record], reason: str, conditions: Mapping[str, Any]) -> Record:
    """Return status, median time and worst gap of some runs.

    The status is "optimal" (gap and time within their limits), "inaccurate" (it stopped with a larger gap),
    "limit" or "failed".
    """
    if not runs:
        status = "limit" if reason == "time limit" else "failed"
        return {"status": status, "reason": reason, "seconds": None, "runs": [], "gap": None}
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


def pairs_of(problems: Sequence[BenchProblem | BitProducts], solvers: Sequence[str]) -> list[Pair]:
    """Return every problem with each of the solvers for it, as `solvers_for` finds them.

    Raises
    ------
    UnsupportedError
        There is not a single pair.
    """
    pairs = [(problem, name) for problem in problems for name in solvers_for(problem, solvers)]
    if not pairs:
        raise UnsupportedError("solver: none of those given takes any of the problems given")
    return pairs


def run_all(pairs: Sequence[Pair], results: Results, report: Callable[[Record, bool], object]) -> None:
    """Run every pair that is not known yet; `report` gets each result and whether it was known."""
    for problem, name in pairs:
        known, missing = results.find(problem.name, name), problem.missing()
        if missing:
            skipped: Record = {
                "status": "skipped",
                "reason": missing,
                "seconds": None,
                "runs": [],
                "gap": None,
            }
            report({"problem": problem.name, "solver": name, **skipped}, False)
            continue
        if known is None:
            results.add(run_pair(problem.name, name, results.conditions))
        report(results.find(problem.name, name) or {}, known is not None)
