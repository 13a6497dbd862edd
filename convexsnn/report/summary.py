"""A solved problem in words: what ``convexsnn solve`` prints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CLAIMS = {
    "optimal_on_dictionary": "no network over these {patterns} patterns is better by more than the gap",
    "optimal_global": "no network of this architecture is better by more than the gap, whatever its patterns",
    "bounded": "stopped before the tolerance {tolerance:g}; the gap below holds over all patterns",
    "limit": "stopped before the tolerance {tolerance:g}; the gap below holds",
}
SCOPES = {"dictionary": "on the dictionary", "all_patterns": "over all patterns, proved by: {oracle}"}


def distance_text(summary: Mapping[str, Any]) -> str:
    """Return the lines for a summary as `Distance.summary` makes it."""
    best = summary["optimum"]
    if summary["gap"] is None:
        said = f"not known ({summary['not_covered']})"
    else:
        said = f"{summary['gap']:.3g} at most, of its objective"
    lines = [
        f"{summary['problem']}: {said} from the optimum",
        f"  this network   {summary['objective']:.10g}  ({summary['units']} hidden units, "
        f"smallest margin {summary['min_margin']:.3g})",
        f"  best found     {best['objective']:.10g}  ({best['units']} hidden units, {best['status']})",
        f"  lower bound    {best['lower_bound']:.10g}  "
        + SCOPES[best["scope"]].format(oracle=best["oracle"]),
    ]
    if summary["train_accuracy"] is not None:
        lines.append(f"  accuracy       {summary['train_accuracy']:.4f} on training data")
    return "\n".join(lines)


def summary_text(summary: Mapping[str, Any]) -> str:
    """Return the lines for a summary as `Result.summary` makes it."""
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
        test = (
            "no test set"
            if summary["test_accuracy"] is None
            else f"{summary['test_accuracy']:.4f} on test data"
        )
        lines.append(f"  accuracy      {summary['train_accuracy']:.4f} on training data, {test}")
    if baseline := summary.get("baseline"):
        if baseline["train_accuracy"] is not None:
            test = baseline["test_accuracy"]
            lines.append(
                f"  ridge readout {baseline['train_accuracy']:.4f} on training data, "
                + ("no test set" if test is None else f"{test:.4f} on test data")
                + f", all {baseline['units']} units"
            )
    seconds = summary["seconds"]
    parts = ", ".join(f"{name} {value:.2f}" for name, value in seconds.items() if name != "total")
    lines.append(f"  seconds       {seconds['total']:.2f} ({parts})")
    if summary["out"]:
        lines.append(f"  written to    {summary['out']}; check it with: convexsnn verify {summary['out']}")
    return "\n".join(lines)
