"""The hinge's linear program by column generation: the simplex method with a warm start in each round.

    min  Σ c a_i ξ_i + λ Σ (w⁺ + w⁻)    subject to  y_i D_i (w⁺ − w⁻) + ξ_i >= 1,   all >= 0

A basis stays feasible when columns are added, so that a round takes only a few primal pivots of HiGHS
(Huangfu & Hall 2018). The row duals times y are u; patterns with |dᵀu| > λ are added, the largest first.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from convexsnn.arrays import FloatArray, IntArray
from convexsnn.errors import SolverFailed
from convexsnn.programs import L1Program, Point

FIRST = 200  # columns of the first round
MORE = 100  # least number of new columns in a round
ABOVE = 1e-10  # excess over λ, relative to λ, of a violated column
SMALL = 1e-6  # λ below which the costs are in other units
NEAR = 1e-6  # largest miss of a margin that counts as rounding
PIVOTS = 100  # largest number of pivots in a round, for each row and column: the simplex method can cycle


def _unit(regularization: float) -> float:
    """Return the power of two by which all costs are multiplied: HiGHS's tolerances are absolute, 1e-9."""
    if regularization >= SMALL:
        return 1.0
    return float(2.0 ** min(np.floor(-np.log2(regularization)), 60.0))


class ColumnSimplex:
    """A linear program of one output that grows by columns.

    Attributes
    ----------
    columns, signs : arrays (k,)
        Pattern and sign of each present weight, w⁺ or w⁻.
    """

    def __init__(self, program: L1Program) -> None:
        import highspy

        self.program, rows = program, program.dictionary.rows
        self.columns, self.signs = np.zeros(0, np.int64), np.zeros(0)
        self.unit = _unit(program.regularization)
        self.y = program.targets[:, 0]
        highspy.Highs.resetGlobalScheduler(True)
        self.solver = highspy.Highs()
        settings: dict[str, Any] = {
            "output_flag": False,
            "threads": 1,
            "random_seed": 0,
            "presolve": "off",  # it would discard the basis
            "simplex_strategy": 4,  # primal: new columns leave the basis feasible
            "primal_feasibility_tolerance": 1e-9,
            "dual_feasibility_tolerance": 1e-9,
        }
        for key, value in settings.items():
            self.solver.setOptionValue(key, value)
        model = highspy.HighsLp()
        model.num_col_, model.num_row_ = rows, rows
        model.col_cost_ = program.row_scale[:, 0] * np.full(rows, self.unit)
        model.col_lower_, model.col_upper_ = np.zeros(rows), np.full(rows, np.inf)
        model.row_lower_, model.row_upper_ = np.ones(rows), np.full(rows, np.inf)
        model.a_matrix_.format_ = highspy.MatrixFormat.kColwise
        model.a_matrix_.start_ = np.arange(rows + 1)
        model.a_matrix_.index_, model.a_matrix_.value_ = np.arange(rows), np.ones(rows)
        self.solver.passModel(model)

    def add(self, columns: IntArray, signs: FloatArray) -> None:
        """Add weights with these patterns and signs."""
        bits = self.program.dictionary.toarray(columns)
        place, index = np.nonzero(bits.T)
        starts = np.searchsorted(place, np.arange(len(columns)))
        values = signs[place] * self.y[index]
        cost, zero = np.full(len(columns), self.program.regularization * self.unit), np.zeros(len(columns))
        most = np.full(len(columns), np.inf)
        self.solver.addCols(
            len(columns),
            cost,
            zero,
            most,
            len(index),
            starts.astype(np.int32),
            index.astype(np.int32),
            values,
        )
        self.columns = np.concatenate([self.columns, columns])
        self.signs = np.concatenate([self.signs, signs])

    def run(self, seconds: float | None = None) -> tuple[Point, str]:
        """Return the optimum over the present columns with its dual point, and "" if it was reached.

        If it was not, the point is the best one so far, and the text is the reason.

        Raises
        ------
        SolverFailed
            HiGHS stops without a point.
        """
        import highspy

        if seconds is not None:
            self.solver.setOptionValue("time_limit", float(self.solver.getRunTime() + max(seconds, 0.01)))
        pivots = PIVOTS * (self.solver.getNumRow() + self.solver.getNumCol())
        self.solver.setOptionValue("simplex_iteration_limit", pivots)  # of this run
        self.solver.run()
        status, model = self.solver.getModelStatus(), highspy.HighsModelStatus
        solution, rows = self.solver.getSolution(), self.program.dictionary.rows
        values, duals = np.array(solution.col_value), np.array(solution.row_dual) / self.unit
        stopped = {
            model.kOptimal: "",
            model.kTimeLimit: "time limit",
            model.kIterationLimit: "no further progress",
        }
        if status not in stopped or not np.isfinite(values).all():
            raise SolverFailed(
                f"working_set: the simplex method stopped with {self.solver.modelStatusToString(status)!r}"
            )
        weights = np.zeros(self.program.shape)
        np.add.at(weights[:, 0], self.columns, self.signs * np.maximum(values[rows:], 0.0))
        dual = (self.y * np.clip(duals, 0.0, self.program.row_scale[:, 0]))[:, None]
        return self._on_margin(Point(weights, dual)), stopped[status]

    def _on_margin(self, point: Point) -> Point:
        """Return the point with weights that reach the margins that HiGHS misses by its tolerance.

        In units of a tiny λ the loss of so small a miss is larger than the penalty.
        """
        if self.unit == 1.0:
            return point
        margins = self.y * self.program.outputs(point.weights)[:, 0]
        near = margins[(margins < 1.0) & (margins > 1.0 - NEAR)]
        if not len(near):
            return point
        moved = Point(point.weights * ((1.0 + 1e-15) / near.min()), point.dual)
        better = self.program.primal_objective(moved) < self.program.primal_objective(point)
        return moved if better else point

    def missing(self, prices: FloatArray) -> tuple[IntArray, FloatArray]:
        """Return the patterns whose prices (P,) exceed λ most, and their signs; none that is present.

        The price of a present weight exceeds λ only by the tolerance of HiGHS, which is absolute; another
        copy of its column would change nothing.
        """
        excess = np.abs(prices) - self.program.regularization * (1.0 + ABOVE)
        present = np.sign(prices[self.columns]) == self.signs
        excess[self.columns[present]] = 0.0
        count = FIRST if not len(self.columns) else max(MORE, len(self.columns) // 5)
        order = np.argsort(-excess, kind="stable")[:count]
        violated = order[excess[order] > 0]
        return violated, np.sign(prices[violated])
