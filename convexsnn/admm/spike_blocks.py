"""The blocks of a splitting that move spikes: box-constrained least squares.

    min over a ∈ [0, 1]^m of  Σ_j w_j/2 ‖p_j − M_j a‖²  +  φ(a, z)

The terms are: the layer above, ρ⁺/2 ‖p_t − W⁺ a_t‖² (for the last layer, the readout); and for t < T the
layer's membrane of the next step, ρ/2 ‖e_{t+1} − (R − r) a_t‖² with
e_{t+1} = z_{t+1} − β z_t − W x_{t+1} − b. With a lifted ramp the box holds for a − ξ. The steps are
independent of each other, except in the last layer, where the readout couples them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

from convexsnn.admm.state import Split
from convexsnn.arrays import FloatArray, lagged
from convexsnn.blocks.box_qp import box_qp
from convexsnn.blocks.quadratic import Quadratic, QuadraticBlock
from convexsnn.blocks.ramp import lifted_parabola

Term = tuple[float, Any, FloatArray]  # w, M (p, k) dense or sparse, targets p (N, p)


def is_joint(split: Split, k: int) -> bool:
    """Return whether one program has all steps of layer k: the last layer, with eliminated outputs."""
    return k == len(split.spikes) - 1 and not split.splitting.every_output


def spike_blocks(split: Split, k: int) -> list[tuple[slice, QuadraticBlock]]:
    """Return the programs of layer k's spikes, each with the slice of its steps."""
    steps = split.inputs.shape[1]
    if is_joint(split, k):
        return [(slice(0, steps), _joint_block(split, k))]
    earlier = [(slice(0, steps - 1), True)] if steps > 1 else []
    return [
        (where, _step_block(split, k, where, has_next))
        for where, has_next in [*earlier, (slice(steps - 1, steps), False)]
    ]


def move_spikes(split: Split, k: int) -> int:
    """Move layer k's spikes to the minimum of their programs; return the number of matrix products."""
    total = 0
    for where, block in spike_blocks(split, k):
        old = split.spikes[k][:, where].reshape(block.shape)
        if split.splitting.clamped:
            new = np.clip(block.unbounded().minimize(), block.lower, block.upper)
        else:
            shared = split.splitting
            new, products = box_qp(
                block.quadratic, block.linear, block.lower, block.upper, old, shared.tolerance, shared.steps
            )
            total += products
        split.spikes[k][:, where] = new.reshape(split.spikes[k][:, where].shape)
    if k + 1 < len(split.drives):
        split.drives[k + 1] = None
    return total


def _next_membrane(split: Split, k: int) -> FloatArray:
    """Return e_{t+1} for t = 1..T−1, (n, T − 1, m)."""
    z, leak = split.membranes[k], np.asarray(split.splitting.layers[k].leak, split.inputs.dtype)
    return (z - split.drive(k))[:, 1:] - leak * z[:, :-1]


def _spike_term(split: Split, k: int) -> tuple[float, FloatArray, FloatArray]:
    """Return φ as ½ d a² − b a + c: d, b (n, T, m) and c summed over units, (n, T)."""
    layer, z = split.splitting.layers[k], split.membranes[k]
    sigma = z.dtype.type(layer.spike_penalty)
    if split.splitting.constraint == "squared":
        fires = (z >= layer.threshold) * sigma
        return float(sigma), fires, 0.5 * fires.sum(axis=2)
    width, rounding = split.splitting.ramp_width, split.roundings[k]
    if rounding is None:
        above = sigma * (z - z.dtype.type(layer.threshold))
        return 0.0, above, np.maximum(above, 0.0).sum(axis=2)
    parabola = lifted_parabola(z, rounding, layer.threshold, width, layer.spike_penalty)
    return layer.spike_penalty * width, *parabola


def _box(split: Split, k: int, where: slice) -> tuple[Any, Any]:
    """Return the bounds of a: [0, 1]; with a ramp [ξ, ξ + 1], where ξ is the rounding, (n, steps, m)."""
    rounding = split.roundings[k]
    return (0.0, 1.0) if rounding is None else (rounding[:, where], rounding[:, where] + 1)


