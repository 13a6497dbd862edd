"""The extension points: one file adds a neuron, a loss, a penalty, a dictionary source and a solver.

Nothing in the package is changed for them. Together they go through solve, save, load, inspect, export,
verify and verify --exact. The documentation shows the parts between the markers.
"""

import json
from dataclasses import dataclass

import numpy as np
import pytest
from scipy import sparse
from scipy.optimize import linprog

import convexsnn
from convexsnn.dictionary.sources import SOURCES, Source, register_source
from convexsnn.errors import ConvexSNNError, SolverFailed
from convexsnn.networks.neuron import NEURONS, Neuron, last_spikes, register_neuron
from convexsnn.networks.parameters import GRID, TRAINED, PerUnit, parameter
from convexsnn.problem import Problem, load_problem
from convexsnn.programs import LOSSES, PENALTIES, Loss, Penalty, register_loss, register_penalty
from convexsnn.programs.rows import ENTRIES, OUTPUTS, ConeRows, ConeStart, QuadraticRows, Slack, by_output
from convexsnn.solvers import Answer, Capabilities, Solver, register_solver
from convexsnn.solvers.registry import SOLVERS


# [neuron]
@dataclass(frozen=True, eq=False)
class Echo(Neuron):
    """A unit without reset that hears its own last spike: u_t = κ u_{t-1} + α s_{t-1} + I_t."""

    threshold: float = parameter("θ", "membrane at which a unit fires", 0.5, above=0)
    keep: PerUnit = parameter("κ", "share of the membrane that a step keeps", 0.8, of=GRID, least=0, most=1)
    echo: PerUnit = parameter("α", "weight on the unit's own last spike", 0.0, of=TRAINED, multiplies="echo")
    kind = "echo"
    sees_own_spike = True

    @property
    def dynamics(self):
        return "u_t = κ u_(t-1) + α s_(t-1) + I_t"

    def carry(self, membrane, spikes):  # what the next step starts from
        return (self.keep * membrane + self.echo * spikes).astype(membrane.dtype)

    def after_reset(self, membrane, spikes):
        return membrane

    def affine_rows(self, inputs, spikes):  # fires at (i, t) iff g·(w, α) >= h
        g, h = self.first_rows(inputs, spikes)
        g = np.concatenate([g, last_spikes(spikes)[..., None].astype(g.dtype)], axis=2)
        for t in range(1, g.shape[1]):
            g[:, t] += self.keep * g[:, t - 1]
        return g, h


# [/neuron]


# [loss]
class Absolute(Loss):
    """|z − y|: its least is the median of the targets."""

    name = "absolute"
    kind = "lp"
    kinked = True
    formula = "|z − y|"
    dual_formula = "u y,  |u| <= c a"
    tasks = ("regression",)
    meanings = {
        ("row", "loss"): (OUTPUTS, "z[i,c] + short[i,c] - over[i,c] = y[i,c]"),
        ("row", "fit"): (OUTPUTS, "z[i,c] + short[i,c] - over[i,c] = y[i,c]"),
        ("row", "short >= 0"): (OUTPUTS, "short[i,c] >= 0"),
        ("row", "over >= 0"): (OUTPUTS, "over[i,c] >= 0"),
        ("column", "short"): (OUTPUTS, "distance of z[i,c] below y[i,c]"),
        ("column", "over"): (OUTPUTS, "distance of z[i,c] above y[i,c]"),
    }

    def value(self, z, y):
        return np.abs(z - y).sum(axis=1)

    def residual(self, z, y):  # minus a slope
        return np.sign(y - z)

    def dual_value(self, v, y):  # minus the conjugate
        return np.where((np.abs(v) > 1.0).any(axis=1), -np.inf, np.sum(v * y, axis=1))

    def project(self, v, y):  # into the dual domain
        return np.clip(v, -1.0, 1.0)

    def quadratic_rows(self, y):  # the QP form
        slacks = {"short": Slack(1.0, 0.0, 1.0), "over": Slack(-1.0, 0.0, 1.0)}
        return QuadraticRows(np.ones_like(y), y, y, slacks)

    def cone_rows(self, y, cost):  # the conic form, written apart from the QP form
        eye, zeros = sparse.eye_array(y.size, format="csc"), np.zeros(y.size)
        return [
            ConeRows("fit", "zero", {"z": eye, "short": eye, "over": -eye}, by_output(y)),
            ConeRows("short >= 0", "nonnegative", {"short": -eye}, zeros),
            ConeRows("over >= 0", "nonnegative", {"over": -eye}, zeros),
        ], {"short": (cost, 0.0), "over": (cost, 0.0)}

    def slack_values(self, z, y):  # where a solver may start, in either form
        return {"short": np.maximum(y - z, 0.0), "over": np.maximum(z - y, 0.0)}

    def cone_start(self, z, u, y, cost):
        values = {name: by_output(value) for name, value in self.slack_values(z, y).items()}
        duals = {"fit": -u, "short >= 0": cost - u, "over >= 0": cost + u}
        return ConeStart(values, {name: by_output(dual) for name, dual in duals.items()})


