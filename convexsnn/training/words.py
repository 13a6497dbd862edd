"""Lines that the texts of all trainings share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def on_test(accuracy: float | None) -> str:
    """Return the words for an accuracy on the test set; None without one."""
    return "no test set" if accuracy is None else f"{accuracy:.4f} on test data"


def ending(summary: Mapping[str, Any]) -> list[str]:
    """Return the last lines of a summary: its seconds, and its folder if it has one."""
    seconds, out = summary["seconds"], summary["out"]
    parts = ", ".join(f"{name} {value:.2f}" for name, value in seconds.items() if name != "total")
    written = f"  written to    {out}; check it with: convexsnn verify {out}"
    return [f"  seconds       {seconds['total']:.2f} ({parts})", *([written] if out else [])]
