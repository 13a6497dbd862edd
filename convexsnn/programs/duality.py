"""Numeric checks of what a new loss or penalty says about itself, on small random points.

A lower bound is a value of the dual, so it is only as good as `dual_value` and `dual_norm`. `register_loss`
and `register_penalty` run these checks; the package's own terms pass them in the tests.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from convexsnn.arrays import FloatArray
from convexsnn.errors import ConvexSNNError
from convexsnn.programs.loss import Loss

ROWS, OUTPUTS, COLUMNS, DRAWS = 6, 3, 5, 40
SLACK = 1e-9  # relative: rounding of a few operations


def check_duality(loss: Loss) -> None:
    """Hold the dual of a loss to its value.

    For all outputs z and all v: −ℓ*(−v) <= ℓ(z) + v·z (Fenchel & Young), with equality at v = −ℓ'(z).
    A point of the dual domain stays in it when it is scaled down.

    Raises
    ------
    UnsupportedError
        One of these is false; the message names the loss and the method.
    """
    rng = np.random.default_rng(0)
    for y in _targets(loss, rng):
        z = [
            scale * rng.standard_normal(y.shape) for scale in (0.0, 0.3, 1.0, 3.0) for _ in range(DRAWS // 4)
        ]
        values = [_rows(loss, "value", loss.value(p, y)) for p in z]
        slopes = [_table(loss, "residual", loss.residual(p, y), y) for p in z]
        duals = [*slopes, *(_table(loss, "project", loss.project(p, y), y) for p in z)]
        for v in duals:
            dual = loss.dual_value(v, y)
            if np.shape(dual) != (ROWS,) or np.isnan(dual).any():
                loss.refuse(f"dual_value: expected one number a row, ({ROWS},), got {dual!r}")
            inside = np.isfinite(dual)
            smaller = [loss.dual_value(share * v, y)[inside] for share in (0.0, 0.5, 0.99)]
            if not np.isfinite(smaller).all():
                loss.refuse("dual_value is not finite on a point of the domain that is scaled down")
            for value, p in zip(values, z, strict=True):
                bound = value + np.sum(v * p, axis=1)
                if not (dual <= bound + SLACK * (1 + np.abs(value) + np.abs(bound))).all():
                    loss.refuse("dual_value is above value(z) + v·z; it must be minus the conjugate at -v")
        for value, v, p in zip(values, slopes, z, strict=True):
            gap = value + np.sum(v * p, axis=1) - loss.dual_value(v, y)
            if not (np.abs(gap) <= 1e-7 * (1 + np.abs(value))).all():
                loss.refuse("dual_value at residual(z) is not value(z) + v·z: one of the three is wrong")


def _targets(loss: Loss, rng: np.random.Generator) -> list[FloatArray]:
    """Return tables of targets that the loss accepts."""
    shape = (ROWS, OUTPUTS)
    classes = np.full(shape, loss.low_target)
    classes[np.arange(ROWS), np.arange(ROWS) % OUTPUTS] = 1.0
    kinds = {
        "classification": [classes],
        "regression": [
            rng.standard_normal(shape),
            rng.integers(0, 4, shape).astype(float),
            rng.random(shape),
        ],
    }
    accepted = []
    for y in [table for task in loss.tasks for table in kinds.get(task, [])]:
        try:
            loss.check(y)
        except ConvexSNNError:
            continue
        accepted.append(y)
    if not accepted:
        loss.refuse(
            "check accepts no targets of its tasks: neither classes, nor real, whole or small numbers"
        )
    return accepted


def _rows(loss: Loss, method: str, numbers: FloatArray) -> FloatArray:
    if np.shape(numbers) != (ROWS,) or not np.isfinite(numbers).all():
        loss.refuse(f"{method}: expected one finite number a row, ({ROWS},), got shape {np.shape(numbers)}")
    return numbers


def _table(loss: Loss, method: str, numbers: FloatArray, like: FloatArray) -> FloatArray:
    if np.shape(numbers) != like.shape or not np.isfinite(numbers).all():
        loss.refuse(f"{method}: expected finite numbers {like.shape}, got shape {np.shape(numbers)}")
    return numbers


def check_norms(penalty: type[Any]) -> None:
    """Hold the dual norm of a subclass of `Penalty` to its norm, and its parts to both.

    For all W and G: ⟨W, G⟩ <= ‖W‖ ‖G‖_dual. A part of the columns has the norm of a W that is zero elsewhere,
    and no larger a dual norm. Costs of entries, where there are some, add up to the norm.

    Raises
    ------
    UnsupportedError
        One of these is false; the message names the penalty and the method.
    """
    rng, shape = np.random.default_rng(0), (COLUMNS, OUTPUTS)
    whole, picked = penalty.for_columns(COLUMNS), np.array([1, 3, 4])
    part = whole.take(picked)
    for w in _weights(rng):
        norm = whole.value(w)
        if not (norm > 0 and np.isfinite(norm)):
            penalty.refuse(f"value: expected a positive number for weights that are not 0, got {norm!r}")
        for g in (w, np.sign(w), rng.standard_normal(shape)):  # w, sign(w): equality for most norms
            dual = whole.dual_norm(g)
            if not (np.isfinite(dual) and float(np.sum(w * g)) <= norm * dual * (1 + SLACK)):
                penalty.refuse("dual_norm: value(W) dual_norm(G) is below the product of W and G")
            if not part.dual_norm(g[picked]) <= dual * (1 + SLACK):
                penalty.refuse("take: the dual norm of some columns is above that of all")
        alone = np.zeros(shape)
        alone[picked] = w[picked]
        if not np.isclose(part.value(w[picked]), whole.value(alone), rtol=SLACK):
            penalty.refuse("take: the norm of some columns is not the norm of a W that is zero elsewhere")
        if penalty.entrywise:
            costs = whole.entry_costs(*shape)
            if not np.isclose(float(np.sum(costs * np.abs(w))), norm, rtol=SLACK):
                penalty.refuse("entry_costs: the sum of cost times |W| is not value(W)")
            if penalty.uniform and not (costs == 1).all():
                penalty.refuse("entry_costs: uniform = True needs costs of 1")
        if penalty.euclidean and (groups := whole.groups(COLUMNS)) is not None:
            squares = np.bincount(groups, weights=np.sum(w**2, axis=1))
            if not np.isclose(float(np.sqrt(squares).sum()), norm, rtol=SLACK):
                penalty.refuse(
                    "groups: the sum of their ℓ2 norms is not value(W), but euclidean = True says so"
                )


def _weights(rng: np.random.Generator) -> Iterator[FloatArray]:
    """Yield tables of weights: full ones, single rows and single entries."""
    for _ in range(DRAWS):
        full = rng.standard_normal((COLUMNS, OUTPUTS))
        row, entry = np.zeros_like(full), np.zeros_like(full)
        i, c = int(rng.integers(COLUMNS)), int(rng.integers(OUTPUTS))
        row[i], entry[i, c] = full[i], full[i, c]
        yield from (full, row, entry)
