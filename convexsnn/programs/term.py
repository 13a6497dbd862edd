"""What losses and penalties have in common: a name, formulas, and parts that a class may leave out.

Some parts every class must have (`needed`); a class without one is refused when it is registered or put into
a program. The others are forms and fast roads: a class may leave them out, and their use is then refused by
name.
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
        "loss" or "penalty", as errors say it.
    formula, dual_formula : str
        How `describe` writes it, and its part of the dual program.
    needed : tuple of str
        Attributes and methods that every class must define.
    meanings : mapping
        (kind, block) -> (what it is numbered over, what it says), for its own rows and columns of the forms;
        kind is "row" or "column", the numbering one of `programs.rows`.
    """

    term: ClassVar[str]
    name: ClassVar[str]
    formula: ClassVar[str]
    dual_formula: ClassVar[str]
    needed: ClassVar[tuple[str, ...]] = ("name", "formula", "dual_formula")
    meanings: ClassVar[Mapping[tuple[str, str], tuple[str, str]]] = {}

    @classmethod
    def _defines(cls, part: str) -> bool:
        # the first class of the term, Loss or Penalty, states what is asked for and defines none of it
        owner = next((parent for parent in cls.__mro__ if part in vars(parent)), None)
        return owner is not None and "term" not in vars(owner)

    @classmethod
    def check_complete(cls) -> None:
        """Raise an UnsupportedError that names the first part that the class leaves out."""
        for part in cls.needed:
            if not cls._defines(part):
                who = f"{cls.term} {cls.name}" if cls._defines("name") else cls.term
                raise UnsupportedError(f"{who}: class {cls.__name__} does not define {part}")

    @classmethod
    def offers(cls, part: str) -> bool:
        """Return whether the class has a method that classes may leave out."""
        return cls._defines(part)

    def meaning(self, kind: str, block: str) -> tuple[str, str] | None:
        """Return what a block is numbered over and what it says; None where it is not of this term."""
        return self.meanings.get((kind, block))

    @classmethod
    def refuse(cls, why: str) -> NoReturn:
        """Raise an UnsupportedError that names the term."""
        raise UnsupportedError(f"{cls.term} {cls.name}: {why}")
