"""The dictionary: distinct spike patterns of a subnetwork's last units, and weights that produce them.

D ∈ {0,1}^{R×P}; R = n samples at the last step, or n·T (sample by sample) if every step is supervised.
There are two definitions of the patterns in a dictionary; each dictionary stores its definition:

* closed (margin 0): a unit fires where g·w >= h, exactly as simulated; faces of the arrangement count;
* robust (margin ε): every membrane stays at least ε away from its threshold, so no rounding changes a spike.
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
from convexsnn.simulate import run_layer

UNITS_AT_A_TIME = 256  # simulated together


@dataclass(frozen=True)
class Definition:
    """The set of patterns: closed or robust, the weight box, the readout, and the supervised steps."""

    margin: float = 1e-6
    weight_box: float = 10.0
    readout: str = "spike"
    supervise: str = "last"

    @property
    def reads(self) -> Readout:
        """The readout itself; `readout` is its name."""
        return readout_of(self.readout)

    @property
    def steps(self) -> slice:
        """The supervised steps."""
        return slice(-1, None) if self.supervise == "last" else slice(None)

    def bits(self, layer: Layer, membranes: FloatArray, spikes: BoolArray) -> BoolArray:
        """Return what the readout sees of a layer at the supervised steps, sample by sample, (R, m)."""
        seen = self.reads.seen(layer.neuron, membranes[:, self.steps], spikes[:, self.steps])
        return seen.reshape(-1, layer.units)

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
        R × P, one bit per entry.
    subnetworks : tuple of Subnetwork
    subnetwork_of, unit_of : (P,) int arrays
        The witness of column p is unit ``unit_of[p]`` of the last layer of ``subnetworks[subnetwork_of[p]]``.
    margins : (P,) array
        Smallest distance of a membrane from its threshold, over all units that the column depends on.
    candidates : int
        Number of columns before removal of duplicates, zeros and too small margins.
    complete : bool
        Whether the dictionary holds every pattern of its definition.
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
        """Return the dictionary of some columns, by their indices; it keeps all subnetworks."""
        return replace(
            self,
            columns=self.columns.select(columns),
            subnetwork_of=self.subnetwork_of[columns],
            unit_of=self.unit_of[columns],
            margins=self.margins[columns],
            complete=False,
        )

    def joined(self, other: SpikeDictionary) -> SpikeDictionary:
        """Return this dictionary, extended by the new patterns of another one of the same definition."""
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
        """Write the dictionary to an ``.npz`` file, with packed columns."""
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


def _single(name: str, array: np.ndarray, kinds: str) -> int:
    """Return the whole number, or the flag, of an array without axes."""
    if array.ndim or array.dtype.kind not in kinds:
        expected = "a flag" if kinds == "b" else "a whole number"
        raise ShapeError(f"{name}: expected {expected}, got {array.dtype} {array.shape}")
    return int(array)


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
        margin, box = real_array("definition", arrays["definition"], (2,)).tolist()
        definition = Definition(margin, box, str(arrays["readout"]), str(arrays["supervise"]))
        columns = PackedBits(arrays["packed"], _single("rows", arrays["rows"], "iu"))
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
            candidates=_single("candidates", arrays["candidates"], "iu"),
            complete=bool(_single("complete", arrays["complete"], "b")),
        )
    except (KeyError, ValueError, TypeError, OverflowError, ConvexSNNError) as error:
        raise ProblemFileError(f"{path}: no dictionary: {error}") from error


def spike_margins(layer: Layer, membranes: FloatArray) -> FloatArray:
    """Return, for every unit, the smallest distance of its membrane from its threshold, (m,)."""
    return np.abs(membranes - layer.neuron.threshold).min(axis=(0, 1))


def readout_margins(
    layer: Layer, membranes: FloatArray, spikes: BoolArray, definition: Definition
) -> FloatArray:
    """Return, for every unit, the smallest |v| at the steps of a membrane readout, (m,); inf without one."""
    if not definition.reads.of_membrane:
        return np.full(layer.units, np.inf)
    spikes = spikes[:, definition.steps]
    v = np.abs(layer.neuron.after_reset(membranes[:, definition.steps], spikes))
    if (certain := layer.neuron.certain(spikes)).any():  # no rounding changes these
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
        below = min(below, float(spike_margins(layer, membranes).min()))
        signal = spikes
    last = subnetwork.layers[-1]
    whole = last.recurrent is not None
    starts = range(0, last.units, last.units if whole else UNITS_AT_A_TIME)
    packed, margins = [], []
    for start in starts:
        part = last if whole else last.select(slice(start, start + UNITS_AT_A_TIME))
        membranes, spikes = run_layer(part, signal)
        packed.append(np.packbits(definition.bits(part, membranes, spikes).T, axis=1))
        of_spikes = spike_margins(part, membranes)
        if whole:  # in a recurrent layer every unit's pattern depends on the spikes of all units
            of_spikes = np.full_like(of_spikes, of_spikes.min())
        margins.append(np.minimum(of_spikes, readout_margins(part, membranes, spikes, definition)))
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
    """Return the patterns of every subnetwork, computed in blocks of samples."""
    size = len(samples) if block is None else max(8, block // 8 * 8)  # whole bytes of packed rows
    parts = [samples[k : k + size] for k in range(0, len(samples), size)]
    tasks = [(subnetwork, part, definition) for subnetwork in subnetworks for part in parts]
    results = iter(run(patterns_of, tasks))
    whole = []
    for subnetwork in subnetworks:
        blocks = [next(results) for _ in parts]
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

    Of equal patterns, the witness with the largest margin is kept; of those on a face of a closed definition,
    the one whose floats are nearest to it. Patterns of zeros are dropped, and
    patterns whose margin is below the definition's.

    Parameters
    ----------
    inputs : (n, T, d) array, or its distinct samples
    run : callable, optional
        Maps a function over argument tuples, for example on other machines. By default the tasks run here,
        one after the other.
    block : int, optional
        Number of samples per task; all samples if not given.

    Raises
    ------
    LoweringError
        No pattern is left.
    """
    samples, rows = distinct_rows(inputs, definition.supervise)
    return gathered(_patterns_by_block(subnetworks, samples, definition, run, block), rows, definition)


