"""Bounds over all patterns, proved again.

The proof is always by the oracle `tree`, whatever the certificate states: its empty cells have multipliers
that are checked (in rational arithmetic if the floats leave a doubt, and always in an exact check). The bound
that a mixed-integer solver states is not a proof, so `mip` never checks.
"""

from __future__ import annotations

import time
from functools import partial

import numpy as np

from convexsnn.arrays import FloatArray
from convexsnn.certify.claim import Claim
from convexsnn.certify.exact_chain import rounding
from convexsnn.distinct import distinct_rows
from convexsnn.errors import UnsupportedError, VerificationError
from convexsnn.lowering import Lowered, definition_of
from convexsnn.pricing.histories import program_trains
from convexsnn.pricing.prices import Oracle, merged_prices, trivial_bound
from convexsnn.pricing.stacks import exact_units
from convexsnn.pricing.tree import TreeOracle
from convexsnn.problem import Problem

RELATIVE = 1e-12


def prove_bounds(
    lowered: Lowered, claim: Claim, dual: FloatArray, exact: bool, deadline: float = np.inf
) -> str:
    """Prove that no pattern exceeds `claim.oracle_bound` at `dual`; return the names of the proofs.

    If λ is a fraction of λ_max, also prove that no pattern exceeds λ_max at W = 0. All proofs end at
    `deadline`, a value of `time.perf_counter`.

    Raises
    ------
    VerificationError
        A pattern exceeds the bound, the oracle does not support the network, or the time is over.
    """
    program, problem = lowered.program, lowered.problem
    assert claim.oracle_bound is not None
    points = [("oracle_bound", dual, claim.oracle_bound)]
    if problem.training.regularization_fraction is not None:
        points.append(("regularization", program.dual_at_zero, program.regularization_max))
    group = program.penalty.prices_jointly()
    samples, row_of = distinct_rows(problem.distinct, problem.network.supervise)
    oracle: Oracle | None = None
    words = []
    for name, point, bound in points:
        prices, allowed = merged_prices(point, row_of), allowed_price(point, bound)
        if trivial_bound(prices, group) <= allowed:
            words.append("any pattern")
            continue
        oracle = oracle or _oracle(problem, samples, name, exact, deadline)
        left = None if np.isinf(deadline) else deadline - time.perf_counter()
        priced = oracle.price(prices, cutoff=allowed, group=group, time_limit=left)
        if not priced.bound <= allowed:
            if not (priced.complete or priced.value > allowed):
                raise VerificationError(f"{name}: not proved within the time limit ({oracle.name})")
            raise VerificationError(
                f"{name}: the certificate states {bound!r}, a pattern is worth "
                f"{priced.value if len(priced.patterns) else priced.bound!r} ({oracle.name})"
            )
        words.append(oracle.words)
    return ", ".join(dict.fromkeys(words))


def allowed_price(dual: FloatArray, bound: float) -> float:
    """Return the price that no pattern may exceed, in floats: the bound, and the rounding of sums of u."""
    try:
        return bound * (1.0 + RELATIVE) + float(rounding(dual))
    except OverflowError:
        raise VerificationError("dual: its sum is too large for a float") from None


def _oracle(problem: Problem, samples: FloatArray, name: str, exact: bool, deadline: float) -> Oracle:
    """Return the oracle that checks, on hidden spike trains computed by another method than the claim's."""
    try:
        definition = definition_of(problem)
        trains = partial(program_trains, deadline=deadline)
        units = exact_units(problem.distinct, problem.network, definition, trains)
        return TreeOracle(units, samples, exact)
    except UnsupportedError as error:
        raise VerificationError(f"{name}: {error}") from error
