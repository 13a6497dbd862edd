"""The history of a training: a row a round, the best round on held-out samples, and what stops it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Generic, TypeVar

import numpy as np

from convexsnn.training.budget import Budget
from convexsnn.training.score import Score

Row = TypeVar("Row")


def plain(rows: Sequence[Any]) -> list[dict[str, Any]]:
    """Return rows, which are dataclasses, as plain numbers and lists, ready for JSON."""
    tables = [asdict(row) for row in rows]
    return [{k: list(v) if isinstance(v, tuple) else v for k, v in table.items()} for table in tables]


def read_rows(kind: type[Row], tables: Sequence[dict[str, Any]]) -> tuple[Row, ...]:
    """Return the rows that `plain` made plain.

    Raises
    ------
    TypeError
        A table that is none of a row.
    """
    if not all(isinstance(table, dict) for table in tables):
        raise TypeError("history: expected a table a round")
    lists = {f.name for f in fields(kind) if str(f.type).startswith("tuple")}  # type: ignore[arg-type]
    return tuple(kind(**{k: tuple(v) if k in lists else v for k, v in table.items()}) for table in tables)


@dataclass(frozen=True)
class History(Generic[Row]):
    """Rounds so far.

    Attributes
    ----------
    rows : tuple
        A dataclass a round.
    best_value : float
        Largest `Score.value` on held-out samples; −inf before the first.
    best_round : int
        Its round, counted from 1; 0 before the first.
    """

    rows: tuple[Row, ...] = ()
    best_value: float = -np.inf
    best_round: int = 0

    def __len__(self) -> int:
        return len(self.rows)

    def after(self, row: Row, held_out: Score | None) -> History[Row]:
        """Return the history with one round more; a score that is not a number is never the best."""
        grown = replace(self, rows=(*self.rows, row))
        if held_out is not None and held_out.value > self.best_value:
            return replace(grown, best_value=held_out.value, best_round=len(grown.rows))
        return grown

    @property
    def improved(self) -> bool:
        """Whether the last round is the best on held-out samples."""
        return len(self.rows) > 0 and self.best_round == len(self.rows)

    def stopped(self, most: int, unit: str, patience: int | None, budget: Budget) -> str | None:
        """Return the rule that ends the training, None to go on.

        Parameters
        ----------
        most : int
            Rounds at most.
        unit : str
            Name of the rule that they are done: "epochs" or "iterations".
        patience : int or None
            Rounds without a better score on held-out samples; None where nothing is held out.

        Returns
        -------
        "validation", `unit`, "time" or None
        """
        if patience and self.rows and len(self.rows) - self.best_round >= patience:
            return "validation"
        if len(self.rows) >= most:
            return unit
        return "time" if budget.is_over else None
