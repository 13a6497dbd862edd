"""Text of a compiled form, its rows and its columns, as ``convexsnn inspect --form`` prints it."""

from __future__ import annotations

from convexsnn.lowering import Lowered
from convexsnn.lowering.explanation import Explanation, PatternOrigin
from convexsnn.networks import NEURONS, TRAINED
from convexsnn.problem import Problem
from convexsnn.programs import ConeForm, L1Program, Layout, QPForm
from convexsnn.programs.mps import mps_name
from convexsnn.report.written import Written

EXAMPLES = 2  # rows or columns shown of every block
SHOWN = 8  # weights shown of a unit
IN_SHORT = (
    "An entry with several indices is the sum of these entries; i: row of D, p: pattern, c: output, "
    "g: group of patterns, part: entry of its cone."
)


def _title(written: Written) -> list[str]:
    rows, columns = (blocks[-1].stop for blocks in (written.layout.rows, written.layout.columns))
    form, program = written.form, written.program
    size = f"{rows} rows × {columns} columns, {written.matrix.nnz} entries"
    if isinstance(form, QPForm):
        kind = "linear program" if form.linear else "quadratic program"
        objective = "q'x" if form.linear else "½ x'Px + q'x, P diagonal"
        return [
            f"{kind}: {size}",
            f"  min {objective}  subject to  row_lower <= A x <= row_upper, lower <= x <= upper",
        ]
    if isinstance(form, ConeForm):
        return [
            f"conic program: {size}",
            "  min ½ x'Px + q'x  subject to  A x + s = b, s in a product of cones",
            *_cones(form),
        ]
    if written.name == "dual":
        return [
            f"dual: {size}",
            f"  max over u of  Σ_i {program.loss.dual_formula}",
            f"  subject to  {program.penalty.dual_formula} <= λ = {program.regularization:.6g}",
            "  every feasible u proves that no W has a smaller objective",
        ]
    return [f"cvxpy: {size}", *_cvxpy(program)]


def _cones(form: ConeForm) -> list[str]:
    runs: list[tuple[str, int, int, int]] = []  # kind, size, first row, number
    start = 0
    for kind, size in form.cones:
        whole = kind in ("zero", "nonnegative")  # neighbours of these kinds form one cone
        if runs and runs[-1][0] == kind and (whole or runs[-1][1] == size):
            _, old, first, count = runs.pop()
            runs.append((kind, old + size if whole else size, first, 1 if whole else count + 1))
        else:
            runs.append((kind, size, start, 1))
        start += size
    return [
        f"  cone {kind}: rows {first}..{first + size * count - 1}"
        + (f", {count} of size {size}" if count > 1 else "")
        for kind, size, first, count in runs
    ]


def _cvxpy(program: L1Program) -> list[str]:
    problem = program.to_cvxpy()
    text = str(problem)
    constants = {"D": program.dictionary.toarray(), "y": program.targets}
    for constant in problem.constants():
        if constant.size > 1 and constant.name() in text:
            same = [
                k for k, v in constants.items() if v.shape == constant.shape and (constant.value == v).all()
            ]
            text = text.replace(constant.name(), same[0] if same else "scale")
    shapes = ", ".join(
        f"{v.name()} {v.shape[0]} × {v.shape[1]}" for v in sorted(problem.variables(), key=str)
    )
    kinds = "convex by cvxpy's rules" if problem.is_dcp() else "not convex by cvxpy's rules"
    return [
        *("  " + line for line in text.splitlines()),
        f"  variables {shapes}; {kinds}{', a linear or quadratic program' if problem.is_qp() else ''}",
        "  scale: factors of the loss, from c a; the dual of the constraint is u",
    ]


def _blocks(layout: Layout) -> list[str]:
    lines = []
    for kind, blocks in (("columns", layout.columns), ("rows", layout.rows)):
        lines.append(kind)
        shown = [b for b in blocks if b.over != "members"]
        members = [b for b in blocks if b.over == "members"]
        names = [(b.name, b.start, b.stop, b.meaning) for b in shown]
        if members:
            name = f"group 0..{len(members) - 1}"
            names.append((name, members[0].start, members[-1].stop, members[0].meaning))
        for name, start, stop, meaning in sorted(names, key=lambda row: row[1]):
            lines.append(f"  {name:<12} {f'{start}..{stop - 1}':<14} {meaning}")
    return lines


