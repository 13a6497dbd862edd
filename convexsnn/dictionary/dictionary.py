"""The dictionary: distinct spike patterns of one subnetwork's last units, and the weights behind each.

D ∈ {0,1}^{R×P}; R = n samples at the last step, or n·T (sample by sample) where every step is supervised.
Two definitions of what belongs in it, and every dictionary says which:

* closed (margin 0): a unit fires where g·w >= h, exactly as simulated; faces of the arrangement count;
* robust (margin ε): every membrane stays at least ε away from its threshold, so no rounding moves a spike.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from convexsnn.arrays import BoolArray, FloatArray, IntArray, read_npz, real_array, write_npz
from convexsnn.bits import PackedBits
from convexsnn.dictionary.patterns import Patterns
from convexsnn.distinct import DistinctSamples, distinct_rows
from convexsnn.errors import ConvexSNNError, LoweringError, ProblemFileError, ShapeError
from convexsnn.networks import Layer, Readout, Subnetwork
from convexsnn.networks.files import layer_arrays, layers_from_arrays
from convexsnn.networks.readouts import readout_of
from convexsnn.simulate import readout, run_layer

UNITS_AT_A_TIME = 256


@dataclass(frozen=True)
class Definition:
    """Which patterns count: closed or robust, the weight box, and what is read out."""

    margin: float = 1e-6
    weight_box: float = 10.0
    readout: str = "spike"
    supervise: str = "last"

    @property
    def reads(self) -> Readout:
        """The readout of that name."""
        return readout_of(self.readout)

    def __str__(self) -> str:
        kind = f"robust, margin {self.margin:g}" if self.margin > 0 else "closed (margin 0)"
        steps = "last step" if self.supervise == "last" else "every step"
        return (
            f"{kind}, weights in [-{self.weight_box:g}, {self.weight_box:g}], {self.readout} readout, {steps}"
        )


@dataclass(frozen=True, eq=False)
class SpikeDictionary:
    """Distinct patterns with their witnesses.

    Attributes
    ----------
    columns : PackedBits
        R × P, one bit an entry.
    subnetworks : tuple of Subnetwork
    subnetwork_of, unit_of : (P,) int arrays
        The witness of column p is unit ``unit_of[p]`` of the last layer of ``subnetworks[subnetwork_of[p]]``.
    margins : (P,) array
        Smallest distance of a membrane from its threshold, over all units the column depends on.
    candidates : int
        Columns before duplicates, zeros and too small margins were dropped.
    complete : bool
        Whether every pattern of the definition is here.
    """

    columns: PackedBits
    subnetworks: tuple[Subnetwork, ...]
    subnetwork_of: IntArray
    unit_of: IntArray
    margins: FloatArray
    definition: Definition
    candidates: int = 0
    complete: bool = False

    @property
    def patterns(self) -> int:
        """P."""
        return self.columns.shape[1]

    def select(self, columns: IntArray) -> SpikeDictionary:
        """Return the dictionary of some columns, given by their indices; the subnetworks stay."""
        return replace(
            self,
            columns=self.columns.select(columns),
            subnetwork_of=self.subnetwork_of[columns],
            unit_of=self.unit_of[columns],
            margins=self.margins[columns],
            complete=False,
        )

    def completed(self, complete: bool) -> SpikeDictionary:
        """Return the dictionary, said to hold every pattern of its definition or not."""
        return replace(self, complete=complete)

    def joined(self, other: SpikeDictionary) -> SpikeDictionary:
        """Return this dictionary with the patterns of another of the same definition that it lacks."""
        both = PackedBits(np.concatenate([self.columns.packed, other.columns.packed]), self.columns.rows)
        first, _ = both.unique_columns()
        new = first[first >= self.patterns] - self.patterns
        return replace(
            self,
            columns=both.select(np.concatenate([np.arange(self.patterns), new + self.patterns])),
            subnetworks=self.subnetworks + other.subnetworks,
            subnetwork_of=np.concatenate(
                [self.subnetwork_of, other.subnetwork_of[new] + len(self.subnetworks)]
            ),
            unit_of=np.concatenate([self.unit_of, other.unit_of[new]]),
            margins=np.concatenate([self.margins, other.margins[new]]),
            candidates=self.candidates + other.candidates,
            complete=self.complete or other.complete,
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the dictionary to an ``.npz`` file, columns still packed."""
        arrays: dict[str, np.ndarray] = {
            "packed": self.columns.packed,
            "rows": np.asarray(self.columns.rows),
            "subnetwork_of": self.subnetwork_of,
            "unit_of": self.unit_of,
            "margins": self.margins,
            "candidates": np.asarray(self.candidates),
            "complete": np.asarray(self.complete),
            "definition": np.asarray([self.definition.margin, self.definition.weight_box]),
            "readout": np.asarray(self.definition.readout),
            "supervise": np.asarray(self.definition.supervise),
        }
        for k, subnetwork in enumerate(self.subnetworks):
            arrays |= layer_arrays(subnetwork.layers, f"subnetwork{k}_")
        write_npz(path, arrays)


