"""Penalties on the output weights W (P, C): norm, dual norm, groups of entries, and the forms."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Any, ClassVar

import numpy as np
from scipy import sparse

from convexsnn.arrays import FloatArray, IntArray, fraction, square_unit
from convexsnn.errors import ShapeError, nearest
from convexsnn.programs.duality import check_norms
from convexsnn.programs.exact import root_above
from convexsnn.programs.rows import ENTRIES, GROUPS, MEMBERS, ConeRows, ConeStart, by_output, picked
from convexsnn.programs.term import Term


class Penalty(Term):
    """A norm ‖W‖ and its dual; the dual constraint of a program is ‖Dᵀu‖_dual <= λ.

    `needed` lists what every penalty must define. A penalty without `entry_costs`, `cone_rows` or
    `cvxpy` has no QP, conic or cvxpy form.

    Attributes
    ----------
    entrywise : bool
        Whether it is Σ cost_pc |W_pc|, which needs linear rows alone; any other needs second-order cones.
    separable : bool
        Whether it is a sum over outputs of the same penalty.
    uniform : bool
        Whether it is the ℓ1 norm, where every entry has the cost 1.
    euclidean : bool
        Whether it is the sum of the ℓ2 norms of its `groups`, each with the cost 1.
    """

    term = "penalty"
    entrywise: ClassVar[bool] = False
    separable: ClassVar[bool] = False
    uniform: ClassVar[bool] = False
    euclidean: ClassVar[bool] = False
    needed = (*Term.needed, "value", "dual_norm", "take")

    @classmethod
    @cache  # once a class: every program asks
    def check_complete(cls) -> None:
        """Raise an UnsupportedError that names the first part that the class lacks."""
        super().check_complete()
        for flag, part in (("entrywise", "entry_costs"), ("euclidean", "groups")):
            if getattr(cls, flag) and not cls.offers(part):
                cls.refuse(f"class {cls.__name__} has {flag} = True and does not define {part}")
        if cls.offers("cone_rows") and not cls.offers("cone_start"):
            cls.refuse(f"class {cls.__name__} defines cone_rows and not cone_start")

    @classmethod
    def for_columns(cls, columns: int) -> Penalty:
        """Return the penalty of this name in a problem file, for a dictionary of P = `columns`."""
        cls.refuse(f"class {cls.__name__} does not define for_columns, which a problem file needs")

    def on_units(self, units: int) -> Penalty:
        """Return the penalty on a network's output weights where its units are not columns of the program."""
        self.refuse("is not defined for a network whose units are not columns of the dictionary (on_units)")

    def value(self, weights: FloatArray) -> float:
        """Return ‖W‖."""
        self.refuse("has no value")

    def exact_value(self, weights: Any) -> Fraction:
        """Return an upper bound on ‖W‖ for a table of fractions (P, C), from the costs or the groups.

        Raises
        ------
        UnsupportedError
            The penalty has neither costs of entries nor groups, and no method of its own.
        """
        if self.entrywise:
            return Fraction(np.sum(fraction(self.entry_costs(*weights.shape)) * np.abs(weights)))
        if self.euclidean and (groups := self.groups(len(weights))) is not None:
            squares = [Fraction(0)] * (int(groups.max()) + 1)
            for group, row in zip(groups.tolist(), weights.tolist(), strict=True):
                squares[group] += sum(entry * entry for entry in row)
            return sum(map(root_above, squares), Fraction(0))
        self.refuse("has no exact_value, which the check in rational arithmetic needs")

    def dual_norm(self, gradient: FloatArray) -> float:
        """Return the dual norm of Dᵀu, (P, C); 0 where there are no columns."""
        self.refuse("has no dual norm")

    def take(self, columns: IntArray) -> Penalty:
        """Return the penalty on some of the rows of W."""
        self.refuse("is not defined on a subset of the columns")

    def check(self, columns: int) -> None:
        """Raise a ShapeError if the penalty does not match a W with this number of rows."""

    def groups(self, columns: int) -> IntArray | None:
        """Return the group of every row of W, 0..G-1; None if there are no groups."""
        return None

    @property
    def merges_columns(self) -> bool:
        """Whether equal columns may be merged without changing the optimum."""
        return self.uniform

    @classmethod
    def prices_jointly(cls) -> bool:
        """Return whether a new pattern's price is the ℓ2 norm over its outputs; else it is their maximum.

        Raises
        ------
        UnsupportedError
            The price is neither of these, so that no oracle can bound it.
        """
        if not (cls.uniform or cls.euclidean):
            cls.refuse("no oracle prices new patterns under it; only the l1 and group norms have that")
        return cls.euclidean

    def entry_costs(self, columns: int, outputs: int) -> FloatArray:
        """Return the costs of |W_pc|, (P, C), for an entrywise penalty."""
        self.refuse("is not a sum over entries and has no QP form; use to_cone or to_cvxpy")

    def cone_rows(self, columns: int, outputs: int) -> tuple[list[ConeRows], dict[str, FloatArray]]:
        """Return rows that bound ‖W‖ by the cost of the penalty's variables, and these costs by name.

        The costs are multiplied by λ. No other variable of a program may have one of these names.
        """
        self.refuse("has no conic form")

    def cone_start(self, weights: FloatArray, price: FloatArray, regularization: float) -> ConeStart:
        """Return the penalty's variables and duals in the conic form at W; `price` is Dᵀu."""
        self.refuse("has no conic form")

    def cvxpy(self, W: Any) -> Any:
        """Return ‖W‖ as a cvxpy expression of a cvxpy variable (P, C)."""
        self.refuse("has no cvxpy form")


