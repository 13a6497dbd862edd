"""Proves a claim again from data and weights alone, without a solver and without trust in stored patterns.

A bound over all patterns is proved again by `bounds`. Every comparison that decides is false for NaN, so that
a number that is not one refuses the claim. With `exact` the whole chain is rational (`exact_chain`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from convexsnn.arrays import FloatArray, real_array
from convexsnn.certify.bounds import allowed_price, prove_bounds
from convexsnn.certify.claim import Claim, Evidence, status_of
from convexsnn.certify.exact_chain import ExactGap, bound_below, exact_gap, objective_above, rounding
from convexsnn.certify.exact_spikes import check_spikes_exactly
from convexsnn.certify.verification import Verification, verify
from convexsnn.dictionary import SpikeDictionary
from convexsnn.dictionary.dictionary import patterns_of
from convexsnn.dictionary.sources import get_source
from convexsnn.distinct import distinct_rows
from convexsnn.errors import ShapeError, UnsupportedError, VerificationError
from convexsnn.lowering import Convexification, Lowered, definition_of
from convexsnn.networks import Layer, Network, architecture_mismatch
from convexsnn.problem import Problem
from convexsnn.programs import Point, relative_gap

RELATIVE = 1e-9
ROUNDING = 1e-15  # of the objective at W = 0


@dataclass(frozen=True, eq=False)
class Checked:
    """The results of a check; every number was computed by it.

    Attributes
    ----------
    oracle : str
        The proof of the bound over all patterns; "" if the scope is the dictionary.
    """

    objective: float
    lower_bound: float
    gap: float
    verification: Verification
    oracle: str


def _same(name: str, stated: float, actual: float, scale: float) -> None:
    """Compare a stated number with the actual one; rounding is relative to it, or to the data's `scale`."""
    if not abs(stated - actual) <= RELATIVE * abs(actual) + ROUNDING * scale < np.inf:
        raise VerificationError(f"{name}: the certificate states {stated!r}, found {actual!r}")


def _allowed(name: str, layers: tuple[Layer, ...], problem: Problem) -> None:
    if reason := architecture_mismatch(problem.network, layers, problem.inputs.shape[2]):
        raise VerificationError(f"{name}: {reason}")
    box = problem.dictionary.weight_box
    largest = max(float(np.abs(layer.unit_weights()).max()) for layer in layers)
    if not largest <= box:
        raise VerificationError(f"{name}: a weight of {largest!r} is outside the box of {box:g}")


def check_dictionary(problem: Problem, dictionary: SpikeDictionary) -> None:
    """Simulate every witness and compare its pattern and margin with the stored ones.

    Raises
    ------
    VerificationError
        A bit, a margin or the definition differs; the message names column, sample and step.
    """
    definition = definition_of(problem)
    if dictionary.definition != definition:
        raise VerificationError(
            f"dictionary: defined as {dictionary.definition}, the problem says {definition}"
        )
    stacks = dictionary.subnetwork_of
    if stacks.min(initial=0) < 0 or stacks.max(initial=0) >= len(dictionary.subnetworks):
        raise VerificationError(
            f"dictionary: a column of subnetwork {stacks.max()}, there are {len(dictionary.subnetworks)}"
        )
    if dictionary.complete and not get_source(problem.dictionary.source).enumerates:
        raise VerificationError("dictionary: marked complete, but its source does not enumerate all patterns")
    if dictionary.columns.rows != problem.rows:
        raise VerificationError(f"dictionary: {dictionary.columns.rows} rows, the data have {problem.rows}")
    samples, rows = distinct_rows(problem.distinct, definition.supervise)
    for k, subnetwork in enumerate(dictionary.subnetworks):
        columns = np.flatnonzero(dictionary.subnetwork_of == k)
        if not len(columns):
            continue
        _allowed(f"dictionary: subnetwork {k}", subnetwork.layers, problem)
        patterns, margins = patterns_of(subnetwork, samples, definition)
        units = dictionary.unit_of[columns]
        if units.min() < 0 or units.max() >= len(margins):
            raise VerificationError(
                f"dictionary: unit {units.max()} of subnetwork {k}, which has {len(margins)}"
            )
        wrong = (patterns.select(units).take_rows(rows).packed != dictionary.columns.packed[columns]).any(
            axis=1
        )
        if wrong.any():
            k = int(np.flatnonzero(wrong)[0])
            bits = patterns.toarray(units[[k]])[rows, 0] != dictionary.columns.toarray(columns[[k]])[:, 0]
            raise VerificationError(
                f"dictionary: column {columns[k]}, row {np.flatnonzero(bits)[0]} is not what its witness does"
            )
        size = RELATIVE * float(margins[units].max())
        if not np.allclose(dictionary.margins[columns], margins[units], rtol=1e-6, atol=size):
            raise VerificationError(f"dictionary: margins of subnetwork {k} are not those of its witnesses")
        if not margins[units].min() >= definition.margin * (1.0 - 1e-6):  # another machine's rounding
            raise VerificationError(
                f"dictionary: margin {margins[units].min():.3g} of a witness is below {definition.margin:g}"
            )


