"""A compiled form in words: what ``convexsnn inspect --form`` prints, and its rows and columns explained."""

from __future__ import annotations

from convexsnn.lowering import Lowered
from convexsnn.lowering.explanation import Explanation, PatternOrigin
from convexsnn.networks import NEURONS, TRAINED
from convexsnn.problem import Problem
from convexsnn.programs import ConeForm, L1Program, Layout, QPForm
from convexsnn.programs.mps import mps_name
from convexsnn.report.written import Written

EXAMPLES = 2  # of every block of rows or columns, if there are few blocks
SHOWN = 8  # weights of a unit
IN_SHORT = (
    "What has several indices stands for the sum of these entries; i: row of D, p: pattern, c: output, "
    "g: group of patterns, part: which entry of its cone."
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
        whole = kind in ("zero", "nonnegative")  # one long cone is as good as several
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
    known = {"D": program.dictionary.toarray(), "y": program.targets}
    for constant in problem.constants():
        if constant.size > 1 and constant.name() in text:
            same = [k for k, v in known.items() if v.shape == constant.shape and (constant.value == v).all()]
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
    """Return sizes, blocks and a few rows and columns of a form of the program as stated, before presolve.

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
    """Return a row or column of a form in the user's terms: sample, pattern, witness.

    Raises
    ------
    ShapeError, UnsupportedError
        As `Lowered.explain`.
    """
    found = lowered.explain(index, kind, form)
    written = Written(lowered.program, form)
    place = found.place
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
    if found.output_name:
        lines.append(f"  output    {place.output}: {found.output_name}")
    return "\n".join([*lines, *_sample(lowered, found), *_patterns(lowered, found)])


def _sample(lowered: Lowered, found: Explanation) -> list[str]:
    of = found.sample
    if of is None:
        return []
    given = ", ".join(f"{value:.6g}" for value in of.given)
    encoded = "" if of.encoded is None else f", for this output y = {of.encoded:.6g}"
    steps = lowered.problem.inputs.shape[1]
    return [
        f"  sample    {of.sample}, step {of.step} of 0..{steps - 1}, weight {of.weight:.6g}",
        f"  target    {given}{encoded}",
        f"  patterns  {of.firing} of {lowered.dictionary.patterns} fire there",
    ]


def _patterns(lowered: Lowered, found: Explanation) -> list[str]:
    lines: list[str] = []
    for of in found.patterns:
        below = f" on hidden layers of {' and '.join(map(str, of.units_below))}" if of.units_below else ""
        values = "".join(f", {name} {value:.6g}" for name, value in of.parameters.items())
        lines += [
            f"  pattern   {of.pattern}: fires at {of.spikes} of {lowered.dictionary.columns.rows} rows, "
            f"margin {of.margin:.3g}",
            f"  witness   unit {of.unit} of subnetwork {of.subnetwork}{below}{values}",
            f"  weights   {_weights(lowered.problem, of)}",
        ]
    return lines


def _weights(problem: Problem, of: PatternOrigin) -> str:
    spec = problem.network.layers[-1]
    kinds = ["inputs"] + ["bias"] * spec.bias + ["last spikes of the layer"] * spec.recurrent
    kinds += [declared.multiplies or declared.name for declared in NEURONS[spec.neuron].parameters(TRAINED)]
    numbers = ", ".join(f"{value:.6g}" for value in of.weights[:SHOWN])
    more = f", … {len(of.weights)} in all" if len(of.weights) > SHOWN else ""
    return f"{numbers}{more} ({', then '.join(kinds)})"
