"""Rows and columns in the user's terms: the sample, the pattern, and the unit that fires like it."""

import numpy as np
import pytest
from command_line import files_in, one_line
from small_programs import make_program, places

import convexsnn
from convexsnn.errors import UnsupportedError
from convexsnn.problem import Problem, load_problem
from convexsnn.programs import FORMS, Group
from convexsnn.report.forms import explained, form_text
from convexsnn.simulate import simulate

RNG = np.random.default_rng(7)


def problem(supervise="last", penalty="l1", loss="squared", **changes):
    inputs = np.random.default_rng(0).normal(size=(9, 3, 2))
    steps = (9,) if supervise == "last" else (9, 3)
    targets = np.arange(np.prod(steps)).reshape(steps) % 3 if loss != "squared" else None
    if targets is None:
        targets = np.random.default_rng(1).normal(size=steps)
    parts = {
        "layers": [{"bias": True, "width": 4, "leak": [0.5, 0.9]}, {"neuron": "lif", "width": 5}],
        "network": {"supervise": supervise, "subnetworks": 3},
        "dictionary": {"count": 15, "weight_box": 4.0},
        "training": {"loss": loss, "penalty": penalty, "regularization": 0.01},
        "sample_weights": np.arange(1.0, 10.0),
        "name": "small",
    }
    return Problem.from_arrays(inputs, targets, **{**parts, **changes})


@pytest.mark.parametrize("supervise", ["last", "all"])
def test_a_column_names_the_unit_that_fires_like_it(supervise):
    given = problem(supervise)
    lowered = convexsnn.lower(given)
    for index in range(lowered.program.shape[0]):
        found = lowered.explain(index)
        (pattern,) = found.patterns
        bits = lowered.dictionary.columns.toarray([index])[:, 0]
        assert (pattern.pattern, pattern.spikes) == (index, bits.sum()) and found.sample is None
        assert pattern.margin == lowered.dictionary.margins[index] and pattern.units_below == (4,)
        layers = lowered.dictionary.subnetworks[pattern.subnetwork].layers
        assert np.array_equal(layers[-1].unit_weights()[pattern.unit], pattern.weights)
        assert pattern.leak == 0.9
        readout = np.zeros((layers[-1].units, 1))
        readout[pattern.unit] = 1.0
        network = convexsnn.Network(layers, readout, supervise=supervise)
        assert np.array_equal(simulate(network, given.inputs).outputs.ravel() > 0, bits)


@pytest.mark.parametrize("supervise", ["last", "all"])
@pytest.mark.parametrize("form", FORMS)
def test_a_row_of_outputs_names_sample_step_and_target(supervise, form):
    given = problem(supervise)
    lowered = convexsnn.lower(given)
    kind = "column" if form == "dual" else "row"
    first = next(p.index for p in places(lowered.program.layout(form), kind) if p.row == 0)
    for k in range(lowered.program.dictionary.rows):
        of = lowered.explain(first + k, kind, form).sample
        sample, step = (k, 2) if supervise == "last" else divmod(k, 3)
        target = given.targets[sample] if supervise == "last" else given.targets[sample, step]
        assert (of.sample, of.step, of.targets, of.encoded) == (sample, step, (target,), target)
        assert of.weight == given.sample_weights[sample]
        assert of.firing == lowered.dictionary.columns.toarray()[k].sum()


def test_outputs_carry_the_names_of_their_classes():
    lowered = convexsnn.lower(problem(loss="softmax"))
    patterns = lowered.program.shape[0]
    names = [lowered.explain(c * patterns, form="cone").output_name for c in range(3)]
    assert names == ["class 0", "class 1", "class 2"]
    of = lowered.explain(9 * 2 + 4, "column", "dual")
    assert (of.output_name, of.sample.sample, of.sample.targets, of.sample.encoded) == (
        "class 2",
        4,
        (1.0,),
        0,
    )
    heads = np.stack([np.arange(9) % 2, np.arange(9) % 3], axis=1)
    two = Problem.from_arrays(
        RNG.normal(size=(9, 3, 2)), heads, layers=[{"bias": True}], dictionary={"count": 20},
        training={"loss": "hinge", "regularization": 0.01},
    )  # fmt: skip
    lowered = convexsnn.lower(two)
    told = [lowered.explain(9 * c, "row").output_name for c in range(4)]
    assert told == ["label 1 if positive, 0 if not of head 0", *(f"class {k} of head 1" for k in range(3))]
    assert lowered.explain(9, "row").sample.targets == (0.0, 0.0)


