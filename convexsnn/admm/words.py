"""Text of an ADMM training and of its verification, as ``convexsnn solve`` and ``verify`` print it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from convexsnn.training.words import ending, on_test


def admm_text(summary: Mapping[str, Any]) -> str:
    """Return the lines for a summary of `AdmmResult.summary`."""
    iterations = summary["iterations"]
    first, last = (iterations[k] if iterations else None for k in (0, -1))
    lines = [
        f"{summary['problem']}: {summary['status']} (stopped by {summary['stopped_by']} after "
        f"{len(iterations)} iterations)",
        f"  bound, gap    none: {summary['scope']}",
        f"  objective     {summary['objective']:.10g}, mean loss of the simulated network on training data",
    ]
    if summary["train_accuracy"] is not None:
        parts = [f"{summary['train_accuracy']:.4f} on training data"]
        if summary["validation_accuracy"] is not None:
            parts.append(f"{summary['validation_accuracy']:.4f} at best on held-out samples")
        lines.append(f"  accuracy      {', '.join([*parts, on_test(summary['test_accuracy'])])}")
    if first is not None and last is not None:
        rates = ", ".join(f"{rate:.3f}" for rate in last["rates"])
        lines += [
            f"  residuals     primal {first['primal_residual']:.3g} -> {last['primal_residual']:.3g}, "
            f"dual {first['dual_residual']:.3g} -> {last['dual_residual']:.3g}",
            f"  network       {summary['units']} hidden units, firing in {rates} of all steps, by layer",
        ]
        if last["bytes_sent"]:
            lines.append(
                f"  traffic       {last['bytes_sent']} bytes to workers, {last['bytes_received']} back"
            )
    lines.append("  simulation    confirms accuracy and loss of the saved network")
    return "\n".join([*lines, *ending(summary)])


def confirmed_text(claim: Mapping[str, Any]) -> str:
    """Return the lines for a claim of ADMM that the simulation confirmed."""
    lines = [
        f"accepted: {claim['problem']}, a network of ADMM",
        f"  scope             {claim['scope']}: the score of this network; no bound over other networks",
        f"  stated, unchecked {claim['status']}, the end of the training",
    ]
    for name in ("objective", "train_accuracy", "test_accuracy"):
        lines.append(f"  {name:<17} {'none' if claim[name] is None else format(claim[name], '.10g')}")
    return "\n".join(lines)
