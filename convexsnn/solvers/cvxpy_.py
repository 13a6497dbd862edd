"""cvxpy: every solver that cvxpy has installed, for the program in its natural form.

"cvxpy" uses Clarabel, an interior-point method for every kind of program; "cvxpy:scs", "cvxpy:osqp" and so on
name another solver. Diamond & Boyd, "CVXPY" (2016); Goulart & Chen, "Clarabel" (2024).
"""

from __future__ import annotations

import warnings
from difflib import get_close_matches
from typing import Any

import numpy as np

from convexsnn.errors import SolverNotInstalled, UnsupportedError
from convexsnn.programs import AnyProgram, Point
from convexsnn.solvers import highs_
from convexsnn.solvers.capabilities import Capabilities
from convexsnn.solvers.solver import Answer, Request, Solver, Status, finite

# Settings of each solver for its accuracy and for deterministic results.
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
# cvxpy's status -> ours
STATUS = {
    "optimal": Status.OPTIMAL,
    "optimal_inaccurate": Status.LIMIT,
    "user_limit": Status.LIMIT,
    "infeasible": Status.INFEASIBLE,
    "unbounded": Status.UNBOUNDED,
}
REFUSALS = ("cannot solve", "does not support", "could not be reduced")
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
        form="cvxpy",
    )
    package = "cvxpy"
    methods = None  # the solvers that cvxpy has

    def __init__(self, backend: str = "CLARABEL") -> None:
        self.backend = backend.upper()
        self.name = f"cvxpy:{backend.lower()}"

    def known_options(self) -> None:
        """Return None; the solver that cvxpy calls checks its options."""

    def run(self, program: AnyProgram, request: Request) -> Answer:  # noqa: D102
        import cvxpy as cp

        if self.backend not in cp.installed_solvers():
            raise SolverNotInstalled(
                f"solver {self.name}: {_not_installed(self.backend, cp.installed_solvers())}"
            )
        problem, limited = program.to_cvxpy(), request.left is not None
        self._call(problem, program, request)
        status = STATUS.get(problem.status, Status.LIMIT if limited else Status.FAILED)
        weights, dual = problem.var_dict["W"].value, _multiplier(problem)
        stats = problem.solver_stats
        if weights is not None and np.isfinite(weights).all():
            point = Point(weights, None if dual is None else finite(-dual))
        elif status is Status.LIMIT:
            point = None
        else:
            raise self.no_point(problem.status)
        return Answer(
            point,
            str(problem.status),
            status,
            getattr(stats, "num_iters", None),
            seconds=float(getattr(stats, "solve_time", None) or 0.0),
        )

    def _call(self, problem: Any, program: AnyProgram, request: Request) -> None:
        """Solve by cvxpy; a time limit that leaves no point is not an error."""
        import cvxpy as cp

        settings: dict[str, Any] = {}
        if self.backend in ACCURACY:
            settings = ACCURACY[self.backend](max(request.tolerance * 1e-2, 1e-11))
        if self.backend == "HIGHS":  # it has no limits of its own
            sizes = problem.size_metrics
            rows = sizes.num_scalar_eq_constr + sizes.num_scalar_leq_constr
            settings = highs_.limits(sizes.num_scalar_variables + rows)
        left = request.left
        if left is not None and self.backend in TIME_LIMIT:
            settings[TIME_LIMIT[self.backend]] = left
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # an inaccurate point is judged by its gap, not by a warning
                problem.solve(solver=self.backend, **{**settings, **request.options})
        except cp.error.SolverError as error:
            if any(words in str(error) for words in REFUSALS):
                raise UnsupportedError(
                    f"solver {self.name}: takes no {program.kind} programs ({program.details}); "
                    "use cvxpy:clarabel or cvxpy:scs"
                ) from error
            if left is None:
                why = str(error).split(". ")[0].splitlines()[0]
                raise self.failed(f"stopped without a point: {why}") from error
        except (TypeError, ValueError, AttributeError, KeyError) as error:  # backends raise them on options
            raise self.failed(f"options {dict(request.options)}: {error}") from error


def _multiplier(problem: Any) -> Any:
    """Return the multiplier of a program's only equation, Z = D W; None if it has no equation."""
    import cvxpy as cp

    equations = [c for c in problem.constraints if isinstance(c, cp.constraints.Equality)]
    return equations[0].dual_value if equations else None


def _not_installed(backend: str, have: list[str]) -> str:
    """Return advice about a backend that cvxpy does not have; package names are not guessed."""
    known = sorted(name.lower() for name in have)
    if backend in PACKAGES:
        return f"not installed; pip install {PACKAGES[backend]} (installed are {', '.join(known)})"
    match = get_close_matches(backend.lower(), [*known, *(name.lower() for name in PACKAGES)], n=1)
    hint = f"did you mean cvxpy:{match[0]}? " if match else ""
    return f"unknown to cvxpy or not installed; {hint}installed are {', '.join(known)}"
