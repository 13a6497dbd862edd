"""Polytopes given by their vertices and cut by half-spaces: double description (Motzkin et al. 1953).

A polytope is V (d, ·), its vertices as columns, and for each vertex the set of its tight rows, as bits. A cut
keeps the vertices on one side, and adds a vertex where the row crosses an edge. Two vertices share an edge
only if at least d − 1 rows are tight at both, and no third vertex has all of these rows tight. This test
needs neither general position nor full dimension, because the faces of closed cells are polytopes too. If
every vertex has exactly d tight rows, the first condition is enough.

Rounding is harmless: a new vertex lies between two old ones, so a cut stays inside the polytope, and the
slack of the vertex is 0 up to rounding. The callers cut by rows that are relaxed by far more than that.
"""

from __future__ import annotations

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

ONE = np.uint64(1)
NONE = np.uint64(0)


@intrinsic
def ones(typing, word):  # type: ignore[no-untyped-def]
    """Return the number of set bits of a uint64, by one processor instruction."""

    def emit(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), emit


@njit(cache=True, nogil=True)
def box_polytope(V, tight, box):  # type: ignore[no-untyped-def]
    """Write the vertices of |w_j| <= box, whose faces are rows 2j and 2j + 1; return their number."""
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
    """Return the mean of the vertices, and the largest distance of a vertex from it."""
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
    """Return the number of rows that are tight at vertex a of one table and vertex b of another."""
    count = np.uint64(0)
    for word in range(tight.shape[1]):
        count += ones(tight[a, word] & outside[b, word])
    return count


@njit(cache=True, nogil=True)
def _third(tight, count, a, b):  # type: ignore[no-untyped-def]
    """Return whether all rows tight at a and b are also tight at a third vertex."""
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
    """Copy the tight rows of the vertices outside to `outside`.

    Returns the number of these vertices, and whether every vertex has exactly d tight rows.
    """
    beyond, simple, d = 0, True, np.uint64(place[-1])
    for a in range(count):
        simple &= _shared(tight, a, tight, a) == d
        if slack[a] < -tolerance:
            outside[beyond] = tight[a]
            place[beyond] = a
            beyond += 1
    return beyond, simple


@njit(cache=True, nogil=True)
def cut(V, tight, count, slack, tolerance, row, W, tight_W):  # type: ignore[no-untyped-def]
    """Cut a polytope by slack >= 0, with the new row number `row`; return the number of vertices.

    The new polytope is written to (W, tight_W). `slack` (count,): a vertex with a slack within `tolerance` of
    0 counts as on the row. Returns −1 if W is too small.
    """
    d, words, room = V.shape[0], tight.shape[1], W.shape[1]
    word_of_row, bit = row // 64, ONE << np.uint64(row % 64)
    size, least = 0, np.uint64(d - 1)
    for a in range(count):
        if slack[a] < -tolerance:
            continue
        if size == room:
            return -1
        for j in range(d):
            W[j, size] = V[j, a]
        tight_W[size] = tight[a]
        if slack[a] <= tolerance:
            tight_W[size, word_of_row] |= bit
        size += 1
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
            if size == room:
                return -1
            share = slack[a] / (slack[a] - slack[b])
            for j in range(d):
                W[j, size] = V[j, a] + share * (V[j, b] - V[j, a])
            for word in range(words):
                tight_W[size, word] = tight[a, word] & tight[b, word]
            tight_W[size, word_of_row] |= bit
            size += 1
    return size


@njit(cache=True, nogil=True)
def free_row(tight, count, first):  # type: ignore[no-untyped-def]
    """Return the first row number >= `first` that is tight at no vertex, −1 if there is none."""
    for word in range(first // 64, tight.shape[1]):
        union = NONE
        for k in range(count):
            union |= tight[k, word]
        for bit in range(64):
            if 64 * word + bit >= first and not (union >> np.uint64(bit)) & ONE:
                return 64 * word + bit
    return -1


@njit(cache=True, nogil=True)
def touches_all(tight, count, strict):  # type: ignore[no-untyped-def]
    """Return whether some row of `strict` is tight at every vertex, and so at every point."""
    for word in range(tight.shape[1]):
        all_ = strict[word]
        for k in range(count):
            all_ &= tight[k, word]
        if all_:
            return True
    return False
