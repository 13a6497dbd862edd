"""HiGHS: simplex and interior point for linear programs, active sets for quadratic ones.

Assumes an LP or a convex QP. "highs" lets it choose; "highs:simplex", "highs:ipm" and
"highs:pdlp" (first order) name the method for a linear program. The simplex method turns a start into
a basis by crossover, and PDLP uses it as its first point; interior point and active sets take no start.
Deterministic. LP duals are exact up to rounding; the QP solver stops at about 1e-6. Huangfu & Hall,
"Parallelizing the dual revised simplex method" (2018).
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np

from convexsnn.programs import AnyProgram, L1Program, Point
from convexsnn.programs.mps import highs_model
from convexsnn.programs.qp_form import QPForm
from convexsnn.programs.starts import qp_start
from convexsnn.solvers.capabilities import Capabilities, over_dictionary
from convexsnn.solvers.solver import Answer, Request, Solver, finite

COUNTED = ("simplex", "ipm", "pdlp", "qp")
# without such limits every method can go on for ever
STEPS, IPM_STEPS, PDLP_STEPS = 100, 1000, 200_000  # the first for each row and column of the form


class Highs(Solver):
    """Adapter to highspy; `options` are those of HiGHS, by their names."""

    name = "highs"
    capabilities = Capabilities(
        programs=frozenset({"lp", "qp"}),
        gap={"lp": 1e-9, "qp": 1e-4},
        duals=True,
        warm_start=True,
        time_limit=True,
        form="qp",
    )
    package = "highspy"
    methods = ("simplex", "ipm", "pdlp")

    def __init__(self, method: str | None = None) -> None:
        self.method = method
        if method:
            gap = {"lp": 1e-5 if method == "pdlp" else 1e-9}
            self.name = f"highs:{method}"
            self.capabilities = replace(
                self.capabilities, programs=frozenset(gap), gap=gap, warm_start=method != "ipm"
            )

    def known_options(self) -> None:
        """Return None; HiGHS checks every option itself."""

    def run(self, program: AnyProgram, request: Request) -> Answer:  # noqa: D102
        import highspy

        form = program.to_qp()
        solver = highspy.Highs()
        settings = _settings(form, self.method, request)
        # HiGHS may already run in this process with another number of threads
        highspy.Highs.resetGlobalScheduler(True)
        for key, value in {**settings, **request.options}.items():
            if _refused(solver, key, value):
                raise self.failed(f"option {key} = {value!r} was refused")
        if solver.passModel(highs_model(form)) == highspy.HighsStatus.kError:
            raise self.failed("does not take the model; are its numbers out of scale?")
        warm = form.linear and solver.getOptionValue("solver")[1] not in ("ipm", "ipx")
        if request.start is None:
            warm = False
        elif warm:
            start = _start(over_dictionary(program), form, request.start)
            warm = solver.setSolution(start) == highspy.HighsStatus.kOk
        built = time.perf_counter()
        solver.run()
        ended = time.perf_counter()
        model, status = highspy.HighsModelStatus, solver.getModelStatus()
        words, info = solver.modelStatusToString(status), solver.getInfo()
        stopped = (model.kTimeLimit, model.kIterationLimit, model.kInterrupt, model.kSolutionLimit)
        if status != model.kOptimal and status not in stopped:
            # these programs are feasible and bounded, so that every other status is a failure of the solver
            raise self.failed(f"stopped with {words!r}")
        point = _point(form, solver.getSolution())
        if point is None and status == model.kOptimal:
            raise self.no_point(words)
        return Answer(
            point,
            words,
            iterations=max(int(getattr(info, f"{method}_iteration_count", 0)) for method in COUNTED),
            start_used=warm,
            seconds=ended - built,
        )


def limits(size: int) -> dict[str, int]:
    """Return the limits of iterations for a program with `size` rows and columns."""
    return {
        **dict.fromkeys(("simplex_iteration_limit", "qp_iteration_limit"), STEPS * size),
        "ipm_iteration_limit": IPM_STEPS,
        "pdlp_iteration_limit": PDLP_STEPS,
    }


def _settings(form: QPForm, method: str | None, request: Request) -> dict[str, Any]:
    accuracy, left = float(np.clip(request.tolerance, 1e-10, 1e-7)), request.left
    settings: dict[str, Any] = {
        "output_flag": False,
        "threads": 1,
        "random_seed": 0,
        "primal_feasibility_tolerance": accuracy,
        "dual_feasibility_tolerance": accuracy,
        **limits(sum(form.A.shape)),
    }
    if method:
        settings["solver"] = method
        settings["pdlp_optimality_tolerance"] = 0.1 * accuracy
    if left is not None:
        settings["time_limit"] = left
    return settings


def _point(form: QPForm, values: Any) -> Point | None:
    """Return the point of a highspy.HighsSolution; None if it has none."""
    x, duals = np.array(values.col_value), np.array(values.row_dual)
    if not (values.value_valid and len(x) == form.A.shape[1] and np.isfinite(x).all()):
        return None
    complete = values.dual_valid and len(duals) == form.A.shape[0]
    return form.recover(x, finite(duals) if complete else None)


def _start(program: L1Program, form: QPForm, start: Point) -> Any:
    """Return a start as a highspy.HighsSolution."""
    import highspy

    solution: Any = highspy.HighsSolution()
    x, rows = qp_start(program, form, start)
    solution.col_value, solution.row_value = list(x), list(form.A @ x)
    solution.col_dual, solution.row_dual = list(form.q - form.A.T @ rows), list(rows)
    solution.value_valid = solution.dual_valid = True
    return solution


def _refused(solver: Any, key: str, value: Any) -> bool:
    import highspy

    try:
        return bool(solver.setOptionValue(key, value) != highspy.HighsStatus.kOk)
    except TypeError:
        return True