def load_dictionary(path: str | os.PathLike[str]) -> SpikeDictionary:
    """Read a dictionary that `SpikeDictionary.save` wrote.

    Raises
    ------
    ProblemFileError
        Missing or damaged file, or arrays that do not fit together.
    """
    arrays = read_npz(path)
    try:
        subnetworks: list[Subnetwork] = []
        while f"subnetwork{len(subnetworks)}_layer1_weights" in arrays:
            subnetworks.append(Subnetwork(layers_from_arrays(arrays, f"subnetwork{len(subnetworks)}_")))
        margin, box = arrays["definition"]
        definition = Definition(float(margin), float(box), str(arrays["readout"]), str(arrays["supervise"]))
        columns = PackedBits(arrays["packed"], int(arrays["rows"]))
        if columns.rows % 8 and (columns.packed[:, -1] & (0xFF >> columns.rows % 8)).any():
            raise ShapeError("packed: bits beyond the last row are set")
        places = {}
        for name in ("subnetwork_of", "unit_of"):
            value = arrays[name]
            if value.shape != (columns.shape[1],) or value.dtype.kind not in "iu":
                raise ShapeError(
                    f"{name}: expected whole numbers (P={columns.shape[1]},), got {value.dtype} {value.shape}"
                )
            places[name] = value.astype(np.int64)
        return SpikeDictionary(
            columns,
            tuple(subnetworks),
            **places,
            margins=real_array("margins", arrays["margins"], (("P", columns.shape[1]),)),
            definition=definition,
            candidates=int(arrays["candidates"]),
            complete=bool(arrays["complete"]),
        )
    except (KeyError, ValueError, TypeError, OverflowError, ConvexSNNError) as error:
        raise ProblemFileError(f"{path}: no dictionary: {error}") from error


def spike_margins(layer: Layer, membranes: FloatArray) -> FloatArray:
    """Return, for every unit, the smallest distance of its membrane from its threshold, (m,)."""
    return np.abs(membranes - layer.neuron.threshold).min(axis=(0, 1))


def readout_margins(
    layer: Layer, membranes: FloatArray, spikes: BoolArray, definition: Definition
) -> FloatArray:
    """Return, for every unit, the smallest |v| at the steps of a membrane readout, else inf, (m,)."""
    if not definition.reads.of_membrane:
        return np.full(layer.units, np.inf)
    steps = slice(-1, None) if definition.supervise == "last" else slice(None)
    v = np.abs(layer.neuron.after_reset(membranes[:, steps], spikes[:, steps]))
    if (certain := layer.neuron.certain(spikes[:, steps])).any():  # no rounding moves these
        v = np.where(certain, np.inf, v)
    return v.min(axis=(0, 1))


def patterns_of(
    subnetwork: Subnetwork, inputs: FloatArray, definition: Definition
) -> tuple[PackedBits, FloatArray]:
    """Simulate one subnetwork: patterns (R × m) of its last units and their margins (m,)."""
    signal: FloatArray | BoolArray = inputs
    below = np.inf
    for layer in subnetwork.layers[:-1]:
        membranes, spikes = run_layer(layer, signal)
        assert membranes is not None
        below = min(below, float(spike_margins(layer, membranes).min()))
        signal = spikes
    last = subnetwork.layers[-1]
    whole = last.recurrent is not None
    blocks = (
        [slice(None)]
        if whole
        else [slice(k, k + UNITS_AT_A_TIME) for k in range(0, last.units, UNITS_AT_A_TIME)]
    )
    packed, margins = [], []
    for block in blocks:
        part = last if whole else last.select(block)
        membranes, spikes = run_layer(part, signal)
        assert membranes is not None
        seen = readout(part, membranes, spikes, definition.readout)
        seen = seen[:, -1] if definition.supervise == "last" else seen.reshape(-1, part.units)
        packed.append(np.packbits(seen.T, axis=1))
        own = spike_margins(part, membranes)
        if whole:  # in a recurrent layer every unit's pattern hangs on the spikes of all
            own = np.full_like(own, own.min())
        margins.append(np.minimum(own, readout_margins(part, membranes, spikes, definition)))
    rows = len(inputs) * (inputs.shape[1] if definition.supervise == "all" else 1)
    return PackedBits(np.concatenate(packed), rows), np.minimum(np.concatenate(margins), below)


