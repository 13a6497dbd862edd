"""Deep networks <-> a splitting into blocks ([P25], [T16]).

`lower` computes starting weights, the constants of every layer, and the variables of all samples from the
architecture, the data and ``[admm]``. `reconstruct` returns the network with the trained weights; it does not
use the variables. Only a simulation shows what the network computes.

| variant     | outputs of steps t < T  | weights        | each iteration starts from  | spikes |
|-------------|-------------------------|----------------|-----------------------------|--------|
| published   | variables ([P25])       | full fit       | the end of the last one     | squared |
| eliminated  | eliminated: filter of a | full fit       | the end of the last one     | squared |
| proximal    | eliminated              | proximal step  | the end of the last one     | squared |
| restarted   | eliminated              | proximal step  | the true dynamics           | squared |
| lifted      | eliminated              | proximal step  | the true dynamics           | lifted  |

With linearized membranes, the constraint of "lifted" is a − ξ = r(z): a ramp r of width w plus a rounding ξ.
At the start a is the true spike. If the membrane is inside the ramp, a then changes by the gradient from the
layers above, divided by σw. For large σ the residual of the dynamics becomes the surrogate gradient of a
rectangle of width w, divided by ρ. With w = 0 a spike flips completely or not at all, depending on σ. The
flip does not show the size of the gradient, and the training learns less (README).

[P25] Perin et al., arXiv 2505.05527. [T16] Taylor et al., 2016.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from convexsnn.admm.state import HiddenLayer, Split, Splitting
from convexsnn.admm.weights import Sums, Weights
from convexsnn.arrays import FloatArray
from convexsnn.blocks.box_qp import STEPS
from convexsnn.blocks.quadratic import Quadratic, QuadraticBlock
from convexsnn.errors import LoweringError, UnsupportedError
from convexsnn.networks import READOUTS, Network
from convexsnn.problem import Problem
from convexsnn.problem.specs import AdmmSpec
from convexsnn.programs.losses import get_loss
from convexsnn.training.start import starting_layers

LIFTED = 30.0  # default of σ / ρ in the variant "lifted"
RAMP = 1.0  # default width of the ramp that replaces a linearized spike


@dataclass(frozen=True)
class Variant:
    """Choices of a named variant; see the table above."""

    every_output: bool
    full_fit: bool
    restarts: bool
    constraint: str


VARIANTS = {
    "published": Variant(True, True, False, "squared"),
    "eliminated": Variant(False, True, False, "squared"),
    "proximal": Variant(False, False, False, "squared"),
    "restarted": Variant(False, False, True, "squared"),
    "lifted": Variant(False, False, True, "lifted"),
}


def _refusal(problem: Problem) -> str | None:
    """Return a setting that ADMM does not support, by its key, with the reason; None if there is none."""
    network = problem.network
    if READOUTS[network.readout].of_membrane:
        others = "take output_membrane, rate or spike"
        return f"network.readout: 'membrane' is a bit of the last membrane; {others}"
    if network.supervise == "all":
        return "network.supervise: 'all': ADMM trains the output of the last step"
    if network.subnetworks > 1:
        return f"network.subnetworks: {network.subnetworks}: ADMM trains one stack of layers"
    for k, layer in enumerate(network.layers, start=1):
        key = f"network.layers[{k}]"
        try:
            form = layer.first_neuron().leaky_form("ADMM")
        except UnsupportedError as error:
            return f"{key}.neuron: {error}"
        if form.own_weight is not None:
            return f"{key}.neuron: {layer.neuron!r}; take threshold with recurrent = true"
        if form.removed is None:
            others = "take subtract, subtract_after or none"
            return f"{key}.reset: {form.reset!r} multiplies membranes and spikes; {others}"
        if layer.recurrent and layer.looks:
            return f"{key}.recurrent: true with kernel or pool"
    return None


def check_admm(problem: Problem) -> None:
    """Raise a LoweringError that names the key of a setting that ADMM does not support."""
    if refusal := _refusal(problem):
        raise LoweringError(refusal)


def splitting_of(problem: Problem, weights: Weights) -> Splitting:
    """Return the constants of a problem's splitting.

    Raises
    ------
    LoweringError
        A readout, neuron or reset has no such splitting; the message has the key.
    """
    check_admm(problem)
    spec, steps, network = problem.admm, problem.inputs.shape[1], problem.network
    variant = VARIANTS[spec.variant]
    ratio = spec.spike_penalty or (LIFTED if variant.constraint == "lifted" else 1.0)
    rho, hidden = spec.penalty, []
    for layer in reversed(weights.layers):
        rho *= spec.decay
        form, theta = layer.neuron.leaky_form("ADMM"), layer.neuron.threshold
        assert form.removed is not None
        leak = 0.0 if form.leak is None else form.leak
        hidden.append(HiddenLayer(leak, form.removed, theta, rho, rho * ratio))
    membranes = spec.membrane_update or ("linearized" if variant.constraint == "lifted" else "joint")
    readout = READOUTS[network.readout]
    return Splitting(
        tuple(reversed(hidden)),
        readout.kernel(steps, network.readout_leak),
        readout.filter_leak(network.readout_leak),
        readout.scale(steps),
        spec.penalty,
        get_loss(problem.training.loss),
        variant.every_output,
        variant.constraint,
        spec.spike_update == "clamped",
        membranes,
        spec.block_tolerance,
        spec.spike_steps or STEPS,
        _ramp_width(spec, variant, membranes),
    )


def _ramp_width(spec: AdmmSpec, variant: Variant, membranes: str) -> float:
    linearized = variant.constraint == "lifted" and membranes == "linearized"
    if spec.ramp_width and not linearized:
        raise LoweringError(
            f'admm.ramp_width: {spec.ramp_width:g} needs variant = "lifted" and membrane_update = '
            f'"linearized", got {spec.variant!r} and {membranes!r}'
        )
    return (RAMP if spec.ramp_width is None else spec.ramp_width) if linearized else 0.0


def initial_weights(problem: Problem) -> Weights:
    """Return the starting weights of ADMM; raises LoweringError if a layer never fires."""
    spec = problem.admm
    return Weights(*starting_layers(problem, spec, spec.precision, spec.initialization))


def weight_block(
    name: str, table: FloatArray, sums: Sums, gram: FloatArray, spec: AdmmSpec, full: bool
) -> QuadraticBlock:
    """Return the program of one layer's table: least squares over all samples and steps.

    A full fit has the ridge ½ μ ‖W‖²; a proximal step has ½ μ ‖W − W_0‖², where W_0 is the present table.
    μ is `spec.ridge` or `spec.damping` times the mean of the Gram matrix's diagonal.
    """
    mu = damping(gram, spec.ridge if full else spec.damping)
    fit = table @ gram
    linear = sums.moment + fit
    constant = 0.5 * (sums.square + 2 * np.sum(sums.moment * table) + np.sum(fit * table))
    formula = "  min over W of  ½ Σ ‖y − W f‖² + ½ μ ‖W‖²"
    if not full:
        formula = "  min over W of  ½ Σ ‖y − W f‖² + ½ μ ‖W − W_0‖²"
        linear, constant = linear + mu * table, constant + 0.5 * mu * np.sum(table**2)
    diagonal = np.full(len(gram), mu)
    return QuadraticBlock(name, formula, Quadratic(diagonal, gram), linear, constant=float(constant))


def damping(gram: FloatArray, share: float) -> float:
    """Return μ > 0: `share` times the mean of the Gram matrix's diagonal."""
    return max(share * float(np.trace(gram)) / len(gram), 1e-300)


@dataclass(frozen=True, eq=False)
class SplitProblem:
    """A problem lowered to a splitting, with the data needed to reconstruct a network."""

    problem: Problem
    splitting: Splitting
    weights: Weights

    def split(self, rows: Any = slice(None)) -> Split:
        """Return the variables of the samples `rows`, at the true dynamics of the starting weights."""
        problem = self.problem
        inputs = problem.inputs[rows].astype(problem.admm.precision)
        targets, weights = problem.encoded_targets()[rows], problem.row_weights()[rows]
        return Split(self.splitting, inputs, targets, weights, self.weights)


class AdmmSplitting:
    """Conversion of a problem to its splitting, and of trained weights to a network."""

    def lower(self, problem: Problem) -> SplitProblem:
        """Return the splitting of a problem, with its starting weights.

        Raises
        ------
        LoweringError
            The architecture has no such splitting, or a layer never fires.
        """
        check_admm(problem)  # before the work of drawing weights
        weights = initial_weights(problem)
        return SplitProblem(problem, splitting_of(problem, weights), weights)

    def reconstruct(self, lowered: SplitProblem, weights: Weights) -> Network:
        """Return the network with the trained weights of this splitting."""
        return weights.network(lowered.problem.network)
