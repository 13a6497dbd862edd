"""One LIF layer, forward and backward, by each gradient: time, distance from autograd, peak memory, over T.

Every pair of a number of steps and a method runs in a process of its own, so that peaks are its own.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from convexsnn.errors import ConvexSNNError
from convexsnn.gradient.lif import GRADIENTS, lif

METHODS = ("bptt", *(name for name in GRADIENTS if name != "bptt"))
LEAK, SPREAD = 0.9, 0.5
COLORS = {"bptt": "#4d4d4d", "exodus": "#0072b2", "slayer": "#d55e00"}
Row = dict[str, Any]


def _peak(device: str) -> float:
    """Return the peak memory so far, in bytes."""
    if device == "cuda":
        return float(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0


def measured(steps: int, method: str, batch: int, units: int, repeat: int, device: str) -> Row:
    """Return seconds of the runs after a warm-up, bytes beyond the data, and the difference from autograd.

    The difference is the largest of ∂L/∂I over the largest entry of autograd's.
    """
    torch.manual_seed(0)
    current = (torch.randn(steps, batch, units) * SPREAD).to(device).requires_grad_()
    wanted = torch.randn(steps, batch, units).to(device)

    def run(name: str) -> torch.Tensor:
        current.grad = None
        lif(current, LEAK, gradient=name).backward(wanted)
        if device == "cuda":
            torch.cuda.synchronize()
        assert current.grad is not None
        return current.grad

    before, seconds = _peak(device), []
    for _ in range(repeat + 1):
        begun = time.perf_counter()
        run(method)
        seconds.append(time.perf_counter() - begun)
    peak = _peak(device) - before
    found, reference = run(method).clone(), run("bptt")
    far = float((found - reference).abs().max() / reference.abs().max())
    return {
        "steps": steps, "method": method, "seconds": statistics.median(seconds[1:]), "runs": seconds[1:],
        "difference": far, "peak_bytes": peak,
    }  # fmt: skip


def run_all(
    steps: Sequence[int], batch: int, units: int, repeat: int, device: str, report: Callable[[Row], None]
) -> list[Row]:
    """Measure every method at every number of steps, and how many times faster than autograd each is.

    Raises
    ------
    ConvexSNNError
        A process that died; the message has its last line.
    """
    rows: list[Row] = []
    for count in steps:
        for method in METHODS:
            asked = json.dumps([count, method, batch, units, repeat, device])
            command = [sys.executable, "-m", "convexsnn.gradient.benchmark", asked]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                last = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
                raise ConvexSNNError(f"steps: {count}, {method}: {last[0]}")
            row = json.loads(done.stdout)
            reference = next((r for r in rows if r["steps"] == count and r["method"] == "bptt"), row)
            rows.append({**row, "speed_up": reference["seconds"] / row["seconds"]})
            report(rows[-1])
    return rows


def markdown(rows: Sequence[Row], title: str) -> str:
    """Return the table of all rows."""
    lines = [
        title,
        "",
        "| T | gradient | forward + backward | times faster than bptt | difference from bptt | peak memory |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row['steps']} | {row['method']} | {1e3 * row['seconds']:.3g} ms | {row['speed_up']:.3g} "
            f"| {row['difference']:.1e} | {row['peak_bytes'] / 1e6:.4g} MB |"
        )
    return "\n".join(lines) + "\n"


def draw(rows: Sequence[Row], file: Path) -> None:
    """Write time and peak memory over T; the file appears whole or not at all."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for method in METHODS:
        own = [row for row in rows if row["method"] == method]
        x = [row["steps"] for row in own]
        left.plot(x, [1e3 * row["seconds"] for row in own], "o-", color=COLORS[method], label=method)
        right.plot(x, [row["peak_bytes"] / 1e6 for row in own], "o-", color=COLORS[method])
    left.set(xlabel="steps T", ylabel="forward + backward, ms", xscale="log", yscale="log")
    right.set(xlabel="steps T", ylabel="peak memory, MB", xscale="log", ylim=(0, None))
    left.legend(frameon=False)
    for axis in (left, right):
        axis.spines[["top", "right"]].set_visible(False)
        axis.set_xticks(
            sorted({row["steps"] for row in rows}), labels=map(str, sorted({r["steps"] for r in rows}))
        )
        axis.minorticks_off()
    made = file.with_name(f".{file.stem}.{os.getpid()}.partial{file.suffix}")
    try:
        figure.savefig(made, dpi=130)
        os.replace(made, file)
    finally:
        made.unlink(missing_ok=True)


if __name__ == "__main__":
    print(json.dumps(measured(*json.loads(sys.argv[1]))))
