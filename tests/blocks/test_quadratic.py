"""Blocks of quadratic programs: lower bounds that hold, singular matrices, boxes of every kind, refusals."""

import numpy as np
import pytest
from membrane_branches import best_of, branches_of
from read_back import read_back
from scipy import sparse
from solver_cases import CAN, GAPS, skip_without

from convexsnn.blocks.membranes import ChainBlock, MembraneBlock, below
from convexsnn.blocks.quadratic import Quadratic, QuadraticBlock
from convexsnn.errors import ShapeError, SolverFailed
from convexsnn.programs import Point
from convexsnn.solvers import Status, solve

RNG = np.random.default_rng(0)
INF = np.inf
FACTOR = RNG.normal(size=(6, 4))
PARTS = {
    "dense": Quadratic(np.full(4, 0.1), factor=FACTOR),
    "sparse factor": Quadratic(np.zeros(4), factor=sparse.csr_array(np.round(FACTOR[:, :4], 0))),
    "Gram matrix": Quadratic(np.full(4, 1e-3), gram=FACTOR[:2].T @ FACTOR[:2]),
    "diagonal": Quadratic(np.array([0.1, 1.0, 2.0, 30.0])),
    "float32": Quadratic(np.full(4, 0.1, np.float32), factor=FACTOR.astype(np.float32)),
}
BOXES = {
    "none": (-INF, INF),
    "box": (0.0, 1.0),
    "below": (0.0, INF),
    "above": (-INF, 0.3),
    "some": (np.array([0.0, -INF, -0.5, -INF]), np.array([INF, INF, 0.5, 0.1])),
    "by entry": (np.linspace(-1.0, 0.0, 12).reshape(3, 4), INF),
}
SINGULAR = Quadratic(np.zeros(4), factor=FACTOR[:2])


def make(part="dense", box="none", seed=1, **changes):
    quadratic = PARTS[part] if isinstance(part, str) else part
    linear = np.random.default_rng(seed).normal(size=(3, 4)).astype(quadratic.diagonal.dtype)
    lower, upper = BOXES[box]
    given = {"linear": linear, "lower": lower, "upper": upper, "constant": 5.0, **changes}
    return QuadraticBlock("some rows", "  min over X of  …", quadratic, **given)


every_part = pytest.mark.parametrize("part", PARTS)
every_box = pytest.mark.parametrize("box", BOXES)
every_solver = pytest.mark.parametrize("name", [n for n in GAPS if CAN[n].refusal(make()) is None])


def assert_binds(block, least, points):
    """No point's lower bound is above the optimum, and no point is below it."""
    scale = 1.0 + abs(least)
    for x in points:
        found = block.certify(Point(x))
        assert found.lower_bound <= least + 1e-11 * scale
        assert found.objective >= least - 1e-9 * scale
        assert block.dual_objective(Point(x, x)) <= least + 1e-11 * scale  # any table is a dual one


@every_part
@every_box
def test_no_point_proves_too_much(part, box):
    block, rng = make(part, box), np.random.default_rng(2)
    x = np.asarray(block.minimize(), float)
    certificate = block.certify(Point(x))
    assert certificate.gap <= (1e-9 if part != "float32" else 2e-5)
    assert np.isfinite([certificate.objective, certificate.lower_bound]).all()
    points = [x + size * rng.standard_normal(x.shape) for size in 10.0 ** np.arange(-9, 4) for _ in range(5)]
    assert_binds(block, certificate.objective, points)


@every_box
def test_a_point_near_the_optimum_proves_nearly_all(box):
    """The gap falls with the square of the distance, so that a solver's tolerance is enough."""
    block, rng = make("dense", box), np.random.default_rng(3)
    x = block.minimize()
    inside = (x > block.lower) & (x < block.upper)
    for size in (1e-3, 1e-5):
        gap = block.certify(Point(x + size * inside * rng.standard_normal(x.shape))).gap
        assert gap <= 100 * size**2


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_a_singular_matrix_in_a_box(scale):
    block = make(
        Quadratic(np.zeros(4), factor=scale * FACTOR[:2]), "box", linear=scale * RNG.normal(size=(3, 4))
    )
    x = block.minimize()
    assert block.certify(Point(x)).gap <= 1e-9
    points = [np.random.default_rng(k).normal(0.5, 1.0, x.shape) for k in range(20)]
    assert_binds(block, block.certify(Point(x)).objective, points)


def test_a_singular_matrix_without_a_box():
    block = make(SINGULAR)
    with pytest.raises(SolverFailed, match="some rows: the matrix is singular.*; give it a ridge"):
        block.minimize()
    assert block.certify(Point(np.ones((3, 4)))).lower_bound == -INF  # and so it is: nothing bounds it
    half = make(SINGULAR, "below").certify(Point(np.ones((3, 4))))
    assert not np.isnan([half.objective, half.lower_bound, half.gap]).any()


@every_part
@every_box
@every_solver
def test_every_solver_takes_every_kind_of_bound(part, box, name):
    skip_without(name)
    block, claimed = make(part, box), GAPS[name]["qp"]
    solution = solve(block, name, tolerance=claimed)
    assert solution.status is Status.OPTIMAL
    assert solution.certificate.gap <= claimed
    least = block.certify(Point(block.minimize())).objective
    assert solution.certificate.objective == pytest.approx(least, rel=claimed + 2e-5 * (part == "float32"))
    x = solution.point.weights
    assert (x >= np.asarray(block.lower)).all() and (x <= np.asarray(block.upper)).all()


