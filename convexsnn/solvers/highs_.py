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
from convexsnn.solvers.solver import Capabilities, Progress, Solution, Solver, Status, kind_of


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
        progress: Progress | None = None,
    ) -> Solution:
        import highspy

        begun = time.perf_counter()
        form = program.to_qp()
        solver = highspy.Highs()
        accuracy = float(np.clip(tolerance, 1e-10, 1e-7))
        settings: dict[str, Any] = {
            "output_flag": False,
            "threads": 1,
            "random_seed": 0,
            "primal_feasibility_tolerance": accuracy,
            "dual_feasibility_tolerance": accuracy,
        }
        if kind_of(program) == "qp":  # its active-set method can cycle for ever
            settings["qp_iteration_limit"] = 100 * sum(form.A.shape)
        if time_limit is not None:
            settings["time_limit"] = float(time_limit)
        # somebody else in this process may have started HiGHS with another number of threads
        highspy.Highs.resetGlobalScheduler(True)
        for key, value in {**settings, **(options or {})}.items():
            if _refused(solver, key, value):
                raise SolverFailed(f"highs: option {key} = {value!r} was refused")
        if solver.passModel(highs_model(form)) == highspy.HighsStatus.kError:
            raise SolverFailed("highs: does not take the model; are its numbers out of scale?")
        built = time.perf_counter()
        solver.run()
        ended = time.perf_counter()
        model = highspy.HighsModelStatus
        words = solver.modelStatusToString(solver.getModelStatus())
        stopped = (model.kTimeLimit, model.kIterationLimit, model.kInterrupt, model.kSolutionLimit)
        status = Status.OPTIMAL if solver.getModelStatus() == model.kOptimal else Status.LIMIT
        values, info = solver.getSolution(), solver.getInfo()
        x, duals = np.array(values.col_value), np.array(values.row_dual)
        usable = bool(values.value_valid) and len(x) == form.A.shape[1] and bool(np.isfinite(x).all())
        if status is Status.LIMIT and solver.getModelStatus() not in stopped:
            # these programs are feasible and bounded, so that any other word is a failure of the solver
            raise SolverFailed(f"highs: stopped with {words!r}")
        if not usable and status is Status.OPTIMAL:
            raise SolverFailed(f"highs: stopped with {words!r} and no point")
        point = Point(np.zeros(program.shape))
        if usable:
            good = (
                bool(values.dual_valid) and len(duals) == form.A.shape[0] and bool(np.isfinite(duals).all())
            )
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


def _refused(solver: Any, key: str, value: Any) -> bool:
    import highspy

    try:
        return bool(solver.setOptionValue(key, value) != highspy.HighsStatus.kOk)
    except TypeError:
        return True
