"""Weights that produce given patterns, for units with enough weights.

A unit on n samples decides g·w >= h at every event. If the rows g of all events are linearly independent,
g·w = h + σ δ has a solution for all signs σ and any δ, so every pattern exists. For a threshold unit the
condition is rank(X) = n ([E23, Thm 2.3]). For a LIF unit it is rank nT of the stacked inputs, because leak
and history only multiply the rows of a sample by a triangular matrix with ones on its diagonal. But the
weight box and the margin limit δ, so independence alone proves nothing about *this* dictionary.

A smaller proof is enough. The optimum over all 0/1 patterns is known (`programs.shattered`), and its dual
point is feasible for any columns. So it is the optimum of the dictionary as soon as the dictionary holds the
few patterns in its solution. This module looks for these patterns, and returns only those that the simulator
confirms.

[E23] Ergen et al., Globally optimal training of neural networks with threshold activations, ICLR 2023.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from convexsnn.arrays import BoolArray, FloatArray, IntArray
from convexsnn.pricing.decisions import Decisions
from convexsnn.pricing.prices import Confirmed, Witnesses, confirmed

LEAST_SINGULAR_VALUE = 1e-8  # of rows of length 1, relative to the largest: below it rows count as dependent
UNREAD = ("silent", "read", "fires")  # spikes that are not read out; "read": as the next readout
MOST_WEIGHTS = 256  # of a linear program, because its basis is dense
SLACK = 1e-12  # of a row of that program, relative to the largest value that a row takes in the box

Rows = tuple[FloatArray, FloatArray, FloatArray]  # g (r, d), h (r,) and σ = ±1 (r,): σ (g·w − h) >= margin
Solve = Callable[[Rows], FloatArray | None]


def _leaves(decisions: Decisions, patterns: BoolArray, unread: str) -> np.ndarray:
    """Return the leaves (k, n) with readout (k, n·S); `unread` sets the spikes that are not read out.

    With a membrane readout, the spike of the same step has the same bit. Then one of the two rows, which
    differ only in h, implies the other.
    """
    bits = patterns.reshape(-1, decisions.samples, decisions.rows_per_sample)
    reads, membrane = decisions.reads, decisions.definition.reads.of_membrane
    node = np.zeros(bits.shape[:2], dtype=np.int64)
    for event in range(decisions.events):
        ahead = event + int(np.argmax(reads[event:] >= 0))  # the last event is always read
        follows = ahead == event or (membrane and ahead == event + 1) or unread == "read"
        node = 2 * node + 1 + (bits[:, :, reads[ahead]] if follows else unread == "fires")
    return node


def _rows(decisions: Decisions, leaves: np.ndarray) -> Rows:
    """Return the rows on the paths to leaves (n,), except those that always hold or that the next implies."""
    g, h, fires = decisions.path(leaves)
    h, sign = h.copy(), np.where(fires, 1.0, -1.0)
    needed = np.isfinite(h)
    for event in range(1, decisions.events):
        twice = needed[:, event] & needed[:, event - 1] & (fires[:, event] == fires[:, event - 1])
        twice &= (g[:, event] == g[:, event - 1]).all(axis=1)
        harder = sign[:, event] * np.maximum(sign[:, event] * h[:, event], sign[:, event] * h[:, event - 1])
        h[:, event] = np.where(twice, harder, h[:, event])
        needed[:, event - 1] &= ~twice
    return g[needed], h[needed], sign[needed]


def shatters(decisions: Decisions) -> bool:
    """Return whether all rows are clearly independent, so that without a weight box every pattern exists.

    The rows are those of the history without spikes. Another history multiplies them by a triangular matrix
    of full rank, or adds to them in a column of zeros, so they stay independent. False proves nothing.
    """
    silent = np.zeros((1, decisions.samples * decisions.rows_per_sample), bool)
    g = _rows(decisions, _leaves(decisions, silent, "silent")[0])[0]
    length = np.linalg.norm(g, axis=1, keepdims=True)
    if len(g) > decisions.dimension or not length.all():
        return False
    values = np.linalg.svd(g / length, compute_uv=False)
    return bool(values[-1] >= LEAST_SINGULAR_VALUE * values[0])


class _LeastNorm:
    """Least-norm weights with every membrane at h + σ δ, for the largest δ that the box allows."""

    def __init__(self, box: float, margin: float) -> None:
        self.box, self.margin = box, margin
        self.g: FloatArray = np.zeros((0, 0))
        self.inverse: FloatArray = self.g

    def __call__(self, rows: Rows) -> FloatArray | None:
        g, h, sign = rows
        if not np.array_equal(g, self.g):  # a unit without memory has the same rows for every pattern
            self.g, self.inverse = g, np.linalg.pinv(g, rcond=LEAST_SINGULAR_VALUE)
        start, direction = self.inverse @ h, self.inverse @ sign
        with np.errstate(divide="ignore", invalid="ignore"):  # 0/0 if a weight is on the box for all δ
            most = np.nanmin((np.copysign(self.box, direction) - start) / direction, initial=np.inf)
            least = np.nanmax((np.copysign(self.box, -direction) - start) / direction, initial=-np.inf)
        if not (least <= most < np.inf and most > 0 and most >= self.margin):
            return None
        return np.clip(start + most * direction, -self.box, self.box)


class _LargestMargin:
    """Weights of the largest margin in the box, by a linear program, if least-norm weights fail."""

    def __init__(self, box: float, margin: float) -> None:
        self.box, self.margin = box, margin

    def __call__(self, rows: Rows) -> FloatArray | None:
        g, h, sign = rows
        d = g.shape[1]
        if d > MOST_WEIGHTS:
            return None
        from convexsnn.pricing.small_lp import maximise, start_basis

        size = 1.0 + np.abs(g).sum(axis=1).max() * self.box + np.abs(h).max()
        basis, inverse = np.zeros(d + 1, np.int64), np.zeros((d + 1, d + 1))
        y, point = np.zeros(d + 1), np.zeros(d + 1)
        start_basis(d, basis, inverse, y, point, self.box, size)
        program = (len(g), np.ascontiguousarray(sign[:, None] * g), np.ones(len(g)), sign * h)
        state = maximise(*program, self.box, size, basis, inverse, y, point, self.margin, SLACK * size)
        return np.clip(point[:d], -self.box, self.box) if state == 1 else None


def _tried(
    decisions: Decisions, samples: FloatArray, patterns: BoolArray, unread: str, solve: Solve
) -> tuple[FloatArray, FloatArray]:
    """Return weights (k, d) for patterns (k, n·S), and margins as in `realise`."""
    weights = np.zeros((len(patterns), decisions.dimension))
    margins, tried = np.full(len(patterns), -np.inf), []
    for k, leaves in enumerate(_leaves(decisions, patterns, unread)):
        rows = _rows(decisions, leaves)
        solution = solve(rows) if len(rows[0]) else weights[k]
        if solution is not None:
            weights[k] = solution
            tried.append(k)
    seen, away = confirmed([decisions], samples, Witnesses(np.zeros(len(tried), int), weights[tried]))
    good = (seen == patterns[tried]).all(axis=1) & (away >= decisions.definition.margin)
    margins[tried] = np.where(good, away, -np.inf)
    return weights, margins


def realise(
    decisions: Decisions, samples: FloatArray, patterns: BoolArray, programs: bool = True
) -> tuple[FloatArray, FloatArray]:
    """Look for weights in the box that produce patterns with the margin of the definition.

    Parameters
    ----------
    samples : (n, T, d') array
        The distinct samples of `decisions`.
    patterns : (k, n·S) bool array
    programs : bool
        Whether to solve a linear program for each pattern without least-norm weights.

    Returns
    -------
    weights : (k, d) array
    margins : (k,) array
        As simulated; −inf where the simulator does not produce exactly this pattern. It may still exist,
        because only few of the possible histories are tried.
    """
    box, margin = decisions.definition.weight_box, decisions.definition.margin
    weights = np.zeros((len(patterns), decisions.dimension))
    margins = np.full(len(patterns), -np.inf)
    histories = UNREAD if decisions.events > decisions.rows_per_sample else UNREAD[:1]
    for solve in (_LeastNorm(box, margin), _LargestMargin(box, margin))[: 1 + programs]:
        for unread in histories:
            missing = np.flatnonzero(margins == -np.inf)
            if not len(missing):
                return weights, margins
            weights[missing], margins[missing] = _tried(decisions, samples, patterns[missing], unread, solve)
    return weights, margins


def realise_all(units: Sequence[Decisions], samples: FloatArray, patterns: BoolArray) -> Confirmed | None:
    """Return a confirmed witness of every pattern (k, n·S), each from any of the units, or None."""
    unit, margins = np.zeros(len(patterns), int), np.full(len(patterns), -np.inf)
    weights = np.zeros((len(patterns), units[0].dimension))

    def look(k: int, rows: IntArray, programs: bool) -> None:
        weights[rows], margins[rows] = realise(units[k], samples, patterns[rows], programs)
        unit[rows] = k

    for k in range(len(units)):
        if len(missing := np.flatnonzero(margins == -np.inf)):
            look(k, missing, programs=False)
    for row in np.flatnonzero(margins == -np.inf):  # one by one, because a single failure is enough
        for k in range(len(units)):
            if margins[row] == -np.inf:
                look(k, np.array([row]), programs=True)
        if margins[row] == -np.inf:
            return None
    return Confirmed(Witnesses(unit, weights), patterns, margins)
