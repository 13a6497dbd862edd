"""Keys stand at the fields of their dataclasses: one default, one check, one meaning that stands alone."""

import re
from dataclasses import MISSING, dataclass, fields

import numpy as np
import pytest

from convexsnn.admm.splitting import VARIANTS
from convexsnn.errors import ConvexSNNError, ProblemFileError, ShapeError
from convexsnn.fields import REQUIRED, check_fields, key, keys_of, read_table
from convexsnn.networks import NEURONS, LayerSpec, NetworkSpec
from convexsnn.pricing.oracles import ORACLES
from convexsnn.problem import AdmmSpec, DictionarySpec, GradientSpec, SolverSpec, TrainingSpec
from convexsnn.problem.tables import SCHEMA, SPECS, read_section
from convexsnn.programs import LOSSES

KEYS = [(section, name) for section, keys in SCHEMA.items() for name in keys]
TABLES = {
    "dictionary": DictionarySpec,
    "training": TrainingSpec,
    "admm": AdmmSpec,
    "gradient": GradientSpec,
    "solver": SolverSpec,
}
# words with which no noun phrase begins
NO_NOUN = set(
    "a an the of for if where when while in on at to from by with without as or and but not is are be it its "
    "this that these those which what who how whether between over under until after before per most more "
    "none double halve move moves".split()
)


@pytest.mark.parametrize(("section", "name"), KEYS)
def test_every_meaning_begins_with_a_noun(section, name):
    meaning = SCHEMA[section][name].meaning
    first = re.match(r"\w+", meaning)
    assert first and first[0].lower() not in NO_NOUN, meaning
    assert len(meaning.split()) >= 2 and not meaning.endswith((".", " or", " and"))
    assert "  " not in meaning and "|" not in meaning and "\n" not in meaning


@pytest.mark.parametrize(("section", "name"), KEYS)
def test_the_only_default_is_the_keys(section, name):
    (one,) = (f for f in fields(SPECS[section]) if f.name == name)
    if SCHEMA[section][name].default is REQUIRED:
        assert one.default is MISSING and one.default_factory is MISSING
    else:
        default = one.default if one.default_factory is MISSING else one.default_factory()
        assert default == SCHEMA[section][name].default


@pytest.mark.parametrize("section", TABLES)
def test_an_empty_table_is_the_dataclass(section):
    assert TABLES[section](**read_section(section, {})) == TABLES[section]()


def refusal(work):
    with pytest.raises(ConvexSNNError) as caught:
        work()
    assert "\n" not in str(caught.value)
    return type(caught.value), str(caught.value)


WRONG = [
    ("admm", "iterations", -3),
    ("admm", "order", "sideways"),
    ("admm", "trust", 0),
    ("admm", "spike_steps", 0),
    ("gradient", "device", "tpu"),
    ("gradient", "width", np.inf),
    ("gradient", "normalize", 1),
    ("dictionary", "source", "gausian"),
    ("dictionary", "scale", [1.0, -1.0]),
    ("training", "loss", "huber"),
    ("training", "penalty", "l2"),
    ("solver", "tolerance", 1.0),
    ("solver", "name", None),
]


@pytest.mark.parametrize(("section", "name", "value"), WRONG)
def test_a_dataclass_refuses_what_a_file_refuses_in_the_same_words(section, name, value):
    by_hand = refusal(lambda: TABLES[section](**{name: value}))
    assert by_hand[0] is ProblemFileError and by_hand[1].startswith(f"{section}.{name}: expected ")
    if value is not None:  # in a table, what is not given
        assert by_hand == refusal(lambda: read_section(section, {name: value}))


def test_the_first_wrong_field_is_named():
    kind, error_text = refusal(lambda: AdmmSpec(iterations=-3, order="sideways"))
    assert (kind, error_text) == (ProblemFileError, "admm.iterations: expected at least 1, got -3")


@pytest.mark.parametrize(
    ("wrong", "error_text"),
    [
        ({"neuron": "liff"}, "neuron: expected one of lif, threshold, recurrent_threshold, got 'liff'"),
        ({"width": 0}, "width: expected at least 1, got 0"),
        ({"leak": []}, "leak: expected a finite number or a list of them, got []"),
        ({"bias": 1}, "bias: expected true or false, got 1"),
        ({"kernel": 1.5}, "kernel: expected a whole number, got 1.5"),
    ],
)
def test_a_layer_made_by_hand_is_checked(wrong, error_text):
    kind, message = refusal(lambda: LayerSpec(**wrong))
    assert kind is ShapeError and message.startswith(error_text)


def test_a_network_made_by_hand_is_checked():
    error_text = refusal(lambda: NetworkSpec(subnetworks=0))
    assert error_text == (ShapeError, "subnetworks: expected at least 1, got 0")


def test_one_leak_is_a_grid_of_one():
    assert LayerSpec(leak=0.5) == LayerSpec(leak=(0.5,)) == LayerSpec(leak=[0.5])


def test_names_that_a_registry_has_are_asked_for_there(monkeypatch):
    assert list(SCHEMA["network.layers"]["neuron"].choices) == list(NEURONS)
    assert list(SCHEMA["training"]["loss"].choices) == list(LOSSES)
    monkeypatch.setitem(LOSSES, "huber", LOSSES["squared"])
    assert "huber" in SCHEMA["training"]["loss"].choices
    assert TrainingSpec(loss="huber", task="regression").loss == "huber"


def test_names_whose_registry_is_further_up_are_those_of_the_registry():
    assert tuple(SCHEMA["admm"]["variant"].choices) == tuple(VARIANTS)
    assert tuple(SCHEMA["dictionary"]["oracle"].choices) == ("auto", *ORACLES)


def test_a_number_is_kept_as_pythons_own():
    spec = AdmmSpec(batch=np.int64(3), trust=1)
    assert type(spec.batch) is int and type(spec.trust) is float
    assert spec == AdmmSpec(batch=3, trust=1.0)


@dataclass(frozen=True)
class Toy:
    """A dataclass with keys and a field that is none."""

    size: int = key("whole", REQUIRED, "size of the toy", least=2)
    table: dict = key("table", {}, "further words")
    other: float = 3.0

    def __post_init__(self):
        check_fields(self, "toy")


def test_any_dataclass_may_have_keys():
    assert list(keys_of(Toy)) == ["size", "table"]
    assert Toy(2).table == {} and Toy(2).table is not Toy(2).table
    assert refusal(lambda: Toy(1)) == (ProblemFileError, "toy.size: expected at least 2, got 1")
    assert refusal(lambda: read_table("toy", {}, keys_of(Toy))) == (ProblemFileError, "toy.size: missing")
    error_text = "toy.sise: unknown key; did you mean 'size'?"
    assert refusal(lambda: read_table("toy", {"sise": 2}, keys_of(Toy))) == (ProblemFileError, error_text)
    with pytest.raises(TypeError):
        Toy()
