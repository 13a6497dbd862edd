"""The oracle `tree`: branch and bound over the decision trees, for any number of weights per unit.

It shares no search with the oracle `cells`: it bounds cells by linear programs (`branching`), not by
vertices, and drops a cell only if the multipliers of its program prove it empty despite all rounding.
Rational arithmetic decides the cells that floats leave open, and in an exact search every empty cell.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from convexsnn.arrays import FloatArray, IntArray
from convexsnn.pricing.branching import (
    BRANCHING,
    DECIDING,
    DONE,
    LEAF,
    Forest,
    Levels,
    decide,
    enter,
    forest_of,
    grow,
    new_levels,
    norm,
    unit_of,
)
from convexsnn.pricing.certain import SURE, scaled_cell, weights_of
from convexsnn.pricing.decisions import Decisions
from convexsnn.pricing.prices import AT_ONCE, BranchAndBound, Confirmed, Searched, dual_norm
from convexsnn.pricing.rational import ExactCells
from convexsnn.pricing.small_lp import OPTIMAL, RAY, solved
from convexsnn.threads import stopping


def inside(unit: Decisions, leaves: IntArray) -> FloatArray:
    """Return candidate weights (k, d) whose path leads to `leaves` (n,), the first one far from all rows.

    On faces of closed cells, some rows hold with equality. Weights with few digits are more likely to lie
    exactly on them.
    """
    a, b, fires, _ = scaled_cell(unit, unit.path_rows(leaves))
    closed, kappa = unit.definition.margin == 0, np.ones(len(b))
    for _ in range(unit.dimension + 1):
        solution = solved(a, b, kappa, unit.scaled.box)
        rows = solution.basis[(solution.basis >= 0) & (solution.multipliers > 0)]
        tight = rows[fires[rows] & (kappa[rows] > 0)]
        if solution.state != OPTIMAL or not closed or solution.margin > SURE or not len(tight):
            break
        kappa[tight] = 0.0
    digits = (2.0**24, 2.0**10) if (kappa == 0).any() else ()
    points = [solution.weights, *(np.round(solution.weights * q) / q for q in digits)]
    return weights_of(unit, np.array(points))


@dataclass(eq=False)
class _Search:
    """One search: a unit, and one sign of one output (or all outputs for groups)."""

    unit: int
    prices: FloatArray
    forest: Forest
    levels: Levels
    doubt: float = 0.0  # largest worth of a leaf without known weights
    candidates: list[Confirmed] = field(default_factory=list)

    @property
    def bound(self) -> float:
        """Upper bound on the worth of every pattern."""
        levels, top = self.levels, int(self.levels.state[0])
        open_ = [k for k in range(top + 1) if levels.stage[k] < 3]
        worth = [float(norm(levels.high[k], levels.low[k], self.forest.group)) for k in open_]
        return max(float(levels.cutoff[0]), self.doubt, *worth)


class TreeOracle(BranchAndBound):
    """Branch and bound over the decision trees by linear programs; exact.

    Parameters
    ----------
    exact : bool
        Whether to prove every empty cell in rational arithmetic: then the bound is free of rounding.
    """

    name = "tree"

    def __init__(  # noqa: D107
        self, units: Sequence[Decisions], samples: FloatArray, exact: bool = False
    ) -> None:
        super().__init__(units, samples)
        self.proves = exact
        self.words = self.name + ", in rational arithmetic" * exact
        self._cells = [ExactCells(unit) for unit in units]

    def search(self, unit: int, prices: FloatArray, cutoff: float, group: bool, deadline: float) -> Searched:  # noqa: D102
        decisions = self.units[unit]
        table = prices.reshape(decisions.samples, decisions.rows_per_sample, -1)
        forest = forest_of(decisions, table, group, self.proves)
        levels = new_levels(forest, cutoff)
        search = _Search(unit, prices, forest, levels)
        while True:
            state = grow(forest, levels, 1 + AT_ONCE // (decisions.dimension + 1) ** 2)
            level = int(levels.state[0])
            if state == LEAF:
                self._leaf(search, levels.node[level])
            elif state in (DECIDING, BRANCHING):
                sample, node, fires = (int(v) for v in levels.event[level])
                empty = self._empty(search)
                if state == DECIDING and empty:
                    decide(forest, levels, level, sample, not fires)
                elif state == DECIDING:
                    levels.possible[level, sample] = node
                elif not empty:
                    enter(forest, levels, level)
            if state == DONE or stopping() or time.perf_counter() > deadline:
                nothing = self.confirm(unit, np.zeros((0, decisions.dimension)))
                candidates = nothing.joined(*search.candidates)
                return Searched(candidates, search.bound, state == DONE, int(levels.state[2]))

    def _empty(self, search: _Search) -> bool:
        """Return whether the cell below the present level is proved empty."""
        levels, cells = search.levels, self._cells[search.unit]
        count = int(levels.state[0]) + 1
        events, basis = levels.event[:count], levels.basis[count]
        rows = [(sample, node, fires == 1) for sample, node, fires in events.tolist()]
        y, entering = np.zeros(count), int(levels.state[1]) - RAY
        y[basis[basis >= 0]] = levels.y[count][basis >= 0]
        if 0 <= entering < count:
            y[entering] = 1.0
        e = cells.unit.scaled.exponent[events[:, 0], events[:, 1]]
        if cells.refuted(rows, np.ldexp(y, e.min() - e)):
            return True
        return cells.point(rows, basis) is None

    def _leaf(self, search: _Search, leaves: IntArray) -> None:
        """Look for weights that lead to a leaf, and raise the cutoff to their worth."""
        unit, levels, level = self.units[search.unit], search.levels, int(search.levels.state[0])
        value = float(norm(levels.high[level], levels.low[level], search.forest.group))
        least = value - 1e-9 * abs(value)
        if self._confirm(search, inside(unit, leaves)) >= least:
            return
        point = self._cells[search.unit].point(unit.path_rows(leaves))
        if point is not None and self._confirm(search, np.array([point], dtype=float)) < least:
            search.doubt = max(search.doubt, value)

    def _confirm(self, search: _Search, weights: FloatArray) -> float:
        """Add the confirmed ones of weights (k, d) to the candidates; return their largest worth."""
        every = self.confirm(search.unit, weights)
        good = every.select(every.margins >= self.definition.margin)
        if self.definition.margin == 0:
            good = good.select(self.exact_ones(good))
        best = float(dual_norm(good.patterns, search.prices, search.forest.group).max(initial=0.0))
        search.candidates.append(good)
        if best > search.levels.cutoff[0]:
            # higher by the possible rounding of a sum of prices, so that the search skips this pattern
            search.levels.cutoff[0] = best + (search.prices.size + 4) * unit_of(search.prices)
        return best
