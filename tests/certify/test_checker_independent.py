"""`verify_folder(exact=True)` against the second check in fractions, on true folders and on false ones."""

import shutil
from fractions import Fraction

import numpy as np
import pytest
from altered_folders import add, put, set_array, set_claim, set_problem
from freeze import RUNS
from independent_checker import NotCovered, Refused, check, exp_bounds, log_bounds, root_above
from random_problems import SOURCES, random_problem, strange_problem
from stated_claims import state

import convexsnn
from convexsnn.arrays import read_npz
from convexsnn.certify.claim import load_claim
from convexsnn.dictionary import load_dictionary
from convexsnn.errors import ConvexSNNError
from convexsnn.lowering import Convexification
from convexsnn.programs import Point, relative_gap

ROUNDING = 2e-9  # of the objective: what both allow a file
SAVED = ["column_generation", "exact", "exact_closed", "no_reset", "recurrent_threshold", "subtract_after"]
SAVED += ["zero_membrane"]
BEYOND = ["exact-two-layers-lif", "exact-two-layers-xor"]
ROUNDED = ["exact-signs-closed"]  # a witness on a face: its spikes in floats are not its exact ones
QUICK = ["exact-whole-numbers", "exact-recurrent-group", "exact-two-heads-group", "exact-zero-softmax-group"]
LIBRARY = """
    bias-membrane-all bits-none box-corner conflicting-labels duplicates-softmax entropy entropy-group
    face-closed face-robust face-weighted first-spike layer-cake none-all recurrent recurrent-membrane
    signs-robust silent-row small-box subtract subtract-after-binary threshold-below-zero threshold-bias
    threshold-zero-rows two-outputs-group wide-margin xor xor-closed zero-membrane
""".split()
LIBRARY = [f"exact-{name}" for name in LIBRARY] + ["addition-rows-2", "addition-rows-3"]


def verdicts(folder):
    """Return what the package and the second check say: numbers, or the reason of a refusal."""
    try:
        package = convexsnn.verify_folder(folder, exact=True)[1]
    except ConvexSNNError as error:
        package = error
    try:
        second = check(folder)
    except Refused as error:
        second = error
    return package, second


def agreed(folder):
    """Assert that both say the same of a folder; return whether they accept it."""
    package, second = verdicts(folder)
    refused = isinstance(package, Exception), isinstance(second, Exception)
    assert refused[0] == refused[1], (package, second)
    if not refused[0]:
        allowed = Fraction(ROUNDING) * abs(second.upper) + Fraction(1, 10**21)
        assert abs(Fraction(package.objective) - second.upper) <= allowed
        assert Fraction(package.lower_bound) <= second.lower + allowed
        assert second.lower <= second.upper and second.gap <= Fraction(package.gap) + Fraction(ROUNDING)
    return not refused[0]


def program_of(folder):
    problem = convexsnn.load_problem(folder / "problem.toml")
    return Convexification().lower(problem, load_dictionary(folder / "dictionary.npz")).program


def solved(problem, folder):
    convexsnn.train(problem).save(folder)
    return folder


def library(name, source, folder):
    return solved(convexsnn.load_problem(name).with_settings(dictionary={"source": source}), folder)


# true folders


@pytest.mark.parametrize("road", SAVED)
def test_a_saved_run_is_accepted_by_both(road):
    assert agreed(RUNS / road)


@pytest.mark.parametrize("road", [road for road in SAVED if road != "column_generation"])
def test_the_price_of_all_patterns_is_that_of_an_enumeration(road):
    folder = RUNS / road
    highest = program_of(folder).dual_norm(load_claim(folder)[1].dual)
    assert float(check(folder).price) == pytest.approx(
        max(highest, load_claim(folder)[0].regularization), rel=1e-12
    )


def test_every_saved_run_is_here_or_beyond_the_second_check():
    for folder in RUNS.iterdir():
        if (folder / "certificate.json").is_file() and folder.name not in SAVED:
            with pytest.raises(NotCovered):
                check(folder)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("name", QUICK)
def test_a_library_problem_is_accepted_by_both(name, source, tmp_path):
    assert agreed(library(name, source, tmp_path / "run"))


@pytest.mark.night
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("name", LIBRARY)
def test_the_rest_of_the_library_is_accepted_by_both(name, source, tmp_path):
    assert agreed(library(name, source, tmp_path / "run"))


