"""All solvers by name, and the solvers for a program: the named one, or those of "auto"."""

from __future__ import annotations

from difflib import get_close_matches
from importlib.util import find_spec

from convexsnn.errors import ShapeError, SolverNotInstalled, UnsupportedError
from convexsnn.programs import AnyProgram
from convexsnn.solvers.celer_ import Celer
from convexsnn.solvers.clarabel_ import Clarabel
from convexsnn.solvers.cvxpy_ import Cvxpy
from convexsnn.solvers.highs_ import Highs
from convexsnn.solvers.osqp_ import Osqp
from convexsnn.solvers.scs_ import Scs
from convexsnn.solvers.skglm_ import Skglm
from convexsnn.solvers.sklearn_ import Sklearn
from convexsnn.solvers.solver import Solver
from convexsnn.solvers.working_set import WorkingSet

SOLVERS: dict[str, type[Solver]] = {}

# by kind of program: the solvers that "auto" tries in turn until the gap is within the tolerance
AUTO = {
    "lp": ("working_set", "highs", "clarabel"),
    "qp": ("working_set", "clarabel", "scs"),
    "cone": ("working_set", "clarabel", "scs"),
    "logistic": ("working_set", "clarabel", "scs"),
    "exponential": ("working_set", "clarabel", "scs"),
}


def register_solver(solver: type[Solver]) -> type[Solver]:
    """Register a solver by its name, for `solve`, problem files and the command line; return it.

    Raises
    ------
    ShapeError
        Not a subclass of Solver, or its name is in use or not allowed.
    UnsupportedError
        It lacks a part that every solver needs; the message names the part.
    """
    if not (isinstance(solver, type) and issubclass(solver, Solver)):
        raise ShapeError(f"solver: expected a subclass of Solver, got {solver!r}")
    solver.check_complete()
    for kind in sorted(set(solver.capabilities.programs) - set(solver.capabilities.gap)):
        raise UnsupportedError(f"solver {solver.name}: its capabilities state no gap for {kind} programs")
    if solver.name == "auto" or ":" in solver.name:
        raise ShapeError(
            f"solver: name {solver.name!r}; 'auto' is reserved, and a colon separates name and method"
        )
    if SOLVERS.get(solver.name, solver) is not solver:
        other = SOLVERS[solver.name].__name__
        raise ShapeError(f"solver: {solver.name!r} is registered already, as {other}")
    SOLVERS[solver.name] = solver
    return solver


for _solver in (Highs, Cvxpy, WorkingSet, Clarabel, Scs, Osqp, Celer, Skglm, Sklearn):
    register_solver(_solver)


def installed(name: str) -> bool:
    """Return whether the package behind a registered solver is installed."""
    return find_spec(SOLVERS[name].package) is not None


def get_solver(name: str) -> Solver:
    """Return the solver of this name; "highs:ipm" is a method of HiGHS, "cvxpy:NAME" cvxpy's solver NAME.

    Raises
    ------
    UnsupportedError
        Unknown name; the message suggests the nearest one.
    SolverNotInstalled
        Known name, but its package is missing; the message names the package.
    """
    base, _, method = name.partition(":")
    methods = SOLVERS[base].methods if base in SOLVERS else ()
    if base not in SOLVERS or (method and methods is not None and method not in methods):
        known = [*SOLVERS, *(f"{name}:{m}" for name, cls in SOLVERS.items() for m in cls.methods or ())]
        match = get_close_matches(name, known, n=1) or [base] * (base in SOLVERS)
        hint = f"did you mean {match[0]!r}?" if match else f"known: auto, {', '.join(known)}, cvxpy:NAME"
        raise UnsupportedError(f"solver: unknown {name!r}; {hint}")
    cls = SOLVERS[base]
    if not installed(base):
        raise SolverNotInstalled(f"solver {name}: not installed; pip install {_to_install(cls)}")
    return cls(method) if method else cls()


def _to_install(cls: type[Solver]) -> str:
    """Return the argument of pip: this package with an extra, or the package of the solver."""
    extra = cls.capabilities.extra
    if extra:
        return f"'convexsnn[{extra}]'"
    return "convexsnn" if cls.__module__.startswith("convexsnn.") else cls.package


def check(solver: Solver, program: AnyProgram) -> None:
    """Raise an UnsupportedError that names other solvers if `solver` does not take `program`."""
    refusal = solver.capabilities.refusal(program)
    if refusal:
        raise UnsupportedError(f"solver {solver.name}: {refusal}; {_instead(program)}")


def _instead(program: AnyProgram) -> str:
    able = [name for name, cls in SOLVERS.items() if not cls.capabilities.refusal(program)]
    return f"use {', '.join(able)}" if able else "no registered solver takes it"


def chosen_solvers(program: AnyProgram, solver: str | Solver) -> list[Solver]:
    """Return the solvers to try, in this order; errors as in `get_solver` and `check`."""
    if solver != "auto":
        one = get_solver(solver) if isinstance(solver, str) else solver
        check(one, program)
        return [one]
    if program.kind not in AUTO:
        raise UnsupportedError(
            f"solver auto: has no solvers for {program.kind} programs ({program.details}), only for "
            f"{', '.join(AUTO)}; {_instead(program)}"
        )
    every = [get_solver(name) for name in AUTO[program.kind]]
    able = [one for one in every if one.capabilities.refusal(program) is None]
    if not able:
        names = ", ".join(AUTO[program.kind])
        raise UnsupportedError(
            f"solver auto: none of {names} takes {program.kind} ({program.details}); {_instead(program)}"
        )
    return able
