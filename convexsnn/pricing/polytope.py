"""Polytopes given by their vertices and cut by half-spaces: double description (Motzkin et al. 1953).

A polytope is V (d, ·), its vertices as columns, and for each vertex the set of its d tight rows, as bits. A
cut keeps the vertices on one side, and adds a vertex where the row crosses an edge. Two vertices share an
edge if d − 1 rows are tight at both.

The sign of a slack alone decides the side; a slack of 0 is inside. So every vertex keeps exactly d tight
rows, as if each row were moved outwards by an infinitely small amount, and no tolerance decides which
vertices share an edge. A sign that rounding gets wrong only moves a row by this rounding. Two vertices may
have the same coordinates. A new vertex lies between two old ones up to rounding, so a polytope shrinks by no
more than that. The callers cut by rows that are relaxed by far more: then no point of the true cell is lost.
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
def cut(V, tight, count, slack, row, W, tight_W):  # type: ignore[no-untyped-def]
    """Cut a polytope by slack >= 0, with the new row number `row`; return the number of vertices.

    The new polytope is written to (W, tight_W); `slack` is (count,). Returns −1 if W is too small.
    """
    d, words, room = V.shape[0], tight.shape[1], W.shape[1]
    word_of_row, bit = row // 64, ONE << np.uint64(row % 64)
    size, beyond, edge = 0, 0, np.uint64(d - 1)
    outside, place = np.empty((count, words), np.uint64), np.empty(count, np.int64)
    for a in range(count):
        if slack[a] < 0.0:
            outside[beyond] = tight[a]
            place[beyond] = a
            beyond += 1
            continue
        if size == room:
            return -1
        for j in range(d):
            W[j, size] = V[j, a]
        tight_W[size] = tight[a]
        size += 1
    for a in range(count):
        if slack[a] < 0.0:
            continue
        for k in range(beyond):
            if _shared(tight, a, outside, k) != edge:
                continue
            if size == room:
                return -1
            b = place[k]
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
