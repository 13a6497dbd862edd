"""What every road gives back: a result that speaks for itself, and a folder that can be confirmed again."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from convexsnn.networks import Network
from convexsnn.problem import Problem


class TrainingResult(Protocol):
    """A trained network with what was shown of it."""

    @property
    def problem(self) -> Problem:
        """The problem, as it was trained."""

    @property
    def network(self) -> Network:
        """The trained network."""

    @property
    def status(self) -> str:
        """What was shown, in one word."""

    @property
    def curves(self) -> list[dict[str, Any]]:
        """Rounds of the training as plain numbers, for plots; empty where there is nothing to draw."""

    def summary(self) -> dict[str, Any]:
        """Return plain numbers and words, the object that ``solve --json`` prints."""

    def text(self, out: str | None = None) -> str:
        """Return the lines that ``convexsnn solve`` prints; `out` is the folder that was written."""

    def save(
        self,
        folder: str | os.PathLike[str],
        *,
        force: bool = False,
        also: Callable[[Path], None] | None = None,
    ) -> None:
        """Write a new folder, whole or not at all; `also` adds files before it takes its place."""


class Confirmed(Protocol):
    """A folder whose claim was computed again and holds."""

    def summary(self) -> dict[str, Any]:
        """Return the object that ``verify --json`` prints."""

    def text(self) -> str:
        """Return the lines that ``convexsnn verify`` prints."""
