"""A confirmed pattern: bits, margin and weights in one object, simulated once.

Whoever has run the simulator on a subnetwork hands on this object; the dictionary takes it as it is. Only
what proves a claim again (`convexsnn.certify`) simulates for itself.
"""

from __future__ import annotations

from dataclasses import dataclass

from convexsnn.arrays import FloatArray
from convexsnn.bits import PackedBits
from convexsnn.networks import Subnetwork


@dataclass(frozen=True, eq=False)
class Patterns:
    """The patterns of a subnetwork's last units, as the simulator made them of its weights.

    Attributes
    ----------
    subnetwork : Subnetwork
    columns : PackedBits
        R × m, one row a supervised row of the distinct samples.
    margins : (m,) array
        Smallest distance of a membrane from its threshold, over all units the pattern depends on.
    """

    subnetwork: Subnetwork
    columns: PackedBits
    margins: FloatArray
