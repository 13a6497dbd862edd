"""Steps of the weights in an ADMM training, from sums over samples.

Full fit       W = (G + μ)⁻¹ (ε'F + W G)'                          exact for the samples of the batch
Proximal step  V ← κ V + s (Ḡ + μ)⁻¹ ε'F,  W ← W + V               Ḡ: running mean of Gram matrices, κ:
inertia

With s = 1 and κ = 0 the proximal step is the minimum of `weight_block`; s and κ extrapolate it, as in
inertial proximal alternating methods (Pock & Sabach, "Inertial proximal alternating linearized minimization",
2016).
No proximal step changes the drives of a hidden layer by more than `trust`, in root mean square over units and
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

FORGET = 0.1  # weight of a new batch in the running mean


class WeightSteps:
    """Gram matrices, their inverses, and velocities of every layer; the readout is last."""

    def __init__(self, weights: Weights, spec: AdmmSpec, full: bool, batches: int, steps: int) -> None:
        """Set up the steps for the starting weights."""
        self.spec, self.full, self.batches, self.steps = spec, full, batches, steps
        layers = len(weights.layers) + 1
        self.grams: list[FloatArray | None] = [None] * layers
        self.inverses: list[FloatArray | None] = [None] * layers
        self.velocities = [np.zeros_like(weights.table(k), dtype=np.float64) for k in range(layers)]
        self.pushes = [np.zeros_like(velocity) for velocity in self.velocities]  # velocity times G
        # the inputs are constant, and so is their Gram matrix
        self.is_constant = [k == 0 and weights.layers[0].recurrent is None for k in range(layers)]
        # a proximal step is well conditioned; a full fit needs float64
        self.dtype = np.dtype(np.float64) if full else np.dtype(spec.precision)

    def needed_grams(self) -> tuple[bool, ...]:
        """Return for every layer whether the next batch must compute its Gram matrix."""
        return tuple(
            gram is None or not constant for gram, constant in zip(self.grams, self.is_constant, strict=True)
        )

    def learn_inputs(self, sums: Sums, samples: int) -> None:
        """Store the Gram matrix of the first layer's features over all samples, if it is constant."""
        if self.is_constant[0]:
            self._learn(0, None if sums.gram is None else sums.gram / samples)

    def move(self, weights: Weights, reply: Reply, step: float) -> tuple[Weights, float]:
        """Return new weights, and the mean square of the changes of all drives and outputs.

        Raises
        ------
        SolverFailed
            Weights are not finite, or a Gram matrix is singular; the message names the layer.
        """
        dtype, tables, change = weights.output.dtype, {}, 0.0
        for k, sums in enumerate(reply.sums):
            hidden = k < len(weights.layers)
            name = f"weights, layer {k + 1}" if hidden else "weights, readout"
            self._learn(k, None if sums.gram is None else sums.gram / reply.samples)
            old = weights.table(k).astype(np.float64)
            if not np.isfinite(sums.moment).all():
                raise SolverFailed(f"admm: {name}: sums are not finite")
            delta, pushed = self._step(k, old, sums.moment / reply.samples, step, name)
            square = max(float(np.sum(delta * pushed)), 0.0)  # Σ (change of drive)², per sample
            entries = weights.layers[k].units * self.steps if hidden else old.shape[0]
            largest = self.spec.trust if hidden and not self.full else np.inf
            rms = np.sqrt(square / entries)
            if rms > largest:
                shrink = largest / rms
                delta, self.velocities[k], self.pushes[k] = (
                    shrink * v for v in (delta, self.velocities[k], self.pushes[k])
                )
                square *= shrink**2
            new = old + delta
            if not np.isfinite(new).all():
                raise SolverFailed(f"admm: {name}: values are not finite")
            change += square * reply.samples / reply.entries if hidden else square / entries
            tables[k] = new.astype(dtype)
        return weights.with_tables(tables), change

    def _step(
        self, k: int, old: FloatArray, moment: FloatArray, step: float, name: str
    ) -> tuple[FloatArray, FloatArray]:
        """Return the change Δ of a table, and Δ G."""
        gram, mu = self.grams[k], self._damping(k)
        if self.full:
            right = moment - mu * old  # (G + μ) Δ' = right' gives the minimum of the program with a ridge
            delta = self._solve(k, right, name)
            return delta, right - mu * delta
        assert gram is not None
        pull = moment - damping(gram, self.spec.ridge) * old
        proximal = self._solve(k, pull, name)
        self.velocities[k] = self.spec.inertia * self.velocities[k] + step * proximal
        if self.is_constant[k]:  # saves a product with G, perhaps the largest matrix
            self.pushes[k] = self.spec.inertia * self.pushes[k] + step * (pull - mu * proximal)
        else:  # G is new, so the old product is not valid
            self.pushes[k] = self.velocities[k] @ gram
        return self.velocities[k], self.pushes[k]

    def _damping(self, k: int) -> float:
        gram = self.grams[k]
        assert gram is not None
        return damping(gram, self.spec.ridge if self.full else self.spec.damping)

    def _learn(self, k: int, gram: FloatArray | None) -> None:
        """Add the Gram matrix of a batch to the running mean."""
        if gram is None:
            return
        mean = self.grams[k]
        self.grams[k] = gram if mean is None or self.batches == 1 else mean + FORGET * (gram - mean)
        self.inverses[k] = None

    def _solve(self, k: int, right: FloatArray, name: str) -> FloatArray:
        """Return (G + μ)⁻¹ applied to the rows of `right`; the inverse is stored until G changes."""
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
            symmetric = np.tril(inverse) + np.tril(inverse, -1).T
            self.inverses[k] = symmetric.astype(self.dtype)
        return np.asarray(right.astype(self.dtype) @ self.inverses[k], dtype=np.float64)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays of a checkpoint."""
        arrays: dict[str, np.ndarray] = {}
        for k, velocity in enumerate(self.velocities):
            arrays[f"velocity{k}"], arrays[f"push{k}"] = velocity, self.pushes[k]
            if (gram := self.grams[k]) is not None:
                arrays[f"gram{k}"] = gram
        return arrays

    def like(self) -> dict[str, np.ndarray]:
        """Return arrays with the names, types and shapes of those of a checkpoint."""
        widths = [velocity.shape[1] for velocity in self.velocities]
        grams = {f"gram{k}": np.broadcast_to(0.0, (m, m)) for k, m in enumerate(widths)}
        return self.arrays() | grams

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Restore the state from the arrays of `arrays()`."""
        for k in range(len(self.velocities)):
            self.velocities[k] = arrays[f"velocity{k}"]
            self.pushes[k] = arrays[f"push{k}"]
            self.grams[k], self.inverses[k] = arrays.get(f"gram{k}"), None
