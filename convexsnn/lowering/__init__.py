"""From problems to programs, and from points back to networks; independent of the solvers."""

from convexsnn.lowering.convexify import (
    Convexification,
    build_dictionary,
    definition_of,
    dual_at_zero,
    witnesses_of,
)
from convexsnn.lowering.lowering import Lowered, Lowering

__all__ = [
    "Convexification",
    "Lowered",
    "Lowering",
    "build_dictionary",
    "definition_of",
    "dual_at_zero",
    "witnesses_of",
]
