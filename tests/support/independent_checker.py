"""A second check of a result folder with a bound over all patterns, in fractions alone.

It shares no code with convexsnn. A number of a file is the rational that its 64 bits are; no float decides.

1. Network and witnesses are simulated exactly: box, margin, spikes as stated; the objective is `upper`.
2. The dual point is moved into the domain of its loss, by at most ROUNDING of a row's weight.
3. A search through all patterns d finds `price`, which no ‖dᵀu‖ exceeds. The domains are star-shaped about 0:
   u·λ/price is feasible, and its dual objective `lower` bounds every network of the definition from below.

In the search a membrane is an affine form in the unit's weights, since its earlier spikes are fixed. Both
outcomes of each step are tried, each an inequality; pivots on whole numbers tell whether weights are left.
"Below θ" is "at most θ less something infinitely small": constants are pairs in that order. The fingerprint
is not computed. Stated numbers may be rounded by ROUNDING of the objective, a stated price by 50 SLACK of it.
"""

import json
import tomllib
from collections import namedtuple
from fractions import Fraction as Q
from functools import cache, partial
from itertools import product
from math import isqrt, lcm, log
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

ROUNDING, SLACK, NODES, ONE = Q(1, 10**9), Q(1, 10**13), 200_000, 1 << 192
KNOWN = "exact column_generation lif threshold recurrent_threshold spike membrane l1 group squared hinge"
KNOWN = {*KNOWN.split(), "squared_hinge", "logistic", "softmax"}
Checked = namedtuple("Checked", "upper lower gap price nodes")
Unit = namedtuple("Unit", "kind leak threshold reset size")  # size: number of its weights
Space = namedtuple("Space", "rows basic free det")  # see `cut`
Problem = namedtuple("Problem", "samples y k read membrane box margin loss group layer units")

both = partial(zip, strict=True)
NotCovered = type("NotCovered", (Exception,), {"__doc__": "The folder is beyond this check."})
Refused = type("Refused", (Exception,), {"__doc__": "A statement of the folder is not true."})


def demand(true, reason):
    if not true:
        raise Refused(reason)


def plus(a, b):
    return [x + y for x, y in both(a, b)]


def dot(a, b):
    return sum(x * y for x, y in both(a, b))


def arrays_of(path):
    """Return {name: (shape, values)}, numbers as fractions. The only use of numpy."""
    with np.load(path, allow_pickle=False) as file:
        read = {name: (file[name].shape, file[name].ravel().tolist()) for name in file.files}
    return {k: (s, [v if isinstance(v, str) else Q(v) for v in flat]) for k, (s, flat) in read.items()}


def table(array, *shape):
    """Return an array as nested lists after a check of its shape; None fits any length."""
    have, flat = array
    demand(have == tuple(b or a for a, b in zip(have, shape, strict=True)), f"shape {have}, not {shape}")
    for length in reversed(have[1:]):
        flat = [flat[k : k + length] for k in range(0, len(flat), length)]
    return flat


def targets_of(array, loss, task, lead):
    """Return the target of every row and output; `lead` is (n,) or (n, T)."""
    shape, flat = array
    heads = shape[-1] if len(shape) > len(lead) else 1
    demand(shape in (lead, (*lead, heads)), f"targets of shape {shape}")
    if task == "regression":
        return [flat[k : k + heads] for k in range(0, len(flat), heads)]
    columns, low = [], 0 if loss in ("squared", "softmax") else -1
    for labels in (flat[head::heads] for head in range(heads)):
        signs, least = min(labels) == -1, low
        known = {-1, 1} if signs else set(range(int(max(labels)) + 1))
        demand(known.issuperset(labels), "labels that are no classes")
        fires = (-1, 1) if signs else range(max(2, int(max(labels)) + 1))
        if len(fires) == 2 and (low == -1 or signs and loss == "squared"):
            fires, least = (1,), -1
        columns += [[Q(1 if v == label else least) for v in labels] for label in fires]
    return [list(row) for row in both(*columns)]


