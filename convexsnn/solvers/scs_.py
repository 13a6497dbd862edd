"""SCS: operator splitting on the homogeneous self-dual embedding; takes every kind of program.

The only assumption is convexity. One factorization serves all iterations, so that an iteration is cheap on
large programs, but high accuracy takes many of them; a start saves iterations. Deterministic: scales adapt
after fixed numbers of iterations, not by the clock. O'Donoghue, Chu, Parikh & Boyd (2016); O'Donoghue,
"Operator splitting for a homogeneous embedding of the linear complementarity problem" (2021).
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from scipy import sparse

from convexsnn.errors import ShapeError
from convexsnn.programs import AnyProgram
from convexsnn.programs.cone_form import ConeForm
from convexsnn.programs.starts import cone_start
from convexsnn.solvers.capabilities import Capabilities, over_dictionary
from convexsnn.solvers.solver import Answer, Request, Solver, finite

KINDS = frozenset({"lp", "qp", "cone", "logistic", "exponential"})
# SCS's status numbers; FAILED: unbounded, infeasible, indeterminate; GUESSES: the first two at a limit
FAILED, INTERRUPTED, GUESSES = (-1, -2, -3, -4), -5, (-6, -7)


class Scs(Solver):
    """Adapter to scs; `options` are its settings, by their names."""

    name = "scs"
    capabilities = Capabilities(
        programs=KINDS,
        gap=dict.fromkeys(KINDS, 1e-7),
        duals=True,
        warm_start=True,
        time_limit=True,
        form="cone",
    )

    package = "scs"

    def known_options(self) -> None:
        """Return None; SCS refuses unknown settings and has no list of them."""

    def run(self, program: AnyProgram, request: Request) -> Answer:  # noqa: D102
        import scs

        form = program.to_cone()
        accuracy = max(request.tolerance * 1e-2, 1e-12)
        settings: dict[str, Any] = {
            "verbose": False,
            "eps_abs": accuracy,
            "eps_rel": accuracy,
            "max_iters": 50_000,
        }
        if hasattr(scs, "LinearSolver"):  # older versions have no choice
            settings["linear_solver"] = "qdldl"
        left = request.left
        if left is not None:
            settings["time_limit_secs"] = left
        try:
            solver = scs.SCS(_data(form), _cones(form), **{**settings, **request.options})
        except TypeError as error:  # "'name' is an invalid keyword argument"
            raise ShapeError(f"options: solver scs: {error}") from error
        except ValueError as error:
            raise self.failed(f"options {dict(request.options)}: {error}") from error
        begin = {}
        if request.start is not None:
            begin = dict(zip("xys", cone_start(over_dictionary(program), form, request.start), strict=True))
        built = time.perf_counter()
        result = solver.solve(warm_start=bool(begin), **begin)
        ended = time.perf_counter()
        info, x, point = result["info"], np.array(result["x"]), None
        if info["status_val"] == INTERRUPTED:
            raise KeyboardInterrupt
        if np.isfinite(x).all() and info["status_val"] not in FAILED:
            point = form.recover(x, finite(np.array(result["y"])))
        elif info["status_val"] not in GUESSES:
            raise self.no_point(info["status"])
        words = str(info["status"])
        return Answer(
            point, words, iterations=int(info["iter"]), start_used=bool(begin), seconds=ended - built
        )


def _data(form: ConeForm) -> dict[str, Any]:
    """Return P, A, b and q as SCS expects them; a program without rows gets one, 0 = 0."""
    A, b = form.A, form.b
    if not len(b):
        A, b = sparse.csc_array((1, len(form.q))), np.zeros(1)
    return {"P": sparse.triu(form.P, format="csc"), "A": sparse.csc_matrix(A), "b": b, "c": form.q}


def _cones(form: ConeForm) -> dict[str, Any]:
    """Return the cones as SCS expects them; the order of the form is that of SCS."""
    sizes = {kind: [size for of, size in form.cones if of == kind] for kind, _ in form.cones}
    return {
        "z": sum(sizes.get("zero", [])) + (not form.cones),
        "l": sum(sizes.get("nonnegative", [])),
        "q": sizes.get("second_order", []),
        "ep": len(sizes.get("exponential", [])),
    }
