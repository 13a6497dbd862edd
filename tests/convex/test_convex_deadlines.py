"""A time limit reaches every step of the convex road: patterns, programs, prices, paths and the check."""

from types import SimpleNamespace

import numpy as np
import pytest

import convexsnn
from convexsnn.convex import column_generation, regularization_path
from convexsnn.errors import LoweringError, VerificationError
from convexsnn.pricing import enumeration, tree
from convexsnn.pricing.prices import Oracle
from convexsnn.pricing.search_units import LocalSearch

LIMIT = 1000.0


@pytest.fixture
def limits(monkeypatch):
    """Return the time limits of all solver and oracle calls."""
    seen = []

    def noted(work):
        def call(*given, **named):
            if not isinstance(given[0], LocalSearch):  # which draws a few times and ends
                seen.append(named["time_limit"])
            return work(*given, **named)

        return call

    monkeypatch.setattr(Oracle, "price", noted(Oracle.price))
    for module in (column_generation, regularization_path):
        monkeypatch.setattr(module, "solve", noted(module.solve))
    return seen


def threshold(source, **training):
    rng = np.random.default_rng(2)
    return convexsnn.Problem.from_arrays(
        rng.standard_normal((12, 1, 3)), rng.standard_normal(12), name="small",
        layers=[{"neuron": "threshold"}],
        training={"loss": "squared", "regularization": 0.02, **training},
        dictionary={"source": source, "weight_box": 5.0, "margin": 1e-3},
    )  # fmt: skip


def draws_nothing(*_):
    raise LoweringError("none of the drawn units has the margin")


@pytest.mark.parametrize("draws", [True, False])
@pytest.mark.parametrize("fraction", [True, False])
def test_column_generation_limits_every_step(monkeypatch, limits, draws, fraction):
    if not draws:
        monkeypatch.setattr(column_generation, "build_dictionary", draws_nothing)
    share = {"regularization": None, "regularization_fraction": 0.1} if fraction else {}
    result = convexsnn.train(threshold("column_generation", **share), time_limit=LIMIT)
    assert result.claim.status == "optimal_global"
    assert len(limits) > 2 and all(seconds is not None and 0 < seconds <= LIMIT for seconds in limits)


def test_a_path_limits_every_row_and_keeps_the_first(monkeypatch, limits):
    problem = threshold("exact")
    whole = convexsnn.path(problem, count=5, time_limit=LIMIT)
    assert len(whole.rows) == 5 == len(limits)
    assert all(seconds is not None and 0 < seconds <= LIMIT for seconds in limits)
    clock = iter([0.0])
    late = SimpleNamespace(perf_counter=lambda: next(clock, 1e9))
    monkeypatch.setattr(regularization_path, "time", late)
    short = convexsnn.path(problem, count=5, time_limit=LIMIT)
    assert len(short.rows) == 1 and short.rows[0].units == 0 and limits[-1] == column_generation.SOON


def test_an_enumeration_that_is_cut_short_claims_no_optimum_that_is_none(monkeypatch):
    problem = threshold("exact")
    whole = convexsnn.train(problem)
    reads = iter([0.0] * 3)
    late = SimpleNamespace(perf_counter=lambda: next(reads, np.inf))
    monkeypatch.setattr(enumeration, "time", late)
    monkeypatch.setattr(enumeration, "AT_ONCE", 1 << 8)
    short = convexsnn.train(problem, time_limit=LIMIT)  # goes on with column generation
    assert whole.lowered.dictionary.complete and not short.lowered.dictionary.complete
    assert short.claim.lower_bound <= whole.claim.objective * (1 + 1e-9)
    assert short.claim.objective >= whole.claim.lower_bound * (1 - 1e-9)
    monkeypatch.setattr(enumeration, "time", SimpleNamespace(perf_counter=lambda: np.inf))
    with pytest.raises(LoweringError, match="the time limit came before a pattern was known"):
        convexsnn.lower(problem, time_limit=LIMIT)


def test_a_claim_that_is_not_proved_in_time_is_refused(cli, monkeypatch, tmp_path):
    convexsnn.train(threshold("column_generation")).save(tmp_path / "run")
    steps = []
    claim, _ = convexsnn.verify_folder(
        tmp_path / "run", time_limit=LIMIT, progress=lambda what, _: steps.append(what)
    )
    assert claim.status == "optimal_global"
    assert steps == ["dictionary", "network", "bound over all patterns"]
    monkeypatch.setattr(tree, "AT_ONCE", 0)  # a level at a time
    monkeypatch.setattr(tree, "time", SimpleNamespace(perf_counter=lambda: np.inf))
    said = "oracle_bound: not proved within the time limit (tree)"
    for exact in (False, True):
        with pytest.raises(VerificationError) as caught:
            convexsnn.verify_folder(tmp_path / "run", time_limit=LIMIT, exact=exact)
        assert str(caught.value) == said
    status, out, err = cli("verify", "run", "--time-limit", "1000")
    assert (status, out, err) == (1, f"refused: {said}\n", "")
    status, out, err = cli("verify", "run", "--time-limit", "0")
    assert (status, out) == (2, "") and "time_limit" in err
