"""Bounds over all patterns, proved again by another oracle than the one that made them."""

from __future__ import annotations

from convexsnn.arrays import FloatArray
from convexsnn.certify.certificate import Claim
from convexsnn.dictionary.cells import exact_units
from convexsnn.dictionary.oracles import another_oracle
from convexsnn.dictionary.pricing import merged_prices, trivial_bound
from convexsnn.dictionary.spikes import distinct_rows
from convexsnn.errors import UnsupportedError, VerificationError
from convexsnn.lowering import Lowered, definition_of

RELATIVE = 1e-9


def prove_bounds(lowered: Lowered, claim: Claim, dual: FloatArray, exact: bool) -> str:
    """Prove that no pattern exceeds `claim.oracle_bound` at `dual`; return by what.

    Where λ is a fraction of λ_max, that no pattern exceeds λ_max at W = 0 either.

    Raises
    ------
    VerificationError
        A pattern does, or none of the other oracles takes the network.
    """
    program, problem = lowered.program, lowered.problem
    assert claim.oracle_bound is not None
    points = [("oracle_bound", dual, claim.oracle_bound)]
    if problem.training.regularization_fraction is not None:
        points.append(("regularization", program.dual_at_zero, program.regularization_max))
    words = [_prove(lowered, claim, name, at, bound, exact) for name, at, bound in points]
    return ", ".join(dict.fromkeys(words))


def _prove(lowered: Lowered, claim: Claim, name: str, dual: FloatArray, bound: float, exact: bool) -> str:
    problem = lowered.problem
    group = problem.training.penalty == "group"
    samples, row_of = distinct_rows(problem.inputs, problem.network.supervise)
    prices = merged_prices(dual, row_of)
    allowed = bound * (1.0 + RELATIVE)
    if trivial_bound(prices, group) <= allowed:
        return "any pattern"
    try:
        units = exact_units(problem.inputs, problem.network, definition_of(problem))
        oracle = another_oracle(claim.oracle, units, samples, exact=exact)
    except UnsupportedError as error:
        raise VerificationError(f"{name}: {error}") from error
    found = oracle.price(prices, cutoff=allowed, group=group)
    if found.bound > allowed:
        raise VerificationError(
            f"{name}: the certificate states {bound!r}, a pattern is worth "
            f"{found.value if len(found.patterns) else found.bound!r} ({oracle.name})"
        )
    return oracle.name + (", in rational arithmetic" if exact else "")
