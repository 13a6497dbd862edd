"""Small programs of every loss and penalty, with random data, and a slow reference of each."""

from itertools import product

import clarabel
import numpy as np
import pytest
from scipy import sparse

from convexsnn.programs import L1, Group, L1Program, Point

ROWS, COLUMNS = 13, 7  # rows no multiple of 8: the packed dictionary has padding
LOSS_NAMES = ("squared", "hinge", "squared_hinge", "logistic", "softmax")
PENALTY_NAMES = ("l1", "units", "blocks")

# (loss, penalty, outputs, weighted): softmax needs two classes
CASES = [
    (loss, penalty, outputs, weighted)
    for loss, penalty, outputs, weighted in product(LOSS_NAMES, PENALTY_NAMES, (1, 3), (False, True))
    if loss != "softmax" or outputs > 1
]
CASE_NAMES = ["-".join([c[0], c[1], f"C{c[2]}", "weights" if c[3] else "plain"]) for c in CASES]
every_case = pytest.mark.parametrize("case", CASES, ids=CASE_NAMES)


def random_targets(loss, rows, outputs, rng):
    if loss == "softmax":
        return np.eye(outputs)[rng.integers(outputs, size=rows)]
    if loss == "squared":
        return rng.standard_normal((rows, outputs))
    return rng.choice([-1.0, 1.0], size=(rows, outputs))


def make_penalty(name, columns):
    """Return ℓ1, one group a column, or groups of three columns (the last one smaller)."""
    return L1() if name == "l1" else Group(np.arange(columns) // (1 if name == "units" else 3))


def make_program(
    loss="squared",
    penalty="l1",
    outputs=1,
    weighted=False,
    *,
    fraction=0.3,
    rows=ROWS,
    columns=COLUMNS,
    seed=0,
    **changes,
):
    """Return a program at λ = fraction λ_max; `penalty` may be one itself, `changes` replace other fields."""
    rng = np.random.default_rng(seed)
    fields = {
        "dictionary": rng.random((rows, columns)) < 0.4,
        "targets": random_targets(loss, rows, outputs, rng),
        "loss": loss,
        "sample_weights": rng.uniform(0.5, 2.0, rows) if weighted else None,
        "penalty": make_penalty(penalty, columns) if isinstance(penalty, str) else penalty,
        **changes,
    }
    if "regularization" not in fields:
        limit = L1Program(regularization=1.0, **fields).regularization_max
        fields["regularization"] = fraction * limit
    return L1Program(**fields)


def row_loss(loss, z, y):
    """Return the loss of one row, as the table of losses.py writes it."""
    if loss == "squared":
        return sum((a - b) ** 2 / 2 for a, b in zip(z, y, strict=True))
    if loss == "hinge":
        return sum(max(0.0, 1 - b * a) for a, b in zip(z, y, strict=True))
    if loss == "squared_hinge":
        return sum(max(0.0, 1 - b * a) ** 2 / 2 for a, b in zip(z, y, strict=True))
    if loss == "logistic":
        return sum(np.logaddexp(0, -b * a) for a, b in zip(z, y, strict=True))
    return np.logaddexp.reduce(z) - sum(a * b for a, b in zip(z, y, strict=True))


def norm(penalty, table):
    """Return ‖table‖, group by group."""
    if penalty.name == "l1":
        return np.abs(table).sum()
    return sum(np.linalg.norm(table[penalty.index == g]) for g in set(penalty.index.tolist()))


def dual_norm(penalty, table):
    """Return the dual norm of table, group by group."""
    if penalty.name == "l1":
        return np.abs(table).max()
    return max(np.linalg.norm(table[penalty.index == g]) for g in set(penalty.index.tolist()))


def slow_objective(program, weights):
    """Return the primal objective, row by row on the dense dictionary."""
    z = program.dictionary.toarray().astype(float) @ weights
    losses = [row_loss(program.loss.name, *row) for row in zip(z, program.targets, strict=True)]
    total = sum(a * value for a, value in zip(program.sample_weights, losses, strict=True))
    return program.scale * total + program.regularization * norm(program.penalty, weights)


def places(layout, kind):
    """Return the place of every row or column of a form."""
    blocks = layout.rows if kind == "row" else layout.columns
    return [layout.place(index, kind) for index in range(blocks[-1].stop)]


def random_point(program, rng, size=1.0):
    return Point(size * rng.standard_normal(program.shape))


def random_feasible_dual(program, rng):
    """Return a u of the domain with ‖Dᵀu‖ <= λ, made without the package's own scaling."""
    z = 2.0 * rng.standard_normal(program.targets.shape)
    u = program.row_scale * program.loss.residual(z, program.targets) * rng.random()
    largest = dual_norm(program.penalty, program.dictionary.toarray().T.astype(float) @ u)
    return u * min(1.0, program.regularization / largest) * (1.0 - 1e-12)


def lower_bound(program, dual):
    """Return the dual objective of a solver's own dual, moved into the domain and scaled by hand."""
    u = program.row_scale * program.loss.project(dual / program.row_scale, program.targets)
    largest = dual_norm(program.penalty, program.dictionary.toarray().T.astype(float) @ u)
    return program.dual_objective(Point(None, u * min(1.0, program.regularization / largest)))


def solve_cone(form, accuracy=1e-11):
    """Solve a ConeForm with Clarabel itself; return x, its dual and the objective."""
    kinds = {
        "zero": clarabel.ZeroConeT,
        "nonnegative": clarabel.NonnegativeConeT,
        "second_order": clarabel.SecondOrderConeT,
        "exponential": lambda size: clarabel.ExponentialConeT(),
    }
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = accuracy
    P, A = sparse.csc_matrix(form.P), sparse.csc_matrix(form.A)
    cones = [kinds[kind](size) for kind, size in form.cones]
    found = clarabel.DefaultSolver(P, form.q, A, form.b, cones, settings).solve()
    return np.array(found.x), np.array(found.z), found.obj_val
