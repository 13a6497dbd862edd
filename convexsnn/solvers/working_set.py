"""Our solver: a working set of entries, Newton steps on it, and an exact active-set method in each step.

The dictionary stays packed: only the columns of the working set are unpacked, a block of rows at a time. All
other columns are priced by one product Dᵀu in each round. Each Newton model is a small penalised quadratic
(`working_set_newton`, `working_set_active`), so that its support is exact. From W = 0, λ starts near λ_max
and is halved in turn; the support grows with it and is never much too large. The method stops on the gap of
the full program. A hinge has no Newton model; its linear program grows by columns (`working_set_simplex`).

Johnson & Guestrin, "Blitz" (2015), for the working set; Friedman, Hastie & Tibshirani (2010) for Newton
models under an ℓ1 penalty and the path in λ.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from convexsnn.arrays import BoolArray, FloatArray
from convexsnn.programs import AnyProgram, L1Program, Point
from convexsnn.programs.penalties import group_norms
from convexsnn.programs.point import feasible_share, relative_gap
from convexsnn.solvers.capabilities import Capabilities, over_dictionary
from convexsnn.solvers.clarabel_ import Clarabel
from convexsnn.solvers.restricted import solve_restricted
from convexsnn.solvers.solver import Answer, Request, Solution, Solver
from convexsnn.solvers.working_set_active import quadratic_l1
from convexsnn.solvers.working_set_groups import GroupModel
from convexsnn.solvers.working_set_newton import Entries, gram
from convexsnn.solvers.working_set_simplex import ColumnSimplex

FIRST = 200  # entries of the first working set, for each of at most five outputs
ROUNDS = 200
ROUGH = 0.05  # gap at which the path goes on to the next λ
CLOSE = 1e-3  # gap below which a round takes one Newton step
EARLY = 8  # rounds of the active-set method while the gap is large
ROUNDING = 1e-14


class Look(NamedTuple):
    """The result of one product Dᵀu at some weights: objective, gap at this λ, and the prices (P, C)."""

    objective: float
    gap: float
    prices: FloatArray


class WorkingSet(Solver):
    """Working set, Newton steps, active set; it has no options."""

    name = "working_set"
    capabilities = Capabilities(
        programs=frozenset({"lp", "qp", "cone", "logistic", "exponential"}),
        gap={"lp": 1e-9, "qp": 1e-9, "cone": 1e-9, "logistic": 1e-9, "exponential": 1e-9},
        duals=True,
        warm_start=True,
        time_limit=True,
        kinked=frozenset({"hinge"}),
        penalties=frozenset({"uniform", "euclidean"}),
        chooses_columns=True,
    )

    def run(self, program: AnyProgram, request: Request) -> Answer:  # noqa: D102
        program = over_dictionary(program)
        run = METHODS[program.loss.kinked, program.penalty.uniform](program, request)
        if program.regularization >= program.regularization_max:
            run.weights, words = np.zeros(program.shape), "W = 0: no pattern can help"
        else:
            words = run.go(request.tolerance)
        point = Point(run.weights, program.certify(Point(run.weights, run.dual)).dual)
        return Answer(point, words, iterations=run.rounds, start_used=request.start is not None)


class _Run:
    """One run: weights (P, C) and their outputs z = D W."""

    def __init__(self, program: L1Program, request: Request) -> None:
        self.program, self.request, start = program, request, request.start
        self.groups = program.penalty.groups(program.shape[0])
        self.weights: FloatArray = (
            np.zeros(program.shape) if start is None else np.array(start.weights, float)
        )
        self.z = program.outputs(self.weights)
        self.dual: FloatArray | None = None  # only if the residual gives no good dual
        self.rounds = 0

    def go(self, tolerance: float) -> str:
        """Follow the path of λ down to that of the program; return the reason for the end."""
        limit = self.program.regularization
        regularization = limit
        if not self.weights.any():
            while regularization < self.program.regularization_max / 2 < np.inf:
                regularization *= 2.0
        while True:
            enough = tolerance if regularization == limit else max(ROUGH, tolerance)
            words = self._improve(regularization, enough)
            if regularization == limit or words not in ("gap reached", "no further progress"):
                return words
            regularization /= 2.0

    def _improve(self, regularization: float, tolerance: float) -> str:
        """Improve the weights until the gap at this λ is within `tolerance`."""
        before, stuck = np.inf, 0
        while self.rounds < ROUNDS:
            look = self._look(regularization)
            if look.gap <= tolerance:
                return "gap reached"
            if self.request.late:
                return "time limit"
            if self.request.told_to_stop(f"λ {regularization:.3g}, gap {look.gap:.2g}"):
                return "interrupted"
            stuck = 0 if look.gap < before else stuck + 1
            before = min(before, look.gap)
            if stuck > 3:
                return "no further progress"
            self.rounds += 1
            selected = self._working_set(look, regularization)
            improve = self._newton if self.groups is None else self._group_newton
            if not selected.any() or not improve(selected, look, regularization):
                return "no further progress"
        return "rounds ran out"

    def _look(self, regularization: float) -> Look:
        """Return objective, gap and prices at this λ, by the residual dual point scaled to be feasible."""
        program = self.program
        v = program.loss.residual(self.z, program.targets)
        prices = program.dictionary.transpose_times(program.row_scale * v)
        norm = program.penalty.dual_norm(prices)
        objective = self._objective(self.z, self.weights, regularization)
        feasible = v * feasible_share(regularization, norm)
        bound = float(program.row_scale[:, 0] @ program.loss.dual_value(feasible, program.targets))
        return Look(objective, relative_gap(objective, bound), prices)

    def _objective(self, z: FloatArray, weights: FloatArray, regularization: float) -> float:
        losses = self.program.loss.value(z, self.program.targets)
        penalty = self.program.penalty.value(weights)
        return float(self.program.row_scale[:, 0] @ losses + regularization * penalty)

    def _working_set(self, look: Look, regularization: float) -> BoolArray:
        """Return the working set (P, C): the support, and as many entries that violate λ most."""
        support, groups = self.weights != 0, self.groups
        least = FIRST * min(self.program.shape[1], 5)
        if groups is None:
            excess = np.where(support, 0.0, np.abs(look.prices) - regularization)
            return support | _largest(excess, max(least, int(support.sum())))
        active = group_norms(groups, self.weights) > 0
        excess = np.where(active, 0.0, group_norms(groups, look.prices) - regularization)
        selected = active | _largest(excess, max(least // self.program.shape[1], int(active.sum())))
        return np.broadcast_to(selected[groups][:, None], self.program.shape)

    def _group_newton(self, selected: BoolArray, look: Look, regularization: float) -> bool:
        """Improve the weights of whole groups; return whether the objective fell."""
        program, columns = self.program, np.flatnonzero(selected[:, 0])
        index, weights = np.asarray(self.groups)[columns], self.weights[columns]
        model = GroupModel(program, columns, index, regularization, weights, self.z)
        accuracy = float(np.clip(0.1 * look.gap, 1e-9, 0.1))
        fell = model.descend(accuracy)
        fell = model.newton(accuracy, look.gap <= CLOSE, self.request.is_late) or fell
        self.weights[columns], self.z = model.weights, model.z
        return fell

    def _newton(self, selected: BoolArray, look: Look, regularization: float) -> bool:
        """Take Newton steps on some entries; return whether the objective fell."""
        program, fell, entries = self.program, False, Entries.of(selected)
        quadratic = program.loss.quadratic  # then one step is enough
        prices, value, accuracy = look.prices, look.objective, float(np.clip(0.1 * look.gap, 1e-9, 0.1))
        for last in (False, True)[quadratic or look.gap <= CLOSE :]:
            now, bend = entries.gather(self.weights), gram(program, self.z, entries)
            linear = bend @ now + entries.gather(prices)
            rounds = EARLY if look.gap > CLOSE and not quadratic else 1000
            late = self.request.is_late
            target = quadratic_l1(bend, linear, regularization, now, accuracy, rounds, late)
            new = self._line_search(entries, now, target, value, regularization)
            if new is None:
                return fell
            fell, value = True, new
            if not last:
                v = program.loss.residual(self.z, program.targets)
                columns = np.unique(entries.column)
                prices = np.zeros(program.shape)
                prices[columns] = program.dictionary.select(columns).transpose_times(program.row_scale * v)
        return fell

    def _line_search(
        self, entries: Entries, now: FloatArray, target: FloatArray, value: float, regularization: float
    ) -> float | None:
        """Go towards the target until the objective falls; return it, or None if it does not fall."""
        ahead, step = entries.outputs_of(self.program, target - now), 1.0
        while step > 1e-10:
            weights, z = self.weights.copy(), self.z + step * ahead
            weights[entries.column, entries.output] = now + step * (target - now)
            new = self._objective(z, weights, regularization)
            if new < value or (step == 1.0 and new <= value + ROUNDING * abs(value)):
                self.weights, self.z = weights, z  # near the optimum it is flat up to rounding
                return new
            step *= 0.5
        return None


class _ByColumns(_Run):
    """A hinge with the ℓ1 penalty: one output after the other, by the simplex method."""

    def go(self, tolerance: float) -> str:
        """Solve every output; return the reason for the end."""
        self.dual = self.duals = np.zeros(self.program.targets.shape)
        words = "gap reached"
        for c, part in enumerate(self.program.outputs_apart()):
            ended = self._output(part, c, tolerance)
            words = words if ended == "gap reached" else ended
            if ended in ("time limit", "interrupted"):
                break
        return words

    def _output(self, part: L1Program, c: int, tolerance: float) -> str:
        simplex, begin = ColumnSimplex(part), np.flatnonzero(self.weights[:, c])
        self.duals[:, c] = part.dual_at_zero[:, 0]  # the dual at W = 0
        prices = part.dictionary.transpose_times(self.duals[:, c])
        if len(begin):
            simplex.add(begin, np.sign(self.weights[begin, c]))
        columns, signs = simplex.missing(prices)
        # a start is improved even where none of its other columns is missing
        while len(columns) or len(begin):
            if len(columns):
                simplex.add(columns, signs)
            begin = begin[:0]
            point, stopped = simplex.run(self.request.left)
            self.rounds += 1
            dual = np.asarray(point.dual)
            self.weights[:, c], self.duals[:, c] = point.weights[:, 0], dual[:, 0]
            prices = part.dictionary.transpose_times(dual)[:, 0]
            share = feasible_share(part.regularization, float(np.abs(prices).max()))
            gap = relative_gap(part.primal_objective(point), share * float(dual[:, 0] @ part.targets[:, 0]))
            if gap <= tolerance / 2:
                return "gap reached"
            if stopped:
                return stopped
            if self.request.late:
                return "time limit"
            if self.request.told_to_stop(f"output {c}: {len(simplex.columns)} columns, gap {gap:.2g}"):
                return "interrupted"
            columns, signs = simplex.missing(prices)
            if not len(columns):  # HiGHS's tolerances allow no better point
                return "no further progress"
        return "gap reached"  # W = 0 is optimal


class _ByCones(_Run):
    """A hinge with groups: both have kinks, so that Clarabel solves it on a growing subset of the columns."""

    def go(self, tolerance: float) -> str:
        """Solve on a growing subset of the columns; return the reason for the end."""
        solution = solve_restricted(self.program, self._solve, tolerance, stop=self.request.is_late)
        self.weights, self.dual = solution.point.weights, solution.point.dual
        return solution.solver_status

    def _solve(self, part: L1Program, start: Point | None) -> Solution:
        self.rounds += 1
        seconds = self.request.left
        limit = None if seconds is None else max(seconds, 0.1)
        return Clarabel().solve(part, tolerance=1e-9, time_limit=limit, start=start)


# (whether the loss has kinks, whether the penalty is the ℓ1 norm) -> method
METHODS: dict[tuple[bool, bool], type[_Run]] = {
    (False, True): _Run,
    (False, False): _Run,
    (True, True): _ByColumns,
    (True, False): _ByCones,
}


def _largest(excess: FloatArray, count: int) -> BoolArray:
    """Return a mask of the `count` largest positive numbers of an array."""
    flat = excess.ravel()
    order = np.argsort(-flat, kind="stable")[:count]
    mask = np.zeros(flat.shape, bool)
    mask[order[flat[order] > 0]] = True
    return mask.reshape(excess.shape)
