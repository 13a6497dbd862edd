"""The walk over the cells of weight space: depth first, one polytope per level, samples in a fixed order.

A level holds a polytope of weights and, for each sample, the node of its decision tree (`decisions`) up to
which all these weights agree. For an event with one outcome in the polytope, only the vertices are evaluated.
The first event with two outcomes cuts the polytope in two. With prices U, a level also stores bounds on
Uᵀ(pattern), and the walk goes back if they cannot exceed the cutoff. With prices this is branch and bound;
without prices it is enumeration. A walk prices one sign of one output, or the Euclidean norm over all outputs
(group).

Rows are those of `Decisions.scaled`, of size 1, and relaxed by far more than rounding. So a polytope holds
all points of its cell, and a cell without vertices is certainly empty. Each row is relaxed by another amount,
so that rows through one point do not leave it to rounding on which side of each other they meet. A cell with
points that all lie near one of its rows may be empty or not: there, and everywhere below, the walk pauses,
and rational arithmetic decides (`ASKED`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from convexsnn.arrays import FloatArray, IntArray
from convexsnn.pricing.decisions import EPSILON, Decisions
from convexsnn.pricing.polytope import ball, box_polytope, cut, free_row, values

DONE, PAUSED, NO_ROOM, ASKED, ASKED_LEAF = 0, 1, 2, 3, 4
ROOM = 4  # initial capacity of a level for vertices, times 2^d
RELATIVE = 1e-12  # of rows of size 1: rows are relaxed by 4 to 8 times this, far above rounding
MOST_IN_DOUBT = 16  # vertices of a cell that may be empty, times 2^d; it is not cut into more
NEAR = 2.0**-32  # of the same: a cell that reaches no farther from one of its rows may be empty


class Trees(NamedTuple):
    """Decision trees, prices and order of samples, in the kernel's form."""

    g: Any  # (n, N, d)
    h: Any  # (n, N)
    margin: Any  # (n, N): ε in units of every row
    length: Any  # (n, N) Euclidean norm of g
    slack: Any  # (n, N): tolerance of every row, above all rounding
    relaxed: Any  # (n, N): relaxation of every row
    reads: Any  # (N,) supervised row of its sample that a node decides, −1 for none
    prices: Any  # (n, S, C)
    order: Any  # (n,)
    box: float  # of the scaled weights, a little wider than the true one
    unit: float  # of the scaled weights
    group: bool


class Stack(NamedTuple):
    """The levels of a walk, from the box to the present cell."""

    V: Any  # (L, d, room)
    tight: Any  # (L, room, words)
    count: Any  # (L,)
    doubt: Any  # (L,): whether the cell is known not to be empty by rational arithmetic alone
    node: Any  # (L, n): node of every sample in its tree
    high: Any  # (L, C): upper bound on the worth of patterns below this level
    low: Any  # (L, C): lower bound
    place: Any  # (L,): position in the order of the sample that the level branches on; n if none
    stage: Any  # (L,): 0 before the level is examined, then 1 + the number of its children so far
    top: Any  # (1,)
    cutoff: Any  # (1,)
    nodes: Any  # (1,): number of examined levels


class Leaves(NamedTuple):
    """The result of a walk: for each cell, the leaves of all samples' trees, and weights inside the cell."""

    node: Any  # (M, n)
    weights: Any  # (M, d)


@njit(cache=True, nogil=True)
def norm(high, low, group):  # type: ignore[no-untyped-def]
    """Return the largest worth of a vector between low and high: its norm, or its only entry."""
    if not group:
        return high[0]
    squares = 0.0
    for c in range(len(high)):
        side = max(high[c], -low[c])
        squares += side * side
    return np.sqrt(squares)


