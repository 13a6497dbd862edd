"""What a lowering is: a problem becomes a program, a point of the program becomes a network."""

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
    """A program and the receipt that leads back: the problem it came from and the dictionary used."""

    problem: Problem
    program: L1Program
    dictionary: SpikeDictionary

    def explain(self, index: int, kind: str = "column", form: str = "qp") -> Explanation:
        """Return which sample, or which pattern and unit, a row or column of a form of the program is of.

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
    """Both directions of one road."""

    @abstractmethod
    def lower(self, problem: Problem) -> Lowered:
        """Return the program of a problem, and what the way back needs."""

    @abstractmethod
    def reconstruct(self, lowered: Lowered, point: Point) -> Network:
        """Return the network of a point."""
