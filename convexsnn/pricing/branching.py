"""The branch and bound of the oracle `tree`: it branches on events and bounds cells by linear programs.

A level is a cell: the outcomes of the branching events so far, and the node that each sample has reached in
its tree (`decisions`). The program of largest margin m in the cell (`small_lp`) starts from the basis of the
level above. Its rows are those of `Decisions.scaled`, of size 1:

    robust, margin ε   every event keeps ε + m from its threshold       a cell is empty if m < 0
    closed             only silent events keep m                        a cell is empty if m <= 0

Samples are ordered by their prices. An event is decided without branching if the program with its other
outcome is empty. Points from earlier programs in the cell often prove the other outcome possible without a
new program. With prices U, a level stores bounds on Uᵀ(pattern). The search ends in a cell whose bounds do
not exceed the cutoff.

The result of a program is no proof, but its multipliers are: they combine the rows into one that no point of
the box satisfies, by more than all rounding (`_refuted`). Where they are not, and m is not clearly above 0,
the search pauses and returns a question to its caller. With `exact` it does so for every empty cell.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from convexsnn.arrays import FloatArray
from convexsnn.pricing.certain import SURE
from convexsnn.pricing.decisions import EPSILON, Decisions
from convexsnn.pricing.small_lp import FAILED, OPTIMAL, RAY, TOLERANCE, maximise, refresh, start_basis

DONE, PAUSED, LEAF, DECIDING, BRANCHING = 0, 1, 2, 3, 4
CAP = 1.0  # of m
POINTS = 16  # that a level stores


class Forest(NamedTuple):
    """Decision trees, prices and order of samples, in the kernel's form."""

    g: Any  # (n, N, d)
    h: Any  # (n, N)
    margin: Any  # (n, N): ε in units of every row
    error: Any  # (n, N): bound on the rounding in every row
    reads: Any  # (N,): supervised row of its sample that a node decides, −1 for none
    above: Any  # (n, S, C): prices, rounded up
    below: Any  # (n, S, C): prices, rounded down; floats add both without error
    amount: Any  # (n,): Σ |prices| of a sample
    order: Any  # (n,)
    box: float
    closed: bool
    group: bool
    exact: bool


class Levels(NamedTuple):
    """The levels of a search, from the box to the present cell; row r belongs to the level below it."""

    node: Any  # (L, n): node of every sample in its tree
    possible: Any  # (L, n): node with both outcomes possible by rational arithmetic, −1 for none
    high: Any  # (L, C): upper bound on the worth of patterns below this level
    low: Any  # (L, C): lower bound
    basis: Any  # (L, d + 1); this and the next three: the program, as in `small_lp`
    inverse: Any  # (L, d + 1, d + 1)
    y: Any  # (L, d + 1)
    point: Any  # (L, d + 1)
    pool: Any  # (L, POINTS, d): weights in the cell
    pooled: Any  # (L,): number of weights ever put into the pool
    sample: Any  # (L,): sample that the level branches on, −1 for none
    stage: Any  # (L,): 0 before the level is examined, then 1 + the number of its children so far
    a: Any  # (L, d); this and the next two: the rows of the program
    kappa: Any  # (L,)
    b: Any  # (L,)
    error: Any  # (L,): bound on the rounding in a row
    event: Any  # (L, 3): sample, node and outcome of a row
    state: Any  # (3,): present level, final state of the last program, number of examined levels
    cutoff: Any  # (1,)


@njit(cache=True, nogil=True)
def norm(high, low, group):  # type: ignore[no-untyped-def]
    """Return the largest worth of a vector between low and high: its norm, or its only entry."""
    if not group:
        return high[0]
    squares = 0.0
    for c in range(len(high)):
        squares += max(high[c], -low[c]) ** 2
    return np.sqrt(squares) * (1.0 + (len(high) + 8) * 2.0**-53)  # so that rounding cannot make it smaller


