"""Where hidden weights come from: draws, pairs of samples, reservoirs, files; the same by the same seed."""

import os
import subprocess
import sys
from itertools import product

import numpy as np
import pytest
from small_dictionaries import (
    INPUTS,
    LABELS,
    D,
    N,
    T,
    draw,
    slow_layer,
    slow_patterns,
    small_dictionary,
)

from convexsnn.arrays import write_npz
from convexsnn.dictionary import (
    Definition,
    branching_ratio,
    collect,
    draw_subnetworks,
    subnetworks_from_file,
)
from convexsnn.errors import LoweringError, ProblemFileError
from convexsnn.lowering import build_dictionary
from convexsnn.networks import (
    LIF,
    Layer,
    LayerSpec,
    NetworkSpec,
    Subnetwork,
    Threshold,
)
from convexsnn.networks.files import layer_arrays
from convexsnn.problem import Problem, load_problem


def rows_of(variant="standard", scale=1.0, box=1e6, count=40, layer=None, **options):
    layer = {"bias": True} if layer is None else layer
    (stack,) = draw([layer], Definition(weight_box=box), count=count, variant=variant, scale=scale, **options)
    return stack.layers[0].unit_weights()


def test_standard_rows_are_standard_normal():
    rows = rows_of(count=20_000)
    assert np.abs(rows.mean(axis=0)).max() < 0.03 and np.abs(np.cov(rows.T) - np.eye(D + 1)).max() < 0.04


def test_normalised_rows_have_norm_1():
    assert np.allclose(np.linalg.norm(rows_of("normalised"), axis=1), 1.0, rtol=1e-12)


def test_orthogonal_rows_are_orthonormal_in_blocks():
    rows = rows_of("orthogonal", count=11)
    for start in range(0, 11, D + 1):
        block = rows[start : start + D + 1]
        assert np.allclose(block @ block.T, np.eye(len(block)), atol=1e-12)


@pytest.mark.parametrize("variant", ["standard", "normalised", "orthogonal"])
def test_scale_is_a_factor_and_a_list_gives_each_unit_its_own(variant):
    assert np.array_equal(rows_of(variant, scale=3.0), 3.0 * rows_of(variant))
    norms = np.linalg.norm(rows_of("normalised", scale=[0.5, 4.0]), axis=1)
    assert sorted(set(norms.round(12).tolist())) == [0.5, 4.0]


@pytest.mark.parametrize("source", ["gaussian", "pairs"])
def test_every_draw_stays_in_the_box(source):
    rows = rows_of(scale=5.0, box=0.75, source=source)
    assert np.abs(rows).max() == 0.75


def test_every_unit_takes_its_leak_from_the_grid():
    (stack,) = draw([{"leak": (0.25, 0.75)}], Definition(), count=50)
    assert set(stack.layers[0].neuron.leak.tolist()) == {0.25, 0.75}


def test_count_is_met_in_whole_subnetworks():
    stacks = draw([{"width": 4}, {"width": 3}], Definition(), count=7)
    assert [[layer.units for layer in stack.layers] for stack in stacks] == [[4, 3]] * 3
    (stack,) = draw([{"width": 3}], Definition(), count=7)
    assert stack.layers[0].units == 9
    recurrent = {"width": 3, "recurrent": True}
    assert len(draw([recurrent], Definition(), count=4)) == 2


def test_hidden_layers_keep_the_margin():
    definition = Definition(margin=0.02)
    for stack in draw([{"width": 3}, {"width": 2}], definition, count=8):
        assert slow_layer(stack.layers[0], INPUTS)[1].min() >= 0.02


def test_a_margin_that_no_hidden_layer_reaches_is_an_error():
    with pytest.raises(LoweringError, match=r"dictionary.margin: 50 is out of reach"):
        draw([{"width": 3}, {"width": 2}], Definition(margin=50.0))


