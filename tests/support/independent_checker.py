"""A second check of a result folder with a bound over all patterns, in fractions alone.

It shares no code with convexsnn. Every number of a file is taken as the rational that its 64 bits are, and no
float decides anything. `check` refuses with a reason, or returns bounds that hold:

1. The network's spikes in exact arithmetic give its outputs, and with them an objective `upper`. Its weights
   are in the box and its membranes keep the margin, so the network is one of those that the claim speaks of.
2. The dual point is moved into the domain of its loss (by less than MOVED, else it is refused).
3. A search through all spike patterns finds `price`: no pattern d has ‖dᵀu‖ above it. The domains are
   star-shaped about 0, so u·λ/price is feasible, and its dual value `lower` bounds every network from below.
4. The gap between the two is an upper bound of the true one, and is compared with what is stated.

In the search each membrane is an affine form in the unit's weights as long as its earlier spikes are fixed.
Sample by sample and step by step, both outcomes are tried, each one more inequality on the weights. Whether any
weights are left is decided by pivots on whole numbers. "Below the threshold" is "at most the threshold less an
infinitely small amount": constants are pairs, compared by their first part and then by their second.

Rounding that is allowed in what a file states: ROUNDING, relative to the objective. Out of reach, and
`NotCovered`: hidden layers below the unit, units that see each other, windows, claims about a dictionary.
"""

import json
import tomllib
from collections import namedtuple
from fractions import Fraction as Q
from math import gcd, isqrt, lcm, log
from pathlib import Path

import numpy as np

ROUNDING, MOVED, SLACK = Q(1, 10**9), Q(1, 10**9), Q(1, 10**12)
BITS, NODES = 192, 200_000
ONE = 1 << BITS
Checked = namedtuple("Checked", "upper lower gap price nodes")
Unit = namedtuple("Unit", "kind leak threshold reset size")  # size: number of its weights
Space = namedtuple("Space", "rows basic free det")  # see `cut`


class NotCovered(Exception):
    """The folder is beyond this check."""


class Refused(Exception):
    """A statement of the folder is not true."""


def demand(true, reason):
    if not true:
        raise Refused(reason)


# files


def arrays_of(path):
    """Return {name: (shape, values)} with numbers as fractions. The only use of numpy."""
    with np.load(path, allow_pickle=False) as file:
        read = {name: (file[name].shape, file[name].ravel().tolist()) for name in file.files}
    try:
        return {
            k: (s, [v if isinstance(v, str) else Q(v) for v in values]) for k, (s, values) in read.items()
        }
    except (ValueError, OverflowError) as error:
        raise Refused(f"{path.name}: a number that is not finite") from error


def table(array, *shape):
    """Return an array as nested lists after a check of its shape; None fits any length."""
    have, values = array
    fits = len(have) == len(shape) and all(b is None or a == b for a, b in zip(have, shape, strict=True))
    demand(fits, f"an array of shape {have}, expected {shape}")
    for length in reversed(have[1:]):
        values = [values[k : k + length] for k in range(0, len(values), length)]
    return values


def word(array):
    return str(array[1][0])


def targets_of(array, loss, task, n, steps):
    """Return the target of every row and output."""
    shape, flat = array
    demand(shape in {(n, *steps), (n, *steps, shape[-1])}, f"targets of shape {shape}")
    heads = shape[-1] if len(shape) == 2 + len(steps) else 1
    rows = [flat[k : k + heads] for k in range(0, len(flat), heads)]
    if task == "regression":
        return rows
    low, columns = {"squared": 0, "softmax": 0}.get(loss, -1), []
    for labels in zip(*rows, strict=True):
        if min(labels) == -1:
            demand(set(labels) <= {-1, 1}, "labels other than -1 and 1")
            both = (-1, 1) if loss == "softmax" else (1,)
            low_here = -1 if loss != "softmax" else 0
        else:
            demand(all(v.denominator == 1 and v >= 0 for v in labels), "labels that are no classes")
            classes = max(2, int(max(labels)) + 1)
            both = (1,) if classes == 2 and low == -1 else range(classes)
            low_here = low
        columns += [[Q(1 if v == label else low_here) for v in labels] for label in both]
    return [list(row) for row in zip(*columns, strict=True)]


