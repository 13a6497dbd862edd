"""The pricing problem as a mixed-integer program: for any number of weights a unit, and few samples.

    max over w, s of  Σ u_i s_i    subject to  |w_j| <= B  and for every event e of every sample

        g·w − h(s) >=  ε − M (1 − s_e) − M·away      fires
        g·w − h(s) <= −ε + M' s_e      + M'·away     silent

Rows come from the decision trees. Where the rows of one event share g and h is affine in the earlier
spikes, as for a subtracting reset, one pair says all; else the tree is split by its latest spikes into
parts where that holds, and `away` counts the spikes in which s is outside the part. M and M' are the
least that the box allows.

HiGHS works within tolerances, and drops whole subtrees where a point is a solution within them and none
beyond them. So no row may be decided by them: margins of their order are replaced by an overlap of the
two sides, which only adds patterns, and rows that events share no weights for are added as they turn up
(combinatorial Benders cuts: Codato & Fischetti 2006). What is left of faces of closed cells makes bounds
loose, never wrong.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from convexsnn.arrays import BoolArray, FloatArray, IntArray
from convexsnn.bits import unique_rows
from convexsnn.errors import SolverFailed, UnsupportedError
from convexsnn.pricing.decisions import Decisions
from convexsnn.pricing.prices import Oracle, Priced, dual_norm, trivial_bound
from convexsnn.pricing.small_lp import maximise, start_basis

TOLERANCE = 1e-8  # HiGHS's, for rows, whole numbers and reduced costs
RELATIVE = 1e-9  # of the largest |g·w| + |h| over the box: rows are relaxed by it
OVERLAP = 1e-6  # of the same: margins up to it are too close to TOLERANCE
DROPPED = 1e-9  # coefficients up to this are dropped, by HiGHS if not here
SAFETY = 1e-9  # of the largest value that prices allow: the bound is raised by it
SCALE = 1e4  # that largest value, as HiGHS sees it: TOLERANCE is far below SAFETY · SCALE
EXACT = 1e-12  # of the largest number in a sum: far above rounding


@dataclass(frozen=True, eq=False)
class _Part:
    """Nodes of one event of a sample that share g and have h = first + slopes·spikes."""

    g: FloatArray
    first: float
    slopes: FloatArray  # (e,) on the earlier events
    low: float  # smallest and largest h
    high: float
    held: tuple[tuple[int, int], ...]  # earlier events and what they are in this part


def _parts(g: FloatArray, h: FloatArray, held: tuple[tuple[int, int], ...] = ()) -> Iterator[_Part]:
    """Split the nodes of one event, g (2, …, 2, d) and h (2, …, 2) by the earlier events, into parts."""
    free = [event for event, size in enumerate(h.shape) if size == 2]
    first, slopes = float(h.flat[0]), np.zeros(h.ndim)
    low, high = float(h.min()), float(h.max())
    if np.isfinite(low) and np.isfinite(high):
        affine = np.full(h.shape, first)
        for event in free:
            slopes[event] = h.take(1, axis=event).flat[0] - first
            shape = np.where(np.arange(h.ndim) == event, 2, 1)
            affine = affine + np.array([0.0, slopes[event]]).reshape(shape)
        # a row without weights is better known to be true or false, so its h must be the same everywhere
        fits = low == high or g.any() and np.abs(h - affine).max() <= EXACT * max(-low, high)
    else:
        fits = low == high
    rows = g.reshape(-1, g.shape[-1])
    if fits and (rows == rows[0]).all():
        yield _Part(rows[0], first, slopes, low, high, held)
        return
    for event in reversed(free):
        (g0, g1), (h0, h1) = np.split(g, 2, axis=event), np.split(h, 2, axis=event)
        if (g0 != g1).any() or (h0 != h1).any():
            yield from _parts(g0, h0, (*held, (event, 0)))
            yield from _parts(g1, h1, (*held, (event, 1)))
            return


@dataclass
class _Rows:
    """Rows lower <= coefficients·(w, s) <= upper of one unit's program."""

    reach: FloatArray  # of every variable: the largest it can be
    index: list[int] = field(default_factory=list)
    value: list[float] = field(default_factory=list)
    start: list[int] = field(default_factory=lambda: [0])
    lower: list[float] = field(default_factory=list)
    upper: list[float] = field(default_factory=list)
    parts: list[list[_Part]] = field(default_factory=list)  # of every event of every sample
    known: set[tuple[tuple[int, float], ...]] = field(default_factory=set)

    def add(self, row: dict[int, float], lower: float, upper: float) -> None:
        """Add a row; what coefficients too small for HiGHS could change is added to its slack."""
        lost = 0.0
        for column, value in row.items():
            if abs(value) <= DROPPED:
                lost += abs(value) * float(self.reach[column])
            else:
                self.index.append(column)
                self.value.append(value)
        self.start.append(len(self.index))
        self.lower.append(lower - lost)
        self.upper.append(upper + lost)

    def add_part(self, part: _Part, first: int, event: int, box: float, margin: float) -> None:
        """Add an event of one sample in one part; its sample's events are variables from `first` on."""
        reach = box * float(np.abs(part.g).sum())
        size = max(abs(part.low), abs(part.high)) if np.isfinite(part.low) else 0.0
        need = margin - RELATIVE * (reach + size)
        if reach > 0 and margin <= OVERLAP * (reach + size):
            need = -OVERLAP * (reach + size)
        top, bottom = reach - part.low, -reach - part.high  # of g·w − h
        away = {first + earlier: -1.0 if outcome else 1.0 for earlier, outcome in part.held}
        ones = sum(outcome for _, outcome in part.held)  # the count of spikes outside is ones + away·s
        row = dict(enumerate(part.g.tolist()))
        row |= {first + earlier: -float(part.slopes[earlier]) for earlier in range(event)}
        own = first + event
        big = need - bottom
        if top < need:  # it never fires here
            self.add({own: 1.0} | {column: -sign for column, sign in away.items()}, -np.inf, ones)
        elif big > DROPPED:
            self.add(
                row | {own: -big} | {column: big * sign for column, sign in away.items()},
                part.first + need - big - big * ones,
                np.inf,
            )
        big = need + top
        if bottom > -need or (margin == 0 and reach == 0 and bottom >= 0):  # it always fires here
            self.add({own: 1.0} | away, 1.0 - ones, np.inf)
        elif big > DROPPED:
            self.add(
                row | {own: -big} | {column: -big * sign for column, sign in away.items()},
                -np.inf,
                part.first - need + big * ones,
            )

    def add_conflict(self, conflict: IntArray, fires: BoolArray) -> bool:
        """Forbid events out of `fires` (n, E) that no weights bring about; return whether it is news."""
        events, d = fires.shape[1], len(self.reach) - fires.size
        row: dict[int, float] = {}
        for sample, event in zip(*divmod(conflict, events), strict=True):
            bits, first = fires[sample], d + sample * events
            parts = self.parts[sample * events + event]
            part = next(p for p in parts if all(bits[earlier] == outcome for earlier, outcome in p.held))
            used = [event, *(earlier for earlier, _ in part.held)]
            # of the other spikes only those whose absence would make this row any weaker
            used += [k for k, a in enumerate(part.slopes) if a and (a > 0) == (bits[k] == bits[event])]
            row |= {first + k: -1.0 if bits[k] else 1.0 for k in used}
        key = tuple(sorted(row.items()))
        if key in self.known:
            return False
        self.known.add(key)
        self.add(row, 1.0 - sum(value < 0 for value in row.values()), np.inf)
        return True


