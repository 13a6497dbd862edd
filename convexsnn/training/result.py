"""The interfaces of a training result and of a verified folder, shared by all training methods."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from convexsnn.networks import Network
from convexsnn.problem import Problem


class TrainingResult(Protocol):
    """A trained network and the evidence about it."""

    @property
    def problem(self) -> Problem:
        """The problem that was trained."""

    @property
    def network(self) -> Network:
        """The trained network."""

    @property
    def status(self) -> str:
        """The result of the training in one word."""

    @property
    def curves(self) -> list[dict[str, Any]]:
        """Rounds of the training as plain numbers, for plots; empty if there are none."""

    def summary(self) -> dict[str, Any]:
        """Return plain numbers and strings, the object that ``solve --json`` prints."""

    def text(self, out: str | None = None) -> str:
        """Return the lines that ``convexsnn solve`` prints; `out` is the folder of the result."""

    def save(
        self,
        folder: str | os.PathLike[str],
        *,
        force: bool = False,
        also: Callable[[Path], None] | None = None,
    ) -> None:
        """Write a new folder, completely or not at all; `also` may add files to it."""


class Confirmed(Protocol):
    """A folder whose claim was recomputed and confirmed."""

    def summary(self) -> dict[str, Any]:
        """Return the object that ``verify --json`` prints."""

    def text(self) -> str:
        """Return the lines that ``convexsnn verify`` prints."""
