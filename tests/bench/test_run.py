"""The benchmark: what it runs and keeps, how it goes on after an interruption, what it says of targets."""

import importlib.util
import json
import signal
import subprocess
import sys

import numpy as np
import pytest
from command_line import files_in, one_line

from convexsnn.bench import problems as bench_problems
from convexsnn.bench import run as bench_run
from convexsnn.bench.machine import conditions, conditions_key, cpu_model
from convexsnn.bench.problems import (
    FULL,
    OURS,
    QUICK,
    BenchProblem,
    BitProducts,
    Target,
    find_problems,
    threshold_program,
)
from convexsnn.bench.run import Results, run_all, run_pair, solvers_for, summarised
from convexsnn.bench.table import cell, markdown, means, shifted_geometric_mean
from convexsnn.bench.verdicts import by_pair, verdicts
from convexsnn.errors import ProblemFileError, UnsupportedError
from convexsnn.programs import Group, L1Program
from convexsnn.solvers import SOLVERS

COMMAND = [sys.executable, "-m", "convexsnn", "bench", "solvers"]
TWO = ["--quick", "--problem", "quick-squared-l1-1", "--problem", "quick-products", "--repeat", "2"]
OURS_ONLY = ["--solver", OURS, "--solver", "packed_bits"]
CONDITIONS = conditions(1e-6, 300.0, 3)
PROGRAMS = [problem for problem in (*FULL, *QUICK) if isinstance(problem, BenchProblem)]
SMALL = [problem for problem in QUICK if isinstance(problem, BenchProblem)]


def named(values):
    return pytest.mark.parametrize("problem", values, ids=lambda problem: problem.name)


def problem_of(name, **target):
    return BenchProblem(name, "what", "squared", "l1", 1, lambda: None, Target(**target))


def record(problem, solver=OURS, seconds=0.8, gap=1e-9, status="optimal", **others):
    return {
        "problem": problem, "solver": solver, "seconds": seconds, "runs": [seconds], "gap": gap,
        "status": status, "reason": "", "memory_gb": 0.5, **others,
    }  # fmt: skip


def stopped(problem, solver=OURS, status="failed", reason="out of memory"):
    return record(problem, solver, None, None, status, reason=reason) | {"runs": []}


