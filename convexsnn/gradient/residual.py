"""Residual spiking networks, up to the shape of ResNet-50, with batch-normalised input currents [L20].

    I = norm(W s),   s' = LIF(I),   last layer of a block:   I = norm(W s) + shortcut

A shortcut adds to the input current of the last layer of a block, so that every layer sends spikes. If the
shape changes, the shortcut is a normalised 1 × 1 convolution. Images are a constant input current of the
first layer. The readout is linear in the mean of the spikes over time and space. At the start a block adds
only a small current (after Goyal et al., "Accurate, large minibatch SGD", 2017). A spike of the shortcut is a
current of 1, which reaches the threshold; so an untrained block passes on the spikes of its input.

[L20] Ledinauskas, Ruseckas, Juršėnas, Buračas, "Training deep spiking neural networks", 2020.
[H16] He, Zhang, Ren, Sun, "Deep residual learning for image recognition", 2016: the shapes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor, nn

from convexsnn.arrays import IntArray, between, choice, digest, real_array, whole
from convexsnn.errors import ShapeError
from convexsnn.gradient.lif import GRADIENTS, lif
from convexsnn.gradient.loop import Epoch, Loop, batches, device_of, float_type
from convexsnn.gradient.surrogate import Surrogate
from convexsnn.problem.specs import GradientSpec
from convexsnn.training.budget import Budget, Progress
from convexsnn.training.score import Score

# layers: (blocks of each of four stages, whether a block is a bottleneck of 1 × 1, 3 × 3, 1 × 1)
SHAPES = {
    10: ((1, 1, 1, 1), False),
    18: ((2, 2, 2, 2), False),
    34: ((3, 4, 6, 3), False),
    50: ((3, 4, 6, 3), True),
}
WIDER = 4  # output channels of a bottleneck per inner channel
BRANCH = 0.2  # initial factor of a block's own current, so that spikes of the shortcut pass unchanged


class SpikingConvolution(nn.Module):
    """A convolution without bias, batch normalisation and LIF neurons, for all steps at once."""

    def __init__(
        self, channels: int, filters: int, kernel: int, stride: int, surrogate: Surrogate, gradient: str,
        leak: float,
    ) -> None:  # fmt: skip
        """Draw the weights from torch's generator."""
        super().__init__()
        self.surrogate, self.gradient, self.leak = surrogate, gradient, leak
        self.convolution = nn.Conv2d(channels, filters, kernel, stride, kernel // 2, bias=False)
        nn.init.kaiming_normal_(self.convolution.weight, mode="fan_out")
        self.norm = nn.BatchNorm2d(filters)

    def extra_repr(self) -> str:
        """Return the settings of the neurons."""
        return f"{self.surrogate}, {self.gradient}, leak={self.leak}"

    def current(self, signal: Tensor) -> Tensor:
        """Return the normalised input current, (T, n, filters, h, w), of a signal (T, n, channels, H, W)."""
        images, convolution = signal.flatten(0, 1), self.convolution
        # On a single pixel a stride has no effect. With a stride, in bfloat16 on a CPU, torch 2.13 leaves
        # part of the weights' gradient unset.
        stride = convolution.stride if images.shape[-2:].numel() > 1 else 1
        flat = self.norm(nn.functional.conv2d(images, convolution.weight, None, stride, convolution.padding))
        return flat.unflatten(0, signal.shape[:2]).to(self.norm.weight.dtype)

    def fire(self, current: Tensor) -> Tensor:
        """Return the spikes of a current."""
        return lif(current, self.leak, surrogate=self.surrogate, gradient=self.gradient)

    def forward(self, signal: Tensor) -> Tensor:
        """Return the spikes of a signal."""
        return self.fire(self.current(signal))


class ResidualBlock(nn.Module):
    """Two 3 × 3 layers, or a bottleneck of three layers, and their shortcut."""

    def __init__(
        self, channels: int, filters: int, stride: int, bottleneck: bool, *settings: Any
    ) -> None:  # fmt: skip
        """Draw the weights from torch's generator."""
        super().__init__()
        self.filters = filters * (WIDER if bottleneck else 1)
        sizes = [(1, 1), (3, stride), (1, 1)] if bottleneck else [(3, stride), (3, 1)]
        outs = [filters] * (len(sizes) - 1) + [self.filters]
        layers = zip([channels, *outs[:-1]], outs, sizes, strict=True)
        self.layers = nn.ModuleList(
            SpikingConvolution(before, after, *size, *settings) for before, after, size in layers
        )
        last: Any = self.layers[-1]
        nn.init.constant_(last.norm.weight, BRANCH)
        self.past: nn.Module | None = None
        if stride > 1 or channels != self.filters:
            past = nn.Conv2d(channels, self.filters, 1, stride, bias=False)
            self.past = nn.Sequential(past, nn.BatchNorm2d(self.filters))

    def forward(self, signal: Tensor) -> Tensor:
        """Return the spikes of the block's last layer."""
        *first, last = self.layers
        inner = signal
        for layer in first:
            inner = layer(inner)
        shortcut = signal
        if self.past is not None:
            shortcut = self.past(signal.flatten(0, 1)).unflatten(0, signal.shape[:2])
        current: Tensor = last.current(inner)  # type: ignore[operator]
        return last.fire(current + shortcut)  # type: ignore[operator]


class ResidualNetwork(nn.Module):
    """A residual spiking network in the shapes of [H16].

    Parameters
    ----------
    depth : {10, 18, 34, 50}
        Number of layers with weights, without shortcuts.
    outputs : int
        Number of classes C.
    channels, width : int
        Channels of the images and of the first layer; the stages have 1, 2, 4 and 8 times `width` channels.
    steps : int
        Number of steps T.
    leak : float
        β of all neurons; the threshold is 1 and the reset subtracts it.
    seed : int
        Seed of the weights.

    Raises
    ------
    ShapeError
        Unknown depth, or a size that is not a positive whole number.
    """

    def __init__(
        self, depth: int = 50, outputs: int = 10, *, channels: int = 3, width: int = 64, steps: int = 10,
        surrogate: Surrogate | None = None, gradient: str = "exodus", leak: float = 0.9, seed: int = 0,
    ) -> None:  # fmt: skip
        """Draw the weights."""
        super().__init__()
        if not isinstance(depth, int) or depth not in SHAPES:
            raise ShapeError(f"depth: expected one of {', '.join(map(str, SHAPES))}, got {depth!r}")
        sizes = {"outputs": outputs, "channels": channels, "width": width, "steps": steps}
        for name, value in sizes.items():
            whole(name, value)
        choice("gradient", gradient, GRADIENTS)
        whole("seed", seed, least=0)
        between("leak", leak, 0, 1)
        if surrogate is not None and not isinstance(surrogate, Surrogate):
            raise ShapeError(f"surrogate: expected a Surrogate, got {surrogate!r}")
        self.steps, (blocks, bottleneck) = steps, SHAPES[depth]
        self.surrogate = surrogate or Surrogate()
        settings = self.surrogate, gradient, leak
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.stem = SpikingConvolution(channels, width, 7, 2, *settings)
            # the maximum over a square is 1 if it has a spike; squares must not overlap, since a GPU would
            # add their gradients in an arbitrary order, and runs would differ
            self.pool = nn.MaxPool2d(2, ceil_mode=True)
            stages, before = [], width
            for stage, count in enumerate(blocks):
                for k in range(count):
                    stride = 2 if stage and not k else 1
                    stages.append(ResidualBlock(before, width << stage, stride, bottleneck, *settings))
                    before = stages[-1].filters
            self.blocks = nn.ModuleList(stages)
            self.readout = nn.Linear(before, outputs)

    def extra_repr(self) -> str:
        """Return the number of steps."""
        return f"steps={self.steps}"

    def forward(self, images: Tensor) -> Tensor:
        """Return outputs, (n, C), of images (n, channels, h, w)."""
        current = self.stem.current(images[None])  # the same in every step
        spikes = self.stem.fire(current.expand(self.steps, *current.shape[1:]))
        signal = self.pool(spikes.flatten(0, 1)).unflatten(0, spikes.shape[:2])
        for block in self.blocks:
            signal = block(signal)
        return self.readout(signal.mean(dim=(0, 3, 4)))

    def convolutions(self) -> list[SpikingConvolution]:
        """Return the spiking layers, from the first to the last."""
        return [part for part in self.modules() if isinstance(part, SpikingConvolution)]

    def hidden_weights(self) -> list[nn.Parameter]:
        """Return the weights of every spiking layer."""
        weights: list[Any] = [layer.convolution.weight for layer in self.convolutions()]
        return weights

    def network(self) -> NoReturn:
        """Raise ShapeError: the numpy simulator has no residual layers."""
        raise ShapeError(
            "residual: the simulator runs chains of layers, without shortcuts, padding or pooled spikes; "
            "use this network in torch"
        )


def scaled_images(images: np.ndarray, side: int, channels: int = 3) -> np.ndarray:
    """Return grey images (n, h, w) scaled bilinearly to (n, channels, side, side), with equal channels.

    Raises
    ------
    ShapeError
        `images` does not have three dimensions, or a size is not a positive whole number.
    """
    whole("side", side)
    whole("channels", channels)
    grey = torch.tensor(real_array("images", images, ("n", "h", "w")), dtype=torch.float32)[:, None]
    scaled = nn.functional.interpolate(grey, size=(side, side), mode="bilinear", antialias=True)
    return scaled.expand(-1, channels, -1, -1).contiguous().numpy()


@dataclass(frozen=True, eq=False)
class ImageRun:
    """Result of a training; the module has the best weights on held-out samples, else the last weights."""

    module: nn.Module
    stopped_by: str
    history: tuple[Epoch, ...]


class ImageTraining(Loop):
    """The training loop of a network for images, with cross entropy as its loss."""

    def __init__(
        self,
        module: ResidualNetwork,
        images: np.ndarray,
        labels: np.ndarray,
        spec: GradientSpec,
        budget: Budget,
    ) -> None:
        """Move module and images to the device; raises ShapeError for arrays of a wrong shape or range."""
        if not isinstance(module, ResidualNetwork):
            raise ShapeError(f"module: expected a ResidualNetwork, got {type(module).__name__}")
        channels, classes = module.stem.convolution.in_channels, module.readout.out_features
        images = real_array("images", images, ("n", ("channels", channels), "h", "w"))
        labels = np.asarray(labels)
        if labels.shape != images.shape[:1] or labels.dtype.kind not in "iu":
            raise ShapeError(
                f"labels: expected {len(images)} whole numbers, got {labels.dtype} {labels.shape}"
            )
        if labels.min() < 0 or labels.max() >= classes:
            raise ShapeError(f"labels: expected 0 to {classes - 1}, got {labels.min()} to {labels.max()}")
        device, dtype = device_of(spec.device), float_type(spec.precision)
        super().__init__(spec, module.to(device, dtype), len(images), budget)
        self.images = torch.tensor(images, dtype=dtype, device=device)
        self.labels = torch.tensor(labels, dtype=torch.int64, device=device)
        self.start = digest(**{name: value.cpu().numpy() for name, value in module.state_dict().items()})

    def loss(self, rows: IntArray) -> Tensor:
        """Return the mean cross entropy."""
        return nn.functional.cross_entropy(*self._outputs(rows))

    def _outputs(self, rows: IntArray) -> tuple[Tensor, Tensor]:
        at = torch.from_numpy(rows).to(self.images.device)
        return self.module(self.dropped(self.images[at])).to(self.images.dtype), self.labels[at]

    @torch.no_grad()
    def score(self, rows: IntArray) -> Score:
        """Return mean loss and accuracy of the module with fixed normalisation."""
        losses, right = 0.0, 0
        for part in batches(rows, self.spec.batch):
            with self._precision():
                outputs, labels = self._outputs(part)
            losses += float(nn.functional.cross_entropy(outputs, labels, reduction="sum"))
            right += int((outputs.argmax(dim=1) == labels).sum())
        return Score(losses / len(rows), right / len(rows))

    def weights(self) -> list[nn.Parameter]:
        """Return the weights of every layer and of the readout."""
        module: Any = self.module
        return [*module.hidden_weights(), module.readout.weight]

    def identity(self) -> dict[str, Any]:
        """Return the structure of the module, and digests of its starting values and of the data."""
        data = digest(images=self.images.cpu().numpy(), labels=self.labels.cpu().numpy())
        return {"module": repr(self.module), "start": self.start, "data": data}


def train_images(
    module: ResidualNetwork,
    images: np.ndarray,
    labels: np.ndarray,
    spec: GradientSpec | None = None,
    *,
    time_limit: float | None = None,
    progress: Progress | None = None,
    checkpoint: str | Path | None = None,
) -> ImageRun:
    """Train a residual network on labelled images, by cross entropy.

    Parameters
    ----------
    module : ResidualNetwork
        Trained in place. To resume from a checkpoint, it must have the starting values of that training.
    images : (n, channels, h, w) array
    labels : (n,) array
        Class of each image, a whole number.
    spec : GradientSpec, optional
        Epochs, batches, optimizer and similar settings; those of neurons come from the module.
    time_limit, progress, checkpoint
        As in `Budget.of`.

    Raises
    ------
    ShapeError, SolverFailed, ProblemFileError
        Arrays of a wrong shape, a loss that is not finite, or a checkpoint that cannot be read or written.
    """
    budget = Budget.of(time_limit, progress, checkpoint)
    training = ImageTraining(module, images, labels, spec or GradientSpec(), budget)
    stopped = training.go()
    return ImageRun(module, stopped, training.history.rows)