@pytest.mark.parametrize("name", ROUNDED)
def test_both_say_the_same_where_a_witness_lies_on_a_face(name, tmp_path):
    agreed(library(name, "exact", tmp_path / "run"))


@pytest.mark.night
@pytest.mark.parametrize("name", BEYOND)
def test_layers_below_the_unit_are_not_covered(name, tmp_path):
    with pytest.raises(NotCovered, match="2 layers"):
        check(library(name, "exact", tmp_path / "run"))


# random problems: every neuron and reset with every loss, and the rest drawn

def restated(folder, column):
    """Write the claim that the optimum without one column is the optimum over all patterns."""
    dictionary = load_dictionary(folder / "dictionary.npz")
    state(folder, dictionary.select(np.delete(np.arange(dictionary.patterns), column)))


def one_random_problem(problem, folder):
    """Assert that both say the same of a run, and of the claim that its first column in use is not needed."""
    try:
        solved(problem, folder)
    except ConvexSNNError as error:
        pytest.skip(f"not solved: {error}")
    agreed(folder)
    columns = read_npz(folder / "certificate.npz")["columns"]
    used = columns[columns >= 0]
    if len(used) and load_dictionary(folder / "dictionary.npz").patterns > 1:
        restated(folder, used[0])
        agreed(folder)


@pytest.mark.parametrize("seed", range(30))
def test_both_say_the_same_of_a_random_problem(seed, tmp_path):
    one_random_problem(random_problem(seed), tmp_path / "run")


@pytest.mark.night
@pytest.mark.parametrize("seed", range(30, 330))
def test_both_say_the_same_of_more_random_problems(seed, tmp_path):
    one_random_problem(random_problem(seed), tmp_path / "run")


# random problems at the edge of floats: both say the same, also where `solve` itself states too much

@pytest.mark.parametrize("seed", [0, 1, 2, 3, 5, 6, 7])
def test_both_say_the_same_at_the_edge_of_floats(seed, tmp_path):
    one_random_problem(strange_problem(seed), tmp_path / "run")


@pytest.mark.night
@pytest.mark.parametrize("seed", [4, *range(8, 208)])
def test_both_say_the_same_of_more_at_the_edge_of_floats(seed, tmp_path):
    one_random_problem(strange_problem(seed), tmp_path / "run")


# false folders


def state_bound(folder, bound, **more):
    """State a lower bound, with the gap and the status that follow from it."""
    claim, _ = load_claim(folder)
    gap = relative_gap(claim.objective, bound)
    status = "optimal_global" if gap <= claim.tolerance else "bounded"
    set_claim(folder, lower_bound=bound, gap=gap, status=status, **more)


def grown(factor):
    """Return what states the bound that the dual point times a factor would prove if it were feasible."""

    def alter(folder):
        claim, evidence = load_claim(folder)
        dual = evidence.dual * factor
        bound = program_of(folder).dual_objective(Point(evidence.weights, dual))
        set_array(folder, "certificate.npz", "dual", lambda _: dual)
        state_bound(folder, min(bound, claim.objective), oracle_bound=claim.regularization)

    return alter


def worse(folder):
    """Scale the output weights, and state the objective that they have as the optimum."""
    for file, name in ("network.npz", "output_weights"), ("certificate.npz", "weights"):
        set_array(folder, file, name, lambda array: array * 1.001)
    objective = program_of(folder).primal_objective(Point(read_npz(folder / "certificate.npz")["weights"]))
    set_claim(folder, objective=objective)
    state_bound(folder, objective)


def raised(folder):
    state_bound(folder, load_claim(folder)[0].lower_bound * (1 + 1e-6))


def in_array(file, name, change):
    return lambda folder: set_array(folder, file, name, change)


def in_claim(**values):
    return lambda folder: set_claim(folder, **values)


def in_problem(section, **values):
    return lambda folder: set_problem(folder, section, **values)


def times(name, factor):
    """Return what multiplies a number of the claim."""
    return lambda folder: set_claim(folder, **{name: getattr(load_claim(folder)[0], name) * factor})


