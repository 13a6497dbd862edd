"""The pricing problem as a mixed-integer program: for any number of weights a unit, and few samples.

    max over w, s of  Σ u_i s_i    subject to  |w_j| <= B  and for every event e of every sample

        g·w − h(s) >=  ε − M (1 − s_e) − M·away      fires
        g·w − h(s) <= −ε + M' s_e      + M'·away     silent

Rows come from the decision trees. Where the rows of one event share g and h is affine in the earlier
spikes, as for a subtracting reset, one pair says all; else the tree is split by its latest spikes into
parts where that holds, and `away` counts the spikes in which s is outside the part. M and M' are the
least that the box allows. The closed definition keeps g·w <= h for silent events: a superset, so that
the bound holds; what the simulator makes of the weights found is what counts either way.

HiGHS works within tolerances, so every row is relaxed by more than these and the bound raised by more.
"""

from __future__ import annotations

from dataclasses import dataclass

from convexsnn.arrays import FloatArray

TOLERANCE = 1e-9  # HiGHS's, for rows, whole numbers and reduced costs
RELATIVE = 1e-9  # of the largest |g·w| + |h| over the box: rows are relaxed by it
DROPPED = 1e-9  # HiGHS drops coefficients up to this
SAFETY = 1e-9  # of the largest value that prices allow: added to bounds
SCALE = 1e3  # that largest value, as HiGHS sees it


@dataclass(frozen=True, eq=False)
class _Part:
    """Nodes of one event of a sample that share g, and whose h is h[0] + slopes·spikes."""

    g: FloatArray
    h: FloatArray  # of all nodes, that of silence first
    slopes: FloatArray  # (e,) on the earlier events
    held: tuple[tuple[int, int], ...]  # earlier events and their outcomes in this part

    def __iter__(self): ...
