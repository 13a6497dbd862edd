"""The trained weights of a deep network as tables, and the sums over samples from which a table is fitted.

A hidden layer's table has a row a filter (a unit, where nothing is shared) and a column a feature: the
layer's inputs or a patch of them, the last spikes of all units where the layer is recurrent, and last 1 for a
bias.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from convexsnn.arrays import FloatArray
from convexsnn.networks import Layer, Network, NetworkSpec

ROWS = 200_000_000  # numbers in the features that are laid out at a time


@dataclass(frozen=True, eq=False)
class Weights:
    """Hidden layers and output weights A (m, C)."""

    layers: tuple[Layer, ...]
    output: FloatArray

    def table(self, k: int) -> FloatArray:
        """Return the table of hidden layer k; of the readout, A' (C, m), if k is their number."""
        if k == len(self.layers):
            return self.output.T
        layer = self.layers[k]
        parts = [layer.weights]
        if layer.recurrent is not None:
            parts.append(layer.recurrent)
        if layer.bias is not None:
            parts.append(layer.bias[:, None])
        return np.concatenate(parts, axis=1)

    def with_tables(self, tables: dict[int, FloatArray]) -> Weights:
        """Return the weights with other tables in some places."""
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
        """Return the network of these weights, in float64."""
        layers = tuple(layer.astype(np.float64) for layer in self.layers)
        return Network(
            layers, self.output.astype(np.float64), spec.readout, spec.supervise, spec.readout_leak
        )


@dataclass(eq=False)
class Sums:
    """What the weights of one layer are fitted from.

    Attributes
    ----------
    gram : (k, k) array or None
        F'F over samples, steps and positions; None where it is known already.
    moment : (filters, k) array
        ε'F, ε being the residual of the dynamics.
    square : float
        Σ ε².
    """

    gram: FloatArray | None
    moment: FloatArray
    square: float

    def plus(self, other: Sums) -> Sums:
        """Return the sums over both."""
        gram = None if self.gram is None or other.gram is None else self.gram + other.gram
        return Sums(gram, self.moment + other.moment, self.square + other.square)


def by_filter(layer: Layer, values: FloatArray) -> FloatArray:
    """Return values (n, T, units) as rows of filters, (n T positions, filters)."""
    if layer.window is None:
        return values.reshape(-1, values.shape[2])
    n, steps, _ = values.shape
    filters = values.reshape(n * steps, len(layer.weights), -1)
    return filters.swapaxes(1, 2).reshape(-1, len(layer.weights))


def feature_blocks(layer: Layer, seen: FloatArray, spikes: FloatArray) -> Iterator[tuple[slice, FloatArray]]:
    """Yield slices of samples and their features but for the bias, in the order of `by_filter`'s rows."""
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
        before = np.zeros_like(spikes[rows])
        before[:, 1:] = spikes[rows, :-1]
        yield rows, np.concatenate([flat, before.reshape(len(flat), -1)], axis=1)


def sums_of(features: FloatArray, residual: FloatArray, bias: bool, gram: bool = True) -> Sums:
    """Return the sums over rows; `bias` adds a feature that is 1."""
    moment = residual.T @ features
    square = features.T @ features if gram else None
    if bias:
        moment = np.column_stack([moment, residual.sum(axis=0)])
        if square is not None:
            total = features.sum(axis=0)
            square = np.block([[square, total[:, None]], [total[None, :], np.full((1, 1), len(features))]])
    wide = None if square is None else square.astype(np.float64)
    return Sums(wide, moment.astype(np.float64), float(np.sum(residual**2, dtype=np.float64)))