# the command line


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder after an interruption in its second pair, and what was said."""
    folder = tmp_path_factory.mktemp("bench")
    command = [*COMMAND, *TWO, *OURS_ONLY, "--out", "out"]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    first = process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert first.startswith("quick-squared-l1-1") and process.returncode == 130
    assert err == (
        "convexsnn: interrupted; 1 pairs are finished and kept in out; the same command goes on from there\n"
    )
    return folder


@pytest.mark.slow
def test_an_interruption_loses_only_the_running_pair_and_the_same_command_goes_on(folder):
    out = folder / "out"
    assert files_in(out) == ["results.json"]
    (kept,) = json.loads((out / "results.json").read_text())["results"]
    command = [*COMMAND, *TWO, *OURS_ONLY, "--out", "out"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()[:2]
    assert first.endswith(", known") and not second.endswith(", known") and done.stderr == ""
    results = json.loads((out / "results.json").read_text())["results"]
    assert results[0] == kept and [r["problem"] for r in results] == ["quick-squared-l1-1", "quick-products"]
    has_plot = importlib.util.find_spec("matplotlib") is not None
    assert files_in(out) == ["gap.png"] * has_plot + ["results.json", "table.md"]
    table = (out / "table.md").read_text()
    assert table in done.stdout and f"| problem | what | {OURS} |" in table and "quick-products" in table


@pytest.mark.slow
def test_the_json_object(folder):
    command = [*COMMAND, *TWO, *OURS_ONLY, "--out", "out", "--json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    assert told.keys() == {"out", "files", "conditions", "results", "targets", "means"}
    assert told["conditions"]["machine"]["cpu"] and told["conditions"]["versions"]["numpy"] == np.__version__
    assert told["conditions"]["repeat"] == 2 and told["targets"] == {
        "quick-squared-l1-1": [], "quick-products": []
    }  # fmt: skip
    ours, products = told["results"]
    assert ours["status"] == "optimal" and 0 <= ours["gap"] <= 1e-6 and len(ours["runs"]) == 2
    assert ours["lower_bound"] <= ours["objective"] and 0 < ours["seconds"] == np.median(ours["runs"])
    assert ours["conditions"] == conditions_key(told["conditions"])
    assert products["gap"] is None and products["parts"].keys() == {"read", "product", "transposed"}
    (mean,) = told["means"]
    assert (mean["solver"], mean["problems"], mean["solved"]) == (OURS, 1, 1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--problem", "first-last-xr"], "problem: unknown 'first-last-xr'; did you mean 'first-last-xor'?"),
        (["--problem", "quick-products"], "problem: unknown 'quick-products'; "),
        (["--solver", "highz"], "solver: unknown 'highz'; did you mean 'highs'?"),
        (["--solver", "alone:highz"], "solver: unknown 'highz'; did you mean 'highs'?"),
        (["--repeat", "0"], "repeat: expected a whole number >= 1, got 0"),
        (["--tolerance", "2"], "tolerance: expected a positive number below 1, got 2.0"),
        (["--time-limit", "0"], "time_limit: expected a positive number of seconds, got 0.0"),
        (["--out", "foreign"], "out: foreign: exists and holds no results.json; choose another folder"),
        (["--out", "no/where"], "out: no/where: No such file or directory"),
        (["--data", "foreign", "--quick"], "out: foreign: exists; choose another folder"),
        (["--problem", "first-last-xor", "--solver", "celer", "--out", "new"], "solver: none of those given"),
    ],
)
def test_a_mistake_is_one_line(cli, tmp_path, arguments, words):
    if "celer" in arguments:
        pytest.importorskip("celer")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "letter.txt").touch()
    status, out, err = cli("bench", "solvers", *arguments)
    assert (status, out) == (2, "") and one_line(err).startswith(words)
    assert files_in(tmp_path / "foreign") == ["letter.txt"] and files_in(tmp_path) == ["foreign"]


def test_written_problems_are_read_back(cli, tmp_path):
    names = ["quick-squared-hinge-group-2", "quick-softmax-l1-3"]
    chosen = [word for name in names for word in ("--problem", name)]
    status, out, err = cli("bench", "solvers", "--quick", *chosen, "--data", "data", "--json")
    assert (status, err) == (0, "") and sorted(json.loads(out)["problems"]) == sorted(names)
    assert files_in(tmp_path) == ["data"]
    files = ["dataset.py", "manifest.json", *(f"{name}.npz" for name in names)]
    assert files_in(tmp_path / "data") == sorted(files)
    spec = importlib.util.spec_from_file_location("dataset", tmp_path / "data" / "dataset.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert sorted(module.Dataset.parameters["problem"]) == sorted(names)
    for problem in find_problems(names, QUICK):
        data, program = module.Dataset(problem.name).get_data(), problem.make()
        penalty = Group(data["groups"]) if (data["groups"] >= 0).all() else program.penalty
        again = L1Program(
            data["X"], data["y"], data["loss"], data["reg"], data["sample_weight"], data["scale"], penalty
        )
        assert again.regularization_max == data["reg_max"] == program.regularization_max
        assert again.regularization == program.regularization and again.penalty.name == program.penalty.name


# the set of problems


@named(PROGRAMS)
def test_every_problem_has_a_warm_up_of_its_kind_that_some_solver_takes(problem):
    tiny = problem.warm_up()
    assert (tiny.loss.name, tiny.penalty.name, tiny.shape[1]) == (
        problem.loss,
        problem.penalty,
        problem.outputs,
    )
    assert OURS in solvers_for(problem, [])


@named(SMALL)
def test_a_quick_problem_is_what_it_says(problem):
    program = problem.make()
    assert program.kind == problem.warm_up().kind and program.penalty.name == problem.penalty
    assert 0 < program.regularization < program.regularization_max


def test_the_sets_have_every_kind_and_their_names_are_unique():
    kinds = {kind for cls in SOLVERS.values() for kind in cls.capabilities.programs}
    assert {problem.warm_up().kind for problem in SMALL} == kinds
    names = [problem.name for problem in (*FULL, *QUICK)]
    assert len(set(names)) == len(names)
    assert all(problem.target.of in ("", *names) for problem in FULL)


def test_threshold_units_are_packed_as_they_fire():
    rng = np.random.default_rng(0)
    fires = rng.standard_normal((30, 10)) @ rng.standard_normal((10, 3000)) >= 0
    program = threshold_program(30, 3000, 0.1)
    assert np.array_equal(program.dictionary.toarray(), fires)
    assert program.regularization == pytest.approx(0.1 * program.regularization_max)


# running


def test_a_worker_that_dies_or_is_late_is_a_failure_with_its_reason(monkeypatch):
    died = run_pair("nowhere", OURS, CONDITIONS)
    assert died["status"] == "failed" and "the process died" in died["reason"] and "nowhere" in died["reason"]
    monkeypatch.setattr(bench_run, "MAKING", 0.01)
    late = run_pair("quick-hinge-l1-1", OURS, CONDITIONS)
    assert (late["status"], late["reason"], late["runs"]) == ("failed", "not made in time", [])


def test_runs_are_summarised_by_median_time_and_worst_gap():
    runs = [{"event": "run", "seconds": s, "gap": g, "memory_gb": s} for s, g in ((3, 0), (1, 1e-7), (2, 0))]
    found = summarised(runs, "", CONDITIONS)
    assert (found["seconds"], found["gap"], found["status"]) == (2, 1e-7, "optimal")
    assert found["runs"] == [3, 1, 2] and found["memory_gb"] == 3
    assert summarised([{**runs[0], "gap": 1e-3}], "", CONDITIONS)["status"] == "inaccurate"
    assert summarised([{**runs[0], "gap": np.inf}], "", CONDITIONS)["gap"] is None
    assert summarised([{**runs[0], "seconds": 301.0}], "", CONDITIONS)["status"] == "limit"
    assert summarised([], "time limit", CONDITIONS)["status"] == "limit"


def test_results_of_other_conditions_are_kept_but_not_compared(tmp_path):
    first = Results(tmp_path / "out", CONDITIONS)
    first.add(record("a"))
    first.add(record("a", seconds=0.1))
    other = Results(tmp_path / "out", conditions(1e-6, 10.0, 3))
    assert other.find("a", OURS) is None
    other.add(record("a", seconds=9.0))
    again = Results(tmp_path / "out", CONDITIONS)
    assert again.find("a", OURS)["seconds"] == 0.1
    assert len(again.stored["results"]) == len(again.stored["conditions"]) == 2
    (tmp_path / "out" / "results.json").write_text("{")
    with pytest.raises(ProblemFileError, match="out: "):
        Results(tmp_path / "out", CONDITIONS)


def test_what_is_not_installed_is_skipped_with_the_reason(tmp_path, monkeypatch):
    monkeypatch.setattr(bench_problems, "find_spec", lambda name: None)
    problem = find_problems(["mnist-softmax-0.1"], FULL)[0]
    told = []
    run_all([(problem, OURS)], Results(tmp_path / "out", CONDITIONS), lambda *seen: told.append(seen))
    ((found, known),) = told
    assert (found["status"], known) == ("skipped", False)
    assert found["reason"] == "needs mlxtend: pip install 'convexsnn[images]'"
    assert verdicts(problem, {}, 1e-6) == [f"not judged: {found['reason']}"]


def test_a_solver_meets_only_what_it_takes():
    softmax = find_problems(["quick-softmax-l1-3"], QUICK)[0]
    assert "highs" not in solvers_for(softmax, []) and solvers_for(softmax, ["highs"]) == []
    assert solvers_for(softmax, [OURS, f"alone:{OURS}"]) == [OURS, f"alone:{OURS}"]
    with pytest.raises(UnsupportedError, match="unknown"):
        find_problems(["softmax"], QUICK)


def test_the_processor_has_a_name(tmp_path):
    (tmp_path / "cpuinfo").write_text("processor : 0\nmodel name\t: Some CPU @ 2 GHz\n")
    assert cpu_model(tmp_path / "cpuinfo") == "Some CPU @ 2 GHz"
    assert cpu_model(tmp_path / "none")


# targets and means

RATIOS = {"ratios": {"product": 2.5, "transposed": 4.1}}


@pytest.mark.parametrize(
    ("target", "records", "said"),
    [
        ({"seconds": 0.5}, [record("p")], ["missed: 0.8 s, target 0.5 s"]),
        ({"seconds": 0.5}, [record("p", seconds=0.3)], ["met: 0.3 s, target 0.5 s"]),
        (
            {"seconds": 0.5},
            [record("p", gap=3e-5, status="inaccurate")],
            ["missed: gap 3e-05, target 1e-06"],
        ),
        ({"seconds": 0.5}, [stopped("p")], ["missed: out of memory"]),
        ({"seconds": 0.5}, [record("p", status="limit")], ["missed: limit"]),
        ({"seconds": 0.5}, [], ["not judged: not run yet"]),
        (
            {"seconds": 1.0, "memory": 0.4},
            [record("p")],
            ["met: 0.8 s, target 1 s", "missed: 0.5 GB, target 0.4 GB of peak memory"],
        ),
        (
            {"peers": ("celer", "skglm")},
            [
                record("p"),
                record("p", "celer", 0.7),
                record("p", "alone:skglm", 0.2),
                record("p", "skglm", 0.1, status="inaccurate"),
            ],
            ["missed: 0.8 s, target 0.2 s (alone:skglm)"],
        ),
        ({"peers": ("celer",)}, [record("p")], ["not judged: 0.8 s, no accurate result of celer"]),
        (
            {"times": 3.0, "of": "q"},
            [record("p"), record("q", seconds=0.3)],
            ["met: 0.8 s, target 0.9 s (3 × q)"],
        ),
        (
            {"times": 3.0, "of": "q"},
            [record("p"), stopped("q")],
            ["not judged: 0.8 s, no accurate result on q"],
        ),
        ({}, [record("p", seconds=1e9)], []),
    ],
)
def test_a_missed_target_is_said(target, records, said):
    assert verdicts(problem_of("p", **target), by_pair(records), 1e-6) == said


def test_products_are_held_to_reading_the_bits():
    problem = BitProducts("p", "what", 8, 8, Target(times=3.0))
    assert verdicts(problem, by_pair([record("p", "packed_bits", gap=None, **RATIOS)]), 1e-6) == [
        "met: 2.5 ×, target 3 × the time of reading the bits (D w)",
        "missed: 4.1 ×, target 3 × the time of reading the bits (Dᵀu)",
    ]


def test_shifted_geometric_mean():
    assert shifted_geometric_mean([2.0, 8.0], 0.0) == pytest.approx(4.0)
    assert shifted_geometric_mean([3.0, 3.0, 3.0]) == pytest.approx(3.0)
    assert shifted_geometric_mean([0.0, 3.0]) == pytest.approx(1.0)


def test_what_was_not_solved_counts_as_the_time_limit_and_ours_is_over_the_same_problems():
    records = [record("p"), record("q", seconds=0.3), record("p", "other", 0.1, 1e-3, "inaccurate")]
    ours, other = means(by_pair(records), 300.0)
    assert ours["mean"] == pytest.approx((1.8 * 1.3) ** 0.5 - 1) and (ours["solved"], other["solved"]) == (
        2,
        0,
    )
    assert other["mean"] == pytest.approx(300.0) and other["ours"] == pytest.approx(0.8)
    assert means(by_pair([record("p", "other")]), 300.0)[0]["ours"] is None


def test_the_table_says_gaps_limits_and_misses():
    problems = [problem_of("p", seconds=0.5), problem_of("q")]
    records = [
        record("p"), record("p", "slow", 1.5, 2e-4, "inaccurate"), record("elsewhere"),
        stopped("q", "slow", "limit", "time limit"),
    ]  # fmt: skip
    lines = markdown(problems, records, CONDITIONS).splitlines()
    assert f"| problem | what | {OURS} | slow |" in lines
    assert "| p | what | 0.8 s | 1.5 s, gap 2.0e-04 |" in lines and "| q | what | – | time limit |" in lines
    assert "| p | missed: 0.8 s, target 0.5 s |" in lines
    assert "| slow | 0 of 2 | 300 s | – |" in lines
    assert cell(stopped("p")) == "failed" and "elsewhere" not in "".join(lines)
    assert all(line.count("|") >= 3 for line in lines if line.startswith("|"))


# every solver on every kind


@pytest.mark.night
def test_the_quick_set_reaches_every_declared_gap(tmp_path):
    command = [*COMMAND, "--quick", "--repeat", "1", "--out", tmp_path / "out", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    results = json.loads(done.stdout)["results"]
    programs = {problem.name: problem.warm_up() for problem in SMALL}
    assert {found["problem"] for found in results} == {problem.name for problem in QUICK}
    for found in results:
        assert found["runs"] and found["status"] in ("optimal", "inaccurate"), found
        if found["problem"] in programs:
            gap = SOLVERS[found["solver"]].capabilities.gap[programs[found["problem"]].kind]
            assert found["gap"] <= max(gap, 1e-6), found