def filtered(sample, leak):
    """Return Σ_τ leak^(t−τ) x_τ for every t."""
    out = np.zeros_like(sample)
    for t, x in enumerate(sample):
        out[t] = x + (leak * out[t - 1] if t else 0.0)
    return out


@pytest.mark.parametrize("neuron", ["lif", "threshold", "recurrent_threshold"])
def test_pairs_put_the_threshold_between_two_samples_of_different_class(neuron):
    """Without earlier spikes the membrane at the last step is w·f + b Σ leak^k; it parts two samples."""
    (stack,) = draw([{"neuron": neuron, "leak": (0.0, 0.5), "bias": True, "threshold": 0.7}],
                    Definition(weight_box=1e6), count=30, source="pairs", scale=(0.5, 2.0))  # fmt: skip
    layer = stack.layers[0]
    for j in range(layer.units):
        leak = float(layer.neuron.leak[j]) if neuron == "lif" else 0.0
        f = np.array([filtered(sample, leak)[-1] for sample in INPUTS])
        u = f @ layer.weights[j] + layer.bias[j] * sum(leak**k for k in range(T))
        matches = [
            (i, k)
            for i, k in product(range(N), range(N))
            if i % 2 != k % 2
            and u[k] < 0.7 < u[i]
            and min(abs(u[i] - u[k] - scale) for scale in (0.5, 2.0)) < 1e-9
            and 0.25 - 1e-9 <= (u[i] - 0.7) / (u[i] - u[k]) <= 0.75 + 1e-9
        ]
        assert matches, f"unit {j} parts no pair"


def test_pairs_without_a_bias_put_the_threshold_between_them_by_their_scale():
    (stack,) = draw([{"leak": (0.5,)}], Definition(weight_box=1e6), count=30, source="pairs")
    f = np.array([filtered(sample, 0.5)[-1] for sample in INPUTS])
    for w in stack.layers[0].weights:
        u = f @ w
        assert any(
            np.isclose((f[i] - f[k])[0] * w[1], (f[i] - f[k])[1] * w[0])  # along the difference of the two
            and (u[i] - 1.0) * (u[k] - 1.0) < 0
            for i, k in product(range(N), range(N))
            if i % 2 != k % 2
        )


def test_pairs_of_one_class_alone_still_make_a_dictionary():
    spec = NetworkSpec((LayerSpec(bias=True),))
    stacks = draw_subnetworks(INPUTS, np.ones((N, 1)), spec, Definition(), source="pairs", count=20)
    assert collect(INPUTS, stacks, Definition()).patterns > 1
    one = draw_subnetworks(INPUTS[:1], np.ones((1, 1)), spec, Definition(), source="pairs", count=20)
    assert np.isfinite(one[0].layers[0].unit_weights()).all()


def reservoir(neuron="lif", seed=3, **layer):
    inputs = np.random.default_rng(5).normal(size=(40, 12, 4))
    spec = NetworkSpec((LayerSpec(neuron=neuron, recurrent=True, width=60, **layer),))
    (stack,) = draw_subnetworks(
        inputs, np.zeros((40, 1)), spec, Definition(margin=0.0), source="reservoir", seed=seed
    )
    return stack.layers[0], inputs


def slow_branching_ratio(layer, inputs):
    """Take every spike away in turn and run the next step again."""
    changed = events = 0
    for sample in inputs:
        carry, last = 0.0, np.zeros(layer.units)
        steps = []
        for x in sample:
            drive = (layer.weights @ x + layer.recurrent @ last)[None]
            steps.append((drive, carry, last))
            _, spikes, carry = layer.neuron.step(drive, carry)
            last = spikes[0].astype(float)
        for drive, carry, last in steps[1:]:
            spikes = layer.neuron.step(drive.copy(), carry)[1]
            for j in np.flatnonzero(last):
                without = layer.neuron.step(drive - layer.recurrent[:, j], carry)[1]
                changed += int((spikes != without).sum())
                events += 1
    return changed / events


