"""Text of convex results, as ``convexsnn solve``, ``path`` and ``gap`` print it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from convexsnn.training.words import ending, on_test

CLAIMS = {
    "optimal_on_dictionary": "no network over these {patterns} patterns is better by more than the gap",
    "optimal_global": "no network of this architecture is better by more than the gap, with any patterns",
    "bounded": "stopped before the tolerance {tolerance:g}; the gap below holds over all patterns",
    "limit": "stopped before the tolerance {tolerance:g}; the gap below holds",
}
SCOPES = {"dictionary": "on the dictionary", "all_patterns": "over all patterns, proved by: {oracle}"}


def distance_text(summary: Mapping[str, Any]) -> str:
    """Return the text of a `Distance.summary`."""
    best = summary["optimum"]
    if summary["gap"] is None:
        gap = f"not known ({summary['not_covered']})"
    else:
        gap = f"{summary['gap']:.3g} at most, of its objective"
    lines = [
        f"{summary['problem']}: {gap} from the optimum",
        f"  this network   {summary['objective']:.10g}  ({summary['units']} hidden units, "
        f"smallest margin {summary['min_margin']:.3g})",
        _readout_line(summary),
        f"  best found     {best['objective']:.10g}  ({best['units']} hidden units, {best['status']})",
        f"  lower bound    {best['lower_bound']:.10g}  "
        + SCOPES[best["scope"]].format(oracle=best["oracle"]),
    ]
    if summary["train_accuracy"] is not None:
        lines.append(f"  accuracy       {summary['train_accuracy']:.4f} on training data")
    return "\n".join(lines)


def _readout_line(summary: Mapping[str, Any]) -> str:
    readout = summary["readout"]
    if readout is None:
        return f"  its readout    not solved ({summary['no_readout']})"
    return (
        f"  its readout    {readout['objective']:.10g}  (convex, on its {readout['patterns']} patterns, "
        f"{readout['units']} in use)"
    )


def summary_text(summary: Mapping[str, Any]) -> str:
    """Return the text of a `Result.summary`."""
    lines = [
        f"{summary['problem']}: {summary['status']} ({CLAIMS[summary['status']].format(**summary)})",
        f"  objective     {summary['objective']:.10g}",
        f"  lower bound   {summary['lower_bound']:.10g}  {SCOPES[summary['scope']].format(**summary)}",
        f"  relative gap  {summary['gap']:.3g}  by {summary['solver']}",
    ]
    if summary["expected"] is not None:
        lines.append(f"  known optimum {summary['expected']:.10g}")
    lines += [
        f"  network       {summary['units']} hidden units, smallest margin {summary['min_margin']:.3g}",
        f"  simulation    confirms every spike; largest output error {summary['max_output_error']:.3g}",
    ]
    if summary["train_accuracy"] is not None:
        lines.append(f"  accuracy      {_accuracies(summary)}")
    baseline = summary.get("baseline")
    if baseline and baseline["train_accuracy"] is not None:
        lines.append(f"  ridge readout {_accuracies(baseline)}, all {baseline['units']} units")
    trained = summary.get("trained", ())
    lines += [_trained_line(k, row) for k, row in enumerate(trained, 1)]
    if len(trained) < summary.get("trained_of", 0):
        lines.append(f"  the time was over after {len(trained)} of {summary['trained_of']} networks")
    return "\n".join([*lines, *ending(summary)])


def _accuracies(values: Mapping[str, Any]) -> str:
    return f"{values['train_accuracy']:.4f} on training data, {on_test(values['test_accuracy'])}"


def _trained_line(number: int, row: Mapping[str, Any]) -> str:
    parts = [f"objective {row['objective']:.6g}"]
    for name, data in (("train_accuracy", "training"), ("test_accuracy", "test")):
        if row[name] is not None:
            parts.append(f"{row[name]:.4f} on {data} data")
    ended = f"; stopped by time after {row['rounds']} rounds" if row["stopped_by"] == "time" else ""
    what = f"{row['units']} hidden units, before the program{ended}"
    return f"  {f'trained {number}':13} {', '.join(parts)}; {what}"


def path_text(summary: Mapping[str, Any]) -> str:
    """Return the table of λ and the chosen row, for a `RegularizationPath.summary`."""
    rows, chosen = summary["rows"], summary["chosen"]
    held_out = f", {summary['held_out']} held out by seed {summary['seed']}" if summary["held_out"] else ""
    lines = [
        f"{summary['problem']}: {len(rows)} of {summary['count']} values of λ, from λ_max = "
        f"{summary['regularization_max']:.6g} down; {summary['samples']} samples{held_out}; "
        f"{summary['patterns']} patterns",
        *_path_table(rows, chosen),
    ]
    open_rows = sum(row["gap"] > summary["tolerance"] for row in rows)
    if open_rows:
        lines.append(f"  gap above the tolerance {summary['tolerance']:g} in {open_rows} rows")
    if len(rows) < summary["count"]:
        lines.append("  the time limit came before the end of the path")
    if chosen is not None:
        by = "loss" if rows[chosen]["validation_accuracy"] is None else "accuracy"
        lines.append(f"* chosen by {by} on the samples held out: λ = {rows[chosen]['regularization']:.10g}")
        if summary["result"] is None:
            lines.append("  not trained on all samples: the time was over")
        else:
            lines += ["on all samples", summary_text({**summary["result"], "out": summary.get("out")})]
    elif summary.get("out"):
        lines.append(f"  written to    {summary['out']}")
    return "\n".join(lines)


def _path_table(rows: list[dict[str, Any]], chosen: int | None) -> list[str]:
    heads = {
        "regularization": ("λ", "#.6g"), "fraction": ("λ/λ_max", ".4f"), "units": ("units", "d"),
        "objective": ("objective", "#.6g"), "gap": ("gap", ".1e"), "train_loss": ("loss", "#.4g"),
        "train_accuracy": ("accuracy", ".4f"), "validation_loss": ("loss held out", "#.4g"),
        "validation_accuracy": ("accuracy held out", ".4f"), "seconds": ("seconds", ".2f"),
        "start_used": ("started", ""),
    }  # fmt: skip
    heads = {key: head for key, head in heads.items() if any(row[key] is not None for row in rows)}
    table = [[word for word, _ in heads.values()]]
    for row in rows:
        cells = {**row, "start_used": "from last" if row["start_used"] else "anew"}
        table.append([f"{cells[key]:{style}}" for key, (_, style) in heads.items()])
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    marks = [" ", *("*" if k == chosen else " " for k in range(len(rows)))]
    return [
        f"{mark} " + "  ".join(f"{cell:>{width}}" for cell, width in zip(line, widths, strict=True))
        for mark, line in zip(marks, table, strict=True)
    ]
