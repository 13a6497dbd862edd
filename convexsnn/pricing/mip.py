"""The pricing problem as a mixed-integer program: for any number of weights per unit, and few samples.

    max over w, s of  Σ u_i s_i    subject to  |w_j| <= B  and for every event e of every sample

        g·w − h(s) >=  ε − M (1 − s_e) − M·away      fires
        g·w − h(s) <= −ε + M' s_e      + M'·away     silent

Rows come from the decision trees. If the rows of one event share g, and h is affine in the earlier spikes,
one pair of rows describes the event; this is so for a subtracting reset. Otherwise the tree is divided by its
latest spikes into parts with this property, and `away` counts the spikes by which s differs from the part. M
and M' are the smallest values that the box allows.

Weights are those of `Decisions.scaled`, and every row is multiplied by a power of two, so that |g·w| + |h|
is at most SIZE in the box. HiGHS works within tolerances. It can drop a whole subtree whose only solutions
hold within these tolerances. So no row may depend on them. Margins of their size are replaced by an overlap
of the two sides, which only adds patterns. Sets of events that no weights produce are forbidden by new rows,
one at a time, when they occur in a solution (combinatorial Benders cuts: Codato & Fischetti 2006). Faces of
closed cells can still make bounds loose, but never wrong.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from convexsnn.arrays import BoolArray, FloatArray, IntArray
from convexsnn.bits import unique_rows
from convexsnn.errors import SolverFailed, UnsupportedError
from convexsnn.pricing.certain import SURE, scaled_cell, weights_of
from convexsnn.pricing.decisions import Decisions
from convexsnn.pricing.prices import Oracle, Searched, dual_norm, trivial_bound
from convexsnn.pricing.small_lp import OPTIMAL, solved

TOLERANCE = 1e-8  # HiGHS's, for rows, whole numbers and reduced costs
SIZE = 16.0  # largest |g·w| + |h| over the box of a row, at least half of it is reached
RELATIVE = 1e-7  # of the same: relaxation of rows, above TOLERANCE
OVERLAP = 1e-6  # of the same: margins up to this are too close to TOLERANCE
DROPPED = 1e-9  # largest size of coefficients that are dropped; HiGHS would drop them too
SAFETY = 1e-9  # of the largest value that prices allow: increase of the bound
SCALE = 1e4  # this largest value in the program of HiGHS: TOLERANCE is far below SAFETY · SCALE
EXACT = 1e-12  # of the largest number in a sum: far above rounding


@dataclass(frozen=True, eq=False)
class _Part:
    """Nodes of one event of a sample that share g and have h = first + slopes·spikes."""

    g: FloatArray
    first: float
    slopes: FloatArray  # (e,) on the earlier events
    low: float  # smallest and largest h
    high: float
    conditions: tuple[tuple[int, int], ...]  # earlier events and their outcomes in this part

    def scaled(self, margin: float, error: float, box: float, unit: int) -> tuple[_Part, float, float]:
        """Return the part, a margin and a bound on rounding as a row of size SIZE on scaled weights.

        Weights are 2^unit times the scaled ones, which lie within `box`.
        """
        h = [value for value in (self.low, self.high) if np.isfinite(value)]
        exponents = [int(np.frexp(g)[1]) + unit for g in self.g if g] + [int(np.frexp(v)[1]) for v in h if v]
        e = max(exponents, default=0)
        size = box * float(np.abs(np.ldexp(self.g, unit - e)).sum())
        size += float(max((abs(np.ldexp(v, -e)) for v in h), default=0.0))
        e += int(np.frexp(size)[1]) - int(np.log2(SIZE))
        part = replace(
            self,
            g=np.ldexp(self.g, unit - e),
            first=float(np.ldexp(self.first, -e)),
            slopes=np.ldexp(self.slopes, -e),
            low=float(np.ldexp(self.low, -e)),
            high=float(np.ldexp(self.high, -e)),
        )
        return part, float(np.ldexp(margin, -e)), float(np.ldexp(error, -e))


def _parts(g: FloatArray, h: FloatArray, conditions: tuple[tuple[int, int], ...] = ()) -> Iterator[_Part]:
    """Divide the nodes of one event, g (2, …, 2, d) and h (2, …, 2) by the earlier events, into parts."""
    free = [event for event, size in enumerate(h.shape) if size == 2]
    first, slopes = float(h.flat[0]), np.zeros(h.ndim)
    low, high = float(h.min()), float(h.max())
    if np.isfinite(low) and np.isfinite(high):
        affine = np.full(h.shape, first)
        for event in free:
            slopes[event] = h.take(1, axis=event).flat[0] - first
            shape = np.where(np.arange(h.ndim) == event, 2, 1)
            affine = affine + np.array([0.0, slopes[event]]).reshape(shape)
        # a row without weights is true or false, so its h must be the same everywhere
        fits = low == high or g.any() and np.abs(h - affine).max() <= EXACT * max(-low, high)
    else:
        fits = low == high
    rows = g.reshape(-1, g.shape[-1])
    if fits and (rows == rows[0]).all():
        yield _Part(rows[0], first, slopes, low, high, conditions)
        return
    for event in reversed(free):
        (g0, g1), (h0, h1) = np.split(g, 2, axis=event), np.split(h, 2, axis=event)
        if (g0 != g1).any() or (h0 != h1).any():
            yield from _parts(g0, h0, (*conditions, (event, 0)))
            yield from _parts(g1, h1, (*conditions, (event, 1)))
            return


@dataclass
class _Rows:
    """Rows lower <= coefficients·(w, s) <= upper of one unit's program."""

    reach: FloatArray  # largest absolute value of every variable
    index: list[int] = field(default_factory=list)
    value: list[float] = field(default_factory=list)
    start: list[int] = field(default_factory=lambda: [0])
    lower: list[float] = field(default_factory=list)
    upper: list[float] = field(default_factory=list)
    parts: list[list[_Part]] = field(default_factory=list)  # of every event of every sample
    known: set[tuple[tuple[int, float], ...]] = field(default_factory=set)

    def add(self, row: dict[int, float], lower: float, upper: float) -> None:
        """Add a row; coefficients too small for HiGHS are dropped, and the row is widened by their effect."""
        slack = 0.0
        for column, value in row.items():
            if abs(value) <= DROPPED:
                slack += abs(value) * float(self.reach[column])
            else:
                self.index.append(column)
                self.value.append(value)
        self.start.append(len(self.index))
        self.lower.append(lower - slack)
        self.upper.append(upper + slack)

    def add_part(self, part: _Part, first: int, event: int, box: float, margin: float, error: float) -> None:
        """Add one scaled part of a sample's event; the variables of the sample's events begin at `first`."""
        reach = box * float(np.abs(part.g).sum())
        size = max(abs(part.low), abs(part.high)) if np.isfinite(part.low) else 0.0
        need = margin - RELATIVE * (reach + size)
        if reach > 0 and margin <= OVERLAP * (reach + size):
            need = -OVERLAP * (reach + size)
        need = max(need - error, -4.0 * SIZE)  # then the row says nothing
        top, bottom = reach - part.low, -reach - part.high  # of g·w − h
        away = {first + earlier: -1.0 if outcome else 1.0 for earlier, outcome in part.conditions}
        ones = sum(outcome for _, outcome in part.conditions)  # unmet conditions: ones + away·s
        row = dict(enumerate(part.g.tolist()))
        row |= {first + earlier: -float(part.slopes[earlier]) for earlier in range(event)}
        variable = first + event
        big = need - bottom
        if top < need:  # the event never fires in this part
            self.add({variable: 1.0} | {column: -sign for column, sign in away.items()}, -np.inf, ones)
        elif big > DROPPED:
            self.add(
                row | {variable: -big} | {column: big * sign for column, sign in away.items()},
                part.first + need - big - big * ones,
                np.inf,
            )
        big = need + top
        # the event always fires in this part
        if bottom > -need or (margin == 0 and reach == 0 and bottom >= 0):
            self.add({variable: 1.0} | away, 1.0 - ones, np.inf)
        elif big > DROPPED:
            self.add(
                row | {variable: -big} | {column: -big * sign for column, sign in away.items()},
                -np.inf,
                part.first - need + big * ones,
            )

    def add_conflict(self, conflict: IntArray, fires: BoolArray) -> bool:
        """Forbid a set of events of `fires` (n, E) that no weights produce; return whether its row is new."""
        events, d = fires.shape[1], len(self.reach) - fires.size
        row: dict[int, float] = {}
        for sample, event in zip(*divmod(conflict, events), strict=True):
            bits, first = fires[sample], d + sample * events
            parts = self.parts[sample * events + event]
            part = next(
                p for p in parts if all(bits[earlier] == outcome for earlier, outcome in p.conditions)
            )
            spikes = [event, *(earlier for earlier, _ in part.conditions)]
            # of the other spikes, only those whose change would relax this row
            spikes += [k for k, a in enumerate(part.slopes) if a and (a > 0) == (bits[k] == bits[event])]
            row |= {first + k: -1.0 if bits[k] else 1.0 for k in spikes}
        key = tuple(sorted(row.items()))
        if key in self.known:
            return False
        self.known.add(key)
        self.add(row, 1.0 - sum(value < 0 for value in row.values()), np.inf)
        return True


