"""OSQP: operator splitting for quadratic programs, then one linear system on the active constraints.

Assumes a quadratic or linear program. One factorization serves many iterations. If the guess of the active
set is right, which is usual for squared losses, polishing makes a rough point exact. The step size adapts
after fixed numbers of iterations, not by the clock. For linear programs it is constant, because the method
can cycle there if it adapts. Deterministic. Stellato, Banjac, Goulart, Bemporad & Boyd, "OSQP" (2020).
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from scipy import sparse

from convexsnn.arrays import BoolArray
from convexsnn.programs import AnyProgram, L1Program, Point
from convexsnn.programs.qp_form import QPForm
from convexsnn.programs.starts import qp_start
from convexsnn.solvers.capabilities import Capabilities, over_dictionary
from convexsnn.solvers.solver import Answer, Request, Solver, finite

# accuracies relative to the tolerance, tried in turn: the gap has no fixed relation to OSQP's residuals
STAGES = (1.0, 1e-2, 1e-4)


class Osqp(Solver):
    """Adapter to osqp; `options` are its settings, by their names."""

    name = "osqp"
    capabilities = Capabilities(
        programs=frozenset({"lp", "qp"}),
        gap={"lp": 1e-4, "qp": 1e-8},
        duals=True,
        warm_start=True,
        time_limit=True,
        form="qp",
    )

    package = "osqp"

    def known_options(self) -> list[str]:  # noqa: D102
        import osqp

        return [name for name in vars(osqp.OSQP(algebra="builtin").ext.OSQPSettings) if name[0] != "_"]

    def run(self, program: AnyProgram, request: Request) -> Answer:  # noqa: D102
        import osqp

        form, solver = program.to_qp(), osqp.OSQP(algebra="builtin")
        settings: dict[str, Any] = {
            "verbose": False,
            "polishing": form.A.shape[0] > 0,  # without rows OSQP prints that no constraint is active
            "max_iter": 200_000,
            **({"adaptive_rho": 0, "rho": 1.0} if form.linear else {"adaptive_rho_interval": 50}),
        }
        refusals = (osqp.interface.OSQPException, ValueError, TypeError)
        try:
            solver.setup(*_data(form), **{**settings, **request.options})
        except refusals as error:
            raise self.failed(f"options {dict(request.options)}: {error}") from error
        if request.start is not None:
            _begin_at(solver, over_dictionary(program), form, request.start)
        built = time.perf_counter()
        best, least = None, np.inf
        words, iterations = "time limit", 0
        for stage in STAGES:
            if request.late:
                break
            accuracy = max(request.tolerance * stage, 1e-11)
            accuracies = {key: accuracy for key in ("eps_abs", "eps_rel") if key not in request.options}
            left = request.left
            solver.update_settings(**accuracies, **({} if left is None else {"time_limit": left}))
            result = solver.solve(raise_error=False)
            words, iterations = str(result.info.status), iterations + int(result.info.iter)
            if result.info.status_val == osqp.SolverStatus.OSQP_SIGINT:
                raise KeyboardInterrupt
            point = _point(form, result)
            if point is None:
                if "infeasible" in words or "convex" in words:
                    raise self.no_point(words)
                break
            gap = program.certify(point).gap
            if best is None or gap < least:
                best, least = point, gap
            if least <= request.tolerance or result.info.status_val != osqp.SolverStatus.OSQP_SOLVED:
                break
        if best is None and "time limit" not in words:
            raise self.no_point(words)
        return Answer(
            best,
            words,
            iterations=iterations,
            start_used=request.start is not None,
            seconds=time.perf_counter() - built,
        )


def _begin_at(solver: Any, program: L1Program, form: QPForm, start: Point) -> None:
    """Set the starting point of the solver."""
    x, rows = qp_start(program, form, start)
    slope = form.P @ x + form.q - form.A.T @ rows
    solver.warm_start(x=x, y=-np.concatenate([rows, slope[_bounded(form)]]))


def _bounded(form: QPForm) -> BoolArray:
    """Return which variables have a bound; their bounds become further rows."""
    return np.isfinite(form.lower) | np.isfinite(form.upper)


def _data(form: QPForm) -> tuple[Any, ...]:
    """Return P, q, A, l, u with the bounds as further rows."""
    bounded = _bounded(form)
    unit = sparse.eye_array(len(form.q), format="csr")[np.flatnonzero(bounded)]
    rows = sparse.csc_matrix(sparse.vstack([form.A, unit]))
    lower = np.concatenate([form.row_lower, form.lower[bounded]])
    upper = np.concatenate([form.row_upper, form.upper[bounded]])
    return sparse.csc_matrix(form.P), form.q, rows, lower, upper


def _point(form: QPForm, result: Any) -> Point | None:
    """Return OSQP's point; None if it has none."""
    if result.x is None or not np.isfinite(result.x).all():
        return None
    return form.recover(np.array(result.x), finite(-np.array(result.y[: form.A.shape[0]])))
