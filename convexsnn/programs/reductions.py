"""Reductions: a program made smaller or given in other units, and the way there and back for points.

Each reduction leads from one program to another with the same optimum up to what `recover` undoes. A `Chain`
is several of them, one after the other, and a reduction itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from convexsnn.programs.l1 import L1Program
from convexsnn.programs.point import Point
from convexsnn.programs.presolve import presolve
from convexsnn.programs.scaling import scale


class Reduction(Protocol):
    """A program with the way to it and back."""

    @property
    def program(self) -> L1Program:
        """The program that it leads to."""

    def reduce(self, point: Point) -> Point:
        """Return that program's point for a point of the one before."""

    def recover(self, point: Point) -> Point:
        """Return the point of the program before for one of that program."""


@dataclass(frozen=True, eq=False)
class Chain:
    """Reductions in the order in which they are made; at least one."""

    reductions: tuple[Reduction, ...]

    @property
    def program(self) -> L1Program:
        """The program at the end of the chain."""
        return self.reductions[-1].program

    def reduce(self, point: Point) -> Point:
        """Return the last program's point for a point of the first."""
        for one in self.reductions:
            point = one.reduce(point)
        return point

    def recover(self, point: Point) -> Point:
        """Return the first program's point for a point of the last."""
        for one in reversed(self.reductions):
            point = one.recover(point)
        return point

    def then(self, following: Reduction) -> Chain:
        """Return the chain with one more reduction, made of its last program."""
        return Chain((*self.reductions, following))


def chain(program: L1Program) -> Chain:
    """Return the way of a program to a solver: presolved, then in solver units."""
    small = presolve(program)
    return Chain((small, scale(small.program)))