def form_text(lowered: Lowered, form: str) -> str:
    """Return sizes, blocks and example rows and columns of a form of the program, before presolve.

    Raises
    ------
    ShapeError, UnsupportedError
        As `L1Program.layout`.
    """
    written = Written(lowered.program, form)
    layout = written.layout
    lines = [f"{lowered.problem.name}, {form} form of the whole program, as stated (before presolve)", ""]
    lines += [*_title(written), "", *_blocks(layout), "", f"written out. {IN_SHORT}"]
    for kind, blocks, write in (
        ("row", layout.rows, written.row),
        ("column", layout.columns, written.column),
    ):
        members = [b for b in blocks if b.over == "members"]
        for block in [b for b in blocks if b.over != "members"] + members[:1]:
            for index in range(block.start, min(block.start + EXAMPLES, block.stop)):
                lines.append(f"  {f'{kind} {index}':<13} {write(index)}")
    return "\n".join(lines)


def explained(lowered: Lowered, index: int, kind: str, form: str) -> str:
    """Return a row or column of a form explained by sample, pattern and witness.

    Raises
    ------
    ShapeError, UnsupportedError
        As `Lowered.explain`.
    """
    explanation = lowered.explain(index, kind, form)
    written = Written(lowered.program, form)
    place = explanation.place
    numbers = [
        f"{name} {value}"
        for name, value in (
            ("row", place.row), ("pattern", place.pattern), ("group", place.group), ("output", place.output)
        )
        if value is not None
    ]  # fmt: skip
    named = f", {mps_name(place.block, place.position)} in .mps and .lp files" if form == "qp" else ""
    lines = [
        f"{lowered.problem.name}, {form} form, {kind} {index}{named}",
        f"  block     {place.block}, number {place.position} of it: {place.meaning}",
        f"  indices   {', '.join(numbers)}",
        f"  in full   {written.row(index) if kind == 'row' else written.column(index)}",
    ]
    if explanation.output_name:
        lines.append(f"  output    {place.output}: {explanation.output_name}")
    return "\n".join([*lines, *_sample(lowered, explanation), *_patterns(lowered, explanation)])


def _sample(lowered: Lowered, explanation: Explanation) -> list[str]:
    origin = explanation.sample
    if origin is None:
        return []
    targets = ", ".join(f"{value:.6g}" for value in origin.targets)
    encoded = "" if origin.encoded is None else f", for this output y = {origin.encoded:.6g}"
    steps = lowered.problem.inputs.shape[1]
    return [
        f"  sample    {origin.sample}, step {origin.step} of 0..{steps - 1}, weight {origin.weight:.6g}",
        f"  target    {targets}{encoded}",
        f"  patterns  {origin.firing} of {lowered.dictionary.patterns} fire there",
    ]


def _patterns(lowered: Lowered, explanation: Explanation) -> list[str]:
    lines: list[str] = []
    rows = lowered.dictionary.columns.rows
    for origin in explanation.patterns:
        below = (
            f" on hidden layers of {' and '.join(map(str, origin.units_below))}" if origin.units_below else ""
        )
        values = "".join(f", {name} {value:.6g}" for name, value in origin.parameters.items())
        lines += [
            f"  pattern   {origin.pattern}: fires at {origin.spikes} of {rows} rows, "
            f"margin {origin.margin:.3g}",
            f"  witness   unit {origin.unit} of subnetwork {origin.subnetwork}{below}{values}",
            f"  weights   {_weights(lowered.problem, origin)}",
        ]
    return lines


def _weights(problem: Problem, origin: PatternOrigin) -> str:
    spec = problem.network.layers[-1]
    kinds = ["inputs"] + ["bias"] * spec.bias + ["last spikes of the layer"] * spec.recurrent
    kinds += [declared.multiplies or declared.name for declared in NEURONS[spec.neuron].parameters(TRAINED)]
    numbers = ", ".join(f"{value:.6g}" for value in origin.weights[:SHOWN])
    more = f", … {len(origin.weights)} in all" if len(origin.weights) > SHOWN else ""
    return f"{numbers}{more} ({', then '.join(kinds)})"
