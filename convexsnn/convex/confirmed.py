"""The folder of a convex run, and the check that proves its claim again from data and weights alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from convexsnn.certify import Claim
from convexsnn.certify.checker import Checked, check
from convexsnn.certify.claim import load_claim
from convexsnn.dictionary import load_dictionary
from convexsnn.errors import ConvexSNNError, VerificationError
from convexsnn.networks import load_network
from convexsnn.problem import load_saved_problem
from convexsnn.training.budget import Budget
from convexsnn.training.manifest import check_whole


@dataclass(frozen=True, eq=False)
class ConfirmedClaim:
    """A claim, and the numbers computed again to confirm it."""

    folder: Path
    claim: Claim
    checked: Checked
    exact: bool

    def _numbers(self) -> dict[str, float]:
        checked = self.checked
        return {
            "tolerance": self.claim.tolerance,
            "objective": checked.objective,
            "lower_bound": checked.lower_bound,
            "gap": checked.gap,
            "max_output_error": checked.verification.max_output_error,
            "min_margin": checked.verification.min_margin,
        }

    def summary(self) -> dict[str, Any]:
        """Return the object that ``verify --json`` prints; all numbers are computed again."""
        claim = self.claim
        words = {"status": claim.status, "scope": claim.scope, "proved_by": self.checked.oracle or None}
        accepted = {"folder": str(self.folder), "accepted": True, **words, "exact": self.exact}
        return {**accepted, **self._numbers()}

    def text(self) -> str:
        """Return the lines that ``convexsnn verify`` prints."""
        claim = self.claim
        lines = [
            f"accepted: {claim.problem}, {claim.status}",
            f"  scope       {claim.scope}: {claim.patterns} patterns, {claim.definition}",
        ]
        if self.checked.oracle:
            lines.append(f"  proved by   {self.checked.oracle}; stated as proved by {claim.oracle}")
        if self.exact:
            lines.append("  arithmetic  rational: objective and gap are rounded up, lower_bound down")
        lines += [f"  {name:<17} {value:.10g}" for name, value in self._numbers().items()]
        return "\n".join(lines)


def confirm_claim(folder: Path, exact: bool = False, budget: Budget = Budget()) -> ConfirmedClaim:  # noqa: B008
    """Prove the claim of a folder of `Result.save` again, from its data and weights alone.

    Raises
    ------
    VerificationError
        A file is missing or damaged, or the claim does not hold, or it is not proved within the budget.
    """
    try:
        check_whole(folder)
        problem = load_saved_problem(folder)
        claim, evidence = load_claim(folder)
        network = load_network(folder / "network.npz")
        dictionary = load_dictionary(folder / "dictionary.npz")
        deadline = np.inf if budget.deadline is None else budget.deadline
        checked = check(
            problem, network, dictionary, claim, evidence, exact, deadline=deadline, report=budget.report
        )
        return ConfirmedClaim(folder, claim, checked, exact)
    except VerificationError:
        raise
    except (ConvexSNNError, OSError) as error:
        raise VerificationError(str(error)) from error  # a file that cannot be read proves nothing
