"""Gradient training of a problem's network, judged by the simulator.

    min over all weights of  1/R Σ_r a_r ℓ(z_r, y_r) + λ ‖A‖        the problem's own objective

λ is the problem's where it is a number; a fraction of λ_max has no meaning before there is a dictionary, and
is left out. Hidden weights stay in the problem's box; with `gradient.normalize` that holds for the weights as
trained, and folding the normalisation in may take them out of it.
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
    """Where a training ended.

    Attributes
    ----------
    network : Network
        The best on samples held out, where there are any, else the last.
    stopped_by : str
        "epochs", "validation" or "time".
    """

    problem: Problem
    network: Network
    stopped_by: str
    history: tuple[Epoch, ...]


def starting_network(problem: Problem) -> Network:
    """Return the network that training starts from: uniform weights, scaled to a firing rate.

    Raises
    ------
    LoweringError
        Convolutions, several subnetworks, or a layer that never fires.
    """
    if problem.network.subnetworks > 1:
        raise LoweringError(
            f"network.subnetworks: {problem.network.subnetworks}: gradients train one stack of layers"
        )
    if any(layer.looks for layer in problem.network.layers):
        raise LoweringError("network.layers: gradients train dense layers; take kernel and pool out")
    drawn, output = starting_layers(problem, problem.gradient)
    spec, box = problem.network, problem.dictionary.weight_box
    layers = tuple(replace(layer, weights=np.clip(layer.weights, -box, box)) for layer in drawn)
    return Network(layers, output, spec.readout, spec.supervise, spec.readout_leak)


class GradientTraining(Loop):
    """The loop on a problem; the objective is the problem's, and the simulator judges."""

    module: NetworkModule

    def __init__(self, problem: Problem, budget: Budget = Budget()) -> None:  # noqa: B008 (frozen)
        """Put network and data in place; raises LoweringError and ShapeError for what cannot be trained."""
        spec, self.problem = problem.gradient, problem
        self.row_loss = loss_in_torch(problem.training.loss)
        self.penalty = penalty_in_torch(problem.training.penalty)
        device, dtype = device_of(spec.device), float_type(spec.precision)
        surrogate = Surrogate(spec.surrogate, spec.width)
        settings = surrogate, spec.method, spec.scale, dtype
        made = NetworkModule(starting_network(problem), *settings, normalize=spec.normalize)
        n, steps, _ = problem.inputs.shape
        super().__init__(spec, made.to(device), n, budget)
        self.optimizer.register_step_post_hook(self._into_box)
        each = steps if problem.network.supervise == "all" else 1
        given = problem.inputs, problem.encoded_targets(), problem.row_weights()
        shapes = (n, steps, -1), (n, each, -1), (n, each)
        self.inputs, self.targets, self.row_weights = (
            torch.tensor(array, dtype=dtype, device=device).reshape(shape)
            for array, shape in zip(given, shapes, strict=True)
        )

    def run(self) -> GradientRun:
        """Train until a rule says stop.

        Raises
        ------
        SolverFailed
            A loss that is not finite; the last checkpoint stays.
        """
        stopped = self.go()
        return GradientRun(self.problem, self.module.network(), stopped, self.history.rows)

    def loss(self, rows: IntArray) -> Tensor:
        """Return the objective on some samples, scaled to all."""
        at = torch.from_numpy(rows).to(self.inputs.device)
        targets, training = self.targets[at], self.problem.training
        outputs = self.module(self.dropped(self.inputs[at])).to(targets.dtype)
        outputs = outputs.reshape(targets.shape[:2] + (-1,))
        loss = (self.row_weights[at] * self.row_loss(outputs, targets)).mean()
        if training.regularization:
            loss = loss + training.regularization * self.penalty(self.module.output_weights)
        return loss

    def weights(self) -> list[nn.Parameter]:
        """Return the weights of every layer, and the readout's."""
        return [*self.module.hidden_weights(), self.module.output_weights]

    @torch.no_grad()
    def _into_box(self, *_: Any) -> None:
        given = self.problem.dictionary.weight_box
        box = torch.tensor(given, dtype=self.module.output_weights.dtype)
        if float(box) > given:  # rounded up to single precision: the next number below is inside
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
    """Train a problem's network by gradients, as its table ``[gradient]`` says.

    Parameters
    ----------
    time_limit, progress, checkpoint
        As in `Budget.of`.

    Raises
    ------
    LoweringError, ShapeError, SolverFailed, ProblemFileError
        What cannot be trained, a loss that is not finite, a checkpoint that cannot be read or written.
    """
    return GradientTraining(problem, Budget.of(time_limit, progress, checkpoint)).run()
