"""The programs that each solver takes, as a Markdown table."""

from __future__ import annotations

import numpy as np

from convexsnn.bits import PackedBits
from convexsnn.programs import LOSSES, PENALTIES, L1Program
from convexsnn.solvers import SOLVERS, Capabilities

WRITTEN = {"l1": "ℓ1"}  # names that the table replaces


def solver_table() -> str:
    """Return one row per solver: its penalties and gaps for each loss, then its other capabilities."""
    heads = ["solver", *(f"`{loss}`" for loss in LOSSES), "duals", "start", "time limit", "extra"]
    rows = [heads, ["---"] * len(heads)]
    for name, cls in SOLVERS.items():
        can = cls.capabilities
        flags = ["yes" if flag else "no" for flag in (can.duals, can.warm_start, can.time_limit)]
        extra = f"`{can.extra}`" if can.extra else ""
        rows.append([f"`{name}`", *(_taken(can, loss) for loss in LOSSES), *flags, extra])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _taken(capabilities: Capabilities, loss: str) -> str:
    """Return the penalties that a solver takes with a loss, each with its gap."""
    penalties = []
    targets = np.array([[1.0, LOSSES[loss].low_target]])
    for name, penalty in PENALTIES.items():
        one = PackedBits.from_array(np.ones((1, 1)))
        program = L1Program(one, targets, LOSSES[loss], 1.0, penalty=penalty.for_columns(1))
        if capabilities.refusal(program) is None:
            gap = f"{capabilities.gap[program.kind]:.0e}".replace("e-0", "e-")
            penalties.append(
                f"{WRITTEN.get(name, name)} {gap}{'*' if loss in capabilities.whole_weights else ''}"
            )
    return ", ".join(penalties) or "–"
