"""Exact enumeration of small networks of several layers: all possible outputs of the hidden layers.

Each unit of a hidden layer produces one of the finitely many spike trains that a single unit can produce on
its inputs. No unit sees its neighbours. So the output of a layer of m units is a multiset of m of these
trains, and a unit of the next layer is a single unit on these spikes ([E23, §3]: the union over subsets). Two
units may have the same train, which doubles the weight box for it. A silent train has the same effect as a
weight of 0, so it counts only if there is no other train.

[E23] Ergen et al., Globally optimal training of neural networks with threshold activations, ICLR 2023.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations_with_replacement
from math import comb

import numpy as np

from convexsnn.arrays import BoolArray, FloatArray
from convexsnn.dictionary.dictionary import Definition
from convexsnn.distinct import DistinctSamples, distinct_samples
from convexsnn.errors import LoweringError, UnsupportedError
from convexsnn.networks import Layer, LayerSpec, NetworkSpec
from convexsnn.pricing.decisions import Decisions, decisions_on, events_of
from convexsnn.pricing.prices import Witnesses, layer_of

MOST_STACKS = 10_000
MOST_NUMBERS = 1 << 20  # of a hidden unit's decision trees


@dataclass(frozen=True, eq=False)
class Trains:
    """All spike trains (k, n·T) of a hidden unit, with weights; a silent train only if there is no other."""

    spikes: BoolArray
    witnesses: Witnesses


# takes units, distinct samples of the data and a limit; raises UnsupportedError if there are more trains
AllTrains = Callable[[Sequence[Decisions], FloatArray, int], Trains]


@dataclass(frozen=True, eq=False)
class _Stack:
    """Hidden layers and their output, (n, T, m)."""

    layers: tuple[Layer, ...]
    signal: FloatArray


def exact_units(
    inputs: FloatArray | DistinctSamples, network: NetworkSpec, definition: Definition, all_trains: AllTrains
) -> list[Decisions]:
    """Return the decision trees of a last unit, for each point of its grids on each stack of hidden layers.

    Raises
    ------
    LoweringError
        Some hidden layer has no possible unit.
    UnsupportedError
        Units of a layer see each other's spikes, or there are too many hidden spike trains.
    """
    for k, spec in enumerate(network.layers, start=1):
        if spec.recurrent and spec.width > 1:
            raise UnsupportedError(
                f"dictionary.source: layer {k} has {spec.width} coupled units; all patterns are known only "
                "where no unit sees another of its layer"
            )
    samples, _ = distinct_samples(inputs)
    stacks = [_Stack((), samples)]
    for k, spec in enumerate(network.layers[:-1], start=1):
        stacks = _one_deeper(stacks, k, spec, replace(definition, readout="spike", supervise="all"),
                             samples, all_trains)  # fmt: skip
    if len(network.layers) > 1:
        _check_size(stacks[0].signal, definition, len(network.layers))
    last = network.layers[-1]
    return [unit for s in stacks for unit in decisions_on(s.signal, last, definition, s.layers)]


def _check_size(signal: FloatArray, definition: Definition, k: int) -> None:
    events, n, d = len(events_of(signal.shape[1], definition)), len(signal), signal.shape[2]
    if events > 20 or n * d * 2**events > MOST_NUMBERS:
        raise UnsupportedError(
            f"dictionary.source: layer {k} of several: spikes of {n} samples × {signal.shape[1]} steps are "
            "too many to enumerate for every choice of hidden units"
        )


def _one_deeper(
    stacks: list[_Stack],
    k: int,
    spec: LayerSpec,
    definition: Definition,
    samples: FloatArray,
    all_trains: AllTrains,
) -> list[_Stack]:
    """Return the stacks with one more layer, one for each different output."""
    _check_size(stacks[0].signal, definition, k)
    deeper: dict[tuple[bytes, ...], _Stack] = {}
    for stack in stacks:
        units = decisions_on(stack.signal, spec, definition, stack.layers)
        limit = 1
        while comb(limit + spec.width, spec.width) + len(deeper) <= MOST_STACKS:
            limit += 1
        try:
            trains = all_trains(units, samples, limit)
        except UnsupportedError as error:
            raise UnsupportedError(f"dictionary.source: hidden layer {k}: {error}") from error
        keys = [row.tobytes() for row in np.packbits(trains.spikes, axis=1)]
        signals = trains.spikes.reshape(len(keys), *samples.shape[:2]).astype(np.float64)
        for choice in combinations_with_replacement(range(len(keys)), spec.width):
            key = tuple(sorted(keys[j] for j in choice))
            if key not in deeper:
                rows = list(choice)
                signal = np.moveaxis(signals[rows], 0, 2).copy()
                layer = layer_of(units, trains.witnesses.select(rows))
                deeper[key] = _Stack((*stack.layers, layer), signal)
    if not deeper:
        raise LoweringError(
            f"dictionary: no unit of hidden layer {k} stays {definition.margin:g} away from its threshold"
        )
    return list(deeper.values())
