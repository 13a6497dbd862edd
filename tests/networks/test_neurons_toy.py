"""A neuron defined in this file alone goes every road that takes it; the others refuse it by name.

    u_t = δ k_{t-1} u_{t-1} + ψ s_{t-1} + I_t,   k = κ after a spike and 1 else

δ is taken from a grid by each unit, ψ is a trained weight of each unit, and the reset leaves a share κ of the
membrane, as none of the package's own does.
"""

from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import pytest
from unit_trees import unit_decisions

import convexsnn
from convexsnn.arrays import read_npz, write_npz
from convexsnn.dictionary import Definition
from convexsnn.dictionary.dictionary import load_dictionary
from convexsnn.errors import LoweringError, ProblemFileError, ShapeError, UnsupportedError, VerificationError
from convexsnn.networks import (
    GRID,
    NEURONS,
    SHARED,
    TRAINED,
    Layer,
    LayerSpec,
    Network,
    NetworkSpec,
    Neuron,
    architecture_mismatch,
    last_spikes,
    load_network,
    parameter,
    register_neuron,
    save_network,
)
from convexsnn.networks.files import KEYS
from convexsnn.networks.neuron import LAYER_KEYS, joined
from convexsnn.networks.parameters import RESERVED
from convexsnn.pricing.rational import exact_rows, exact_spikes
from convexsnn.problem import Problem, load_problem
from convexsnn.simulate import run_layer, simulate


@dataclass(frozen=True, eq=False)
class Toy(Neuron):
    """Keeps a share of its membrane after a spike, and has a trained weight on its own last spike."""

    threshold: float = parameter("θ", "membrane at which a unit fires", 1.0, above=0)
    decay: float = parameter("δ", "share of the membrane that a step keeps", 0.5, of=GRID, least=0, most=1)
    keep: float = parameter("κ", "share of the membrane that a spike leaves", 0.25, above=0, most=1)
    push: float = parameter("ψ", "weight on the own last spike", 0.0, of=TRAINED, multiplies="own spike")
    kind = "toy"

    @property
    def dynamics(self):
        return "u_t = δ v_(t-1) + ψ s_(t-1) + I_t"

    def carry(self, membrane, spikes):
        return (self.decay * self.after_reset(membrane, spikes) + self.push * spikes).astype(membrane.dtype)

    def after_reset(self, membrane, spikes):
        return membrane * np.where(spikes, self.keep, 1)

    def affine_rows(self, inputs, spikes):
        g, h = self.first_rows(inputs, spikes)
        g = np.concatenate([g, last_spikes(spikes)[..., None].astype(g.dtype)], axis=2)
        for t in range(1, g.shape[1]):
            g[:, t] += self.decay * np.where(spikes[:, t - 1, None], self.keep, 1) * g[:, t - 1]
        return g, h

    def readout_rows(self, inputs, spikes):
        g, h = self.affine_rows(inputs, spikes)
        return g * np.where(spikes[..., None], self.keep, 1), h - self.threshold


@pytest.fixture(autouse=True)
def toy():
    """Register the neuron for one test."""
    register_neuron(Toy)
    yield
    del NEURONS["toy"]


LAYER = {"neuron": "toy", "decay": [0.25, 0.75], "keep": 0.5, "bias": True}
INPUTS = np.random.default_rng(0).normal(size=(7, 3, 1)).round(2)
TARGETS = np.array([1.0, -1.0, 1.0, 1.0, -1.0, -1.0, 1.0])


def problem(layers=(LAYER,), **parts):
    settings = {
        "training": {"loss": "hinge", "regularization": 0.02},
        "dictionary": {"weight_box": 4.0, "margin": 1e-3, "count": 60},
        **parts,
    }
    return Problem.from_arrays(INPUTS, TARGETS, layers=list(layers), name="toys", **settings)


def toy_layer(rng, units=3, d=2, dtype=np.float64):
    """Return a layer of quarters: its sums of products are exact in floats."""

    def quarters(*shape):
        return rng.integers(-6, 7, shape).astype(dtype) / 4

    neuron = Toy(0.5, rng.choice([0.25, 0.5, 1.0], units), 0.5, quarters(units))
    return Layer(quarters(units, d), neuron, quarters(units), quarters(units, units))


