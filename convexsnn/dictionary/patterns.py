"""Simulated patterns: bits, margins and weights in one object, so that each is simulated only once.

The code that simulates a subnetwork passes on this object, and the dictionary uses it without simulating
again. Only the verification of claims (`convexsnn.certify`) simulates once more.
"""

from __future__ import annotations

from dataclasses import dataclass

from convexsnn.arrays import FloatArray
from convexsnn.bits import PackedBits
from convexsnn.networks import Subnetwork


@dataclass(frozen=True, eq=False)
class Patterns:
    """The patterns of a subnetwork's last units, as simulated.

    Attributes
    ----------
    subnetwork : Subnetwork
    columns : PackedBits
        R × m, one row per supervised row of the distinct samples.
    margins : (m,) array
        Smallest distance of a membrane from its threshold, over all units that the pattern depends on.
    """

    subnetwork: Subnetwork
    columns: PackedBits
    margins: FloatArray
