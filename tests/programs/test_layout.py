"""Rows and columns of compiled forms: what their places say is what the form's matrix holds."""

import numpy as np
import pytest
from small_programs import every_case, make_program, places

from convexsnn.errors import ShapeError, UnsupportedError
from convexsnn.programs import FORMS
from convexsnn.report.written import Written

RNG = np.random.default_rng(7)


def dense(program):
    return program.dictionary.toarray().astype(float)


def put(form, name, value):
    """Return x with one block at `value`, all others at 0."""
    x = np.zeros(form.A.shape[1])
    x[form.variables[name]] = value
    return x


@every_case
def test_every_number_has_one_place_and_the_places_tell_all_apart(case):
    loss, penalty, outputs, weighted = case
    program = make_program(loss, penalty, outputs, weighted)
    for name in FORMS:
        if name == "qp" and (penalty != "l1" or loss in ("logistic", "softmax")):
            with pytest.raises(UnsupportedError, match="QP form"):
                program.layout(name)
            continue
        layout = program.layout(name)
        for kind in ("row", "column"):
            found = places(layout, kind)
            assert [place.index for place in found] == list(range(len(found)))
            assert all(place.meaning and place.form == name and place.kind == kind for place in found)
            assert all(program.explain(k, kind, name) == found[k] for k in (0, len(found) - 1))
            ids = [(p.block, p.row, p.output, p.pattern, p.group, p.part) for p in found]
            assert len(set(ids)) == len(ids)
            for place in found:
                for value, stop in (
                    (place.row, program.dictionary.rows), (place.pattern, program.shape[0]),
                    (place.output, outputs),
                ):  # fmt: skip
                    assert value is None or 0 <= value < stop


@pytest.mark.parametrize("loss", ["squared", "hinge", "squared_hinge"])
@pytest.mark.parametrize("outputs", [1, 3])
def test_qp_columns_of_weights_hold_just_their_pattern(loss, outputs):
    program = make_program(loss, outputs=outputs, weighted=True)
    form, D = program.to_qp(), dense(program)
    rows = places(program.layout("qp"), "row")
    for place in places(program.layout("qp"), "column"):
        column = form.A[:, [place.index]].toarray()[:, 0]
        expected = np.zeros(len(rows))
        for k, row in enumerate(rows):
            if row.output != place.output:
                continue
            y = program.targets[row.row, row.output]
            sign = 1.0 if loss == "squared" else y
            if place.block in ("w+", "w-"):
                expected[k] = sign * D[row.row, place.pattern] * (1 if place.block == "w+" else -1)
            elif row.row == place.row:
                expected[k] = -1.0 if loss == "squared" else 1.0
        assert np.array_equal(column, expected)


@every_case
def test_cone_columns_of_weights_hold_just_their_pattern(case):
    """W[p, c] moves D W in the rows where p fires, by the row's outputs_to_rows and nothing else."""
    program = make_program(*case)
    form, D = program.to_cone(), dense(program)
    rows = program.dictionary.rows
    layout = program.layout("cone")
    own = [p for p in places(layout, "row") if p.block not in ("W <= bound", "-W <= bound")]
    loss_rows = [p.index for p in own if not p.block.startswith("group ")]
    for place in places(layout, "column"):
        if place.block != "W":
            continue
        moved = np.zeros(program.targets.size)
        moved[place.output * rows : (place.output + 1) * rows] = D[:, place.pattern]
        column = form.A[:, [place.index]].toarray()[:, 0]
        assert np.array_equal(column[loss_rows], (form.outputs_to_rows @ moved)[loss_rows])
        for index in np.flatnonzero(np.delete(column, loss_rows)):
            row = layout.place(int(np.delete(np.arange(len(column)), loss_rows)[index]), "row")
            assert (row.pattern, row.output) == (place.pattern, place.output)


@pytest.mark.parametrize("outputs", [1, 2])
def test_cone_rows_of_a_group_are_its_bound_and_its_entries(outputs):
    program = make_program("squared", "blocks", outputs)
    form, layout = program.to_cone(), program.layout("cone")
    seen = []
    for place in places(layout, "row"):
        if place.group is None:
            continue
        (entry,) = np.flatnonzero(form.A[[place.index]].toarray()[0])
        column = layout.place(int(entry))
        if place.part == 0:
            assert (column.block, column.group, place.pattern) == ("bound", place.group, None)
        else:
            assert (column.pattern, column.output) == (place.pattern, place.output)
            assert program.penalty.index[place.pattern] == place.group
            seen.append((place.pattern, place.output))
    assert sorted(seen) == [(p, c) for p in range(program.shape[0]) for c in range(outputs)]


