"""convexsnn: spiking neural networks by convex optimization, with certificates.

    problem = convexsnn.load_problem("xor")
    result = convexsnn.train(problem)
    print(result.claim)

or station by station: `lower`, `solve`, `reconstruct`, `simulate`, `verify`. Names are loaded when they
are first used, so that importing the package imports no solver.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from convexsnn.simulate import Trace, simulate

if TYPE_CHECKING:
    from convexsnn.certify import Claim, Verification, verify
    from convexsnn.dictionary import Definition, SpikeDictionary
    from convexsnn.errors import (
        ConvexSNNError,
        LoweringError,
        NotInstalled,
        ProblemFileError,
        ShapeError,
        SolverFailed,
        SolverNotInstalled,
        UnsupportedError,
        VerificationError,
    )
    from convexsnn.lowering import AdmmSplitting, Convexification, Lowered
    from convexsnn.networks import (
        LIF,
        Layer,
        LayerSpec,
        Network,
        NetworkSpec,
        RecurrentThreshold,
        Subnetwork,
        Threshold,
        Window,
        load_network,
        save_network,
    )
    from convexsnn.problem import Problem, load_problem
    from convexsnn.programs import L1, Certificate, Group, L1Program, Point, presolve
    from convexsnn.roads import train, verify_folder
    from convexsnn.solvers import Capabilities, Solution, Solver, Status, get_solver, solve
    from convexsnn.train import (
        AdmmResult,
        Distance,
        PathRow,
        RegularizationPath,
        Result,
        distance,
        lower,
        path,
        reconstruct,
        train_admm,
    )

__version__ = "0.1.0"

_HOME = {
    "certify": ("Claim", "Verification", "verify"),
    "dictionary": ("Definition", "SpikeDictionary"),
    "errors": (
        "ConvexSNNError",
        "LoweringError",
        "NotInstalled",
        "ProblemFileError",
        "ShapeError",
        "SolverFailed",
        "SolverNotInstalled",
        "UnsupportedError",
        "VerificationError",
    ),
    "lowering": ("AdmmSplitting", "Convexification", "Lowered"),
    "networks": (
        "LIF",
        "Layer",
        "LayerSpec",
        "Network",
        "NetworkSpec",
        "RecurrentThreshold",
        "Subnetwork",
        "Threshold",
        "Window",
        "load_network",
        "save_network",
    ),
    "problem": ("Problem", "load_problem"),
    "programs": ("L1", "Certificate", "Group", "L1Program", "Point", "presolve"),
    "solvers": ("Capabilities", "Solution", "Solver", "Status", "get_solver", "solve"),
    "train": (
        "AdmmResult",
        "Distance",
        "PathRow",
        "RegularizationPath",
        "Result",
        "distance",
        "lower",
        "path",
        "reconstruct",
        "train_admm",
    ),
    "roads": ("verify_folder",),
}
_MODULE = {name: module for module, names in _HOME.items() for name in names}

__all__ = [
    "L1",
    "LIF",
    "AdmmResult",
    "AdmmSplitting",
    "Capabilities",
    "Certificate",
    "Claim",
    "ConvexSNNError",
    "Convexification",
    "Definition",
    "Distance",
    "Group",
    "L1Program",
    "Layer",
    "LayerSpec",
    "Lowered",
    "LoweringError",
    "Network",
    "NetworkSpec",
    "NotInstalled",
    "PathRow",
    "Point",
    "Problem",
    "ProblemFileError",
    "RecurrentThreshold",
    "RegularizationPath",
    "Result",
    "ShapeError",
    "Solution",
    "Solver",
    "SolverFailed",
    "SolverNotInstalled",
    "SpikeDictionary",
    "Status",
    "Subnetwork",
    "Threshold",
    "Trace",
    "UnsupportedError",
    "Verification",
    "VerificationError",
    "Window",
    "distance",
    "get_solver",
    "load_network",
    "load_problem",
    "lower",
    "path",
    "presolve",
    "reconstruct",
    "save_network",
    "simulate",
    "solve",
    "train",
    "train_admm",
    "verify",
    "verify_folder",
]


def __getattr__(name: str) -> Any:
    if name == "train":  # the package of this name, which can be called
        return import_module("convexsnn.train")
    if name not in _MODULE:
        raise AttributeError(f"module 'convexsnn' has no attribute {name!r}")
    value = getattr(import_module(f"convexsnn.{_MODULE[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
