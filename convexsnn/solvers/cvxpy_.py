"""cvxpy: any solver that it has installed, given the program in its natural form.

"cvxpy" lets us pick (Clarabel, an interior-point method for every kind of program here); "cvxpy:scs",
"cvxpy:osqp" and so on name one. Diamond & Boyd, "CVXPY" (2016); Goulart & Chen, "Clarabel" (2024).
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import numpy as np

from convexsnn.errors import SolverFailed, SolverNotInstalled, UnsupportedError
from convexsnn.programs import AnyProgram, Point
from convexsnn.solvers.solver import Capabilities, Progress, Solution, Solver, Status, details, kind_of

# How each solver is told accuracy and time limit, and kept deterministic.
ACCURACY = {
    "CLARABEL": lambda tol: {"tol_gap_abs": tol, "tol_gap_rel": tol, "tol_feas": tol},
    "SCS": lambda tol: {"eps_abs": tol, "eps_rel": tol, "max_iters": 50_000},
    "OSQP": lambda tol: {
        "eps_abs": tol,
        "eps_rel": tol,
        "max_iter": 200_000,
        "polishing": True,
        "adaptive_rho_interval": 50,
    },
}
PACKAGES = {
    "CLARABEL": "clarabel", "SCS": "scs", "OSQP": "osqp", "HIGHS": "highspy", "ECOS": "ecos",
    "MOSEK": "mosek",
    "GUROBI": "gurobipy", "GLPK": "cvxopt", "CVXOPT": "cvxopt", "PIQP": "piqp", "PROXQP": "proxsuite",
    "QPALM": "qpalm", "COPT": "coptpy", "XPRESS": "xpress",
}  # fmt: skip
TIME_LIMIT = {"CLARABEL": "time_limit", "SCS": "time_limit_secs", "OSQP": "time_limit", "HIGHS": "time_limit"}


class Cvxpy(Solver):
    """Adapter to cvxpy; `options` go to the solver that it calls."""

    name = "cvxpy"
    capabilities = Capabilities(
        programs=frozenset({"lp", "qp", "cone", "logistic", "exponential"}),
        gap=dict.fromkeys(("lp", "qp", "cone", "logistic", "exponential"), 1e-6),
        duals=True,
        warm_start=False,
        time_limit=True,
        standard_forms=True,
    )

    methods = None  # the solvers that cvxpy has

    def __init__(self, backend: str = "CLARABEL") -> None:
        self.backend = backend.upper()

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
        import cvxpy as cp

        begun = time.perf_counter()
        label = f"{self.name}:{self.backend.lower()}"
        if self.backend not in cp.installed_solvers():
            raise SolverNotInstalled(
                f"solver {label}: {_not_installed(self.backend, cp.installed_solvers())}"
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
            if any(
                words in str(error) for words in ("cannot solve", "does not support", "could not be reduced")
            ):
                raise UnsupportedError(
                    f"solver {label}: takes no {kind_of(program)} programs ({details(program)}); "
                    "use cvxpy:clarabel or cvxpy:scs"
                ) from error
            if time_limit is None:
                raise SolverFailed(
                    f"solver {label}: stopped without a point: {str(error).split('. ')[0].splitlines()[0]}"
                ) from error
        except (TypeError, ValueError, AttributeError, KeyError) as error:  # what backends raise on options
            raise SolverFailed(f"solver {label}: options {dict(options or {})}: {error}") from error
        ended = time.perf_counter()
        status = {
            cp.OPTIMAL: Status.OPTIMAL,
            cp.OPTIMAL_INACCURATE: Status.LIMIT,
            cp.USER_LIMIT: Status.LIMIT,
            cp.INFEASIBLE: Status.INFEASIBLE,
            cp.UNBOUNDED: Status.UNBOUNDED,
        }.get(problem.status, Status.FAILED if time_limit is None else Status.LIMIT)
        weights, dual = problem.var_dict["W"].value, _multiplier(problem)
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


def _multiplier(problem: Any) -> Any:
    """Return the multiplier of a program's only equation, that of its outputs; None where it has none."""
    import cvxpy as cp

    equations = [c for c in problem.constraints if isinstance(c, cp.constraints.Equality)]
    return equations[0].dual_value if equations else None


def _not_installed(backend: str, have: list[str]) -> str:
    """Return what to do about a backend that cvxpy does not find, without guessing a package's name."""
    known = sorted(name.lower() for name in have)
    if backend in PACKAGES:
        return f"not installed; pip install {PACKAGES[backend]} (installed are {', '.join(known)})"
    match = get_close_matches(backend.lower(), [*known, *(name.lower() for name in PACKAGES)], n=1)
    hint = f"did you mean cvxpy:{match[0]}? " if match else ""
    return f"unknown to cvxpy or not installed; {hint}installed are {', '.join(known)}"
