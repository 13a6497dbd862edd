"""Data apart from settings: a changed setting copies nothing; what follows from data is worked out once."""

import tracemalloc
from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest
from small_problem_files import DATA, data_with, from_arrays

import convexsnn
import convexsnn.distinct as distinct_module
import convexsnn.problem.data as data_module
from convexsnn.distinct import distinct_rows, distinct_samples
from convexsnn.errors import ProblemFileError, ShapeError
from convexsnn.problem import AdmmSpec, Data, Problem, SolverSpec, load_problem
from convexsnn.problem.problem import SETTINGS

LARGE = (1000, 50, 125)  # 50 MB in double precision


@pytest.fixture(scope="module")
def large():
    inputs = np.zeros(LARGE)
    inputs[:, 0, 0] = np.arange(len(inputs))
    inputs.flags.writeable = False  # so that the problem may keep it
    return Problem.from_arrays(
        inputs, np.arange(len(inputs)) % 2, layers=[{"width": 3}],
        training={"loss": "hinge", "regularization": 0.1},
        test_inputs=inputs, test_targets=np.zeros(len(inputs)),
    )  # fmt: skip


def allocated(work):
    """Return the most bytes that were allocated at once during a call, and its result."""
    tracemalloc.start()
    try:
        result = work()
        return tracemalloc.get_traced_memory()[1], result
    finally:
        tracemalloc.stop()


CHANGES = {
    "solver": lambda p: p.with_settings(solver={"tolerance": 1e-3}),
    "admm": lambda p: p.with_settings(admm=AdmmSpec(iterations=3)),
    "regularization": lambda p: p.with_settings(training={"regularization": 0.2}),
    "loss": lambda p: p.with_settings(training={"loss": "logistic"}),
    "network": lambda p: p.with_settings(network={"readout": "rate"}),
    "replace": lambda p: replace(p, solver=SolverSpec("highs"), title="another"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_changed_setting_copies_nothing(large, change):
    most, other = allocated(lambda: change(large))
    assert most < 2**20
    assert other.data is large.data and other.inputs is large.inputs
    assert sum(getattr(other, name) != getattr(large, name) for name in SETTINGS) in (1, 2)


def test_what_follows_from_the_data_is_shared(large, monkeypatch):
    first = large.distinct
    fingerprint = large.fingerprint()
    monkeypatch.setattr(data_module, "distinct_samples", None)
    monkeypatch.setattr(data_module, "target_code", None)
    monkeypatch.setattr(data_module, "real_array", None)
    other = large.with_settings(solver={"tolerance": 1e-3})
    assert other.distinct is first and other.target_code is large.target_code
    most, same = allocated(other.fingerprint)
    assert same == fingerprint and most < 2**20
    assert other.with_settings(training={"regularization": 0.3}).fingerprint() != fingerprint


def test_other_arrays_are_checked_and_leave_the_first_problem_alone():
    problem = from_arrays()
    before = problem.fingerprint()
    other = replace(problem, inputs=problem.inputs[:, :1], test_inputs=problem.test_inputs[:, :1])
    assert other.inputs.shape == (4, 1, 2) and other.fingerprint() != before
    assert other.data is not problem.data and problem.fingerprint() == before
    assert other.targets is problem.targets  # the array of before, which nobody can change
    with pytest.raises(ShapeError, match=r"inputs: expected \(n, T, d\), got"):
        replace(problem, inputs=problem.inputs[0])
    with pytest.raises(ShapeError, match=r"targets: expected \(n=3,\), got \(4,\)"):
        replace(problem, inputs=problem.inputs[:3], sample_weights=None)


def test_nobody_changes_the_data():
    problem = from_arrays()
    for name, array in problem.arrays().items():
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
        assert array is getattr(problem, name) is getattr(problem.data, name)
        assert DATA[name].flags.writeable and not np.shares_memory(array, DATA[name])
    with pytest.raises(ValueError, match="read-only"):
        problem.distinct.samples[0] = 0


def test_a_view_of_an_array_that_can_change_is_copied():
    whole = DATA["inputs"].copy()
    view = whole[:]
    view.flags.writeable = False
    data = Data(view, DATA["targets"])
    whole[:] = 7.0
    assert not (data.inputs == 7.0).any()


def test_targets_keep_their_type():
    assert from_arrays(data_with(targets=np.array([1, -1, 1, -1]))).targets.dtype.kind == "i"
    assert from_arrays({k: v.tolist() for k, v in DATA.items()}).targets.shape == (4,)


def test_settings_by_key_or_whole():
    problem = from_arrays()
    assert problem.with_settings(solver={"name": "cvxpy"}).solver == replace(problem.solver, name="cvxpy")
    assert problem.with_settings(solver=SolverSpec("cvxpy")).solver == SolverSpec("cvxpy")
    changed = problem.with_settings(name="other", expected={"objective": 1.0, "how": "by hand"})
    assert (changed.name, changed.expected["objective"]) == ("other", 1.0)
    assert problem.with_settings().tables() == problem.tables()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"inputs": DATA["inputs"]}, "inputs: unknown setting; known: name, title, source, network"),
        ({"sovler": {}}, "sovler: unknown setting; known: "),
        ({"solver": {"tolerence": 1e-3}}, "solver.tolerence: unknown key; did you mean 'tolerance'?"),
        ({"solver": {"tolerance": 2}}, "solver.tolerance: expected less than 1, got 2"),
        ({"admm": {"patience": 3}}, "admm.patience: 3 without samples held out"),
    ],
)
def test_a_wrong_setting_is_one_line(settings, told):
    with pytest.raises(ProblemFileError) as caught:
        from_arrays().with_settings(**settings)
    assert str(caught.value).startswith(told) and "\n" not in str(caught.value)


