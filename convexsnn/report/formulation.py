"""Text of a lowered problem with its formulas, as ``convexsnn inspect`` prints it."""

from __future__ import annotations

import numpy as np

from convexsnn.dictionary.sources import get_source
from convexsnn.errors import UnsupportedError
from convexsnn.lowering import Lowered
from convexsnn.networks import GRID, SHARED, LayerSpec
from convexsnn.programs import ConeForm, L1Program, QPForm
from convexsnn.programs.presolve import presolve


def _layer(k: int, spec: LayerSpec) -> str:
    drive = "W x_t" if k == 1 else f"W s^({k - 1})_t"
    drive += " + R s_(t-1)" * spec.recurrent + " + b" * spec.bias
    neuron = spec.first_neuron()
    values = ""
    for declared in neuron.parameters(SHARED, GRID):
        setting = np.atleast_1d(spec.setting(declared.name))
        if declared.name != "threshold" and not declared.choices:  # choices show in the dynamics
            numbers = ", ".join(f"{value:g}" for value in setting)
            values += f", {declared.symbol} {'=' if len(setting) == 1 else 'in'} {numbers}"
    head = f"  layer {k}: {spec.width} × {spec.neuron}"
    return f"{head}, {neuron.dynamics}, s_t = [u_t >= {spec.threshold:g}], I_t = {drive}{values}"


def _groups(form: QPForm | ConeForm) -> list[str]:
    parts = []
    for kind, groups in (("variables", form.variables), ("rows", form.rows)):
        sizes = {name: part.stop - part.start for name, part in groups.items()}
        if len(sizes) > 8:
            parts.append(f"    {kind}: {sum(sizes.values())} in {len(sizes)} groups")
        else:
            parts.append(f"    {kind}: " + ", ".join(f"{name} {size}" for name, size in sizes.items()))
    return parts


def _forms(program: L1Program) -> list[str]:
    cone = program.to_cone()
    kinds: dict[str, int] = {}
    for kind, size in cone.cones:
        kinds[kind] = kinds.get(kind, 0) + size
    sizes = ", ".join(f"{kind} {size}" for kind, size in kinds.items())
    lines = []
    try:
        qp = program.to_qp()
        name = "linear program" if qp.linear else "quadratic program"
        lines += [
            f"  {name}: {qp.A.shape[0]} rows × {qp.A.shape[1]} columns, {qp.A.nnz} entries",
            *_groups(qp),
        ]
    except UnsupportedError as error:
        lines.append(f"  no QP form ({error})")
    lines += [
        f"  conic program: {cone.A.shape[0]} rows × {cone.A.shape[1]} columns, {cone.A.nnz} entries; {sizes}",
        *_groups(cone),
    ]
    return lines


def formulation(lowered: Lowered) -> str:
    """Return network, dictionary, program, presolve and standard forms with the problem's numbers."""
    problem, dictionary, program = lowered.problem, lowered.dictionary, lowered.program
    network, spec = problem.network, problem.dictionary
    n, steps, d = problem.inputs.shape
    counts = dictionary.columns.counts()
    density = counts.sum() / (dictionary.patterns * dictionary.columns.rows)
    dense = dictionary.columns.rows * dictionary.patterns * 8
    parts = program.outputs_apart()
    reduced = [presolve(part) for part in parts]
    shown = reduced[0].program
    origin = get_source(spec.source).described(spec.seed, spec.file)
    every = "every step" if network.supervise == "all" else "last step"
    lines = [
        f"{problem.name}: {problem.title}" if problem.title else problem.name,
        "",
        f"network: {n} samples × {steps} steps × {d} inputs, {network.subnetworks} subnetwork(s), "
        f"{network.readout} readout, targets at {every}",
        *(_layer(k, layer) for k, layer in enumerate(network.layers, start=1)),
        "",
        f"dictionary: {dictionary.patterns} distinct patterns of {dictionary.candidates} units ({origin})",
        f"  {dictionary.definition}",
        f"  density {density:.3f}, smallest margin {dictionary.margins.min():.3g}, "
        f"{dictionary.columns.nbytes} bytes packed ({dense} as floats)",
        "  scope: " + ("every pattern of the definition" if dictionary.complete else "these patterns only"),
        "",
        f"program ({program.kind})",
        *("  " + line for line in program.describe().splitlines()),
        "",
        f"presolve: {program.dictionary.rows} × {program.shape[0]} -> "
        f"{shown.dictionary.rows} × {shown.shape[0]} (rows × columns)"
        + (f", each of {len(parts)} outputs on its own" if len(parts) > 1 else ""),
        "",
        "standard forms after presolve" + (", first output" if len(parts) > 1 else ""),
        *_forms(shown),
    ]  # fmt: skip
    return "\n".join(lines)
