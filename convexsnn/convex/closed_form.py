"""The optimum in closed form, for samples that can be shattered; units realise its few patterns."""

from __future__ import annotations

import numpy as np

from convexsnn.arrays import FloatArray
from convexsnn.bits import PackedBits
from convexsnn.dictionary.dictionary import gathered
from convexsnn.distinct import distinct_rows, unique_rows
from convexsnn.lowering import Convexification, Lowered, dual_at_zero
from convexsnn.pricing.prices import Oracle, placed, trivial_bound
from convexsnn.pricing.shattering import realise_all, shatters
from convexsnn.problem import Problem
from convexsnn.programs import Point, get_loss, get_penalty
from convexsnn.programs.shattered import layer_cakes, shattered_optimum


def closed_form(problem: Problem, oracle: Oracle) -> tuple[Lowered, Point] | None:
    """Return the program on the patterns of the optimum, and the optimum; None if there is no closed form.

    The closed form needs independent samples (`shatters`), the ℓ1 penalty, a loss that has this form, and
    for each pattern a unit within the weight box.
    """
    training, loss = problem.training, get_loss(problem.training.loss)
    if not (get_penalty(training.penalty).uniform and loss.offers("shattered_side")):
        return None
    if len(oracle.samples) < len(problem.inputs):
        return None
    if not any(shatters(unit) for unit in oracle.units):
        return None
    targets = problem.encoded_targets()
    row_scale = (problem.row_weights() / problem.rows)[:, None]
    zero = dual_at_zero(problem)
    largest = trivial_bound(zero, False)
    if training.regularization_fraction is not None and largest <= 0:
        return None
    limit = training.regularization or training.regularization_fraction * largest  # type: ignore[operator]
    z, dual = shattered_optimum(loss, targets, row_scale, limit)
    layers, weights = layer_cakes(z)
    ends = np.concatenate([zero.T > 0, zero.T < 0])  # the patterns that attain λ_max
    patterns = np.concatenate([layers, ends[ends.any(axis=1)]])
    patterns = patterns[np.sort(unique_rows(np.packbits(patterns, axis=1))[0])]
    found = realise_all(oracle.units, oracle.samples, patterns)
    if found is None:
        return None
    _, row_of = distinct_rows(problem.distinct, problem.network.supervise)
    dictionary = gathered(placed(oracle.units, oracle.samples, found), row_of, oracle.definition)
    lowered = Convexification().lower(problem, dictionary)
    return lowered, Point(_placed(lowered.dictionary.columns, layers, weights), dual)


def _placed(columns: PackedBits, layers: np.ndarray, weights: FloatArray) -> FloatArray:
    """Return W (P, C) with the weights of layers (k, R) at their columns."""
    place = {column.tobytes(): p for p, column in enumerate(columns.packed)}
    table = np.zeros((columns.shape[1], weights.shape[1]))
    for layer, row in zip(np.packbits(layers, axis=1), weights, strict=True):
        table[place[layer.tobytes()]] = row
    return table
