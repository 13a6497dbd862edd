"""Our own solver: a working set of entries, Newton steps on it, an exact active set inside each.

The dictionary stays packed: only columns of the working set are ever unpacked, a block of rows at a time, and
all the others are looked at by one product Dᵀu a round. Each Newton model is a small penalised quadratic
(`newton`, `active_set`), so that the support is found and not approached. From W = 0 λ comes down from λ_max
by halves, because a support that grows with it is never much too large. Stops on the gap of the whole
program. A hinge has no Newton model: its linear program grows by columns instead (`column_simplex`).

Johnson & Guestrin, "Blitz" (2015), for the working set; Friedman, Hastie & Tibshirani (2010) for Newton
models under an ℓ1 penalty and the path in λ.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from convexsnn.arrays import BoolArray, FloatArray
from convexsnn.programs import AnyProgram, L1Program, Point
from convexsnn.programs.point import relative_gap
from convexsnn.solvers.capabilities import Capabilities, over_dictionary
from convexsnn.solvers.clarabel_ import Clarabel
from convexsnn.solvers.restricted import solve_restricted
from convexsnn.solvers.solver import Answer, Request, Solution, Solver
from convexsnn.solvers.working_set_active import quadratic_l1
from convexsnn.solvers.working_set_groups import GroupModel, group_norms
from convexsnn.solvers.working_set_newton import Entries, gram
from convexsnn.solvers.working_set_simplex import ColumnSimplex

FIRST = 200  # entries of the first working set, for each output up to five of them
ROUNDS = 200
ROUGH = 0.05  # gap at which the next smaller λ of the path comes
CLOSE = 1e-3  # gap from which on one Newton step a round is enough
EARLY = 8  # turns inside a model that is still far off
ROUNDING = 1e-14


class Look(NamedTuple):
    """What one product Dᵀu shows of weights: objective, gap at this λ, and the prices (P, C)."""

    objective: float
    gap: float
    prices: FloatArray


class WorkingSet(Solver):
    """Working set, Newton, active set; `options` takes none."""

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
    """One run: weights (P, C) and what they give, z = D W."""

    def __init__(self, program: L1Program, request: Request) -> None:
        self.program, self.request, start = program, request, request.start
        self.groups = program.penalty.groups(program.shape[0])
        self.weights: FloatArray = (
            np.zeros(program.shape) if start is None else np.array(start.weights, float)
        )
        self.z = program.outputs(self.weights)
        self.dual: FloatArray | None = None  # only where the residual's is not good enough
        self.rounds = 0

    def go(self, tolerance: float) -> str:
        """Go down the path of λ to the program's own; return why it ended."""
        limit = self.program.regularization
        regularization = limit
        if not self.weights.any():
            while regularization < self.program.regularization_max / 2:
                regularization *= 2.0
        while True:
            words = self._at(regularization, tolerance if regularization == limit else max(ROUGH, tolerance))
            if regularization == limit or words not in ("gap reached", "no further progress"):
                return words
            regularization /= 2.0

    def _at(self, regularization: float, tolerance: float) -> str:
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
            chosen = self._chosen(look, regularization)
            improve = self._newton if self.groups is None else self._grouped
            if not chosen.any() or not improve(chosen, look, regularization):
                return "no further progress"
        return "rounds ran out"

    def _look(self, regularization: float) -> Look:
        """Return what the residual dual point, scaled to be feasible, proves at this λ."""
        program = self.program
        v = program.loss.residual(self.z, program.targets)
        prices = program.dictionary.transpose_times(program.row_scale * v)
        norm = program.penalty.dual_norm(prices)
        objective = self._objective(self.z, self.weights, regularization)
        feasible = v * min(1.0, regularization / norm) if norm > 0 else v
        bound = float(program.row_scale[:, 0] @ program.loss.dual_value(feasible, program.targets))
        return Look(objective, relative_gap(objective, bound), prices)

    def _objective(self, z: FloatArray, weights: FloatArray, regularization: float) -> float:
        losses = self.program.loss.value(z, self.program.targets)
        penalty = self.program.penalty.value(weights)
        return float(self.program.row_scale[:, 0] @ losses + regularization * penalty)

    def _chosen(self, look: Look, regularization: float) -> BoolArray:
        """Return the working set (P, C): the support, and as much again of what violates λ most."""
        support, groups = self.weights != 0, self.groups
        least = FIRST * min(self.program.shape[1], 5)
        if groups is None:
            excess = np.where(support, 0.0, np.abs(look.prices) - regularization)
            return support | _largest(excess, max(least, int(support.sum())))
        active = group_norms(groups, self.weights) > 0
        excess = np.where(active, 0.0, group_norms(groups, look.prices) - regularization)
        chosen = active | _largest(excess, max(least // self.program.shape[1], int(active.sum())))
        return np.broadcast_to(chosen[groups][:, None], self.program.shape)

    def _grouped(self, chosen: BoolArray, look: Look, regularization: float) -> bool:
        """Improve the weights of whole groups; return whether the objective fell."""
        program, columns = self.program, np.flatnonzero(chosen[:, 0])
        index, weights = np.asarray(self.groups)[columns], self.weights[columns]
        model = GroupModel(program, columns, index, regularization, weights, self.z)
        accuracy = float(np.clip(0.1 * look.gap, 1e-9, 0.1))
        descended = model.descend(accuracy)
        moved = model.newton(accuracy, look.gap <= CLOSE) or descended
        self.weights[columns], self.z = model.weights, model.z
        return moved

    def _newton(self, chosen: BoolArray, look: Look, regularization: float) -> bool:
        """Take Newton steps on some entries; return whether the objective fell."""
        program, moved, entries = self.program, False, Entries.of(chosen)
        quadratic = program.loss.quadratic  # then one step is the whole way
        prices, value, accuracy = look.prices, look.objective, float(np.clip(0.1 * look.gap, 1e-9, 0.1))
        for last in (False, True)[quadratic or look.gap <= CLOSE :]:
            now, bend = entries.gather(self.weights), gram(program, self.z, entries)
            linear = bend @ now + entries.gather(prices)
            rounds = EARLY if look.gap > CLOSE and not quadratic else 1000
            target = quadratic_l1(bend, linear, regularization, now, accuracy, rounds)
            new = self._searched(entries, now, target, value, regularization)
            if new is None:
                return moved
            moved, value = True, new
            if not last:
                v = program.loss.residual(self.z, program.targets)
                columns = np.unique(entries.column)
                prices = np.zeros(program.shape)
                prices[columns] = program.dictionary.select(columns).transpose_times(program.row_scale * v)
        return moved

    def _searched(
        self, entries: Entries, now: FloatArray, target: FloatArray, value: float, regularization: float
    ) -> float | None:
        """Go towards the target as far as the objective falls; return it, or None if it does not."""
        ahead, step = entries.outputs_of(self.program, target - now), 1.0
        while step > 1e-10:
            weights, z = self.weights.copy(), self.z + step * ahead
            weights[entries.column, entries.output] = now + step * (target - now)
            new = self._objective(z, weights, regularization)
            if new < value or (step == 1.0 and new <= value + ROUNDING * abs(value)):
                self.weights, self.z = weights, z  # near the optimum it is flat to rounding, its slope is not
                return new
            step *= 0.5
        return None


class _ByColumns(_Run):
    """A hinge with the ℓ1 penalty: one output after the other, by the simplex method."""

    def go(self, tolerance: float) -> str:
        """Solve every output; return why it ended."""
        self.dual = self.duals = np.zeros(self.program.targets.shape)
        for c, part in enumerate(self.program.outputs_apart()):
            words = self._output(part, c, tolerance)
            if words != "gap reached":
                break
        return words

    def _output(self, part: L1Program, c: int, tolerance: float) -> str:
        simplex, begin = ColumnSimplex(part), np.flatnonzero(self.weights[:, c])
        self.duals[:, c] = part.dual_at_zero[:, 0]  # what holds if no weight is worth its penalty
        prices = part.dictionary.transpose_times(self.duals[:, c])
        if len(begin):
            simplex.add(begin, np.sign(self.weights[begin, c]))
        columns, signs = simplex.missing(prices)
        while len(columns):
            simplex.add(columns, signs)
            point, done = simplex.run(self.request.left)
            self.rounds += 1
            dual = np.asarray(point.dual)
            self.weights[:, c], self.duals[:, c] = point.weights[:, 0], dual[:, 0]
            prices = part.dictionary.transpose_times(dual)[:, 0]
            share = min(1.0, part.regularization / max(float(np.abs(prices).max()), 1e-300))
            gap = relative_gap(part.primal_objective(point), share * float(dual[:, 0] @ part.targets[:, 0]))
            if gap <= tolerance / 2:
                break
            if not done:
                return "time limit"
            if self.request.told_to_stop(f"output {c}: {len(simplex.columns)} columns, gap {gap:.2g}"):
                return "interrupted"
            columns, signs = simplex.missing(prices)
        return "gap reached"


class _ByCones(_Run):
    """A hinge with groups: both have kinks, so that Clarabel solves it on a growing choice of columns."""

    def go(self, tolerance: float) -> str:
        """Solve on more and more columns; return why it ended."""
        solution = solve_restricted(self.program, self._solved, tolerance)
        self.weights, self.dual = solution.point.weights, solution.point.dual
        return solution.solver_status

    def _solved(self, part: L1Program, start: Point | None) -> Solution:
        self.rounds += 1
        left = self.request.left
        limit = None if left is None else max(left, 0.1)
        return Clarabel().solve(part, tolerance=1e-9, time_limit=limit, start=start)


# by whether the loss has kinks and whether the penalty is the plain ℓ1 norm
METHODS: dict[tuple[bool, bool], type[_Run]] = {
    (False, True): _Run,
    (False, False): _Run,
    (True, True): _ByColumns,
    (True, False): _ByCones,
}


def _largest(excess: FloatArray, count: int) -> BoolArray:
    """Return where the `count` largest positive numbers of an array are."""
    flat = excess.ravel()
    order = np.argsort(-flat, kind="stable")[:count]
    mask = np.zeros(flat.shape, bool)
    mask[order[flat[order] > 0]] = True
    return mask.reshape(excess.shape)