def _rows(unit: Decisions, deadline: float) -> _Rows | None:
    """Return the rows of a unit's program, or None if the deadline comes first."""
    scaled, margin, d = unit.scaled, unit.definition.margin, unit.dimension
    box, exponent = scaled.box, int(np.frexp(scaled.unit)[1]) - 1
    errors = np.ldexp(scaled.error, scaled.exponent)
    rows = _Rows(np.r_[np.full(d, box), np.ones(unit.samples * unit.events)])
    for sample in range(unit.samples):
        for event in range(unit.events):
            if time.perf_counter() > deadline:
                return None
            level, sides = slice(2**event - 1, 2 ** (event + 1) - 1), (2,) * event
            g, h = unit.g[sample, level].reshape(*sides, d), unit.h[sample, level].reshape(sides)
            rows.parts.append(list(_parts(g, h)))
            error = float(errors[sample, level].max())
            for part in rows.parts[-1]:
                scaled_part, *sizes = part.scaled(margin, error, box, exponent)
                rows.add_part(scaled_part, d + sample * unit.events, event, box, *sizes)
    return rows


@dataclass(frozen=True, eq=False)
class _Answer:
    """Result of HiGHS: a bound (inf for none), whether the search ended, and its points (k, variables)."""

    bound: float
    ended: bool
    points: FloatArray
    nodes: int


