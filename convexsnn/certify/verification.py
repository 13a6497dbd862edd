"""The comparison of a reconstructed network's simulation with the program."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from convexsnn.arrays import BoolArray, FloatArray, IntArray
from convexsnn.dictionary import Definition
from convexsnn.dictionary.dictionary import readout_margins, spike_margins
from convexsnn.errors import VerificationError
from convexsnn.lowering import Convexification, Lowered
from convexsnn.networks import Network
from convexsnn.pricing.doubtful import check_doubtful_spikes
from convexsnn.programs import Point
from convexsnn.simulate import Trace, simulate

RELATIVE = 1e-9


@dataclass(frozen=True, eq=False)
class Verification:
    """The results of a network's simulation on its training data.

    Attributes
    ----------
    objective : float
        Objective of the network, from its simulated outputs.
    max_output_error : float
        Largest |network output − D W|.
    min_margin : float
        Smallest distance of a membrane from a threshold that matters, over all units, samples and steps.
    outputs : (n, C) or (n, T, C) array
    readouts : (R, m) bool array
        Bits of the last units at the supervised rows.
    """

    objective: float
    max_output_error: float
    min_margin: float
    outputs: FloatArray
    readouts: BoolArray


def network_margin(network: Network, trace: Trace, definition: Definition) -> float:
    """Return the smallest distance of a membrane from a threshold that matters."""
    last = network.layers[-1]
    margins = [spike_margins(*pair).min() for pair in zip(network.layers, trace.membranes, strict=True)]
    read = (
        np.abs(network.output_weights).max(axis=1) > 0
    )  # a unit with output weight 0 needs no readout margin
    margins.append(
        readout_margins(last, trace.membranes[-1], trace.spikes[-1], definition).min(
            initial=np.inf, where=read
        )
    )
    return float(min(margins))


def verify(network: Network, lowered: Lowered, point: Point, columns: IntArray | None = None) -> Verification:
    """Simulate `network` on the training inputs and compare it with the program's point.

    Parameters
    ----------
    columns : (m,) int array, optional
        The dictionary column of every last unit, -1 for a unit with output weight 0. If not given, the
        columns of the network that `reconstruct` returns for `point`.

    Raises
    ------
    VerificationError
        A spike differs from the dictionary's bit (the message names sample, step and unit) or, within
        rounding of a threshold, from the exact spike; an output differs from D W, or the objective from
        the program's.
    """
    problem, program = lowered.problem, lowered.program
    if columns is None:
        columns = Convexification().columns_of_units(lowered, point)
    samples, which = problem.distinct
    trace = simulate(network, samples)
    outputs, units = trace.outputs[which], network.layers[-1].units
    if trace.features.size != len(samples) * units * (problem.rows // len(problem.inputs)):
        raise VerificationError(f"network: read out at other steps than the problem's {problem.rows} rows")
    if network.output_weights.shape[1] != program.shape[1]:
        raise VerificationError(
            f"network: {network.output_weights.shape[1]} outputs, the problem has {program.shape[1]}"
        )
    readouts = trace.features[which].reshape(problem.rows, units)
    _check_spikes(readouts, columns, lowered)
    check_doubtful_spikes(network, trace)
    used = columns >= 0
    weights = np.zeros(program.shape)
    weights[columns[used]] = network.output_weights[used]
    stray = np.abs(network.output_weights[~used]).max(initial=0.0)
    if stray > 0:
        raise VerificationError(f"network: a unit without a column is read out with weight {stray:g}")
    expected = program.outputs(point.weights)
    table = outputs.reshape(expected.shape)
    error = float(np.abs(table - expected).max())
    if not error <= RELATIVE * max(1.0, float(np.abs(expected).max())) < np.inf:
        row = int(np.abs(table - expected).max(axis=1).argmax())
        raise VerificationError(f"simulation: output of row {row} is off the program's by {error:.3g}")
    losses = program.row_scale[:, 0] @ program.loss.value(table, program.targets)
    objective = float(losses + program.regularization * program.penalty.value(weights))
    stated = program.primal_objective(point)
    if not abs(objective - stated) <= RELATIVE * max(abs(stated), 1e-300) < np.inf:
        raise VerificationError(f"objective: the network's is {objective!r}, the program's {stated!r}")
    if not np.array_equal(weights, point.weights):  # so that what is proved of D W is proved of the network
        column, output = (int(i) for i in np.argwhere(weights != point.weights)[0])
        raise VerificationError(
            f"weights: column {column} has {point.weights[column, output]!r} for output {output}, "
            f"its unit in the network {weights[column, output]!r}"
        )
    definition = lowered.dictionary.definition
    margin = network_margin(network, trace, definition)
    if not margin >= definition.margin * (1.0 - 1e-6):  # the tolerance covers rounding
        raise VerificationError(
            f"margin: {margin:.3g} in the network, the definition asks {definition.margin:g}"
        )
    return Verification(objective, error, margin, outputs, readouts)


def _check_spikes(rows: BoolArray, columns: IntArray, lowered: Lowered) -> None:
    """Compare the readouts of the last units, (R, m), with the dictionary's columns."""
    problem, program = lowered.problem, lowered.program
    if columns.shape != (rows.shape[1],) or columns.max() >= program.shape[0] or columns.min() < -1:
        raise VerificationError(
            f"columns: {len(columns)} entries up to {columns.max(initial=-1)}; the network has "
            f"{rows.shape[1]} last units, the dictionary {program.shape[0]} columns"
        )
    used = np.flatnonzero(columns >= 0)
    if len(np.unique(columns[used])) < len(used):
        raise VerificationError("columns: two units of the last layer have the same column")
    wrong = rows[:, used] != lowered.dictionary.columns.toarray(columns[used])
    if wrong.any():
        row, k = (int(i) for i in np.argwhere(wrong)[0])
        steps = problem.inputs.shape[1]
        sample, step = divmod(row, steps) if problem.network.supervise == "all" else (row, steps - 1)
        raise VerificationError(
            f"simulation: sample {sample}, step {step}, unit {used[k]} of the last layer reads "
            f"{int(rows[row, used[k]])}, the dictionary's column {columns[used[k]]} says "
            f"{int(not rows[row, used[k]])} ({int(wrong.sum())} of {wrong.size} bits differ)"
        )
