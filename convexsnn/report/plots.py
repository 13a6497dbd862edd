"""Plots; matplotlib comes with the extra `notebook`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from convexsnn.errors import NotInstalled, ProblemFileError
from convexsnn.files import appearing, with_folder

ENDINGS = (".png", ".svg", ".pdf")
TRAINING, HELD_OUT, UNITS, CHOSEN = "#0072b2", "#d55e00", "#4d4d4d", "#999999"


def check_plot(file: Path, force: bool = False) -> None:
    """Raise the errors of `plot_path` in advance, before a long run.

    Raises
    ------
    ProblemFileError
        Another ending than .png, .svg, .pdf; no such folder; a file that exists (without `force`).
    NotInstalled
        matplotlib is not installed.
    """
    if file.suffix not in ENDINGS:
        raise ProblemFileError(f"plot: {file}: expected a name that ends in {', '.join(ENDINGS)}")
    with_folder("plot", file)
    if file.is_dir() or (file.exists() and not force):
        raise ProblemFileError(f"plot: {file}: exists; choose another name, or replace it with force")
    if find_spec("matplotlib") is None:
        raise NotInstalled("plot: needs matplotlib; pip install 'convexsnn[notebook]'")


def plot_path(summary: Mapping[str, Any], file: str | os.PathLike[str], *, force: bool = False) -> None:
    """Draw loss, accuracy and units against λ; the file is written completely or not at all.

    Parameters
    ----------
    summary : mapping
        A `RegularizationPath.summary`, or the content of ``path.json``.

    Raises
    ------
    ProblemFileError, NotInstalled
        As `check_plot`.
    """
    file = Path(file)
    check_plot(file, force)
    try:
        with appearing(file) as target:
            _path_figure(summary).savefig(target, dpi=150)
    except OSError as error:
        raise ProblemFileError(f"plot: {file}: {error.strerror or error}") from error


def _path_figure(summary: Mapping[str, Any]) -> Any:
    from matplotlib.figure import Figure

    rows, chosen = summary["rows"], summary["chosen"]
    panels = ["loss"] + ["accuracy"] * (rows[0]["train_accuracy"] is not None)
    x = [row["fraction"] for row in rows]
    figure = Figure(figsize=(6.4, 1.2 + 1.9 * (len(panels) + 1)), layout="constrained")
    axes = figure.subplots(len(panels) + 1, 1, sharex=True)
    for axis, name in zip(axes, panels, strict=False):
        for part, words, color in (("train", "training", TRAINING), ("validation", "held out", HELD_OUT)):
            values = [row[f"{part}_{name}"] for row in rows]
            if values[0] is not None:
                axis.plot(x, values, "o-", color=color, markersize=3.5, linewidth=1.3, label=words)
        axis.set_ylabel(f"{summary['loss'].replace('_', ' ')} loss" if name == "loss" else name)
    if summary["held_out"]:
        axes[0].legend(frameon=False)
    axes[-1].plot(x, [row["units"] for row in rows], "o-", color=UNITS, markersize=3.5, linewidth=1.3)
    axes[-1].set_ylabel("units in use")
    axes[-1].yaxis.get_major_locator().set_params(integer=True)
    axes[-1].set_xlabel(f"λ as a share of λ_max = {summary['regularization_max']:.4g}")
    axes[-1].set_xscale("log")
    axes[-1].xaxis.set_major_formatter("{x:g}")
    axes[-1].invert_xaxis()
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="y", color="#e6e6e6", linewidth=0.6)
        if chosen is not None:
            axis.axvline(x[chosen], color=CHOSEN, linewidth=1.0, linestyle="--", zorder=0)
    if chosen is not None:
        axes[0].set_title(f"{summary['problem']}: dashed, the λ chosen on the samples held out", fontsize=10)
    else:
        axes[0].set_title(f"{summary['problem']}", fontsize=10)
    return figure


PRIMAL, DUAL = "#0072b2", "#d55e00"


def draw_curves(iterations: Sequence[Mapping[str, Any]], file: Path) -> None:
    """Draw residuals, loss and accuracy of an ADMM training against iterations, if matplotlib is installed.

    Parameters
    ----------
    iterations : sequence of mappings
        As in ``admm.json``.
    """
    if find_spec("matplotlib") is None or not iterations:
        return
    from matplotlib.figure import Figure

    x = [row["iteration"] for row in iterations]
    panels = ["residual", "loss"] + ["accuracy"] * (iterations[0]["train_accuracy"] is not None)
    figure = Figure(figsize=(6.4, 1.0 + 1.9 * len(panels)), layout="constrained")
    axes = figure.subplots(len(panels), 1, sharex=True)
    for name, color in (("primal", PRIMAL), ("dual", DUAL)):
        axes[0].plot(x, [row[f"{name}_residual"] for row in iterations], color=color, label=name)
    axes[0].set_yscale("log")
    for axis, name in zip(axes[1:], panels[1:], strict=True):
        key = "loss" if name == "loss" else "train_accuracy"
        axis.plot(x, [row[key] for row in iterations], color=TRAINING, label="training")
        held_out = [row[f"validation_{name}"] for row in iterations]
        if held_out[0] is not None:
            axis.plot(x, held_out, color=HELD_OUT, label="held out")
    for axis, name in zip(axes, panels, strict=True):
        axis.set_ylabel(name if name != "loss" else "loss, simulated")
        axis.legend(frameon=False)
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(axis="y", color="#e6e6e6", linewidth=0.6)
    axes[-1].set_xlabel("iteration")
    axes[-1].xaxis.get_major_locator().set_params(integer=True)
    figure.savefig(file, dpi=150)