@njit(cache=True, nogil=True)
def decide(forest, levels, level, sample, fires):  # type: ignore[no-untyped-def]
    """Move a sample one event down its tree, and tighten the bounds."""
    node = levels.node[level, sample]
    levels.node[level, sample] = 2 * node + (2 if fires else 1)
    read = forest.reads[node]
    if read >= 0:
        for c in range(levels.high.shape[1]):
            above, below = forest.above[sample, read, c], forest.below[sample, read, c]
            levels.high[level, c] += min(above, 0.0) if fires else -max(above, 0.0)
            levels.low[level, c] += max(below, 0.0) if fires else -min(below, 0.0)


@njit(cache=True, nogil=True)
def _fires(forest, levels, level, sample):  # type: ignore[no-untyped-def]
    """Return whether the next event of a sample fires at the level's point."""
    node = levels.node[level, sample]
    u = -forest.h[sample, node]
    for j in range(forest.g.shape[2]):
        u += forest.g[sample, node, j] * levels.point[level, j]
    return u >= 0


@njit(cache=True, nogil=True)
def _add_row(forest, levels, level, sample, fires):  # type: ignore[no-untyped-def]
    """Add the row for one outcome of a sample's next event as the last row of the level below."""
    node = levels.node[level, sample]
    side = 1.0 if fires else -1.0
    for j in range(forest.g.shape[2]):
        levels.a[level, j] = side * forest.g[sample, node, j]
    levels.kappa[level] = 0.0 if forest.closed and fires else 1.0
    levels.b[level] = side * forest.h[sample, node] + forest.margin[sample, node]
    levels.error[level] = forest.error[sample, node]
    levels.event[level, 0], levels.event[level, 1], levels.event[level, 2] = sample, node, fires


@njit(cache=True, nogil=True)
def _inside(forest, levels, level, p):  # type: ignore[no-untyped-def]
    """Return whether a point of the level is in the cell of the level below, up to rounding."""
    slack = -levels.b[level] - levels.kappa[level] * (SURE + 4.0 * levels.error[level])
    for j in range(forest.g.shape[2]):
        slack += levels.a[level, j] * levels.pool[level, p, j]
    return slack >= 0


@njit(cache=True, nogil=True)
def _proved_possible(forest, levels, level):  # type: ignore[no-untyped-def]
    """Return whether some point of the level proves that the cell below is not empty."""
    for p in range(min(levels.pooled[level], POINTS)):
        if _inside(forest, levels, level, p):
            return True
    return False


@njit(cache=True, nogil=True)
def _refuted(forest, levels, below, state):  # type: ignore[no-untyped-def]
    """Return whether the multipliers of a program prove the cell of level `below` empty despite rounding.

    With y >= 0, points of the cell have (Σ y a)·v >= Σ y b, and those of the box at most box Σ_j |Σ y a_j|.
    """
    d, entering = forest.g.shape[2], state - RAY
    total, bound, rounding = np.zeros(d), 0.0, 0.0
    for i in range(d + 2):
        if i <= d:
            row, y = levels.basis[below, i], levels.y[below, i]
        else:
            row, y = entering, 1.0
        if row < 0 or row >= below or not y > 0.0:
            continue
        for j in range(d):
            total[j] += y * levels.a[row, j]
        bound += y * levels.b[row]
        # a row has size 1: its own rounding, and that of the sums here
        rounding += y * (levels.error[row] + 4.0 * (d + 4) * EPSILON)
    reach = 0.0
    for j in range(d):
        reach += abs(total[j])
    return bound - forest.box * reach > rounding


