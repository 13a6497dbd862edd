"""Which solver takes which program as a Markdown table, as the README shows it."""

from __future__ import annotations

import numpy as np

from convexsnn.bits import PackedBits
from convexsnn.programs import L1, LOSSES, Group, L1Program, Penalty
from convexsnn.solvers import SOLVERS, Capabilities, kind_of

PENALTIES: dict[str, Penalty] = {"ℓ1": L1(), "group": Group(np.zeros(1, dtype=np.int64))}


def solver_table() -> str:
    """Return one row a solver: by loss the penalties and the gaps that it reaches, then what else it does."""
    heads = ["solver", *(f"`{loss}`" for loss in LOSSES), "duals", "start", "time limit", "extra"]
    rows = [heads, ["---"] * len(heads)]
    for name, (cls, _) in SOLVERS.items():
        can = cls.capabilities
        flags = ["yes" if flag else "no" for flag in (can.duals, can.warm_start, can.time_limit)]
        extra = f"`{can.extra}`" if can.extra else ""
        rows.append([f"`{name}`", *(_taken(can, loss) for loss in LOSSES), *flags, extra])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _taken(capabilities: Capabilities, loss: str) -> str:
    """Return the penalties under which a solver takes a loss, each with its gap."""
    found = []
    for name, penalty in PENALTIES.items():
        targets = np.array([[1.0, 0.0 if loss == "softmax" else -1.0]])
        program = L1Program(
            PackedBits.from_array(np.ones((1, 1))), targets, LOSSES[loss], 1.0, penalty=penalty
        )
        if capabilities.refusal(program) is None:
            gap = f"{capabilities.gap[kind_of(program)]:.0e}".replace("e-0", "e-")
            found.append(f"{name} {gap}{'*' if loss in capabilities.whole_weights else ''}")
    return ", ".join(found) or "–"
