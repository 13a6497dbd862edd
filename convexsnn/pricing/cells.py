"""The oracle `cells`: branch and bound over the cells of weight space, given by their vertices."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from convexsnn.arrays import FloatArray
from convexsnn.errors import UnsupportedError
from convexsnn.pricing.branching import unit_of
from convexsnn.pricing.certain import cell_weights, weights_of
from convexsnn.pricing.decisions import Decisions
from convexsnn.pricing.prices import AT_ONCE, BranchAndBound, Searched
from convexsnn.pricing.rational import ExactCells
from convexsnn.pricing.walk import (
    ASKED,
    ASKED_LEAF,
    DONE,
    NO_ROOM,
    grown,
    new_leaves,
    new_stack,
    norm,
    open_bound,
    trees_of,
    walk,
)
from convexsnn.threads import stopping

MOST_DIMENSIONS = 8  # a box has 2^d vertices
RELATIVE = 1e-10


class CellWalk(BranchAndBound):
    """Branch and bound over cells given by their vertices; for few weights per unit."""

    name = "cells"

    def __init__(self, units: Sequence[Decisions], samples: FloatArray) -> None:  # noqa: D107
        super().__init__(units, samples)
        if units[0].dimension > MOST_DIMENSIONS:
            raise UnsupportedError(
                f"oracle cells: {units[0].dimension} trained weights a unit, at most {MOST_DIMENSIONS}; "
                "use tree or mip"
            )
        self._cells = [ExactCells(one) for one in units]

    def search(  # noqa: D102
        self, unit: int, prices: FloatArray, cutoff: float, group: bool, deadline: float
    ) -> Searched:
        decisions = self.units[unit]
        table = prices.reshape(decisions.samples, decisions.rows_per_sample, -1)
        order = np.argsort(-np.abs(table).sum(axis=(1, 2)), kind="stable")
        trees = trees_of(decisions, table, order, group)
        stack, leaves = new_stack(trees, cutoff), new_leaves(trees, 64)
        weights: list[FloatArray] = []
        while True:
            state, count = walk(trees, stack, leaves, 1 + (AT_ONCE >> decisions.dimension), False, True)
            weights.append(weights_of(decisions, leaves.weights[:count]))
            if state in (ASKED, ASKED_LEAF):
                above = int(stack.top[0]) + 1
                rows = decisions.path_rows(stack.node[above])
                inside = cell_weights(self._cells[unit], rows)
                if inside is not None and state == ASKED:
                    stack.top[0] += 1
                elif inside is not None:
                    weights.append(inside)
                    worth = float(norm(stack.high[above], stack.low[above], group))
                    stack.cutoff[0] = max(stack.cutoff[0], worth)
            if state == NO_ROOM:
                stack = grown(stack)
            elif state == DONE or stopping() or time.perf_counter() > deadline:
                still_open = 0.0 if state == DONE else open_bound(stack, group)
                bound = max(float(stack.cutoff[0]), still_open)
                rounding = (prices.size + 4) * unit_of(prices)  # in the sums of prices
                if rounding > RELATIVE * bound:  # else below what any comparison of bounds allows
                    bound += rounding
                candidates = self.confirm(unit, np.concatenate(weights))
                return Searched(candidates, bound, state == DONE, int(stack.nodes[0]))