def test_a_group_names_all_its_patterns():
    given = problem(penalty="group")
    lowered = convexsnn.lower(given)
    found = lowered.explain(4, "row", "dual")
    assert found.place.group == 4 and [p.pattern for p in found.patterns] == [4]
    wide = make_program("squared", "blocks")
    place = wide.explain(1, "row", "dual")
    assert isinstance(wide.penalty, Group) and place.group == 1 and place.pattern is None


# text and command line


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("loss", ["squared", "hinge", "logistic", "softmax"])
@pytest.mark.parametrize("penalty", ["l1", "group"])
def test_texts_of_every_form(form, loss, penalty):
    given = problem(loss=loss, penalty=penalty)
    lowered = convexsnn.lower(given)
    if form == "qp" and (penalty == "group" or loss in ("logistic", "softmax")):
        with pytest.raises(UnsupportedError):
            form_text(lowered, form)
        return
    text, layout = form_text(lowered, form), lowered.program.layout(form)
    for blocks in (layout.rows, layout.columns):
        for block in blocks:
            assert block.over == "members" or f"{block.start}..{block.stop - 1}" in text
    if form == "cvxpy":
        assert "D @ W == Z" in text and "0.00 " not in text
    for kind, blocks in (("row", layout.rows), ("column", layout.columns)):
        for block in blocks:
            lines = explained(lowered, block.start, kind, form).splitlines()
            assert lines[0].startswith(f"small, {form} form, {kind} {block.start}")
            assert any(line.startswith(("  sample", "  pattern")) for line in lines)


def test_form_on_the_command_line(cli, tmp_path):
    status, out, err = cli("inspect", "xor", "--form", "qp")
    assert (status, err) == (0, "") and files_in(tmp_path) == []
    for told in (
        "linear program: 4 rows × 22 columns, 48 entries",
        "w+           0..8",
        "slack        18..21",
    ):
        assert told in out
    status, out, _ = cli("inspect", "yin-yang", "--form", "cone")
    assert status == 0 and "group 0..298" in out and "exponential: rows 1796..7195, 1800 of size 3" in out
    status, out, _ = cli("inspect", "xor", "--form", "dual")
    assert status == 0 and "max |Dᵀu| <= λ = 0.05" in out


def test_rows_and_columns_on_the_command_line(cli, tmp_path):
    status, out, err = cli("inspect", "xor", "--row", 3, "--column", 5)
    assert (status, err) == (0, "")
    assert "row 3, loss3 in .mps and .lp files" in out and "column 5, p5 in .mps and .lp files" in out
    assert cli("export", "xor", "xor.lp")[0] == 0
    assert {"loss3:", "p5"} <= set((tmp_path / "xor.lp").read_text().split())
    unit = convexsnn.lower(load_problem("xor")).explain(5).patterns[0]
    assert f"witness   unit {unit.unit} of subnetwork 0, leak 0.9" in out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--form", "lp"], "form: expected one of qp, cone, cvxpy, dual, got 'lp'"),
        (["--form", "qp", "--row", 4], "row: expected a whole number in 0..3, got 4"),
        (["--column", -2], "column: expected a whole number in 0..21, got -2"),
    ],
)
def test_mistakes_on_the_command_line(cli, arguments, told):
    status, out, err = cli("inspect", "xor", *arguments)
    assert (status, out) == (2, "") and one_line(err) == told