@pytest.mark.parametrize("seed", range(20))
def test_its_rows_say_what_its_steps_do_in_floats_and_fractions(seed):
    rng = np.random.default_rng(seed)
    layer, inputs = toy_layer(rng), rng.integers(-6, 7, (4, 5, 2)) / 4
    membranes, spikes = run_layer(layer, inputs)
    run = exact_spikes(layer, inputs)
    v = layer.neuron.after_reset(membranes, spikes)
    assert np.array_equal(run.spikes, spikes) and np.array_equal(run.membrane, v >= 0)
    seen, weights = layer.unit_inputs(inputs, spikes), layer.unit_weights()
    for j in range(layer.units):
        unit = layer.neuron.unit(j)
        g, h = unit.affine_rows(seen, spikes[:, :, j])
        assert np.array_equal(g @ weights[j] - h, membranes[:, :, j] - 0.5)
        g, h = unit.readout_rows(seen, spikes[:, :, j])
        assert np.array_equal(g @ weights[j] - h, v[:, :, j])
        alone = Layer(np.zeros((1, seen.shape[2])), layer.neuron.unit(slice(j, j + 1)))
        for readout, floats in ((False, unit.affine_rows), (True, unit.readout_rows)):
            exact = exact_rows(alone, seen[0], spikes[0, :, j], readout)
            for one, other in zip(exact, floats(seen[:1], spikes[:1, :, j]), strict=True):
                assert np.array_equal(one.astype(float), other[0])


@pytest.mark.parametrize(
    ("source", "network"),
    [
        ("gaussian", {}),
        ("gaussian", {"readout": "membrane", "supervise": "last"}),
        ("pairs", {}),
        ("exact", {}),
        ("column_generation", {}),
    ],
)
def test_the_whole_road(tmp_path, source, network):
    dictionary = {"source": source, "weight_box": 4.0, "margin": 1e-3}
    if source in ("gaussian", "pairs"):
        dictionary["count"] = 60
    given = problem(network=network, dictionary=dictionary)
    result = convexsnn.train(given)
    neuron = result.network.layers[-1].neuron
    assert isinstance(neuron, Toy) and neuron.keep == 0.5 and set(neuron.decay) <= {0.25, 0.75}
    assert np.abs(neuron.push).max() > 0 and np.abs(neuron.push).max() <= 4.0
    result.save(tmp_path / "run")
    read = load_network(tmp_path / "run" / "network.npz")
    assert isinstance(read.layers[-1].neuron, Toy)
    trained, reread = simulate(result.network, INPUTS), simulate(read, INPUTS)
    assert np.array_equal(trained.spikes[0], reread.spikes[0]) and trained.spikes[0].any()
    assert np.array_equal(trained.outputs, reread.outputs)
    again = load_problem(tmp_path / "run" / "problem.toml")
    assert again.fingerprint() == given.fingerprint() and again.tables() == given.tables()
    for exact in (False, True):
        claim, checked = convexsnn.verify_folder(tmp_path / "run", exact=exact)
        assert checked.gap == pytest.approx(claim.gap, abs=1e-9)
    if source in ("exact", "column_generation"):
        assert claim.status == "optimal_global"


def test_inspect_and_export_on_the_command_line(cli, tmp_path):
    problem().save(tmp_path)
    status, out, err = cli("inspect", "problem.toml")
    assert (status, err) == (0, "")
    description = "layer 1: 1 × toy, u_t = δ v_(t-1) + ψ s_(t-1) + I_t, s_t = [u_t >= 1], I_t = W x_t + b"
    assert f"{description}, δ in 0.25, 0.75, κ = 0.5" in out
    status, out, _ = cli("inspect", "problem.toml", "--column", 0)
    assert status == 0 and "(inputs, then bias, then own spike)" in out and ", decay 0." in out
    assert cli("export", "problem.toml", "toys.mps")[0] == 0
    assert (tmp_path / "toys.mps").read_text().startswith("NAME")


def test_several_layers_and_coupled_units(tmp_path):
    hidden = {"neuron": "toy", "decay": 0.75, "width": 2}
    result = convexsnn.train(problem([hidden, {"neuron": "toy", "bias": True}]))
    result.save(tmp_path / "deep")
    convexsnn.verify_folder(tmp_path / "deep", exact=True)
    result = convexsnn.train(problem([{**LAYER, "recurrent": True, "width": 2}]))
    result.save(tmp_path / "coupled")
    convexsnn.verify_folder(tmp_path / "coupled", exact=True)


