"""Parallel networks <-> the ℓ1 program over a dictionary of spike patterns ([E23] Thm 2.2, [U26] Thm 3).

lower: draw or read hidden weights, simulate them into a dictionary D, state the program in W.
reconstruct: keep the units of the active columns and the units that feed them; move each unit's weights to
the point of largest margin in its cell; put the subnetworks side by side in block-diagonal layers; take W as
output weights.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial, reduce
from pathlib import Path

import numpy as np
from scipy.linalg import block_diag

from convexsnn.arrays import BoolArray, FloatArray, IntArray, row_norms
from convexsnn.dictionary import Definition, SpikeDictionary, collect, draw_subnetworks, subnetworks_from_file
from convexsnn.dictionary.sources import get_source
from convexsnn.errors import LoweringError, ProblemFileError, ShapeError, VerificationError
from convexsnn.lowering.lowering import Lowered, Lowering
from convexsnn.networks import READOUTS, Layer, LayerSpec, Network, NetworkSpec, Subnetwork
from convexsnn.networks.neuron import joined
from convexsnn.pricing.doubtful import check_doubtful_witness
from convexsnn.pricing.enumeration import exact_dictionary
from convexsnn.problem import Problem
from convexsnn.programs import L1Program, Point, get_loss, get_penalty
from convexsnn.programs.margin import max_margin
from convexsnn.simulate import run_layer


def definition_of(problem: Problem) -> Definition:
    """Return the definition of a problem's patterns.

    Raises
    ------
    LoweringError
        A readout or layer of the network gives no 0/1 patterns; the message names the key.
    """
    _check_patterns(problem.network)
    spec = problem.dictionary
    return Definition(spec.margin, spec.weight_box, problem.network.readout, problem.network.supervise)


def _check_patterns(network: NetworkSpec) -> None:
    """Raise for networks that only ADMM trains: no 0/1 patterns, or units that share their weights."""
    refused = [] if READOUTS[network.readout].bits else [("network.readout", network.readout)]
    for k, layer in enumerate(network.layers, start=1):
        for name in ("kernel", "pool"):
            value = getattr(layer, name)
            if value != getattr(LayerSpec, name):
                refused.append((f"network.layers[{k}].{name}", value))
    for key, value in refused:
        raise LoweringError(
            f'{key}: {value!r} has no convex program over spike patterns; it is for training.method = "admm"'
        )


def dual_at_zero(problem: Problem) -> FloatArray:
    """Return the residual dual point at W = 0, (R, C); it does not depend on the dictionary."""
    targets = problem.encoded_targets()
    scale = (problem.row_weights() / problem.rows)[:, None]
    return scale * get_loss(problem.training.loss).residual(np.zeros_like(targets), targets)


def build_dictionary(problem: Problem, deadline: float = np.inf) -> SpikeDictionary:
    """Draw or read the hidden weights that ``[dictionary]`` asks for, and collect their patterns.

    An enumeration ends at `deadline`, a value of `time.perf_counter`, with the patterns known by then.

    Raises
    ------
    LoweringError
        The source does not fit the network, or trains networks, or no pattern has the margin.
    ProblemFileError
        The source is not registered, or its file cannot be read.
    """
    spec, definition = problem.dictionary, definition_of(problem)
    source = get_source(spec.source)
    if source.trains:
        raise LoweringError(
            f"dictionary.source: {source.name!r} trains networks first, build_dictionary does not; "
            "use convexsnn.lower(problem) or convexsnn.train(problem)"
        )
    if source.enumerates:
        walk = partial(exact_dictionary, deadline=deadline)
        return source.enumerated(problem.distinct, problem.network, definition, spec.limit, walk)
    if source.reads:
        if spec.file is None:
            raise ProblemFileError(
                f'dictionary.file: missing; source = "{source.name}" needs a file of hidden layers'
            )
        path, inputs = (problem.folder or Path()) / spec.file, problem.inputs.shape[2]
        subnetworks = subnetworks_from_file(path, problem.network, inputs, spec.weight_box, source)
    else:
        network = problem.network
        if spec.cascade:  # single units can be stacked on others
            network = replace(network, layers=(replace(network.layers[0], width=1),))
        subnetworks = draw_subnetworks(
            problem.distinct,
            np.reshape(problem.targets, (len(problem.inputs), -1)),
            network,
            definition,
            source=source,
            count=spec.count,
            seed=spec.seed,
            variant=spec.variant,
            scale=spec.scale,
        )
    return collect(problem.distinct, subnetworks, definition)


def witnesses_of(problem: Problem, *stacks: tuple[Layer, ...]) -> SpikeDictionary:
    """Return the dictionary of stacks of hidden layers, each of the problem's architecture.

    Raises
    ------
    LoweringError
        A weight is outside the box, or no pattern has the margin.
    """
    box = problem.dictionary.weight_box
    for k, layer in ((k, layer) for layers in stacks for k, layer in enumerate(layers, start=1)):
        largest = float(np.abs(layer.unit_weights()).max())
        if largest > box:
            raise LoweringError(
                f"dictionary.weight_box: {box:g}, but a weight of layer {k} is {largest:g}; raise it"
            )
    return collect(problem.distinct, [Subnetwork(layers) for layers in stacks], definition_of(problem))


def _with_true_largest(problem: Problem, dictionary: SpikeDictionary) -> SpikeDictionary:
    """Return the dictionary without columns that set λ_max and that only the rounding of floats produces.

    λ_max over all patterns is the worth of a pattern of the definition, which exact arithmetic decides.
    """
    if not get_source(problem.dictionary.source).covers_all_patterns:
        return dictionary
    table = dictionary.columns.transpose_times(dual_at_zero(problem))
    joint = get_penalty(problem.training.penalty).for_columns(dictionary.patterns).prices_jointly()
    worth = row_norms(table) if joint else np.abs(table).max(axis=1)
    samples, wrong = problem.distinct.samples, []
    for column in np.argsort(-worth, kind="stable"):
        witness = dictionary.subnetworks[dictionary.subnetwork_of[column]], int(dictionary.unit_of[column])
        try:
            check_doubtful_witness(*witness, samples, dictionary.definition)
            break
        except VerificationError as error:
            wrong.append(column)
            if len(wrong) == dictionary.patterns:
                reason = f"dictionary: no column is a pattern of the definition: {error}"
                raise LoweringError(reason) from error
    return dictionary.select(np.setdiff1d(np.arange(dictionary.patterns), wrong)) if wrong else dictionary


@dataclass(frozen=True)
class Convexification(Lowering):
    """The convex program of a parallel network over a dictionary."""

    def lower(self, problem: Problem, dictionary: SpikeDictionary | None = None) -> Lowered:
        """Return the program over `dictionary`; if not given, over the problem's own.

        Raises
        ------
        LoweringError, ProblemFileError
            As `build_dictionary`.
        """
        training = problem.training
        if training.method != "convex":
            raise LoweringError(
                f"training.method: {training.method!r} has no convex program; its blocks are shown by "
                "convexsnn inspect --splitting"
            )
        dictionary = dictionary or build_dictionary(problem)
        if training.regularization_fraction is not None:
            dictionary = _with_true_largest(problem, dictionary)
        program = L1Program(
            dictionary.columns,
            problem.encoded_targets(),
            training.loss,  # type: ignore[arg-type]
            training.regularization or 1.0,
            problem.row_weights(),
            1.0 / problem.rows,
            get_penalty(training.penalty).for_columns(dictionary.patterns),
        )
        if training.regularization_fraction is not None:
            largest = program.regularization_max
            if program.zero_is_always_optimal:
                largest = 1.0 / training.regularization_fraction  # any λ gives W = 0
            program = replace(program, regularization=training.regularization_fraction * largest)
        return Lowered(problem, program, dictionary)

    def reconstruct(self, lowered: Lowered, point: Point) -> Network:
        """Return the network with output weights `point.weights`, without idle units."""
        problem, dictionary = lowered.problem, lowered.dictionary
        if np.shape(point.weights) != lowered.program.shape:
            raise ShapeError(f"weights: expected {lowered.program.shape}, got {np.shape(point.weights)}")
        stacks, outputs = [], []
        for k, columns in _active_by_subnetwork(dictionary, point):
            layers, units = _without_idle_units(dictionary.subnetworks[k].layers, dictionary.unit_of[columns])
            weights = np.zeros((len(units), point.weights.shape[1]))
            weights[np.searchsorted(units, dictionary.unit_of[columns])] = point.weights[columns]
            if problem.dictionary.max_margin:
                in_use = np.isin(units, dictionary.unit_of[columns])
                layers = _centred(layers, problem.distinct.samples, dictionary.definition, in_use)
            stacks.append(layers)
            outputs.append(weights)
        merged = tuple(reduce(_side_by_side, level) for level in zip(*stacks, strict=True))
        merged = (_shared_inputs(merged[0], len(stacks)), *merged[1:])
        return Network(merged, np.concatenate(outputs), problem.network.readout, problem.network.supervise)

    def columns_of_units(self, lowered: Lowered, point: Point) -> IntArray:
        """Return the column of every last unit of the reconstructed network; -1 for a unit without one."""
        dictionary, parts = lowered.dictionary, []
        for k, columns in _active_by_subnetwork(dictionary, point):
            _, units = _without_idle_units(dictionary.subnetworks[k].layers, dictionary.unit_of[columns])
            column_of = np.full(len(units), -1)
            column_of[np.searchsorted(units, dictionary.unit_of[columns])] = columns
            parts.append(column_of)
        return np.concatenate(parts)


def _active_by_subnetwork(dictionary: SpikeDictionary, point: Point) -> list[tuple[int, IntArray]]:
    """Return the columns with a nonzero weight per subnetwork of their witness, in the order of its units."""
    active = np.flatnonzero(np.abs(point.weights).max(axis=1) > 0)
    if not len(active):
        active = np.array([0])  # the zero function: one unit, read out with weight 0
    order = active[np.lexsort((dictionary.unit_of[active], dictionary.subnetwork_of[active]))]
    stacks = dictionary.subnetwork_of[order]
    return [(int(k), order[stacks == k]) for k in np.unique(stacks)]


def _without_idle_units(layers: tuple[Layer, ...], units: IntArray) -> tuple[tuple[Layer, ...], IntArray]:
    """Drop the units that do not feed the last `units`; a recurrent layer stays whole.

    Returns
    -------
    layers : tuple of Layer
    of_last : (m,) int array
        Indices of the remaining units of the last layer.
    """
    remaining: list[Layer] = []
    in_layer, of_last = units, units
    for depth, layer in enumerate(reversed(layers)):
        if layer.recurrent is not None:
            in_layer = np.arange(layer.units)
        else:
            layer = layer.select(in_layer)
        if depth == 0:
            of_last = in_layer
        if depth < len(layers) - 1:
            below = np.flatnonzero(np.abs(layer.weights).max(axis=0) > 0)
            in_layer = below if len(below) else np.array([0])
            if layers[-2 - depth].recurrent is not None:
                in_layer = np.arange(layers[-2 - depth].units)
            layer = replace(layer, weights=layer.weights[:, in_layer])
        remaining.append(layer)
    return tuple(reversed(remaining)), of_last


def _centred(
    layers: tuple[Layer, ...], inputs: FloatArray, definition: Definition, in_use: BoolArray
) -> tuple[Layer, ...]:
    """Move every unit to the point of largest margin in its cell; spikes and the readouts `in_use` stay."""
    centred: list[Layer] = []
    signal: FloatArray | BoolArray = inputs
    for k, layer in enumerate(layers):
        membranes, spikes = run_layer(layer, signal)
        drive = layer.unit_inputs(np.asarray(signal, dtype=np.float64), spikes)
        rows = layer.unit_weights().copy()
        for j in range(layer.units):
            neuron, unit_spikes = layer.neuron.unit(j), spikes[:, :, j]
            g, h = neuron.affine_rows(drive, unit_spikes)
            fires = unit_spikes
            if k == len(layers) - 1 and definition.reads.of_membrane and in_use[j]:
                steps = definition.steps
                read_g, read_h = neuron.readout_rows(drive, unit_spikes)
                read = neuron.after_reset(membranes[:, steps, j], unit_spikes[:, steps]) >= 0
                g = np.concatenate([g, read_g[:, steps]], axis=1)
                h = np.concatenate([h, read_h[:, steps]], axis=1)
                fires = np.concatenate([unit_spikes, read], axis=1)
            rows[j], _ = max_margin(
                g.reshape(-1, g.shape[2]), h.ravel(), fires.ravel(), definition.weight_box, rows[j]
            )
        centred.append(layer.with_unit_weights(rows))
        signal = spikes
    return tuple(centred)


def _side_by_side(a: Layer, b: Layer) -> Layer:
    """Put two layers of the same kind side by side, block-diagonal, without connections between them."""
    return Layer(
        block_diag(a.weights, b.weights),
        joined([a.neuron, b.neuron], [a.units, b.units]),
        None if a.bias is None or b.bias is None else np.concatenate([a.bias, b.bias]),
        None if a.recurrent is None or b.recurrent is None else block_diag(a.recurrent, b.recurrent),
    )


def _shared_inputs(layer: Layer, copies: int) -> Layer:
    """Add up the blocks of a first layer: all subnetworks have the same inputs."""
    folded = layer.weights.reshape(layer.units, copies, -1).sum(axis=1)
    return replace(layer, weights=folded)
