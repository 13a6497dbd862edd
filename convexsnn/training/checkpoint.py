"""The file of a training that goes on later: plain arrays with a format, an identity and a digest.

format     number of the layout; a file of another number is refused with what to do
identity   JSON of all that must be the same for a run to go on: problem, data, settings
digest     SHA-256 of every other array with its shape: a file that was altered or damaged is refused
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from convexsnn.arrays import digest, read_npz, write_npz
from convexsnn.errors import ProblemFileError


@dataclass(frozen=True)
class CheckpointFile:
    """One kind of checkpoint at one place.

    Attributes
    ----------
    format : int
        Number of the layout that this version writes and reads.
    identity : dict
        What must be the same, as plain numbers and words.
    of : str
        What an error says that a file of another identity may differ in.
    """

    path: Path
    format: int
    identity: Mapping[str, Any]
    of: str

    @property
    def exists(self) -> bool:
        """Whether there is a file to go on from."""
        return self.path.exists()

    def _identity(self) -> str:
        return json.dumps(self.identity, sort_keys=True)

    def write(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Write a checkpoint, whole or not at all.

        Raises
        ------
        ProblemFileError
            It cannot be written; what was there stays.
        """
        whole = {
            "format": np.asarray(self.format),
            "identity": np.asarray(self._identity()),
            **{name: np.asarray(value) for name, value in arrays.items()},
        }
        whole["digest"] = np.asarray(digest(**whole))
        try:
            write_npz(self.path, whole)
        except OSError as error:
            raise ProblemFileError(f"checkpoint: {self.path}: {error.strerror or error}") from error

    @contextmanager
    def reading(self) -> Iterator[dict[str, np.ndarray]]:
        """Yield the arrays; what the block cannot use of them is a damaged checkpoint.

        Raises
        ------
        ProblemFileError
            Missing, damaged or altered, of another format, or of another identity; the message has the path.
        """
        arrays = read_npz(self.path)
        try:
            if int(arrays["format"]) != self.format:
                raise ProblemFileError(
                    f"{self.path}: checkpoint format {arrays['format']}, this version reads {self.format}; "
                    "finish it with the version that wrote it, or choose another file to begin anew"
                )
            if str(arrays["identity"]) != self._identity():
                raise ProblemFileError(f"{self.path}: a checkpoint of {self.of}; choose another file")
            if str(arrays.pop("digest")) != digest(**arrays):
                raise ProblemFileError(
                    f"{self.path}: damaged or altered checkpoint: its digest is of other values"
                )
            yield arrays
        except ProblemFileError as error:
            if str(self.path) in str(error):
                raise
            raise ProblemFileError(f"{self.path}: damaged checkpoint: {error}") from error
        except (KeyError, ValueError, TypeError, RuntimeError) as error:
            words = f"no {error}" if isinstance(error, KeyError) else error
            raise ProblemFileError(f"{self.path}: damaged, or no checkpoint: {words}") from error
