"""The trained weights of a deep network as tables, and the sums over samples that a table is fitted to.

The table of a hidden layer has one row per filter (per unit in a dense layer) and one column per feature. The
features are the layer's inputs or a patch of them, in a recurrent layer the last spikes of all units, and at
the end 1 if there is a bias.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from convexsnn.arrays import FloatArray, lagged
from convexsnn.networks import Layer, Network, NetworkSpec

ROWS = 200_000_000  # largest number of entries in one block of features


@dataclass(frozen=True, eq=False)
class Weights:
    """Hidden layers and output weights A (m, C)."""

    layers: tuple[Layer, ...]
    output: FloatArray

    def table(self, k: int) -> FloatArray:
        """Return the table of hidden layer k; for k = number of hidden layers, the readout's A' (C, m)."""
        if k == len(self.layers):
            return self.output.T
        layer = self.layers[k]
        blocks = [layer.weights]
        if layer.recurrent is not None:
            blocks.append(layer.recurrent)
        if layer.bias is not None:
            blocks.append(layer.bias[:, None])
        return np.concatenate(blocks, axis=1)

    def with_tables(self, tables: dict[int, FloatArray]) -> Weights:
        """Return the weights with the tables of some layers replaced."""
        layers, output = list(self.layers), self.output
        for k, table in tables.items():
            if k == len(self.layers):
                output = np.ascontiguousarray(table.T)
                continue
            layer, stop = layers[k], layers[k].weights.shape[1]
            after = stop + (0 if layer.recurrent is None else layer.units)
            layers[k] = replace(
                layer,
                weights=np.ascontiguousarray(table[:, :stop]),
                recurrent=None if layer.recurrent is None else np.ascontiguousarray(table[:, stop:after]),
                bias=None if layer.bias is None else np.ascontiguousarray(table[:, after]),
            )
        return Weights(tuple(layers), output)

    def network(self, spec: NetworkSpec) -> Network:
        """Return the network with these weights, in float64."""
        layers = tuple(layer.astype(np.float64) for layer in self.layers)
        return Network(
            layers, self.output.astype(np.float64), spec.readout, spec.supervise, spec.readout_leak
        )


@dataclass(eq=False)
class Sums:
    """Sums over samples to which the weights of one layer are fitted.

    Attributes
    ----------
    gram : (k, k) array or None
        F'F over samples, steps and positions; None if it was not requested.
    moment : (filters, k) array
        ε'F, where ε is the residual of the dynamics.
    square : float
        Σ ε².
    """

    gram: FloatArray | None
    moment: FloatArray
    square: float

    def plus(self, other: Sums) -> Sums:
        """Return the sums over the samples of both."""
        gram = None if self.gram is None or other.gram is None else self.gram + other.gram
        return Sums(gram, self.moment + other.moment, self.square + other.square)


def by_filter(layer: Layer, values: FloatArray) -> FloatArray:
    """Return values (n, T, units) with one column per filter, (n T positions, filters)."""
    if layer.window is None:
        return values.reshape(-1, values.shape[2])
    n, steps, _ = values.shape
    filters = values.reshape(n * steps, len(layer.weights), -1)
    return filters.swapaxes(1, 2).reshape(-1, len(layer.weights))


def feature_blocks(layer: Layer, seen: FloatArray, spikes: FloatArray) -> Iterator[tuple[slice, FloatArray]]:
    """Yield slices of samples and their features without the bias, in the row order of `by_filter`."""
    n, steps, d = seen.shape
    if layer.window is None and layer.recurrent is None:
        yield slice(0, n), seen.reshape(-1, d)
        return
    size = d + spikes.shape[2]
    if layer.window is not None:
        size = layer.window.positions * layer.window.patch
    at_a_time = max(1, ROWS // (steps * size))
    for start in range(0, n, at_a_time):
        rows = slice(start, min(start + at_a_time, n))
        flat = seen[rows].reshape(-1, d)
        if layer.window is not None:
            yield rows, layer.window.gather(flat).reshape(-1, layer.window.patch)
            continue
        yield rows, np.concatenate([flat, lagged(spikes[rows]).reshape(len(flat), -1)], axis=1)


def sums_of(features: FloatArray, residual: FloatArray, bias: bool, gram: bool = True) -> Sums:
    """Return the sums over rows; `bias` adds a feature of ones."""
    moment = residual.T @ features
    square = features.T @ features if gram else None
    if bias:
        moment = np.column_stack([moment, residual.sum(axis=0)])
        if square is not None:
            total = features.sum(axis=0)
            square = np.block([[square, total[:, None]], [total[None, :], np.full((1, 1), len(features))]])
    double = None if square is None else square.astype(np.float64)
    return Sums(double, moment.astype(np.float64), float(np.sum(residual**2, dtype=np.float64)))