# bounds of roots, exponentials and logarithms


def root_above(x):
    bits = BITS + max(0, x.denominator.bit_length() - x.numerator.bit_length())
    return Q(isqrt((x.numerator << 2 * bits) // x.denominator) + 1, 1 << bits)


def exp_bounds(x):
    """Bounds of e^x for x <= 0: the series of e^(-x/512) with all terms rounded one way, squared nine times."""
    if x < -300:
        return Q(0), Q(1, 1 << 400)
    y, ends = -x * ONE / 512, []
    for up in (0, 1):
        step = y.numerator // y.denominator + up
        total = term = ONE
        for k in range(1, 60):
            term = term * step // (k * ONE) + up
            total += term
        total += up  # the rest is less than one unit: 0.6^60 / 60!
        for _ in range(9):
            total = total * total // ONE + up
        ends.append(Q(ONE, total))
    return ends[1], ends[0]


def log_bounds(x):
    """Bounds of log(x), x > 0: for any guess g it is g + log(1 + r), r = x e^-g - 1, and r - r² <= log(1 + r) <= r."""
    guess = Q(log(x))
    powers = exp_bounds(-abs(guess))
    low, high = (x * e - 1 for e in (powers if guess >= 0 else (1 / powers[1], 1 / powers[0])))
    assert abs(low) < Q(1, 2) and abs(high) < Q(1, 2)
    return guess + low - low**2, guess + high


def entropy_below(p):
    return -p * log_bounds(p)[1] if p > Q(1, 10**60) else Q(0)


# losses: k is the weight of a row, a sample weight over the number of rows


def loss_above(loss, z, y, k):
    """Return an upper bound of the loss of one row with outputs z and targets y."""
    if loss == "softmax":
        most = max(z)
        rest = log_bounds(sum(exp_bounds(v - most)[1] for v in z))[1]
        return k * (most + rest - sum(a * b for a, b in zip(z, y, strict=True)))
    if loss == "squared":
        return k * sum((a - b) ** 2 for a, b in zip(z, y, strict=True)) / 2
    gaps = [a * b for a, b in zip(z, y, strict=True)]
    if loss == "hinge":
        return k * sum(max(Q(0), 1 - m) for m in gaps)
    if loss == "squared_hinge":
        return k * sum(max(Q(0), 1 - m) ** 2 for m in gaps) / 2
    return k * sum(max(Q(0), -m) + log_bounds(1 + exp_bounds(-abs(m))[1])[1] for m in gaps)


def into_domain(loss, u, y, k):
    """Return the nearby row of the dual point that is in the domain of its loss."""
    if loss == "squared":
        return u
    if loss == "softmax":
        q = [max(Q(0), k * b - a) for a, b in zip(u, y, strict=True)]
        q[q.index(max(q))] += k - sum(q)
        demand(min(q) >= 0, "dual: outside the simplex")
        return [k * b - p for p, b in zip(q, y, strict=True)]
    most = None if loss == "squared_hinge" else k
    inside = [max(Q(0), a * b) for a, b in zip(u, y, strict=True)]
    return [(p if most is None else min(p, most)) * b for p, b in zip(inside, y, strict=True)]


def dual_below(loss, u, y, k):
    """Return a lower bound of the dual objective of one row in its domain."""
    if loss == "softmax":
        return k * sum(entropy_below(b - a / k) for a, b in zip(u, y, strict=True))
    each = [a * b for a, b in zip(u, y, strict=True)]
    if loss == "logistic":
        return k * sum(entropy_below(p / k) + entropy_below(1 - p / k) for p in each)
    return sum(each) - (0 if loss == "hinge" else sum(a * a for a in u) / (2 * k))


def slope_at_zero(loss, y, k):
    """Return the dual row of the outputs 0, from which λ_max comes."""
    if loss == "softmax":
        return [k * (b - Q(1, len(y))) for b in y]
    return [k * b / (2 if loss == "logistic" else 1) for b in y]


# units: a form is [constant, coefficient of each weight]


def carried(unit, u, spike):
    """Return what the next step's membrane starts from."""
    if unit.kind == "threshold":
        return [Q(0)] * len(u)
    if unit.kind == "recurrent_threshold":
        return [Q(0)] * (len(u) - 1) + [Q(spike)]
    if unit.reset == "zero" and spike:
        return [Q(0)] * len(u)
    kept = [unit.leak * a for a in u]
    if spike and unit.reset in ("subtract", "subtract_after"):
        kept[0] -= unit.threshold * (unit.leak if unit.reset == "subtract" else 1)
    return kept


def after_reset(unit, u, spike):
    """Return the form whose sign a membrane readout sees; None where it is 0 for all weights."""
    if unit.kind != "lif" or unit.reset == "none" or not spike:
        return u
    return None if unit.reset == "zero" else [u[0] - unit.threshold, *u[1:]]


def plus(a, b):
    return [x + y for x, y in zip(a, b, strict=True)]


def simulate(unit, weights, sample, membrane, read):
    """Return the bits at the steps `read`, and the smallest distance from a threshold that matters."""
    state, bits, margins = [Q(0)] * (unit.size + 1), [], []
    for t, x in enumerate(sample):
        u = plus(state, x)
        level = u[0] + sum(a * w for a, w in zip(u[1:], weights, strict=True))
        spike = level >= unit.threshold
        margins.append(abs(level - unit.threshold))
        if t in read and membrane:
            form = after_reset(unit, u, spike)
            seen = Q(0) if form is None else level - u[0] + form[0]
            margins += [] if form is None else [abs(seen)]
            bits.append(seen >= 0)
        elif t in read:
            bits.append(spike)
        state = carried(unit, u, spike)
    return bits, min(margins)


# the search


def space_of(size, box):
    """Return the box; its variables are w + box >= 0, and then the distance from each inequality."""
    top = 2 * box
    rows = [[top.numerator, 0, *(-top.denominator * (j == k) for k in range(size))] for j in range(size)]
    return Space(rows, list(range(size, 2 * size)), list(range(size)), 1)


def cut(space, box, form, strict):
    """Return the part of a space where form >= 0, or > 0 if strict; None if it is empty.

    A row (c, e, a_1, a_2, ...) says: basic variable = (c + e·tiny + Σ a_k free_k) / det, all variables >= 0.
    The first variable below 0 changes places with the first free one that can raise it, which ends [Bland].
    """
    scale = lcm(*(a.denominator for a in form), box.denominator**2)
    g = [int(a * scale) for a in form[1:]]
    constant = int((form[0] - box * sum(form[1:])) * scale)
    common = gcd(constant, *g) or 1
    g, constant, det = [a // common for a in g], constant // common, space.det
    new = [det * constant, -det if strict else 0] + [0] * len(g)
    where = {name: row for name, row in zip(space.basic, space.rows, strict=True) if name < len(g)}
    for j, a in enumerate(g):
        if a and j in where:
            new = [x + a * y for x, y in zip(new, where[j], strict=True)]
        elif a:
            new[2 + space.free.index(j)] += a * det
    if not any(g):
        return space if (new[0], new[1]) >= (0, 0) else None
    rows, basic, free = [*space.rows, new], [*space.basic, len(space.basic) + len(g)], list(space.free)
    while True:
        low = [(name, i) for i, name in enumerate(basic) if (rows[i][0], rows[i][1]) < (0, 0)]
        if not low:
            return Space(rows, basic, free, det)
        r = min(low)[1]
        pivot = rows[r]
        able = [(name, k) for k, name in enumerate(free) if pivot[2 + k] > 0]
        if not able:
            return None
        k = min(able)[1]
        s, p = 2 + k, pivot[2 + k]
        for i, row in enumerate(rows):
            if i != r:
                changed = [(x * p - row[s] * y) // det for x, y in zip(row, pivot, strict=True)]
                changed[s] = row[s]
                rows[i] = changed
        rows[r] = [det if j == s else -x for j, x in enumerate(pivot)]
        basic[r], free[k], det = free[k], basic[r], p


class Search:
    """The largest ‖dᵀu‖ over all patterns d, no less than a given floor.

    `prices` are the rows of u by sample and step read. With `squared` it is the square of the ℓ2 norm, else the
    sum of the first column. A branch ends where no choice of the remaining bits exceeds the best so far.
    """

    def __init__(self, samples, prices, box, margin, membrane, read, squared, floor):
        self.box, self.margin, self.membrane, self.squared, self.nodes = box, margin, membrane, squared, 0
        same = {}
        for sample, rows in zip(samples, prices, strict=True):  # equal samples have equal spikes
            key = tuple(map(tuple, sample))
            same[key] = [plus(a, b) for a, b in zip(same[key], rows, strict=True)] if key in same else rows
        found = [(x, rows) for x, rows in same.items() if margin or any(map(any, rows))]
        found.sort(key=lambda pair: -sum(abs(a) for row in pair[1] for a in row))
        zero = [Q(0)] * len(prices[0][0])
        steps = [
            (x[t], rows[read.index(t)] if t in read else None, t + 1 == len(x))
            for x, rows in found
            for t in range(len(x))
        ]
        self.steps, self.zero, self.rest, self.best = steps, zero, [(zero, zero)], floor
        for _, row, _ in reversed(steps):
            up, down = self.rest[0]
            more = (
                plus(up, [max(a, Q(0)) for a in row or zero]),
                plus(down, [min(a, Q(0)) for a in row or zero]),
            )
            self.rest.insert(0, more)

    def most(self, sums, at):
        up, down = self.rest[at]
        if not self.squared:
            return sums[0] + up[0]
        return sum(max(abs(a + b), abs(a + c)) ** 2 for a, b, c in zip(sums, up, down, strict=True))

    def run(self, unit):
        self.unit = unit
        self.visit(0, [Q(0)] * (unit.size + 1), space_of(unit.size, self.box), self.zero)
        return self.best

    def sides(self, space, form):
        """Yield 1 and 0, each with the part of the space where the form has that sign."""
        for bit in (1, 0):
            side = [(a if bit else -a) for a in form]
            side[0] -= self.margin
            part = cut(space, self.box, side, not bit and not self.margin)
            if part:
                yield bit, part

    def visit(self, at, state, space, sums):
        if self.most(sums, at) <= self.best * (1 + SLACK):
            return
        if at == len(self.steps):
            self.best = self.most(sums, at)
            return
        self.nodes += 1
        if self.nodes > NODES:
            raise NotCovered(f"a search of more than {NODES} nodes")
        x, row, last = self.steps[at]
        u = plus(state, x)
        for spike, part in self.sides(space, [u[0] - self.unit.threshold, *u[1:]]):
            after = [Q(0)] * len(u) if last else carried(self.unit, u, spike)
            seen = [(spike, part)]
            if row is not None and self.membrane:
                form = after_reset(self.unit, u, spike)
                seen = [(1, part)] if form is None else self.sides(part, form)
            for bit, left in seen:
                self.visit(at + 1, after, left, plus(sums, row) if row is not None and bit else sums)


def highest_price(units, samples, prices, group, floor, *where):
    """Return (price, nodes): an upper bound of ‖dᵀu‖ over all patterns, relative SLACK above the largest."""
    outputs, nodes = len(prices[0][0]), 0
    if group:
        tasks = [prices]
    else:
        tasks = [[[[s * row[c]] for row in rows] for rows in prices] for c in range(outputs) for s in (1, -1)]
    for task in tasks:
        for unit in units:
            search = Search(samples, task, *where, group, floor**2 if group else floor)
            best = search.run(unit)
            nodes += search.nodes
            if best > (floor**2 if group else floor):
                floor = root_above(best) if group else best
    return floor * (1 + SLACK), nodes


# the folder


def units_of(arrays, prefix, layer, inputs):
    """Return the units of a stored layer, each with its weights."""
    kind = word(arrays[prefix + "neuron"])
    rows = table(arrays[prefix + "weights"], None, inputs)
    same = kind == layer["neuron"] and arrays[prefix + "threshold"][1] == [Q(layer["threshold"])]
    demand(
        same and (prefix + "bias" in arrays) == layer["bias"], f"{prefix}: another neuron than the problem's"
    )
    for name in ["bias"] * layer["bias"] + ["own_weight"] * (kind == "recurrent_threshold"):
        values = arrays[prefix + name][1]
        values = values * len(rows) if arrays[prefix + name][0] == () else values
        rows = [[*row, value] for row, value in zip(rows, values, strict=True)]
    leaks, reset = [None], None
    if kind == "lif":
        leaks, reset = arrays[prefix + "leak"][1], word(arrays[prefix + "reset"])
        demand(
            set(leaks) <= set(map(Q, layer["leak"])) and reset == layer["reset"],
            f"{prefix}: another leak or reset",
        )
    leaks = leaks * len(rows) if len(leaks) == 1 else leaks
    pairs = zip(leaks, rows, strict=True)
    return [(Unit(kind, leak, Q(layer["threshold"]), reset, len(row)), row) for leak, row in pairs]


def check(folder):
    """Return the bounds that hold for the network of a folder; raise `Refused` or `NotCovered`."""
    folder = Path(folder)
    claim = json.loads((folder / "certificate.json").read_text(encoding="utf-8"))
    problem = tomllib.loads((folder / "problem.toml").read_text(encoding="utf-8"))
    spec, training, network = problem["dictionary"], problem["training"], problem["network"]
    layer, loss, group = network["layers"][0], training["loss"], training["penalty"] == "group"
    for covered, what in (
        (spec["source"] in ("exact", "column_generation"), "source"),
        (claim["scope"] == "all_patterns", "scope"),
        (len(network["layers"]) == 1, "layers"),
        (not layer["recurrent"] and layer["stride"] == layer["pool"] == 1, "connections"),
        (layer["neuron"] in ("lif", "threshold", "recurrent_threshold"), "neuron"),
        (network["readout"] in ("spike", "membrane"), "readout"),
        (loss in ("squared", "hinge", "squared_hinge", "logistic", "softmax"), "loss"),
        (training["penalty"] in ("l1", "group"), "penalty"),
    ):
        if not covered:
            raise NotCovered(what)
    demand(problem["data"]["file"] == "data.npz", "data from elsewhere")
    data, net, stored, proof = (
        arrays_of(folder / f"{name}.npz") for name in ("data", "network", "dictionary", "certificate")
    )

    # data
    n, steps, d = data["inputs"][0]
    own = layer["neuron"] == "recurrent_threshold"
    extra = [Q(1)] * layer["bias"] + [Q(0)] * own
    samples = [
        [[Q(0), *x, *extra] for x in sample]
        for sample in table((data["inputs"][0], data["inputs"][1]), n, steps, d)
    ]
    every, membrane = network["supervise"] == "all", network["readout"] == "membrane"
    read = list(range(steps)) if every else [steps - 1]
    y = targets_of(data["targets"], loss, training["task"], n, (steps,) * every)
    weights = data["sample_weights"][1] if "sample_weights" in data else [Q(1)] * n
    k = [a / len(y) for a in weights for _ in read]
    box, margin, outputs = Q(spec["weight_box"]), Q(spec["margin"]), len(y[0])

    # network and dictionary
    patterns = {}

    def bits_of(name, unit, row):
        demand(max(map(abs, row)) <= box, f"{name}: a weight outside the box")
        runs = [simulate(unit, row, sample, membrane, read) for sample in samples]
        demand(min(far for _, far in runs) >= margin, f"{name}: a margin below the definition's")
        return [bit for bits, _ in runs for bit in bits]

    subnetworks = {}
    packed = table(stored["packed"], None, None)
    for p, (which, j) in enumerate(zip(stored["subnetwork_of"][1], stored["unit_of"][1], strict=True)):
        if which not in subnetworks:
            subnetworks[which] = units_of(stored, f"subnetwork{which}_layer1_", layer, d)
        patterns[p] = bits_of(f"column {p}", *subnetworks[which][int(j)])
        said = "".join(f"{int(byte):08b}" for byte in packed[p])[: len(y)]
        demand([bit == "1" for bit in said] == patterns[p], f"column {p}: other spikes than its witness")
    units = units_of(net, "layer1_", layer, d)
    out, told = (
        table(net["output_weights"], len(units), outputs),
        table(proof["weights"], len(packed), outputs),
    )
    demand(
        "layer2_neuron" not in net
        and [word(net[w]) for w in ("readout", "supervise")] == [network["readout"], network["supervise"]],
        "network: another architecture",
    )
    z = [[Q(0)] * outputs for _ in y]
    left = dict(enumerate(told))
    for j, ((unit, row), column, o) in enumerate(zip(units, proof["columns"][1], out, strict=True)):
        bits = bits_of(f"unit {j}", unit, row)
        demand(
            column < 0 and not any(o) or bits == patterns.get(int(column)),
            f"unit {j}: other spikes than its column",
        )
        demand(
            column < 0 or left.pop(int(column), None) == o, f"unit {j}: other output weights than its column"
        )
        z = [plus(a, o) if bit else a for a, bit in zip(z, bits, strict=True)]
    demand(not any(map(any, left.values())), "output weights of a column without a unit")

    # numbers
    limit, where = Q(claim["regularization"]), (box, margin, membrane, read, group)
    kinds = [
        Unit(layer["neuron"], Q(b), Q(layer["threshold"]), layer["reset"], d + len(extra))
        for b in (layer["leak"] if layer["neuron"] == "lif" else [0])
    ]

    def price_of(rows, floor):
        width = len(read)
        return highest_price(
            kinds,
            samples,
            [rows[i : i + width] for i in range(0, len(rows), width)],
            group,
            floor,
            *where[:-1],
        )

    wanted = training.get("regularization")
    if wanted is None:
        most = price_of([slope_at_zero(loss, *pair) for pair in zip(y, k, strict=True)], Q(0))[0]
        wanted = Q(training["regularization_fraction"]) * most if most else 1
    demand(abs(limit - Q(wanted)) <= ROUNDING * limit and limit > 0, "regularization: not the problem's")
    penalty = sum(root_above(sum(a * a for a in o)) if group else sum(map(abs, o)) for o in out)
    upper = sum(loss_above(loss, *row) for row in zip(z, y, k, strict=True)) + limit * penalty
    dual = table(proof["dual"], len(y), outputs)
    inside = [into_domain(loss, *row) for row in zip(dual, y, k, strict=True)]
    moved = max(abs(a - b) for p, q in zip(dual, inside, strict=True) for a, b in zip(p, q, strict=True))
    demand(moved <= MOVED * max(k), "dual: outside the domain of the loss")
    price, nodes = price_of(inside, limit)
    scaled = [[a * limit / price for a in row] for row in inside]
    lower = sum(dual_below(loss, *row) for row in zip(scaled, y, k, strict=True))
    gap = max(Q(0), upper - lower) / (upper or 1)

    # what is stated
    stated = {name: Q(claim[name]) for name in ("objective", "lower_bound", "gap", "oracle_bound")}
    size, difference = max(abs(upper), Q(1, 10**12)), max(Q(0), stated["objective"] - stated["lower_bound"])
    demand(abs(stated["objective"] - upper) <= ROUNDING * size, "objective: not the network's")
    demand(stated["lower_bound"] <= lower + ROUNDING * size, "lower_bound: not proved by the dual point")
    demand(price <= stated["oracle_bound"] * (1 + ROUNDING), "oracle_bound: a pattern has a higher price")
    demand(
        abs(stated["gap"] - difference / (abs(stated["objective"]) or 1)) <= ROUNDING,
        "gap: not that of its bounds",
    )
    demand(gap <= stated["gap"] + 2 * ROUNDING, "gap: larger than stated")
    kind = f"robust, margin {spec['margin']:g}" if margin else "closed (margin 0)"
    definition = f"{kind}, weights in [-{box:g}, {box:g}], {network['readout']} readout, {'every' if every else 'last'} step"
    for name, value in (
        ("problem", problem["name"]),
        ("margin", margin),
        ("weight_box", box),
        ("tolerance", problem["solver"]["tolerance"]),
        ("patterns", len(packed)),
        ("units", len(units)),
        ("definition", definition),
    ):
        demand(claim[name] == value, f"{name}: not the problem's")
    closed = gap <= min(Q(claim["tolerance"]), Q(1, 100)) + 2 * ROUNDING
    demand(
        claim["status"] == "bounded" or claim["status"] == "optimal_global" and closed,
        "status: not shown by the gap",
    )
    return Checked(upper, lower, gap, price, nodes)
