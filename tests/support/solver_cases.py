"""What every solver is held to: the gaps it must reach, small programs of every kind, and a sound answer."""

from dataclasses import replace

import cvxpy
import numpy as np
import pytest
from small_programs import dual_norm, make_program, slow_objective

from convexsnn.programs import Point
from convexsnn.solvers import (
    SOLVERS,
    Answer,
    Capabilities,
    Solver,
    Status,
    get_solver,
    installed,
)

KINDS = ("lp", "qp", "cone", "logistic", "exponential")
SMALL = {  # every kind of program, the losses and penalties that make it up, few and many outputs
    "lp": [("hinge", "l1", 1, False), ("hinge", "l1", 3, True)],
    "qp": [("squared", "l1", 1, True), ("squared_hinge", "l1", 1, False), ("squared", "l1", 3, False)],
    "cone": [
        ("squared", "units", 3, False),
        ("hinge", "blocks", 1, True),
        ("squared_hinge", "units", 2, True),
    ],
    "logistic": [("logistic", "l1", 1, True), ("logistic", "l1", 3, False)],
    "exponential": [
        ("softmax", "l1", 3, False),
        ("softmax", "blocks", 2, True),
        ("logistic", "units", 2, True),
    ],
}

# Gap that the backends of cvxpy reach on small programs, by kind: first-order methods less than others.
BACKENDS = {
    "cvxpy:clarabel": dict.fromkeys(KINDS, 1e-6),
    "cvxpy:scs": dict.fromkeys(KINDS, 1e-4),
    "cvxpy:osqp": {"lp": 1e-4, "qp": 1e-4},
}
METHODS = [f"{name}:{method}" for name, cls in SOLVERS.items() for method in cls.methods or ()]
CAN = {name: cls.capabilities for name, cls in SOLVERS.items()}
CAN |= {name: get_solver(name).capabilities for name in METHODS}
CAN |= {name: replace(CAN["cvxpy"], programs=frozenset(gap), gap=gap) for name, gap in BACKENDS.items()}
GAPS = {name: can.gap for name, can in CAN.items()}


def takes(name, *case):
    """Return whether a solver takes a small program, by its own account."""
    return CAN[name].refusal(make_program(*case)) is None


CASES = [case for cases in SMALL.values() for case in cases]
PAIRS = [(name, case) for name in GAPS for case in CASES if takes(name, *case)]
REFUSED = [(name, case) for name in GAPS for case in CASES if not takes(name, *case)]
FIRST = {  # the first case of every kind that a solver takes
    (name, kind): next(case for case in SMALL[kind] if takes(name, *case))
    for name in GAPS
    for kind in KINDS
    if any(takes(name, *case) for case in SMALL[kind])
}
TAKEN = list(FIRST)


def is_installed(name):
    base, _, method = name.partition(":")
    return installed(base) and (base != "cvxpy" or not method or method.upper() in cvxpy.installed_solvers())


def skip_without(name):
    if not is_installed(name):
        pytest.skip(f"{name} is not installed")


def label(value):
    return value if isinstance(value, str) else "-".join(map(str, value))


every_solver = pytest.mark.parametrize("name", GAPS)
every_lasso_solver = pytest.mark.parametrize("name", [name for name in GAPS if takes(name, "squared")])
registered = pytest.mark.parametrize("name", SOLVERS)
every_pair = pytest.mark.parametrize(("name", "case"), PAIRS, ids=label)
every_refused = pytest.mark.parametrize(("name", "case"), REFUSED, ids=label)


def assert_sound(program, solution):
    """The certificate is finite, honest and the program's own; anybody can check it with dense arrays."""
    found = solution.certificate
    assert solution.point.weights.shape == program.shape
    assert np.isfinite(solution.point.weights).all()
    again = program.certify(solution.point)
    assert (again.objective, again.lower_bound, again.gap) == (found.objective, found.lower_bound, found.gap)
    assert np.isfinite([found.objective, found.lower_bound, found.gap]).all()
    assert found.gap >= -1e-12
    assert found.objective == pytest.approx(slow_objective(program, solution.point.weights), rel=1e-12)
    assert program.dual_objective(Point(solution.point.weights, found.dual)) == found.lower_bound
    u = program.dictionary.toarray().T.astype(float) @ found.dual
    assert dual_norm(program.penalty, u) <= program.regularization * (1.0 + 1e-12)


class Stub(Solver):
    """Answers with one point, keeps what it was asked."""

    name = "stub"
    capabilities = Capabilities(frozenset(KINDS), dict.fromkeys(KINDS, 0.0), True, True, True)

    def __init__(self, point=None, status=Status.OPTIMAL):
        self.point, self.status, self.asked = point, status, []

    def known_options(self):
        return ("a",)

    def run(self, program, request):
        self.asked.append((program, request))
        point = Point(np.zeros(program.shape)) if self.point is None else self.point
        return Answer(point, status=self.status)
