"""Our own solver: a working set of columns, Newton steps on it, an exact active set inside each.

For smooth losses that add up over outputs, with the ℓ1 penalty. The dictionary stays packed: only the
columns of the working set are ever held as floats, and all the others are looked at by one product Dᵀu a
round. Each Newton model is a small ℓ1-penalised quadratic solved exactly (`active_set`), so that the
supports are found and not approached. Stops on the certified gap of the whole program.

Assumes nothing of the columns; starts from any point. Johnson & Guestrin, "Blitz" (2015), for the working
set; Friedman, Hastie & Tibshirani (2010) for Newton models under an ℓ1 penalty.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from convexsnn.arrays import FloatArray
from convexsnn.errors import ShapeError, UnsupportedError
from convexsnn.programs import L1Program, Point
from convexsnn.solvers.active_set import quadratic_l1
from convexsnn.solvers.solver import Capabilities, Solution, Solver, Status, kind_of

FIRST = 200  # columns of the first working set
ROUNDS = 200
NEWTON = 50
ROUNDING = 1e-14
FLAT = 1e-10  # least curvature of a row, relative to the largest


class WorkingSet(Solver):
    """Working set, Newton, active set; `options` takes none."""

    name = "working_set"
    capabilities = Capabilities(
        programs=frozenset({"qp", "logistic"}),
        gap={"qp": 1e-9, "logistic": 1e-9},
        duals=True,
        warm_start=True,
        time_limit=True,
    )

    def solve(  # noqa: D102
        self,
        program: L1Program,
        *,
        tolerance: float = 1e-6,
        time_limit: float | None = None,
        start: Point | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Solution:
        if (kind := kind_of(program)) not in self.capabilities.programs:
            what = f"loss {program.loss.name}, penalty {program.penalty.name}"
            raise UnsupportedError(f"solver working_set: takes no {kind} programs ({what})")
        if options:
            raise ShapeError(f"options: solver working_set takes none, got {', '.join(options)}")
        begun = time.perf_counter()
        weights = np.zeros(program.shape) if start is None else np.array(start.weights, dtype=np.float64)
        best = certificate = program.certify(Point(weights))
        kept, stuck, rounds, words = weights, 0, 0, "rounds ran out"
        while rounds < ROUNDS:
            if certificate.gap <= tolerance:
                words = "gap reached"
                break
            if time_limit is not None and time.perf_counter() - begun > time_limit:
                words = "time limit"
                break
            rounds += 1
            weights = np.column_stack(
                [_improved(program, weights, certificate.gap, c) for c in range(program.shape[1])]
            )
            certificate = program.certify(Point(weights))
            if certificate.gap < best.gap:
                best, kept, stuck = certificate, weights, 0
            else:
                stuck += 1
                if stuck > 3:
                    words = "no further progress"
                    break
        status = Status.OPTIMAL if best.gap <= tolerance else Status.LIMIT
        point = Point(kept, best.dual)
        seconds = {"build": 0.0, "solve": time.perf_counter() - begun}
        return Solution(point, status, best, self.name, words, rounds, start is not None, seconds)


def _improved(program: L1Program, table: FloatArray, gap: float, c: int) -> FloatArray:
    """Return one output's weights after Newton's method on a working set around them."""
    weights, dictionary = table[:, c], program.dictionary
    support = np.flatnonzero(weights)
    z = dictionary.select(support) @ weights[support]
    targets = program.targets[:, [c]]
    prices = dictionary.transpose_times(
        program.row_scale[:, 0] * program.loss.residual(z[:, None], targets)[:, 0]
    )
    size = max(FIRST, 2 * len(support))
    order = np.argsort(-np.abs(prices), kind="stable")[:size]
    chosen = np.union1d(support, order[np.abs(prices[order]) > program.regularization * (1.0 - gap)])
    if not len(chosen):
        return weights
    found = weights.copy()
    found[chosen] = _newton(program, dictionary.toarray(chosen).astype(np.float64), targets, weights[chosen])
    return found


def _newton(program: L1Program, columns: FloatArray, targets: FloatArray, weights: FloatArray) -> FloatArray:
    """Return the optimum over dense columns (R, k), from weights (k,)."""
    loss, scale, limit = program.loss, program.row_scale[:, 0], program.regularization

    def objective(z: FloatArray, w: FloatArray) -> float:
        return float(scale @ loss.value(z[:, None], targets) + limit * np.abs(w).sum())

    z = columns @ weights
    value = objective(z, weights)
    for _ in range(NEWTON):
        slope = scale * loss.residual(z[:, None], targets)[:, 0]
        curvature = scale * loss.curvature(z[:, None], targets)[:, 0]
        curvature = np.maximum(curvature, FLAT * max(float(curvature.max()), float(scale.max()) * FLAT))
        gram = columns.T @ (columns * curvature[:, None])
        target = quadratic_l1(gram, gram @ weights + columns.T @ slope, limit, weights)
        step, ahead = 1.0, columns @ target
        while step > 1e-10:
            tried_z, tried = z + step * (ahead - z), weights + step * (target - weights)
            new = objective(tried_z, tried)
            if new < value or (step == 1.0 and new <= value + ROUNDING * abs(value)):
                break  # close to the optimum the objective is flat to rounding, the gradient is not
            step *= 0.5
        else:
            return weights
        moved = value - new
        z, weights, value = tried_z, tried, new
        if loss.name == "squared" or moved <= 1e-15 * abs(value):
            return weights
    return weights
