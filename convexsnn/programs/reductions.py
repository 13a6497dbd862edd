"""Reductions: a smaller or rescaled program, and the maps of points to it and back.

A reduction maps one program to another; `recover` maps an optimum of the second back to one of the first. A
`Chain` is a sequence of reductions, and itself a reduction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from convexsnn.programs.l1 import L1Program
from convexsnn.programs.point import Point
from convexsnn.programs.presolve import presolve
from convexsnn.programs.scaling import scale


class Reduction(Protocol):
    """A program with the maps of points to it and back."""

    @property
    def program(self) -> L1Program:
        """The reduced program."""

    def reduce(self, point: Point) -> Point:
        """Return the reduced program's point for a point of the original program."""

    def recover(self, point: Point) -> Point:
        """Return the original program's point for a point of the reduced program."""


@dataclass(frozen=True, eq=False)
class Chain:
    """Reductions in the order of their application; at least one."""

    reductions: tuple[Reduction, ...]

    @property
    def program(self) -> L1Program:
        """The program at the end of the chain."""
        return self.reductions[-1].program

    def reduce(self, point: Point) -> Point:
        """Return the last program's point for a point of the first."""
        for reduction in self.reductions:
            point = reduction.reduce(point)
        return point

    def recover(self, point: Point) -> Point:
        """Return the first program's point for a point of the last."""
        for reduction in reversed(self.reductions):
            point = reduction.recover(point)
        return point

    def then(self, following: Reduction) -> Chain:
        """Return the chain with one more reduction, which starts from the last program."""
        return Chain((*self.reductions, following))


def chain(program: L1Program) -> Chain:
    """Return the reductions of a program before it is solved: presolve, then scaling."""
    presolved = presolve(program)
    return Chain((presolved, scale(presolved.program)))
