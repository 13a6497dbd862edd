"""The convex program where every 0/1 pattern is a column: one-dimensional searches ([E23, Thm 2.3]).

If D holds all of {0,1}^R, then min ‖w‖₁ subject to D w = z is max(z)₊ + max(−z)₊: no w does it with less,
since entry i of D w lies between −Σ (w)₋ and Σ (w)₊, and the layers {i : z_i >= level} do it with as much.
Nothing but z is left of the program, and outputs do not meet:

    primal   min_z   Σ_i s_i ℓ(z_i, y_i) + λ (max(z)₊ + max(−z)₊)                      s_i = c a_i
    dual     max_u   −Σ_i s_i ℓ*(−u_i / s_i)    subject to  Σ (u)₊ <= λ,  Σ (−u)₊ <= λ

With the cap p = max(z)₊ and the floor −q = −max(−z)₊ given, each row takes the best response in [−q, p].
A row with y > 0 never wants less than 0, so that it knows of p alone, and one with y < 0 of q alone. The two
sides are one problem, stated here for y > 0, S = Σ s_i over its rows:

| loss          | least over p >= 0 of      | solution                   | u_i               |
|---------------|---------------------------|----------------------------|-------------------|
| squared       | λ p + ½ Σ s_i (y_i − p)₊² | Σ s_i (y_i − p)₊ = λ, or 0 | s_i (y_i − p)₊    |
| hinge         | λ p + S (1 − p)₊          | 1 if λ < S, else 0         | s_i min(1, λ / S) |
| squared_hinge | λ p + ½ S (1 − p)₊²       | (1 − λ / S)₊               | s_i min(1, λ / S) |
| logistic      | λ p + S log(1 + exp(−p))  | log(S / λ − 1)₊            | s_i min(½, λ / S) |

u_i = −s_i ℓ'(z_i) (at a kink of the hinge, a subgradient), and Σ u_i z_i = λ p: both objectives agree. So z
is optimal, and u proves it, for *every* dictionary that holds the layers of z, of all 2^R patterns or fewer.

The rows must be those of distinct samples: rows of equal inputs get equal bits from any unit.

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

INSIDE = 1.0 - 1e-13  # strictly inside the dual's constraint, so that no later sum rounds out of it


def shattered_optimum(
    loss: Loss | str,
    targets: FloatArray,
    row_scale: FloatArray,
    regularization: float,
    penalty: Penalty = L1(),  # noqa: B008 (immutable)
) -> tuple[FloatArray, FloatArray]:
    """Return the optimal outputs of the program on all 0/1 patterns, and the dual point that proves them.

    Parameters
    ----------
    targets : (R, C) array
    row_scale : (R, 1) or (R,) array
        c a > 0, as `L1Program.row_scale`.
    regularization : float
        λ > 0.

    Returns
    -------
    z, dual : (R, C) arrays
        ``dual`` is feasible for any 0/1 columns whatever.

    Raises
    ------
    UnsupportedError
        A loss without such a closed form, as softmax; a penalty other than ℓ1.
    ShapeError
        Shapes that do not fit, targets that the loss does not take, a scale or λ not positive.
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
            z[rows, c], dual[rows, c] = sign * side, sign * _inside(price, limit)
    return z, dual


def _inside(price: FloatArray, limit: float) -> FloatArray:
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
    patterns = np.concatenate([found for found, _ in cakes])
    output = np.repeat(np.arange(z.shape[1]), [len(found) for found, _ in cakes])
    first, which = unique_rows(np.packbits(patterns, axis=1))
    table = np.zeros((len(first), z.shape[1]))
    table[which, output] = np.concatenate([weights for _, weights in cakes])  # layers of one output differ
    return patterns[first], table
