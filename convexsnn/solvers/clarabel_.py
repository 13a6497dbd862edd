"""Clarabel: an interior-point method for quadratic objectives over cones; every program here.

Assumes nothing beyond convexity: homogeneous embedding, no starting point. Each iteration factors one sparse
system, so that its accuracy is high and its cost grows fast with the dictionary. Deterministic: the system is
factored by one thread. Goulart & Chen, "Clarabel: an interior-point solver for conic programs with quadratic
objectives" (2024).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import sparse

from convexsnn.errors import SolverFailed
from convexsnn.programs import AnyProgram, Point
from convexsnn.solvers.solver import Capabilities, Progress, Solution, Solver, Status, refuse_unknown

GAP = {"lp": 1e-8, "qp": 1e-8, "cone": 1e-8, "logistic": 1e-7, "exponential": 1e-7}  # these stall near 1e-8


class Clarabel(Solver):
    """Adapter to clarabel; `options` are its settings, by their names."""

    name = "clarabel"
    capabilities = Capabilities(
        programs=frozenset(GAP), gap=GAP, duals=True, warm_start=False, time_limit=True, standard_forms=True
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
        import clarabel

        begun = time.perf_counter()
        settings, options = clarabel.DefaultSettings(), options or {}
        refuse_unknown(self.name, options, [name for name in dir(settings) if not name.startswith("_")])
        accuracy = float(np.clip(tolerance * 1e-2, 1e-11, 1e-8))
        ours = {
            "verbose": False,
            "direct_solve_method": "qdldl",
            "tol_gap_abs": accuracy,
            "tol_gap_rel": accuracy,
            "tol_feas": accuracy,
        }
        form = program.to_cone()
        makers = {
            "zero": clarabel.ZeroConeT,
            "nonnegative": clarabel.NonnegativeConeT,
            "second_order": clarabel.SecondOrderConeT,
            "exponential": lambda size: clarabel.ExponentialConeT(),
        }
        cones = [makers[kind](size) for kind, size in form.cones]
        try:
            if time_limit is not None:
                settings.time_limit = max(time_limit - (time.perf_counter() - begun), 1e-9)
            for key, value in {**ours, **options}.items():
                setattr(settings, key, value)
            solver = clarabel.DefaultSolver(
                sparse.triu(form.P, format="csc"), form.q, sparse.csc_matrix(form.A), form.b, cones, settings
            )
        except Exception as error:  # its refusals have no class of their own
            raise SolverFailed(f"solver clarabel: options {dict(options)}: {error}") from error
        built = time.perf_counter()
        found = solver.solve()
        ended = time.perf_counter()
        words = str(found.status)
        x, dual = np.array(found.x), np.array(found.z)
        if not np.isfinite(x).all() or words in ("PrimalInfeasible", "DualInfeasible"):
            raise SolverFailed(f"solver clarabel: stopped with {words!r} and no point")
        point = form.recover(x, dual if np.isfinite(dual).all() else None)
        return Solution(
            point,
            Status.OPTIMAL if words == "Solved" else Status.LIMIT,
            program.certify(point),
            self.name,
            words,
            int(found.iterations),
            seconds={"build": built - begun, "solve": ended - built},
        )