def _rows(unit: Decisions, deadline: float) -> _Rows | None:
    """Return the rows of a unit's program, or None if they are not ready at the deadline."""
    box, margin, d = unit.definition.weight_box, unit.definition.margin, unit.dimension
    rows = _Rows(np.r_[np.full(d, box), np.ones(unit.samples * unit.events)])
    for sample in range(unit.samples):
        for event in range(unit.events):
            if time.perf_counter() > deadline:
                return None
            level, sides = slice(2**event - 1, 2 ** (event + 1) - 1), (2,) * event
            g, h = unit.g[sample, level].reshape(*sides, d), unit.h[sample, level].reshape(sides)
            rows.parts.append(list(_parts(g, h)))
            for part in rows.parts[-1]:
                rows.add_part(part, d + sample * unit.events, event, box, margin)
    return rows


@dataclass(frozen=True, eq=False)
class _Answer:
    """What HiGHS says: a bound (inf for none), whether it ended, and the points (k, variables) it found."""

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
    # somebody else in this process may have started HiGHS with another number of threads
    highspy.Highs.resetGlobalScheduler(True)
    for key, value in settings.items():
        if solver.setOptionValue(key, value) != highspy.HighsStatus.kOk:
            raise SolverFailed(f"highs: option {key} = {value!r} was refused")
    if solver.passModel(lp) == highspy.HighsStatus.kError:
        raise SolverFailed("highs: does not take the pricing program; are its numbers out of scale?")
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
    """Return weights (·, d) that keep far from thresholds where events are as in `fires` (n, E).

    A program's own points lie on the walls of their cells, so that rounding would decide about them. The
    closed definition gets a second point that may lie on the walls that count. If there are no weights,
    returns some of the events, sample · E + event, that none bring about together.
    """
    leaves = np.zeros(unit.samples, np.int64)
    for event in range(unit.events):
        leaves = 2 * leaves + 1 + fires[:, event]
    a, b, fired, real = unit.rows(leaves)
    d, box, margin, found = unit.dimension, unit.definition.weight_box, unit.definition.margin, []
    cap = 1.0 + box * float(np.abs(a).sum(axis=1).max(initial=0.0))
    for kappa in (np.ones(len(b)), (~fired).astype(np.float64))[: 1 + (margin == 0)]:
        basis, inverse = np.zeros(d + 1, np.int64), np.zeros((d + 1, d + 1))
        y, point = np.zeros(d + 1), np.zeros(d + 1)
        start_basis(d, basis, inverse, y, point, box, cap)
        if maximise(len(b), a, kappa, b, box, cap, basis, inverse, y, point, -np.inf, EXACT * cap) < 0:
            break
        rows = basis[(basis >= 0) & (y > 0)]
        share = y[(basis >= 0) & (y > 0)] / y.sum()
        total = share @ a[rows]  # of these rows: no weights keep all of them by more than `most`
        most = box * np.abs(total).sum() - share @ b[rows]
        size = share @ (box * np.abs(a[rows]).sum(axis=1) + np.abs(b[rows]))
        if kappa.all() and most < margin * share.sum() - EXACT * size:
            return np.zeros((0, d)), real[rows]
        found.append(np.clip(point[:d], -box, box))
    return np.array(found).reshape(len(found), d), np.zeros(0, np.int64)


