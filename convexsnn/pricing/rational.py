"""Neurons and cells in rational arithmetic: a float is a fraction, so nothing is rounded.

Spikes and rows come from the neuron's own methods, applied to fractions. They and the emptiness of cells are
computed again from the stored data and parameters. Rows are stored as whole numbers (A, B, e): A·w >= B in
units of 2^−e. A cell

    robust, margin ε   σ (g·w − h) >= ε for all its rows, |w_j| <= box         σ = 1 fires, −1 silent
    closed             g·w >= h (fires), g·w < h (silent),  |w_j| <= box

is empty if some y >= 0 make Σ y σ h + ε Σ y > box Σ_j |Σ y σ g_j|; in the closed definition with ε = 0, and
equality is enough if y > 0 on a silent row. Any such y is a proof, so the multipliers of a program in floats
prove most empty cells. A dual simplex in whole numbers decides the rest.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from convexsnn.arrays import BoolArray, FloatArray, IntArray, fraction
from convexsnn.errors import UnsupportedError
from convexsnn.networks import Layer, Neuron
from convexsnn.pricing.decisions import Decisions, events_of

Rows = Sequence[tuple[int, int, bool]]  # (sample, node, fires)


class ExactRun(NamedTuple):
    """The result of `exact_spikes`.

    Attributes
    ----------
    spikes : (n, T, m) bool array
    membrane : (n, T, m) bool array
        The membrane readout 1{v >= 0}; (n, 0, m) if it was not requested.
    closest : tuple of m Fraction
        For every unit, the smallest |u − θ|: 0 is a tie.
    """

    spikes: BoolArray
    membrane: BoolArray
    closest: tuple[Fraction, ...]


def exact_spikes(layer: Layer, inputs: FloatArray | BoolArray, read_membrane: bool = True) -> ExactRun:
    """Run one layer on inputs (n, T, d) in rational arithmetic; its spikes are the next layer's inputs.

    It applies the neuron's own `step` to fractions.

    Raises
    ------
    UnsupportedError
        The neuron turns fractions into floats.
    """
    n, steps, _ = inputs.shape
    neuron = layer.neuron.exact()
    drive = _products(fraction(inputs), layer.weights)
    if layer.bias is not None:
        drive = drive + fraction(layer.bias)
    spikes = np.zeros((n, steps, layer.units), bool)
    membrane = np.zeros((n, steps if read_membrane else 0, layer.units), bool)
    closest = np.full(layer.units, np.inf, object)
    carry: Any = 0
    for t in range(steps):
        now = drive[:, t]
        if layer.recurrent is not None and t > 0:
            now = now + _products(spikes[:, t - 1].astype(int).astype(object), layer.recurrent)
        u, spikes[:, t], carry = neuron.step(now, carry)
        _check_fractions(layer.neuron, "step", u)
        closest = np.minimum(closest, np.abs(u - neuron.threshold).min(axis=0))
        if read_membrane:
            v = neuron.after_reset(u, spikes[:, t])
            _check_fractions(layer.neuron, "after_reset", v)
            membrane[:, t] = v >= 0
    return ExactRun(spikes, membrane, tuple(closest))


def _check_fractions(neuron: Neuron, method: str, values: Any) -> None:
    """Refuse values that are not fractions, except −∞, which marks a row that always holds."""
    for value in np.ravel(values):
        if not isinstance(value, (Fraction, int)) and value != -np.inf:
            raise UnsupportedError(
                f"neuron {neuron.kind}: {method} returns {value!r} for fractions, so it is not exact; "
                "its numbers belong in declared parameters, not in floats of its code"
            )


def _products(inputs: Any, weights: FloatArray) -> Any:
    """Return inputs @ weights.T in whole numbers over one denominator, because sums of fractions are slow."""
    (x, unit_x), (w, unit_w) = _whole(inputs), _whole(fraction(weights))
    return np.frompyfunc(lambda k: Fraction(k, unit_x * unit_w), 1, 1)(x @ w.T)


def _whole(fractions: Any) -> tuple[Any, int]:
    """Return whole numbers k and a power of two q with fractions = k / q."""
    unit = max(f.denominator for f in np.ravel(fractions))
    return np.frompyfunc(lambda f: f.numerator * (unit // f.denominator), 1, 1)(fractions), unit


def exact_rows(layer: Layer, inputs: FloatArray, spikes: Any, readout: bool = False) -> tuple[Any, Any]:
    """Return g (T, d') and h (T,) of a single unit on one sample (T, d), as fractions.

    These are the neuron's own rows. With its own `spikes` (T,) fixed, the unit fires at t iff g·w >= h; row t
    depends on the spikes before t. With `readout` the event is that of the membrane readout, v_t >= 0, which
    also depends on the spike at t; its h is −inf where the event happens for all weights.

    Raises
    ------
    UnsupportedError
        The neuron turns fractions into floats.
    """
    neuron, fires = layer.neuron.unit(0).exact(), np.array([spikes], bool)
    seen = fraction(layer.unit_inputs(inputs[None], fires[..., None]))
    g, h = (neuron.readout_rows if readout else neuron.affine_rows)(seen, fires)
    _check_fractions(layer.neuron, "readout_rows" if readout else "affine_rows", g)
    _check_fractions(layer.neuron, "readout_rows" if readout else "affine_rows", h)
    return g[0], h[0]


def _inverse(matrix: Any) -> tuple[Any, int] | None:
    """Return N and D > 0 with matrix·N = D·1, whole numbers (Bareiss 1968), or None if it is singular."""
    k = len(matrix)
    table, previous = np.concatenate([matrix, np.eye(k, dtype=int).astype(object)], axis=1), 1
    for c in range(k):
        p = next((i for i in range(c, k) if table[i, c] != 0), None)
        if p is None:
            return None
        table[[c, p]] = table[[p, c]]
        pivot = table[c].copy()
        table = (pivot[c] * table - table[:, c : c + 1] * pivot) // previous
        table[c], previous = pivot, pivot[c]
    return (table[:, k:], previous) if previous > 0 else (-table[:, k:], -previous)


class ExactCells:
    """Decisions in rational arithmetic about the cells of a unit's weight space.

    Parameters
    ----------
    unit : Decisions
    """

    def __init__(self, unit: Decisions) -> None:
        definition, self.unit = unit.definition, unit
        self.margin, self.box = Fraction(definition.margin), Fraction(definition.weight_box)
        self.closed = definition.margin == 0
        self._events = events_of(unit.inputs.shape[1], definition)
        self._rows: dict[tuple[int, int], tuple[list[int], int, int, int]] = {}

    def row(self, sample: int, node: int) -> tuple[list[int], int, int, int]:
        """Return A, B, ε and e of the event at a node of a sample's tree."""
        if (sample, node) not in self._rows:
            outcomes, at = [], node
            while at:
                outcomes.append(at % 2 == 0)
                at = (at - 1) // 2
            t, readout = self._events[len(outcomes)]
            spikes = [o for o, (_, r) in zip(outcomes[::-1], self._events, strict=False) if not r]
            g, h = exact_rows(
                self.unit.layer, self.unit.inputs[sample, : t + 1], (*spikes, False)[: t + 1], readout
            )
            whole, unit = _whole(np.array([*g[t], h[t], self.margin], object))
            self._rows[sample, node] = (list(whole[:-2]), whole[-2], whole[-1], unit.bit_length() - 1)
        return self._rows[sample, node]

    def refuted(self, rows: Rows, multipliers: FloatArray) -> bool:
        """Return whether these multipliers (r,) prove the cell of some rows empty."""
        positive = [k for k in range(len(rows)) if multipliers[k] > 0]
        if not positive or not np.isfinite(multipliers).all():
            return False
        exact = [self.row(*rows[k][:2]) for k in positive]
        finest = max(row[3] for row in exact)
        largest, total, weighted, strict = float(max(multipliers[k] for k in positive)), 0, [], False
        for k, (a, b, margin, e) in zip(positive, exact, strict=True):
            y = int(multipliers[k] / largest * 2.0**60)
            strict |= y > 0 and not rows[k][2]
            y = (y if rows[k][2] else -y) << (finest - e)
            weighted.append([y * value for value in a])
            total += y * b + abs(y) * margin
        reach = sum(abs(sum(column)) for column in zip(*weighted, strict=True))
        excess = total * self.box.denominator - reach * self.box.numerator
        return excess > 0 or (self.closed and excess == 0 and strict)

    def holds(self, rows: Rows, weights: FloatArray) -> bool:
        """Return whether weights (d,) are in the cell of some rows and in the weight box."""
        exact = [Fraction(w) for w in weights.tolist()]
        if max(map(abs, exact)) > self.box:
            return False
        for sample, node, fires in rows:
            a, b, margin, _ = self.row(sample, node)
            away = sum((k * w for k, w in zip(a, exact, strict=True)), Fraction(0)) - b
            if away < margin if fires else (away >= 0 if self.closed else away > -margin):
                return False
        return True

    def point(self, rows: Rows, basis: IntArray | None = None) -> list[Fraction] | None:
        """Return weights in the cell of some rows, or None if the cell is empty.

        Parameters
        ----------
        basis : (d + 1,) int array, optional
            First basis, numbered as in `small_lp`.
        """
        count, d = len(rows), self.unit.dimension
        table = self._program(rows)
        lows = [count, *range(count + 1, len(table), 2)]
        at = lows if basis is None else [int(i) if i >= 0 else count - 1 - int(i) for i in basis]
        for pivot in itertools.count():
            solution = _inverse(table[at, :-1])
            # rounding led to a basis that is not dual feasible
            if solution is None or max(solution[0][d]) > 0:
                at = list(lows)
                continue
            inverse, scale = solution
            y = -inverse[d]
            x = inverse @ table[at, -1]
            m = Fraction(x[d], scale)
            if m < self.margin or (self.closed and m <= 0):
                return None
            slack = table[:, :-1] @ x - table[:, -1] * scale
            violated = np.flatnonzero(slack < 0)
            if not len(violated):
                return [Fraction(v, scale) for v in x[:d]]
            # the most violated row is fast, the first one never cycles (Bland 1977)
            entering = int(violated[0] if pivot > 20 * d else violated[np.argmin(slack[violated])])
            share = table[entering, :-1] @ inverse
            ratios = [(Fraction(y[i], share[i]), at[i], i) for i in range(d + 1) if share[i] > 0]
            if not ratios:
                return None
            at[min(ratios)[2]] = entering
        raise AssertionError

    def _program(self, rows: Rows) -> Any:
        """Return the program's rows as whole numbers, (·, d + 2): on w and m, and the right-hand side."""
        d = self.unit.dimension
        exact = [self.row(sample, node) for sample, node, _ in rows]
        finest = max([row[3] for row in exact], default=self.box.denominator.bit_length() - 1)
        one = 1 << finest
        table = np.zeros((len(rows) + 1 + 2 * d, d + 2), object)
        for k, ((a, b, _, e), (_, _, fires)) in enumerate(zip(exact, rows, strict=True)):
            shift = finest - e
            table[k] = [(v if fires else -v) << shift for v in (*a, 0, b)]
            table[k, d] = 0 if self.closed and fires else -one
        table[len(rows), d:] = -one, -one - int(self.margin * one)
        for j in range(d):
            for high in range(2):
                k = len(rows) + 1 + 2 * j + high
                table[k, j] = -self.box.denominator if high else self.box.denominator
                table[k, -1] = -self.box.numerator
        return table