def gathered(patterns: Sequence[Patterns], row_of: IntArray, definition: Definition) -> SpikeDictionary:
    """Return the dictionary of patterns that were simulated before; selects as `collect` does.

    Parameters
    ----------
    row_of : (R,) int array
        For each supervised row of the data, its row of the distinct samples (`distinct_rows`).
    """
    if not patterns:
        raise LoweringError("dictionary: no unit of this network has a pattern with a spike")
    packed = PackedBits(np.concatenate([one.columns.packed for one in patterns]), patterns[0].columns.rows)
    margin_of = np.concatenate([one.margins for one in patterns])
    unit_of = np.concatenate([np.arange(len(one.margins)) for one in patterns])
    stack_of = np.repeat(np.arange(len(patterns)), [len(one.margins) for one in patterns])
    fires = packed.counts() > 0
    columns = np.flatnonzero(fires & (margin_of >= definition.margin))
    if not len(columns):
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
    columns = columns[np.argsort(-preference(margin_of[columns], definition), kind="stable")]
    columns = np.sort(columns[packed.select(columns).unique_columns()[0]])
    return SpikeDictionary(
        packed.select(columns).take_rows(row_of),
        tuple(one.subnetwork for one in patterns),
        stack_of[columns],
        unit_of[columns],
        margin_of[columns],
        definition,
        len(margin_of),
    )


def preference(margins: FloatArray, definition: Definition) -> FloatArray:
    """Return a number for each witness, larger for the one to keep.

    On a face a margin is 0 in exact arithmetic; a small one there is the rounding of weights that miss it.
    """
    if definition.margin > 0 or not len(margins):
        return margins
    face = 1e-9 * float(margins.max(initial=0.0))
    return np.where(margins > face, margins, face - margins)
