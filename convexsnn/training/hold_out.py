"""Samples held out of a problem, to choose by."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from convexsnn.arrays import IntArray
from convexsnn.errors import ShapeError
from convexsnn.problem import Problem
from convexsnn.tasks.split import held_out_rows


def hold_out(problem: Problem, share: float, seed: int) -> tuple[Problem, IntArray]:
    """Return the problem without a share of its training samples, drawn by `seed`, and their (k,) indices.

    Raises
    ------
    ShapeError
        The share is no sample or all, or a label is left without a sample to train on.
    """
    n = len(problem.inputs)
    held_out = held_out_rows(n, share, seed)
    if not len(held_out):
        raise ShapeError(f"validation: {share:g} of {n} samples is 0; both parts need one at least")
    kept = np.setdiff1d(np.arange(n), held_out)
    fit = replace(
        problem,
        inputs=problem.inputs[kept],
        targets=np.asarray(problem.targets)[kept],
        sample_weights=None if problem.sample_weights is None else problem.sample_weights[kept],
        test_inputs=None,
        test_targets=None,
        expected={},
    )
    if fit.target_code != problem.target_code:
        raise ShapeError(
            f"validation: with {share:g} held out by seed {seed} the other samples lack a label; "
            "take another seed or a smaller share"
        )
    return fit, held_out
