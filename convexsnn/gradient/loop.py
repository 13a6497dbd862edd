"""The training loop: batches, optimizer, learning rates, held-out samples and checkpoints.

Subclasses of `Loop` define the module, the loss and the score. All random numbers come from the seed. A run
that resumes from a checkpoint takes the same steps as an uninterrupted run.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor, nn

from convexsnn.arrays import FloatArray, IntArray, choice
from convexsnn.errors import ConvexSNNError, ShapeError, SolverFailed
from convexsnn.fields import keys_of
from convexsnn.gradient.checkpoint import load_checkpoint, save_checkpoint
from convexsnn.problem.specs import GradientSpec
from convexsnn.tasks.train_test import held_out_rows
from convexsnn.threads import thread_limit
from convexsnn.training.budget import Budget
from convexsnn.training.history import History
from convexsnn.training.score import Score

MOMENTUM = 0.9


@dataclass(frozen=True)
class Epoch:
    """Results of one epoch.

    Attributes
    ----------
    loss : float
        Mean of the training objective over the batches of the epoch.
    validation_loss, validation_accuracy : float or None
        On held-out samples.
    gradient_norms : tuple of float
        Gradient norm of each layer's weights, mean over the batches; the readout is last.
    """

    epoch: int
    loss: float
    validation_loss: float | None
    validation_accuracy: float | None
    gradient_norms: tuple[float, ...]
    learning_rate: float
    seconds: float


def device_of(name: str) -> torch.device:
    """Return the device of a name; "auto" is a GPU if one is available, else the CPU.

    Raises
    ------
    ShapeError
        Unknown name, or "cuda" without a GPU.
    """
    choice("device", name, keys_of(GradientSpec)["device"].choices)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise ShapeError("device: 'cuda', but torch finds no GPU")
    return torch.device(name)


@contextmanager
def torch_threads() -> Iterator[None]:
    """Let torch use the number of threads that is set for this package; without one, torch keeps its own."""
    before = torch.get_num_threads()
    torch.set_num_threads(thread_limit() or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def float_type(precision: str) -> torch.dtype:
    """Return the type in which weights and inputs are stored."""
    return torch.float64 if precision == "float64" else torch.float32


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Return whether all entries of floating-point tensors are finite; synchronizes with the device once."""
    return bool(torch.stack([torch.isfinite(one).all() for one in tensors]).all())