def _model(rows: _Rows, objective: FloatArray, least: float) -> Any:
    """Return max objective·s, at least `least`, as a highspy.HighsLp."""
    import highspy

    count, binaries = len(rows.reach), len(objective)
    d = count - binaries
    worth = np.flatnonzero(objective)
    lp: Any = highspy.HighsLp()
    lp.num_col_, lp.num_row_ = count, len(rows.lower) + 1
    lp.sense_ = highspy.ObjSense.kMaximize
    lp.col_cost_ = np.r_[np.zeros(d), objective]
    lp.col_lower_, lp.col_upper_ = np.r_[-rows.reach[:d], np.zeros(binaries)], rows.reach
    lp.row_lower_, lp.row_upper_ = np.r_[rows.lower, least], np.r_[rows.upper, np.inf]
    lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    lp.a_matrix_.start_ = np.r_[rows.start, len(rows.index) + len(worth)].astype(np.int32)
    lp.a_matrix_.index_ = np.r_[rows.index, d + worth].astype(np.int32)
    lp.a_matrix_.value_ = np.r_[rows.value, objective[worth]]
    kinds = highspy.HighsVarType
    lp.integrality_ = [kinds.kContinuous] * d + [kinds.kInteger] * binaries
    return lp


def _solve(lp: Any, time_limit: float) -> _Answer:
    """Run HiGHS on a program whose variables are all bounded."""
    import highspy

    solver = highspy.Highs()
    settings: dict[str, Any] = {
        "output_flag": False,
        "threads": 1,
        "random_seed": 0,
        "primal_feasibility_tolerance": TOLERANCE,
        "dual_feasibility_tolerance": TOLERANCE,
        "mip_feasibility_tolerance": TOLERANCE,
        "mip_rel_gap": 0.0,
        "mip_abs_gap": 0.0,
        "mip_improving_solution_save": True,
        "time_limit": max(time_limit, 0.0),
    }
    # other code in this process may have started HiGHS with another number of threads
    highspy.Highs.resetGlobalScheduler(True)
    for key, value in settings.items():
        if solver.setOptionValue(key, value) != highspy.HighsStatus.kOk:
            raise SolverFailed(f"highs: option {key} = {value!r} was refused")
    if solver.passModel(lp) == highspy.HighsStatus.kError:
        raise SolverFailed("highs: refuses the pricing program; its numbers may be badly scaled")
    solver.run()
    model, status, info = highspy.HighsModelStatus, solver.getModelStatus(), solver.getInfo()
    nodes = max(int(info.mip_node_count), 0)
    if status in (model.kInfeasible, model.kUnboundedOrInfeasible):  # bounded, so infeasible
        return _Answer(-np.inf, True, np.zeros((0, lp.num_col_)), nodes)
    if status not in (model.kOptimal, model.kTimeLimit, model.kInterrupt):
        raise SolverFailed(f"highs: pricing stopped with {solver.modelStatusToString(status)!r}")
    points = [solution.col_value for solution in solver.getSavedMipSolutions()]
    points += [solver.getSolution().col_value] if solver.getSolution().value_valid else []
    table = np.array([p for p in points if len(p) == lp.num_col_]).reshape(-1, lp.num_col_)
    bound = float(info.mip_dual_bound)
    return _Answer(bound if np.isfinite(bound) else np.inf, status == model.kOptimal, table, nodes)