def _fit(split: Split, k: int) -> Term:
    """Return the term of the layer above or of the outputs: w, M and targets (n, T, p); if joint, (n, C)."""
    shared, dtype = split.splitting, split.inputs.dtype
    if k < len(split.spikes) - 1:
        above = split.weights.layers[k + 1]
        drive = split.drive(k + 1)
        if above.bias is not None:
            drive = drive - np.repeat(above.bias, above.units // len(above.bias))
        return shared.layers[k + 1].coupling, above.matrix(), split.residual(k + 1) + drive
    up, rho = split.weights.output.T, shared.output_penalty
    if not shared.every_output:
        return rho, up, (split.outputs + split.multipliers / rho).astype(dtype)
    targets = split.outputs - shared.output_leak * lagged(split.outputs)
    targets[:, -1] += split.multipliers / rho
    return rho, shared.output_gain * up, targets.astype(dtype)


def _inside(split: Split, name: str) -> str:
    return f"{name} − ξ ∈ [0, 1]" if split.splitting.ramp_width else f"{name} ∈ [0, 1]"


def _block(
    name: str,
    formula: str,
    terms: list[Term],
    diagonal: FloatArray,
    linear: FloatArray,
    constant: float,
    box: tuple[Any, Any],
) -> QuadraticBlock:
    """Return the program ½ Σ w ‖p − M a‖² + ½ a'diag(d) a − b'a + constant over a box."""
    factors, total = [], linear
    for weight, matrix, targets in terms:
        root = targets.dtype.type(np.sqrt(weight))
        factors.append(matrix * root)
        total = total + targets.dtype.type(weight) * (targets @ matrix)
        constant += 0.5 * weight * float(np.sum(targets**2, dtype=np.float64))
    factor = factors[0]
    if len(factors) > 1:
        as_sparse = any(sparse.issparse(f) for f in factors)
        factor = sparse.vstack(factors, format="csr") if as_sparse else np.concatenate(factors)
    low, high = (b if np.ndim(b) == 0 else b.reshape(total.shape) for b in box)
    return QuadraticBlock(name, formula, Quadratic(diagonal, factor=factor), total, low, high, constant)


def _step_block(split: Split, k: int, where: slice, has_next: bool) -> QuadraticBlock:
    layer, recurrent = split.splitting.layers[k], split.weights.layers[k].recurrent
    weight, matrix, targets = _fit(split, k)
    square, linear, extra = _spike_term(split, k)
    m, rho = linear.shape[2], layer.coupling
    reset = np.broadcast_to(np.asarray(layer.reset, linear.dtype), (m,))
    terms: list[Term] = [(weight, matrix, targets[:, where].reshape(-1, targets.shape[2]))]
    diagonal, linear = np.full(m, square, linear.dtype), linear[:, where].reshape(-1, m)
    constant = float(extra[:, where].sum(dtype=np.float64))
    formula = f"  min over {_inside(split, 'a_t')} of  ρ⁺/2 ‖p_t − W⁺ a_t‖² + φ(a_t, z_t)"
    if has_next:
        target = _next_membrane(split, k).reshape(-1, m)
        formula += " + ρ/2 ‖e_{t+1} − (R − r) a_t‖²"
        if recurrent is None:
            diagonal, linear = diagonal + rho * reset**2, linear - rho * reset * target
            constant += 0.5 * rho * float(np.sum(target**2, dtype=np.float64))
        else:
            terms.append((rho, recurrent - np.diag(reset), target))
    steps = "all steps but the last" if has_next else "last step"
    return _block(
        f"spikes, layer {k + 1}, {steps}", formula, terms, diagonal.astype(linear.dtype), linear, constant,
        _box(split, k, where),
    )  # fmt: skip


def _joint_block(split: Split, k: int) -> QuadraticBlock:
    layer, recurrent = split.splitting.layers[k], split.weights.layers[k].recurrent
    weight, up, targets = _fit(split, k)
    square, linear, extra = _spike_term(split, k)
    (n, steps, m), rho, dtype = linear.shape, layer.coupling, linear.dtype
    reset = np.broadcast_to(np.asarray(layer.reset, dtype), (m,))
    kernel = split.splitting.kernel.astype(dtype)
    terms: list[Term] = [(weight, np.concatenate([up * c for c in kernel], axis=1), targets)]
    diagonal, constant = np.full((steps, m), square, dtype), float(extra.sum(dtype=np.float64))
    formula = f"  min over {_inside(split, 'a')} of  ρ_o/2 ‖q + λ/ρ_o − A'Σ_t k_t a_t‖² + Σ_t φ(a_t, z_t)"
    if steps > 1:
        target = _next_membrane(split, k)
        formula += " + Σ_{t<T} ρ/2 ‖e_{t+1} − (R − r) a_t‖²"
        if recurrent is None:
            diagonal[:-1] += rho * reset**2
            linear = linear.copy()
            linear[:, :-1] -= rho * reset * target
            constant += 0.5 * rho * float(np.sum(target**2, dtype=np.float64))
        else:
            blocks = sparse.block_diag([recurrent - np.diag(reset)] * (steps - 1))
            last = sparse.coo_array((blocks.shape[0], m))
            matrix = sparse.hstack([blocks, last], format="csr").astype(dtype)
            terms.append((rho, matrix, target.reshape(n, -1)))
    return _block(
        f"spikes, layer {k + 1}, all steps", formula, terms, diagonal.ravel(), linear.reshape(n, -1),
        constant, _box(split, k, slice(None)),
    )  # fmt: skip
