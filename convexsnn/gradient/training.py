"""Gradient training of a problem's network, judged by the simulator.

    min over all weights of  1/R Σ_r a_r ℓ(z_r, y_r) + λ ‖A‖        the problem's own objective

λ is the problem's where it is a number; a fraction of λ_max has no meaning before there is a dictionary, and
is left out. Hidden weights stay in the problem's box. Everything random comes from the seed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from convexsnn.errors import LoweringError, ShapeError, SolverFailed
from convexsnn.gradient.checkpoint import load_checkpoint, save_checkpoint
from convexsnn.gradient.losses import LOSSES, penalty
from convexsnn.gradient.module import NetworkModule
from convexsnn.gradient.surrogate import Surrogate
from convexsnn.lowering.admm import initial_weights
from convexsnn.networks import Network
from convexsnn.problem import Problem
from convexsnn.simulate import simulate
from convexsnn.specs import AdmmSpec
from convexsnn.tasks.split import held_out_rows

MOMENTUM = 0.9
Progress = Callable[[str, float], object]


@dataclass(frozen=True)
class Epoch:
    """What an epoch ended with.

    Attributes
    ----------
    loss : float
        Mean of the objective over the epoch's batches, as trained on.
    validation_loss, validation_accuracy : float or None
        Of the simulated network on samples held out.
    gradient_norms : tuple of float
        Norm of the weights' gradient by layer, the readout last, mean over the batches.
    """

    epoch: int
    loss: float
    validation_loss: float | None
    validation_accuracy: float | None
    gradient_norms: tuple[float, ...]
    learning_rate: float
    seconds: float


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
    spec = AdmmSpec(seed=problem.gradient.seed, rate=problem.gradient.rate, precision="float64")
    network = initial_weights(replace(problem, admm=spec)).network(problem.network)
    box = problem.dictionary.weight_box
    layers = tuple(replace(layer, weights=np.clip(layer.weights, -box, box)) for layer in network.layers)
    return replace(network, layers=layers)


def device_of(name: str) -> torch.device:
    """Return the device of a name; "auto" is a GPU where there is one.

    Raises
    ------
    ShapeError
        "cuda" without a GPU.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise ShapeError("device: 'cuda', but torch finds no GPU here")
    return torch.device(name)


