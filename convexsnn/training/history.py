"""The history of a training: one row per round, the best round on held-out samples, and the stopping rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Generic, TypeVar

import numpy as np

from convexsnn.arrays import is_number, is_whole
from convexsnn.training.budget import Budget
from convexsnn.training.score import Score

Row = TypeVar("Row")


def plain(rows: Sequence[Any]) -> list[dict[str, Any]]:
    """Return rows, which are dataclasses, as dicts of plain numbers and lists for JSON."""
    tables = [asdict(row) for row in rows]
    return [{k: list(v) if isinstance(v, tuple) else v for k, v in table.items()} for table in tables]


def read_rows(kind: type[Row], tables: Any) -> tuple[Row, ...]:
    """Return rows of the dataclass `kind` from the tables of `plain`.

    Raises
    ------
    TypeError
        A table does not describe a row, or is not the one of its round.
    """
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise TypeError("history: expected one table for each round")
    types = {f.name: str(f.type) for f in fields(kind)}  # type: ignore[arg-type]
    counted, rows = next(iter(types)), []
    for k, table in enumerate(tables, start=1):
        values = {
            name: _read(f"history: {name}", types.get(name, ""), value) for name, value in table.items()
        }
        if values.get(counted) != k:
            raise TypeError(f"history: {counted} {values.get(counted)!r} in place {k}")
        rows.append(kind(**values))
    return tuple(rows)


def _read(name: str, kind: str, value: Any) -> Any:
    """Return a value of JSON as the field of a row has it; `kind` is the type written at the field."""
    if value is None and kind.endswith("| None"):
        return None
    if kind.startswith("tuple"):
        if not isinstance(value, list):
            raise TypeError(f"{name}: expected a list, got {value!r}")
        return tuple(_read(name, "float", one) for one in value)
    if not (is_whole(value) if kind == "int" else is_number(value)):
        raise TypeError(f"{name}: expected {kind or 'no such key'}, got {value!r}")
    return value


@dataclass(frozen=True)
class History(Generic[Row]):
    """The rounds so far.

    Attributes
    ----------
    rows : tuple
        One dataclass per round.
    best_value : float
        Largest `Score.value` on held-out samples; −inf before the first round.
    best_round : int
        Round of that value, counted from 1; 0 before the first round.
    """

    rows: tuple[Row, ...] = ()
    best_value: float = -np.inf
    best_round: int = 0

    def __len__(self) -> int:
        return len(self.rows)

    def after(self, row: Row, held_out: Score | None) -> History[Row]:
        """Return the history with one more round; a score of NaN is never the best."""
        longer = replace(self, rows=(*self.rows, row))
        if held_out is not None and held_out.value > self.best_value:
            return replace(longer, best_value=held_out.value, best_round=len(longer.rows))
        return longer

    @classmethod
    def read(cls, kind: type[Row], tables: Any, best_value: float, best_round: float) -> History[Row]:
        """Return the history that a file holds; `tables` as for `read_rows`.

        Raises
        ------
        TypeError
            As `read_rows`; or no such round, or a best value that does not belong to it.
        """
        rows = read_rows(kind, tables)
        if best_round not in range(len(rows) + 1) or np.isfinite(best_value) != (best_round > 0):
            raise TypeError(f"history: best value {best_value} in round {best_round} of {len(rows)}")
        return History(rows, best_value, int(best_round))

    @property
    def improved(self) -> bool:
        """Whether the last round is the best on held-out samples."""
        return len(self.rows) > 0 and self.best_round == len(self.rows)

    def stopped(self, most: int, unit: str, patience: int | None, budget: Budget) -> str | None:
        """Return the rule that stops the training; None to continue.

        Parameters
        ----------
        most : int
            Largest number of rounds.
        unit : str
            Name of the rule that counts rounds: "epochs" or "iterations".
        patience : int or None
            Rounds without a better score on held-out samples; None if no samples are held out.

        Returns
        -------
        "validation", `unit`, "time" or None
        """
        if patience and self.rows and len(self.rows) - self.best_round >= patience:
            return "validation"
        if len(self.rows) >= most:
            return unit
        return "time" if budget.is_over else None