# [/loss]


# [penalty]
@dataclass(frozen=True, eq=False)
class Ranked(Penalty):
    """Σ costs_p |W_pc|: later patterns of the dictionary cost more."""

    costs: np.ndarray
    name = "ranked"
    entrywise = separable = True
    formula = "Σ costs_p |W_pc|"
    dual_formula = "max |(Dᵀu)_pc| / costs_p"
    meanings = {
        ("column", "height"): (ENTRIES, "upper bound of |W[p,c]|"),
        ("row", "W <= height"): (ENTRIES, "W[p,c] <= height[p,c]"),
        ("row", "-W <= height"): (ENTRIES, "-W[p,c] <= height[p,c]"),
        ("row", "price"): (ENTRIES, "|sum of u[i,c] over the rows i where p fires| <= λ costs[p]"),
    }

    @classmethod
    def for_columns(cls, columns):
        return cls(np.linspace(1.0, 2.0, columns))

    def value(self, weights):
        return float(np.sum(self.costs[:, None] * np.abs(weights)))

    def dual_norm(self, gradient):
        return float((np.abs(gradient) / self.costs[:, None]).max(initial=0.0))

    def take(self, columns):
        return Ranked(self.costs[columns])

    def entry_costs(self, columns, outputs):
        return np.repeat(self.costs[:, None], outputs, axis=1)

    def cone_rows(self, columns, outputs):
        eye, zeros = sparse.eye_array(columns * outputs, format="csc"), np.zeros(columns * outputs)
        return [
            ConeRows("W <= height", "nonnegative", {"W": eye, "height": -eye}, zeros),
            ConeRows("-W <= height", "nonnegative", {"W": -eye, "height": -eye}, zeros),
        ], {"height": by_output(self.entry_costs(columns, outputs))}

    def cone_start(self, weights, price, regularization):  # price is Dᵀu
        limit = regularization * self.costs[:, None]
        duals = {"W <= height": limit + price, "-W <= height": limit - price}
        return ConeStart(
            {"height": by_output(np.abs(weights))},
            {row: by_output(np.maximum(dual, 0.0) / 2.0) for row, dual in duals.items()},
        )


# [/penalty]


# [source]
class Lattice(Source):
    """Hidden weights that are whole multiples of a quarter."""

    name = "lattice"
    meaning = "weights drawn from a lattice"
    kind = "draws"

    def weights(self, layer, draw):
        return draw.rng.integers(-12, 13, layer.unit_weights().shape) / 4


# [/source]


# [solver]
class ScipyLP(Solver):
    """The linear programs of the package by scipy's interface to HiGHS (Huangfu & Hall 2018)."""

    name = "scipy_lp"
    package = "scipy"
    capabilities = Capabilities(
        programs=frozenset({"lp"}), gap={"lp": 1e-8}, duals=True, warm_start=False, time_limit=True,
        form="qp",
    )  # fmt: skip

    def known_options(self):
        return ("presolve",)

    def run(self, program, request):
        form = program.to_qp()  # min q'x,  row_lower <= A x <= row_upper,  lower <= x <= upper
        above, below = np.isfinite(form.row_upper), np.isfinite(form.row_lower)
        options = {**request.options} | ({} if request.left is None else {"time_limit": request.left})
        found = linprog(
            form.q,
            sparse.vstack([form.A[above], -form.A[below]]),
            np.concatenate([form.row_upper[above], -form.row_lower[below]]),
            bounds=np.stack([form.lower, form.upper], axis=1),
            options=options,
        )
        if found.x is None:
            raise SolverFailed(f"solver scipy_lp: {found.message}")
        slope = np.zeros(len(form.row_upper))
        slope[above] += found.ineqlin.marginals[: above.sum()]
        slope[below] -= found.ineqlin.marginals[above.sum() :]
        return Answer(form.recover(found.x, slope), found.message, iterations=found.nit)


