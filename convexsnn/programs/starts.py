"""A starting point in the variables of the standard forms.

The weights determine all other variables: slacks and bounds take their best values, and the multipliers come
from a feasible dual u. So at an optimum the whole start satisfies the optimality conditions of the form.
"""

from __future__ import annotations

import numpy as np

from convexsnn.arrays import FloatArray
from convexsnn.programs.cone_form import ConeForm
from convexsnn.programs.l1 import L1Program
from convexsnn.programs.point import Point
from convexsnn.programs.qp_form import QPForm, by_output


def qp_start(program: L1Program, form: QPForm, start: Point) -> tuple[FloatArray, FloatArray]:
    """Return x and the rows' duals, the objective's slope in their bounds, as `form.recover` expects them."""
    dual = program.certify(start).dual
    x = np.zeros(form.A.shape[1])
    x[form.variables["w+"]] = by_output(np.maximum(start.weights, 0.0))
    x[form.variables["w-"]] = by_output(np.maximum(-start.weights, 0.0))
    for name, value in program.loss.slack_values(program.outputs(start.weights), program.targets).items():
        x[form.variables[name]] = by_output(value)
    return x, form.outputs_to_rows @ by_output(dual)  # entries ±1: the transpose is the inverse


def cone_start(program: L1Program, form: ConeForm, start: Point) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return x, the cones' duals y and slacks s = b − A x; y satisfies P x + q + A'y = 0 at an optimum."""
    z, u = program.outputs(start.weights), program.certify(start).dual
    x, y = np.zeros(len(form.q)), np.zeros(len(form.b))
    x[form.variables["W"]] = by_output(start.weights)
    price = program.dictionary.transpose_times(u)
    for part in (
        program.penalty.cone_start(start.weights, price, program.regularization),
        program.loss.cone_start(z, u, program.targets, np.broadcast_to(program.row_scale, u.shape)),
    ):
        for name, value in part.variables.items():
            x[form.variables[name]] = value
        for name, value in part.duals.items():
            y[form.rows[name]] = value
    return x, y, form.b - form.A @ x
