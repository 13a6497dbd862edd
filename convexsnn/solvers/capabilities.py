"""The capabilities of a solver: the programs that it takes, the gap that it reaches, and its features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np

from convexsnn.arrays import FloatArray, IntArray
from convexsnn.errors import UnsupportedError
from convexsnn.programs import AnyProgram, L1Program
from convexsnn.programs.loss import KINDS

MOST_COPIES = 100_000


@dataclass(frozen=True)
class Capabilities:
    """The capabilities of a solver; error messages and the conformance tests are derived from them.

    Attributes
    ----------
    programs : frozenset of str
        Among "lp" (ℓ1 with hinge), "qp" (ℓ1 with squared losses), "logistic" (ℓ1 with logistic), "cone"
        (group penalties) and "exponential" (softmax, and groups with the logistic loss).
    gap : dict
        Relative gap that it reaches on small programs, by kind of program.
    duals : bool
        Whether it returns a dual point together with the weights.
    losses : frozenset of str, optional
        The losses that it takes; all if not given.
    whole_weights : frozenset of str
        Losses for which it takes only sample weights in ratios of small whole numbers (`copies`).
    form : str, optional
        Form that it works from, "qp", "cone" or "cvxpy": it then takes every program of its kinds that has
        this form. If not given it works from the dictionary, and takes only an `L1Program`.
    kinked : frozenset of str, optional
        The losses with kinks that it takes; all if not given.
    penalties : frozenset of str, optional
        Properties, "uniform" or "euclidean", of which a penalty must have one; no condition if not given.
    chooses_columns : bool
        Whether it chooses a subset of the columns itself. For other solvers, a program with far more columns
        than rows is solved on a growing subset of its columns.

    Raises
    ------
    UnsupportedError
        `programs` contains an unknown kind.
    """

    programs: frozenset[str]
    gap: Mapping[str, float]
    duals: bool
    warm_start: bool
    time_limit: bool
    extra: str | None = None
    losses: frozenset[str] | None = None
    whole_weights: frozenset[str] = frozenset()
    form: str | None = None
    kinked: frozenset[str] | None = None
    penalties: frozenset[str] | None = None
    chooses_columns: bool = False

    def __post_init__(self) -> None:
        unknown = sorted(set(self.programs) - set(KINDS))
        if unknown:
            raise UnsupportedError(f"programs: expected kinds among {', '.join(KINDS)}, got {unknown[0]!r}")

    def refusal(self, program: AnyProgram) -> str | None:
        """Return the reason why the solver does not take a program, or None if it takes it."""
        described = f"{program.kind} ({program.details})"
        if program.kind not in self.programs:
            return f"takes {', '.join(sorted(self.programs))} programs, not {described}"
        if self.form is not None and self.form not in program.forms:
            return f"works from the {self.form} form, which {described} does not have"
        if not program.over_dictionary:
            return None if self.form else f"takes programs over a dictionary, not {described}"
        return self._refusal_of_terms(over_dictionary(program), described)

    def _refusal_of_terms(self, program: L1Program, described: str) -> str | None:
        loss, penalty = program.loss, program.penalty
        if self.losses is not None and loss.name not in self.losses:
            return f"takes the losses {', '.join(sorted(self.losses))}, not {described}"
        if self.kinked is not None and loss.kinked and loss.name not in self.kinked:
            only = f"of the losses with kinks {', '.join(sorted(self.kinked))}"
            return f"takes {only if self.kinked else 'losses without kinks'}, not {described}"
        if self.penalties is not None and not any(getattr(penalty, name) for name in self.penalties):
            return f"takes {' and '.join(sorted(self.penalties))} penalties, not {described}"
        if loss.name in self.whole_weights and copies(program.sample_weights) is None:
            return f"takes {described} only with sample weights in ratios of small whole numbers"
        return None


def over_dictionary(program: AnyProgram) -> L1Program:
    """Return a program over a dictionary, typed as such; UnsupportedError for any other program."""
    if not program.over_dictionary:
        raise UnsupportedError(
            f"expected a program over a dictionary, got {program.kind} ({program.details})"
        )
    return cast(L1Program, program)


def copies(weights: FloatArray) -> IntArray | None:
    """Return the number of equal rows for each weight (R,), up to a common factor; None if too many."""
    for unit in range(1, 1001):
        times = weights * (unit / weights.min())
        if times.sum() > MOST_COPIES:
            return None
        if (abs(times - np.rint(times)) <= 1e-9 * times).all():
            return np.rint(times).astype(np.int64)
    return None
