"""Comparison of the measurements with their targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from convexsnn.bench.problems import ALONE, BITS, OURS, BenchProblem, BitProducts

Record = Mapping[str, Any]
Found = Mapping[tuple[str, str], Record]


def by_pair(records: Sequence[Record]) -> dict[tuple[str, str], Record]:
    """Return results by (problem, solver)."""
    return {(record["problem"], record["solver"]): record for record in records}


def compared(what: float, limit: float, unit: str, against: str = "") -> str:
    """Return "met: 0.3 s, target 0.5 s" or "missed: 0.8 s, target 0.5 s"."""
    word = "met" if what <= limit else "missed"
    return f"{word}: {what:.3g}{unit}, target {limit:.3g}{unit}{against}"


def verdicts(problem: BenchProblem | BitProducts, results: Found, tolerance: float) -> list[str]:
    """Return one line for every target of a problem; the targets are those of our own solver."""
    target = problem.target
    if target == type(target)():
        return []
    missing = problem.missing()
    if missing:
        return [f"not judged: {missing}"]
    record = results.get((problem.name, BITS if isinstance(problem, BitProducts) else OURS))
    if record is None:
        return ["not judged: not run yet"]
    if not record["runs"] or record["status"] == "limit":
        return [f"missed: {record['reason'] or record['status']}"]
    if isinstance(problem, BitProducts):
        names = {"product": "D w", "transposed": "Dᵀu"}
        return [
            compared(ratio, target.times or 0.0, " ×", " the time of reading the bits") + f" ({names[name]})"
            for name, ratio in record["ratios"].items()
        ]
    if record["status"] != "optimal":
        gap = record["gap"]
        return [f"missed: gap {'unknown' if gap is None else f'{gap:.2g}'}, target {tolerance:g}"]
    return _times(problem, record, results)


def _times(problem: BenchProblem, record: Record, results: Found) -> list[str]:
    target, seconds, lines = problem.target, record["seconds"], []
    if target.seconds is not None:
        lines.append(compared(seconds, target.seconds, " s"))
    if target.peers:
        names = [name for peer in target.peers for name in (peer, ALONE + peer)]
        records = [results.get((problem.name, name)) for name in names]
        fit = [peer for peer in records if peer is not None and peer["status"] == "optimal"]
        if fit:
            best = min(fit, key=lambda peer: peer["seconds"])
            lines.append(compared(seconds, best["seconds"], " s", f" ({best['solver']})"))
        else:
            words = f"no accurate result of {' or '.join(target.peers)}"
            lines.append(f"not judged: {seconds:.3g} s, {words}")
    if target.times is not None:
        other = results.get((target.of, OURS))
        if other is not None and other["status"] == "optimal":
            lines.append(
                compared(seconds, target.times * other["seconds"], " s", f" ({target.times:g} × {target.of})")
            )
        else:
            lines.append(f"not judged: {seconds:.3g} s, no accurate result on {target.of}")
    if target.memory is not None:
        memory = record["memory_gb"]
        lines.append(
            "not judged: peak memory unknown"
            if memory is None
            else compared(memory, target.memory, " GB", " of peak memory")
        )
    return lines