@pytest.mark.parametrize(
    ("neuron", "layer"), [("lif", {"leak": (0.5, 0.9)}), ("threshold", {"threshold": 0.5})]
)
def test_a_reservoir_is_tuned_to_branching_ratio_1(neuron, layer):
    tuned, inputs = reservoir(neuron, **layer)
    assert abs(slow_branching_ratio(tuned, inputs) - 1.0) < 0.05
    again, _ = reservoir(neuron, **layer)
    assert np.array_equal(tuned.recurrent, again.recurrent)
    assert not np.array_equal(tuned.recurrent, reservoir(neuron, seed=4, **layer)[0].recurrent)


def test_the_branching_ratio_by_hand():
    # unit 0 fires at step 1 by its input; unit 1 fires at step 2 through unit 0 alone
    layer = Layer(np.array([[1.0], [0.0]]), Threshold(1.0), recurrent=np.array([[0.0, 0.0], [1.0, 0.0]]))
    rng = np.random.default_rng(0)
    assert branching_ratio(layer, np.array([[[1.0], [0.0]]]), rng) == 1.0
    # here unit 1's input makes it fire anyway
    safe = Layer(np.array([[1.0], [1.0]]), Threshold(1.0), recurrent=layer.recurrent)
    assert branching_ratio(safe, np.array([[[1.0], [1.0]]]), rng) == 0.0
    assert branching_ratio(layer, np.array([[[0.0], [1.0]]]), rng) == 0.0  # no spike before the last step


def test_a_reservoir_needs_recurrence_and_time():
    spec = NetworkSpec((LayerSpec(),))
    with pytest.raises(LoweringError, match="'reservoir' needs a layer with recurrent = true"):
        draw_subnetworks(INPUTS, LABELS, spec, Definition(), source="reservoir")
    spec = NetworkSpec((LayerSpec(recurrent=True, width=4),))
    with pytest.raises(LoweringError, match="at least two time steps"):
        draw_subnetworks(INPUTS[:, :1], LABELS, spec, Definition(), source="reservoir")


GIVEN = (Layer([[1.0, -2.0], [0.5, 3.0]], LIF(1.0, [0.5, 0.9], "zero"), bias=[0.1, -0.1]),)
FITTING = LayerSpec(leak=(0.5, 0.9), reset="zero", bias=True, width=2)


def given(tmp_path, layers=GIVEN):
    write_npz(tmp_path / "given.npz", layer_arrays(layers))
    return tmp_path / "given.npz"


def test_given_weights_are_taken_as_they_are(tmp_path):
    (stack,) = subnetworks_from_file(given(tmp_path), NetworkSpec((FITTING,)), D, 3.0)
    assert np.array_equal(stack.layers[0].unit_weights(), GIVEN[0].unit_weights())
    problem = Problem.from_arrays(
        INPUTS, LABELS[:, 0], layers=[{"leak": [0.5, 0.9], "reset": "zero", "bias": True, "width": 2}],
        training={"loss": "hinge", "regularization": 0.1},
        dictionary={"source": "file", "file": str(tmp_path / "given.npz")},
    )  # fmt: skip
    dictionary = build_dictionary(problem)
    patterns, _ = slow_patterns(Subnetwork(GIVEN), INPUTS, dictionary.definition)
    assert np.array_equal(dictionary.columns.toarray(), patterns[:, dictionary.unit_of])


OTHER = {
    "neuron": LayerSpec(neuron="threshold", leak=(0.5, 0.9), threshold=1.0, bias=True, width=2),
    "threshold": LayerSpec(leak=(0.5, 0.9), reset="zero", bias=True, width=2, threshold=2.0),
    "bias": LayerSpec(leak=(0.5, 0.9), reset="zero", width=2),
    "recurrent": LayerSpec(leak=(0.5, 0.9), reset="zero", bias=True, recurrent=True, width=2),
    "reset": LayerSpec(leak=(0.5, 0.9), bias=True, width=2),
    "leak": LayerSpec(leak=(0.3,), reset="zero", bias=True, width=2),
}


