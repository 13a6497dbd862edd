"""The claim of a solved problem, as files that can be checked without the solver.

``certificate.json`` has the claim, ``certificate.npz`` the dual point u (R, C), the output
weights W (P, C) and the dictionary column of every last unit of the network.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from convexsnn.arrays import FloatArray, IntArray, read_npz, real_array, write_npz
from convexsnn.errors import ProblemFileError, ShapeError
from convexsnn.files import read_json

STATUSES = ("optimal_on_dictionary", "bounded", "optimal_global", "limit", "failed")
LOOSEST = 1e-2
ORACLES = ("", "cells", "tree", "mip", "any pattern")
SCOPES = ("dictionary", "all_patterns")
FORMAT = 2


def status_of(gap: float, tolerance: float, scope: str) -> str:
    """Return the status of a certified gap; a gap above LOOSEST is never an optimum."""
    optimal = gap <= min(tolerance, LOOSEST)
    if scope == "dictionary":
        return "optimal_on_dictionary" if optimal else "limit"
    return "optimal_global" if optimal else "bounded"


@dataclass(frozen=True)
class Claim:
    """A statement about a problem, the patterns it covers, and the distance from the optimum.

    Attributes
    ----------
    scope : str
        "dictionary": the bounds hold for networks whose units have patterns of this dictionary.
        "all_patterns": they hold for every network of the architecture within the definition.
    gap : float
        (objective − lower_bound) / |objective|.
    oracle, oracle_bound : str, float or None
        The oracle that proved ‖dᵀu‖ <= oracle_bound at the dual point u for every pattern d; "" and None
        if the scope is the dictionary.
    """

    problem: str
    fingerprint: str
    status: str
    scope: str
    definition: str
    margin: float
    weight_box: float
    regularization: float
    objective: float
    lower_bound: float
    gap: float
    tolerance: float
    patterns: int
    units: int
    solver: str
    oracle: str = ""
    oracle_bound: float | None = None
    format: int = FORMAT


@dataclass(frozen=True, eq=False)
class Evidence:
    """The arrays behind a claim."""

    dual: FloatArray
    weights: FloatArray
    columns: IntArray


def save_claim(folder: Path, claim: Claim, evidence: Evidence) -> None:
    """Write ``certificate.json`` and ``certificate.npz`` into an existing folder."""
    (folder / "certificate.json").write_text(json.dumps(asdict(claim), indent=2) + "\n", encoding="utf-8")
    arrays = {"dual": evidence.dual, "weights": evidence.weights, "columns": evidence.columns}
    write_npz(folder / "certificate.npz", arrays)


def load_claim(folder: Path) -> tuple[Claim, Evidence]:
    """Read the files of `save_claim`.

    Raises
    ------
    ProblemFileError
        A file is missing, is not JSON, or has other keys or types than a certificate.
    """
    path = folder / "certificate.json"
    stated = read_json(path, finite=False)  # so that a number that is not finite is refused by its key
    try:
        types = {f.name: f.type for f in fields(Claim)}
        if set(stated) != set(types):
            raise ValueError(f"expected the keys {', '.join(types)}")
        kinds = {"str": str, "int": int, "float": (int, float), "float | None": (int, float, type(None))}
        for name, kind in types.items():
            if not isinstance(stated[name], kinds[str(kind)]) or isinstance(stated[name], bool):  # type: ignore[arg-type]
                raise ValueError(f"{name}: expected {kind}, got {stated[name]!r}")
            if isinstance(stated[name], (int, float)) and not abs(stated[name]) < 1e300:  # false for NaN
                raise ValueError(f"{name}: expected a finite number, got {str(stated[name])[:20]}")
        if stated["format"] != FORMAT:
            raise ValueError(f"format: {stated['format']}, this version reads {FORMAT}")
        for name, words in (("status", STATUSES), ("scope", SCOPES), ("oracle", ORACLES)):
            if stated[name] not in words:
                raise ValueError(f"{name}: {stated[name]!r}, expected one of {', '.join(words)}")
    except ValueError as error:
        raise ProblemFileError(f"{path.name}: {error}") from error
    arrays = read_npz(folder / "certificate.npz")
    try:
        columns = arrays["columns"]
        if columns.ndim != 1 or columns.dtype.kind not in "iu":
            raise ShapeError(f"columns: expected whole numbers (m,), got {columns.dtype} {columns.shape}")
        dual = real_array("dual", arrays["dual"], ("R", "C"))
        evidence = Evidence(
            dual, real_array("weights", arrays["weights"], ("P", "C")), columns.astype(np.int64)
        )
    except KeyError as error:
        raise ProblemFileError(f"certificate.npz: no array {error}") from error
    except ShapeError as error:
        raise ProblemFileError(f"certificate.npz: {error}") from error
    return Claim(**stated), evidence
