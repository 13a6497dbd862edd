"""Steps of the weights in an ADMM training, from sums over samples.

Full fit       W = (G + μ)⁻¹ (ε'F + W G)'                          exact for the samples at hand
Proximal step  V ← κ V + s (Ḡ + μ)⁻¹ ε'F,  W ← W + V               Ḡ: running mean of Gram matrices, κ:
inertia

The proximal step with s = 1, κ = 0 is the minimum of `weight_block`; s and κ extrapolate it, as in inertial
proximal alternating methods (Pock & Sabach, "Inertial proximal alternating linearized minimization", 2016).
No proximal step moves the drives of a hidden layer by more than `trust`, root mean square over units and
steps.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg.lapack import dpotrf, dpotri

from convexsnn.admm.shards import Reply
from convexsnn.admm.splitting import damping
from convexsnn.admm.weights import Sums, Weights
from convexsnn.arrays import FloatArray
from convexsnn.errors import SolverFailed
from convexsnn.problem.specs import AdmmSpec

FORGET = 0.1  # share of a new batch in the running mean


class WeightSteps:
    """Gram matrices, their factors and velocities of every layer; the readout comes last."""

    def __init__(self, weights: Weights, spec: AdmmSpec, full: bool, batches: int, steps: int) -> None:
        """Take the weights that training starts from."""
        self.spec, self.full, self.batches, self.steps = spec, full, batches, steps
        layers = len(weights.layers) + 1
        self.grams: list[FloatArray | None] = [None] * layers
        self.inverses: list[FloatArray | None] = [None] * layers
        self.velocities = [np.zeros_like(weights.table(k), dtype=np.float64) for k in range(layers)]
        self.pushes = [np.zeros_like(velocity) for velocity in self.velocities]  # velocity times G
        # the inputs do not change, nor does their Gram matrix
        self.is_constant = [k == 0 and weights.layers[0].recurrent is None for k in range(layers)]
        # a proximal step is well conditioned, a full fit is not
        self.dtype = np.dtype(np.float64) if full else np.dtype(spec.precision)

    def wanted(self) -> tuple[bool, ...]:
        """Return, for every layer, whether its Gram matrix is needed from the next batch."""
        return tuple(
            gram is None or not fixed for gram, fixed in zip(self.grams, self.is_constant, strict=True)
        )

    def learn_inputs(self, sums: Sums, samples: int) -> None:
        """Take the Gram matrix of the first layer's features over all samples, where it never changes."""
        if self.is_constant[0]:
            self._learn(0, None if sums.gram is None else sums.gram / samples)

    def move(self, weights: Weights, reply: Reply, step: float) -> tuple[Weights, float]:
        """Return new weights, and the mean square of what the drives of all units change by, and outputs.

        Raises
        ------
        SolverFailed
            Weights that are not finite, or a singular matrix; the message names the layer.
        """
        dtype, tables, change = weights.output.dtype, {}, 0.0
        for k, sums in enumerate(reply.sums):
            hidden = k < len(weights.layers)
            name = f"weights, layer {k + 1}" if hidden else "weights, readout"
            self._learn(k, None if sums.gram is None else sums.gram / reply.samples)
            old = weights.table(k).astype(np.float64)
            if not np.isfinite(sums.moment).all():
                raise SolverFailed(f"admm: {name}: sums that are not finite")
            delta, pushed = self._step(k, old, sums.moment / reply.samples, step, name)
            square = max(float(np.sum(delta * pushed)), 0.0)  # Σ (change of drive)², by sample
            entries = weights.layers[k].units * self.steps if hidden else old.shape[0]
            largest = self.spec.trust if hidden and not self.full else np.inf
            moved = np.sqrt(square / entries)
            if moved > largest:
                shrink = largest / moved
                delta, self.velocities[k], self.pushes[k] = (
                    shrink * v for v in (delta, self.velocities[k], self.pushes[k])
                )
                square *= shrink**2
            new = old + delta
            if not np.isfinite(new).all():
                raise SolverFailed(f"admm: {name}: values that are not finite")
            change += square * reply.samples / reply.entries if hidden else square / entries
            tables[k] = new.astype(dtype)
        return weights.with_tables(tables), change

    def _step(
        self, k: int, old: FloatArray, moment: FloatArray, step: float, name: str
    ) -> tuple[FloatArray, FloatArray]:
        """Return the change Δ of a table, and Δ G."""
        gram, mu = self.grams[k], self._damping(k)
        if self.full:
            right = moment - mu * old  # (G + μ) Δ' = right' leads to the minimum of the ridge's program
            delta = self._solve(k, right, name)
            return delta, right - mu * delta
        assert gram is not None
        pull = moment - damping(gram, self.spec.ridge) * old
        own = self._solve(k, pull, name)
        self.velocities[k] = self.spec.inertia * self.velocities[k] + step * own
        if self.is_constant[k]:  # saves a product with what may be the largest matrix of all
            self.pushes[k] = self.spec.inertia * self.pushes[k] + step * (pull - mu * own)
        else:  # what the last velocity times the last G was says nothing of this G
            self.pushes[k] = self.velocities[k] @ gram
        return self.velocities[k], self.pushes[k]

    def _damping(self, k: int) -> float:
        gram = self.grams[k]
        assert gram is not None
        return damping(gram, self.spec.ridge if self.full else self.spec.damping)

    def _learn(self, k: int, gram: FloatArray | None) -> None:
        """Take a batch's Gram matrix into the running mean."""
        if gram is None:
            return
        known = self.grams[k]
        self.grams[k] = gram if known is None or self.batches == 1 else known + FORGET * (gram - known)
        self.inverses[k] = None

    def _solve(self, k: int, right: FloatArray, name: str) -> FloatArray:
        """Return (G + μ)⁻¹ applied to the rows of `right`; the inverse is kept while G stays as it is."""
        if self.inverses[k] is None:
            gram = self.grams[k]
            assert gram is not None
            matrix = gram + self._damping(k) * np.eye(len(gram))
            factor, failed = dpotrf(matrix, lower=1)
            inverse, failed = dpotri(factor, lower=1) if not failed else (matrix, failed)
            if failed:
                key = "ridge" if self.full else "damping"
                raise SolverFailed(
                    f"admm: {name}: the Gram matrix is singular; raise admm.{key} "
                    f"(got {getattr(self.spec, key):g})"
                )
            whole = np.tril(inverse) + np.tril(inverse, -1).T
            self.inverses[k] = whole.astype(self.dtype)
        kept = self.inverses[k]
        return np.asarray(right.astype(self.dtype) @ kept, dtype=np.float64)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return what a checkpoint needs."""
        found: dict[str, np.ndarray] = {}
        for k, velocity in enumerate(self.velocities):
            found[f"velocity{k}"], found[f"push{k}"] = velocity, self.pushes[k]
            if (gram := self.grams[k]) is not None:
                found[f"gram{k}"] = gram
        return found

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Take up what `arrays` gave."""
        for k in range(len(self.velocities)):
            self.velocities[k] = arrays[f"velocity{k}"]
            self.pushes[k] = arrays[f"push{k}"]
            self.grams[k], self.inverses[k] = arrays.get(f"gram{k}"), None
