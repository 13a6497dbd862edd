"""The roads of a problem: which training a problem asks for, and who confirms a folder of its results."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from convexsnn.admm.result import (
    AdmmClaim,
    AdmmResult,
    ConfirmedAdmm,
    Judged,
    run_admm,
    verify_admm_folder,
)
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
from convexsnn.training.folder import ADMM, CERTIFICATE, PLOT_DATA

CONFIRM: dict[str, Callable[[Path, bool], ConfirmedClaim | ConfirmedAdmm]] = {
    CERTIFICATE: confirm_claim,
    ADMM: verify_admm_folder,
}  # the file that a road's folder holds -> who computes its claim again


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
    """Go the whole road and keep every station; with ``training.method = "admm"`` train by ADMM.

    Parameters
    ----------
    solver, tolerance, time_limit : optional
        In place of the problem's own. `time_limit`, in seconds, is for the solver, and before it for the
        training of networks whose hidden layers are the witnesses: what is trained until then is taken.
    progress : callable, optional
        Called with what is being done and the finished share of it.
    checkpoint : path, optional
        For training by ADMM or gradients: file to keep, and to go on from if it is there; as in `train_admm`
        and `trained_networks`.
    place : optional
        For ADMM, as in `train_admm`.

    Raises
    ------
    LoweringError, UnsupportedError, SolverNotInstalled, SolverFailed
        Where the road ends early.
    VerificationError
        The simulator does not confirm the network.
    """
    if problem.training.method == "admm":
        problem = _for_admm(problem, solver, tolerance)
        limit = time_limit if time_limit is not None else problem.solver.time_limit
        return run_admm(problem, Budget.of(limit, progress, checkpoint), place)
    if place is not None:
        raise ShapeError('place: is for training.method = "admm", this problem has "convex"')
    if checkpoint is not None and not get_source(problem.dictionary.source).takes_checkpoint:
        those = " or ".join(name for name, source in SOURCES.items() if source.takes_checkpoint)
        raise ShapeError(
            f'checkpoint: is for training.method = "admm" or dictionary.source {those}; '
            f'this problem has "convex" and "{problem.dictionary.source}"'
        )
    around: dict[str, Any] = {"time_limit": time_limit, "progress": progress, "checkpoint": checkpoint}
    return train_convex(problem, solver=solver, tolerance=tolerance, **around)


def _for_admm(problem: Problem, solver: str | Solver | None, tolerance: float | None) -> Problem:
    if solver is not None:
        raise ShapeError(f'solver: {solver!r} with training.method = "admm", whose blocks have closed forms')
    if tolerance is None:
        return problem
    return replace(problem, admm=replace(problem.admm, tolerance=positive("tolerance", tolerance)))


def confirm_folder(folder: str | os.PathLike[str], *, exact: bool = False) -> ConfirmedClaim | ConfirmedAdmm:
    """Compute again what a result folder of any road claims; errors as `verify_folder`."""
    folder = Path(folder)
    if not folder.is_dir():
        raise ProblemFileError(f"{folder}: no such folder")
    marks = [mark for mark in CONFIRM if (folder / mark).exists()]
    if len(marks) > 1:
        raise VerificationError(f"{folder}: holds {' and '.join(marks)}; a result folder has one claim")
    if not marks and (folder / PLOT_DATA).exists():
        raise VerificationError(
            f"{folder}: holds {PLOT_DATA} alone, a path of λ without a trained network; path with "
            "--validation writes one, or solve the λ that you choose"
        )
    return CONFIRM[marks[0] if marks else CERTIFICATE](folder, exact)


def verify_folder(
    folder: str | os.PathLike[str], *, exact: bool = False
) -> tuple[Claim, Checked] | tuple[AdmmClaim, Judged]:
    """Compute again what a result folder of any road claims, from its data and weights alone.

    Parameters
    ----------
    exact : bool
        Decide every spike in rational arithmetic, so that no rounding is involved; not for ADMM.

    Returns
    -------
    claim, checked
        What the folder states, and what was computed again: `Claim` and `Checked` of the convex road,
        `AdmmClaim` and `Judged` of ADMM.

    Raises
    ------
    ProblemFileError
        There is no such folder.
    ShapeError
        `exact` with a folder of ADMM.
    VerificationError
        Something in it is missing or damaged, or something it claims does not hold.
    """
    confirmed: Any = confirm_folder(folder, exact=exact)
    return confirmed.claim, confirmed.checked