def test_distinct_samples_once_and_for_all():
    inputs = np.array([[[0.0]], [[1.0]], [[0.0]], [[2.0]], [[1.0]]])
    distinct = distinct_samples(inputs)
    assert distinct.samples.ravel().tolist() == [0, 1, 2] and distinct.which.tolist() == [0, 1, 0, 2, 1]
    assert distinct.first.tolist() == [0, 1, 3]
    assert distinct_samples(distinct) is distinct
    for supervise in ("last", "all"):
        once, again = distinct_rows(inputs, supervise), distinct_rows(distinct, supervise)
        assert all(np.array_equal(a, b) for a, b in zip(once, again, strict=True))


@pytest.mark.parametrize("source", ["gaussian", "exact", "column_generation"])
def test_a_whole_road_works_out_the_distinct_samples_once(monkeypatch, tmp_path, source):
    problem = load_problem("exact-duplicates-softmax").with_settings(dictionary={"source": source})
    n, steps, d = problem.inputs.shape
    seen, unique_rows = [], distinct_module.unique_rows

    def counted(table):
        seen.append(table.shape)
        return unique_rows(table)

    # modules that are imported at their first use would keep the counting function, and count other rows
    for module in (
        "bits",
        "convex.closed_form",
        "pricing.enumeration",
        "pricing.prices",
        "programs.presolve",
    ):
        import_module(f"convexsnn.{module}")
    monkeypatch.setattr(distinct_module, "unique_rows", counted)
    result = convexsnn.train(problem)
    result.save(tmp_path / "run")
    assert len(problem.distinct.samples) < n
    assert seen == [(n, steps * d)]
    convexsnn.verify_folder(tmp_path / "run", exact=True)  # reads the data again
    assert seen == [(n, steps * d)] * 2


# --- what is refused at the door ------------------------------------------------------------------------

GOOD = {
    "inputs": np.arange(12.0).reshape(3, 2, 2),
    "targets": np.array([1.0, 2.0, 3.0]),
    "test_inputs": np.ones((2, 2, 2)),
    "test_targets": np.array([1.0, 2.0]),
    "sample_weights": np.array([1.0, 2.0, 3.0]),
}


def first_masked(array):
    mask = np.zeros(array.shape, bool)
    mask[0] = True
    return np.ma.masked_array(array, mask)


@pytest.mark.parametrize("name", GOOD)
def test_masked_values_are_refused_and_named(name):
    with pytest.raises(ShapeError, match=f"^{name}: masked value at index"):
        Data(**{**GOOD, name: first_masked(GOOD[name])})


@pytest.mark.parametrize("name", GOOD)
def test_numbers_whose_squares_overflow_are_refused_and_named(name):
    Data(**{**GOOD, name: GOOD[name] * 1e150})
    with pytest.raises(ShapeError, match=f"^{name}: numbers up to .* too large") as caught:
        Data(**{**GOOD, name: GOOD[name] * 1e306})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", GOOD)
def test_a_tensor_that_requires_gradients_is_refused_in_one_line(name):
    torch = pytest.importorskip("torch")
    tensor = torch.tensor(GOOD[name])
    assert np.array_equal(getattr(Data(**{**GOOD, name: tensor}), name), GOOD[name])
    with pytest.raises(ShapeError, match=f"^{name}: a tensor that requires gradients") as caught:
        Data(**{**GOOD, name: tensor.requires_grad_()})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["inputs", "test_inputs"])
def test_a_table_without_time_is_told_the_way_out(name):
    with pytest.raises(ShapeError, match=rf"one time step: {name}\[:, None, :\]$"):
        Data(**{**GOOD, name: GOOD[name][:, 0]})


def test_duplicated_samples_with_weights_that_overflow_have_no_problem():
    """Their sum is inf, inf − inf in a dual norm is NaN, and NaN is not above λ."""
    with pytest.raises(ShapeError, match="^sample_weights: numbers up to 1e.308 are too large"):
        Problem.from_arrays(
            np.ones((4, 1, 1)), [1.0, -1.0, 1.0, -1.0], layers=[{"width": 3}],
            training={"loss": "hinge", "regularization": 0.1}, sample_weights=np.full(4, 1e308),
        )  # fmt: skip
