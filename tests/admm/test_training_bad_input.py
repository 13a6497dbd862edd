"""What ADMM does not take is refused in one line that names it; what is only small works."""

from dataclasses import replace

import numpy as np
import pytest
from small_splittings import TWO_LAYERS, VARIANTS, problem

import convexsnn
from convexsnn.admm.result import train_admm
from convexsnn.errors import ConvexSNNError, LoweringError, ProblemFileError, ShapeError, SolverFailed
from convexsnn.problem import Problem
from convexsnn.problem.specs import AdmmSpec, GradientSpec

BITS = np.random.default_rng(4).integers(0, 2, (12, 3, 4)).astype(float)
LABELS = np.arange(12) % 2


def made(inputs=BITS, layers=TWO_LAYERS, training=None, network=None, **admm):
    return Problem.from_arrays(
        inputs, LABELS, layers=layers, network={"readout": "output_membrane", **(network or {})},
        training={"method": "admm", "loss": "softmax", **(training or {})}, admm={"iterations": 3, **admm},
    )  # fmt: skip


def refused(error, work):
    with pytest.raises(ConvexSNNError) as caught:
        work()
    assert type(caught.value) is error and "\n" not in str(caught.value)
    assert caught.value.exit_status == (1 if error is SolverFailed else 2)
    return str(caught.value)


POSITIVE = ("penalty", "decay", "spike_penalty", "damping", "ridge", "step", "trust", "tolerance", "rate")


@pytest.mark.parametrize("value", [0, -0.5])
@pytest.mark.parametrize("key", POSITIVE)
def test_numbers_that_must_be_positive(key, value):
    told = refused(ProblemFileError, lambda: made(**{key: value}))
    assert told == f"admm.{key}: expected more than 0, got {value!r}"


@pytest.mark.parametrize(
    "key", ["batch", "iterations", "sweeps", "spike_steps", "patience", "checkpoint_every"]
)
def test_counts_that_must_be_at_least_1(key):
    assert refused(ProblemFileError, lambda: made(**{key: 0})) == f"admm.{key}: expected at least 1, got 0"
    told = refused(ProblemFileError, lambda: made(**{key: 1.5}))
    assert told == f"admm.{key}: expected a whole number, got 1.5"


@pytest.mark.parametrize(
    ("admm", "told"),
    [
        ({"variant": "liftd"}, "restarted, lifted, got 'liftd'; did you mean 'lifted'?"),
        ({"order": "reverse"}, "got 'reverse'; did you mean 'reversed'?"),
        ({"spike_update": "clamp"}, "got 'clamp'; did you mean 'clamped'?"),
        ({"membrane_update": "steps"}, "got 'steps'; did you mean 'step'?"),
        ({"precision": "float16"}, "admm.precision: expected one of float64, float32, got 'float16'"),
        ({"penalti": 1.0}, "admm.penalti: unknown key; did you mean 'penalty'?"),
        ({"inertia": 1.0}, "admm.inertia: expected less than 1, got 1.0"),
        ({"rate": 1.0}, "admm.rate: expected less than 1, got 1.0"),
        ({"validation": 1.0}, "admm.validation: expected less than 1, got 1.0"),
        ({"validation": -0.1}, "admm.validation: expected at least 0, got -0.1"),
        ({"seed": -1}, "admm.seed: expected at least 0, got -1"),
        ({"step": float("inf")}, "admm.step: expected a finite number, got inf"),
    ],
)  # fmt: skip
def test_other_values(admm, told):
    assert told in refused(ProblemFileError, lambda: made(**admm))


@pytest.mark.parametrize("table", ["admm", "gradient"])
def test_patience_needs_samples_held_out(table):
    spec = {"admm": AdmmSpec, "gradient": GradientSpec}[table](patience=3)
    told = refused(ProblemFileError, lambda: replace(problem(TWO_LAYERS), **{table: spec}))
    assert told == f"{table}.patience: 3 without samples held out; give {table}.validation too"


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ({"network": {"readout": "membrane"}}, "network.readout: 'membrane'"),
        ({"network": {"subnetworks": 2}}, "network.subnetworks: 2"),
        ({"layers": [{"width": 3}, {"reset": "zero", "width": 3}]}, "network.layers[2].reset: 'zero'"),
        ({"layers": [{"neuron": "recurrent_threshold", "width": 3}]},
         "network.layers[1].neuron: 'recurrent_threshold'"),
        ({"layers": [{"width": 2, "kernel": 2, "shape": [1, 2, 2], "recurrent": True}]},
         "network.layers[1].recurrent: true with kernel or pool"),
        ({"layers": [{"width": 2, "pool": 2, "shape": [1, 2, 2], "recurrent": True}]},
         "network.layers[1].recurrent: true with kernel or pool"),
    ],
)  # fmt: skip
def test_networks_without_a_splitting(parts, told):
    given = made(**parts)
    assert refused(LoweringError, lambda: train_admm(given)).startswith(told)
    assert refused(LoweringError, lambda: convexsnn.train(given)).startswith(told)


def test_the_output_of_every_step_is_not_trained():
    given = Problem.from_arrays(
        BITS, np.tile(LABELS[:, None], 3), layers=TWO_LAYERS, network={"readout": "rate", "supervise": "all"},
        training={"method": "admm", "loss": "hinge"},
    )  # fmt: skip
    told = refused(LoweringError, lambda: train_admm(given))
    assert told == "network.supervise: 'all': ADMM trains the output of the last step"


