"""The training loop: batches, optimizer, learning rates, samples held out, checkpoints.

What is trained, on which loss and who judges it, is for the classes that build on `Loop`. Everything random
comes from the seed, and a run that goes on from a checkpoint takes the steps that it would have taken.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
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
from convexsnn.tasks.split import held_out_rows
from convexsnn.threads import asked_threads
from convexsnn.training.budget import Budget
from convexsnn.training.history import History
from convexsnn.training.score import Score

MOMENTUM = 0.9


@dataclass(frozen=True)
class Epoch:
    """What an epoch ended with.

    Attributes
    ----------
    loss : float
        Mean of the objective over the epoch's batches, as trained on.
    validation_loss, validation_accuracy : float or None
        On samples held out.
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


def device_of(name: str) -> torch.device:
    """Return the device of a name; "auto" is a GPU where there is one.

    Raises
    ------
    ShapeError
        Another name, or "cuda" without a GPU.
    """
    choice("device", name, keys_of(GradientSpec)["device"].choices)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise ShapeError("device: 'cuda', but torch finds no GPU here")
    return torch.device(name)


@contextmanager
def torch_threads() -> Iterator[None]:
    """Let torch use as many threads as were asked for of this package; its own number if none were."""
    before = torch.get_num_threads()
    torch.set_num_threads(asked_threads() or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def float_type(precision: str) -> torch.dtype:
    """Return what weights and inputs are kept in."""
    return torch.float64 if precision == "float64" else torch.float32


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Return whether no entry of floating-point tensors is NaN or infinite; asks their device once."""
    return bool(torch.stack([torch.isfinite(one).all() for one in tensors]).all())


def batches(rows: IntArray, most: int) -> list[IntArray]:
    """Return rows in as few parts as have `most` or less each, of sizes one apart."""
    return np.array_split(rows, -(-len(rows) // most))


class Loop(ABC):
    """Training of a module on `samples`; `go` runs from the start, or from a checkpoint, to the end.

    Parameters
    ----------
    spec : GradientSpec
        The table ``[gradient]``.
    module : nn.Module
        On its device.
    samples : int
        How many there are to draw batches from.
    budget : Budget
        After its deadline no epoch begins; its checkpoint is written, and gone on from if it is there.
    """

    def __init__(self, spec: GradientSpec, module: nn.Module, samples: int, budget: Budget) -> None:
        """Put module and optimizer in place; raises ShapeError for what may not be."""
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
        """Return what is trained on, of some samples; `go` calls it under `precision`."""

    @abstractmethod
    def score(self, rows: IntArray) -> Score:
        """Return loss, and accuracy where there is one, on held-out samples."""

    @abstractmethod
    def weights(self) -> list[nn.Parameter]:
        """Return each layer's weights, whose gradients the history has the norms of."""

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Return what must be the same for a checkpoint to be gone on from, beside the spec."""

    def dropped(self, inputs: Tensor) -> Tensor:
        """Return inputs (n, k, ...) of a training step with a share of them left out, the same for all k.

        Gal & Ghahramani, "A theoretically grounded application of dropout in recurrent networks", 2016.
        """
        share = self.spec.dropout
        if not share or not self.module.training:
            return inputs
        kept = torch.rand((len(inputs), 1, *inputs.shape[2:]), generator=self._masks) >= share
        return inputs * (kept / (1.0 - share)).to(inputs.device, inputs.dtype)

    def go(self) -> str:
        """Train until a rule says stop; return which: "epochs", "validation" or "time".

        Raises
        ------
        SolverFailed
            A loss, gradient or weight that is not finite; the last checkpoint stays.
        ShapeError
            Batches too small to be normalised.
        """
        # on a GPU, convolutions that add in one order
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
        """Return the learning rate of an epoch: half a cosine from the first to 0."""
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
        losses, norms = [], []
        self.module.train()
        for batch in batches(order, spec.batch):
            self.optimizer.zero_grad()
            try:
                with self._precision():
                    loss = self.loss(batch)
            except ConvexSNNError:
                raise
            except ValueError as error:  # torch's, of a single value to normalise
                raise ShapeError(f"gradient.batch: {spec.batch}; one had {len(batch)}: {error}") from error
            if not torch.isfinite(loss):
                self._fail(f"the loss is {float(loss.detach())}", epoch)
            loss.backward()
            # weights that are NaN never fire, and the loss stays finite: it shows here, or in the state below
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
