"""Claims over all patterns that are written from an optimum on some of them."""

from dataclasses import replace

import convexsnn
from convexsnn.certify import Evidence, save_claim
from convexsnn.certify.claim import load_claim
from convexsnn.lowering import Convexification
from convexsnn.problem import load_problem
from convexsnn.programs import Point, relative_gap
from convexsnn.solvers import solve


def state(folder, dictionary, oracle="cells", price_of=None):
    """Write a claim over all patterns from an optimum on `dictionary`, in which all else agrees."""
    problem = load_problem(folder / "problem.toml")
    lowered = Convexification().lower(problem, dictionary)
    point, program = solve(lowered.program, tolerance=1e-9).point, lowered.program
    certificate, limit = program.certify(point), program.regularization
    most = limit if price_of is None else max(limit, price_of(certificate.dual))
    bound = program.dual_objective(Point(point.weights, certificate.dual * (limit / most)))
    gap = relative_gap(certificate.objective, bound)
    claim, _ = load_claim(folder)
    network = convexsnn.reconstruct(lowered, point)
    columns = Convexification().columns_of_units(lowered, point)
    claim = replace(
        claim, scope="all_patterns", status="optimal_global" if gap <= claim.tolerance else "bounded",
        regularization=limit, objective=certificate.objective, lower_bound=bound, gap=gap,
        patterns=dictionary.patterns, units=network.units, oracle=oracle, oracle_bound=most,
    )  # fmt: skip
    dictionary.save(folder / "dictionary.npz")
    convexsnn.save_network(folder / "network.npz", network)
    save_claim(folder, claim, Evidence(certificate.dual, point.weights, columns))
