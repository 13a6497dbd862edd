"""Hands for the programs; nothing here knows what a network is."""

from convexsnn.solvers.failure import failure
from convexsnn.solvers.registry import SOLVERS, check_limits, get_solver, installed, solve
from convexsnn.solvers.solver import Capabilities, Solution, Solver, Status, kind_of

__all__ = [
    "SOLVERS",
    "Capabilities",
    "Solution",
    "Solver",
    "Status",
    "check_limits",
    "failure",
    "get_solver",
    "installed",
    "kind_of",
    "solve",
]
