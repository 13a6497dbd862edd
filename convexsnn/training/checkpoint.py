"""The checkpoint file of a training: plain arrays with a format, an identity and a digest.

format     number of the file layout; a file with another number is refused
identity   JSON of everything that a resumed run must share: problem, data, settings
digest     SHA-256 of every other array with its shape; an altered or damaged file is refused
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
    """A kind of checkpoint and the path of its file.

    Attributes
    ----------
    format : int
        Number of the layout that this version writes and reads.
    identity : dict
        Everything that a resumed run must share, as plain numbers and strings.
    of : str
        Text of the error for a file of another identity: "a checkpoint of ...".
    """

    path: Path
    format: int
    identity: Mapping[str, Any]
    of: str

    @property
    def exists(self) -> bool:
        """Whether the file exists."""
        return self.path.exists()

    def _identity(self) -> str:
        return json.dumps(self.identity, sort_keys=True)

    def write(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Write a checkpoint, completely or not at all.

        Raises
        ------
        ProblemFileError
            The file cannot be written; an earlier file stays unchanged.
        """
        contents = {
            "format": np.asarray(self.format),
            "identity": np.asarray(self._identity()),
            **{name: np.asarray(value) for name, value in arrays.items()},
        }
        contents["digest"] = np.asarray(digest(**contents))
        try:
            write_npz(self.path, contents)
        except OSError as error:
            raise ProblemFileError(f"checkpoint: {self.path}: {error.strerror or error}") from error

    @contextmanager
    def reading(self) -> Iterator[dict[str, np.ndarray]]:
        """Yield the arrays; an error of the `with` block in using them means a damaged checkpoint.

        Raises
        ------
        ProblemFileError
            Missing, damaged or altered file, or another format or identity; the message has the path.
        """
        arrays = read_npz(self.path)
        try:
            if int(arrays["format"]) != self.format:
                raise ProblemFileError(
                    f"{self.path}: checkpoint format {arrays['format']}, this version reads {self.format}; "
                    "finish it with the version that wrote it, or choose another file to start again"
                )
            if str(arrays["identity"]) != self._identity():
                raise ProblemFileError(f"{self.path}: a checkpoint of {self.of}; choose another file")
            if str(arrays.pop("digest")) != digest(**arrays):
                raise ProblemFileError(
                    f"{self.path}: damaged or altered checkpoint: its digest does not match its values"
                )
            yield arrays
        except ProblemFileError as error:
            if str(self.path) in str(error):
                raise
            raise ProblemFileError(f"{self.path}: damaged checkpoint: {error}") from error
        except (KeyError, ValueError, TypeError, RuntimeError) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else error
            raise ProblemFileError(f"{self.path}: damaged, or no checkpoint: {reason}") from error


def check_alike(arrays: Mapping[str, np.ndarray], like: Mapping[str, np.ndarray]) -> None:
    """Compare the arrays of a checkpoint with those that the present run would write.

    A digest shows damage and not intent, so that names, types, shapes and values are checked as well. The
    lengths of texts may differ.

    Raises
    ------
    ProblemFileError
        An array is missing or unknown, has another type or shape, or is not finite.
    """
    arrays = {name: array for name, array in arrays.items() if name not in ("format", "identity")}
    for name in sorted(like.keys() ^ arrays.keys()):
        raise ProblemFileError(f"{name}: {'missing' if name in like else 'unknown'}")
    for name, expected in like.items():
        array = arrays[name]
        text = expected.dtype.kind == "U" == array.dtype.kind
        if array.shape != expected.shape or not (text or array.dtype == expected.dtype):
            wanted = "text" if expected.dtype.kind == "U" else f"{expected.dtype} {expected.shape}"
            raise ProblemFileError(f"{name}: expected {wanted}, got {array.dtype} {array.shape}")
        if not text and not np.isfinite(array).all():
            raise ProblemFileError(f"{name}: holds values that are not finite")
