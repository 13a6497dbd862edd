"""Problems whose dictionary holds every pattern: an obvious enumeration and cvxpy say what must come out."""

import functools
import tomllib

import pytest
from naive_stacks import naive_stack_patterns
from slow_optima import optimum_of
from slow_shares import one_of

import convexsnn
from convexsnn.dictionary.dictionary import Definition
from convexsnn.problem import library, load_problem

NAMES = sorted(path.stem for path in library().glob("exact-*.toml"))
SLOW = set()  # the enumeration takes more than about three seconds


def each_problem():
    return [pytest.param(name, marks=pytest.mark.night if name in SLOW else ()) for name in NAMES]


@functools.cache
def enumerated(name):
    """Return a problem and the set of all its patterns."""
    problem = load_problem(name)
    spec = problem.dictionary
    definition = Definition(spec.margin, spec.weight_box, problem.network.readout, problem.network.supervise)
    return problem, naive_stack_patterns(problem.inputs, problem.network.layers, definition)


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


@pytest.mark.parametrize("name", one_of(each_problem(), 8))
def test_the_expected_optimum_is_the_one_over_all_patterns(name):
    problem, patterns = enumerated(name)
    objective, _ = optimum_of(problem, patterns)
    assert objective == pytest.approx(problem.expected["objective"], rel=1e-7)


@pytest.mark.parametrize("name", one_of(each_problem(), 8))
def test_training_finds_all_patterns_and_the_optimum(name):
    problem, patterns = enumerated(name)
    result = convexsnn.train(problem)
    dictionary = result.lowered.dictionary
    columns = [tuple(map(int, column)) for column in dictionary.columns.toarray().T]
    assert set(columns) == patterns and len(columns) == len(patterns)
    assert dictionary.complete
    assert result.status == "optimal_global"
    assert result.certificate.objective == pytest.approx(problem.expected["objective"], rel=1e-7)
