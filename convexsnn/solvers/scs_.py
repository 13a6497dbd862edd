"""SCS: operator splitting on the homogeneous self-dual embedding; every program here.

Assumes nothing beyond convexity. One factorization serves all iterations, which makes large programs cheap to
begin and high accuracy slow to reach; a start saves iterations. Deterministic: scales adapt by iterations,
not by the clock. O'Donoghue, Chu, Parikh & Boyd (2016); O'Donoghue, "Operator splitting for a homogeneous
embedding of the linear complementarity problem" (2021).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import sparse

from convexsnn.errors import ShapeError, SolverFailed
from convexsnn.programs import AnyProgram, L1Program, Point
from convexsnn.programs.cone_form import ConeForm
from convexsnn.programs.starts import cone_start
from convexsnn.solvers.solver import Capabilities, Progress, Solution, Solver, Status

KINDS = frozenset({"lp", "qp", "cone", "logistic", "exponential"})
# SCS's own numbers; failed are unbounded, infeasible, indeterminate; the guesses are these two at a limit
SOLVED, FAILED, INTERRUPTED, GUESSES = 1, (-1, -2, -3, -4), -5, (-6, -7)


class Scs(Solver):
    """Adapter to scs; `options` are its settings, by their names."""

    name = "scs"
    capabilities = Capabilities(
        programs=KINDS,
        gap=dict.fromkeys(KINDS, 1e-7),
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
        import scs

        begun = time.perf_counter()
        form, options = program.to_cone(), options or {}
        accuracy = max(tolerance * 1e-2, 1e-12)
        settings: dict[str, Any] = {
            "verbose": False,
            "eps_abs": accuracy,
            "eps_rel": accuracy,
            "max_iters": 50_000,
        }
        if hasattr(scs, "LinearSolver"):  # else there is no other to choose
            settings["linear_solver"] = "qdldl"
        if time_limit is not None:
            settings["time_limit_secs"] = max(time_limit - (time.perf_counter() - begun), 1e-9)
        try:
            solver = scs.SCS(_data(form), _cones(form), **{**settings, **options})
        except TypeError as error:  # "'name' is an invalid keyword argument"
            raise ShapeError(f"options: solver scs: {error}") from error
        except ValueError as error:
            raise SolverFailed(f"solver scs: options {dict(options)}: {error}") from error
        given = {}
        if start is not None and isinstance(program, L1Program):
            given = dict(zip("xys", cone_start(program, form, start), strict=True))
        built = time.perf_counter()
        found = solver.solve(warm_start=bool(given), **given)
        ended = time.perf_counter()
        info = found["info"]
        x, dual = np.array(found["x"]), np.array(found["y"])
        if info["status_val"] == INTERRUPTED:
            raise KeyboardInterrupt
        point = Point(np.zeros(program.shape))
        if np.isfinite(x).all() and info["status_val"] not in FAILED:
            point = form.recover(x, dual if np.isfinite(dual).all() else None)
        elif info["status_val"] not in GUESSES:
            raise SolverFailed(f"solver scs: stopped with {info['status']!r} and no point")
        return Solution(
            point,
            Status.OPTIMAL if info["status_val"] == SOLVED else Status.LIMIT,
            program.certify(point),
            self.name,
            str(info["status"]),
            int(info["iter"]),
            bool(given),
            {"build": built - begun, "solve": ended - built},
        )


def _data(form: ConeForm) -> dict[str, Any]:
    """Return P, A, b and q as SCS takes them; it wants a row, so that 0 = 0 is one where there is none."""
    A, b = form.A, form.b
    if not len(b):
        A, b = sparse.csc_array((1, len(form.q))), np.zeros(1)
    return {"P": sparse.triu(form.P, format="csc"), "A": sparse.csc_matrix(A), "b": b, "c": form.q}


def _cones(form: ConeForm) -> dict[str, Any]:
    """Return the cones as SCS takes them, in its order, which is that of the form."""
    sizes = {kind: [size for of, size in form.cones if of == kind] for kind, _ in form.cones}
    return {
        "z": sum(sizes.get("zero", [])) + (not form.cones),
        "l": sum(sizes.get("nonnegative", [])),
        "q": sizes.get("second_order", []),
        "ep": len(sizes.get("exponential", [])),
    }