@every_part
@every_box
@pytest.mark.parametrize("ending", [".mps", ".lp"])
def test_highs_reads_the_same_optimum(part, box, ending, tmp_path):
    """Without a row too, of which HiGHS makes nothing at all where the Hessian is sparse."""
    block = make(part, box)
    block.to_mps(tmp_path / f"block{ending}")
    least = block.certify(Point(block.minimize())).objective
    assert read_back(tmp_path / f"block{ending}") == pytest.approx(least, rel=GAPS["highs"]["qp"])


@every_part
@every_box
def test_forms_have_the_objective_of_the_block(part, box):
    block, x = make(part, box), np.random.default_rng(4).random((3, 4))
    wanted = block.objective(x) - block.constant
    for form in (block.to_qp(), block.to_cone()):
        flat = x.T.ravel()
        assert 0.5 * flat @ (form.P @ flat) + form.q @ flat == pytest.approx(wanted, rel=1e-5, abs=1e-5)
        np.testing.assert_array_equal(form.recover(flat).weights, x)
        assert form.P.dtype == form.q.dtype == np.float64
        assert abs(form.P - form.P.T).max() == 0.0
    problem = block.to_cvxpy()
    problem.var_dict["W"].value = x
    assert problem.objective.value == pytest.approx(block.objective(x), rel=1e-5, abs=1e-5)


def test_an_objective_that_cancels_has_a_gap_all_the_same():
    """½ ‖y − W f‖² at an exact fit: 0 up to the rounding of its terms, whose ratios mean nothing."""
    wanted = RNG.normal(size=(3, 4))
    fit = wanted @ PARTS["dense"].dense()
    block = make("dense", linear=fit, constant=0.5 * float(np.sum(fit * wanted)))
    assert abs(block.objective(block.minimize())) < 1e-12
    assert block.certify(Point(block.minimize())).gap <= 1e-8
    assert block.certify(Point(wanted + 1.0)).gap > 0.5


def test_float32_is_proved_in_double():
    """The block of the same numbers in double precision has the same certificate, bit by bit."""
    small = make("float32", "box")
    double = Quadratic(small.quadratic.diagonal.astype(float), factor=small.quadratic.factor.astype(float))
    same, x = make(double, "box", linear=small.linear.astype(float)), np.full((3, 4), 0.25)
    a, b = small.certify(Point(x)), same.certify(Point(x))
    assert (a.objective, a.lower_bound) == (b.objective, b.lower_bound)
    assert small.minimize().dtype == np.float32
    assert make(Quadratic(np.ones(4, np.float32)), "box").minimize().dtype == np.float32


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"linear": np.ones((3, 5))}, "linear: expected"),
        ({"linear": np.full((3, 4), np.nan)}, "linear: nan"),
        ({"lower": np.zeros((2, 4))}, "lower: expected"),
        ({"upper": np.zeros(5)}, "upper: expected"),
        ({"lower": 1.0, "upper": 0.0}, "lower: .* above its upper"),
        ({"lower": np.nan}, "lower: .* NaN"),
    ],
)
def test_bad_blocks_are_refused_by_name(changes, words):
    with pytest.raises(ShapeError, match=words):
        make("dense", **changes)


def test_parts_of_other_sizes_are_refused():
    with pytest.raises(ShapeError, match="gram"):
        Quadratic(np.ones(3), gram=np.eye(4))
    with pytest.raises(ShapeError, match="factor"):
        Quadratic(np.ones(3), factor=np.ones((3, 4)))


def test_a_dual_objective_needs_a_dual():
    with pytest.raises(ShapeError, match="dual: the point has none"):
        make().dual_objective(Point(np.ones((3, 4))))


# --- membranes ------------------------------------------------------------------------------------------

CHAIN = {"threshold": 1.0, "coupling": 1.0, "spike_penalty": 1.0}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"constraint": "lift"}, "constraint: expected one of squared, lifted, linearized"),
        ({"constraint": "linearized"}, "present: .*linearized"),
        ({"present": np.zeros((2, 3, 2), bool)}, "present: .*squared"),
        ({"coupling": 0.0}, "coupling"),
        ({"spike_penalty": -1.0}, "spike_penalty"),
    ],
)
def test_bad_chains_are_refused_by_name(changes, words):
    with pytest.raises(ShapeError, match=words):
        ChainBlock("z", "", np.zeros((2, 3, 2)), np.zeros((2, 3, 2)), 0.5, **{**CHAIN, **changes})


@pytest.mark.parametrize(
    "changes", [{"curvature": 0.0}, {"spike_penalty": 0.0}, {"constraint": "linearized"}]
)
def test_bad_membranes_are_refused_by_name(changes):
    given = {"curvature": 1.0, "threshold": 1.0, "spike_penalty": 1.0, **changes}
    with pytest.raises(ShapeError, match=next(iter(changes))):
        MembraneBlock("z", "", center=np.zeros((2, 2)), spikes=np.zeros((2, 2)), **given)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_membrane_that_may_not_fire_stays_below_the_threshold(dtype):
    """In its own floating-point type, in which the simulator compares."""
    block = MembraneBlock("z", "", 1.0, np.full((1, 1), 1.01, dtype), np.zeros((1, 1), dtype), 1.0, 1.0)
    z = block.minimize()
    assert z.dtype == dtype
    assert z[0, 0] == dtype(below(1.0, np.dtype(dtype))) < 1.0
    tables = [branch.minimize() for branch in branches_of(block)]
    assert best_of(block, tables)[0, 0] == z[0, 0]
