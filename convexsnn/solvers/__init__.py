"""Solvers of the convex programs; they do not depend on networks."""

from convexsnn.solvers.capabilities import Capabilities
from convexsnn.solvers.registry import AUTO, SOLVERS, get_solver, installed, register_solver
from convexsnn.solvers.solver import Answer, Request, Solution, Solver, Status, check_limits
from convexsnn.solvers.solving import solve

__all__ = [
    "AUTO",
    "SOLVERS",
    "Answer",
    "Capabilities",
    "Request",
    "Solution",
    "Solver",
    "Status",
    "check_limits",
    "get_solver",
    "installed",
    "register_solver",
    "solve",
]
