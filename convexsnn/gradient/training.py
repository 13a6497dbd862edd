"""Gradient training of a problem's network, judged by the simulator.

    min over all weights of  1/R Σ_r a_r ℓ(z_r, y_r) + λ ‖A‖        the problem's own objective

λ is `training.regularization`. If the problem states a fraction of λ_max instead, there is no penalty, since
λ_max needs a dictionary. Hidden weights stay in the problem's weight box. With `gradient.normalize` this
holds for the trained weights; folding the normalisation into them may move them out of the box.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from convexsnn.arrays import IntArray, digest
from convexsnn.errors import LoweringError
from convexsnn.gradient.loop import Epoch, Loop, device_of, float_type
from convexsnn.gradient.losses import loss_in_torch, penalty_in_torch
from convexsnn.gradient.module import NetworkModule
from convexsnn.gradient.surrogate import Surrogate
from convexsnn.networks import Network
from convexsnn.problem import Problem
from convexsnn.training.budget import Budget, Progress
from convexsnn.training.score import Score, score
from convexsnn.training.start import starting_layers


@dataclass(frozen=True, eq=False)
class GradientRun:
    """Result of a training.

    Attributes
    ----------
    network : Network
        The best network on held-out samples if there are any, else the last one.
    stopped_by : str
        "epochs", "validation" or "time".
    """

    problem: Problem
    network: Network
    stopped_by: str
    history: tuple[Epoch, ...]


def starting_network(problem: Problem) -> Network:
    """Return the starting network: uniform weights, scaled to a firing rate.

    Raises
    ------
    LoweringError
        The network has convolutions, several subnetworks, or a layer that never fires.
    """
    if problem.network.subnetworks > 1:
        raise LoweringError(
            f"network.subnetworks: {problem.network.subnetworks}: gradients train one stack of layers"
        )
    if any(layer.looks for layer in problem.network.layers):
        raise LoweringError("network.layers: gradients train dense layers; remove kernel and pool")
    layers, output = starting_layers(problem, problem.gradient)
    spec, box = problem.network, problem.dictionary.weight_box
    layers = tuple(replace(layer, weights=np.clip(layer.weights, -box, box)) for layer in layers)
    return Network(layers, output, spec.readout, spec.supervise, spec.readout_leak)


class GradientTraining(Loop):
    """The training loop of a problem, with its objective; scores come from the simulator."""

    module: NetworkModule

    def __init__(self, problem: Problem, budget: Budget = Budget()) -> None:  # noqa: B008 (frozen)
        """Set up network and data; raises LoweringError or ShapeError if the problem cannot be trained."""
        spec, self.problem = problem.gradient, problem
        self.row_loss = loss_in_torch(problem.training.loss)
        self.penalty = penalty_in_torch(problem.training.penalty)
        device, dtype = device_of(spec.device), float_type(spec.precision)
        surrogate = Surrogate(spec.surrogate, spec.width)
        settings = surrogate, spec.method, spec.scale, dtype
        module = NetworkModule(starting_network(problem), *settings, normalize=spec.normalize)
        n, steps, _ = problem.inputs.shape
        super().__init__(spec, module.to(device), n, budget)
        self.optimizer.register_step_post_hook(self._into_box)
        rows = steps if problem.network.supervise == "all" else 1
        arrays = problem.inputs, problem.encoded_targets(), problem.row_weights()
        shapes = (n, steps, -1), (n, rows, -1), (n, rows)
        self.inputs, self.targets, self.row_weights = (
            torch.tensor(array, dtype=dtype, device=device).reshape(shape)
            for array, shape in zip(arrays, shapes, strict=True)
        )

    def run(self) -> GradientRun:
        """Train until a stopping rule holds.

        Raises
        ------
        SolverFailed
            A loss, gradient or weight is not finite; the last checkpoint stays.
        """
        stopped = self.go()
        return GradientRun(self.problem, self.module.network(), stopped, self.history.rows)

    def loss(self, rows: IntArray) -> Tensor:
        """Return the objective on the samples `rows`, scaled to all samples."""
        at = torch.from_numpy(rows).to(self.inputs.device)
        targets, training = self.targets[at], self.problem.training
        outputs = self.module(self.dropped(self.inputs[at])).to(targets.dtype)
        outputs = outputs.reshape(targets.shape[:2] + (-1,))
        loss = (self.row_weights[at] * self.row_loss(outputs, targets)).mean()
        if training.regularization:
            loss = loss + training.regularization * self.penalty(self.module.output_weights)
        return loss

    def weights(self) -> list[nn.Parameter]:
        """Return the weights of every layer and of the readout."""
        return [*self.module.hidden_weights(), self.module.output_weights]

    @torch.no_grad()
    def _into_box(self, *_: Any) -> None:
        bound = self.problem.dictionary.weight_box
        box = torch.tensor(bound, dtype=self.module.output_weights.dtype)
        if float(box) > bound:  # single precision rounded up: take the next smaller number
            box = torch.nextafter(box, torch.zeros_like(box))
        for name, parameter in self.module.named_parameters():
            if name != "output_weights":
                parameter.clamp_(-float(box), float(box))

    def score(self, rows: IntArray) -> Score:
        """Return the score of the simulated network."""
        return score(self.problem, self.module.network(), rows)

    def identity(self) -> dict[str, Any]:
        """Return network, training, box and data."""
        problem, tables = self.problem, self.problem.tables()
        data = digest(inputs=problem.inputs, targets=problem.encoded_targets(), weights=problem.row_weights())
        box = problem.dictionary.weight_box
        return {"network": tables["network"], "training": tables["training"], "box": box, "data": data}


def train_gradient(
    problem: Problem,
    *,
    time_limit: float | None = None,
    progress: Progress | None = None,
    checkpoint: str | Path | None = None,
) -> GradientRun:
    """Train a problem's network by gradients, with the settings of its table ``[gradient]``.

    Parameters
    ----------
    time_limit, progress, checkpoint
        As in `Budget.of`.

    Raises
    ------
    LoweringError, ShapeError, SolverFailed, ProblemFileError
        The problem cannot be trained, a loss is not finite, or a checkpoint cannot be read or written.
    """
    return GradientTraining(problem, Budget.of(time_limit, progress, checkpoint)).run()
