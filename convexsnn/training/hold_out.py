"""Samples held out of a problem for validation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from convexsnn.arrays import IntArray
from convexsnn.errors import ShapeError
from convexsnn.problem import Problem
from convexsnn.tasks.train_test import held_out_rows


def hold_out(problem: Problem, share: float, seed: int) -> tuple[Problem, IntArray]:
    """Draw a share of the training samples by `seed`; return the problem without it, and its (k,) indices.

    Raises
    ------
    ShapeError
        The share is no sample or all samples, or a label has no training sample.
    """
    n = len(problem.inputs)
    held_out = held_out_rows(n, share, seed)
    if not len(held_out):
        raise ShapeError(f"validation: {share:g} of {n} samples is 0; both parts need at least one")
    rest = np.setdiff1d(np.arange(n), held_out)
    fit = replace(
        problem,
        inputs=problem.inputs[rest],
        targets=np.asarray(problem.targets)[rest],
        sample_weights=None if problem.sample_weights is None else problem.sample_weights[rest],
        test_inputs=None,
        test_targets=None,
        expected={},
    )
    if fit.target_code != problem.target_code:
        raise ShapeError(
            f"validation: with {share:g} held out by seed {seed}, the training samples lack a label; "
            "take another seed or a smaller share"
        )
    return fit, held_out
