"""The convex program where every 0/1 pattern is a column: one-dimensional searches ([E23, Thm 2.3]).

If the columns of D are all of {0,1}^R, then min ‖w‖₁ subject to D w = z is max(z)₊ + max(−z)₊. A smaller
value is impossible, because entry i of D w lies between −Σ (w)₋ and Σ (w)₊; the layers {i : z_i >= level}
reach it. So z is the only variable, and the outputs are not coupled:

    primal   min_z   Σ_i s_i ℓ(z_i, y_i) + λ (max(z)₊ + max(−z)₊)                      s_i = c a_i
    dual     max_u   −Σ_i s_i ℓ*(−u_i / s_i)    subject to  Σ (u)₊ <= λ,  Σ (−u)₊ <= λ

For a fixed cap p = max(z)₊ and a fixed floor −q = −max(−z)₊, each row takes its best value in [−q, p]. A row
with y > 0 takes no value below 0, so that it depends on p alone; a row with y < 0 depends on q alone. Both
sides are the same problem. It is stated here for y > 0, with S = Σ s_i over these rows:

| loss          | least over p >= 0 of      | solution                   | u_i               |
|---------------|---------------------------|----------------------------|-------------------|
| squared       | λ p + ½ Σ s_i (y_i − p)₊² | Σ s_i (y_i − p)₊ = λ, or 0 | s_i (y_i − p)₊    |
| hinge         | λ p + S (1 − p)₊          | 1 if λ < S, else 0         | s_i min(1, λ / S) |
| squared_hinge | λ p + ½ S (1 − p)₊²       | (1 − λ / S)₊               | s_i min(1, λ / S) |
| logistic      | λ p + S log(1 + exp(−p))  | log(S / λ − 1)₊            | s_i min(½, λ / S) |

u_i = −s_i ℓ'(z_i) (at a kink of the hinge, a subgradient), and Σ u_i z_i = λ p: both objectives agree. So z
is optimal, and u proves it, for *every* dictionary that contains the layers of z.

The rows must belong to distinct samples, because every unit has equal bits at equal inputs.

[E23] Ergen et al., Globally optimal training of neural networks with threshold activations, ICLR 2023.
"""

from __future__ import annotations

import numpy as np

from convexsnn.arrays import BoolArray, FloatArray, positive, real_array
from convexsnn.distinct import unique_rows
from convexsnn.errors import ShapeError
from convexsnn.programs.loss import Loss
from convexsnn.programs.losses import get_loss
from convexsnn.programs.penalties import L1, Penalty

INSIDE = 1.0 - 1e-13  # factor that keeps the dual strictly feasible when a later sum is rounded


def shattered_optimum(
    loss: Loss | str,
    targets: FloatArray,
    row_scale: FloatArray,
    regularization: float,
    penalty: Penalty = L1(),  # noqa: B008 (immutable)
) -> tuple[FloatArray, FloatArray]:
    """Return the optimal outputs of the program over all 0/1 patterns, and a dual point that proves it.

    Parameters
    ----------
    targets : (R, C) array
    row_scale : (R, 1) or (R,) array
        c a > 0, as in `L1Program.row_scale`.
    regularization : float
        λ > 0.

    Returns
    -------
    z, dual : (R, C) arrays
        ``dual`` is feasible for every set of 0/1 columns.

    Raises
    ------
    UnsupportedError
        The loss has no closed form (softmax), or the penalty is not ℓ1.
    ShapeError
        Shapes do not match, the loss does not accept the targets, or a scale or λ is not positive.
    """
    loss = get_loss(loss)
    if not loss.offers("shattered_side"):
        loss.refuse("has no closed form over all 0/1 patterns")
    if not penalty.uniform:
        penalty.refuse("all 0/1 patterns have a closed form for l1 only")
    y = real_array("targets", targets, ("R", "C"))
    loss.check(y)
    scale = real_array("row_scale", np.reshape(row_scale, -1), (("R", len(y)),))
    if scale.min() <= 0:
        raise ShapeError(f"row_scale: {scale.min():g}; every scale must be positive")
    limit = positive("regularization", regularization)
    z, dual = np.zeros_like(y), np.zeros_like(y)
    for c in range(y.shape[1]):
        for sign in (1.0, -1.0):
            rows = np.flatnonzero(sign * y[:, c] > 0)
            if not len(rows):
                continue
            side, price = loss.shattered_side(sign * y[rows, c], scale[rows], limit)
            z[rows, c], dual[rows, c] = sign * side, sign * _scale_to_limit(price, limit)
    return z, dual


def _scale_to_limit(price: FloatArray, limit: float) -> FloatArray:
    total, most = float(price.sum()), limit * INSIDE
    return price if total <= most else price * (most / total)


def layer_cake(z: FloatArray) -> tuple[BoolArray, FloatArray]:
    """Return the layers of z (R,): patterns (k, R) and weights (k,), z = patternsᵀ weights, k <= R.

    Layers {z >= v} for the distinct values v > 0, each weighted by its height above the next value below,
    and the same with weights < 0 for −z: ‖weights‖₁ = max(z)₊ + max(−z)₊, the least possible.
    """
    patterns, weights = [], []
    for sign in (1.0, -1.0):
        side = sign * z
        levels = np.unique(side[side > 0])
        patterns.append(side >= levels[:, None])
        weights.append(sign * np.diff(levels, prepend=0.0))
    return np.concatenate(patterns), np.concatenate(weights)


def layer_cakes(z: FloatArray) -> tuple[BoolArray, FloatArray]:
    """Return the layers of all outputs of z (R, C): distinct patterns (k, R), W (k, C), z = patternsᵀ W."""
    cakes = [layer_cake(column) for column in z.T]
    patterns = np.concatenate([layers for layers, _ in cakes])
    output = np.repeat(np.arange(z.shape[1]), [len(layers) for layers, _ in cakes])
    first, which = unique_rows(np.packbits(patterns, axis=1))
    table = np.zeros((len(first), z.shape[1]))
    table[which, output] = np.concatenate([weights for _, weights in cakes])  # an output has no layer twice
    return patterns[first], table
