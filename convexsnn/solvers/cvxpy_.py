"""cvxpy: any solver that it has installed, given the program in its natural form.

"cvxpy" lets us pick (Clarabel, an interior-point method for every kind of program here); "cvxpy:scs",
"cvxpy:osqp" and so on name one. Diamond & Boyd, "CVXPY" (2016); Goulart & Chen, "Clarabel" (2024).
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from convexsnn.errors import SolverFailed, SolverNotInstalled, UnsupportedError
from convexsnn.programs import L1Program, Point
from convexsnn.solvers.solver import Capabilities, Solution, Solver, Status

# How each solver is told accuracy and time limit, and kept deterministic.
ACCURACY = {
    "CLARABEL": lambda tol: {"tol_gap_abs": tol, "tol_gap_rel": tol, "tol_feas": tol},
    "SCS": lambda tol: {"eps_abs": tol, "eps_rel": tol, "max_iters": 200_000},
    "OSQP": lambda tol: {
        "eps_abs": tol,
        "eps_rel": tol,
        "max_iter": 200_000,
        "polishing": True,
        "adaptive_rho_interval": 50,
    },
}
TIME_LIMIT = {"CLARABEL": "time_limit", "SCS": "time_limit_secs", "OSQP": "time_limit", "HIGHS": "time_limit"}


class Cvxpy(Solver):
    """Adapter to cvxpy; `options` go to the solver that it calls."""

    name = "cvxpy"
    capabilities = Capabilities(
        programs=frozenset({"lp", "qp", "cone", "exponential"}),
        gap=dict.fromkeys(("lp", "qp", "cone", "exponential"), 1e-6),
        duals=True,
        warm_start=False,
        time_limit=True,
    )

    def __init__(self, backend: str = "CLARABEL") -> None:
        self.backend = backend.upper()

    def solve(  # noqa: D102
        self,
        program: L1Program,
        *,
        tolerance: float = 1e-6,
        time_limit: float | None = None,
        start: Point | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Solution:
        import cvxpy as cp

        begun = time.perf_counter()
        label = f"{self.name}:{self.backend.lower()}"
        if self.backend not in cp.installed_solvers():
            have = ", ".join(sorted(s.lower() for s in cp.installed_solvers()))
            raise SolverNotInstalled(
                f"solver {label}: cvxpy has no {self.backend} installed (it has {have}); "
                f"pip install {self.backend.lower()}"
            )
        problem = program.to_cvxpy()
        accuracy = max(tolerance * 1e-2, 1e-11)
        settings: dict[str, Any] = ACCURACY.get(self.backend, lambda tol: {})(accuracy)
        if time_limit is not None and self.backend in TIME_LIMIT:
            settings[TIME_LIMIT[self.backend]] = float(time_limit)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # an inaccurate point is judged by its gap, not by a warning
                problem.solve(solver=self.backend, **{**settings, **(options or {})})
        except cp.error.SolverError as error:
            if "cannot solve" in str(error) or "does not support" in str(error):
                raise UnsupportedError(f"solver {label}: {error}") from error
            if time_limit is None:
                raise SolverFailed(f"solver {label}: {str(error).splitlines()[0]}") from error
        ended = time.perf_counter()
        status = {
            cp.OPTIMAL: Status.OPTIMAL,
            cp.OPTIMAL_INACCURATE: Status.OPTIMAL,
            cp.USER_LIMIT: Status.LIMIT,
            cp.INFEASIBLE: Status.INFEASIBLE,
            cp.UNBOUNDED: Status.UNBOUNDED,
        }.get(problem.status, Status.FAILED if time_limit is None else Status.LIMIT)
        weights, dual = problem.var_dict["W"].value, problem.constraints[0].dual_value
        if weights is None or not np.isfinite(weights).all():
            if status is not Status.LIMIT:
                raise SolverFailed(f"solver {label}: stopped with {problem.status!r} and no point")
            weights, dual = np.zeros(program.shape), None
        stats = problem.solver_stats
        inner = float(getattr(stats, "solve_time", None) or 0.0) if stats else 0.0
        point = Point(weights, None if dual is None else -dual)
        return Solution(
            point,
            status,
            program.certify(point),
            label,
            str(problem.status),
            getattr(stats, "num_iters", None) if stats else None,
            seconds={"build": ended - begun - inner, "solve": inner},
        )