def test_grids_of_all_parameters_are_enumerated():
    spec = LayerSpec(neuron="toy", parameters={"decay": [0.5, 0.25]})
    units = unit_decisions(INPUTS, spec, Definition())
    assert [unit.layer.neuron.decay.tolist() for unit in units] == [[0.25], [0.5]]
    assert len(unit_decisions(INPUTS[:, :1], spec, Definition())) == 1  # it acts from step 2 on


def test_settings_of_a_layer():
    spec = LayerSpec(neuron="toy")
    assert (spec.threshold, dict(spec.parameters)) == (1.0, {"decay": (0.5,), "keep": 0.25})
    plain, said, other = (
        problem([{"neuron": "toy", **more}]).fingerprint() for more in ({}, {"decay": 0.5}, {"keep": 0.5})
    )
    assert plain == said != other
    assert "parameters" not in problem([{}]).tables()["network"]["layers"][0]
    assert problem([LAYER]).tables()["network"]["layers"][0]["decay"] == [0.25, 0.75]


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ({**LAYER, "decy": 0.5}, "network.layers.decy: unknown key; did you mean 'decay'?"),
        ({**LAYER, "decay": 1.5}, "network.layers[1].decay: expected values in [0, 1], got 1.5"),
        ({**LAYER, "decay": []}, "network.layers.decay: expected a finite number or a list of them, got []"),
        ({**LAYER, "keep": [0.5, 0.25]}, "network.layers.keep: expected a finite number, got [0.5, 0.25]"),
        ({**LAYER, "keep": 0.0}, "network.layers[1].keep: expected a number > 0 and <= 1, got 0.0"),
        ({**LAYER, "push": 1.0}, "network.layers.push: unknown key"),
        ({**LAYER, "neuron": "tou"}, "network.layers.neuron: expected one of lif, threshold, recurrent_th"),
        ({**LAYER, "neuron": 3}, "network.layers.neuron: expected text, got 3"),
        ({"neuron": "lif", "decay": 0.5}, "network.layers.decay: unknown key"),
    ],
)  # fmt: skip
def test_keys_of_its_layers_are_checked(layer, message):
    with pytest.raises(ProblemFileError) as caught:
        problem([layer])
    assert str(caught.value).startswith(message)


def test_settings_that_it_does_not_have():
    with pytest.raises(ShapeError, match="^speed: unknown parameter of neuron 'toy'; known: decay, keep"):
        LayerSpec(neuron="toy", parameters={"speed": 1.0})
    with pytest.raises(ShapeError, match="^decay: the grid has 2 values; choose one of them for each unit"):
        LayerSpec(neuron="toy", parameters={"decay": (0.5, 0.25)}).make_neuron()
    with pytest.raises(ShapeError, match="^decay: expected one for all units of a convolution"):
        LayerSpec(neuron="toy", parameters={"decay": (0.5, 0.25)}, kernel=2, shape=(1, 3, 3))


# on disk


def saved(tmp_path, remove=(), **entries):
    rng = np.random.default_rng(3)
    save_network(tmp_path / "net.npz", Network((toy_layer(rng),), np.ones((3, 1))))
    arrays = {key: array for key, array in read_npz(tmp_path / "net.npz").items() if key not in remove}
    write_npz(tmp_path / "net.npz", {**arrays, **{k: np.asarray(v) for k, v in entries.items()}})
    return tmp_path / "net.npz"


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_what_is_saved_comes_back(tmp_path, dtype):
    layer = toy_layer(np.random.default_rng(3), dtype=dtype)
    save_network(tmp_path / "net.npz", Network((layer,), np.ones((3, 1))))
    read = load_network(tmp_path / "net.npz").layers[0].neuron
    for declared in Toy.parameters():
        assert np.array_equal(getattr(read, declared.name), getattr(layer.neuron, declared.name))


@pytest.mark.parametrize("name", ["threshold", "decay", "keep", "push"])
def test_a_missing_parameter_is_named(tmp_path, name):
    with pytest.raises(ProblemFileError, match=f"net.npz: layer1_{name}: missing"):
        load_network(saved(tmp_path, remove=[f"layer1_{name}"]))


