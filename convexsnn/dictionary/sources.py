"""The dictionary sources: the origins of the hidden weights that produce the patterns ([U26] and others).

A source declares its kind and its properties. No other module compares source names. The kinds:

    draws       random weights, layer by layer
    reads       hidden layers from a file
    enumerates  every pattern of the definition
    trains      networks and takes their hidden layers; the training is in `convexsnn.convex.trained`
    grows       from the draw of another source, by patterns that improve the optimum, until there is none

A new source is a subclass of `Source` with the method of its kind and the decorator `register_source`. Then
problem files accept its name. This module imports nothing heavy, so that problems can be read without the
dictionary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from convexsnn.arrays import FloatArray, read_npz
from convexsnn.dictionary.reservoir import tune_to_criticality
from convexsnn.distinct import DistinctSamples
from convexsnn.errors import ProblemFileError, UnsupportedError, nearest
from convexsnn.networks import Layer, NetworkSpec
from convexsnn.networks.files import layers_from_arrays

if TYPE_CHECKING:
    from convexsnn.dictionary.dictionary import Definition, SpikeDictionary

# enumerates every pattern of a definition on samples, up to a limit
Walk = Callable[[DistinctSamples, NetworkSpec, "Definition", int], "SpikeDictionary"]
METHODS = {"draws": "weights", "reads": "read", "enumerates": "enumerated", "trains": "", "grows": ""}
DEFAULT_COUNT = 1000
START_COUNT = 200


@dataclass(frozen=True, eq=False)
class Draw:
    """The data that the draw of one layer may use.

    Attributes
    ----------
    rng : numpy.random.Generator
        The generator of all random numbers.
    variant, scales :
        ``dictionary.variant`` and ``dictionary.scale``, the latter as a tuple.
    signal : (n, T, d) array
        Inputs of the layer on the distinct samples.
    labels : (n, k) array
        Targets of the distinct samples.
    reads_membrane : bool
        Whether the output weights see the sign of the layer's membranes instead of its spikes.
    every_step : bool
        Whether the layer's spikes matter at every step; otherwise only at the last.
    weight_box : float
        B: weights outside [-B, B] are clipped.
    """

    rng: np.random.Generator
    variant: str
    scales: tuple[float, ...]
    signal: FloatArray
    labels: FloatArray
    reads_membrane: bool
    every_step: bool
    weight_box: float


class Source:
    """One dictionary source. A subclass sets the attributes and defines the method of its kind.

    Attributes
    ----------
    name : str
        Value of ``dictionary.source``.
    meaning : str
        One line that begins with a noun.
    kind : {"draws", "reads", "enumerates", "trains", "grows"}
    covers_all_patterns : bool
        Whether the optimum is bounded over all patterns of the definition.
    keeps_file : bool
        Whether a saved run keeps a copy of ``dictionary.file``, as witnesses.npz.
    has_baseline : bool
        Whether a run reports the ridge readout of all units beside the convex one.
    drawn_as_a_whole : bool
        Whether the whole layer is redrawn when one of its units comes too close to its threshold.
    needs_recurrence : bool
        Whether one of the network's layers must be recurrent.
    settings : str
        Name of the table of a problem file with the settings of the training; "" for none.
    begins_with : str
        For a source that grows: name of the source that draws the first patterns.
    """

    name: ClassVar[str]
    meaning: ClassVar[str]
    kind: ClassVar[str]
    covers_all_patterns: ClassVar[bool] = False
    keeps_file: ClassVar[bool] = False
    has_baseline: ClassVar[bool] = False
    drawn_as_a_whole: ClassVar[bool] = False
    needs_recurrence: ClassVar[bool] = False
    settings: ClassVar[str] = ""
    begins_with: ClassVar[str] = ""

    @property
    def reads(self) -> bool:
        """Whether the hidden layers come from a file."""
        return self.kind == "reads"

    @property
    def enumerates(self) -> bool:
        """Whether the source enumerates every pattern; only then is its dictionary complete."""
        return self.kind == "enumerates"

    @property
    def trains(self) -> bool:
        """Whether the hidden weights come from a training, which a checkpoint file can continue."""
        return self.kind == "trains"

    @property
    def grows(self) -> bool:
        """Whether patterns are added by their prices, so that they depend on λ."""
        return self.kind == "grows"

    @property
    def drawer(self) -> Source:
        """The source that draws: this one, or the one named by `begins_with`."""
        return get_source(self.begins_with) if self.grows else self

    def default_count(self, units: int) -> int:
        """Return the default number of last units to draw, for a network with `units` of them."""
        return START_COUNT if self.grows else max(units, DEFAULT_COUNT)

    def described(self, seed: int, file: str | None) -> str:
        """Return the origin of the weights as text for ``inspect``."""
        if self.reads:
            return str(file)
        return self.name if self.enumerates else f"{self.name}, seed {seed}"

    def weights(self, layer: Layer, draw: Draw) -> FloatArray:
        """Return weights for all units of a layer, (m, d') rows in the order of `Layer.unit_weights`.

        `layer` has the right shape and leaks, and weights of 0. The caller clips to the weight box.
        """
        raise UnsupportedError(f"dictionary.source: {self.name!r} {self.kind} and has no weights to draw")

    def tuned(self, layer: Layer, draw: Draw) -> Layer:
        """Return the layer to use, made from a drawn one; by default the drawn one."""
        return layer

    def read(self, path: Path) -> tuple[Layer, ...]:
        """Return the hidden layers of a file."""
        raise UnsupportedError(f"dictionary.source: {self.name!r} {self.kind} and reads no file")

    def enumerated(
        self, inputs: DistinctSamples, network: NetworkSpec, definition: Definition, limit: int, walk: Walk
    ) -> SpikeDictionary:
        """Return the dictionary of all patterns; it is not complete if there are more than `limit`.

        `walk` is the enumeration of the package; it takes the other four arguments.
        """
        raise UnsupportedError(f"dictionary.source: {self.name!r} {self.kind} and enumerates nothing")


SOURCES: dict[str, Source] = {}


def register_source(kind: type[Source]) -> type[Source]:
    """Register a subclass of `Source` under its name; for use as a decorator.

    Raises
    ------
    UnsupportedError
        Not a subclass of Source, a name in use, or a class without name, meaning, kind or the method of its
        kind.
    """
    if not (isinstance(kind, type) and issubclass(kind, Source)):
        raise UnsupportedError(f"source: expected a subclass of Source, got {kind!r}")
    title = f"source {getattr(kind, 'name', kind.__name__)!r}"
    for attribute in ("name", "meaning", "kind"):
        if not getattr(kind, attribute, ""):
            raise UnsupportedError(f"{title}: class {kind.__name__} leaves out {attribute!r}")
    if kind.kind not in METHODS:
        raise UnsupportedError(f"{title}: kind {kind.kind!r}; expected one of {', '.join(METHODS)}")
    method = METHODS[kind.kind]
    if method and getattr(kind, method) is getattr(Source, method):
        raise UnsupportedError(
            f"{title}: class {kind.__name__} leaves out the method {method!r} of a source that {kind.kind}"
        )
    if kind.kind == "grows" and kind.begins_with not in SOURCES:
        raise UnsupportedError(f"{title}: begins_with {kind.begins_with!r} is no registered source")
    if kind.name in SOURCES:
        raise UnsupportedError(f"{title}: already registered, by class {type(SOURCES[kind.name]).__name__}")
    SOURCES[kind.name] = kind()
    return kind


def get_source(name: str) -> Source:
    """Return a source by its name.

    Raises
    ------
    ProblemFileError
        No source has this name; the message has the nearest one.
    """
    if name not in SOURCES:
        hint = nearest(name, SOURCES)
        raise ProblemFileError(f"dictionary.source: expected one of {', '.join(SOURCES)}, got {name!r}{hint}")
    return SOURCES[name]


def gaussian(layer: Layer, draw: Draw) -> FloatArray:
    """Draw N(0, 1) rows; recurrent weights are divided by √m, so that their sum does not grow with m."""
    units, length = layer.unit_weights().shape
    rows = draw.rng.standard_normal((units, length))
    if draw.variant == "orthogonal":  # orthonormal rows, in blocks of at most `length`
        blocks = [np.linalg.qr(rows[k : k + length].T)[0].T for k in range(0, units, length)]
        rows = np.concatenate(blocks)
    elif draw.variant == "normalised":
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    if layer.recurrent is not None:
        start = layer.weights.shape[1] + (layer.bias is not None)
        rows[:, start : start + units] /= np.sqrt(units)
    return rows * draw.rng.choice(np.asarray(draw.scales), units)[:, None]


@register_source
class Gaussian(Source):
    """Normal weights of one variant, at several scales."""

    name = "gaussian"
    meaning = "normal random weights"
    kind = "draws"

    def weights(self, layer: Layer, draw: Draw) -> FloatArray:  # noqa: D102
        return gaussian(layer, draw)


@register_source
class Pairs(Source):
    """Weights along the difference of two samples, with the unit's level between them.

    The samples are compared as the membrane sums them over time. The level is that of the unit's rows without
    earlier spikes: the threshold, or 0 for a membrane readout. With a bias, the membranes of the two samples
    differ by the scale. Without one, the scale is the one that puts the level between them.
    """

    name = "pairs"
    meaning = "weights along the difference of two samples, which put the threshold between them"
    kind = "draws"

    def weights(self, layer: Layer, draw: Draw) -> FloatArray:  # noqa: D102
        rows, signal, labels = gaussian(layer, draw), draw.signal, draw.labels
        n, steps, d = signal.shape
        for j in range(layer.units):
            i = int(draw.rng.integers(n))
            others = np.flatnonzero((labels != labels[i]).any(axis=1))
            k = int(draw.rng.choice(others)) if len(others) else int(draw.rng.integers(n))
            t = int(draw.rng.integers(steps)) if draw.every_step else steps - 1
            pair = np.concatenate([signal[[i, k]], np.ones((2, steps, 1))], axis=2)
            unit = layer.neuron.unit(j)
            rows_of = unit.readout_rows if draw.reads_membrane else unit.affine_rows
            g, h = rows_of(pair, np.zeros((2, steps), bool))
            filtered, level = g[:, t], float(h[0, t])
            difference = filtered[0, :d] - filtered[1, :d]
            length = float(difference @ difference)
            share = draw.rng.uniform(0.25, 0.75)
            between = share * filtered[0, :d] + (1 - share) * filtered[1, :d]
            if length == 0:
                continue  # the same sample twice: the Gaussian row stays
            if layer.bias is not None:
                rows[j, :d] = difference * float(draw.rng.choice(np.asarray(draw.scales))) / length
                rows[j, d] = (level - rows[j, :d] @ between) / filtered[0, d]
            else:
                height = float(difference @ between)
                rows[j, :d] = difference * (level / height if level and height else 1.0)
        return rows


@register_source
class Reservoir(Gaussian):
    """Normal weights whose recurrent layers are tuned to a branching ratio of 1."""

    name = "reservoir"
    meaning = "normal random weights, recurrent layers tuned to the edge between dying out and taking over"
    has_baseline = True
    drawn_as_a_whole = True  # rows of several reservoirs would not have the branching ratio of any
    needs_recurrence = True

    def default_count(self, units: int) -> int:  # noqa: D102
        return units

    def tuned(self, layer: Layer, draw: Draw) -> Layer:  # noqa: D102
        if layer.recurrent is None:
            return layer
        return tune_to_criticality(layer, draw.signal, draw.rng, draw.weight_box)


@register_source
class File(Source):
    """Hidden layers of an ``.npz``, named as in a saved network."""

    name = "file"
    meaning = "hidden layers of the file that dictionary.file names"
    kind = "reads"
    keeps_file = True

    def read(self, path: Path) -> tuple[Layer, ...]:  # noqa: D102
        return layers_from_arrays(read_npz(path))


@register_source
class Exact(Source):
    """Every pattern, by a walk over the cells of weight space."""

    name = "exact"
    meaning = "every pattern of the definition"
    kind = "enumerates"
    covers_all_patterns = True

    def enumerated(  # noqa: D102
        self, inputs: DistinctSamples, network: NetworkSpec, definition: Definition, limit: int, walk: Walk
    ) -> SpikeDictionary:
        return walk(inputs, network, definition, limit)


@register_source
class ColumnGeneration(Source):
    """Patterns added until no pattern improves the optimum."""

    name = "column_generation"
    meaning = "patterns added until none of all improves the optimum"
    kind = "grows"
    covers_all_patterns = True
    begins_with = "gaussian"


@register_source
class Admm(Source):
    """Hidden layers of a network trained by ADMM."""

    name = "admm"
    meaning = "hidden layers of a network trained by ADMM"
    kind = "trains"
    settings = "admm"


@register_source
class SurrogateGradient(Source):
    """Hidden layers of networks trained by surrogate gradients."""

    name = "surrogate_gradient"
    meaning = "hidden layers of networks trained by surrogate gradients"
    kind = "trains"
    settings = "gradient"
