"""The QP form as a HiGHS model, to be solved by HiGHS or written as an MPS or LP file."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from convexsnn.errors import ProblemFileError, SolverFailed
from convexsnn.files import appearing
from convexsnn.programs.qp_form import QPForm

ENDINGS = (".mps", ".lp")
LETTERS = {"w+": "p", "w-": "m", "slack": "s"}


def mps_name(block: str, position: int) -> str:
    """Return the name of a row or column of the QP form in the files that `write_model` writes."""
    return f"{LETTERS.get(block, block)}{position}"


def highs_model(form: QPForm, constant: float = 0.0) -> Any:
    """Return `form` plus a constant as a highspy.HighsModel with names for columns and rows."""
    import highspy

    if not form.A.shape[0]:  # HiGHS fails on a quadratic program without rows, so one row 0 = 0 is added
        nothing = np.zeros(1)
        A = sparse.csc_array((1, len(form.q)))
        form = replace(form, A=A, row_lower=nothing, row_upper=nothing, rows={"none": slice(0, 1)})
    lp: Any = highspy.HighsLp()
    lp.num_row_, lp.num_col_ = form.A.shape
    lp.offset_ = constant
    lp.col_cost_, lp.col_lower_, lp.col_upper_ = form.q, form.lower, form.upper
    lp.row_lower_, lp.row_upper_ = form.row_lower, form.row_upper
    lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    lp.a_matrix_.start_ = form.A.indptr
    lp.a_matrix_.index_ = form.A.indices
    lp.a_matrix_.value_ = form.A.data
    lp.col_names_ = [mps_name(k, j) for k, v in form.variables.items() for j in range(v.stop - v.start)]
    lp.row_names_ = [mps_name(k, i) for k, v in form.rows.items() for i in range(v.stop - v.start)]
    model = highspy.HighsModel()
    model.lp_ = lp
    if not form.linear:
        lower = sparse.csc_array(sparse.tril(form.P))
        lower.eliminate_zeros()
        lower.sort_indices()
        model.hessian_.dim_ = lower.shape[1]
        model.hessian_.format_ = highspy.HessianFormat.kTriangular
        model.hessian_.start_ = lower.indptr
        model.hessian_.index_ = lower.indices
        model.hessian_.value_ = lower.data
    return model


def write_model(form: QPForm, path: str | os.PathLike[str], constant: float = 0.0) -> None:
    """Write `form` plus a constant to `path`, in the format of its suffix; no partial file is left behind.

    Raises
    ------
    ProblemFileError
        The suffix is not .mps or .lp, or the path cannot be written.
    SolverFailed
        HiGHS could not write the model.
    """
    import highspy

    path = Path(path)
    if path.suffix not in ENDINGS:
        raise ProblemFileError(f"{path}: expected a name that ends in {' or '.join(ENDINGS)}")
    if not path.parent.is_dir():
        raise ProblemFileError(f"{path}: no such folder {path.parent}")
    solver = highspy.Highs()
    solver.setOptionValue("output_flag", False)
    if solver.passModel(highs_model(form, constant)) == highspy.HighsStatus.kError:
        raise SolverFailed(f"{path}: HiGHS does not take the model; are its numbers out of scale?")
    try:
        with appearing(path) as draft:
            if solver.writeModel(str(draft)) == highspy.HighsStatus.kError or not draft.exists():
                raise SolverFailed(f"{path}: HiGHS could not write the model")
    except OSError as error:
        raise ProblemFileError(f"{path}: {error.strerror or error}") from error