@every_case
def test_cone_rows_hold_just_the_sample_that_they_name(case):
    """A row of a loss touches slacks of its own sample alone, and W where that sample's patterns fire."""
    program = make_program(*case)
    form, layout, D = program.to_cone(), program.layout("cone"), dense(program)
    for place in places(layout, "row"):
        if place.row is None:
            continue
        for entry in np.flatnonzero(form.A[[place.index]].toarray()[0]):
            column = layout.place(int(entry))
            if column.pattern is None:
                assert column.row == place.row
            else:
                assert D[place.row, column.pattern]


@every_case
def test_the_meaning_of_rows_holds_at_a_point(case):
    """Slacks at what their meaning says make every row hold: the words are those of the matrix."""
    loss, penalty, outputs, weighted = case
    program = make_program(loss, penalty, outputs, weighted)
    form = program.to_cone()
    W = RNG.normal(size=program.shape)
    z, y = program.outputs(W), program.targets
    sums = put(form, "W", W.T.ravel())
    bound = np.abs(W).T.ravel() if penalty == "l1" else program.penalty.norms(W)
    sums += put(form, "bound", bound)
    own = program.loss.value(z, y) if loss == "softmax" else None
    if loss == "squared":
        sums += put(form, "r", (z - y).T.ravel())
    elif loss in ("hinge", "squared_hinge"):
        sums += put(form, "xi", np.maximum(0, 1 - y * z).T.ravel())
    elif loss == "logistic":
        t = np.logaddexp(0, -y * z)
        sums += put(form, "t", t.T.ravel()) + put(form, "e0", np.exp(-t).T.ravel())
        sums += put(form, "e1", np.exp(-y * z - t).T.ravel())
    else:
        e = np.exp(z - (z * y).sum(axis=1, keepdims=True) - own[:, None])
        sums += put(form, "t", own) + put(form, "e", e.T.ravel())
    s, start = form.b - form.A @ sums, 0
    for kind, size in form.cones:
        part = s[start : start + size]
        start += size
        if kind == "zero":
            assert np.allclose(part, 0)
        elif kind == "nonnegative":
            assert part.min() >= -1e-9
        elif kind == "second_order":
            assert part[0] == pytest.approx(np.linalg.norm(part[1:]))
        else:
            assert part[1] * np.exp(part[0] / part[1]) == pytest.approx(part[2])


def test_dual_rows_price_their_pattern_in_words_and_numbers():
    program = make_program("squared", outputs=2)
    u = RNG.normal(size=program.targets.shape)
    prices = program.dictionary.transpose_times(u)
    written = Written(program, "dual")
    for place in places(program.layout("dual"), "row"):
        value = (written.matrix[[place.index]] @ u.T.ravel())[0]
        assert value == pytest.approx(prices[place.pattern, place.output])
        assert written.row(place.index).startswith("|") and "<= " in written.row(place.index)


def test_rows_written_out_are_the_matrix():
    program = make_program("hinge", rows=3, columns=4, dictionary=np.eye(3, 4) + np.eye(3, 4, 1))
    y, lam = program.targets[:, 0], program.regularization
    sign, other = ("", "- ") if y[1] > 0 else ("- ", "+ ")
    assert Written(program, "qp").row(1) == (f"{sign}w+[p = 1, 2] {other}w-[p = 1, 2] + slack[i = 1] >= 1")
    assert Written(program, "qp").column(3) == (f"cost {lam:.6g} x, x >= 0; in loss[i = 2] × {y[2]:.6g}")
    assert Written(program, "dual").row(2) == f"|u[i = 1, 2]| <= {lam:.6g}"
    assert Written(program, "cvxpy").row(0) == "W[p = 0, 1] - Z[i = 0] = 0"
    assert Written(program, "cone").row(4) == "- xi[i = 1] <= 0"


@pytest.mark.parametrize("name", FORMS)
def test_long_sums_are_cut_and_counted(name):
    program = make_program("squared", rows=40, columns=30, dictionary=np.ones((40, 30)))
    assert any("in all" in Written(program, name).row(k) for k in (0, 1))
    assert len(Written(program, name).row(0)) < 150


# mistakes


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((26350,), "column: expected a whole number in 0.."),
        ((-1, "row"), "row: expected a whole number in 0..12, got -1"),
        ((0.5,), "column: expected a whole number in 0.."),
        ((0, "line"), "kind: expected one of row, column, got 'line'"),
        ((0, "row", "lp"), "form: expected one of qp, cone, cvxpy, dual, got 'lp'"),
    ],
)
def test_a_wrong_index_or_form_is_named(arguments, told):
    with pytest.raises(ShapeError, match=told):
        make_program().explain(*arguments)