@np.errstate(over="ignore", invalid="ignore")  # such numbers are refused in one line, without a warning
def check(
    problem: Problem,
    network: Network,
    dictionary: SpikeDictionary,
    claim: Claim,
    evidence: Evidence,
    exact: bool = False,
    *,
    deadline: float = np.inf,
    report: Callable[[str], object] = str,
) -> Checked:
    """Prove a claim again; raise at the first statement that does not hold.

    Parameters
    ----------
    exact : bool
        Also decide in rational arithmetic every spike, and every pattern that a bound excludes.
    deadline : float
        Value of `time.perf_counter` at which the proof of a bound over all patterns is given up.
    report : callable
        Called with the name of the present step.

    Raises
    ------
    VerificationError
        A statement differs from the result of data and weights, or was not proved in time; the message names
        it.
    """
    if claim.fingerprint != problem.fingerprint():
        raise VerificationError("fingerprint: data, network or training are not those of the certificate")
    spec = problem.dictionary
    for name, stated, actual in (
        ("problem", claim.problem, problem.name),
        ("margin", claim.margin, spec.margin),
        ("weight_box", claim.weight_box, spec.weight_box),
        ("definition", claim.definition, str(definition_of(problem))),
        ("tolerance", claim.tolerance, problem.solver.tolerance),
        ("patterns", claim.patterns, dictionary.patterns),
        ("units", claim.units, network.units),
    ):
        if stated != actual:
            raise VerificationError(f"{name}: the certificate states {stated!r}, found {actual!r}")
    report("dictionary")
    check_dictionary(problem, dictionary)
    report("network")
    _allowed("network", network.layers, problem)
    for name in ("readout", "supervise"):
        if getattr(network, name) != getattr(problem.network, name):
            raise VerificationError(f"network: {name} {getattr(network, name)!r}, the problem says otherwise")
    lowered = Convexification().lower(problem, dictionary)
    program = lowered.program
    _same("regularization", claim.regularization, program.regularization, 0.0)
    try:
        outputs = ("C", program.shape[1])
        point = Point(real_array("weights", evidence.weights, (("P", program.shape[0]), outputs)))
        dual = real_array("dual", evidence.dual, (("R", problem.rows), outputs))
    except ShapeError as error:
        raise VerificationError(f"certificate.npz: {error}") from error
    verification = verify(network, lowered, point, evidence.columns)
    at_zero = program.loss.value(np.zeros_like(program.targets), program.targets)
    zero = float(program.row_scale[:, 0] @ at_zero)
    _same("objective", claim.objective, verification.objective, zero)
    bound = _lower_bound(lowered, claim, dual)
    _same("lower_bound", claim.lower_bound, bound, zero)
    if not bound <= verification.objective + RELATIVE * abs(bound) + ROUNDING * zero:
        raise VerificationError(f"lower_bound: {bound!r} is above the objective {verification.objective!r}")
    gap = relative_gap(verification.objective, bound)
    if not abs(claim.gap - gap) <= RELATIVE * abs(gap) + 1e-14:
        raise VerificationError(f"gap: the certificate states {claim.gap!r}, found {gap!r}")
    found = ExactGap(verification.objective, bound, gap)
    if exact:
        report("rational arithmetic")
        check_spikes_exactly(network, problem.distinct, spec.margin)
        found = _exactly(lowered, claim, evidence, verification, dual)
    if claim.status != status_of(found.gap, claim.tolerance, claim.scope):
        raise VerificationError(
            f"status: {claim.status!r} is not shown by a gap of {found.gap:.3g} "
            f"at tolerance {claim.tolerance:g}"
        )
    oracle = ""
    if claim.scope == "all_patterns":  # last, since it can take long
        report("bound over all patterns")
        oracle = prove_bounds(lowered, claim, dual, exact, deadline)
    return Checked(found.objective, found.lower_bound, found.gap, verification, oracle)


def _exactly(
    lowered: Lowered, claim: Claim, evidence: Evidence, verification: Verification, dual: FloatArray
) -> ExactGap:
    """Return objective, bound and gap in rational arithmetic, on the spikes that were decided in it."""
    program = lowered.program
    stated = program.dual_norm(dual) if claim.oracle_bound is None else claim.oracle_bound
    price = Fraction(allowed_price(dual, stated)) + rounding(dual)
    try:
        objective = objective_above(program, verification.readouts, evidence.weights, evidence.columns)
        return exact_gap(objective, bound_below(program, dual, price))
    except UnsupportedError as error:
        raise VerificationError(f"exact: {error}") from error


def _lower_bound(lowered: Lowered, claim: Claim, dual: FloatArray) -> float:
    """Return the dual objective at the stated dual point, scaled to be feasible by the stated bound."""
    program = lowered.program
    norm, limit = program.dual_norm(dual), program.regularization
    if claim.scope == "all_patterns":
        if claim.oracle_bound is None or not claim.oracle_bound >= limit:
            raise VerificationError(
                f"oracle_bound: the certificate states {claim.oracle_bound!r}, below λ = {limit!r}"
            )
        allowed, scale = claim.oracle_bound, limit / claim.oracle_bound
    else:
        if claim.oracle_bound is not None or claim.oracle:
            raise VerificationError(
                f"oracle: {claim.oracle!r} with bound {claim.oracle_bound!r}, the scope is the dictionary"
            )
        allowed, scale = limit, min(1.0, limit / norm) if norm > 0 else 1.0
    bound = program.dual_objective(Point(np.zeros(program.shape), dual * scale))
    if not np.isfinite(bound) or not norm <= allowed * (1.0 + RELATIVE) < np.inf:
        raise VerificationError(
            f"dual: not feasible, {program.penalty.dual_formula} = {norm!r}, at most {allowed!r} is allowed, "
            f"dual objective {bound!r}"
        )
    return bound