@njit(cache=True, nogil=True)
def _decide(nodes, reads, prices, high, low, sample, fires):  # type: ignore[no-untyped-def]
    """Move a sample one event down its tree, and tighten the bounds."""
    node = nodes[sample]
    nodes[sample] = 2 * node + (2 if fires else 1)
    read = reads[node]
    if read >= 0:
        for c in range(len(high)):
            price = prices[sample, read, c]
            if (price > 0) != fires:  # the outcome rules out this price in the upper bound
                high[c] -= abs(price)
            else:
                low[c] += abs(price)


@njit(cache=True, nogil=True)
def _decide_events(trees, stack, level, room, walk_only):  # type: ignore[no-untyped-def]
    """Decide all events that have one outcome in the level's polytope.

    Returns whether it can hold a pattern worth more than the cutoff. Moves `stack.place` on to the first
    sample in order with an open event.
    """
    group = trees.group
    V, count, cutoff = stack.V[level], stack.count[level], stack.cutoff[0]
    # plain arrays from here on: each access to an attribute of a tuple costs two atomic operations
    g, h_of, length, slack_of, order = trees.g, trees.h, trees.length, trees.slack, trees.order
    margin_of = trees.margin
    reads, prices = trees.reads, trees.prices
    nodes, top, bottom = stack.node[level], stack.high[level], stack.low[level]
    center, radius = ball(V, count)
    n, leaf, d = len(order), g.shape[1], len(center)
    first = n
    for place in range(stack.place[level], n):
        sample = order[place]
        while nodes[sample] < leaf:
            node = nodes[sample]
            h, slack, margin = h_of[sample, node], slack_of[sample, node], margin_of[sample, node]
            middle, reach = -h, length[sample, node] * radius + 2.0 * slack
            for j in range(d):
                middle += g[sample, node, j] * center[j]
            if abs(middle) > reach and abs(middle) >= margin:  # the whole ball is on one side
                _decide(nodes, reads, prices, top, bottom, sample, middle > 0)
                continue
            low, high = values(V, count, g[sample, node], room)
            can_fire = high >= h + margin - slack
            can_rest = low <= h - margin + slack
            if not can_fire and not can_rest:
                return False
            if can_fire and can_rest:
                break
            _decide(nodes, reads, prices, top, bottom, sample, can_fire)
        if nodes[sample] < leaf:
            first = min(first, place)
            if walk_only:
                break
        if not walk_only and norm(top, bottom, group) <= cutoff:
            return False
    stack.place[level] = first
    return True


@njit(cache=True, nogil=True)
def _child(trees, stack, level, fires, slacks):  # type: ignore[no-untyped-def]
    """Make the child of a level for one outcome of its branching event.

    Returns 1, 0 if the child is empty, 2 if it may be empty, −1 if there is no room.
    """
    sample = trees.order[stack.place[level]]
    node = stack.node[level, sample]
    V, count, below = stack.V[level], stack.count[level], level + 1
    slack = trees.slack[sample, node]
    values(V, count, trees.g[sample, node], slacks)
    side = 1.0 if fires else -1.0
    margin, farthest = trees.margin[sample, node] - trees.relaxed[sample, node], -np.inf
    bound = trees.h[sample, node] + side * margin
    for k in range(count):
        slacks[k] = side * (slacks[k] - bound)
        farthest = max(farthest, slacks[k])
    row = free_row(stack.tight[level], count, 2 * V.shape[0])
    if row < 0:
        return -1
    doubt = stack.doubt[level] or farthest <= NEAR + 16.0 * slack
    vertices = cut(V, stack.tight[level], count, slacks, row, stack.V[below], stack.tight[below])
    if vertices == 0 or vertices < 0 and not doubt:
        return vertices
    if doubt and (vertices < 0 or vertices > MOST_IN_DOUBT << V.shape[0]):
        vertices = count
        stack.V[below, :, :count] = V[:, :count]
        stack.tight[below, :count] = stack.tight[level, :count]
    stack.count[below], stack.doubt[below] = vertices, doubt
    stack.node[below] = stack.node[level]
    stack.high[below], stack.low[below] = stack.high[level], stack.low[level]
    stack.stage[below], stack.place[below] = 0, stack.place[level]
    nodes, high, low = stack.node[below], stack.high[below], stack.low[below]
    _decide(nodes, trees.reads, trees.prices, high, low, sample, fires)
    return 2 if doubt else 1


