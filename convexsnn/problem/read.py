"""Problem files: their location and their reading."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from convexsnn.arrays import read_npz
from convexsnn.errors import ConvexSNNError, ProblemFileError
from convexsnn.files import read_toml
from convexsnn.problem.data import DATA_NAMES
from convexsnn.problem.problem import SAVED_DATA, SAVED_WITNESSES, Problem
from convexsnn.problem.tables import read_section
from convexsnn.tasks import generate, nearest

PACKAGE = Path(__file__).parent.parent


def _data(table: Any, folder: Path) -> dict[str, np.ndarray]:
    data = read_section("data", table)
    if (data["file"] is None) == (data["generator"] is None):
        raise ProblemFileError(
            f"data.file: give it, or generator, and not both (got {data['file']!r} and {data['generator']!r})"
        )
    if data["generator"] is not None:
        return generate(data["generator"], data["arguments"])
    arrays = read_npz(folder / data["file"])
    for name in arrays:
        if name not in DATA_NAMES:
            hint = nearest(name, dict.fromkeys(DATA_NAMES))
            raise ProblemFileError(f"{data['file']}: unknown array {name!r}{hint}")
    return arrays


def library() -> Path:
    """Return the folder of the package's problem library."""
    installed = PACKAGE / "library"
    return installed if installed.is_dir() else PACKAGE.parent / "problems"


def problem_path(name_or_path: str | os.PathLike[str]) -> Path:
    """Return the file of a problem: a path to a TOML file, or a name from the library.

    Raises
    ------
    ProblemFileError
        No such file or name (the message has the nearest one), or the path is a folder.
    """
    path = Path(name_or_path)
    shipped = {p.stem: p for p in sorted(library().glob("*.toml"))}
    if len(path.parts) == 1 and path.name in shipped and not path.is_file():
        return shipped[path.name]
    if path.is_dir():
        raise ProblemFileError(
            f"{path}: is a folder, expected a problem file (.toml) or a name from the library"
        )
    if path.is_file():
        return path
    if path.suffix == ".toml" or len(path.parts) != 1:
        raise ProblemFileError(f"{path}: no such problem file")
    raise ProblemFileError(f"{path}: no such problem{nearest(path.name, shipped)}")


def load_problem(name_or_path: str | os.PathLike[str]) -> Problem:
    """Read and check a problem, from a TOML file or by its name in the library.

    Raises
    ------
    ProblemFileError
        The file or its data cannot be read or breaks the schema; the message names file and key.
    """
    path = problem_path(name_or_path)
    return _problem(path, read_toml(path))


def load_saved_problem(folder: Path) -> Problem:
    """Read the problem of a result folder, which is whole in itself: it names no file of another folder.

    Raises
    ------
    ProblemFileError
        As `load_problem`; or the problem has other data than ``data.npz``, as no saved problem does.
    """
    path = folder / "problem.toml"
    tables = read_toml(path)
    data, dictionary = tables.get("data"), tables.get("dictionary")
    if data != {"file": SAVED_DATA}:
        raise ProblemFileError(f"{path.name}: data: a saved problem has file = {SAVED_DATA!r} alone")
    if isinstance(dictionary, dict) and dictionary.get("file", SAVED_WITNESSES) != SAVED_WITNESSES:
        raise ProblemFileError(f"{path.name}: dictionary.file: a saved problem has {SAVED_WITNESSES!r}")
    return _problem(path, tables)


def _problem(path: Path, tables: dict[str, Any]) -> Problem:
    try:
        data = _data(tables.get("data", {}), path.parent)
        return Problem.from_tables(tables, data, path.parent)
    except ConvexSNNError as error:
        raise type(error)(f"{path.name}: {error}") from error
