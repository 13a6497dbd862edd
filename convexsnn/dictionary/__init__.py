"""Patterns and witnesses. Names are imported at their first use: reading a problem imports only sources."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convexsnn.dictionary.dictionary import Definition, SpikeDictionary, collect, load_dictionary
    from convexsnn.dictionary.reservoir import branching_ratio
    from convexsnn.dictionary.sources import Draw, Source, register_source
    from convexsnn.dictionary.witnesses import draw_subnetworks, subnetworks_from_file

__all__ = [
    "Definition",
    "Draw",
    "Source",
    "SpikeDictionary",
    "branching_ratio",
    "collect",
    "draw_subnetworks",
    "load_dictionary",
    "register_source",
    "subnetworks_from_file",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'convexsnn.dictionary' has no attribute {name!r}")
    from convexsnn.dictionary import dictionary as spikes
    from convexsnn.dictionary import reservoir, sources, witnesses

    return next(
        getattr(module, name) for module in (spikes, sources, reservoir, witnesses) if hasattr(module, name)
    )