@njit(cache=True, nogil=True)
def _settled(trees, stack, level, slacks):  # type: ignore[no-untyped-def]
    """Cut off the points of a leaf that are too near to a threshold.

    Only events that were decided without a cut need this. Returns the level that holds the result, −1 if it
    is empty, −2 if there is no room.
    """
    d = stack.V.shape[1]
    spare = len(stack.count) - 2
    for sample in range(len(trees.order)):
        node = stack.node[level, sample]
        while node > 0:
            side, node = 1.0 if node % 2 == 0 else -1.0, (node - 1) // 2
            h, slack = trees.h[sample, node], trees.slack[sample, node]
            if h == -np.inf:
                continue
            V, tight, count = stack.V[level], stack.tight[level], stack.count[level]
            values(V, count, trees.g[sample, node], slacks)
            bound, lowest = h + side * (trees.margin[sample, node] - trees.relaxed[sample, node]), np.inf
            for k in range(count):
                slacks[k] = side * (slacks[k] - bound)
                lowest = min(lowest, slacks[k])
            if lowest >= -slack:
                continue
            other = spare + 1 if level == spare else spare
            row = free_row(tight, count, 2 * d)
            if row < 0:
                return -2
            vertices = cut(V, tight, count, slacks, row, stack.V[other], stack.tight[other])
            if vertices <= 0:
                return -1 if vertices == 0 else -2
            stack.count[other] = vertices
            stack.node[other] = stack.node[level]
            level = other
    return level


@njit(cache=True, nogil=True)
def surely_inside(trees, nodes, weights):  # type: ignore[no-untyped-def]
    """Return whether scaled weights (d,) are in the cell of some nodes (n,), despite all rounding."""
    for sample in range(len(nodes)):
        node = nodes[sample]
        while node > 0:
            side, node = 1.0 if node % 2 == 0 else -1.0, (node - 1) // 2
            if trees.h[sample, node] == -np.inf:
                continue
            away = -trees.h[sample, node]
            for j in range(len(weights)):
                away += trees.g[sample, node, j] * weights[j]
            if side * away < trees.margin[sample, node] + trees.slack[sample, node]:
                return False
    return True


@njit(cache=True, nogil=True)
def walk(trees, stack, leaves, budget, walk_only, best_only):  # type: ignore[no-untyped-def]
    """Continue a walk until it ends, `leaves` is full, or it has examined `budget` more levels.

    With `best_only` the cutoff rises to the best value so far. Returns the state and the number of leaves.
    After ASKED the caller has to decide whether the level above the present one is empty; if it is not, the
    caller adds 1 to `stack.top`. After ASKED_LEAF, only with `best_only`, the last leaf may be empty; if it
    is not, the caller raises the cutoff to the worth of its level, the one above the present one.
    """
    group = trees.group
    slacks = np.empty(stack.V.shape[2])
    cells, stop = 0, stack.nodes[0] + budget
    while stack.top[0] >= 0:
        level = stack.top[0]
        if stack.stage[level] == 0:
            if stack.nodes[0] >= stop or cells == len(leaves.node):
                return PAUSED, cells
            stack.nodes[0] += 1
            if not _decide_events(trees, stack, level, slacks, walk_only):
                stack.top[0] -= 1
                continue
            if stack.place[level] == len(trees.order):
                cell = level if stack.doubt[level] else _settled(trees, stack, level, slacks)
                if cell == -2:
                    stack.nodes[0] -= 1
                    return NO_ROOM, cells
                stack.top[0] -= 1
                if cell == -1:
                    continue
                value = norm(stack.high[level], stack.low[level], group)
                leaves.node[cells] = stack.node[level]
                for j in range(stack.V.shape[1]):
                    leaves.weights[cells, j] = stack.V[cell, j, : stack.count[cell]].mean()
                cells += 1
                if best_only:
                    if not surely_inside(trees, stack.node[level], leaves.weights[cells - 1]):
                        return ASKED_LEAF, cells
                    stack.cutoff[0] = max(stack.cutoff[0], value)
                continue
            stack.stage[level] = 1
        if stack.stage[level] == 3:
            stack.top[0] -= 1
            continue
        child = _child(trees, stack, level, stack.stage[level] == 1, slacks)
        if child < 0:
            return NO_ROOM, cells
        stack.stage[level] += 1
        if child == 2:
            if walk_only or norm(stack.high[level + 1], stack.low[level + 1], group) > stack.cutoff[0]:
                return ASKED, cells
            child = 0
        stack.top[0] += child
    return DONE, cells


