"""Text of a splitting, with sizes and numbers of every block, as ``inspect --splitting`` prints it."""

from __future__ import annotations

import numpy as np

from convexsnn.admm.spike_blocks import spike_blocks
from convexsnn.admm.splitting import VARIANTS, SplitProblem, damping, weight_block
from convexsnn.admm.state import Split

SHOWN = 200  # samples whose blocks are built; the formulas are the same for all


def _indented(text: str) -> list[str]:
    return ["", *text.splitlines()]


def _membranes(split: Split, k: int) -> list[str]:
    if split.splitting.membranes == "step":
        return _indented(split.membrane_block(k, 0).describe())
    return _indented(split.chain_block(k).describe())


def _weights(lowered: SplitProblem, split: Split, k: int) -> list[str]:
    spec, last = lowered.problem.admm, k == len(lowered.weights.layers)
    sums = split.sums(k)
    assert sums.gram is not None
    full = VARIANTS[spec.variant].full_fit
    name = "weights, readout" if last else f"weights, layer {k + 1}"
    block = weight_block(name, split.weights.table(k).astype(np.float64), sums, sums.gram, spec, full)
    share = spec.ridge if full else spec.damping
    mu = damping(sums.gram / split.inputs.shape[0], share)
    return [*_indented(block.describe()), f"  μ = {mu:.4g} a sample, {share:g} mean squares of a feature"]


def splitting_text(lowered: SplitProblem) -> str:
    """Return all blocks of a problem's splitting, at the start of its training."""
    problem, shared = lowered.problem, lowered.splitting
    n, steps, d = problem.inputs.shape
    shown = min(n, SHOWN)
    split = lowered.split(slice(0, shown))
    variant, spec = VARIANTS[problem.admm.variant], problem.admm
    lines = [
        f"{problem.name}: {problem.title}" if problem.title else problem.name,
        "",
        f"splitting: {spec.variant}; {n} samples × {steps} steps × {d} inputs, "
        f"{problem.network.readout} readout, loss {shared.loss.name}",
        "  not convex as a whole: no lower bound, no gap; each block states whether it is exact",
        f"  weights by {'full fits' if variant.full_fit else 'proximal steps'}, every iteration from "
        f"{'the true dynamics' if variant.restarts else 'where the last one ended'}, order {spec.order}",
        f"  outputs   ρ_o = {shared.output_penalty:.4g}, k = {np.array2string(shared.kernel, precision=3)}",
    ]
    for k, layer in enumerate(shared.layers, start=1):
        leak, reset = (np.unique(np.asarray(v)) for v in (layer.leak, layer.reset))
        lines.append(
            f"  layer {k}   {lowered.weights.layers[k - 1].units} units, β = {_range(leak)}, "
            f"r = {_range(reset)}, θ = {layer.threshold:g}, ρ = {layer.coupling:.4g}, "
            f"σ = {layer.spike_penalty:.4g}"
        )
    if shared.ramp_width:
        width = f"{shared.ramp_width:g}"
        lines.append(f"  spikes held to a ramp r of width {width}: a − ξ = r(z), ξ its rounding at first")
    lines += ["", f"blocks, for {shown} of the samples" if shown < n else "blocks"]
    lines += _indented(split.output_block().describe())
    if shared.every_output and steps > 1:
        lines += _indented(split.output_step_block(0).describe())
    for k in range(len(shared.layers) - 1, -1, -1):
        for _, block in spike_blocks(split, k):
            lines += _indented(block.describe())
        if shared.clamped:
            lines.append("  solved without the box, then clamped (spike_update = clamped)")
        lines += _membranes(split, k)
    for k in range(len(shared.layers) + 1):
        lines += _weights(lowered, split, k)
    lines += ["", "multipliers", "  λ ← λ + ρ_o (q − A'ā)"]
    return "\n".join(lines)


def _range(values: np.ndarray) -> str:
    return f"{values[0]:g}" if len(values) == 1 else f"{values[0]:g}..{values[-1]:g}"