@pytest.mark.parametrize("name", OTHER)
def test_given_weights_of_another_architecture_are_refused_by_name(tmp_path, name):
    with pytest.raises(LoweringError, match=rf"dictionary.file: .*layer 1.* {name} "):
        subnetworks_from_file(given(tmp_path), NetworkSpec((OTHER[name],)), D, 3.0)


def test_given_weights_of_another_size_are_refused(tmp_path):
    path, spec = given(tmp_path), NetworkSpec((FITTING,))
    with pytest.raises(LoweringError, match="inputs"):
        subnetworks_from_file(path, spec, 3, 3.0)
    with pytest.raises(LoweringError, match=r"dictionary.weight_box: 2.5, but layer 1 .* has a weight of 3"):
        subnetworks_from_file(path, spec, D, 2.5)
    with pytest.raises(LoweringError, match="has 1 layers, the network 2"):
        subnetworks_from_file(path, NetworkSpec((FITTING, FITTING)), D, 3.0)


@pytest.mark.parametrize("content", [None, b"", b"no npz"])
def test_given_weights_that_cannot_be_read_are_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "given.npz").write_bytes(content)
    with pytest.raises(ProblemFileError, match="given.npz"):
        subnetworks_from_file(tmp_path / "given.npz", NetworkSpec((FITTING,)), D, 3.0)


def test_the_file_source_needs_a_file():
    problem = Problem.from_arrays(
        INPUTS, LABELS[:, 0], layers=[{}], training={"regularization": 0.1}, dictionary={"source": "file"}
    )
    with pytest.raises(ProblemFileError, match="dictionary.file: missing"):
        build_dictionary(problem)


@pytest.mark.parametrize(
    ("source", "layer"), [("gaussian", {}), ("pairs", {"bias": True}), ("reservoir", {"recurrent": True})]
)
def test_the_same_seed_is_the_same_dictionary(source, layer):
    definition = Definition()
    layers = [{"width": 8, **layer}, {"width": 2}]
    one, again, other = (
        collect(INPUTS, draw(layers, definition, source=source, seed=seed), definition) for seed in (1, 1, 2)
    )
    assert np.array_equal(one.columns.packed, again.columns.packed) and np.array_equal(
        one.margins, again.margins
    )
    assert not np.array_equal(one.margins, other.margins)


def test_no_global_seed_matters():
    np.random.seed(0)  # noqa: NPY002 (the point: nothing reads it)
    one = small_dictionary()
    np.random.seed(1)  # noqa: NPY002
    assert np.array_equal(one.margins, small_dictionary().margins)


@pytest.mark.slow
def test_the_number_of_threads_does_not_matter():
    """BLAS sums in another order on another number of threads; a robust dictionary must not notice."""
    script = (
        "import hashlib, convexsnn; from convexsnn.lowering import build_dictionary;"
        "d = build_dictionary(convexsnn.load_problem('yin-yang'));"
        "print(hashlib.sha256(d.columns.packed.tobytes()).hexdigest(), d.unit_of.sum())"
    )
    matches = set()
    for threads in ("1", "2"):
        env = {**os.environ, "OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
        matches.add(
            subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, check=True).stdout
        )
    assert len(matches) == 1


def test_columns_do_not_hang_on_the_order_of_samples():
    problem = load_problem("xor")
    order = np.array([2, 0, 3, 1])
    stacks = draw([{}], Definition(), count=30, inputs=problem.inputs)
    one = collect(problem.inputs, stacks, Definition())
    other = collect(problem.inputs[order], stacks, Definition())
    assert np.array_equal(one.columns.toarray()[order], other.columns.toarray())
    assert np.array_equal(one.unit_of, other.unit_of)
