"""What every solver is held to: the gaps it must reach, small programs of every kind, and a sound answer."""

import cvxpy
import numpy as np
import pytest
from small_programs import dual_norm, slow_objective

from convexsnn.programs import Point
from convexsnn.solvers import (
    SOLVERS,
    Capabilities,
    Solution,
    Solver,
    Status,
    installed,
)

# Gap that the backends of cvxpy reach on small programs, by kind: first-order methods less than others.
BACKENDS = {
    "cvxpy:clarabel": dict.fromkeys(("lp", "qp", "cone", "logistic", "exponential"), 1e-6),
    "cvxpy:scs": dict.fromkeys(("lp", "qp", "cone", "logistic", "exponential"), 1e-4),
    "cvxpy:osqp": {"lp": 1e-4, "qp": 1e-4},
}
GAPS = {**{name: cls.capabilities.gap for name, (cls, _) in SOLVERS.items()}, **BACKENDS}
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
TAKEN = [(name, kind) for name, gaps in GAPS.items() for kind in KINDS if kind in gaps]
REFUSED = [(name, kind) for name, gaps in GAPS.items() for kind in KINDS if kind not in gaps]
PAIRS = [(name, case) for name, kind in TAKEN for case in SMALL[kind]]


def is_installed(name):
    base, _, backend = name.partition(":")
    return installed(base) and (not backend or backend.upper() in cvxpy.installed_solvers())


def skip_without(name):
    if not is_installed(name):
        pytest.skip(f"{name} is not installed")


def label(value):
    return value if isinstance(value, str) else "-".join(map(str, value))


every_solver = pytest.mark.parametrize("name", GAPS)
registered = pytest.mark.parametrize("name", SOLVERS)
every_pair = pytest.mark.parametrize(("name", "case"), PAIRS, ids=label)
every_refused = pytest.mark.parametrize(("name", "kind"), REFUSED)


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

    def solve(self, program, **settings):
        self.asked.append((program, settings))
        point = Point(np.zeros(program.shape)) if self.point is None else self.point
        return Solution(point, self.status, program.certify(point), self.name)
