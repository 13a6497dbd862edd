"""A point in the variables of the standard forms: what a warm start is given.

The weights alone settle everything else: slacks and epigraphs at their best values, and multipliers from a
feasible dual u, so that at an optimum the whole start satisfies the form's optimality conditions.
"""

from __future__ import annotations

import numpy as np

from convexsnn.arrays import FloatArray
from convexsnn.programs.cone_form import ConeForm
from convexsnn.programs.l1 import L1Program
from convexsnn.programs.penalties import Group
from convexsnn.programs.point import Point
from convexsnn.programs.qp_form import QPForm, by_output

LEAST = 1e-12  # probability of a class: its logarithm stays finite


def qp_start(program: L1Program, form: QPForm, start: Point) -> tuple[FloatArray, FloatArray]:
    """Return x and the rows' duals, the objective's slope in their bounds, as `form.recover` takes them."""
    dual = program.certify(start).dual
    x = np.zeros(form.A.shape[1])
    x[form.variables["w+"]] = by_output(np.maximum(start.weights, 0.0))
    x[form.variables["w-"]] = by_output(np.maximum(-start.weights, 0.0))
    slack = form.variables["slack"]
    side = form.A[:, slack].diagonal()
    x[slack] = np.maximum((form.row_lower - form.A @ x) / side, form.lower[slack])
    return x, form.outputs_to_rows @ by_output(dual)  # its entries are ±1: inverse and transpose


def cone_start(program: L1Program, form: ConeForm, start: Point) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return x, the cones' duals y and slacks s = b − A x; y satisfies P x + q + A'y = 0 at an optimum."""
    z, u = program.outputs(start.weights), program.certify(start).dual
    x, y = np.zeros(len(form.q)), np.zeros(len(form.b))
    x[form.variables["W"]] = by_output(start.weights)
    price = program.dictionary.transpose_times(u)
    _penalty_start(program, form, start.weights, price, x, y)
    cost = np.broadcast_to(program.row_scale, u.shape)
    margin, share = program.targets * z, program.targets * u
    name = program.loss.name
    if name == "squared":
        x[form.variables["r"]] = by_output(z - program.targets)
        y[form.rows["residual"]] = by_output(-u)
    elif name in ("hinge", "squared_hinge"):
        xi = np.maximum(0.0, 1.0 - margin)
        x[form.variables["xi"]] = by_output(xi)
        y[form.rows["margin"]] = by_output(share)
        slope = cost * xi if name == "squared_hinge" else cost
        y[form.rows["slack"]] = by_output(np.maximum(slope - share, 0.0))
    elif name == "logistic":
        t = np.logaddexp(0.0, -margin)
        x[form.variables["t"]] = by_output(t)
        for e, row, p in (("e0", "exp(-t)", cost - share), ("e1", "exp(-yz-t)", share)):
            x[form.variables[e]] = by_output(np.exp(-t if e == "e0" else -margin - t))
            y[form.rows[row]] = _exponential_dual(cost, p)
        y[form.rows["sum"]] = by_output(cost)
    else:
        t = program.loss.value(z, program.targets)
        shifted = z - np.sum(z * program.targets, axis=1, keepdims=True) - t[:, None]
        x[form.variables["t"]] = t
        x[form.variables["e"]] = by_output(np.exp(shifted))
        y[form.rows["exp(z-zy-t)"]] = _exponential_dual(cost, cost * program.targets - u)
        y[form.rows["sum"]] = cost[:, 0]
    return x, y, form.b - form.A @ x


def _exponential_dual(cost: FloatArray, mass: FloatArray) -> FloatArray:
    """Return (−m, m (log(m / c) − 1), c) of every entry, m being c times its probability."""
    m = np.clip(mass, LEAST * cost, cost)
    return np.stack([by_output(v) for v in (-m, m * (np.log(m / cost) - 1.0), cost)], axis=1).ravel()


def _penalty_start(
    program: L1Program, form: ConeForm, weights: FloatArray, price: FloatArray, x: FloatArray, y: FloatArray
) -> None:
    """Fill in the penalty's bounds and their duals; `price` is Dᵀu."""
    if not isinstance(program.penalty, Group):
        x[form.variables["bound"]] = by_output(np.abs(weights))
        for row, sign in (("W <= bound", 1.0), ("-W <= bound", -1.0)):
            y[form.rows[row]] = by_output(np.maximum(program.regularization + sign * price, 0.0) / 2.0)
        return
    x[form.variables["bound"]] = program.penalty.norms(weights)
    groups = np.tile(program.penalty.index, program.shape[1])
    for g in range(int(groups.max()) + 1):
        y[form.rows[f"group {g}"]] = np.append(program.regularization, -by_output(price)[groups == g])
