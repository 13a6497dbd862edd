"""Problems whose dictionary holds every pattern: an obvious enumeration and cvxpy say what must come out."""

import functools
import tomllib

import cvxpy as cp
import numpy as np
import pytest
from naive_stacks import naive_stack_patterns

import convexsnn
from convexsnn.dictionary.spikes import Definition
from convexsnn.problem import library, load_problem

NAMES = sorted(path.stem for path in library().glob("exact-*.toml"))
SLOW = set()  # the enumeration takes more than about three seconds


def each_problem():
    return [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in NAMES]


@functools.cache
def enumerated(name):
    """Return a problem and the set of all its patterns."""
    problem = load_problem(name)
    spec = problem.dictionary
    definition = Definition(spec.margin, spec.weight_box, problem.network.readout, problem.network.supervise)
    return problem, naive_stack_patterns(problem.inputs, problem.network.layers, definition)


def numbers(targets, loss, task, rows):
    """Return what the loss compares outputs with, (R, C): one column of ±1, or one a class."""
    table = np.asarray(targets, dtype=float).reshape(rows, -1)
    if task == "regression":
        return table
    signed = loss not in ("squared", "softmax")
    columns = []
    for labels in table.T:
        values = np.array([-1, 1]) if labels.min() < 0 else np.arange(max(2, labels.max() + 1))
        if len(values) == 2 and (signed or (labels.min() < 0 and loss == "squared")):
            values = values[1:]
        low = -1.0 if signed or len(values) == 1 else 0.0
        columns.append(np.where(labels[:, None] == values, 1.0, low))
    return np.hstack(columns)


def optimum(patterns, targets, weights, loss, penalty, regularization):
    """Minimise (1/R) Σ a ℓ(D W, y) + λ Σ ‖W‖ over all patterns; return the objective and W."""
    d = np.array(sorted(patterns), dtype=float).T
    w = cp.Variable((d.shape[1], targets.shape[1]))
    z = d @ w
    margins = cp.multiply(targets, z)
    losses = {
        "squared": lambda: cp.square(z - targets) / 2,
        "hinge": lambda: cp.pos(1 - margins),
        "squared_hinge": lambda: cp.square(cp.pos(1 - margins)) / 2,
        "logistic": lambda: cp.logistic(-margins),
        "softmax": lambda: (
            cp.reshape(cp.log_sum_exp(z, axis=1), (len(d), 1), order="C")
            - cp.sum(margins, axis=1, keepdims=True)
        ),
    }[loss]()
    size = cp.norm1(cp.vec(w, order="C")) if penalty == "l1" else cp.sum(cp.norm(w, 2, axis=1))
    fit = cp.sum(cp.multiply(weights[:, None], losses)) / len(d)
    program = cp.Problem(cp.Minimize(fit + regularization * size))
    names = ("tol_gap_abs", "tol_gap_rel", "tol_feas", "tol_ktratio")
    program.solve(cp.CLARABEL, **dict.fromkeys(names, 1e-10), max_iter=500)
    return program.value, w.value


def optimum_of(problem, patterns):
    """Return `optimum` for a problem whose patterns are given."""
    training = problem.training
    targets = numbers(problem.targets, training.loss, training.task, problem.rows)
    weights = np.ones(len(problem.inputs)) if problem.sample_weights is None else problem.sample_weights
    weights = np.repeat(weights, problem.rows // len(weights))
    return optimum(patterns, targets, weights, training.loss, training.penalty, training.regularization)


def test_there_are_enough():
    assert len(NAMES) >= 22


@pytest.mark.parametrize(
    ("name", "by_hand"),
    [
        ("exact-face-closed", "10 01 11"),
        ("exact-face-robust", "10 01"),
        ("exact-box-corner", "10 01"),
        ("exact-silent-row", "10"),
        ("exact-conflicting-labels", "111"),
        ("exact-first-spike", "111 011 010 001"),
        ("exact-layer-cake", "100 010 001 110 101 011 111"),
    ],
)
def test_the_enumeration_gives_the_patterns_derived_by_hand(name, by_hand):
    assert {"".join(map(str, pattern)) for pattern in enumerated(name)[1]} == set(by_hand.split())


@pytest.mark.parametrize("name", NAMES)
def test_the_definition_is_stated(name):
    tables = tomllib.loads((library() / f"{name}.toml").read_text(encoding="utf-8"))
    assert tables["dictionary"]["source"] == "exact" and {"margin", "weight_box"} <= set(tables["dictionary"])
    assert tables["title"] and tables["source"] and tables["expected"]["how"]


@pytest.mark.parametrize("name", each_problem())
def test_the_expected_optimum_is_the_one_over_all_patterns(name):
    problem, patterns = enumerated(name)
    objective, _ = optimum_of(problem, patterns)
    assert objective == pytest.approx(problem.expected["objective"], rel=1e-7)


@pytest.mark.parametrize("name", each_problem())
def test_training_finds_all_patterns_and_the_optimum(name):
    problem, patterns = enumerated(name)
    result = convexsnn.train(problem)
    dictionary = result.lowered.dictionary
    columns = [tuple(map(int, column)) for column in dictionary.columns.toarray().T]
    assert set(columns) == patterns and len(columns) == len(patterns)
    assert dictionary.complete
    assert result.status == "optimal_global"
    assert result.certificate.objective == pytest.approx(problem.expected["objective"], rel=1e-7)