def simulated(subnetwork: Subnetwork, samples: FloatArray, definition: Definition) -> Patterns:
    """Simulate one subnetwork on the distinct samples."""
    return Patterns(subnetwork, *patterns_of(subnetwork, samples, definition))


Run = Callable[[Callable[..., Any], Sequence[tuple[Any, ...]]], Iterable[Any]]


def _here(work: Callable[..., Any], tasks: Sequence[tuple[Any, ...]]) -> Iterable[Any]:
    return (work(*task) for task in tasks)


def _patterns_by_block(
    subnetworks: Sequence[Subnetwork],
    samples: FloatArray,
    definition: Definition,
    run: Run,
    block: int | None,
) -> list[Patterns]:
    """Return the patterns of every subnetwork, put together from blocks of samples."""
    size = len(samples) if block is None else max(8, block // 8 * 8)  # whole bytes of packed rows
    parts = [samples[k : k + size] for k in range(0, len(samples), size)]
    tasks = [(subnetwork, part, definition) for subnetwork in subnetworks for part in parts]
    found = iter(run(patterns_of, tasks))
    whole = []
    for subnetwork in subnetworks:
        blocks = [next(found) for _ in parts]
        rows = sum(bits.rows for bits, _ in blocks)
        packed = np.concatenate([bits.packed for bits, _ in blocks], axis=1)
        margins = np.min([margin for _, margin in blocks], axis=0)
        whole.append(Patterns(subnetwork, PackedBits(packed, rows), margins))
    return whole


def collect(
    inputs: FloatArray | DistinctSamples,
    subnetworks: Sequence[Subnetwork],
    definition: Definition,
    *,
    run: Run = _here,
    block: int | None = None,
) -> SpikeDictionary:
    """Simulate subnetworks and keep the distinct patterns of their last units.

    Of equal patterns the witness with the largest margin stays; patterns of zeros go, and those of
    smaller margin than the definition's.

    Parameters
    ----------
    inputs : (n, T, d) array, or its distinct samples where they are worked out
    run : callable, optional
        Maps a function over argument tuples, elsewhere if it likes; here, one after the other, if not given.
    block : int, optional
        Samples of one task; all if not given.

    Raises
    ------
    LoweringError
        No pattern is left.
    """
    samples, rows = distinct_rows(inputs, definition.supervise)
    return gathered(_patterns_by_block(subnetworks, samples, definition, run, block), rows, definition)


def gathered(patterns: Sequence[Patterns], row_of: IntArray, definition: Definition) -> SpikeDictionary:
    """Return the dictionary of patterns that the simulator has made already; as `collect`, which see.

    Parameters
    ----------
    row_of : (R,) int array
        For each supervised row of the data which row of the distinct samples it is (`distinct_rows`).
    """
    if not patterns:
        raise LoweringError("dictionary: no unit of this network can have a pattern with a spike in it")
    packed = PackedBits(np.concatenate([one.columns.packed for one in patterns]), patterns[0].columns.rows)
    margin_of = np.concatenate([one.margins for one in patterns])
    unit_of = np.concatenate([np.arange(len(one.margins)) for one in patterns])
    stack_of = np.repeat(np.arange(len(patterns)), [len(one.margins) for one in patterns])
    fires = packed.counts() > 0
    kept = np.flatnonzero(fires & (margin_of >= definition.margin))
    if not len(kept):
        words = f"{int((~fires).sum())} never fire at a readout"
        if fires.any():
            largest = margin_of.max(initial=0.0, where=fires)
            words += f", the largest margin of the others is {largest:.3g}"
            words += f", dictionary.margin {definition.margin:g}; lower it, or"
        else:
            words += ";"
        raise LoweringError(
            f"dictionary: none of {len(margin_of)} units has a pattern to use: {words} "
            "change dictionary.scale, bias or source"
        )
    kept = kept[np.argsort(-margin_of[kept], kind="stable")]
    kept = np.sort(kept[packed.select(kept).unique_columns()[0]])
    return SpikeDictionary(
        packed.select(kept).take_rows(row_of),
        tuple(one.subnetwork for one in patterns),
        stack_of[kept],
        unit_of[kept],
        margin_of[kept],
        definition,
        len(margin_of),
    )