# [/solver]

RNG = np.random.default_rng(7)
INPUTS = RNG.normal(size=(14, 4, 2))
TARGETS = INPUTS[:, 0, 0] + np.abs(INPUTS[:, -1, 1])


@pytest.fixture
def extended():
    """All five, registered as long as a test runs."""
    tables = NEURONS, LOSSES, PENALTIES, SOURCES, SOLVERS
    before = [dict(table) for table in tables]
    register_neuron(Echo)
    register_loss(Absolute())
    register_penalty(Ranked)
    register_source(Lattice)
    register_solver(ScipyLP)
    yield
    for table, entries in zip(tables, before, strict=True):
        table.clear()
        table.update(entries)


def problem(**changes):
    parts = {
        "layers": [{"neuron": "echo", "keep": [0.5, 0.8], "bias": True}],
        "dictionary": {"source": "lattice", "count": 80, "seed": 3, "margin": 1e-3},
        "training": {"loss": "absolute", "penalty": "ranked", "regularization": 0.02},
        "solver": {"name": "scipy_lp"},
    }
    return Problem.from_arrays(INPUTS, TARGETS, name="extended", **{**parts, **changes})


def test_all_five_go_the_whole_road(extended, tmp_path):
    result = convexsnn.train(problem())
    assert result.status == "optimal_on_dictionary" and result.solution.solver == "scipy_lp"
    assert result.certificate.gap < 1e-6 and 0 < result.network.units < 40
    neuron = result.network.layers[0].neuron
    assert {*np.unique(neuron.keep)} <= {0.5, 0.8} and len(np.unique(neuron.echo)) > 1
    result.save(tmp_path / "run")
    again = convexsnn.load_network(tmp_path / "run" / "network.npz")
    first, second = (convexsnn.simulate(network, INPUTS) for network in (result.network, again))
    assert np.array_equal(first.outputs, second.outputs) and first.spikes[0].any()
    for name in ("threshold", "keep", "echo"):
        assert np.array_equal(getattr(again.layers[0].neuron, name), getattr(neuron, name))
    loaded = load_problem(tmp_path / "run" / "problem.toml")
    assert loaded.fingerprint() == problem().fingerprint()
    for exact in (False, True):
        claim, checked = convexsnn.verify_folder(tmp_path / "run", exact=exact)
        assert claim == result.claim
        assert checked.objective == pytest.approx(result.certificate.objective, rel=1e-9)


def test_the_simulator_runs_the_toy_neuron_s_own_equation(extended):
    """A slow loop with the equation of the docstring, unit by unit and sample by sample."""
    network = convexsnn.train(problem()).network
    layer, neuron = network.layers[0], network.layers[0].neuron
    spikes = convexsnn.simulate(network, INPUTS).spikes[0]
    for i, sample in enumerate(INPUTS):
        for j in range(layer.units):
            u = s = 0.0
            for t, x in enumerate(sample):
                u = neuron.keep[j] * u + neuron.echo[j] * s + layer.weights[j] @ x + layer.bias[j]
                s = float(u >= neuron.threshold)
                assert s == spikes[i, t, j]