@njit(cache=True, nogil=True)
def _solve(forest, levels, level):  # type: ignore[no-untyped-def]
    """Solve the program of the level below with its new row.

    Returns 1 if it has points, 0 if not, −1 if rational arithmetic has to decide.
    """
    below, d = level + 1, forest.g.shape[2]
    for i in range(d + 1):
        levels.basis[below, i] = levels.basis[level, i]
        levels.y[below, i], levels.point[below, i] = levels.y[level, i], levels.point[level, i]
        for j in range(d + 1):
            levels.inverse[below, i, j] = levels.inverse[level, i, j]
    state = maximise(
        below,
        levels.a,
        levels.kappa,
        levels.b,
        forest.box,
        CAP,
        levels.basis[below],
        levels.inverse[below],
        levels.y[below],
        levels.point[below],
        0.0,
        TOLERANCE,
    )
    levels.state[1] = state
    if state == OPTIMAL and levels.point[below, d] >= SURE:
        p = levels.pooled[level] % POINTS
        for j in range(d):
            levels.pool[level, p, j] = levels.point[below, j]
        levels.pooled[level] += 1
        return 1
    return -1 if forest.exact or not _refuted(forest, levels, below, state) else 0


@njit(cache=True, nogil=True)
def enter(forest, levels, level):  # type: ignore[no-untyped-def]
    """Go down to the level whose program was solved last."""
    below, n, d = level + 1, levels.node.shape[1], forest.g.shape[2]
    args = (levels.a, levels.kappa, levels.b, forest.box, CAP)
    basis, inverse, y, point = (
        levels.basis[below],
        levels.inverse[below],
        levels.y[below],
        levels.point[below],
    )
    if levels.state[1] == FAILED or (
        levels.state[1] != OPTIMAL and not refresh(basis, inverse, y, point, *args)
    ):
        start_basis(d, basis, inverse, y, point, forest.box, CAP)
    count = 0
    for p in range(min(levels.pooled[level], POINTS)):
        if _inside(forest, levels, level, p):
            for j in range(d):
                levels.pool[below, count, j] = levels.pool[level, p, j]
            count += 1
    levels.pooled[below] = count
    for i in range(n):
        levels.node[below, i], levels.possible[below, i] = levels.node[level, i], -1
    for c in range(levels.high.shape[1]):
        levels.high[below, c], levels.low[below, c] = levels.high[level, c], levels.low[level, c]
    levels.stage[below], levels.state[0] = 0, below
    decide(forest, levels, below, levels.event[level, 0], levels.event[level, 2] == 1)


@njit(cache=True, nogil=True)
def _decide_events(forest, levels, level):  # type: ignore[no-untyped-def]
    """Decide all events that have one outcome in the level's cell.

    Returns 0 if no pattern in it is worth more than the cutoff, −1 if rational arithmetic has to decide, else
    1. Writes to `levels.sample` the first sample in order with an open event, −1 if there is none.
    """
    leaf, rest = forest.g.shape[1], 0.0
    levels.sample[level] = -1
    for sample in forest.order:
        if levels.node[level, sample] < leaf:
            rest += forest.amount[sample]
    for sample in forest.order:
        high = norm(levels.high[level], levels.low[level], forest.group)
        if high <= levels.cutoff[0]:
            return 0
        if levels.node[level, sample] >= leaf:
            continue
        while levels.node[level, sample] < leaf:
            node = levels.node[level, sample]
            if forest.h[sample, node] == -np.inf:
                decide(forest, levels, level, sample, True)
                continue
            if high - rest > levels.cutoff[0] or levels.possible[level, sample] == node:
                break  # a decision would change nothing
            fires = _fires(forest, levels, level, sample)
            _add_row(forest, levels, level, sample, not fires)
            other = 1 if _proved_possible(forest, levels, level) else _solve(forest, levels, level)
            if other < 0:
                return -1
            if other > 0:
                break
            decide(forest, levels, level, sample, fires)
        rest -= forest.amount[sample]
        if levels.node[level, sample] < leaf and levels.sample[level] < 0:
            levels.sample[level] = sample
    return 1 if norm(levels.high[level], levels.low[level], forest.group) > levels.cutoff[0] else 0