def root_above(x):
    one = ONE << max(0, x.denominator.bit_length() - x.numerator.bit_length())
    return Q(isqrt(x.numerator * one**2 // x.denominator) + 1, one)


def exp_bounds(x):
    """Bounds of e^x, x <= 0: the series of e^(-x/512) with all terms rounded one way, squared nine times."""
    if x < -300:
        return Q(0), Q(1, 1 << 400)
    y, ends = -x * ONE / 512, []
    for up in (0, 1):
        total = term = ONE
        for k in range(1, 60):
            term = term * (y.numerator // y.denominator + up) // (k * ONE) + up
            total += term
        total += up  # what is left is less than one unit
        for _ in range(9):
            total = total * total // ONE + up
        ends.append(Q(ONE, total))
    return ends[1], ends[0]


def log_bounds(x):
    """Bounds of log(x) = g + log(1 + r), x > 0: any guess g, r = x e^-g - 1, r - r² <= log(1 + r) <= r."""
    guess = Q(log(x))
    low, high = exp_bounds(-abs(guess))
    low, high = (x * low - 1, x * high - 1) if guess >= 0 else (x / high - 1, x / low - 1)
    assert max(abs(low), abs(high)) < Q(1, 2)
    return guess + low - low**2, guess + high


def loss_above(loss, z, y, k):
    """Return an upper bound of the loss of a row: outputs z, targets y, k its weight over the rows."""
    if loss == "softmax":
        most = max(z)
        return k * (most + log_bounds(sum(exp_bounds(v - most)[1] for v in z))[1] - dot(z, y))
    if loss == "squared":
        return k * sum((a - b) ** 2 for a, b in both(z, y)) / 2
    sides = [a * b for a, b in both(z, y)]
    if loss == "logistic":
        return k * sum(max(0, -m) + log_bounds(1 + exp_bounds(-abs(m))[1])[1] for m in sides)
    return k * sum(max(0, 1 - m) if loss == "hinge" else max(0, 1 - m) ** 2 / 2 for m in sides)


def into_domain(loss, u, y, k):
    """Return a row of the dual point, moved to the domain of its loss."""
    if loss == "softmax":
        q = [max(Q(0), k * b - a) for a, b in both(u, y)]
        q[q.index(max(q))] += k - sum(q)
        demand(min(q) >= 0, "dual: outside the simplex")
        return [k * b - p for p, b in both(q, y)]
    if loss == "squared":
        return u
    inside = [max(Q(0), a * b) for a, b in both(u, y)]
    return [(p if loss == "squared_hinge" else min(p, k)) * b for p, b in both(inside, y)]


def dual_below(loss, u, y, k):
    """Return a lower bound of the dual objective of a row in its domain."""
    if loss in ("softmax", "logistic"):
        shares = [b - a / k if loss == "softmax" else a * b / k for a, b in both(u, y)]
        shares += [] if loss == "softmax" else [1 - p for p in shares]
        return k * sum(-p * log_bounds(p)[1] for p in shares if p > Q(1, 10**60))
    return dot(u, y) - (0 if loss == "hinge" else dot(u, u) / (2 * k))


def after(unit, u, spike):
    """Return the forms that the next membrane starts from, and that a membrane readout sees (None: 0)."""
    if unit.kind != "lif":
        return [Q(0)] * (len(u) - 1) + [Q(spike and unit.kind == "recurrent_threshold")], u
    if unit.reset == "zero" and spike:
        return [Q(0)] * len(u), None
    seen = [u[0] - unit.threshold * (spike and unit.reset != "none"), *u[1:]]
    kept = [unit.leak * a for a in (u if unit.reset == "subtract_after" else seen)]
    kept[0] -= unit.threshold * (spike and unit.reset == "subtract_after")
    return kept, seen


def simulated(name, unit, weights, problem):
    """Return the bits of all rows; refuse weights outside the box and membranes within the margin."""
    demand(max(map(abs, weights)) <= problem.box, f"{name}: a weight outside the box")
    bits = []
    for sample in problem.samples:
        state = [Q(0)] * (unit.size + 1)
        for t, x in enumerate(sample):
            u = plus(state, x)
            spike = dot(u, [1, *weights]) >= unit.threshold
            state, seen = after(unit, u, spike)
            far = [dot(seen, [1, *weights])] if t in problem.read and problem.membrane and seen else []
            bits += [far[0] >= 0 if far else bool(spike)] * (t in problem.read)
            far.append(dot(u, [1, *weights]) - unit.threshold)
            demand(min(map(abs, far)) >= problem.margin, f"{name}: a membrane within the margin")
    return bits


def cut(space, box, form, strict):
    """Return the part of a space where form >= 0, or > 0 if strict; None if it is empty.

    Variables are >= 0: w + box, box - w, the slack of each inequality. Row (c, e, a_1, a_2, ...): a basic one
    is (c + e·tiny + Σ a_k free_k) / det. The first below 0 changes places with the first free one that can
    raise it; by Bland's rule this ends. If none can, the space is empty.
    """
    scale, det = lcm(*(a.denominator for a in form)) * box.denominator, space.det
    g, constant = [int(a * scale) for a in form[1:]], int((form[0] - box * sum(form[1:])) * scale)
    if not any(g):
        return space if constant > 0 or constant == 0 and not strict else None
    new = [det * constant, -det if strict else 0] + [0] * len(g)
    for j, a in enumerate(g):
        if j in space.free:
            new[2 + space.free.index(j)] += a * det
        else:
            new = [x + a * y for x, y in both(new, space.rows[space.basic.index(j)])]
    rows, basic, free = [*space.rows, new], [*space.basic, len(space.basic) + len(g)], list(space.free)
    while low := [(name, i) for i, name in enumerate(basic) if rows[i][:2] < [0, 0]]:
        r = min(low)[1]
        pivot = rows[r]
        _, k = min(((name, k) for k, name in enumerate(free) if pivot[2 + k] > 0), default=(0, None))
        if k is None:
            return None
        s, p = 2 + k, pivot[2 + k]
        for i, row in enumerate(rows):
            rows[i] = [(x * p - row[s] * y) // det for x, y in both(row, pivot)]
            rows[i][s] = row[s]
        rows[r] = [-x for x in pivot]
        rows[r][s] = det
        basic[r], free[k], det = free[k], basic[r], p
    return Space(rows, basic, free, det)


class Search:
    """The largest ‖dᵀu‖ of all patterns d (squared: group penalty), or `floor` if none exceeds it.

    A branch ends where no choice of the remaining bits exceeds the best so far by more than SLACK of it.
    """

    def __init__(self, problem, unit, prices, floor):
        self.problem, self.unit, self.best, self.nodes, self.steps = problem, unit, floor, 0, []
        same, width, self.zero = {}, len(problem.read), [Q(0)] * len(prices[0])
        for i, sample in enumerate(problem.samples):  # equal samples have equal spikes
            rows = same.setdefault(str(sample), (sample, [self.zero] * width))[1]
            rows[:] = [plus(a, b) for a, b in both(rows, prices[i * width : (i + 1) * width])]
        for sample, rows in sorted(same.values(), key=lambda x: -sum(abs(a) for row in x[1] for a in row)):
            if problem.margin or any(map(any, rows)):
                at = dict(both(problem.read, rows))
                self.steps += [(x, at.get(t), t + 1 == len(sample)) for t, x in enumerate(sample)]
        self.rest = [(self.zero, self.zero)]  # the most and the least that the steps from here on add
        for _, row, _ in reversed(self.steps):
            ends = [[end(a, Q(0)) for a in row or self.zero] for end in (max, min)]
            self.rest.insert(0, tuple(plus(a, b) for a, b in both(self.rest[0], ends)))
        box, size = 2 * problem.box, unit.size
        rows = [[box.numerator, 0, *(-box.denominator * (j == k) for k in range(size))] for j in range(size)]
        start = Space(rows, list(range(size, 2 * size)), list(range(size)), 1)
        self.visit(0, [Q(0)] * (unit.size + 1), start, self.zero)

    def sides(self, space, form):
        """Yield 1 and 0, each with the part of the space where the form has that sign."""
        margin = self.problem.margin
        for bit, side in (1, form), (0, [-a for a in form]):
            part = cut(space, self.problem.box, [side[0] - margin, *side[1:]], not bit and not margin)
            if part:
                yield bit, part

    def visit(self, at, state, space, sums):
        most = sums[0] + self.rest[at][0][0]
        if self.problem.group:
            most = sum(max(abs(a + b), abs(a + c)) ** 2 for a, b, c in both(sums, *self.rest[at]))
        self.nodes += 1
        if self.nodes > NODES:
            raise NotCovered(f"a search of more than {NODES} nodes")
        if most <= self.best * (1 + SLACK) or at == len(self.steps):
            self.best = max(most, self.best) if at == len(self.steps) else self.best
            return
        (x, row, last), unit = self.steps[at], self.unit
        u = plus(state, x)
        for spike, part in self.sides(space, [u[0] - unit.threshold, *u[1:]]):
            (start, form), seen = after(unit, u, spike), [(spike, part)]
            if row and self.problem.membrane:
                seen = [(1, part)] if form is None else self.sides(part, form)
            start = [Q(0)] * len(u) if last else start
            for bit, left in seen:
                self.visit(at + 1, start, left, plus(sums, row) if row and bit else sums)


def highest_price(problem, u, floor):
    """Return an upper bound of ‖dᵀu‖ over all patterns, SLACK above the largest or floor, and the nodes."""
    signed, nodes = [[[sign * row[c]] for row in u] for c in range(len(u[0])) for sign in (1, -1)], 0
    for unit, task in product(problem.units, [u] if problem.group else signed):
        search = Search(problem, unit, task, floor**2 if problem.group else floor)
        nodes += search.nodes
        if not problem.group or search.best > floor**2:
            floor = root_above(search.best) if problem.group else search.best
    return floor * (1 + SLACK), nodes


def problem_of(tables, folder):
    """Return the problem of a folder; λ is left out."""
    spec, training, network = tables["dictionary"], tables["training"], tables["network"]
    layer, loss, penalty = network["layers"][0], training["loss"], training["penalty"]
    words = spec["source"], layer["neuron"], network["readout"], loss, penalty
    plain = (len(network["layers"]), layer["recurrent"], layer["stride"], layer["pool"]) == (1, False, 1, 1)
    if not plain or not KNOWN.issuperset(words):
        raise NotCovered(f"{len(network['layers'])} layers of {layer}; {', '.join(words)}")
    demand(tables["data"] == {"file": "data.npz"}, "data from elsewhere")
    data = arrays_of(folder / "data.npz")
    n, steps, d = data["inputs"][0]
    more = [Q(1)] * layer["bias"] + [Q(0)] * (layer["neuron"] == "recurrent_threshold")
    samples = [[[Q(0), *x, *more] for x in sample] for sample in table(data["inputs"], n, steps, d)]
    lead = (n, steps) if network["supervise"] == "all" else (n,)
    read = range(steps) if len(lead) > 1 else [steps - 1]
    y = targets_of(data["targets"], loss, training["task"], lead)
    weights = table(data["sample_weights"], n) if "sample_weights" in data else [Q(1)] * n
    demand(min(weights) > 0, "a sample weight that is not positive")
    k = [a / len(y) for a in weights for _ in read]
    fixed, lif = (Q(layer["threshold"]), layer["reset"], d + len(more)), layer["neuron"] == "lif"
    units = [Unit(layer["neuron"], Q(leak), *fixed) for leak in (layer["leak"] if lif else [0])]
    where = network["readout"] == "membrane", Q(spec["weight_box"]), Q(spec["margin"])
    return Problem(samples, y, k, read, *where, loss, penalty == "group", layer, units)


def units_of(arrays, prefix, problem):
    """Return the units of a stored layer, each with its weights."""
    layer, kind = problem.layer, problem.layer["neuron"]
    words = ["neuron", "threshold", *["reset"] * (kind == "lif")]
    names = ["bias"] * layer["bias"] + {"lif": ["leak"], "threshold": []}.get(kind, ["own_weight"])
    same = all(arrays[prefix + name][1] == [layer[name]] for name in words)
    same = same and sum(name.startswith(prefix) for name in arrays) == len(words + names) + 1
    demand(same, f"{prefix}: not the problem's layer")
    rows = table(arrays[prefix + "weights"], None, None)
    each = {name: arrays[prefix + name][1] for name in names}
    each = {name: v * len(rows) if len(v) == 1 else v for name, v in each.items()}
    leaks = each.pop("leak", [Q(0)] * len(rows))
    demand(set(leaks) <= {unit.leak for unit in problem.units}, f"{prefix}: a leak outside the grid")
    rows = [[*row, *more] for row, *more in both(rows, *each.values())]
    demand(all(len(row) == problem.units[0].size for row in rows), f"{prefix}: other inputs than the data")
    return [(problem.units[0]._replace(leak=leak), row) for leak, row in both(leaks, rows)]


def outputs_of(problem, folder, network):
    """Check the spikes of dictionary and network; return dual point, output weights, outputs and counts."""
    stored, net, proof = (arrays_of(folder / f"{x}.npz") for x in ("dictionary", "network", "certificate"))
    stack = cache(lambda k: units_of(stored, f"subnetwork{k}_layer1_", problem))
    patterns, count, units = [], len(problem.y[0]), both(stored["subnetwork_of"][1], stored["unit_of"][1])
    for p, (row, (k, j)) in enumerate(both(table(stored["packed"], None, None), units)):
        patterns.append(simulated(f"column {p}", *stack(k)[int(j)], problem))
        stated = "".join(f"{int(byte):08b}" for byte in row)[: len(problem.y)]
        demand([bit == "1" for bit in stated] == patterns[p], f"column {p}: other spikes than stated")
    units = units_of(net, "layer1_", problem)
    same = all(net[name][1] == [network[name]] for name in ("readout", "supervise"))
    demand(same and not any(name.startswith("layer2") for name in net), "network: not the problem's")
    out, z = table(net["output_weights"], len(units), count), [[Q(0)] * count for _ in problem.y]
    left = dict(enumerate(table(proof["weights"], len(patterns), count)))
    for j, ((unit, weights), column, row) in enumerate(both(units, proof["columns"][1], out)):
        bits = simulated(f"unit {j}", unit, weights, problem)
        z = [plus(a, row) if bit else a for a, bit in both(z, bits)]
        if column >= 0 or any(row):
            demand(left.pop(column, None) == row, f"unit {j}: other output weights than its column")
            demand(bits == patterns[int(column)], f"unit {j}: other spikes than its column")
    demand(not any(map(any, left.values())), "weights: a column without a unit")
    dual = table(proof["dual"], len(problem.y), count)
    return dual, out, z, {"patterns": len(patterns), "units": len(units)}


def check(folder):
    """Return the bounds that hold for the network of a folder; raise `Refused` or `NotCovered`."""
    try:
        return check_files(Path(folder))
    except (LookupError, TypeError, ValueError, ArithmeticError, OSError, BadZipFile) as error:
        raise Refused(f"damaged: {error!r}") from error


def check_files(folder):
    claim = json.loads((folder / "certificate.json").read_text(encoding="utf-8"))
    tables = tomllib.loads((folder / "problem.toml").read_text(encoding="utf-8"))
    if claim["scope"] != "all_patterns":
        raise NotCovered(f"scope: {claim['scope']}")
    problem, training, network = problem_of(tables, folder), tables["training"], tables["network"]
    dual, out, z, counts = outputs_of(problem, folder, network)
    y, k, loss, limit = problem.y, problem.k, problem.loss, Q(claim["regularization"])
    expected = training.get("regularization")
    if expected is None:  # a fraction of the largest price at the dual point of z = 0
        mean, half = Q(loss == "softmax", len(y[0])), 2 if loss == "logistic" else 1
        start = [[b * (a - mean) / half for a in row] for row, b in both(y, k)]
        expected = Q(training["regularization_fraction"]) * highest_price(problem, start, Q(0))[0] or 1
    demand(limit > 0 and abs(limit - Q(expected)) <= ROUNDING * limit, "regularization: not the problem's")
    penalty = sum(root_above(dot(row, row)) if problem.group else sum(map(abs, row)) for row in out)
    upper = limit * penalty + sum(loss_above(loss, *row) for row in both(z, y, k))
    inside = [into_domain(loss, *row) for row in both(dual, y, k)]
    for row, moved, most in both(dual, inside, k):
        demand(max(abs(a - b) for a, b in both(row, moved)) <= ROUNDING * most, "dual: outside its domain")
    price, nodes = highest_price(problem, inside, limit)
    scaled = [[a * limit / price for a in row] for row in inside]
    lower = sum(dual_below(loss, *row) for row in both(scaled, y, k))
    gap = max(Q(0), upper - lower) / (abs(upper) or 1)
    objective, bound, stated = (Q(claim[name]) for name in ("objective", "lower_bound", "gap"))
    idle = sum(loss_above(loss, [Q(0)] * len(row), row, b) for row, b in both(y, k))  # the objective at W = 0
    size, spec = abs(upper) + idle / 10**6, tables["dictionary"]
    between = max(Q(0), objective - bound) / (abs(objective) or 1)
    demand(abs(objective - upper) <= ROUNDING * size, "objective: not the network's")
    demand(bound <= lower + ROUNDING * size, "lower_bound: above what the dual point proves")
    demand(price <= Q(claim["oracle_bound"]) * (1 + 50 * SLACK), "oracle_bound: a pattern has a higher price")
    demand(abs(stated - between) <= ROUNDING and gap <= stated + 2 * ROUNDING, "gap: not that of the bounds")
    kind = f"robust, margin {spec['margin']:g}" if problem.margin else "closed (margin 0)"
    steps, box = "every step" if network["supervise"] == "all" else "last step", f"{spec['weight_box']:g}"
    same = {name: spec[name] for name in ("margin", "weight_box")} | counts | {"problem": tables["name"]}
    same["tolerance"] = tables["solver"]["tolerance"]
    same["definition"] = f"{kind}, weights in [-{box}, {box}], {network['readout']} readout, {steps}"
    for name, value in same.items():
        demand(claim[name] == value, f"{name}: {claim[name]!r} instead of {value!r}")
    status = "optimal_global" if gap <= min(Q(claim["tolerance"]), Q(1, 100)) + 2 * ROUNDING else "bounded"
    demand(claim["status"] in ("bounded", status), "status: not proved")
    return Checked(upper, lower, gap, price, nodes)