def test_all_five_are_taken_by_every_command(extended, cli, tmp_path):
    (tmp_path / "problem").mkdir()
    problem().save(tmp_path / "problem")
    file = tmp_path / "problem" / "problem.toml"
    status, out, err = cli("inspect", file)
    assert status == 0, err
    for words in ("κ u_(t-1) + α s_(t-1) + I_t", "|z − y|", "Σ costs_p |W_pc|", "lattice, seed 3"):
        assert words in out
    for form in ("qp", "cone", "dual"):
        status, out, err = cli("inspect", file, "--form", form, "--row", 0, "--column", 0)
        assert status == 0, err
    status, out, err = cli("export", file, "toy.mps")
    assert status == 0 and "ROWS" in (tmp_path / "toy.mps").read_text(), err
    status, out, err = cli("solvers", "--json")
    assert "scipy_lp" in [row["name"] for row in json.loads(out)]
    status, out, err = cli("solve", file, "--json", "--out", "run")
    assert status == 0 and json.loads(out)["solver"] == "scipy_lp", err
    for more in ((), ("--exact",)):
        status, out, err = cli("verify", "run", *more)
        assert status == 0 and out.startswith("accepted: extended, optimal_on_dictionary"), err


def test_a_toy_neuron_is_proved_over_all_patterns(extended, tmp_path):
    given = {"source": "column_generation", "margin": 1e-2, "weight_box": 3.0}
    made = Problem.from_arrays(
        INPUTS[:6, :2], TARGETS[:6], layers=[{"neuron": "echo", "keep": 0.5}], dictionary=given,
        training={"loss": "squared", "regularization": 0.05}, name="all",
    )  # fmt: skip
    result = convexsnn.train(made)
    assert result.status == "optimal_global"
    exact = convexsnn.train(made.with_settings(dictionary={"source": "exact"}))
    assert exact.certificate.objective == pytest.approx(result.certificate.objective, rel=1e-6)
    result.save(tmp_path / "run")
    claim, checked = convexsnn.verify_folder(tmp_path / "run", exact=True)
    assert claim.scope == "all_patterns" and checked.oracle


MISSING = [
    (Echo, "affine_rows", register_neuron), (Echo, "carry", register_neuron), (Echo, "kind", register_neuron),
    (Absolute, "dual_value", lambda cls: register_loss(cls())),
    (Absolute, "name", lambda cls: register_loss(cls())),
    (Ranked, "dual_norm", register_penalty), (Ranked, "for_columns", register_penalty),
    (Lattice, "weights", register_source), (Lattice, "meaning", register_source),
    (ScipyLP, "run", register_solver), (ScipyLP, "capabilities", register_solver),
]  # fmt: skip


@pytest.mark.parametrize(("cls", "part", "register"), MISSING, ids=lambda x: x if isinstance(x, str) else "")
def test_a_class_without_a_part_is_refused_in_one_line_that_names_it(cls, part, register):
    without = (part, "__dict__", "__weakref__", "__abstractmethods__", "_abc_impl")
    parts = {k: v for k, v in vars(cls).items() if k not in without}
    tables = [dict(table) for table in (NEURONS, LOSSES, PENALTIES, SOURCES, SOLVERS)]
    with pytest.raises(ConvexSNNError) as caught:
        register(type("Partial", cls.__bases__, parts))
    assert part in str(caught.value) and "\n" not in str(caught.value)
    assert tables == [NEURONS, LOSSES, PENALTIES, SOURCES, SOLVERS]


@pytest.mark.parametrize(
    ("key", "parts"),
    [
        ("network.layers[1].neuron", {"layers": [{"neuron": "ecko"}]}),
        ("training.loss", {"training": {"loss": "absolut", "regularization": 0.1}}),
        ("training.penalty", {"training": {"loss": "squared", "penalty": "rankt", "regularization": 0.1}}),
        ("dictionary.source", {"dictionary": {"source": "latice"}}),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_one(extended, key, parts):
    with pytest.raises(ConvexSNNError) as caught:
        problem(**parts)
    assert str(caught.value).startswith(key.split(".")[0]) and "\n" not in str(caught.value)
    near = {"neuron": "echo", "loss": "absolute", "penalty": "ranked", "source": "lattice"}
    assert f"did you mean {near[key.rpartition('.')[2]]!r}?" in str(caught.value)


def test_roads_that_cannot_refuse_by_name(extended):
    by_admm = {"training": {"loss": "squared", "method": "admm"}}
    with pytest.raises(ConvexSNNError, match="echo"):
        convexsnn.train(problem(layers=[{"neuron": "echo", "width": 3}], **by_admm))
    with pytest.raises(ConvexSNNError, match="scipy_lp: takes lp"):
        convexsnn.train(problem(training={"loss": "squared", "regularization": 0.1}))
