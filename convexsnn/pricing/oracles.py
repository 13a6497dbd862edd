"""The registry of oracles, and the choice between them."""

from __future__ import annotations

from collections.abc import Sequence

from convexsnn.arrays import FloatArray
from convexsnn.errors import UnsupportedError
from convexsnn.pricing.cells import MOST_DIMENSIONS, CellWalk
from convexsnn.pricing.decisions import Decisions
from convexsnn.pricing.mip import MipOracle
from convexsnn.pricing.prices import Oracle
from convexsnn.pricing.tree import TreeOracle

ORACLES: dict[str, type[Oracle]] = {"cells": CellWalk, "tree": TreeOracle, "mip": MipOracle}


def get_oracle(name: str, units: Sequence[Decisions], samples: FloatArray) -> Oracle:
    """Return an exact oracle by name; "auto" is cells for few weights per unit, else tree.

    Raises
    ------
    UnsupportedError
        Unknown name, or an oracle that does not accept these units.
    """
    if name == "auto":
        name = "cells" if units[0].dimension <= MOST_DIMENSIONS else "tree"
    if name not in ORACLES:
        raise UnsupportedError(f"oracle: unknown {name!r}; known: auto, {', '.join(ORACLES)}")
    return ORACLES[name](units, samples)


def another_oracle(name: str, units: Sequence[Decisions], samples: FloatArray, group: bool) -> Oracle:
    """Return an oracle that shares no search with the oracle called `name`.

    Units that only the tree accepts, with many weights and a `group` of several outputs, get the tree with
    proofs in rational arithmetic.
    """
    if name != "tree":
        return TreeOracle(units, samples)
    if units[0].dimension <= MOST_DIMENSIONS:
        return CellWalk(units, samples)
    if not group:
        return MipOracle(units, samples)
    return TreeOracle(units, samples, exact=True)
