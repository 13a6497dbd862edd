"""Optima over given patterns by cvxpy, and λ_max, written down without the package's programs."""

import cvxpy as cp
import numpy as np


def numbers(targets, loss, task, rows):
    """Return what the loss compares outputs with, (R, C): one column of ±1, or one a class."""
    table = np.asarray(targets, dtype=float).reshape(rows, -1)
    if task == "regression":
        return table
    signed = loss not in ("squared", "softmax")
    columns = []
    for labels in table.T:
        values = np.array([-1, 1]) if labels.min() < 0 else np.arange(max(2, labels.max() + 1))
        if len(values) == 2 and (signed or (labels.min() < 0 and loss == "squared")):
            values = values[1:]
        low = -1.0 if signed or len(values) == 1 else 0.0
        columns.append(np.where(labels[:, None] == values, 1.0, low))
    return np.hstack(columns)


def optimum(patterns, targets, weights, loss, penalty, regularization):
    """Minimise (1/R) Σ a ℓ(D W, y) + λ Σ ‖W‖ over all patterns; return the objective and W."""
    d = np.array(sorted(patterns), dtype=float).T
    w = cp.Variable((d.shape[1], targets.shape[1]))
    z = d @ w
    margins = cp.multiply(targets, z)
    losses = {
        "squared": lambda: cp.square(z - targets) / 2,
        "hinge": lambda: cp.pos(1 - margins),
        "squared_hinge": lambda: cp.square(cp.pos(1 - margins)) / 2,
        "logistic": lambda: cp.logistic(-margins),
        "softmax": lambda: (
            cp.reshape(cp.log_sum_exp(z, axis=1), (len(d), 1), order="C")
            - cp.sum(margins, axis=1, keepdims=True)
        ),
    }[loss]()
    size = cp.norm1(cp.vec(w, order="C")) if penalty == "l1" else cp.sum(cp.norm(w, 2, axis=1))
    fit = cp.sum(cp.multiply(weights[:, None], losses)) / len(d)
    program = cp.Problem(cp.Minimize(fit + regularization * size))
    names = ("tol_gap_abs", "tol_gap_rel", "tol_feas", "tol_ktratio")
    program.solve(cp.CLARABEL, **dict.fromkeys(names, 1e-10), max_iter=500)
    return program.value, w.value


def optimum_of(problem, patterns):
    """Return `optimum` for a problem whose patterns are given."""
    training = problem.training
    targets = numbers(problem.targets, training.loss, training.task, problem.rows)
    weights = np.ones(len(problem.inputs)) if problem.sample_weights is None else problem.sample_weights
    weights = np.repeat(weights, problem.rows // len(weights))
    return optimum(patterns, targets, weights, training.loss, training.penalty, training.regularization)


def columns_of(dictionary):
    return {tuple(map(int, column)) for column in dictionary.columns.toarray().T}


def largest_regularization(problem, patterns):
    """Return λ_max over some patterns from the loss's slope at outputs of 0, written down by hand."""
    training = problem.training
    y = numbers(problem.targets, training.loss, training.task, problem.rows)
    slope = {
        "squared": lambda: y,
        "hinge": lambda: y,
        "squared_hinge": lambda: y,
        "logistic": lambda: y / 2,
        "softmax": lambda: y - 1 / y.shape[1],
    }[training.loss]()
    weights = np.ones(len(problem.inputs)) if problem.sample_weights is None else problem.sample_weights
    slope = slope * np.repeat(weights, problem.rows // len(weights))[:, None] / problem.rows
    prices = np.array(sorted(patterns), float) @ slope
    worth = np.linalg.norm(prices, axis=1) if training.penalty == "group" else np.abs(prices).max(axis=1)
    return worth.max()
