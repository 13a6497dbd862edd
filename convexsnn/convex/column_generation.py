"""Column generation: solve on the present patterns, search all patterns for a better one, repeat.

Each round solves the master program on the dictionary. It then searches for patterns d with ‖dᵀu‖ > λ at the
dual point u: first by local search; when that fails, by an exact oracle at falling cutoffs. If an oracle
proves M̄ >= max over all patterns of ‖dᵀu‖, then u·min(1, λ/M̄) is feasible for the program over all patterns.
So every round gives a lower bound over all patterns, which stays valid when the time runs out.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from convexsnn.arrays import FloatArray
from convexsnn.convex.closed_form import closed_form
from convexsnn.dictionary import SpikeDictionary
from convexsnn.dictionary.dictionary import gathered
from convexsnn.dictionary.patterns import Patterns
from convexsnn.dictionary.sources import get_source
from convexsnn.distinct import distinct_rows
from convexsnn.errors import LoweringError, UnsupportedError
from convexsnn.lowering import Convexification, Lowered, build_dictionary, definition_of, dual_at_zero
from convexsnn.networks import Layer, Subnetwork
from convexsnn.pricing.cells import MOST_DIMENSIONS
from convexsnn.pricing.enumeration import cell_trains
from convexsnn.pricing.oracles import another_oracle, get_oracle
from convexsnn.pricing.prices import Oracle, Witnesses, merged_prices, trivial_bound
from convexsnn.pricing.search_cascade import CascadeSearch
from convexsnn.pricing.search_stacks import DeepSearch
from convexsnn.pricing.search_units import LocalSearch
from convexsnn.pricing.stacks import exact_units
from convexsnn.pricing.tree import TreeOracle
from convexsnn.problem import Problem
from convexsnn.programs import Certificate, L1Program, Point, get_penalty
from convexsnn.solvers import Solution, Solver, Status, solve
from convexsnn.solvers.failure import failure
from convexsnn.training.budget import Progress

CUTOFFS = (1.3, 1.05, 1.005)  # multiples of λ; after these, λ (1 + tolerance/20)
STEPS = 200
SOON = 0.1  # seconds that a step gets when the time is over
ANY = "any pattern"  # the bound that every 0/1 vector obeys


@dataclass(frozen=True)
class Iteration:
    """One round: the results of the master program and of the pricing.

    Attributes
    ----------
    lower_bound, gap : float or None
        The best so far, over all patterns; None before the first proof.
    pricing : str
        Name of the last oracle of the round.
    found : int
        Number of patterns that the pricing proposed.
    """

    patterns: int
    objective: float
    lower_bound: float | None
    gap: float | None
    pricing: str
    found: int
    seconds: float


@dataclass(frozen=True, eq=False)
class Proof:
    """A dual point, and a bound on the prices of all patterns at it.

    Attributes
    ----------
    dual : (R, C) array
    norm : float
        M̄: ‖dᵀu‖ <= norm for every pattern of the definition.
    oracle : str
        The oracle that proved the bound.
    """

    dual: FloatArray
    norm: float
    oracle: str


@dataclass(frozen=True, eq=False)
class Generated:
    """The program on the generated patterns, its solution, and a proof over all patterns, if any."""

    lowered: Lowered
    solution: Solution
    proof: Proof | None
    iterations: tuple[Iteration, ...]


class _Grown(NamedTuple):
    """A dictionary with new columns, and the number of proposed patterns."""

    dictionary: SpikeDictionary
    fresh: int


class ColumnGeneration:
    """One run of column generation."""

    def __init__(
        self,
        problem: Problem,
        solver: str | Solver,
        tolerance: float,
        time_limit: float | None,
        progress: Progress | None = None,
    ) -> None:
        """Prepare the oracles.

        Raises
        ------
        UnsupportedError
            The oracle that the problem names does not support the network.
        """
        self.problem, self.solver, self.tolerance = problem, solver, tolerance
        self.begun = time.perf_counter()
        self.deadline = np.inf if time_limit is None else self.begun + time_limit
        self.progress = progress
        self.definition = definition_of(problem)
        self.group = get_penalty(problem.training.penalty).prices_jointly()
        self.samples, self.row_of = distinct_rows(problem.distinct, problem.network.supervise)
        self.oracle: Oracle | None = None
        self.search: LocalSearch | DeepSearch | CascadeSearch
        try:
            trains = partial(cell_trains, deadline=self.deadline)
            units = exact_units(problem.distinct, problem.network, self.definition, trains)
            self.oracle = get_oracle(problem.dictionary.oracle, units, self.samples)
            self.search = LocalSearch(units, self.samples, problem.dictionary.seed)
        except UnsupportedError:
            if problem.dictionary.oracle != "auto":
                raise
            arguments = problem.network, self.definition, self.samples, problem.dictionary.seed
            cascade = problem.dictionary.cascade
            self.search = CascadeSearch(*arguments, self.deadline) if cascade else DeepSearch(*arguments)
        self.level, self.changed = 0, False
        self.proof: Proof | None = None
        self.bound = -np.inf
        self.history: list[Iteration] = []

    def run(self, start: SpikeDictionary | None = None) -> Generated:
        """Generate columns until the gap over all patterns is closed, or take the closed form.

        `start` is the first dictionary; if not given, the problem's own.

        Raises
        ------
        LoweringError, UnsupportedError, SolverFailed
        """
        small = self.oracle is not None and self.oracle.units[0].dimension <= MOST_DIMENSIONS
        if self.oracle is not None and not (small and get_source(self.problem.dictionary.source).enumerates):
            if optimum := closed_form(self.problem, self.oracle):
                return self._closed(*optimum)
        dictionary = self._with_largest(start if start is not None else self._start())
        previous: Solution | None = None
        best: tuple[Lowered, Solution] | None = None
        while True:
            lowered = Convexification().lower(self.problem, dictionary)
            solution = self._master(lowered.program, previous)
            grown, pricing = None, "dictionary"
            if dictionary.complete:
                norm = lowered.program.dual_norm(solution.certificate.dual)
                self._prove(lowered.program, solution, norm, "cells")
            else:
                grown, pricing = self._price(lowered, solution)
            gap = self._record(lowered, solution, pricing, 0 if grown is None else grown.fresh)
            if best is None or solution.certificate.objective < best[1].certificate.objective:
                best = lowered, solution  # a master stopped by time can be worse than the last one
            if grown is None or gap <= self.tolerance or len(self.history) >= STEPS or self._left() <= 0:
                # without an oracle, only a bound that closes the gap is stated
                stated = self.oracle is not None or gap <= self.tolerance
                return Generated(*best, self.proof if stated else None, tuple(self.history))
            dictionary, previous = grown.dictionary, solution

    def _closed(self, lowered: Lowered, point: Point) -> Generated:
        assert point.dual is not None
        norm = trivial_bound(self._merged(point.dual), False)
        self.proof = Proof(point.dual, max(norm, lowered.program.regularization), ANY)
        certificate = certified(lowered.program, point, self.proof)
        self.bound = certificate.lower_bound
        solution = Solution(point, Status.OPTIMAL, certificate, "closed form", "shattered samples")
        self._record(lowered, solution, ANY, 0)
        return Generated(lowered, solution, self.proof, tuple(self.history))

    def _start(self) -> SpikeDictionary:
        """Return the problem's dictionary; if its draw has no valid pattern, one column from the oracle."""
        try:
            return build_dictionary(self.problem, self.deadline)
        except LoweringError:
            if self.oracle is None:
                raise
            prices = self._merged(dual_at_zero(self.problem))
            priced = self.oracle.price(prices, group=self.group, time_limit=self._limit())
            if not len(priced.patterns):
                raise
            return self._columns(self.oracle.placed(priced))

    def _left(self) -> float:
        return self.deadline - time.perf_counter()

    def _limit(self) -> float | None:
        """Return the seconds that the next step may take, at least `SOON`; None without a time limit."""
        return None if np.isinf(self.deadline) else max(self._left(), SOON)

    def _merged(self, dual: FloatArray) -> FloatArray:
        """Return the prices of the distinct samples' rows at a dual point."""
        return merged_prices(dual, self.row_of)

    def _columns(self, patterns: Sequence[Patterns]) -> SpikeDictionary:
        return gathered(patterns, self.row_of, self.definition)

    def _with_largest(self, dictionary: SpikeDictionary) -> SpikeDictionary:
        """Add the pattern that attains λ_max, if λ is stated as a fraction of λ_max."""
        if self.problem.training.regularization_fraction is None or dictionary.complete:
            return dictionary
        prices = self._merged(dual_at_zero(self.problem))
        if self.oracle is None:
            fresh = self.search.propose(prices, 0.0, self.group)
            dictionary = dictionary.joined(self._columns(fresh)) if fresh else dictionary
            program = Convexification().lower(self.problem, dictionary).program
            training = {"regularization": program.regularization, "regularization_fraction": None}
            self.problem = self.problem.with_settings(training=training)
            return dictionary
        limit = self._limit()
        oracle = self._prover()
        priced = oracle.price(prices, group=self.group, time_limit=limit)
        if priced.complete and priced.bound > priced.value:
            self._change_oracle(prices)  # the simulator confirms no weights of the best cell
            oracle = self.oracle
            priced = oracle.price(prices, group=self.group, time_limit=limit)
        if not priced.complete:
            raise LoweringError(
                "training.regularization_fraction: λ_max over all patterns was not found within the time "
                "limit; give training.regularization instead"
            )
        fresh = oracle.placed(priced)
        return dictionary.joined(self._columns(fresh)) if fresh else dictionary

    def _prover(self) -> Oracle:
        """Return the oracle, or `tree` where its bounds are no proofs."""
        assert self.oracle is not None
        if self.oracle.proves_bounds:
            return self.oracle
        return TreeOracle(self.oracle.units, self.samples)

    def _master(self, program: L1Program, previous: Solution | None) -> Solution:
        start = None
        if previous is not None:
            weights = np.zeros(program.shape)
            weights[: len(previous.point.weights)] = previous.point.weights
            start = Point(weights)
        tolerance = max(self.tolerance / 10, 1e-10)
        solution = solve(program, self.solver, tolerance=tolerance, time_limit=self._limit(), start=start)
        if solution.status not in (Status.OPTIMAL, Status.LIMIT):
            raise failure(program, solution)
        return solution

    def _prove(self, program: L1Program, solution: Solution, norm: float, oracle: str) -> None:
        """Keep a dual point with the proved bound ‖dᵀu‖ <= norm if it gives the best lower bound so far."""
        proof = Proof(solution.certificate.dual, max(norm, program.regularization), oracle)
        bound = certified(program, solution.point, proof).lower_bound
        if bound > self.bound:
            self.bound, self.proof = bound, proof

    def _price(self, lowered: Lowered, solution: Solution) -> tuple[_Grown | None, str]:
        """Return the dictionary with new columns, None if there are none, and the name of the pricing."""
        program = lowered.program
        prices = self._merged(solution.certificate.dual)
        limit = program.regularization
        trivial = trivial_bound(prices, self.group)
        self._prove(program, solution, trivial, ANY)
        least = limit * (1.0 + self.tolerance / 20)
        if trivial <= least:
            return None, ANY
        self._restart(lowered, solution)
        proposed = self.search.propose(prices, least, self.group)
        if proposed and (grown := self._grown(lowered, proposed)) is not None:
            return grown, "search"
        while self.oracle is not None and self._left() > 0:
            cutoff = limit * CUTOFFS[self.level] if self.level < len(CUTOFFS) else least
            oracle = self.oracle
            priced = oracle.price(prices, cutoff=cutoff, group=self.group, time_limit=self._limit())
            if not (oracle.proves_bounds or len(priced.patterns)):  # then its bound has to be proved
                oracle = self._prover()
                priced = oracle.price(prices, cutoff=cutoff, group=self.group, time_limit=self._limit())
            if oracle.proves_bounds:
                self._prove(program, solution, priced.bound, oracle.name)
            proposed = oracle.placed(priced)
            if proposed and (grown := self._grown(lowered, proposed)) is not None:
                return grown, oracle.name
            if priced.complete and priced.bound > max(cutoff, priced.value) and not self.changed:
                # the simulator confirms no weights of the best cell, so the oracle shows no other cell
                self._change_oracle(prices)
                continue
            if not priced.complete or self.level == len(CUTOFFS):
                return None, oracle.name
            self.level += 1
        return None, "search"

    def _change_oracle(self, prices: FloatArray) -> None:
        assert self.oracle is not None
        group, self.changed = self.group and prices.shape[1] > 1, True
        self.oracle = another_oracle(self.oracle.name, self.oracle.units, self.samples, group)

    def _grown(self, lowered: Lowered, proposed: Sequence[Patterns]) -> _Grown | None:
        """Return the dictionary with the proposed patterns, or None if it has all of them already."""
        fresh = self._columns(proposed)
        grown = lowered.dictionary.joined(fresh)
        return _Grown(grown, fresh.patterns) if grown.patterns > lowered.dictionary.patterns else None

    def _restart(self, lowered: Lowered, solution: Solution) -> None:
        """Start the search from the units in use."""
        if isinstance(self.search, CascadeSearch):
            self.search.starts = in_use(lowered.dictionary, solution.point)
        if not isinstance(self.search, LocalSearch):
            return
        dictionary, units = lowered.dictionary, self.search.units
        kind_of = {_kind(unit.below, unit.layer, 0): k for k, unit in enumerate(units)}
        kinds, rows = [], []
        for column in np.flatnonzero(np.abs(solution.point.weights).max(axis=1) > 0):
            *below, last = dictionary.subnetworks[dictionary.subnetwork_of[column]].layers
            j = int(dictionary.unit_of[column])
            kind = kind_of.get(_kind(below, last, j))
            if kind is not None:  # None: the stack was drawn, not from the oracle
                kinds.append(kind)
                rows.append(last.unit_weights()[j])
        weights = np.array(rows).reshape(len(rows), units[0].dimension)
        self.search.starts = Witnesses(np.array(kinds, dtype=np.int64), weights)

    def _record(self, lowered: Lowered, solution: Solution, pricing: str, proposals: int) -> float:
        objective, patterns = solution.certificate.objective, lowered.dictionary.patterns
        bound, gap, words = None, None, f"{patterns} patterns, objective {objective:.8g}"
        if self.proof is not None:
            bound, gap = self.bound, certified(lowered.program, solution.point, self.proof).gap
            words += f", bound {bound:.8g}, gap {gap:.2g}"
        seconds = time.perf_counter() - self.begun
        self.history.append(Iteration(patterns, objective, bound, gap, pricing, proposals, seconds))
        if self.progress:
            self.progress(words, 0.0)
        return np.inf if gap is None else gap


def _kind(below: Sequence[Layer], layer: Layer, unit: int) -> tuple[object, ...]:
    """Return a key of the unit's decision tree: the hidden layers below and the unit's grid values."""
    return (*(id(hidden) for hidden in below), *layer.neuron.grid_point(unit).values())


def in_use(dictionary: SpikeDictionary, point: Point) -> list[Subnetwork]:
    """Return the subnetworks whose patterns have a nonzero weight, the largest weight first."""
    size = np.abs(point.weights).max(axis=1)
    columns = np.argsort(-size, kind="stable")[: np.count_nonzero(size)]
    stacks = dict.fromkeys(dictionary.subnetwork_of[columns].tolist())
    return [dictionary.subnetworks[k] for k in stacks]


def certified(program: L1Program, point: Point, proof: Proof) -> Certificate:
    """Return the certificate of a point from a proof over all patterns."""
    return program.certify(Point(point.weights, proof.dual), proof.norm)
