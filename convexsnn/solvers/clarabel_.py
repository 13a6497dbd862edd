"""Clarabel: an interior-point method for quadratic objectives over cones; takes every kind of program.

The only assumption is convexity: homogeneous embedding, no starting point. Each iteration factors one sparse
system, so that its accuracy is high and its cost grows fast with the dictionary. Deterministic: the system is
factored by one thread. Goulart & Chen, "Clarabel: an interior-point solver for conic programs with quadratic
objectives" (2024).
"""

from __future__ import annotations

import time

import numpy as np
from scipy import sparse

from convexsnn.programs import AnyProgram
from convexsnn.solvers.capabilities import Capabilities
from convexsnn.solvers.solver import Answer, Request, Solver, finite

GAP = {"lp": 1e-8, "qp": 1e-8, "cone": 1e-8, "logistic": 1e-7, "exponential": 1e-7}  # two stall near 1e-8


class Clarabel(Solver):
    """Adapter to clarabel; `options` are its settings, by their names."""

    name = "clarabel"
    capabilities = Capabilities(
        programs=frozenset(GAP), gap=GAP, duals=True, warm_start=False, time_limit=True, form="cone"
    )

    package = "clarabel"

    def known_options(self) -> list[str]:  # noqa: D102
        import clarabel

        return [name for name in dir(clarabel.DefaultSettings()) if not name.startswith("_")]

    def run(self, program: AnyProgram, request: Request) -> Answer:  # noqa: D102
        import clarabel

        settings, form = clarabel.DefaultSettings(), program.to_cone()
        accuracy = float(np.clip(request.tolerance * 1e-2, 1e-11, 1e-8))
        ours = {
            "verbose": False,
            "direct_solve_method": "qdldl",
            "tol_gap_abs": accuracy,
            "tol_gap_rel": accuracy,
            "tol_feas": accuracy,
        }
        makers = {
            "zero": clarabel.ZeroConeT,
            "nonnegative": clarabel.NonnegativeConeT,
            "second_order": clarabel.SecondOrderConeT,
            "exponential": lambda size: clarabel.ExponentialConeT(),
        }
        cones = [makers[kind](size) for kind, size in form.cones]
        left = request.left
        if left is not None:
            ours["time_limit"] = left
        try:
            for key, value in {**ours, **request.options}.items():
                setattr(settings, key, value)
            solver = clarabel.DefaultSolver(
                sparse.triu(form.P, format="csc"), form.q, sparse.csc_matrix(form.A), form.b, cones, settings
            )
        except Exception as error:  # clarabel has no exception class for refused settings
            raise self.failed(f"options {dict(request.options)}: {error}") from error
        built = time.perf_counter()
        result = solver.solve()
        ended = time.perf_counter()
        words, x = str(result.status), np.array(result.x)
        if not np.isfinite(x).all() or words in ("PrimalInfeasible", "DualInfeasible"):
            raise self.no_point(words)
        point = form.recover(x, finite(np.array(result.z)))
        return Answer(point, words, iterations=int(result.iterations), seconds=ended - built)
