"""Mutated files of benchmark results: refused in one line, or shown in a table."""

import json
import random
from collections import Counter

import pytest
from fuzzed_files import mutated
from guarded import outcome

from convexsnn.bench.command import _line
from convexsnn.bench.problems import BITS, OURS, QUICK
from convexsnn.bench.run import RESULTS, Results
from convexsnn.bench.table import markdown, means
from convexsnn.bench.verdicts import by_pair

MACHINE = {"cpu": "c", "cores": 2, "memory_gb": 4, "system": "s"}
CONDITIONS = {
    "machine": MACHINE, "threads": {}, "versions": {"numpy": "2"}, "python": "3", "tolerance": 1e-6,
    "time_limit": 60.0, "repeat": 3,
}  # fmt: skip
RUN = {"status": "optimal", "reason": "", "seconds": 0.5, "runs": [0.5, 0.6], "memory_gb": 0.1}
RECORDS = [
    {"problem": "quick-squared-l1-1", "solver": OURS, **RUN, "gap": 1e-8, "iterations": 3},
    {"problem": "quick-squared-l1-1", "solver": "highs", **RUN, "gap": 1e-7},
    {"problem": "quick-squared-l1-1", "solver": "scs", "status": "failed", "reason": "died", "seconds": None,
     "runs": [], "gap": None},
    {"problem": "quick-products", "solver": BITS, **RUN, "gap": None, "parts": {"product": 0.1, "read": 0.2},
     "ratios": {"product": 0.5, "transposed": 0.6}},
]  # fmt: skip
BLOCK = 1000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    results = Results(tmp_path_factory.mktemp("bench") / "out", CONDITIONS)
    for record in RECORDS:
        results.add(record)
    return results.file.parent


def shown(folder, problems):
    """Return what is told of the results of a folder."""
    results = Results(folder, CONDITIONS)
    names = {problem.name for problem in problems}
    records = [record for record in results.records if record["problem"] in names]
    means(by_pair(records), 60.0)
    json.dumps(results.records, allow_nan=False)
    lines = [_line(record, True) for record in results.records]
    return [*markdown(problems, records, CONDITIONS).split("\n"), *lines]


def one(folder, problems, seed):
    rng, file = random.Random(seed), folder / RESULTS
    good = file.read_bytes()
    file.write_bytes(mutated(rng, RESULTS, good))
    lines, refusal = outcome(shown, folder, problems)
    file.write_bytes(good)
    assert refusal or all(line.isprintable() for line in lines)
    return "refused" if refusal else "shown"


@pytest.fixture(scope="module")
def problems():
    return [problem for problem in QUICK if problem.name in {record["problem"] for record in RECORDS}]


def test_mutated_results_are_refused_or_shown(folder, problems):
    found = Counter(one(folder, problems, seed) for seed in range(100))
    assert min(found["refused"], found["shown"]) > 10


@pytest.mark.night
@pytest.mark.parametrize("block", range(1, 6))
def test_more_mutated_results_are_refused_or_shown(folder, problems, block):
    for seed in range(block * BLOCK, (block + 1) * BLOCK):
        one(folder, problems, seed)