ALTERED = {
    "bound raised": raised,
    "bound raised, bounded": lambda folder: (raised(folder), set_claim(folder, status="bounded")),
    "worse network": worse,
    "dual grown by 1e-6": grown(1 + 1e-6),
    "dual grown by 1/2": grown(1.5),
    "dual of another sign": in_array("certificate.npz", "dual", lambda u: -u),
    "dual entry": in_array("certificate.npz", "dual", add((0, 0), 1e-3)),
    "dual not a number": in_array("certificate.npz", "dual", put((0, 0), np.nan)),
    "weight outside the box": in_array("network.npz", "layer1_weights", put((0, 0), 1e3)),
    "weight sign": in_array("network.npz", "layer1_weights", lambda w: -w),
    "output weight": in_array("network.npz", "output_weights", add((0, 0), 1e-3)),
    "output weights of 1e308": lambda folder: [
        set_array(folder, file, name, lambda w: np.sign(w) * 1e308)
        for file, name in (("network.npz", "output_weights"), ("certificate.npz", "weights"))
    ],
    "stated output weight": in_array("certificate.npz", "weights", add((0, 0), 1e-3)),
    "columns": in_array("certificate.npz", "columns", lambda c: c[::-1].copy()),
    "bit": in_array("dictionary.npz", "packed", lambda p: p ^ np.uint8(128)),
    "witness": in_array("dictionary.npz", "subnetwork0_layer1_weights", lambda w: w[::-1].copy()),
    "objective": times("objective", 1 - 1e-6),
    "gap": in_claim(gap=1e-3),
    "λ": times("regularization", 1.01),
    "oracle bound": times("oracle_bound", 1 - 1e-6),
    "no oracle bound": in_claim(oracle_bound=None),
    "margin": in_claim(margin=0.5),
    "box": in_claim(weight_box=99.0),
    "patterns": in_claim(patterns=1),
    "definition": in_claim(definition="closed (margin 0), any weights"),
    "λ of the problem": in_problem("training", regularization=0.5),
    "margin of the problem": in_problem("dictionary", margin=0.3),
    "data from elsewhere": in_problem("data", file="../data.npz"),
    "inputs": in_array("data.npz", "inputs", lambda x: x + 1),
    "targets": in_array("data.npz", "targets", lambda y: y[::-1] * 3),
}


def refused_by_both(road, alteration, folder):
    shutil.copytree(RUNS / road, folder)
    ALTERED[alteration](folder)
    package, second = verdicts(folder)
    assert isinstance(package, Exception) and isinstance(second, Exception), (package, second)


@pytest.mark.parametrize("alteration", ALTERED)
def test_an_altered_folder_is_refused_by_both(alteration, tmp_path):
    refused_by_both("no_reset", alteration, tmp_path / "copy")


@pytest.mark.night
@pytest.mark.parametrize("alteration", ALTERED)
@pytest.mark.parametrize("road", [road for road in SAVED if road != "no_reset"])
def test_an_altered_folder_of_another_kind_is_refused_by_both(road, alteration, tmp_path):
    refused_by_both(road, alteration, tmp_path / "copy")


@pytest.mark.parametrize("road", ["recurrent_threshold", "zero_membrane"])
def test_an_optimum_without_a_pattern_is_refused_by_both(road, tmp_path):
    folder = shutil.copytree(RUNS / road, tmp_path / "copy")
    restated(folder, read_npz(folder / "certificate.npz")["columns"][0])
    assert not agreed(folder)


# the numbers of the second check


@pytest.mark.parametrize("x", [Fraction(0), Fraction(-1, 3), Fraction(-7), Fraction(-299), Fraction(-301)])
def test_bounds_of_the_exponential_hold(x):
    low, high = exp_bounds(x)
    assert low <= high and (not low or high - low < low / 10**30)
    assert float(low) <= np.exp(float(x)) * (1 + 1e-14) and float(high) >= np.exp(float(x)) * (1 - 1e-14)


@pytest.mark.parametrize(
    "x", [Fraction(1, 10**50), Fraction(1, 3), Fraction(1), Fraction(2), Fraction(10**9, 7)]
)
def test_bounds_of_logarithm_and_root_hold(x):
    low, high = log_bounds(x)
    assert low <= high < low + Fraction(1, 10**25)
    assert float(low) == pytest.approx(np.log(float(x)), rel=1e-14, abs=1e-25)
    assert 0 < root_above(x) ** 2 / x - 1 < Fraction(1, 10**50)
