"""Steps of the weights in an ADMM training, from sums over samples.

Full fit       W = (G + μ)⁻¹ (ε'F + W G)'                          exact for the samples at hand
Proximal step  V ← κ V + s (Ḡ + μ)⁻¹ ε'F,  W ← W + V               Ḡ: running mean of Gram matrices, κ: inertia

The proximal step with s = 1, κ = 0 is the minimum of `weight_block`; s and κ extrapolate it, as in inertial
proximal alternating methods (Pock & Sabach, "Inertial proximal alternating linearized minimization", 2016).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from convexsnn.arrays import FloatArray
from convexsnn.errors import SolverFailed
from convexsnn.lowering.admm import damping
from convexsnn.lowering.weights import Weights
from convexsnn.specs import AdmmSpec
from convexsnn.train.shards import Reply

FORGET = 0.1  # share of a new batch in the running mean


class WeightSteps:
    """Gram matrices, their factors and velocities of every layer; the readout comes last."""

    def __init__(self, weights: Weights, spec: AdmmSpec, full: bool, batches: int) -> None:
        """Take the weights that training starts from."""
        self.spec, self.full, self.batches = spec, full, batches
        layers = len(weights.layers) + 1
        self.grams: list[FloatArray | None] = [None] * layers
        self.factors: list[Any] = [None] * layers
        self.velocities = [np.zeros_like(weights.table(k), dtype=np.float64) for k in range(layers)]
        # the inputs do not change: their Gram matrix is known after all batches were seen once
        self.is_constant = [k == 0 and weights.layers[0].recurrent is None for k in range(layers)]
        self.seen = 0

    def wanted(self) -> tuple[bool, ...]:
        """Return, for every layer, whether its Gram matrix is needed from the next batch."""
        return tuple(not constant or self.seen < self.batches for constant in self.is_constant)

    def move(self, weights: Weights, reply: Reply, step: float) -> tuple[Weights, float]:
        """Return new weights, and the mean square of what the drives of all units change by.

        Raises
        ------
        SolverFailed
            Weights that are not finite, or a singular matrix; the message names the layer.
        """
        dtype, tables, change = weights.output.dtype, {}, 0.0
        for k, sums in enumerate(reply.sums):
            name = f"weights, layer {k + 1}" if k < len(weights.layers) else "weights, readout"
            self._learn(k, None if sums.gram is None else sums.gram / reply.samples)
            gram, old = self.grams[k], weights.table(k).astype(np.float64)
            assert gram is not None
            moment = sums.moment / reply.samples
            if self.full:
                new = self._solve(k, moment + old @ gram, name)
            else:
                self.velocities[k] = self.spec.inertia * self.velocities[k] + step * self._solve(k, moment, name)
                new = old + self.velocities[k]
            if not np.isfinite(new).all():
                raise SolverFailed(f"admm: {name}: values that are not finite")
            delta = new - old
            if k < len(weights.layers):
                positions = weights.layers[k].units // len(old)
                change += float(np.sum((delta @ gram) * delta)) / (reply.entries / reply.samples) / max(positions, 1) * positions
            tables[k] = new.astype(dtype)
        self.seen += 1
        return weights.with_tables(tables), change

    def _learn(self, k: int, gram: FloatArray | None) -> None:
        """Take a batch's Gram matrix into the running mean."""
        if gram is None:
            return
        known, share = self.grams[k], FORGET
        if self.batches == 1 or known is None:
            share = 1.0
        elif self.is_constant[k]:
            share = 1.0 / (self.seen + 1)
        self.grams[k] = gram if known is None or share == 1.0 else known + share * (gram - known)
        self.factors[k] = None

    def _solve(self, k: int, right: FloatArray, name: str) -> FloatArray:
        """Return (G + μ)⁻¹ applied to the rows of `right`."""
        if self.factors[k] is None:
            gram = self.grams[k]
            assert gram is not None
            mu = damping(gram, self.spec.ridge if self.full else self.spec.damping)
            try:
                self.factors[k] = cho_factor(gram + mu * np.eye(len(gram)), lower=True, check_finite=False)
            except LinAlgError as error:
                key = "ridge" if self.full else "damping"
                raise SolverFailed(
                    f"admm: {name}: the Gram matrix is singular; raise admm.{key} (got {getattr(self.spec, key):g})"
                ) from error
        return np.asarray(cho_solve(self.factors[k], right.T, check_finite=False).T)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return what a checkpoint needs."""
        found: dict[str, np.ndarray] = {"seen": np.asarray(self.seen)}
        for k, velocity in enumerate(self.velocities):
            found[f"velocity{k}"] = velocity
            if (gram := self.grams[k]) is not None:
                found[f"gram{k}"] = gram
        return found

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Take up what `arrays` gave."""
        self.seen = int(arrays["seen"])
        for k in range(len(self.velocities)):
            self.velocities[k] = arrays[f"velocity{k}"]
            self.grams[k], self.factors[k] = arrays.get(f"gram{k}"), None
