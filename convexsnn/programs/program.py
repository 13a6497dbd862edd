"""The interface of a program: a primal, a dual, and a gap computed from its data and a point."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from typing import Any, ClassVar

from convexsnn.arrays import FloatArray
from convexsnn.programs.cone_form import ConeForm
from convexsnn.programs.mps import write_model
from convexsnn.programs.point import Certificate, Point
from convexsnn.programs.qp_form import QPForm


class Program(ABC):
    """An explicit convex program; immutable, and the only place where its points are certified.

    Attributes
    ----------
    over_dictionary : bool
        Whether its unknowns are weights of the columns of a dictionary.
    """

    over_dictionary: ClassVar[bool] = False

    @abstractmethod
    def describe(self) -> str:
        """Return the mathematics with this instance's sizes and scales."""

    @abstractmethod
    def primal_objective(self, point: Point) -> float:
        """Return the objective at a point's weights."""

    @abstractmethod
    def dual_objective(self, point: Point) -> float:
        """Return the dual objective at a point's dual; −inf outside the loss's dual domain."""

    @abstractmethod
    def feasible_dual(self, point: Point) -> Point:
        """Return the point with a feasible dual from its residual; a dual of a solver is not needed."""

    @abstractmethod
    def certify(self, point: Point) -> Certificate:
        """Return objective, lower bound and gap of a point. All gaps are computed here."""

    @abstractmethod
    def to_cvxpy(self) -> Any:
        """Return the program in cvxpy's natural form."""

    @abstractmethod
    def to_qp(self) -> QPForm:
        """Return the program as a QP, or raise UnsupportedError."""

    @abstractmethod
    def to_cone(self) -> ConeForm:
        """Return the program in conic form."""

    def to_mps(self, path: str | os.PathLike[str]) -> None:
        """Write the QP form to `path`, .mps or .lp; UnsupportedError if there is none."""
        write_model(self.to_qp(), path, self.qp_constant)

    @property
    def qp_constant(self) -> float:
        """The objective minus that of the QP form."""
        return 0.0


class Block(Program):
    """A program with one table of unknowns and a `minimize` method that needs no solver.

    Attributes
    ----------
    name : str
        Name of the block, in one line.
    """

    name: str

    @property
    @abstractmethod
    def kind(self) -> str:
        """The kind of program, one of those in `Capabilities.programs`."""

    @property
    def details(self) -> str:
        """The block's name, for error messages."""
        return self.name

    @property
    def forms(self) -> tuple[str, ...]:
        """The forms, of "qp", "cone" and "cvxpy", that it has."""
        return "qp", "cone", "cvxpy"

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int]:
        """The shape of the table."""

    def inside(self, rows: FloatArray) -> FloatArray:
        """Return a table moved into the bounds, which solvers satisfy only up to a tolerance."""
        return rows

    @abstractmethod
    def objective(self, rows: FloatArray) -> float:
        """Return the objective at a table."""

    @abstractmethod
    def minimize(self, start: FloatArray | None = None, tolerance: float = 1e-10) -> FloatArray:
        """Return the minimiser without a solver; an iterative method uses `start` and `tolerance`."""


class TableQP(QPForm):
    """A QP whose first variables are a block's table, column by column."""

    def recover(self, x: FloatArray, row_dual: FloatArray | None = None) -> Point:
        """Return the table as a point, without a dual; the block computes its lower bound from the table."""
        return _table(x, self.shape)


class TableCone(ConeForm):
    """A conic program whose first variables are a block's table, column by column."""

    def recover(self, x: FloatArray, cone_dual: FloatArray | None = None) -> Point:
        """Return the table as a point, without a dual; the block computes its lower bound from the table."""
        return _table(x, self.shape)


def _table(x: FloatArray, shape: tuple[int, int]) -> Point:
    return Point(x[: shape[0] * shape[1]].reshape(shape[::-1]).T)
