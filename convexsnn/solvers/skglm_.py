"""skglm: coordinate descent on working sets with Anderson acceleration; smooth losses, ℓ1 and groups.

Assumes a loss that is smooth and a sum over outputs. skglm accepts a datafit of the caller: `Rows` below,
which has sample weights and is compiled by skglm. With a group penalty and several outputs, X is
block-diagonal and its memory grows with the square of their number. The first call of a process compiles for
some seconds. Deterministic. Bertrand, Klopfenstein, Bannier, Gidel & Massias,
"Beyond L1: faster and better sparse models with skglm" (2022).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numba import boolean, float64, int32

from convexsnn.arrays import FloatArray, IntArray
from convexsnn.programs import L1Program
from convexsnn.programs.qp_form import by_output
from convexsnn.solvers.capabilities import Capabilities
from convexsnn.solvers.rounds import InRounds, Step

KINDS = frozenset({"qp", "logistic", "cone", "exponential"})
LOSSES = {"squared": (False, False), "squared_hinge": (False, True), "logistic": (True, False)}  # as in Rows


class Rows:
    """Σ_i s_i ℓ(z_i, y_i) as a datafit of skglm; group g is grp_indices[grp_ptr[g]:grp_ptr[g + 1]].

    ℓ is logistic, or ½ (y − z)²; with `one_sided` the square counts only where y z < 1.
    """

    def __init__(
        self, scale: FloatArray, logistic: bool, one_sided: bool, grp_ptr: IntArray, grp_indices: IntArray
    ) -> None:
        self.scale, self.logistic, self.one_sided = scale, logistic, one_sided
        self.grp_ptr, self.grp_indices = grp_ptr, grp_indices

    def get_spec(self) -> Any:
        """Return the types of the attributes."""
        flags, groups = (("logistic", boolean), ("one_sided", boolean)), ("grp_ptr", "grp_indices")
        return (("scale", float64[:]), *flags, *((name, int32[:]) for name in groups))

    def params_to_dict(self) -> dict[str, Any]:
        """Return the arguments of the constructor."""
        names = ("scale", "logistic", "one_sided", "grp_ptr", "grp_indices")
        return {name: getattr(self, name) for name in names}

    # The following methods are compiled by skglm; they have no annotations.

    def initialize(self, X, y):  # type: ignore[no-untyped-def]
        """Nothing to prepare."""

    def get_lipschitz(self, X, y):  # type: ignore[no-untyped-def]
        """Return the largest curvature of every group, or 1 where it is 0, because GroupBCD divides by it."""
        largest = np.zeros(len(self.grp_ptr) - 1)
        bend = np.sqrt(self.scale * (0.25 if self.logistic else 1.0))
        for g in range(len(largest)):
            members = self.grp_indices[self.grp_ptr[g] : self.grp_ptr[g + 1]]
            columns = np.empty((len(y), len(members)))
            for k in range(len(members)):
                columns[:, k] = bend * X[:, members[k]]
            largest[g] = np.sum(columns**2) if len(members) == 1 else np.linalg.norm(columns, 2) ** 2
        return np.where(largest > 0.0, largest, 1.0)

    def value(self, y, w, Xw):  # type: ignore[no-untyped-def]
        """Return the sum of the losses."""
        total = 0.0
        for i in range(len(y)):
            if self.logistic:
                m = y[i] * Xw[i]
                total += self.scale[i] * (max(-m, 0.0) + np.log1p(np.exp(-abs(m))))
            else:
                total += 0.5 * self.scale[i] * self.slope(y[i], Xw[i]) ** 2
        return total

    def slope(self, y, z):  # type: ignore[no-untyped-def]
        """Return ℓ'(z)."""
        if self.logistic:
            return -y / (1.0 + np.exp(y * z))
        if self.one_sided and y * z >= 1.0:
            return 0.0
        return z - y

    def gradient_scalar(self, X, y, w, Xw, j):  # type: ignore[no-untyped-def]
        """Return the slope along weight j."""
        total = 0.0
        for i in range(len(y)):
            if X[i, j] != 0.0:
                total += X[i, j] * self.scale[i] * self.slope(y[i], Xw[i])
        return total

    def gradient_g(self, X, y, w, Xw, g):  # type: ignore[no-untyped-def]
        """Return the slopes along a group's weights."""
        members = self.grp_indices[self.grp_ptr[g] : self.grp_ptr[g + 1]]
        slopes = np.empty(len(members))
        for k in range(len(members)):
            slopes[k] = self.gradient_scalar(X, y, w, Xw, members[k])
        return slopes


class Skglm(InRounds):
    """Adapter to skglm; a round is one working set of skglm."""

    name = "skglm"
    known = {"max_iter": 1, "max_epochs": 1000, "p0": 10, "ws_strategy": "subdiff"}
    capabilities = Capabilities(
        programs=KINDS,
        gap=dict.fromkeys(KINDS, 1e-8),
        duals=False,
        warm_start=True,
        time_limit=True,
        extra="fast",
        losses=frozenset(LOSSES),
        penalties=frozenset({"uniform", "euclidean"}),
        chooses_columns=True,
    )
    package = "skglm"

    def prepare(self, program: L1Program, options: Mapping[str, Any]) -> Step:  # noqa: D102
        from skglm.penalties import L1, WeightedGroupL2
        from skglm.solvers import AndersonCD, GroupBCD

        outputs, limit = program.shape[1], program.regularization
        x = np.asfortranarray(np.kron(np.eye(outputs), program.dictionary.toarray()))
        y, scale = by_output(program.targets), np.tile(program.row_scale[:, 0], outputs)
        groups = program.penalty.groups(program.shape[0])
        grouped = groups is not None
        index = np.arange(x.shape[1]) if groups is None else np.tile(groups, outputs)
        members = np.argsort(index, kind="stable").astype(np.int32)
        cuts = np.concatenate([[0], np.cumsum(np.bincount(index))]).astype(np.int32)
        datafit = Rows(scale, *LOSSES[program.loss.name], cuts, members)
        penalty = WeightedGroupL2(limit, np.ones(len(cuts) - 1), cuts, members) if grouped else L1(limit)
        settings = {key: options[key] for key in self.known}

        def step(weights: FloatArray, accuracy: float) -> tuple[FloatArray, None]:
            w = by_output(weights)
            solver = (GroupBCD if grouped else AndersonCD)(
                fit_intercept=False, tol=accuracy * limit, **settings
            )
            better = solver.solve(x, y, datafit, penalty, w, x @ w)[0]
            return better.reshape(outputs, -1).T, None

        return step
