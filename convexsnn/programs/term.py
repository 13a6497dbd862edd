"""The common base of losses and penalties: a name, formulas, and optional parts.

Every class must define the parts in `needed`; a class without one of them is refused when it is registered or
used in a program. The other parts, forms and faster methods, are optional. If a class does not define one,
its use raises an error that names the term.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, NoReturn

from convexsnn.errors import UnsupportedError


class Term:
    """A term of the objective.

    Attributes
    ----------
    term : str
        "loss" or "penalty", for error messages.
    formula, dual_formula : str
        Its text in `describe`, and its part of the dual program.
    needed : tuple of str
        Attributes and methods that every class must define.
    meanings : mapping
        (kind, block) -> (what the block is numbered over, its meaning), for the rows and columns that the
        term adds to a form. The kind is "row" or "column"; the numbering is one of `programs.rows`.
    """

    term: ClassVar[str]
    name: ClassVar[str]
    formula: ClassVar[str]
    dual_formula: ClassVar[str]
    needed: ClassVar[tuple[str, ...]] = ("name", "formula", "dual_formula")
    meanings: ClassVar[Mapping[tuple[str, str], tuple[str, str]]] = {}

    @classmethod
    def check_complete(cls) -> None:
        """Raise an UnsupportedError that names the first part that the class lacks."""
        for part in cls.needed:
            if not cls.offers(part):
                who = f"{cls.term} {cls.name}" if cls.offers("name") else cls.term
                raise UnsupportedError(f"{who}: class {cls.__name__} does not define {part}")

    @classmethod
    def offers(cls, part: str) -> bool:
        """Return whether the class itself defines a part."""
        # the base class of the term, Loss or Penalty, declares the parts but defines none of them
        owner = next((parent for parent in cls.__mro__ if part in vars(parent)), None)
        return owner is not None and "term" not in vars(owner)

    def meaning(self, kind: str, block: str) -> tuple[str, str] | None:
        """Return what a block is numbered over, and its meaning; None if it does not belong to this term."""
        return self.meanings.get((kind, block))

    @classmethod
    def refuse(cls, why: str) -> NoReturn:
        """Raise an UnsupportedError that names the term."""
        raise UnsupportedError(f"{cls.term} {cls.name}: {why}")