def batches(rows: IntArray, most: int) -> list[IntArray]:
    """Return rows in the fewest batches of at most `most` rows; their sizes differ by at most one."""
    return np.array_split(rows, -(-len(rows) // most))


class Loop(ABC):
    """Training of a module; `go` runs from the start, or from a checkpoint, to the end.

    Parameters
    ----------
    spec : GradientSpec
        The table ``[gradient]``.
    module : nn.Module
        Module on its device.
    samples : int
        Number of samples from which batches are drawn.
    budget : Budget
        No epoch starts after the deadline, and one that it stops half-way is undone. The checkpoint is
        written; if it exists, training resumes from it.
    """

    def __init__(self, spec: GradientSpec, module: nn.Module, samples: int, budget: Budget) -> None:
        """Set up module and optimizer; raises ShapeError for an invalid `validation` share."""
        self.spec, self.module, self.budget = spec, module, budget
        self.held_out = held_out_rows(samples, spec.validation, spec.seed)
        self.rows = np.setdiff1d(np.arange(samples), self.held_out)
        parameters = module.parameters()
        self.optimizer: torch.optim.Optimizer = (
            torch.optim.SGD(parameters, spec.learning_rate, MOMENTUM, weight_decay=spec.weight_decay)
            if spec.optimizer == "sgd"
            else torch.optim.AdamW(parameters, spec.learning_rate, weight_decay=spec.weight_decay)
        )
        self._masks = torch.Generator()
        self.history: History[Epoch] = History()
        self.best: dict[str, Tensor] = {}

    @abstractmethod
    def loss(self, rows: IntArray) -> Tensor:
        """Return the training objective on the samples `rows`; `go` calls it under `precision`."""

    @abstractmethod
    def score(self, rows: IntArray) -> Score:
        """Return the score on the samples `rows`, which are held out."""

    @abstractmethod
    def weights(self) -> list[nn.Parameter]:
        """Return the weights of every layer; the history has the norms of their gradients."""

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Return the settings, besides the spec, that a resumed run must share with the checkpoint."""

    def dropped(self, inputs: Tensor) -> Tensor:
        """Return inputs (n, k, ...) of a training step with dropout; the mask is the same for all k.

        Gal & Ghahramani, "A theoretically grounded application of dropout in recurrent networks", 2016.
        """
        share = self.spec.dropout
        if not share or not self.module.training:
            return inputs
        mask = torch.rand((len(inputs), 1, *inputs.shape[2:]), generator=self._masks) >= share
        return inputs * (mask / (1.0 - share)).to(inputs.device, inputs.dtype)

    def go(self) -> str:
        """Train until a stopping rule holds; return its name: "epochs", "validation" or "time".

        Raises
        ------
        SolverFailed
            A loss, gradient or weight is not finite; the last checkpoint stays.
        ShapeError
            A batch is too small for normalisation.
        """
        # convolutions on a GPU must add in a fixed order
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True), torch_threads():
            return self._go()

    def _go(self) -> str:
        file = self.budget.checkpoint
        if file is not None and file.exists():
            self.history = load_checkpoint(file, self, Epoch)
        stopped = self._stopped()
        while stopped is None:
            self._epoch(len(self.history))
            stopped = self._stopped()
            due = len(self.history) % self.spec.checkpoint_every == 0 or stopped is not None
            if file is not None and due:
                save_checkpoint(file, self)
        if self.best:
            self.module.load_state_dict(self.best)
        return stopped

    def _stopped(self) -> str | None:
        patience = self.spec.patience if len(self.held_out) else None
        return self.history.stopped(self.spec.epochs, "epochs", patience, self.budget)

    def _rate(self, epoch: int) -> float:
        """Return the learning rate of an epoch: constant, or half a cosine from the first rate to 0."""
        first = self.spec.learning_rate
        if self.spec.schedule == "constant":
            return first
        return 0.5 * first * (1.0 + float(np.cos(np.pi * epoch / self.spec.epochs)))

    def _precision(self) -> Any:
        device = next(self.module.parameters()).device.type
        return torch.autocast(device, torch.bfloat16) if self.spec.precision == "mixed" else nullcontext()

    def _epoch(self, epoch: int) -> None:
        begun, spec = time.perf_counter(), self.spec
        rate = self._rate(epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        order = np.random.default_rng([spec.seed, epoch]).permutation(self.rows)
        self._masks.manual_seed(int(np.random.default_rng([spec.seed, epoch, 1]).integers(1 << 62)))
        losses: list[float] = []
        norms: list[Tensor] = []
        before = None if self.budget.deadline is None else self._state()
        self.module.train()
        for batch in batches(order, spec.batch):
            if losses and before is not None and self.budget.is_over:
                return self._back(before)
            self.optimizer.zero_grad()
            try:
                with self._precision():
                    loss = self.loss(batch)
            except ConvexSNNError:
                raise
            except ValueError as error:  # from torch, if normalisation sees a single value
                raise ShapeError(f"gradient.batch: {spec.batch}; a batch of {len(batch)}: {error}") from error
            if not torch.isfinite(loss):
                self._fail(f"the loss is {float(loss.detach())}", epoch)
            loss.backward()
            # units with NaN weights never fire, so the loss stays finite: check gradients, and weights below
            if not all_finite(p.grad for p in self.module.parameters() if p.grad is not None):
                self._fail("a gradient is not finite", epoch)
            grads = [p.grad for p in self.weights() if p.grad is not None]
            norms.append(torch.stack([torch.linalg.vector_norm(one) for one in grads]).double())
            self.optimizer.step()
            losses.append(float(loss.detach()))
        if not all_finite(self.module.state_dict().values()):
            self._fail("a weight is not finite", epoch)
        mean = torch.stack(norms).mean(dim=0).cpu().numpy()
        self._record(epoch, float(np.mean(losses)), mean, rate, begun)

    def _state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return a copy of all that an epoch changes; its random numbers come from its number."""
        return deepcopy(self.module.state_dict()), deepcopy(self.optimizer.state_dict())

    def _back(self, state: tuple[dict[str, Any], dict[str, Any]]) -> None:
        self.module.load_state_dict(state[0])
        self.optimizer.load_state_dict(state[1])
        self.module.eval()

    def _fail(self, what: str, epoch: int) -> NoReturn:
        raise SolverFailed(
            f"gradient: {what} in epoch {epoch + 1}; take a smaller gradient.learning_rate (got "
            f"{self.spec.learning_rate:g}), weight_decay ({self.spec.weight_decay:g}) or scale "
            f"({self.spec.scale:g}), or a larger gradient.width ({self.spec.width:g})"
        )

    def _record(self, epoch: int, loss: float, norms: FloatArray, rate: float, begun: float) -> None:
        self.module.eval()
        held_out = self.score(self.held_out) if len(self.held_out) else None
        seconds = time.perf_counter() - begun
        row = Epoch(
            epoch + 1,
            loss,
            None if held_out is None else held_out.loss,
            None if held_out is None else held_out.accuracy,
            tuple(float(x) for x in norms),
            rate,
            seconds,
        )
        self.history = self.history.after(row, held_out)
        if self.history.improved:
            self.best = {name: tensor.clone() for name, tensor in self.module.state_dict().items()}
        self.budget.report(f"epoch {epoch + 1}, objective {loss:.4g}", (epoch + 1) / self.spec.epochs)
