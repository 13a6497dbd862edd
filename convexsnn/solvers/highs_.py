"""HiGHS: simplex and interior point for linear programs, active sets for quadratic ones.

Assumes an LP or a QP with a diagonal Hessian. Deterministic. Its LP duals certify to rounding; its QP
solver stops at about 1e-6. Huangfu & Hall, "Parallelizing the dual revised simplex method" (2018).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from convexsnn.errors import SolverFailed
from convexsnn.programs import L1Program, Point
from convexsnn.programs.mps import highs_model
from convexsnn.solvers.solver import Capabilities, Solution, Solver, Status


class Highs(Solver):
    """Adapter to highspy; `options` are HiGHS's own, by their names."""

    name = "highs"
    capabilities = Capabilities(
        programs=frozenset({"lp", "qp"}),
        gap={"lp": 1e-9, "qp": 1e-4},
        duals=True,
        warm_start=False,
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
        import highspy

        begun = time.perf_counter()
        form = program.to_qp()
        solver = highspy.Highs()
        accuracy = float(np.clip(tolerance, 1e-10, 1e-7))
        settings = {
            "output_flag": False,
            "threads": 1,
            "random_seed": 0,
            "primal_feasibility_tolerance": accuracy,
            "dual_feasibility_tolerance": accuracy,
        }
        if time_limit is not None:
            settings["time_limit"] = float(time_limit)
        for key, value in {**settings, **(options or {})}.items():
            if solver.setOptionValue(key, value) != highspy.HighsStatus.kOk:
                raise SolverFailed(f"highs: option {key} = {value!r} was refused")
        solver.passModel(highs_model(form))
        built = time.perf_counter()
        solver.run()
        ended = time.perf_counter()
        model = highspy.HighsModelStatus
        status = {
            model.kOptimal: Status.OPTIMAL,
            model.kTimeLimit: Status.LIMIT,
            model.kIterationLimit: Status.LIMIT,
            model.kInterrupt: Status.LIMIT,
            model.kInfeasible: Status.INFEASIBLE,
            model.kUnbounded: Status.UNBOUNDED,
            model.kUnboundedOrInfeasible: Status.UNBOUNDED,
        }.get(solver.getModelStatus(), Status.FAILED)
        words = solver.modelStatusToString(solver.getModelStatus())
        values, info = solver.getSolution(), solver.getInfo()
        x, duals = np.array(values.col_value), np.array(values.row_dual)
        usable = len(x) == form.A.shape[1] and bool(np.isfinite(x).all())
        if not usable and status is not Status.LIMIT:
            raise SolverFailed(f"highs: stopped with {words!r} and no point")
        point = Point(np.zeros(program.shape))
        if usable:
            good = len(duals) == form.A.shape[0] and bool(np.isfinite(duals).all())
            point = form.recover(x, duals if good else None)
        return Solution(
            point,
            status,
            program.certify(point),
            self.name,
            words,
            int(max(info.simplex_iteration_count, info.ipm_iteration_count, info.qp_iteration_count)),
            seconds={"build": built - begun, "solve": ended - built},
        )