@njit(cache=True, nogil=True)
def grow(forest, levels, budget):  # type: ignore[no-untyped-def]
    """Continue a search until it ends or has examined `budget` more levels.

    Returns DONE, PAUSED, LEAF if the present level is a leaf, or DECIDING or BRANCHING. After DECIDING or
    BRANCHING the caller has to decide whether the level below, whose program was solved last, is empty. If it
    is, the caller calls `decide` after DECIDING, and does nothing after BRANCHING. If it is not, the caller
    sets `levels.possible` after DECIDING, and calls `enter` after BRANCHING.
    """
    stop = levels.state[2] + budget
    while levels.state[0] >= 0:
        level = levels.state[0]
        if levels.stage[level] == 0:
            if levels.state[2] >= stop:
                return PAUSED
            more = _decide_events(forest, levels, level)
            if more < 0:
                return DECIDING
            levels.state[2] += 1
            levels.stage[level] = 1 if more else 3
            if more and levels.sample[level] < 0:
                levels.stage[level] = 3
                return LEAF
        worth = norm(levels.high[level], levels.low[level], forest.group)
        if levels.stage[level] == 3 or worth <= levels.cutoff[0]:
            levels.state[0] -= 1
            continue
        sample = levels.sample[level]
        first = _fires(forest, levels, level, sample)
        read = forest.reads[levels.node[level, sample]]
        if read >= 0 and not forest.group:
            first = forest.above[sample, read, 0] > 0
        fires = first == (levels.stage[level] == 1)
        levels.stage[level] += 1
        _add_row(forest, levels, level, sample, fires)
        child = _solve(forest, levels, level)
        if child < 0:
            return BRANCHING
        if child > 0:
            enter(forest, levels, level)
    return DONE


def unit_of(prices: FloatArray) -> float:
    """Return a power of two such that floats hold all sums of prices rounded to its multiples."""
    return float(2.0 ** (np.ceil(np.log2(max(float(np.abs(prices).sum()), 1e-250))) - 51))


def forest_of(decisions: Decisions, prices: FloatArray, group: bool, exact: bool) -> Forest:
    """Return decision trees with prices (n, S, C) in the kernel's form."""
    rows = decisions.scaled
    amount, unit = np.abs(prices).sum(axis=(1, 2)), unit_of(prices)
    return Forest(
        rows.g,
        rows.h,
        rows.margin,
        rows.error,
        decisions.node_reads,
        np.ceil(prices / unit) * unit,
        np.floor(prices / unit) * unit,
        amount,
        np.argsort(-amount, kind="stable"),
        rows.box,
        decisions.definition.margin == 0,
        group,
        exact,
    )


def new_levels(forest: Forest, cutoff: float) -> Levels:
    """Return the levels of a search that starts at the whole box."""
    n, nodes, d = forest.g.shape
    count, outputs = n * (nodes + 1).bit_length() - n + 2, forest.above.shape[2]
    levels = Levels(
        np.zeros((count, n), np.int64),
        np.full((count, n), -1),
        np.zeros((count, outputs)),
        np.zeros((count, outputs)),
        np.zeros((count, d + 1), np.int64),
        np.empty((count, d + 1, d + 1)),
        np.zeros((count, d + 1)),
        np.zeros((count, d + 1)),
        np.empty((count, POINTS, d)),
        np.zeros(count, np.int64),
        np.full(count, -1),
        np.zeros(count, np.int64),
        np.empty((count, d)),
        np.empty(count),
        np.empty(count),
        np.empty(count),
        np.zeros((count, 3), np.int64),
        np.zeros(3, np.int64),
        np.array([float(cutoff)]),
    )
    levels.high[0] = np.maximum(forest.above, 0.0).sum(axis=(0, 1))
    levels.low[0] = np.minimum(forest.below, 0.0).sum(axis=(0, 1))
    start = levels.basis[0], levels.inverse[0], levels.y[0], levels.point[0]
    start_basis(d, *start, forest.box, CAP)
    return levels
