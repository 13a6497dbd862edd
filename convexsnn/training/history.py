"""The history of a training: one row per round, the best round on held-out samples, and the stopping rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Generic, TypeVar

import numpy as np

from convexsnn.training.budget import Budget
from convexsnn.training.score import Score

Row = TypeVar("Row")


def plain(rows: Sequence[Any]) -> list[dict[str, Any]]:
    """Return rows, which are dataclasses, as dicts of plain numbers and lists for JSON."""
    tables = [asdict(row) for row in rows]
    return [{k: list(v) if isinstance(v, tuple) else v for k, v in table.items()} for table in tables]


def read_rows(kind: type[Row], tables: Sequence[dict[str, Any]]) -> tuple[Row, ...]:
    """Return rows of the dataclass `kind` from the tables of `plain`.

    Raises
    ------
    TypeError
        A table does not describe a row.
    """
    if not all(isinstance(table, dict) for table in tables):
        raise TypeError("history: expected one table for each round")
    lists = {f.name for f in fields(kind) if str(f.type).startswith("tuple")}  # type: ignore[arg-type]
    return tuple(kind(**{k: tuple(v) if k in lists else v for k, v in table.items()}) for table in tables)


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
