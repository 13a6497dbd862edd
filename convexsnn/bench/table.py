"""Results as Markdown tables: seconds and gaps, targets, shifted geometric means.

Shifted geometric mean of times t: (Π (t_i + s))^(1/k) − s with the shift s = 1 s, so that a problem of
milliseconds has little weight. A run that failed, ran out of time or stopped with too large a gap counts as
the time limit. A solver's mean is over the problems it takes; the mean of our solver over the same problems
is next to it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from convexsnn.bench.problems import BITS, OURS, BenchProblem, BitProducts
from convexsnn.bench.verdicts import Found, Record, by_pair, verdicts

SHIFT = 1.0  # seconds


def shifted_geometric_mean(seconds: Sequence[float], shift: float = SHIFT) -> float:
    """Return (Π (t + shift))^(1/k) − shift."""
    return math.exp(sum(math.log(t + shift) for t in seconds) / len(seconds)) - shift


def counted(record: Record, time_limit: float) -> float:
    """Return the seconds that a result counts for: the time limit unless it is accurate."""
    return record["seconds"] if record["status"] == "optimal" else time_limit


def means(results: Found, time_limit: float) -> list[dict[str, Any]]:
    """Return per solver: problems, solved problems, its mean, and our mean over the same problems."""
    rows = []
    for solver in dict.fromkeys(s for _, s in results if s != BITS):
        records = {p: r for (p, s), r in results.items() if s == solver and r["status"] != "skipped"}
        ours = [results[p, OURS] for p in records if (p, OURS) in results]
        if records:
            rows.append({
                "solver": solver, "problems": len(records),
                "solved": sum(r["status"] == "optimal" for r in records.values()),
                "mean": shifted_geometric_mean([counted(r, time_limit) for r in records.values()]),
                "ours": shifted_geometric_mean([counted(r, time_limit) for r in ours])
                if len(ours) == len(records) else None,
            })  # fmt: skip
    return rows


def cell(record: Record | None) -> str:
    """Return a result as short text: "0.31 s", "0.31 s, gap 2e-04", "time limit", "failed", or "–"."""
    if record is None:
        return "–"
    if not record["runs"]:
        return "time limit" if record["status"] == "limit" else str(record["status"])
    gap = record["gap"]
    words = f"{record['seconds']:.3g} s"
    if record["status"] == "limit":
        words = f"time limit ({words})"
    small = record["status"] == "optimal"
    return words if small else f"{words}, gap {'unknown' if gap is None else f'{gap:.1e}'}"


def described(conditions: Mapping[str, Any]) -> list[str]:
    """Return machine, versions and settings as text."""
    machine, threads = conditions["machine"], conditions["threads"]
    limits = ", ".join(f"{k}={v}" for k, v in threads.items() if v is not None) or "none set"
    versions = ", ".join(f"{name} {version}" for name, version in conditions["versions"].items())
    return [
        f"Machine: {machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB, "
        f"{machine['system']}; threads: {limits}. Python {conditions['python']}, {versions}.",
        f"Median of up to {conditions['repeat']} runs (fewer if they take longer than the limit together), "
        f"each pair in a process of its own, after a warm-up; time limit {conditions['time_limit']:g} s. The "
        "gap is the program's own certificate, the same for all; shown where it is above "
        f"{conditions['tolerance']:g}.",
        "`alone:` is a solver without our presolve and without our choice of columns. – means not run: not "
        "installed, or a kind of program that the solver does not take.",
    ]


def _lines(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    table = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(str(entry).replace("|", "\\|") for entry in row) + " |" for row in table]


def markdown(
    problems: Sequence[BenchProblem | BitProducts], records: Sequence[Record], conditions: Mapping[str, Any]
) -> str:
    """Return the complete report on the records of `problems`."""
    names, limit = {problem.name for problem in problems}, conditions["time_limit"]
    results = by_pair([record for record in records if record["problem"] in names])
    solvers = list(dict.fromkeys(s for _, s in results if s != BITS))
    programs = [p for p in problems if isinstance(p, BenchProblem) and any(p.name == q for q, _ in results)]
    rows = [[p.name, p.title, *(cell(results.get((p.name, s))) for s in solvers)] for p in programs]
    parts = [*described(conditions), "", *_lines(["problem", "what", *solvers], rows)]
    for problem in problems:
        record = results.get((problem.name, BITS))
        if record is not None and record["runs"]:
            shown = ", ".join(f"{k} {1e3 * v:.3g} ms" for k, v in record["parts"].items())
            parts += ["", f"{problem.name}, {problem.title}: {shown}."]
    targets = [[p.name, line] for p in problems for line in verdicts(p, results, conditions["tolerance"])]
    if targets:
        parts += ["", *_lines(["problem", f"target of {OURS}, and of products"], targets)]
    averages = [
        [row["solver"], f"{row['solved']} of {row['problems']}", f"{row['mean']:.3g} s",
         "–" if row["ours"] is None else f"{row['ours']:.3g} s"]
        for row in means(results, limit)
    ]  # fmt: skip
    if averages:
        head = ["solver", "solved", "shifted geometric mean (shift 1 s)", f"{OURS} on the same problems"]
        parts += ["", *_lines(head, averages)]
        parts += ["", "What was not solved to the gap counts as the time limit."]
    return "\n".join(parts) + "\n"