@pytest.mark.parametrize("key", ["regularization", "regularization_fraction"])
def test_regularization_belongs_to_the_convex_program(key):
    told = refused(ProblemFileError, lambda: made(training={key: 0.1}))
    assert told.startswith(f"training.{key}: 0.1 with method") and "admm.ridge and admm.damping" in told


def test_a_problem_of_admm_has_no_convex_program():
    told = refused(LoweringError, lambda: convexsnn.lower(made(network={"readout": "spike"})))
    assert told.startswith("training.method: 'admm' has no convex program")
    convex = Problem.from_arrays(
        BITS, LABELS, layers=[{"width": 3}], network={"readout": "rate"},
        training={"loss": "hinge", "regularization": 0.1},
    )  # fmt: skip
    told = refused(LoweringError, lambda: convexsnn.lower(convex))
    assert told.startswith("network.readout: 'rate' has no convex program")


@pytest.mark.parametrize("variant", VARIANTS)
def test_one_step_and_one_unit_are_enough(variant):
    for parts in (
        {"steps": 1},
        {"layers": [{"width": 1, "bias": True}]},
        {"layers": [{"width": 1}], "inputs": 1},
    ):
        result = train_admm(
            problem(samples=12, admm={"variant": variant, "iterations": 2, "rate": 0.3}, **parts)
        )
        assert np.isfinite(result.judged.objective) and len(result.run.history) >= 1
    one = Problem.from_arrays(
        BITS[:1], [0], layers=[{"width": 2, "bias": True}], training={"method": "admm", "loss": "softmax"},
        admm={"variant": variant, "iterations": 2},
    )  # fmt: skip
    assert train_admm(one).judged.train_accuracy == 1.0


def test_a_unit_that_all_inputs_hold_down_is_turned_round():
    """A single unit of negative weights on inputs >= 0 fires at no scale."""
    for seed in range(8):
        assert train_admm(made(layers=[{"width": 1}], seed=seed, iterations=1)).run.history[0].rates[0] > 0


@pytest.mark.parametrize("layers", [TWO_LAYERS, [{"width": 5, "bias": True, "leak": 0.5}] * 3])
def test_a_balanced_start_fires_at_the_rate_or_as_often_as_it_can(layers):
    from convexsnn.admm.splitting import initial_weights
    from convexsnn.simulate import simulate

    given = made(layers=layers, rate=0.3)
    weights = initial_weights(given)
    shares = [s.mean() for s in simulate(weights.network(given.network), BITS).spikes]
    for k, share in enumerate(shares):
        assert share >= 0.3 or 0.05 < share
        assert np.abs(weights.table(k)).max() < 1e4  # no larger than it takes


def test_a_dead_start_is_told_what_helps():
    told = refused(LoweringError, lambda: train_admm(made(1e-9 * BITS, initialization="standard")))
    assert told == (
        "network.layers[1]: a dead layer, no unit fires on the first 12 samples; "
        "admm.initialization = \"balanced\" avoids it (got 'standard')"
    )
    assert train_admm(made(1e-9 * BITS)).run.history[0].rates[0] > 0


def test_inputs_of_0_cannot_fire():
    told = refused(LoweringError, lambda: train_admm(made(0 * BITS)))
    assert told.startswith("network.layers[1]: a dead layer, no unit fires on the first 12 samples at any")
    assert "balanced" not in told


@pytest.mark.parametrize("variant", ["proximal", "restarted", "lifted"])
def test_steps_far_too_long_fail_by_name_and_keep_the_checkpoint(variant, tmp_path):
    file, spec = (
        tmp_path / "run.npz",
        {"variant": variant, "schedule": "constant", "trust": 1e308, "step": 1e300},
    )
    given = made(**spec, iterations=20, tolerance=1e-300, checkpoint_every=1)
    with np.errstate(all="ignore"):
        told = refused(SolverFailed, lambda: train_admm(given, checkpoint=file))
    assert told.startswith("admm: ")
    assert any(word in told for word in ("weights, ", "layer ", "outputs", "network.layers["))
    if file.exists():
        kept = file.read_bytes()
        with np.errstate(all="ignore"):
            assert refused(SolverFailed, lambda: train_admm(given, checkpoint=file)) == told
        assert file.read_bytes() == kept


@pytest.mark.parametrize("variant", VARIANTS)
def test_inputs_whose_squares_overflow_are_refused_by_name(variant):
    told = refused(ShapeError, lambda: train_admm(made(1e200 * BITS, variant=variant)))
    assert told == "inputs: numbers up to 1e+200 are too large, their squares overflow"


def test_a_layer_that_dies_is_named(monkeypatch):
    from convexsnn.admm.weight_steps import WeightSteps

    def silence(self, weights, reply, step):
        return weights.with_tables({1: -np.abs(weights.table(1))}), 1.0

    monkeypatch.setattr(WeightSteps, "move", silence)
    told = refused(SolverFailed, lambda: train_admm(made()))
    assert told.startswith(
        "admm: network.layers[2]: a dead layer after iteration 1, no unit fires on any sample"
    )
    assert "admm.step" in told and "admm.rate" in told


@pytest.mark.parametrize("ridge", [1e-9, 1e-30])
@pytest.mark.parametrize("variant", ["published", "eliminated"])
def test_the_same_input_twice(variant, ridge):
    """The Gram matrix is singular: the ridge makes up for it, or is named."""
    given = made(np.concatenate([BITS, BITS], axis=2), variant=variant, ridge=ridge)
    try:
        result = train_admm(given)
    except SolverFailed as error:
        assert ridge < 1e-20 and "the Gram matrix is singular; raise admm.ridge" in str(error)
    else:
        assert np.isfinite(result.judged.objective)