class MipOracle(Oracle):
    """Branch and cut by HiGHS over the spikes of all samples; its bounds are as good as HiGHS's arithmetic.

    `Priced.complete` says that HiGHS came to its end and the simulator reaches the bound, or that no
    pattern is worth more than the cutoff. Where it does not, as it may for the closed definition, the
    bound holds none the less.
    """

    name = "mip"

    def __init__(self, units: Sequence[Decisions], samples: FloatArray) -> None:  # noqa: D107
        super().__init__(units, samples)
        self._rows: dict[int, _Rows] = {}

    def price(  # noqa: D102
        self,
        prices: FloatArray,
        *,
        cutoff: float = 0.0,
        group: bool = False,
        time_limit: float | None = None,
    ) -> Priced:
        if group and prices.shape[1] > 1:
            raise UnsupportedError(
                f"oracle mip: the Euclidean norm over {prices.shape[1]} outputs is not linear in spikes; "
                "use cells or tree"
            )
        deadline = np.inf if time_limit is None else time.perf_counter() + time_limit
        sides = [sign * column for column in prices.T for sign in (1.0, -1.0)]
        jobs = [(k, side, float(np.maximum(side, 0).sum())) for k in range(len(self.units)) for side in sides]
        jobs.sort(key=lambda job: -job[2])
        candidates = self.confirm(0, np.zeros((0, self.units[0].dimension)))
        best, bound, complete, nodes = cutoff, cutoff, True, 0
        for place, (k, side, most) in enumerate(jobs):
            now = time.perf_counter()
            until = min(deadline, now + (deadline - now) / (len(jobs) - place))
            own, ended, again = most, True, most > best
            while again:
                answer = self._ask(k, side, best, until)
                own, ended, nodes = min(own, answer.bound), answer.ended, nodes + answer.nodes
                weights, again = self._learn(k, answer.points)
                fresh = self.confirm(k, weights)
                candidates = candidates.joined(fresh)
                good = fresh.patterns[fresh.margins >= self.definition.margin]
                best = max(best, float(dual_norm(good, prices, False).max(initial=0.0)))
                again &= ended and own > best + 4 * SAFETY * most
            bound = max(bound, own)
            complete &= ended and own <= best + 4 * SAFETY * most
        bound = min(max(bound, best), max(cutoff, trivial_bound(prices, group)))
        return self.priced(candidates, prices, group, cutoff, bound, complete, nodes)

    def _ask(self, k: int, prices: FloatArray, cutoff: float, deadline: float) -> _Answer:
        """Return HiGHS's answer for one side of one output, its bound made safe and in units of prices."""
        unit = self.units[k]
        rows = self._rows.get(k) or _rows(unit, deadline)
        time_left = deadline - time.perf_counter()
        if rows is None or time_left <= 0:
            return _Answer(np.inf, False, np.zeros((0, unit.dimension)), 0)
        self._rows[k] = rows
        most = float(np.maximum(prices, 0).sum())
        objective = np.zeros((unit.samples, unit.events))
        events = np.flatnonzero(unit.reads >= 0)
        scaled = SCALE / most * prices.reshape(unit.samples, -1)
        small = np.abs(scaled) <= DROPPED
        objective[:, events] = np.where(small, 0.0, scaled)[:, unit.reads[events]]
        # patterns at the cutoff may come in, those above must not fall out
        safety = SAFETY * SCALE + float(np.abs(scaled[small]).sum())
        least = cutoff * SCALE / most - safety if cutoff > 0 else -np.inf
        answer = _solve(_model(rows, objective.ravel(), least), time_left)
        bound = max(cutoff, (answer.bound + safety) * most / SCALE)
        return _Answer(bound, answer.ended, answer.points, answer.nodes)

    def _learn(self, k: int, points: FloatArray) -> tuple[FloatArray, bool]:
        """Return candidates (·, d) from the points of a program, and whether it now has new rows."""
        unit, news = self.units[k], False
        d, box = unit.dimension, self.definition.weight_box
        candidates = [np.clip(points[:, :d], -box, box)]
        for point in points:
            fires = point[d:].reshape(unit.samples, unit.events) > 0.5
            weights, conflict = _inside(unit, fires)
            candidates.append(weights)
            if len(conflict):
                news |= self._rows[k].add_conflict(conflict, fires)
        weights = np.concatenate(candidates)
        return weights[unique_rows(weights)[0]], news  # HiGHS returns its best point twice