@dataclass(frozen=True)
class L1(Penalty):
    """Σ |W_pc|."""

    name = "l1"
    entrywise = separable = uniform = True
    formula = "Σ |W_pc|"
    dual_formula = "max |Dᵀu|"
    meanings = {
        ("column", "bound"): (ENTRIES, "upper bound of |W[p,c]|"),
        ("row", "W <= bound"): (ENTRIES, "W[p,c] <= bound[p,c]"),
        ("row", "-W <= bound"): (ENTRIES, "-W[p,c] <= bound[p,c]"),
        ("row", "price"): (ENTRIES, "|sum of u[i,c] over the rows i where pattern p fires| <= λ"),
    }

    @classmethod
    def for_columns(cls, columns: int) -> L1:  # noqa: D102
        return cls()

    def on_units(self, units: int) -> L1:  # noqa: D102
        return self

    def value(self, weights: FloatArray) -> float:  # noqa: D102
        return float(np.abs(weights).sum())

    def dual_norm(self, gradient: FloatArray) -> float:  # noqa: D102
        return float(np.abs(gradient).max(initial=0.0))

    def take(self, columns: IntArray) -> L1:  # noqa: D102
        return self

    def entry_costs(self, columns: int, outputs: int) -> FloatArray:  # noqa: D102
        return np.ones((columns, outputs))

    def cone_rows(self, columns: int, outputs: int) -> tuple[list[ConeRows], dict[str, FloatArray]]:  # noqa: D102
        entries = columns * outputs
        eye, zeros = sparse.eye_array(entries, format="csc"), np.zeros(entries)
        return [
            ConeRows("W <= bound", "nonnegative", {"W": eye, "bound": -eye}, zeros),
            ConeRows("-W <= bound", "nonnegative", {"W": -eye, "bound": -eye}, zeros),
        ], {"bound": np.ones(entries)}

    def cone_start(self, weights: FloatArray, price: FloatArray, regularization: float) -> ConeStart:  # noqa: D102
        duals = {
            row: by_output(np.maximum(regularization + sign * price, 0.0) / 2.0)
            for row, sign in (("W <= bound", 1.0), ("-W <= bound", -1.0))
        }
        return ConeStart({"bound": by_output(np.abs(weights))}, duals)

    def cvxpy(self, W: Any) -> Any:  # noqa: D102
        import cvxpy as cp

        return cp.sum(cp.abs(W))