def trees_of(decisions: Decisions, prices: FloatArray, order: IntArray, group: bool = False) -> Trees:
    """Return decision trees with prices (n, S, C) in the kernel's form."""
    rows = decisions.scaled
    levels = decisions.samples * decisions.events
    least = max(RELATIVE, 4.0 * levels * (decisions.dimension + 4) * EPSILON)
    slack = np.maximum(least, 4.0 * rows.error)
    return Trees(
        rows.g,
        rows.h,
        rows.margin,
        np.sqrt((rows.g**2).sum(axis=2)),
        slack,
        (4.0 + 4.0 * np.random.default_rng(0).random(slack.shape)) * slack,
        decisions.node_reads,
        np.ascontiguousarray(prices),
        order.astype(np.int64),
        rows.box * (1.0 + 4.0 * least),
        rows.unit,
        group,
    )


def new_stack(trees: Trees, cutoff: float) -> Stack:
    """Return a stack whose only level is the whole box."""
    n, nodes, d = trees.g.shape
    outputs = trees.prices.shape[2]
    levels, room, words = n * (nodes + 1).bit_length() - n + 3, ROOM << d, 1
    stack = Stack(
        np.empty((levels, d, room)),
        np.zeros((levels, room, words), np.uint64),
        np.zeros(levels, np.int64),
        np.zeros(levels, np.bool_),
        np.zeros((levels, n), np.int64),
        np.zeros((levels, outputs)),
        np.zeros((levels, outputs)),
        np.zeros(levels, np.int64),
        np.zeros(levels, np.int64),
        np.zeros(1, np.int64),
        np.array([cutoff]),
        np.zeros(1, np.int64),
    )
    stack.count[0] = box_polytope(stack.V[0], stack.tight[0], trees.box)
    stack.high[0] = np.maximum(trees.prices, 0.0).sum(axis=(0, 1))
    stack.low[0] = np.minimum(trees.prices, 0.0).sum(axis=(0, 1))
    return stack


def grown(stack: Stack) -> Stack:
    """Return a copy of the stack with room for twice as many vertices and rows."""
    levels, d, room = stack.V.shape
    V = np.empty((levels, d, 2 * room))
    V[:, :, :room] = stack.V
    tight = np.zeros((levels, 2 * room, 2 * stack.tight.shape[2]), np.uint64)
    tight[:, :room, : stack.tight.shape[2]] = stack.tight
    return stack._replace(V=V, tight=tight)


def open_bound(stack: Stack, group: bool) -> float:
    """Return an upper bound on the worth of the cells that an unfinished walk has not examined."""
    levels = range(int(stack.top[0]) + 1)
    open_ = [level for level in levels if stack.stage[level] < 3]
    return max((float(norm(stack.high[k], stack.low[k], group)) for k in open_), default=0.0)


def new_leaves(trees: Trees, size: int) -> Leaves:
    """Return room for `size` leaves."""
    n, _, d = trees.g.shape
    return Leaves(np.empty((size, n), np.int64), np.empty((size, d)))
