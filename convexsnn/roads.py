"""The choice of the training method for a problem, and the confirmation of result folders."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from convexsnn.admm.result import AdmmClaim, AdmmResult, ConfirmedAdmm, Judged, run_admm, verify_admm_folder
from convexsnn.arrays import positive
from convexsnn.certify import Claim
from convexsnn.certify.checker import Checked
from convexsnn.convex.confirmed import ConfirmedClaim, confirm_claim
from convexsnn.convex.training import Result, train_convex
from convexsnn.dictionary.sources import SOURCES, get_source
from convexsnn.errors import ProblemFileError, ShapeError, VerificationError
from convexsnn.problem import Problem
from convexsnn.solvers import Solver
from convexsnn.training.budget import Budget, Progress
from convexsnn.training.folder import unfinished
from convexsnn.training.manifest import ADMM, CERTIFICATE, PLOT_DATA

CONFIRM: dict[str, Callable[[Path, bool, Budget], ConfirmedClaim | ConfirmedAdmm]] = {
    CERTIFICATE: confirm_claim,
    ADMM: verify_admm_folder,
}  # claim file in a result folder -> function that computes the claim again


def train(
    problem: Problem,
    *,
    solver: str | Solver | None = None,
    tolerance: float | None = None,
    time_limit: float | None = None,
    progress: Progress | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    place: Callable[..., Any] | None = None,
) -> Result | AdmmResult:
    """Train a problem by its convex program, or with ``training.method = "admm"`` by ADMM.

    Parameters
    ----------
    solver, tolerance, time_limit : optional
        Replace the problem's settings. `time_limit`, in seconds, limits the solver. It also limits the
        training of networks for the dictionary; the networks trained until then are used.
    progress : callable, optional
        Called with the name of the present step and its finished share.
    checkpoint : path, optional
        For training by ADMM or gradients: checkpoint file; if it exists, the training continues from it. As
        in `train_admm` and `trained_networks`.
    place : optional
        For ADMM, as in `train_admm`.

    Raises
    ------
    LoweringError, UnsupportedError, SolverNotInstalled, SolverFailed
        The problem cannot be lowered or solved.
    VerificationError
        The simulator does not confirm the network.
    """
    if problem.training.method == "admm":
        problem = _for_admm(problem, solver, tolerance)
        limit = time_limit if time_limit is not None else problem.solver.time_limit
        return run_admm(problem, Budget.of(limit, progress, checkpoint), place)
    if place is not None:
        raise ShapeError('place: is for training.method = "admm", this problem has "convex"')
    if checkpoint is not None and not get_source(problem.dictionary.source).trains:
        sources = " or ".join(name for name, source in SOURCES.items() if source.trains)
        raise ShapeError(
            f'checkpoint: is for training.method = "admm" or dictionary.source {sources}; '
            f'this problem has "convex" and "{problem.dictionary.source}"'
        )
    limits: dict[str, Any] = {"time_limit": time_limit, "progress": progress, "checkpoint": checkpoint}
    return train_convex(problem, solver=solver, tolerance=tolerance, **limits)


def _for_admm(problem: Problem, solver: str | Solver | None, tolerance: float | None) -> Problem:
    if solver is not None:
        raise ShapeError(f'solver: {solver!r} with training.method = "admm", whose blocks have closed forms')
    if tolerance is None:
        return problem
    return replace(problem, admm=replace(problem.admm, tolerance=positive("tolerance", tolerance)))


def confirm_folder(
    folder: str | os.PathLike[str],
    *,
    exact: bool = False,
    time_limit: float | None = None,
    progress: Progress | None = None,
) -> ConfirmedClaim | ConfirmedAdmm:
    """Check the claim of a result folder again; arguments and errors as `verify_folder`."""
    folder, budget = Path(folder), Budget.of(time_limit, progress)
    if not folder.is_dir():
        raise ProblemFileError(f"{folder}: no such folder")
    if reason := unfinished(folder):
        raise VerificationError(f"{folder}: {reason}")
    claims = [name for name in CONFIRM if (folder / name).exists()]
    if len(claims) > 1:
        raise VerificationError(f"{folder}: holds {' and '.join(claims)}; a result folder has one claim")
    if not claims and (folder / PLOT_DATA).exists():
        raise VerificationError(
            f"{folder}: holds {PLOT_DATA} alone, a path of λ without a trained network; run the path "
            "with validation, or train at one λ"
        )
    return CONFIRM[claims[0] if claims else CERTIFICATE](folder, exact, budget)


def verify_folder(
    folder: str | os.PathLike[str],
    *,
    exact: bool = False,
    time_limit: float | None = None,
    progress: Progress | None = None,
) -> tuple[Claim, Checked] | tuple[AdmmClaim, Judged]:
    """Check the claim of a result folder again, from its data and weights alone.

    Parameters
    ----------
    exact : bool
        Decide every spike in rational arithmetic, without rounding; not for ADMM.
    time_limit : float, optional
        Seconds for the proof of a bound over all patterns. A claim that is not proved by then is refused.
    progress : callable, optional
        Called with the name of the present step and its finished share.

    Returns
    -------
    claim, checked
        The stated claim and the numbers computed again: `Claim` and `Checked` of the convex program,
        `AdmmClaim` and `Judged` of ADMM.

    Raises
    ------
    ProblemFileError
        The folder does not exist.
    ShapeError
        `exact` with a folder of ADMM.
    VerificationError
        A file is missing or damaged, or the claim does not hold.
    """
    confirmed: Any = confirm_folder(folder, exact=exact, time_limit=time_limit, progress=progress)
    return confirmed.claim, confirmed.checked
