"""Rows and columns of a compiled form, explained by sample, pattern and unit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from convexsnn.arrays import FloatArray
from convexsnn.dictionary import SpikeDictionary
from convexsnn.problem import Problem
from convexsnn.programs import L1Program, Place


@dataclass(frozen=True)
class SampleOrigin:
    """Where a row of D comes from.

    Attributes
    ----------
    sample, step : int
        Counted from 0; the last step where only that is supervised.
    targets : tuple of float
        The targets in the problem's own coding, one per head.
    encoded : float or None
        The target value of this output in the loss; None if the row or column belongs to all outputs.
    weight : float
        a, the sample's weight.
    firing : int
        Number of patterns that fire in this row.
    """

    sample: int
    step: int
    targets: tuple[float, ...]
    encoded: float | None
    weight: float
    firing: int


@dataclass(frozen=True, eq=False)
class PatternOrigin:
    """Where a column of D comes from.

    Attributes
    ----------
    spikes : int
        Number of rows where the pattern fires.
    margin : float
        Smallest distance of a membrane from its threshold.
    subnetwork, unit : int
        The witness: a unit of the last layer of a subnetwork, both counted from 0.
    units_below : tuple of int
        Sizes of the hidden layers below it.
    parameters : dict of str to float
        The unit's value from each grid of the architecture.
    weights : (d',) array
        Weights of the inputs, then, if the layer has them, of bias, recurrent spikes and neuron terms.
    """

    pattern: int
    spikes: int
    margin: float
    subnetwork: int
    unit: int
    units_below: tuple[int, ...]
    parameters: dict[str, float]
    weights: FloatArray

    @property
    def leak(self) -> float | None:
        """β; None if the unit has no leak."""
        return self.parameters.get("leak")


@dataclass(frozen=True, eq=False)
class Explanation:
    """The meaning of one row or column of a form.

    Attributes
    ----------
    output_name : str
        The class or target of the output; "" if the row or column has no output.
    sample : SampleOrigin or None
        The sample, if the row or column belongs to a row of D.
    patterns : tuple of PatternOrigin
        The patterns, if the row or column belongs to a column of D or to a group of columns.
    """

    place: Place
    output_name: str
    sample: SampleOrigin | None
    patterns: tuple[PatternOrigin, ...]


def explanation(
    problem: Problem, program: L1Program, dictionary: SpikeDictionary, place: Place
) -> Explanation:
    """Return the explanation of a place in a form of `program`."""
    patterns = [] if place.pattern is None else [place.pattern]
    groups = program.penalty.groups(program.shape[0])
    if not patterns and place.group is not None and groups is not None:
        patterns = np.flatnonzero(groups == place.group).tolist()
    return Explanation(
        place,
        "" if place.output is None else output_name(problem, place.output),
        None if place.row is None else _sample(problem, program, place.row, place.output),
        tuple(_pattern(dictionary, pattern) for pattern in patterns),
    )


def output_name(problem: Problem, output: int) -> str:
    """Return the name of an output: a class, a sign, or a target's number."""
    heads = problem.target_code.heads
    starts = np.cumsum([0] + [head.outputs for head in heads])
    k = int(np.searchsorted(starts, output, side="right")) - 1
    head, first = heads[k], int(starts[k])
    of_head = f" of head {k}" if len(heads) > 1 and head.labels else ""
    if not head.labels:
        return f"target {k}"
    if head.outputs == 1:
        return f"label {head.labels[-1]} if positive, {head.labels[0]} if not{of_head}"
    return f"class {head.labels[output - first]}{of_head}"


def _sample(problem: Problem, program: L1Program, row: int, output: int | None) -> SampleOrigin:
    steps = problem.inputs.shape[1] if problem.network.supervise == "all" else 1
    sample, step = divmod(row, steps)
    targets = np.asarray(problem.targets, dtype=np.float64).reshape(program.dictionary.rows, -1)[row]
    return SampleOrigin(
        sample,
        step if steps > 1 else problem.inputs.shape[1] - 1,
        tuple(targets.tolist()),
        None if output is None else float(program.targets[row, output]),
        float(program.sample_weights[row]),
        int(program.dictionary.take_rows(np.array([row])).counts().sum()),
    )


def _pattern(dictionary: SpikeDictionary, pattern: int) -> PatternOrigin:
    stack, unit = int(dictionary.subnetwork_of[pattern]), int(dictionary.unit_of[pattern])
    *below, last = dictionary.subnetworks[stack].layers
    return PatternOrigin(
        pattern,
        int(dictionary.columns.select([pattern]).counts()[0]),
        float(dictionary.margins[pattern]),
        stack,
        unit,
        tuple(layer.units for layer in below),
        last.neuron.grid_point(unit),
        last.unit_weights()[unit],
    )
