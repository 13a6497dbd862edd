"""The base of training results and the interface of a verified folder, shared by all training methods."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from convexsnn.training.folder import write_folder


class TrainingResult(ABC):
    """A trained network and the evidence about it."""

    @property
    def curves(self) -> list[dict[str, Any]]:
        """Rounds of the training as plain numbers, for plots; empty if there are none."""
        return []

    @abstractmethod
    def summary(self) -> dict[str, Any]:
        """Return plain numbers and strings, the object that ``solve --json`` prints."""

    @abstractmethod
    def text(self, out: str | None = None) -> str:
        """Return the lines that ``convexsnn solve`` prints; `out` is the folder of the result."""

    def save(
        self,
        folder: str | os.PathLike[str],
        *,
        force: bool = False,
        also: Callable[[Path], None] | None = None,
    ) -> list[str]:
        """Write problem, data, network, claim and manifest into a folder, completely or not at all.

        With `force` the files of an earlier result are replaced, and nothing else in the folder is touched.
        `also` is called with the unfinished folder and may add files.

        Returns
        -------
        list of str
            Names in the folder that are not ours and stay.

        Raises
        ------
        ProblemFileError
            The folder exists and `force` is not set, or it holds no result, or a file in the way that is not
            as it was written; or it cannot be written. Then nothing is changed.
        """
        return write_folder(Path(folder), self.write, force, also)

    @abstractmethod
    def write(self, folder: Path) -> None:
        """Write the files of `save` into an existing folder."""


class Confirmed(Protocol):
    """A folder whose claim was recomputed and confirmed."""

    def summary(self) -> dict[str, Any]:
        """Return the object that ``verify --json`` prints."""

    def text(self) -> str:
        """Return the lines that ``convexsnn verify`` prints."""