@pytest.mark.parametrize("name", ["leak", "reset", "speed"])
def test_an_unknown_parameter_is_named(tmp_path, name):
    with pytest.raises(ProblemFileError, match=rf"net.npz: layer1_\*: unknown {name}"):
        load_network(saved(tmp_path, **{f"layer1_{name}": 0.5}))


def test_a_folder_whose_network_lost_a_parameter_does_not_verify(tmp_path):
    convexsnn.train(problem()).save(tmp_path / "run")
    for file in ("network.npz", "dictionary.npz"):
        arrays = read_npz(tmp_path / "run" / file)
        (name,) = [key for key in arrays if key.endswith("layer1_decay")]
        write_npz(tmp_path / "run" / file, {k: v for k, v in arrays.items() if k != name})
        with pytest.raises(VerificationError, match=f"{name}: missing"):
            convexsnn.verify_folder(tmp_path / "run")
        write_npz(tmp_path / "run" / file, arrays)
    convexsnn.verify_folder(tmp_path / "run")
    assert load_dictionary(tmp_path / "run" / "dictionary.npz").patterns > 0


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("decay", np.array([0.25, 0.5, 0.3]), "layer 1 has decay 0.3, the network (0.25, 0.5, 1.0)"),
        ("keep", 0.75, "layer 1 has keep 0.75, the network 0.5"),
        ("threshold", 0.7, "layer 1 has threshold 0.7, the network 0.5"),
        ("push", np.array([9.0, 0.0, 1.0]), None),
    ],
)
def test_other_parameters_are_another_architecture(name, value, message):
    layer = replace(toy_layer(np.random.default_rng(3)), recurrent=None)
    spec = LayerSpec("toy", threshold=0.5, bias=True, parameters={"decay": (0.25, 0.5, 1.0), "keep": 0.5})
    plan = NetworkSpec((spec,))
    assert architecture_mismatch(plan, [layer], 2) is None
    other = replace(layer, neuron=replace(layer.neuron, **{name: value}))
    assert architecture_mismatch(plan, [other], 2) == message


def test_layers_side_by_side_agree_on_what_they_share():
    one, other = Toy(decay=0.5, push=[1.0, 2.0]), Toy(decay=[0.25], push=3.0)
    both = joined([one, other], [2, 1])
    assert (both.decay.tolist(), both.push.tolist()) == ([0.5, 0.5, 0.25], [1.0, 2.0, 3.0])
    with pytest.raises(ShapeError, match="^keep: 0.25 and 0.5 cannot share a layer"):
        joined([one, Toy(keep=0.5)], [2, 1])
    with pytest.raises(ShapeError, match="^neuron: 'toy' and 'lif' cannot share a layer"):
        joined([one, convexsnn.LIF()], [2, 1])


# roads that do not take it


def test_admm_refuses_it_by_name():
    for parts in (
        {"training": {"method": "admm", "loss": "hinge"}},
        {"dictionary": {"source": "admm"}},
    ):
        with pytest.raises(LoweringError) as caught:
            convexsnn.train(problem(**parts))
        message = "network.layers[1].neuron: neuron toy: has no leaky form, which ADMM needs"
        assert str(caught.value).startswith(message)


def test_gradients_refuse_it_by_name():
    pytest.importorskip("torch")
    from convexsnn.gradient.module import NetworkModule

    network = Network((toy_layer(np.random.default_rng(0)),), np.ones((3, 1)))
    message = "^neuron toy: has no leaky form, which training by gradients needs"
    with pytest.raises(UnsupportedError, match=message):
        NetworkModule(network)
    with pytest.raises(UnsupportedError, match=message):
        convexsnn.train(problem(dictionary={"source": "surrogate_gradient"}))


def test_a_form_for_the_kernels_is_not_inherited():
    class Slow(convexsnn.LIF):
        kind = "slow"

    assert convexsnn.LIF(1.0, 0.5).leaky_form("ADMM") == (0.5, "subtract", 0.5, None)
    with pytest.raises(UnsupportedError, match="^neuron slow: has no leaky form, which ADMM needs"):
        Slow(1.0, 0.5).leaky_form("ADMM")


