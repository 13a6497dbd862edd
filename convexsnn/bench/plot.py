"""Plot of gap against seconds: one panel per problem, one mark per solver; needs the extra `notebook`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from convexsnn.bench.problems import BenchProblem, BitProducts
from convexsnn.files import appearing

PLOT = "gap.png"
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#4d4d4d")
MARKS = "osD^vPX"
LEAST = 1e-13  # smaller gaps are drawn here


def can_draw() -> bool:
    """Return whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


def draw(
    problems: Sequence[BenchProblem | BitProducts],
    records: Sequence[Mapping[str, Any]],
    tolerance: float,
    file: Path,
) -> None:
    """Write the plot to `file`, completely or not at all."""
    with appearing(file) as target:
        _figure(problems, records, tolerance).savefig(target, dpi=130)


def _figure(
    problems: Sequence[BenchProblem | BitProducts], records: Sequence[Mapping[str, Any]], tolerance: float
) -> Any:
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter

    points = [record for record in records if record["gap"] is not None]
    names = [p.name for p in problems if any(record["problem"] == p.name for record in points)]
    solvers = list(dict.fromkeys(record["solver"] for record in points))
    across = min(4, max(len(names), 1))
    down = math.ceil(len(names) / across) or 1
    figure = Figure(figsize=(3.0 * across + 2.2, 2.6 * down + 0.9), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False, sharey=True).ravel()
    for axis, name in zip(panels, names, strict=False):
        for record in (r for r in points if r["problem"] == name):
            k = solvers.index(record["solver"])
            axis.plot(
                record["seconds"], max(record["gap"], LEAST), MARKS[(k + k // len(COLORS)) % len(MARKS)],
                color=COLORS[k % len(COLORS)], label=record["solver"],
            )  # fmt: skip
        axis.axhline(tolerance, color="#999999", linewidth=1.0, linestyle="--", zorder=0)
        axis.set(xscale="log", yscale="log", title=name)
        seconds = [record["seconds"] for record in points if record["problem"] == name]
        low, high = math.floor(math.log10(0.9 * min(seconds))), math.ceil(math.log10(1.1 * max(seconds)))
        axis.set_xlim(10.0**low, 10.0**high)  # whole decades, so that each has a label
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.title.set_fontsize(9)
        axis.spines[["top", "right"]].set_visible(False)
    for axis in panels[len(names) :]:
        axis.set_visible(False)
    figure.supxlabel("seconds")
    figure.supylabel("certified relative gap")
    handles: dict[str, Any] = {}
    for axis in panels[: len(names)]:
        handles |= dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
    figure.legend(handles.values(), handles.keys(), loc="outside right upper", frameon=False)
    return figure