@dataclass(frozen=True, eq=False)
class Group(Penalty):
    """Σ_g ‖W_g‖₂; group g consists of all entries of the rows of W with index g.

    Attributes
    ----------
    index : (P,) int array
        Group of every column of the dictionary, in 0..G-1.
    """

    index: IntArray
    name = "group"
    euclidean = True
    formula = "Σ_g ‖W_g‖₂"
    dual_formula = "max_g ‖(Dᵀu)_g‖₂"
    meanings = {
        ("column", "bound"): (GROUPS, "upper bound of the norm of the weights of group g"),
        ("row", "price"): (GROUPS, "norm over group g of those sums of u <= λ"),
    }

    @classmethod
    def for_columns(cls, columns: int) -> Group:  # noqa: D102
        return cls(np.arange(columns))

    def on_units(self, units: int) -> Group:  # noqa: D102
        return self.for_columns(units)

    def check(self, columns: int) -> None:  # noqa: D102
        index = np.asarray(self.index)
        if index.shape != (columns,) or index.dtype.kind not in "iu":
            raise ShapeError(f"index: expected (P={columns},) whole numbers, got {index.dtype} {index.shape}")
        if columns and not np.array_equal(np.unique(index), np.arange(index.max() + 1)):
            raise ShapeError(f"index: expected groups 0..G-1, each with a member, got {np.unique(index)[:8]}")

    def groups(self, columns: int) -> IntArray:  # noqa: D102
        return self.index

    def norms(self, table: FloatArray) -> FloatArray:
        """Return the ℓ2 norm of every group of a (P, C) table."""
        return group_norms(self.index, table)

    def value(self, weights: FloatArray) -> float:  # noqa: D102
        return float(self.norms(weights).sum())

    def dual_norm(self, gradient: FloatArray) -> float:  # noqa: D102
        return float(self.norms(gradient).max(initial=0.0))

    def take(self, columns: IntArray) -> Group:  # noqa: D102
        return Group(np.unique(self.index[columns], return_inverse=True)[1])

    @property
    def merges_columns(self) -> bool:
        """Whether every group has one column: in a larger one (c/2, c/2) has a smaller norm than (c, 0)."""
        return len(np.unique(self.index)) == len(self.index)

    def meaning(self, kind: str, block: str) -> tuple[str, str] | None:  # noqa: D102
        if kind == "row" and block.startswith("group "):
            return MEMBERS, "norm of the weights of group g <= its bound"
        return super().meaning(kind, block)

    def cone_rows(self, columns: int, outputs: int) -> tuple[list[ConeRows], dict[str, FloatArray]]:
        """Return one second-order cone for each group: its bound, then its entries of W."""
        groups, rows = np.tile(self.index, outputs), []
        count, entries = int(self.index.max()) + 1, columns * outputs
        for g in range(count):
            members = np.flatnonzero(groups == g)
            size = len(members) + 1
            parts = {
                "W": picked((1 + np.arange(size - 1), members), -1.0, (size, entries)),
                "bound": picked(([0], [g]), -1.0, (size, count)),
            }
            rows.append(ConeRows(f"group {g}", "second_order", parts, np.zeros(size), size))
        return rows, {"bound": np.ones(count)}

    def cone_start(self, weights: FloatArray, price: FloatArray, regularization: float) -> ConeStart:  # noqa: D102
        groups, flat = np.tile(self.index, weights.shape[1]), by_output(price)
        duals = {
            f"group {g}": np.append(regularization, -flat[groups == g]) for g in range(int(groups.max()) + 1)
        }
        return ConeStart({"bound": self.norms(weights)}, duals)

    def cvxpy(self, W: Any) -> Any:  # noqa: D102
        import cvxpy as cp

        members = [np.flatnonzero(self.index == g) for g in range(int(self.index.max()) + 1)]
        if all(len(rows) == 1 for rows in members):
            return cp.sum(cp.norm(W, 2, axis=1))
        return cp.sum(cp.hstack([cp.norm(W[rows], "fro") for rows in members]))


def group_norms(index: IntArray, table: FloatArray) -> FloatArray:
    """Return the ℓ2 norm of every group of a table (P, C); `index` (P,) has the group of every row."""
    unit = square_unit(table)
    return unit * np.sqrt(np.bincount(index, weights=np.sum((table / unit) ** 2, axis=1)))


PENALTIES: dict[str, type[Penalty]] = {}


def register_penalty(penalty: type[Penalty]) -> None:
    """Register a penalty by its name, for problem files.

    Raises
    ------
    ShapeError
        Not a subclass of Penalty, or another one has its name.
    UnsupportedError
        It lacks a part that every penalty of a problem file needs, or its dual norm is not that of its value
        (`duality`); the message names the part.
    """
    if not (isinstance(penalty, type) and issubclass(penalty, Penalty)):
        raise ShapeError(f"penalty: expected a subclass of Penalty, got {penalty!r}")
    penalty.check_complete()
    if not penalty.offers("for_columns"):
        penalty.refuse(f"class {penalty.__name__} does not define for_columns, which a problem file needs")
    if penalty.name in PENALTIES:
        other = PENALTIES[penalty.name].__name__
        raise ShapeError(f"penalty: {penalty.name!r} is registered already, as {other}")
    check_norms(penalty)
    PENALTIES[penalty.name] = penalty


def get_penalty(name: str) -> type[Penalty]:
    """Return the class of a penalty by its name; ShapeError where there is none."""
    if not isinstance(name, str) or name not in PENALTIES:
        hint = nearest(name, PENALTIES)
        raise ShapeError(f"penalty: expected one of {', '.join(PENALTIES)}, got {name!r}{hint}")
    return PENALTIES[name]


PENALTIES.update({penalty.name: penalty for penalty in (L1, Group)})  # checked in the tests