class GradientTraining:
    """The loop; `run` goes from the start, or from a checkpoint, to the end."""

    def __init__(
        self,
        problem: Problem,
        *,
        time_limit: float | None = None,
        progress: Progress | None = None,
        checkpoint: Path | None = None,
    ) -> None:
        """Put network and data in place; raises LoweringError and ShapeError for what cannot be trained."""
        spec = self.spec = problem.gradient
        self.problem, self.progress, self.checkpoint = problem, progress, checkpoint
        self.deadline = None if time_limit is None else time.perf_counter() + time_limit
        self.device = device_of(spec.device)
        dtype = torch.float64 if spec.precision == "float64" else torch.float32
        surrogate = Surrogate(spec.surrogate, spec.width)
        start = starting_network(problem)
        settings = spec.method, spec.scale, dtype
        made = NetworkModule(start, surrogate, *settings, normalize=spec.normalize)
        self.module = made.to(self.device)
        n, steps, _ = problem.inputs.shape
        every = problem.network.supervise == "all"
        self.held_out = held_out_rows(n, spec.validation, spec.seed)
        self.rows = np.setdiff1d(np.arange(n), self.held_out)
        each = steps if every else 1
        self.inputs = torch.tensor(problem.inputs, dtype=dtype, device=self.device)
        encoded = problem.encoded_targets().reshape(n, each, -1)
        self.targets = torch.tensor(encoded, dtype=dtype, device=self.device)
        self.weights = torch.tensor(problem.row_weights().reshape(n, each), dtype=dtype, device=self.device)
        self.regularization = problem.training.regularization or 0.0
        self.optimizer = self._optimizer()
        self.history: tuple[Epoch, ...] = ()
        self.best: tuple[float, int, dict[str, Tensor]] = (-np.inf, 0, {})

    def _optimizer(self) -> torch.optim.Optimizer:
        spec, parameters = self.spec, self.module.parameters()
        if spec.optimizer == "sgd":
            return torch.optim.SGD(parameters, spec.learning_rate, MOMENTUM, weight_decay=spec.weight_decay)
        return torch.optim.AdamW(parameters, spec.learning_rate, weight_decay=spec.weight_decay)

    def run(self) -> GradientRun:
        """Train until a rule says stop.

        Raises
        ------
        SolverFailed
            A loss that is not finite; the last checkpoint stays.
        """
        if self.checkpoint is not None and self.checkpoint.exists():
            self._resume(self.checkpoint)
        stopped = self._stopped()
        while stopped is None:
            self._epoch(len(self.history))
            stopped = self._stopped()
            due = len(self.history) % self.spec.checkpoint_every == 0 or stopped is not None
            if self.checkpoint is not None and due:
                save_checkpoint(self.checkpoint, self)
        if len(self.held_out) and self.best[2]:
            self.module.load_state_dict(self.best[2])
        return GradientRun(self.problem, self.module.network(), stopped, self.history)

    def _resume(self, path: Path) -> None:
        rows = load_checkpoint(path, self)
        self.history = tuple(Epoch(**{**row, "gradient_norms": tuple(row["gradient_norms"])}) for row in rows)

    def _stopped(self) -> str | None:
        spec, done = self.spec, len(self.history)
        if spec.patience and len(self.held_out) and done - self.best[1] >= spec.patience:
            return "validation"
        if done >= spec.epochs:
            return "epochs"
        if self.deadline is not None and time.perf_counter() > self.deadline:
            return "time"
        return None

    def _rate(self, epoch: int) -> float:
        """Return the learning rate of an epoch: half a cosine from the first to 0."""
        first = self.spec.learning_rate
        if self.spec.schedule == "constant":
            return first
        return 0.5 * first * (1.0 + float(np.cos(np.pi * epoch / self.spec.epochs)))

    def objective(self, rows: Tensor) -> Tensor:
        """Return the objective on some samples, scaled to all: what is trained on."""
        mixed = self.spec.precision == "mixed"
        with torch.autocast(self.device.type, torch.bfloat16) if mixed else nullcontext():
            outputs = self.module(self.inputs[rows])
        outputs = outputs.to(self.targets.dtype).reshape(len(rows), self.targets.shape[1], -1)
        values = LOSSES[self.problem.training.loss](outputs, self.targets[rows])
        loss = (self.weights[rows] * values).mean()
        if self.regularization:
            loss = loss + self.regularization * penalty(
                self.module.output_weights, self.problem.training.penalty
            )
        return loss

    def _epoch(self, epoch: int) -> None:
        begun, spec = time.perf_counter(), self.spec
        rate = self._rate(epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        order = np.random.default_rng([spec.seed, epoch]).permutation(self.rows)
        batches = np.array_split(order, max(1, round(len(order) / spec.batch)))
        losses, norms = [], []
        self.module.train()
        for batch in batches:
            self.optimizer.zero_grad()
            loss = self.objective(torch.from_numpy(batch).to(self.device))
            if not torch.isfinite(loss):
                raise SolverFailed(
                    f"gradient: the loss is {float(loss.detach())} in epoch {epoch + 1}; take a smaller "
                    f"gradient.learning_rate (got {spec.learning_rate:g})"
                )
            loss.backward()
            norms.append([float(torch.linalg.vector_norm(p.grad)) for p in self._weights()])
            self.optimizer.step()
            self._into_box()
            losses.append(float(loss.detach()))
        self._record(epoch, float(np.mean(losses)), np.mean(norms, axis=0), rate, begun)

    def _weights(self) -> list[nn.Parameter]:
        layers: Any = self.module.layers
        return [*(layer.weights for layer in layers), self.module.output_weights]

    @torch.no_grad()
    def _into_box(self) -> None:
        box = self.problem.dictionary.weight_box
        for name, parameter in self.module.named_parameters():
            if name != "output_weights":
                parameter.clamp_(-box, box)

    def _record(self, epoch: int, loss: float, norms: Any, rate: float, begun: float) -> None:
        held = self._held_out()
        seconds = time.perf_counter() - begun
        one = Epoch(epoch + 1, loss, *held, tuple(float(x) for x in norms), rate, seconds)
        self.history = (*self.history, one)
        value = -(held[0] or 0.0) if held[1] is None else held[1]
        if len(self.held_out) and value > self.best[0]:
            kept = {name: tensor.clone() for name, tensor in self.module.state_dict().items()}
            self.best = value, epoch + 1, kept
        if self.progress is not None:
            self.progress(f"epoch {epoch + 1}, objective {loss:.4g}", (epoch + 1) / self.spec.epochs)

    def _held_out(self) -> tuple[float | None, float | None]:
        """Return mean loss and accuracy of the simulated network on samples held out."""
        if not len(self.held_out):
            return None, None
        problem, rows = self.problem, self.held_out
        outputs = simulate(self.module.network(), problem.inputs[rows]).outputs
        table = torch.from_numpy(outputs.reshape(len(rows), self.targets.shape[1], -1))
        wanted = self.targets[torch.from_numpy(rows)].double().cpu()
        loss = LOSSES[problem.training.loss](table, wanted).mean()
        shares = problem.target_code.accuracies(outputs, "targets", np.asarray(problem.targets)[rows])
        return float(loss), None if shares is None else float(np.mean(shares))


def train_gradient(
    problem: Problem,
    *,
    time_limit: float | None = None,
    progress: Progress | None = None,
    checkpoint: Path | None = None,
) -> GradientRun:
    """Train a problem's network by gradients, as its table ``[gradient]`` says.

    Parameters
    ----------
    time_limit : float, optional
        Seconds, after which no epoch begins.
    progress : callable, optional
        Called with what is being done and the finished share of it.
    checkpoint : path, optional
        File to keep the training in, and to go on from if it is there.

    Raises
    ------
    LoweringError, ShapeError, SolverFailed, ProblemFileError
        What cannot be trained, a loss that is not finite, a checkpoint that cannot be read or written.
    """
    return GradientTraining(
        problem, time_limit=time_limit, progress=progress,
        checkpoint=None if checkpoint is None else Path(checkpoint),
    ).run()  # fmt: skip


def history_rows(history: tuple[Epoch, ...]) -> list[dict[str, Any]]:
    """Return epochs as plain numbers, ready for JSON."""
    return [{**asdict(one), "gradient_norms": list(one.gradient_norms)} for one in history]
