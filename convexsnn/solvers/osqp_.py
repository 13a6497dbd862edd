"""OSQP: operator splitting for quadratic programs, then one linear system on the active constraints.

Assumes a quadratic or linear program. One factorization serves many iterations; where the guess of the active
set is right, polishing makes a rough point exact, as a rule for squared losses. The step size adapts by
iterations, never by the clock, and not at all for linear programs, on which it can go round in circles.
Deterministic. Stellato, Banjac, Goulart, Bemporad & Boyd, "OSQP" (2020).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import sparse

from convexsnn.arrays import BoolArray
from convexsnn.errors import SolverFailed
from convexsnn.programs import AnyProgram, Certificate, L1Program, Point
from convexsnn.programs.qp_form import QPForm
from convexsnn.programs.starts import qp_start
from convexsnn.solvers.solver import Capabilities, Progress, Solution, Solver, Status, refuse_unknown

STAGES = (1.0, 1e-2, 1e-4)  # of the tolerance: the gap has no fixed relation to OSQP's own residuals


class Osqp(Solver):
    """Adapter to osqp; `options` are its settings, by their names."""

    name = "osqp"
    capabilities = Capabilities(
        programs=frozenset({"lp", "qp"}),
        gap={"lp": 1e-4, "qp": 1e-8},
        duals=True,
        warm_start=True,
        time_limit=True,
        standard_forms=True,
    )

    def solve(  # noqa: D102
        self,
        program: AnyProgram,
        *,
        tolerance: float = 1e-6,
        time_limit: float | None = None,
        start: Point | None = None,
        options: Mapping[str, Any] | None = None,
        progress: Progress | None = None,
    ) -> Solution:
        import osqp

        begun = time.perf_counter()
        deadline = np.inf if time_limit is None else begun + time_limit
        form, options, solver = program.to_qp(), options or {}, osqp.OSQP(algebra="builtin")
        refuse_unknown(self.name, options, [k for k in vars(solver.ext.OSQPSettings) if k[0] != "_"])
        settings: dict[str, Any] = {
            "verbose": False,
            "polishing": form.A.shape[0] > 0,  # else nothing may be active, which it would print
            "max_iter": 200_000,
            **({"adaptive_rho": 0, "rho": 1.0} if form.linear else {"adaptive_rho_interval": 50}),
        }
        refusals = (osqp.interface.OSQPException, ValueError, TypeError)
        try:
            solver.setup(*_data(form), **{**settings, **options})
        except refusals as error:
            raise SolverFailed(f"solver osqp: options {dict(options)}: {error}") from error
        warm = _begin_at(solver, program, form, start)
        built = time.perf_counter()
        best: tuple[Point, Certificate] | None = None
        words, iterations = "time limit", 0
        for stage in STAGES:
            left = deadline - time.perf_counter()
            if left <= 0:
                break
            own = {key: max(tolerance * stage, 1e-11) for key in ("eps_abs", "eps_rel") if key not in options}
            solver.update_settings(**own, **({} if time_limit is None else {"time_limit": left}))
            found = solver.solve(raise_error=False)
            words, iterations = str(found.info.status), iterations + int(found.info.iter)
            if found.info.status_val == osqp.SolverStatus.OSQP_SIGINT:
                raise KeyboardInterrupt
            point = _point(form, found)
            if point is None:
                if "infeasible" in words or "convex" in words:
                    raise SolverFailed(f"solver osqp: stopped with {words!r} and no point")
                break
            certificate = program.certify(point)
            if best is None or certificate.gap < best[1].gap:
                best = point, certificate
            if best[1].gap <= tolerance or found.info.status_val != osqp.SolverStatus.OSQP_SOLVED:
                break
        if best is None:
            if "time limit" not in words:
                raise SolverFailed(f"solver osqp: stopped with {words!r} and no point")
            point = Point(np.zeros(program.shape))
            best = point, program.certify(point)
        return Solution(
            best[0],
            Status.OPTIMAL if best[1].gap <= tolerance else Status.LIMIT,
            best[1],
            self.name,
            words,
            iterations,
            warm,
            {"build": built - begun, "solve": time.perf_counter() - built},
        )


def _begin_at(solver: Any, program: AnyProgram, form: QPForm, start: Point | None) -> bool:
    """Give the solver a start, and return whether it has one."""
    if start is None or not isinstance(program, L1Program):
        return False
    x, rows = qp_start(program, form, start)
    slope = form.P @ x + form.q - form.A.T @ rows
    solver.warm_start(x=x, y=-np.concatenate([rows, slope[_bounded(form)]]))
    return True


def _bounded(form: QPForm) -> BoolArray:
    """Return which variables have a bound: what become further rows."""
    return np.isfinite(form.lower) | np.isfinite(form.upper)


def _data(form: QPForm) -> tuple[Any, ...]:
    """Return P, q, A, l, u with the bounds as further rows."""
    bounded = _bounded(form)
    unit = sparse.eye_array(len(form.q), format="csr")[np.flatnonzero(bounded)]
    rows = sparse.csc_matrix(sparse.vstack([form.A, unit]))
    lower = np.concatenate([form.row_lower, form.lower[bounded]])
    upper = np.concatenate([form.row_upper, form.upper[bounded]])
    return sparse.csc_matrix(form.P), form.q, rows, lower, upper


def _point(form: QPForm, found: Any) -> Point | None:
    """Return OSQP's point, None where it has none."""
    if found.x is None or not np.isfinite(found.x).all():
        return None
    rows = -np.array(found.y[: form.A.shape[0]])
    return form.recover(np.array(found.x), rows if np.isfinite(rows).all() else None)
