"""Patterns and witnesses."""

from convexsnn.dictionary.reservoir import branching_ratio
from convexsnn.dictionary.spikes import Definition, SpikeDictionary, collect, load_dictionary
from convexsnn.dictionary.witnesses import draw_subnetworks, subnetworks_from_file

__all__ = [
    "Definition",
    "SpikeDictionary",
    "branching_ratio",
    "collect",
    "draw_subnetworks",
    "load_dictionary",
    "subnetworks_from_file",
]
