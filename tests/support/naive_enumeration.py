"""All readout patterns of one unit, the slow and obvious way: one linear program per decision.

A membrane is an affine function of the trained weights once the earlier spikes are fixed; here it is an
array of d' coefficients and, last, the constant. The rows (t, i) are visited in time order; at each one the
unit is made to fire and made to be silent, and every way that some weights in the box still allow is
followed further. The trained weights are those on the inputs, then the bias, then the own weight.

With events e = a·w + c (a spike: u - θ >= 0; a membrane readout: v >= 0), one program decides:

    robust, margin ε   max m   s.t.  e >= m  where it happens,  e <= -m  where not,  |w| <= B:   m >= ε ?
    closed, margin 0   max m   s.t.  e >= 0  where it happens,  e <= -m  where not,  |w| <= B:   m > 0 ?
"""

from functools import cache

import numpy as np
from scipy.optimize import linprog

SETTLED = 1e-9  # numbers below are zero, up to the rounding of a linear program
OPEN = 1e-7  # between the two nothing is decided: such data do not belong in a test


class TooClose(ArithmeticError):
    """Some weights miss or meet the definition by so little that floating point cannot tell."""


@cache
def some_weights(conditions, margin, box):
    """Whether some weights in the box make events happen or not, in the sense of the margin.

    `conditions` is a set of pairs: an event (a, c), and whether it happens.
    """
    events, happens = (np.array(part) for part in zip(*sorted(conditions), strict=True))
    sign = np.where(happens, -1.0, 1.0)[:, None]  # sign (a·w + c) + slack m <= 0
    slack = np.where(happens & (margin == 0), 0.0, 1.0)[:, None]
    d = events.shape[1] - 1
    answer = linprog(
        np.r_[np.zeros(d), -1.0],
        A_ub=np.hstack([sign * events[:, :-1], slack]),
        b_ub=-sign[:, 0] * events[:, -1],
        bounds=[(-box, box)] * d + [(None, margin + 1.0)],
        method="highs",
        options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
    )
    if answer.status == 2:
        return False
    assert answer.status == 0, answer.message
    m = -answer.fun
    if margin == 0 and SETTLED < m < OPEN or margin > 0 and abs(m - margin) < 1e-3 * margin:
        raise TooClose(f"largest margin {m:g}, asked for {margin:g}")
    return m >= margin if margin > 0 else m > SETTLED


class Enumeration:
    """One leak, or none: follows all histories; `patterns` fills with the readouts met at the ends."""

    def __init__(self, inputs, spec, leak, definition):
        n, self.steps, d = inputs.shape
        columns = [inputs]
        if spec.bias:
            columns.append(np.ones((n, self.steps, 1)))
        if spec.neuron == "recurrent_threshold":
            columns.append(np.zeros((n, self.steps, 1)))  # its own last spike, put in by `carry`
        columns.append(np.zeros((n, self.steps, 1)))  # the constant
        self.drive = np.concatenate(columns, axis=2)
        self.one = np.zeros(self.drive.shape[2])
        self.one[-1] = 1.0
        self.spec, self.leak, self.definition = spec, leak, definition
        self.rows = [(t, i) for t in range(self.steps) for i in range(n)]
        self.patterns = set()
        self.follow(0, {}, {}, frozenset())

    def carry(self, u, fired):
        """What a step leaves to the next one, as an affine function of the weights."""
        spec, theta = self.spec, self.spec.threshold * self.one
        if spec.neuron == "threshold":
            return 0 * self.one
        if spec.neuron == "recurrent_threshold":
            return fired * np.eye(len(self.one))[-2]
        return {
            "subtract": self.leak * (u - theta * fired),
            "subtract_after": self.leak * u - theta * fired,
            "zero": self.leak * u * (1 - fired),
            "none": self.leak * u,
        }[spec.reset]

    def readouts(self, t, u, fired):
        """Return the possible readouts at this row, each with its event, or None if it takes none."""
        if self.definition.supervise == "last" and t < self.steps - 1:
            return [(None, None)]
        if self.definition.readout == "spike":
            return [(fired, None)]
        v = u
        if self.spec.neuron == "lif" and self.spec.reset in ("subtract", "subtract_after"):
            v = u - self.spec.threshold * self.one * fired
        if self.spec.neuron == "lif" and self.spec.reset == "zero" and fired:
            return [(True, None)]  # v = 0, whatever the weights
        return [(True, v), (False, v)]

    def follow(self, k, carried, seen, conditions):
        """Visit row k: `carried` by sample, `seen` readouts by (sample, step), conditions so far."""
        if k == len(self.rows):
            self.patterns.add(tuple(int(seen[key]) for key in sorted(seen)))
            return
        t, i = self.rows[k]
        u = self.drive[i, t] + carried.get(i, 0 * self.one)
        for fired in (True, False):
            left = {**carried, i: self.carry(u, fired)}
            for value, v in self.readouts(t, u, fired):
                more = conditions | {(tuple(u - self.spec.threshold * self.one), fired)}
                if v is not None:
                    more |= {(tuple(v), value)}
                if some_weights(more, self.definition.margin, self.definition.weight_box):
                    now = seen if value is None else {**seen, (i, t): value}
                    self.follow(k + 1, left, now, more)


def naive_trains(inputs, spec, definition):
    """Return the set of all patterns, zeros included, tuples of 0 and 1, rows sample by sample."""
    assert spec.width == 1 and not spec.recurrent
    inputs = np.asarray(inputs, dtype=float)
    leaks = spec.leak if spec.neuron == "lif" else (None,)
    return set().union(*(Enumeration(inputs, spec, leak, definition).patterns for leak in leaks))


def naive_patterns(inputs, spec, definition):
    """Return the set of all patterns but the zeros."""
    return {pattern for pattern in naive_trains(inputs, spec, definition) if any(pattern)}
