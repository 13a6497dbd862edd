"""The benchmark of gradients: its measurements and its files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from convexsnn.bench import gradient_depth as benchmark_depth
from convexsnn.bench.gradient_layers import SIZES, run_all
from convexsnn.bench.gradient_report import depth_table, draw_depth, draw_methods, methods_table
from convexsnn.bench.machine import conditions
from convexsnn.bench.plot import can_draw
from convexsnn.bench.run import write_text
from convexsnn.tasks.images import shuffled_digits

TRAINING_STEP = {"steps": 250, "batch": 128}


def run_gradients(
    layer: dict[str, Any], repeat: int, device: str, long: bool, out: Path, report: Callable[[str], None]
) -> tuple[dict[str, Any], str, list[str]]:
    """Measure, and write results.json, table.md and plots to an empty folder.

    Parameters
    ----------
    layer : dict
        steps, a list of T; batch; units.
    long : bool
        Also training steps, gradient norms over fifty layers, and a residual network's loss.
    report : callable
        Called with a line of text after every measurement.

    Returns
    -------
    values, text, files
        The contents of results.json and table.md, and the names of all files.

    Raises
    ------
    ConvexSNNError, NotInstalled
        A measurement process failed, or the images of the residual network are not installed.
    """

    def say(row: Any) -> None:
        words = f"T = {row['steps']:<5} {row['method']:<13} {1e3 * row['seconds']:9.3f} ms"
        report(f"{words}  {row['speed_up']:6.2f} times")

    if long:
        shuffled_digits("bench gradients", 0)  # raises before the measurements if the images are missing
    where = {"repeat": repeat, "device": device}
    sizes = [{"steps": t} for t in layer["steps"]]
    batch, units = layer["batch"], layer["units"]
    rows = run_all("layer", sizes, say, batch=batch, units=units, **where)
    title = f"One LIF layer, {batch} samples × {units} units, float32, {device}"
    around = {k: v for k, v in conditions(0.0, 0.0, repeat).items() if k not in ("tolerance", "time_limit")}
    values: dict[str, Any] = {"title": title, "device": device, "conditions": around, "results": rows}
    text = methods_table(rows, title)
    if long:
        values["training_step"] = run_all("step", [TRAINING_STEP], say, **where)
        values["depth"] = benchmark_depth.norms_by_width()
        values["residual"] = benchmark_depth.residual_losses(device, report)
        chain = "→".join(map(str, SIZES))
        words = f"A training step, {chain}, {TRAINING_STEP['batch']} samples, float32, {device}"
        text += "\n" + methods_table(values["training_step"], words)
        text += "\n" + depth_table(values["depth"], values["residual"])
    write_text(out / "results.json", json.dumps(values, indent=1, allow_nan=False) + "\n")
    write_text(out / "table.md", text)
    files = ["results.json", "table.md"]
    if can_draw():
        draw_methods(rows, out / "gradients.png")
        files.append("gradients.png")
        if long:
            draw_depth(values["depth"], values["residual"], out / "depth.png")
            files.append("depth.png")
    return values, text, files
