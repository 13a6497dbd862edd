"""Encoding of targets: from labels to the numbers of a loss, and from outputs to accuracies.

Rows are samples, or (sample, step) pairs in sample order when every step is supervised. Columns are
outputs. Regression targets pass through. A classification head is either

* binary: labels -1/+1, or 0/1 with a loss whose low target is -1: one output, decided by its sign;
* classes 0..C-1: C outputs, decided by the largest: target 1 for the class of the row, the loss's low target
  for the others. Softmax couples the outputs; other losses are summed over them (one against the rest).

Targets with one more axis have several heads; the outputs of the heads are side by side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from convexsnn.arrays import FloatArray, real_array
from convexsnn.errors import ShapeError

MOST_CLASSES = 10_000  # a larger label is probably a mistake


@dataclass(frozen=True)
class Head:
    """One label per row: `labels` are its values in the order of its outputs; () for regression."""

    labels: tuple[int, ...]
    outputs: int


@dataclass(frozen=True)
class TargetCode:
    """The encoding of the targets of one problem, as `target_code` derives it from its training targets.

    `low` is the target of the outputs of all other classes than the row's.
    """

    heads: tuple[Head, ...]
    loss: str
    steps: int | None
    regression: bool
    low: float = 0.0

    def rows(self, name: str, targets: Any, n: int) -> FloatArray:
        """Return targets as (R, heads), R = n or n·T, after checking shape and labels."""
        axes: list[Any] = [("n", n)] + ([("T", self.steps)] if self.steps else [])
        if _rank(targets) == len(axes) + 1:
            axes.append(("C" if self.regression else "heads", len(self.heads)))
        table = real_array(name, targets, axes).reshape(n * (self.steps or 1), -1)
        if table.shape[1] != len(self.heads):
            raise ShapeError(f"{name}: expected {len(self.heads)} columns, got {table.shape[1]}")
        for k, head in enumerate(self.heads):
            wrong = ~np.isin(table[:, k], head.labels) if head.labels else np.zeros(len(table), bool)
            if wrong.any():
                row = int(np.flatnonzero(wrong)[0])
                span = f"{head.labels[0]}..{head.labels[-1]}" if head.labels[0] == 0 else "-1 or +1"
                raise ShapeError(f"{name}: label {table[row, k]:g} in row {row}; expected {span}")
        return table

    def values(self, name: str, targets: Any, n: int) -> FloatArray:
        """Return the target values of the outputs in the loss, (R, C)."""
        table = self.rows(name, targets, n)
        if self.regression:
            return table
        parts = []
        for k, head in enumerate(self.heads):
            if head.outputs == 1:
                parts.append(np.where(table[:, k : k + 1] == head.labels[-1], 1.0, -1.0))
            else:
                parts.append(np.where(table[:, k : k + 1] == np.asarray(head.labels), 1.0, self.low))
        return np.concatenate(parts, axis=1)

    def accuracies(self, outputs: FloatArray, name: str, targets: Any) -> list[float] | None:
        """Return the share of correct rows per head; None for regression.

        `outputs` (n, C) or (n, T, C). A binary output of exactly 0 counts as the lower label.
        """
        if self.regression:
            return None
        table = self.rows(name, targets, outputs.shape[0])
        flat = outputs.reshape(len(table), -1)
        shares, start = [], 0
        for k, head in enumerate(self.heads):
            block = flat[:, start : start + head.outputs]
            start += head.outputs
            chosen = (block[:, 0] > 0).astype(int) if head.outputs == 1 else block.argmax(axis=1)
            shares.append(float(np.mean(np.asarray(head.labels)[chosen] == table[:, k])))
        return shares


def _rank(targets: Any) -> int:
    try:
        return int(np.ndim(targets))
    except ValueError:  # rows of different lengths; real_array raises
        return 0


def _head(name: str, column: FloatArray, coupled: bool, low: float) -> Head:
    labels = np.unique(column)
    if labels[0] == -1 and labels[-1] in (-1, 1) and len(labels) <= 2:
        return Head((-1, 1), 2 if coupled else 1)
    wrong = (labels != np.round(labels)) | (labels < 0) | (labels >= MOST_CLASSES)
    if wrong.any():
        raise ShapeError(
            f"{name}: label {labels[wrong][0]:g}; expected -1/+1, 0/1 or classes 0..C-1, C <= {MOST_CLASSES}"
        )
    classes = max(2, int(labels[-1]) + 1)
    return Head(tuple(range(classes)), 1 if classes == 2 and low == -1.0 else classes)


def target_code(targets: Any, *, n: int, steps: int | None, loss: str, task: str) -> TargetCode:
    """Return the encoding that the training targets imply.

    Parameters
    ----------
    targets : (n,), (n, C) array, or (n, T), (n, T, C) where every step is supervised
    steps : int or None
        T where every step is supervised, else None.

    Raises
    ------
    ShapeError
        Wrong shape, invalid labels, an unknown loss, or a loss that does not fit the task.
    """
    from convexsnn.programs import LOSSES, get_loss  # imported late: it takes a second

    rule = get_loss(loss)
    axes: list[Any] = [("n", n)] + ([("T", steps)] if steps else [])
    table = real_array("targets", targets, axes + ["C"] * (_rank(targets) == len(axes) + 1))
    table = table.reshape(n * (steps or 1), -1)
    if task not in rule.tasks:
        able = ", ".join(name for name, other in LOSSES.items() if task in other.tasks)
        raise ShapeError(f"loss: {loss!r} is for {' or '.join(rule.tasks)}; {task} takes {able}")
    if task == "regression":
        return TargetCode((Head((), 1),) * table.shape[1], loss, steps, True)
    if not rule.separable and table.shape[1] > 1:
        raise ShapeError(f"loss: {loss} takes one label per row, got {table.shape[1]} heads")
    heads = tuple(_head("targets", column, not rule.separable, rule.low_target) for column in table.T)
    return TargetCode(heads, loss, steps, False, rule.low_target)
