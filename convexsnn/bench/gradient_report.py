"""The tables and plots of `convexsnn bench gradients`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from convexsnn.bench.gradient_layers import METHODS, Row
from convexsnn.files import appearing

COLORS = {"bptt": "#4d4d4d", "bptt_indexed": "#999999", "exodus": "#0072b2", "slayer": "#d55e00"}
WIDTHS = ("#0072b2", "#d55e00", "#009e73")  # tuned, narrow, wide


def methods_table(rows: Sequence[Row], title: str) -> str:
    """Return time, speed-ups, difference and memory of all rows, as Markdown."""
    columns = ["T", "gradient", "time", "times faster than bptt", "than bptt_indexed"]
    columns += ["difference from bptt", "peak memory"]
    copies = "of_copy" in rows[0]
    columns += ["of copy bandwidth"] if copies else []
    lines = [title, "", f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    for row in rows:
        cells = [
            row["steps"], row["method"], f"{1e3 * row['seconds']:.3g} ms", f"{row['speed_up']:.3g}",
            f"{row['speed_up_indexed']:.3g}", f"{row['difference']:.1e}", f"{row['peak_bytes'] / 1e6:.4g} MB",
        ]  # fmt: skip
        cells += [f"{100 * row['of_copy']:.0f} %"] if copies else []
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines) + "\n"


def depth_table(depth: Any, residual: Any) -> str:
    """Return norms by width and losses by epoch, as Markdown."""
    lines = [
        f"Gradient norms of {depth['layers']} normalised LIF layers, {depth['steps']} steps, "
        f"{depth['surrogate']}",
        "",
        "| width | first layer | last layer | largest over smallest |",
        "|---|---|---|---|",
    ]
    for row in depth["rows"]:
        name = f"{row['width']:.3g}" + (", tuned" if row["tuned"] else "")
        spread = "inf" if row["spread"] is None else f"{row['spread']:.3g}"
        lines.append(f"| {name} | {row['norms'][0]:.3g} | {row['norms'][-1]:.3g} | {spread} |")
    words = (
        f"Residual network of {residual['depth']} layers, {residual['steps']} steps, {residual['images']} "
        f"real digits of {residual['side']} × {residual['side']} in three channels, batches of "
        f"{residual['batch']}, {residual['precision']}, {residual['seconds']:.0f} s"
    )
    losses = residual["losses"]
    lines += ["", words, "", "| epoch | training loss |", "|---|---|"]
    lines += [f"| {epoch} | {loss:.4g} |" for epoch, loss in enumerate(losses, 1)]
    return "\n".join(lines) + "\n"


def _saved(file: Path, panels: int, fill: Callable[..., None]) -> None:
    """Write a figure completely or not at all."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.5 * panels, 3.6), layout="constrained")
    axes = figure.subplots(1, panels)
    fill(*axes)
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    with appearing(file) as target:
        figure.savefig(target, dpi=130)


def draw_methods(rows: Sequence[Row], file: Path) -> None:
    """Plot time, speed-up, difference from autograd and peak memory over T."""

    def fill(left: Any, middle: Any, far: Any, right: Any) -> None:
        for method in METHODS:
            points = [row for row in rows if row["method"] == method]
            x, how = [row["steps"] for row in points], {"color": COLORS[method], "label": method}
            left.plot(x, [1e3 * row["seconds"] for row in points], "o-", **how)
            middle.plot(x, [row["speed_up"] for row in points], "o-", **how)
            if method not in ("bptt", "bptt_indexed"):  # the reference, and the same sums
                far.plot(x, [row["difference"] for row in points], "o-", **how)
            right.plot(x, [row["peak_bytes"] / 1e6 for row in points], "o-", **how)
        left.set(ylabel="forward + backward, ms", yscale="log")
        middle.set(ylabel="times faster than bptt", yscale="log")
        far.set(ylabel="largest difference from bptt, relative")
        far.set_yscale("symlog", linthresh=1e-8)  # there are differences of 0
        right.set(ylabel="peak memory, MB", ylim=(0, None))
        ticks = sorted({row["steps"] for row in rows})
        for axis in (left, middle, far, right):
            axis.set(xlabel="steps T", xscale="log")
            axis.set_xticks(ticks, labels=list(map(str, ticks)))
            axis.minorticks_off()
        left.legend(frameon=False)

    _saved(file, 4, fill)


def draw_depth(depth: Any, residual: Any, file: Path) -> None:
    """Plot gradient norms by layer and the residual network's loss by epoch."""

    def fill(left: Any, right: Any) -> None:
        for row, color in zip(depth["rows"], WIDTHS, strict=True):
            label = f"width {row['width']:.3g}" + (", tuned" if row["tuned"] else "")
            left.plot(range(1, len(row["norms"]) + 1), row["norms"], color=color, label=label)
        left.set(xlabel="layer", ylabel="norm of the weights' gradient", yscale="log")
        left.legend(frameon=False)
        losses = residual["losses"]
        right.plot(range(1, len(losses) + 1), losses, "o-", color=WIDTHS[0])
        title = f"residual network, {residual['depth']} layers"
        right.set(xlabel="epoch", ylabel="training loss", xticks=range(1, len(losses) + 1), title=title)

    _saved(file, 2, fill)
