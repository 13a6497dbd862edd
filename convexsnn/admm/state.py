"""The variables of a splitting for some samples, and the blocks that move them ([P25], [T16]).

    Σ_i a_i ℓ(q_i, y_i) + ⟨λ_i, q_i − A'ā_i⟩ + ρ_o/2 ‖q_i − A'ā_i‖²        ā_i = Σ_t k_t a_{L,t}: the readout
    + Σ_l Σ_i Σ_t  ρ_l/2 ‖z_t − β z_{t−1} − c_t‖² + φ_l(a_t, z_t)     c_t = W x_t + b + (R − r) a_{t−1}

x is the layer below: the inputs, or a of layer l − 1. r is the amount that a spike subtracts from the next
membrane: βθ for the reset "subtract", θ for "subtract_after", 0 for "none". If the outputs of all steps are
variables, as in [P25], the first line has instead ρ_o/2 Σ_t ‖y_t − δ y_{t−1} − g A'a_t‖², with ℓ and λ only
at the last step. With a lifted ramp the argument of φ is a − ξ, where ξ = 1{z >= θ} − r(z) at the true
dynamics (`blocks.ramp`).

Each block is an explicit program: `QuadraticBlock`, `OutputBlock`, `MembraneBlock` or `ChainBlock`. Weights
are fitted to sums over samples, `Sums`; so the samples may be divided into any number of shards.

[P25] Perin et al., "ADMM-based training for spiking neural networks", arXiv 2505.05527.
[T16] Taylor et al., "Training neural networks without gradients: a scalable ADMM approach", 2016.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np

from convexsnn.admm.weights import Sums, Weights, by_filter, feature_blocks, sums_of
from convexsnn.arrays import FloatArray, lagged
from convexsnn.blocks.membranes import ChainBlock, MembraneBlock, spike_cost
from convexsnn.blocks.outputs import OutputBlock
from convexsnn.blocks.quadratic import Quadratic, QuadraticBlock
from convexsnn.blocks.ramp import ramp
from convexsnn.programs.losses import Loss
from convexsnn.simulate import run_layer


@dataclass(frozen=True)
class HiddenLayer:
    """Constants of one hidden layer: β, r (per unit or shared), θ, ρ and σ."""

    leak: FloatArray | float
    reset: FloatArray | float
    threshold: float
    coupling: float
    spike_penalty: float


@dataclass(frozen=True, eq=False)
class Splitting:
    """Constants of a splitting and the choices of its variant, shared by all samples.

    Attributes
    ----------
    layers : tuple of HiddenLayer
    kernel : (T,) array
        k, the weight of each step in the readout.
    output_leak, output_gain : float
        δ and g, with k_t = g δ^{T−t}.
    every_output : bool
        Whether the output membranes of all steps are variables.
    constraint : "squared" or "lifted"
    clamped : bool
        Whether spikes are a least-squares solution clamped to [0, 1], instead of the exact box solution.
    membranes : "joint", "step" or "linearized"
        Update of the membranes: all steps together; one step after the other; or all steps together with
        the spike constraint linearized.
    tolerance, steps : float, int
        Limits of the box programs: smallest change of a spike, largest number of matrix products.
    ramp_width : float
        Width w of the ramp r(z) in a lifted constraint; 0: the constraint has the spike 1{z >= θ} itself.
    """

    layers: tuple[HiddenLayer, ...]
    kernel: FloatArray
    output_leak: float
    output_gain: float
    output_penalty: float
    loss: Loss
    every_output: bool = False
    constraint: str = "lifted"
    clamped: bool = False
    membranes: str = "joint"
    tolerance: float = 1e-6
    steps: int = 20_000
    ramp_width: float = 0.0

    def scaled(self, factor: float) -> Splitting:
        """Return the splitting with every penalty multiplied by `factor`."""
        layers = tuple(
            replace(layer, coupling=layer.coupling * factor, spike_penalty=layer.spike_penalty * factor)
            for layer in self.layers
        )
        return replace(self, layers=layers, output_penalty=self.output_penalty * factor)


class Split:
    """The variables of n samples in a splitting, and the block programs that update them.

    Attributes
    ----------
    membranes, spikes : lists of (n, T, m) arrays, one per hidden layer
    outputs : (n, C) array, or (n, T, C) with every_output
    multipliers : (n, C) array
    """

    def __init__(
        self,
        splitting: Splitting,
        inputs: FloatArray,
        targets: FloatArray,
        sample_weights: FloatArray,
        weights: Weights,
    ) -> None:
        """Store inputs (n, T, d) and encoded targets (n, C) of n samples; start from the true dynamics."""
        self.splitting, self.inputs, self.targets = splitting, inputs, targets
        self.sample_weights = sample_weights
        self.restart(weights)

    def restart(self, weights: Weights) -> None:
        """Set every variable to its value in the simulated network, and the multipliers to 0."""
        signal, dtype = self.inputs, self.inputs.dtype
        self.membranes, self.spikes = [], []
        for layer in weights.layers:
            membranes, spikes = run_layer(layer, signal, dtype)
            signal = spikes.astype(dtype)
            self.membranes.append(membranes)
            self.spikes.append(signal)
        self.roundings = [self._rounding(k) for k in range(len(weights.layers))]
        self.multipliers: FloatArray = np.zeros(self.targets.shape)
        self.use(weights)
        for k, layer in enumerate(weights.layers):
            if layer.recurrent is None:  # the dynamics give the drive without a product
                self.drives[k] = self._implied_drive(k)
        self.outputs = self._output_membranes() if self.splitting.every_output else self.read()

    def _rounding(self, k: int) -> FloatArray | None:
        """Return ξ = 1{z >= θ} − r(z), the difference of spikes and ramp, (n, T, m); None without a ramp."""
        width, threshold = self.splitting.ramp_width, self.splitting.layers[k].threshold
        return self.spikes[k] - ramp(self.membranes[k], threshold, width) if width else None

    def ramp_part(self, k: int) -> FloatArray:
        """Return a − ξ of layer k, which the constraint compares with the ramp, (n, T, m)."""
        rounding = self.roundings[k]
        return self.spikes[k] if rounding is None else self.spikes[k] - rounding

    def use(self, weights: Weights) -> None:
        """Set new weights; the variables are unchanged."""
        self.weights = weights
        self.drives: list[FloatArray | None] = [None] * len(weights.layers)

    def below(self, k: int) -> FloatArray:
        """Return the inputs of layer k, (n, T, d)."""
        return self.inputs if k == 0 else self.spikes[k - 1]

    def drive(self, k: int) -> FloatArray:
        """Return W x_t + b of layer k, (n, T, m); stored until the weights or the layer below change."""
        drive = self.drives[k]
        if drive is None:
            inputs = self.below(k)
            flat = self.weights.layers[k].drive(inputs.reshape(-1, inputs.shape[2]))
            self.drives[k] = drive = flat.reshape(*inputs.shape[:2], -1)
        return drive

    def feedback(self, k: int) -> FloatArray:
        """Return R a_{t−1} − r a_{t−1} of layer k, (n, T, m)."""
        before, recurrent = lagged(self.spikes[k]), self.weights.layers[k].recurrent
        feedback = before * -np.asarray(self.splitting.layers[k].reset, before.dtype)
        return feedback if recurrent is None else feedback + before @ recurrent.T

    def residual(self, k: int) -> FloatArray:
        """Return z_t − β z_{t−1} − c_t of layer k, (n, T, m)."""
        residual = self._implied_drive(k)
        residual -= self.drive(k)
        return residual

    def _implied_drive(self, k: int) -> FloatArray:
        """Return z_t − β z_{t−1} − (R − r) a_{t−1} of layer k, (n, T, m)."""
        layer, recurrent = self.splitting.layers[k], self.weights.layers[k].recurrent
        leak, reset = (np.asarray(v, self.inputs.dtype) for v in (layer.leak, layer.reset))
        z, before = self.membranes[k], self.spikes[k][:, :-1]
        drive = z.copy()
        later = drive[:, 1:]
        later -= leak * z[:, :-1]
        later += reset * before
        if recurrent is not None:
            later -= before @ recurrent.T
        return drive

    def filtered(self) -> FloatArray:
        """Return ā, the weighted sum of the last layer's spikes in the readout, (n, m)."""
        kernel = self.splitting.kernel.astype(self.inputs.dtype)
        return np.einsum("t,ntm->nm", kernel, self.spikes[-1], optimize=True)

    def read(self) -> FloatArray:
        """Return A'ā, the outputs for the present spikes, (n, C)."""
        return np.asarray(self.filtered() @ self.weights.output, dtype=np.float64)

    def _output_membranes(self) -> FloatArray:
        """Return the output membranes of all steps for the present spikes, (n, T, C)."""
        leak, gain = self.splitting.output_leak, self.splitting.output_gain
        membranes = self.spikes[-1] @ self.weights.output * gain
        for t in range(1, membranes.shape[1]):
            membranes[:, t] += leak * membranes[:, t - 1]
        return np.asarray(membranes, dtype=np.float64)

    def output_residual(self) -> FloatArray:
        """Return q − A'ā, (n, C), or y_t − δ y_{t−1} − g A'a_t, (n, T, C)."""
        if not self.splitting.every_output:
            return self.outputs - self.read()
        drive = self.splitting.output_gain * (self.spikes[-1] @ self.weights.output)
        return self.outputs - self.splitting.output_leak * lagged(self.outputs) - drive

    def step_multipliers(self) -> None:
        """Add the residual of the readout, times its penalty, to λ."""
        residual = self.output_residual()
        last = residual[:, -1] if self.splitting.every_output else residual
        self.multipliers += self.splitting.output_penalty * last

    def lagrangian(self, squares: Sequence[float] | None = None) -> float:
        """Return the augmented Lagrangian of these samples, without the ridge on weights.

        `squares` are Σ ε² of the hidden layers if they are known.
        """
        split, residual = self.splitting, self.output_residual()
        last = residual[:, -1] if split.every_output else residual
        final = self.outputs[:, -1] if split.every_output else self.outputs
        total = float(self.sample_weights @ split.loss.value(final, self.targets))
        total += float(np.sum(self.multipliers * last) + 0.5 * split.output_penalty * np.sum(residual**2))
        for k, layer in enumerate(split.layers):
            cost = spike_cost(
                self.membranes[k], self.ramp_part(k), layer.threshold, split.constraint, split.ramp_width
            )
            total += layer.spike_penalty * float(cost.sum(dtype=np.float64))
            square = squares[k] if squares else float(np.sum(self.residual(k) ** 2, dtype=np.float64))
            total += 0.5 * layer.coupling * square
        return total

    def violation(self) -> tuple[float, float]:
        """Return the root mean squares of a − 1{z >= θ} over all units, and of the readout's residual."""
        squares = [
            np.sum((a - (z >= layer.threshold)) ** 2, dtype=np.float64)
            for a, z, layer in zip(self.spikes, self.membranes, self.splitting.layers, strict=True)
        ]
        count = sum(a.size for a in self.spikes)
        return float(np.sqrt(sum(squares) / count)), float(np.sqrt(np.mean(self.output_residual() ** 2)))

    def sums(self, k: int, gram: bool = True) -> Sums:
        """Return the sums for the weights of layer k; k = number of hidden layers: the readout."""
        if k == len(self.spikes):
            split = self.splitting
            features = self.filtered()
            if split.every_output:
                features = split.output_gain * self.spikes[-1].reshape(-1, self.spikes[-1].shape[2])
            residual = self.output_residual()
            last = residual[:, -1] if split.every_output else residual
            # ⟨λ, ε⟩ + ρ/2 ‖ε‖² equals ρ/2 ‖ε + λ/ρ‖² plus a constant
            last += self.multipliers / split.output_penalty
            return sums_of(features, residual.reshape(len(features), -1).astype(features.dtype), False, gram)
        layer, residual = self.weights.layers[k], self.residual(k)
        parts = (
            sums_of(features, by_filter(layer, residual[rows]), layer.bias is not None, gram)
            for rows, features in feature_blocks(layer, self.below(k), self.spikes[k])
        )
        return reduce(Sums.plus, parts)

    def output_block(self) -> OutputBlock:
        """Return the program of the outputs at the last step."""
        split, rho = self.splitting, self.splitting.output_penalty
        center = self.read()
        if split.every_output:
            drive = split.output_gain * (self.spikes[-1][:, -1] @ self.weights.output)
            center = drive + (split.output_leak * self.outputs[:, -2] if self.outputs.shape[1] > 1 else 0.0)
        formula = "  min over q of  Σ_i a_i ℓ(q_i, y_i) + ρ_o/2 ‖q_i − v_i‖²,   v = A'ā − λ/ρ_o"
        return OutputBlock(
            "outputs", formula, split.loss, self.targets, self.sample_weights,
            center - self.multipliers / rho, rho,
        )  # fmt: skip

    def output_step_block(self, t: int) -> QuadraticBlock:
        """Return the program of the output membranes at step t < T (0-based), others fixed."""
        split, y = self.splitting, self.outputs
        drive = split.output_gain * (self.spikes[-1] @ self.weights.output)
        before = split.output_leak * y[:, t - 1] if t else 0.0
        after = y[:, t + 1] - drive[:, t + 1]
        linear = before + drive[:, t] + split.output_leak * after
        if t == y.shape[1] - 2:
            linear = linear + split.output_leak / split.output_penalty * self.multipliers
        weight = np.full(y.shape[2], split.output_penalty * (1.0 + split.output_leak**2))
        formula = (
            "  min over y_t of  ρ_o/2 ‖y_t − δ y_{t−1} − g A'a_t‖² + ρ_o/2 ‖y_{t+1} − δ y_t − g A'a_{t+1}‖²"
        )
        name = f"output membranes, step {t + 1}"
        return QuadraticBlock(name, formula, Quadratic(weight), split.output_penalty * linear)

    def chain_block(self, k: int) -> ChainBlock:
        """Return the program of layer k's membranes, all steps together."""
        layer, constraint, present = self.splitting.layers[k], self.splitting.constraint, None
        formula = "  min over z of  Σ_t ρ/2 ‖z_t − β z_{t−1} − c_t‖² + φ(a_t, z_t)"
        if self.splitting.membranes == "linearized":
            rounding, constraint = self.roundings[k], "linearized"
            present = ramp(self.membranes[k], layer.threshold, self.splitting.ramp_width)
            present = present if rounding is None else present + rounding
            slope = "1{z⁰_t >= θ} − a_t" if rounding is None else "r(z⁰_t) + ξ_t − a_t"
            formula = f"  min over z of  Σ_t ρ/2 ‖z_t − β z_{{t−1}} − c_t‖² + σ ({slope})·z_t"
        return ChainBlock(
            f"membranes, layer {k + 1}", formula, self.drive(k) + self.feedback(k), self.spikes[k],
            layer.leak,
            layer.threshold, layer.coupling, layer.spike_penalty, constraint, present,
        )  # fmt: skip

    def membrane_block(self, k: int, t: int) -> MembraneBlock:
        """Return the program of layer k's membranes at step t (0-based), others fixed."""
        layer, z = self.splitting.layers[k], self.membranes[k]
        current, leak = self.drive(k) + self.feedback(k), np.asarray(layer.leak, self.inputs.dtype)
        center = current[:, t] + (leak * z[:, t - 1] if t else 0.0)
        weight = np.ones_like(leak)
        if t + 1 < z.shape[1]:
            weight = 1.0 + leak**2
            center = (center + leak * (z[:, t + 1] - current[:, t + 1])) / weight
        formula = "  min over z_t of  ρ/2 ‖z_t − f‖² + ρ/2 ‖z_{t+1} − β z_t − c_{t+1}‖² + φ(a_t, z_t)"
        return MembraneBlock(
            f"membranes, layer {k + 1}, step {t + 1}", formula, layer.coupling * weight, center,
            self.spikes[k][:, t], layer.threshold, layer.spike_penalty, self.splitting.constraint,
        )  # fmt: skip
