"""The keys of a problem file as a Markdown table, as the README shows it."""

from __future__ import annotations

from convexsnn.fields import EXPECTED, REQUIRED
from convexsnn.problem.tables import SCHEMA


def schema_table() -> str:
    """Return one row per key: name, valid values, default, meaning."""
    rows = ["| key | takes | default | meaning |", "|---|---|---|---|"]
    for section, keys in SCHEMA.items():
        for name, key in keys.items():
            full = f"`{section}.{name}`" if section else f"`{name}`"
            takes = ", ".join(f"`{choice}`" for choice in key.choices) or EXPECTED[key.kind]
            default = "required" if key.default is REQUIRED else key.default
            default = "" if default in (None, {}) else default
            shown = str(default).lower() if isinstance(default, bool) else str(default)
            rows.append(f"| {full} | {takes} | {shown} | {key.meaning} |".replace("  ", " "))
    return "\n".join(rows)