def _inside(unit: Decisions, fires: BoolArray) -> tuple[FloatArray, IntArray]:
    """Return weights (·, d) that produce the events `fires` (n, E), far from thresholds.

    Points of the mixed-integer program lie on the walls of their cells, where rounding decides. The closed
    definition gets a second point, which may lie on the walls of firing events. If there are no such weights,
    also returns a set of the events, as sample · E + event, that no weights produce together.
    """
    leaves = np.zeros(unit.samples, np.int64)
    for event in range(unit.events):
        leaves = 2 * leaves + 1 + fires[:, event]
    a, b, row_fires, error = scaled_cell(unit, unit.path_rows(leaves))
    d, box, closed = unit.dimension, unit.scaled.box, unit.definition.margin == 0
    points = []
    for kappa in (np.ones(len(b)), (~row_fires).astype(np.float64))[: 1 + closed]:
        solution = solved(a, b, kappa, box)
        y = solution.proof
        # of these rows; no weights satisfy all of them if `excess` is positive
        excess = y @ b - box * np.abs(y @ a).sum()
        if kappa.all() and excess > y @ (SURE + 4.0 * error):
            return np.zeros((0, d)), unit.rows(leaves)[3][y > 0]
        if solution.state == OPTIMAL:
            points.append(weights_of(unit, solution.weights))
    return np.array(points).reshape(len(points), d), np.zeros(0, np.int64)


