"""The distance of a trained network from the optimum, for networks from any training."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from convexsnn.certify.verification import network_margin
from convexsnn.convex.trained import network_objective
from convexsnn.convex.training import Result, train_convex
from convexsnn.convex.words import distance_text
from convexsnn.dictionary import SpikeDictionary
from convexsnn.dictionary.sources import get_source
from convexsnn.errors import LoweringError, ShapeError, VerificationError
from convexsnn.lowering import Convexification, definition_of, witnesses_of
from convexsnn.networks import Network
from convexsnn.pricing.doubtful import check_doubtful_spikes
from convexsnn.problem import Problem
from convexsnn.programs import relative_gap
from convexsnn.simulate import simulate
from convexsnn.solvers import solve
from convexsnn.training.budget import Progress
from convexsnn.training.score import mismatch, score_of_outputs

OF_OPTIMUM = ("status", "scope", "objective", "lower_bound", "gap", "patterns", "units", "oracle")


@dataclass(frozen=True)
class Readout:
    """The optimum over the patterns of a network's last hidden layer, with fixed hidden weights.

    Attributes
    ----------
    gap : float
        Relative gap on that dictionary.
    units : int
        Number of patterns with a nonzero weight.
    """

    objective: float
    gap: float
    patterns: int
    units: int


@dataclass(frozen=True, eq=False)
class Distance:
    """A network compared with the optimum of its problem.

    Attributes
    ----------
    objective : float
        Objective of the network, from its simulation.
    gap : float or None
        (objective − lower bound) / |objective| over all patterns; None if there is no such bound, or
        if the bound does not cover the network.
    margin : float
        Smallest distance of a membrane from a threshold in the network.
    not_covered : str or None
        Why the bound does not cover the network; None if it does.
    readout : Readout or None
        The convex readout on the network's own hidden layers; None if they give no dictionary.
    no_readout : str or None
        Why there is no readout; None if there is one.
    result : Result
        The run that the network is compared with: column generation started from the network's patterns.
    """

    objective: float
    gap: float | None
    margin: float
    not_covered: str | None
    accuracy: float | None
    units: int
    readout: Readout | None
    no_readout: str | None
    result: Result

    def text(self) -> str:
        """Return the lines that ``convexsnn gap`` prints."""
        return distance_text(self.summary())

    def summary(self) -> dict[str, Any]:
        """Return the comparison as plain numbers and words, the object that ``gap --json`` prints."""
        claim = self.result.claim
        return {
            "problem": claim.problem,
            "objective": self.objective,
            "gap": self.gap,
            "not_covered": self.not_covered,
            "min_margin": self.margin,
            "train_accuracy": self.accuracy,
            "units": self.units,
            "readout": None if self.readout is None else asdict(self.readout),
            "no_readout": self.no_readout,
            "optimum": {name: getattr(claim, name) for name in OF_OPTIMUM},
            "excess": self.objective - claim.objective,
            "seconds": round(self.result.seconds["total"], 4),
        }


def distance(
    problem: Problem,
    network: Network,
    *,
    tolerance: float | None = None,
    time_limit: float | None = None,
    progress: Progress | None = None,
) -> Distance:
    """Solve a problem over all patterns and compare a network of its architecture with the optimum.

    A dictionary source that does not cover all patterns is replaced by column generation. Column generation
    starts from the patterns of the network's last hidden layer.

    Raises
    ------
    ShapeError
        The network has another architecture than the problem.
    """
    if reason := mismatch(problem, network, ("readout", "supervise")):
        raise ShapeError(f"network: {reason}")
    if not get_source(problem.dictionary.source).covers_all_patterns:
        problem = problem.with_settings(dictionary={"source": "column_generation"})
    dictionary: SpikeDictionary | None = None
    no_readout = None
    try:
        dictionary = witnesses_of(problem, network.layers)
    except (LoweringError, ShapeError) as error:
        no_readout = str(error)
    start = dictionary if get_source(problem.dictionary.source).grows else None
    result = train_convex(problem, tolerance=tolerance, time_limit=time_limit, progress=progress, start=start)
    program = result.lowered.program
    readout = None
    if dictionary is not None:
        rest = None if time_limit is None else max(time_limit - result.seconds["total"], 0.1)
        readout = _readout(result.problem, dictionary, program.regularization, tolerance, rest)
    trace = simulate(network, problem.inputs)
    definition = definition_of(problem)
    margin = network_margin(network, trace, definition)
    largest = max(float(np.abs(layer.unit_weights()).max()) for layer in network.layers)
    objective = network_objective(program, network, trace)
    not_covered = None
    if result.scope == "dictionary":
        not_covered = "no bound over all patterns is known for this architecture"
    elif not largest <= definition.weight_box:
        not_covered = f"a weight of {largest!r} is outside the problem's box of {definition.weight_box:g}"
    elif not margin >= definition.margin * (1.0 - 1e-6):
        not_covered = f"its margin of {margin:.3g} is below the problem's {definition.margin:g}"
    else:
        try:
            check_doubtful_spikes(network, trace)
        except VerificationError as error:
            not_covered = f"{error}; the bound is for exact spikes"
    bound = result.certificate.lower_bound
    return Distance(
        objective,
        None if not_covered else relative_gap(objective, bound),
        margin,
        not_covered,
        score_of_outputs(problem, trace.outputs, problem.targets, problem.row_weights()).accuracy,
        network.units,
        readout,
        no_readout,
        result,
    )


def _readout(
    problem: Problem, dictionary: SpikeDictionary, regularization: float, tolerance: float | None,
    time_limit: float | None,
) -> Readout:  # fmt: skip
    """Solve the program over a dictionary at the λ `regularization`."""
    training = {"regularization": regularization, "regularization_fraction": None}
    program = Convexification().lower(problem.with_settings(training=training), dictionary).program
    if tolerance is None:
        tolerance = problem.solver.tolerance
    solution = solve(program, problem.solver.name, tolerance=tolerance, time_limit=time_limit)
    certificate = solution.certificate
    units = int(np.count_nonzero(np.abs(solution.point.weights).max(axis=1)))
    return Readout(certificate.objective, certificate.gap, dictionary.patterns, units)
