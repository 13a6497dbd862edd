"""scikit-learn: a well-known reference; Lasso, and logistic regression with ℓ1 by LIBLINEAR.

Lasso is coordinate descent on ‖y − X w‖² / 2n + α ‖w‖₁; sample weights scale the rows. LIBLINEAR takes sample
weights, but no starting point. It needs both labels: every row gets the label +1 (y x instead of x), and a
row of zeros with the label −1, on which no weight has an effect, is added. No intercepts: the program has
none. Deterministic: the order of LIBLINEAR's coordinates has a fixed seed. A fit cannot be interrupted, so
its passes double from round to round: it ends about as long after its limit as it took before.
Friedman, Hastie & Tibshirani (2010); Yuan, Ho & Lin, "An improved GLMNET for ℓ1-regularized logistic
regression" (2012); Pedregosa et al. (2011).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from convexsnn.arrays import FloatArray
from convexsnn.programs import L1Program
from convexsnn.solvers.capabilities import Capabilities
from convexsnn.solvers.rounds import InRounds, Step

FIRST = 16  # passes of the first round


def _lasso(program: L1Program, passes: Iterator[int]) -> Step:
    """Return a round for the squared loss: a Lasso whose rows are scaled by the sample weights."""
    from sklearn.linear_model import Lasso

    rows = np.sqrt(program.row_scale)
    x, y = np.asfortranarray(rows * program.dictionary.toarray()), (rows * program.targets)[:, 0]

    def step(weights: FloatArray, accuracy: float) -> tuple[FloatArray, None]:
        model = Lasso(
            alpha=program.regularization / len(y),
            fit_intercept=False,
            warm_start=True,
            tol=accuracy,
            max_iter=next(passes),
        )
        model.coef_ = weights[:, 0]
        return model.fit(x, y).coef_[:, None], None

    return step


def _liblinear(program: L1Program, passes: Iterator[int]) -> Step:
    """Return a round for the logistic loss: LIBLINEAR on rows that all have the label +1."""
    from sklearn.linear_model import LogisticRegression

    x = np.vstack([program.targets * program.dictionary.toarray(), np.zeros((1, program.shape[0]))])
    y = np.append(np.ones(len(x) - 1), -1.0)
    scale = np.append(program.row_scale[:, 0], program.row_scale.mean())
    # ℓ1 is chosen by `penalty` before version 1.8, by `l1_ratio` since
    old = LogisticRegression().penalty == "l2"

    def step(weights: FloatArray, accuracy: float) -> tuple[FloatArray, None]:
        model = LogisticRegression(
            **({"penalty": "l1"} if old else {"l1_ratio": 1.0}),
            C=1.0 / program.regularization,
            solver="liblinear",
            fit_intercept=False,
            tol=accuracy,
            max_iter=next(passes),
            random_state=0,
        )
        return model.fit(x, y, sample_weight=scale).coef_.T, None

    return step


def _doubling(most: int) -> Iterator[int]:
    """Yield the passes of each round, up to `most`."""
    passes = min(FIRST, most)
    while True:
        yield passes
        passes = min(2 * passes, most)


ROUNDS = {"squared": _lasso, "logistic": _liblinear}


class Sklearn(InRounds):
    """Adapter to scikit-learn; a round is one fit of at most `max_iter` passes."""

    name = "sklearn"
    known = {"max_iter": 1000}
    capabilities = Capabilities(
        programs=frozenset({"qp", "logistic"}),
        gap={"qp": 1e-8, "logistic": 1e-8},
        duals=False,
        warm_start=True,
        time_limit=False,
        extra="reference",
        losses=frozenset(ROUNDS),
        penalties=frozenset({"uniform"}),
    )
    package = "sklearn"

    def uses_start(self, program: L1Program) -> bool:
        """Return whether it is a Lasso: LIBLINEAR takes no start."""
        return ROUNDS[program.loss.name] is _lasso

    def prepare(self, program: L1Program, options: Mapping[str, Any]) -> Step:  # noqa: D102
        return ROUNDS[program.loss.name](program, _doubling(options["max_iter"]))
