"""The table of keys: every key of a problem file has a row with what it takes and its meaning."""

from convexsnn.problem.tables import SCHEMA
from convexsnn.report.keys_table import schema_table


def test_every_key_has_a_row():
    rows = schema_table().splitlines()[2:]
    keys = [f"{section}.{name}" if section else name for section, of in SCHEMA.items() for name in of]
    assert [row.split("|")[1].strip() for row in rows] == [f"`{key}`" for key in keys] and len(keys) > 90
    for row, key in zip(rows, [key for of in SCHEMA.values() for key in of.values()], strict=True):
        assert row.endswith(f"| {' '.join(key.meaning.split())} |")
        assert all(f"`{choice}`" in row for choice in key.choices)


def test_a_required_key_says_so():
    assert "| `name` | text | required | short name |" in schema_table()