def test_cascades_refuse_a_trained_parameter_by_name():
    layer = {**LAYER, "recurrent": True, "width": 2}
    given = problem([layer], dictionary={"source": "column_generation", "cascade": True})
    with pytest.raises(UnsupportedError, match="^dictionary.cascade: neuron 'toy' has the trained parameter"):
        convexsnn.train(given)


def test_floats_in_its_code_are_refused_by_exact_arithmetic():
    @dataclass(frozen=True, eq=False)
    class Rounded(Toy):
        kind = "rounded"

        def carry(self, membrane, spikes):
            return 0.5 * membrane

        def affine_rows(self, inputs, spikes):
            g, h = super().affine_rows(inputs, spikes)
            return g, h + 0.0

    layer = Layer(np.ones((1, 1)), Rounded())
    with pytest.raises(UnsupportedError, match="^neuron rounded: step returns .* for fractions"):
        exact_spikes(layer, np.ones((1, 2, 1)))
    with pytest.raises(UnsupportedError, match="^neuron rounded: affine_rows returns 1.0 for fractions"):
        exact_rows(layer, np.ones((2, 1)), (False, False))
    assert exact_rows(Layer(np.ones((1, 1)), Toy()), np.ones((2, 1)), (False, False))[1][1] == Fraction(1)


# what cannot be registered


def left_out(name):
    return type("Half", (Toy,), {"kind": "half", name: getattr(Neuron, name)})


@pytest.mark.parametrize("name", ["carry", "after_reset", "affine_rows", "dynamics"])
def test_a_neuron_without_a_method_is_refused_by_the_methods_name(name):
    with pytest.raises(UnsupportedError) as caught:
        register_neuron(left_out(name))
    assert str(caught.value) == f"neuron Half: leaves out {name}"
    assert set(NEURONS) == {"lif", "threshold", "recurrent_threshold", "toy"}


def with_field(name, declared, kind="half"):
    return dataclass(frozen=True, eq=False)(
        type("Half", (Toy,), {"__annotations__": {name: object}, name: declared, "kind": kind})
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: int, "neuron: expected a class below Neuron, got <class 'int'>"),
        (lambda: type("Half", (Toy,), {}), "neuron Half: leaves out kind, its name in problem files"),
        (lambda: type("Half", (Toy,), {"kind": "lif"}), "neuron Half: kind 'lif' is taken by LIF"),
        (lambda: type("Half", (Toy,), {"kind": "half", "speed": parameter("v", "speed", 1.0)}),
         "neuron Half: needs @dataclass(frozen=True, eq=False) below @register_neuron"),
        (lambda: with_field("speed", 1.0), "neuron Half: field speed is not a declared parameter"),
        (lambda: with_field("bias", parameter("b", "constant", 1.0)),
         "neuron Half: parameter bias has the name of a key that every layer has"),
        (lambda: with_field("leak", parameter("β", "leak", 0.9)),
         "neuron Half: parameter leak is a key of every layer; declare it grid, with the default 0.9"),
        (lambda: with_field("reset", parameter("", "reset", "hard", choices=("hard", "soft"))),
         "neuron Half: parameter reset is a key of every layer; declare it shared, with the default 'subt"),
        (lambda: with_field("speed", parameter("v", "speed", "fast")),
         "neuron Half: parameter speed: a parameter that is a word must be shared and needs choices"),
        (lambda: with_field("speed", parameter("v", "speed", 2.0, most=1)),
         "neuron Half: parameter speed: its default is refused: speed: expected a number <= 1, got 2.0"),
        (lambda: with_field("speed", parameter("v", "speed", 2.0, of="drawn")),
         "neuron Half: parameter speed: expected of = shared, grid or trained, got 'drawn'"),
    ],
)  # fmt: skip
def test_declarations_that_cannot_be_registered(make, message):
    with pytest.raises(UnsupportedError) as caught:
        register_neuron(make())
    assert str(caught.value).startswith(message)
    assert set(NEURONS) == {"lif", "threshold", "recurrent_threshold", "toy"}


def test_no_parameter_can_take_the_name_of_another_key():
    fields = set(LayerSpec.__dataclass_fields__)
    assert fields - set(LAYER_KEYS) <= RESERVED and KEYS <= RESERVED
    declared = {p.name for kind in NEURONS.values() for p in kind.parameters(SHARED, GRID, TRAINED)}
    assert not declared & RESERVED
