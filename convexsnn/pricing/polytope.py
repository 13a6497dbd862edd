"""Polytopes by their vertices, cut by half-spaces: the double description method (Motzkin et al. 1953).

A polytope is V (d, ·), its vertices by columns, and for each vertex the set of rows tight at it, as bits.
Cutting keeps the vertices on one side and adds one where the row crosses an edge. Two vertices share an
edge only if at least d − 1 rows are tight at both, and no third vertex has all of these tight; that test
needs no general position, and no full dimension: the faces that closed cells consist of are polytopes too.
Where every vertex has exactly d tight rows the first half is enough.

Why rounding does no harm: a new vertex lies between two old ones, so a cut never leaves the polytope, and
its slack is 0 up to rounding; the callers cut by rows relaxed by far more than that.
"""

from __future__ import annotations

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

ONE = np.uint64(1)
NONE = np.uint64(0)


@intrinsic
def ones(typing, word):  # type: ignore[no-untyped-def]
    """Return the number of set bits of a uint64, by the processor's own instruction."""

    def emit(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), emit


@njit(cache=True, nogil=True)
def box_polytope(V, tight, box):  # type: ignore[no-untyped-def]
    """Fill in the vertices of |w_j| <= box; rows 2j and 2j + 1 are its faces. Return how many."""
    d = V.shape[0]
    count = 1 << d
    for k in range(count):
        for word in range(tight.shape[1]):
            tight[k, word] = NONE
        for j in range(d):
            high = (k >> j) & 1
            V[j, k] = box if high else -box
            row = 2 * j + high
            tight[k, row // 64] |= ONE << np.uint64(row % 64)
    return count


@njit(cache=True, nogil=True)
def values(V, count, g, out):  # type: ignore[no-untyped-def]
    """Write g·v of every vertex to `out`; return the smallest and the largest."""
    for k in range(count):
        out[k] = g[0] * V[0, k]
    for j in range(1, V.shape[0]):
        for k in range(count):
            out[k] += g[j] * V[j, k]
    low, high = np.inf, -np.inf
    for k in range(count):
        low, high = min(low, out[k]), max(high, out[k])
    return low, high


@njit(cache=True, nogil=True)
def ball(V, count):  # type: ignore[no-untyped-def]
    """Return the mean of the vertices, and how far from it the farthest is."""
    d = V.shape[0]
    center = np.zeros(d)
    for j in range(d):
        for k in range(count):
            center[j] += V[j, k]
        center[j] /= count
    farthest = 0.0
    for k in range(count):
        square = 0.0
        for j in range(d):
            square += (V[j, k] - center[j]) ** 2
        farthest = max(farthest, square)
    return center, np.sqrt(farthest)


@njit(cache=True, nogil=True)
def _shared(tight, a, outside, b):  # type: ignore[no-untyped-def]
    """Return how many rows are tight at vertex a of one table and b of another."""
    count = np.uint64(0)
    for word in range(tight.shape[1]):
        count += ones(tight[a, word] & outside[b, word])
    return count


@njit(cache=True, nogil=True)
def _third(tight, count, a, b):  # type: ignore[no-untyped-def]
    """Return whether a third vertex has all rows tight that are tight at a and b."""
    words = tight.shape[1]
    for c in range(count):
        inside = c != a and c != b
        for word in range(words):
            inside &= (tight[a, word] & tight[b, word] & ~tight[c, word]) == NONE
        if inside:
            return True
    return False


@njit(cache=True, nogil=True)
def _sides(tight, count, slack, tolerance, outside, place):  # type: ignore[no-untyped-def]
    """Copy the rows of the vertices outside to `outside`; return how many, and whether all are simple."""
    beyond, simple, d = 0, True, np.uint64(place[-1])
    for a in range(count):
        simple &= _shared(tight, a, tight, a) == d
        if slack[a] < -tolerance:
            outside[beyond] = tight[a]
            place[beyond] = a
            beyond += 1
    return beyond, simple


@njit(cache=True, nogil=True)
def cut(V, tight, count, slack, tolerance, row, W, found):  # type: ignore[no-untyped-def]
    """Cut a polytope by slack >= 0 and call the new row `row`; return the number of vertices of (W, found).

    `slack` (count,): within `tolerance` of 0 a vertex counts as on the row. Returns −1 if W is too small.
    """
    d, words, room = V.shape[0], tight.shape[1], W.shape[1]
    word_of_row, bit = row // 64, ONE << np.uint64(row % 64)
    kept, least = 0, np.uint64(d - 1)
    for a in range(count):
        if slack[a] < -tolerance:
            continue
        if kept == room:
            return -1
        for j in range(d):
            W[j, kept] = V[j, a]
        found[kept] = tight[a]
        if slack[a] <= tolerance:
            found[kept, word_of_row] |= bit
        kept += 1
    outside, place = np.empty((count, words), np.uint64), np.full(count + 1, d)
    beyond, simple = _sides(tight, count, slack, tolerance, outside, place)
    for a in range(count):
        if slack[a] <= tolerance:
            continue
        for k in range(beyond):
            if _shared(tight, a, outside, k) < least:
                continue
            b = place[k]
            if not simple and _third(tight, count, a, b):
                continue
            if kept == room:
                return -1
            share = slack[a] / (slack[a] - slack[b])
            for j in range(d):
                W[j, kept] = V[j, a] + share * (V[j, b] - V[j, a])
            for word in range(words):
                found[kept, word] = tight[a, word] & tight[b, word]
            found[kept, word_of_row] |= bit
            kept += 1
    return kept


@njit(cache=True, nogil=True)
def free_row(tight, count, first):  # type: ignore[no-untyped-def]
    """Return the first row number from `first` on that is tight at no vertex, −1 if there is none."""
    for word in range(first // 64, tight.shape[1]):
        used = NONE
        for k in range(count):
            used |= tight[k, word]
        for bit in range(64):
            if 64 * word + bit >= first and not (used >> np.uint64(bit)) & ONE:
                return 64 * word + bit
    return -1


@njit(cache=True, nogil=True)
def touches_all(tight, count, strict):  # type: ignore[no-untyped-def]
    """Return whether some row of `strict` is tight at every vertex: then no point keeps off it."""
    for word in range(tight.shape[1]):
        all_ = strict[word]
        for k in range(count):
            all_ &= tight[k, word]
        if all_:
            return True
    return False
