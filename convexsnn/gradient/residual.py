"""Residual spiking networks, up to the shape of ResNet-50, with batch normalised input currents [L20].

    I = norm(W s),   s' = LIF(I),   last layer of a block:   I = norm(W s) + shortcut

Shortcuts add to the input current of a block's last layer, so that every layer sends spikes; where shapes
change, a shortcut is a normalised 1 × 1 convolution. Images are a constant input current of the first layer;
the readout is linear in the spikes' mean over time and space. A block starts with little of its own current
(after Goyal et al., "Accurate, large minibatch SGD", 2017): a spike that a shortcut brings is a current of 1,
which meets the threshold, so that depth does no harm before there is something to add.

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

from convexsnn.arrays import IntArray, choice, digest, real_array, whole
from convexsnn.errors import ShapeError
from convexsnn.gradient.lif import GRADIENTS, lif
from convexsnn.gradient.loop import Epoch, Loop, Progress, batches, device_of, float_type
from convexsnn.gradient.surrogate import Surrogate
from convexsnn.specs import GradientSpec

# layers: (blocks of each of four stages, whether a block is a bottleneck of 1 × 1, 3 × 3, 1 × 1)
SHAPES = {
    10: ((1, 1, 1, 1), False),
    18: ((2, 2, 2, 2), False),
    34: ((3, 4, 6, 3), False),
    50: ((3, 4, 6, 3), True),
}
WIDER = 4  # channels that leave a bottleneck, for each that is in it
BRANCH = (
    0.2  # factor of a block's own current at the start: the shortcut's spikes pass, at first, as they are
)


class SpikingConvolution(nn.Module):
    """A convolution without bias, batch normalisation, and LIF neurons; all steps at once."""

    def __init__(
        self, channels: int, filters: int, kernel: int, stride: int, surrogate: Surrogate, gradient: str,
        leak: float,
    ) -> None:  # fmt: skip
        """Draw weights from torch's generator."""
        super().__init__()
        self.surrogate, self.gradient, self.leak = surrogate, gradient, leak
        self.convolution = nn.Conv2d(channels, filters, kernel, stride, kernel // 2, bias=False)
        nn.init.kaiming_normal_(self.convolution.weight, mode="fan_out")
        self.norm = nn.BatchNorm2d(filters)

    def extra_repr(self) -> str:
        """Return what the neurons do."""
        return f"{self.surrogate}, {self.gradient}, leak={self.leak}"

    def current(self, signal: Tensor) -> Tensor:
        """Return the normalised input current, (T, n, filters, h, w), of a signal (T, n, channels, H, W)."""
        images, made = signal.flatten(0, 1), self.convolution
        # On a single pixel a stride does nothing, but in bfloat16 on a CPU torch 2.13 leaves part of the
        # weights' gradient unset with it.
        stride = made.stride if images.shape[-2:].numel() > 1 else 1
        flat = self.norm(nn.functional.conv2d(images, made.weight, None, stride, made.padding))
        return flat.unflatten(0, signal.shape[:2]).to(self.norm.weight.dtype)

    def fire(self, current: Tensor) -> Tensor:
        """Return the spikes of a current."""
        return lif(current, self.leak, surrogate=self.surrogate, gradient=self.gradient)

    def forward(self, signal: Tensor) -> Tensor:
        """Return the spikes of a signal."""
        return self.fire(self.current(signal))


class ResidualBlock(nn.Module):
    """Two 3 × 3 layers, or a bottleneck of three, and what goes past them."""

    def __init__(
        self, channels: int, filters: int, stride: int, bottleneck: bool, *settings: Any
    ) -> None:  # fmt: skip
        """Draw weights from torch's generator."""
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
        Layers with weights, shortcuts aside.
    outputs : int
        Classes C.
    channels, width : int
        Of the images, and of the first layer; the stages have 1, 2, 4 and 8 times the width.
    steps : int
        T.
    leak : float
        β of all neurons; the threshold is 1 and is subtracted.
    seed : int
        Of the weights.

    Raises
    ------
    ShapeError
        Another depth, or a size that is not a positive whole number.
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
        if not isinstance(leak, int | float) or not 0.0 <= leak <= 1.0:
            raise ShapeError(f"leak: expected a number in [0, 1], got {leak!r}")
        if surrogate is not None and not isinstance(surrogate, Surrogate):
            raise ShapeError(f"surrogate: expected a Surrogate, got {surrogate!r}")
        self.steps, (blocks, bottleneck) = steps, SHAPES[depth]
        self.surrogate = surrogate or Surrogate()
        settings = self.surrogate, gradient, leak
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.stem = SpikingConvolution(channels, width, 7, 2, *settings)
            # of spikes: whether there is one in the square. Squares that overlap have gradients to add up,
            # which a GPU does in any order, and no two runs are the same
            self.pool = nn.MaxPool2d(2, ceil_mode=True)
            made, before = [], width
            for stage, count in enumerate(blocks):
                for k in range(count):
                    stride = 2 if stage and not k else 1
                    made.append(ResidualBlock(before, width << stage, stride, bottleneck, *settings))
                    before = made[-1].filters
            self.blocks = nn.ModuleList(made)
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
        found: list[Any] = [layer.convolution.weight for layer in self.convolutions()]
        return found

    def network(self) -> NoReturn:
        """Refuse: raises ShapeError; the numpy simulator has no such layers."""
        raise ShapeError(
            "residual: the simulator runs chains of layers, without shortcuts, padding or pooled spikes; "
            "this network stays in torch"
        )


def scaled_images(images: np.ndarray, side: int, channels: int = 3) -> np.ndarray:
    """Return grey images (n, h, w) scaled to (n, channels, side, side), bilinearly, all channels the same.

    Raises
    ------
    ShapeError
        Not three dimensions, or sizes that are not positive whole numbers.
    """
    whole("side", side)
    whole("channels", channels)
    grey = torch.tensor(real_array("images", images, ("n", "h", "w")), dtype=torch.float32)[:, None]
    scaled = nn.functional.interpolate(grey, size=(side, side), mode="bilinear", antialias=True)
    return scaled.expand(-1, channels, -1, -1).contiguous().numpy()


@dataclass(frozen=True, eq=False)
class ImageRun:
    """Where a training ended; the module has the best weights on samples held out, else the last."""

    module: nn.Module
    stopped_by: str
    history: tuple[Epoch, ...]


class ImageTraining(Loop):
    """The loop on a network that takes images and is trained by cross entropy."""

    def __init__(
        self,
        module: ResidualNetwork,
        images: np.ndarray,
        labels: np.ndarray,
        spec: GradientSpec,
        **around: Any,
    ) -> None:
        """Put module and images on the device; raises ShapeError for what does not fit."""
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
        super().__init__(spec, module.to(device, dtype), len(images), **around)
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
    def scores(self, rows: IntArray) -> tuple[float, float]:
        """Return mean loss and accuracy of the module, its normalisation frozen."""
        losses, right = 0.0, 0
        for part in batches(rows, self.spec.batch):
            with self._precision():
                outputs, labels = self._outputs(part)
            losses += float(nn.functional.cross_entropy(outputs, labels, reduction="sum"))
            right += int((outputs.argmax(dim=1) == labels).sum())
        return losses / len(rows), right / len(rows)

    def weights(self) -> list[nn.Parameter]:
        """Return the weights of every layer, and the readout's."""
        module: Any = self.module
        return [*module.hidden_weights(), module.readout.weight]

    def identity(self) -> dict[str, Any]:
        """Return the module's parts, the values it began with, and the data."""
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
        Trained in place; to go on from a checkpoint it has the values that the training began with.
    images : (n, channels, h, w) array
    labels : (n,) array
        Whole numbers, of classes.
    spec : GradientSpec, optional
        Epochs, batches, optimizer and the like; what concerns neurons is the module's own.
    time_limit, progress, checkpoint
        As in `Loop`.

    Raises
    ------
    ShapeError, SolverFailed, ProblemFileError
        Arrays that do not fit, a loss that is not finite, a checkpoint that cannot be read or written.
    """
    around = {"time_limit": time_limit, "progress": progress, "checkpoint": checkpoint}
    training = ImageTraining(module, images, labels, spec or GradientSpec(), **around)
    stopped = training.go()
    return ImageRun(module, stopped, training.history)
