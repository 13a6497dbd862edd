"""All readout patterns of one unit behind hidden layers, the slow and obvious way: layer upon layer.

A unit of the first layer has finitely many spike trains over all samples and steps. A layer of m units
shows the next one any m of them, the same one twice if need be; and the next unit sees those m spikes as
its inputs. Nothing else of a layer's weights matters to what comes after it.
"""

from dataclasses import replace
from functools import cache
from itertools import combinations_with_replacement

import numpy as np
from naive_enumeration import naive_patterns, naive_trains


def naive_stack_patterns(inputs, layers, definition):
    """Return the set of all patterns but the zeros of one unit of the last of `layers`.

    Equal samples have equal spikes: what layers do with some distinct samples is worked out once.
    """
    samples, which = np.unique(np.asarray(inputs, dtype=float), axis=0, return_inverse=True)
    found = of_distinct_samples(totuple(samples), layers, definition)
    steps = samples.shape[1] if definition.supervise == "all" else 1
    rows = (which.reshape(-1, 1) * steps + np.arange(steps)).ravel()
    return {tuple(pattern[row] for row in rows) for pattern in found}


def totuple(array):
    return tuple(map(totuple, array)) if np.ndim(array) else float(array)


@cache
def of_distinct_samples(samples, layers, definition):
    first, *rest = layers
    if not rest:
        return naive_patterns(samples, first, definition)
    every_spike = replace(definition, readout="spike", supervise="all")
    trains = naive_trains(samples, replace(first, width=1), every_spike)
    n, steps, found = len(samples), len(samples[0]), set()
    for chosen in combinations_with_replacement(sorted(trains), first.width):
        spikes = np.reshape(chosen, (first.width, n, steps)).transpose(1, 2, 0)
        found |= naive_stack_patterns(spikes, tuple(rest), definition)
    return found
