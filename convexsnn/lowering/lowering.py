"""The interface of a lowering: a problem becomes a program, a point of the program becomes a network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from convexsnn.dictionary import SpikeDictionary
from convexsnn.lowering.explanation import Explanation, explanation
from convexsnn.networks import Network
from convexsnn.problem import Problem
from convexsnn.programs import L1Program, Point


@dataclass(frozen=True, eq=False)
class Lowered:
    """A program, with the problem and the dictionary that it was made from."""

    problem: Problem
    program: L1Program
    dictionary: SpikeDictionary

    def explain(self, index: int, kind: str = "column", form: str = "qp") -> Explanation:
        """Return the sample, or the pattern and its unit, of a row or column of a form of the program.

        Parameters
        ----------
        kind : "row" or "column"
        form : "qp", "cone", "cvxpy" or "dual"

        Raises
        ------
        ShapeError
            No such form, kind or index.
        UnsupportedError
            The program has no such form.
        """
        return explanation(
            self.problem, self.program, self.dictionary, self.program.explain(index, kind, form)
        )


class Lowering(ABC):
    """A map from problems to programs, and back from points to networks."""

    @abstractmethod
    def lower(self, problem: Problem) -> Lowered:
        """Return the program of a problem, and the data that `reconstruct` needs."""

    @abstractmethod
    def reconstruct(self, lowered: Lowered, point: Point) -> Network:
        """Return the network of a point."""