class MipOracle(Oracle):
    """Branch and cut by HiGHS over the spikes of all samples; its bounds depend on the arithmetic of HiGHS.

    `Priced.complete` is true if HiGHS ended and the simulator reaches the bound, or if no pattern is worth
    more than the cutoff. Otherwise, as can happen for the closed definition, the bound still holds.
    """

    name = "mip"
    proves_bounds = False  # the bound is the solver's word

    def __init__(self, units: Sequence[Decisions], samples: FloatArray) -> None:  # noqa: D107
        super().__init__(units, samples)
        self._rows: dict[int, _Rows] = {}

    def search_all(self, prices: FloatArray, cutoff: float, group: bool, deadline: float) -> Searched:  # noqa: D102
        if group and prices.shape[1] > 1:
            raise UnsupportedError(
                f"oracle mip: the Euclidean norm over {prices.shape[1]} outputs is not linear in spikes; "
                "use cells or tree"
            )
        sides = [sign * column for column in prices.T for sign in (1.0, -1.0)]
        jobs = [(k, side, float(np.maximum(side, 0).sum())) for k in range(len(self.units)) for side in sides]
        jobs.sort(key=lambda job: -job[2])
        candidates = self.confirm(0, np.zeros((0, self.units[0].dimension)))
        best, bound, complete, nodes = cutoff, cutoff, True, 0
        for place, (k, side, most) in enumerate(jobs):
            now = time.perf_counter()
            until = min(deadline, now + (deadline - now) / (len(jobs) - place))
            side_bound, ended, again = most, True, most > best
            while again:
                answer = self._ask(k, side, best, until)
                side_bound, ended = min(side_bound, answer.bound), answer.ended
                nodes += answer.nodes
                weights, again = self._learn(k, answer.points)
                fresh = self.confirm(k, weights)
                candidates = candidates.joined(fresh)
                good = fresh.patterns[fresh.margins >= self.definition.margin]
                best = max(best, float(dual_norm(good, prices, False).max(initial=0.0)))
                again &= ended and side_bound > best + 4 * SAFETY * most
            bound = max(bound, side_bound)
            complete &= ended and side_bound <= best + 4 * SAFETY * most
        bound = min(max(bound, best), max(cutoff, trivial_bound(prices, group)))
        return Searched(candidates, bound, complete, nodes)

    def _ask(self, k: int, prices: FloatArray, cutoff: float, deadline: float) -> _Answer:
        """Return the answer of HiGHS for one sign of one output, with a safe bound in units of prices."""
        unit = self.units[k]
        rows = self._rows.get(k) or _rows(unit, deadline)
        time_left = deadline - time.perf_counter()
        if rows is None or time_left <= 0:
            return _Answer(np.inf, False, np.zeros((0, unit.dimension)), 0)
        self._rows[k] = rows
        most = float(np.maximum(prices, 0).sum())
        objective = np.zeros((unit.samples, unit.events))
        events = np.flatnonzero(unit.reads >= 0)
        scaled = prices.reshape(unit.samples, -1) / most * SCALE
        small = np.abs(scaled) <= DROPPED
        objective[:, events] = np.where(small, 0.0, scaled)[:, unit.reads[events]]
        # patterns at the cutoff may be included, those above it must not be excluded
        safety = SAFETY * SCALE + float(np.abs(scaled[small]).sum())
        least = cutoff / most * SCALE - safety if cutoff > 0 else -np.inf
        answer = _solve(_model(rows, objective.ravel(), least), time_left)
        bound = max(cutoff, (answer.bound + safety) / SCALE * most)
        return _Answer(bound, answer.ended, answer.points, answer.nodes)

    def _learn(self, k: int, points: FloatArray) -> tuple[FloatArray, bool]:
        """Return candidates (·, d) from the points of a program, and whether it got new rows."""
        unit, new_rows = self.units[k], False
        d = unit.dimension
        candidates = [weights_of(unit, points[:, :d])]
        for point in points:
            fires = point[d:].reshape(unit.samples, unit.events) > 0.5
            weights, conflict = _inside(unit, fires)
            candidates.append(weights)
            if len(conflict):
                new_rows |= self._rows[k].add_conflict(conflict, fires)
        weights = np.concatenate(candidates)
        return weights[unique_rows(weights)[0]], new_rows  # HiGHS returns its best point twice
