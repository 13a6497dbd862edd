"""A dictionary source defined in this file goes all the way, and each refusal is one line."""

import json
from dataclasses import replace

import numpy as np
import pytest
from small_dictionaries import INPUTS, LABELS

import convexsnn
from convexsnn.convex.trained import TRAINERS, Trained, register_trainer
from convexsnn.dictionary import Definition
from convexsnn.dictionary.sources import SOURCES, Source, get_source, register_source
from convexsnn.errors import LoweringError, ProblemFileError, ShapeError, UnsupportedError
from convexsnn.lowering import Convexification
from convexsnn.problem import Problem, load_problem


class Lattice(Source):
    """Whole multiples of a quarter."""

    name = "lattice"
    meaning = "weights on a lattice"
    kind = "draws"

    def weights(self, layer, draw):
        return draw.rng.integers(-12, 13, layer.unit_weights().shape) / 4


class Borrowed(Source):
    """Hidden layers of one network that a trainer of this file makes."""

    name = "borrowed"
    meaning = "hidden layers of a network made by hand"
    kind = "trains"


@pytest.fixture
def registered():
    """Return a function that registers a source until the test ends."""
    known, trainers = dict(SOURCES), dict(TRAINERS)
    yield register_source
    for table, before in ((SOURCES, known), (TRAINERS, trainers)):
        table.clear()
        table.update(before)


def problem(source="lattice", margin=1e-4, layers=({"bias": True},), **dictionary):
    return Problem.from_arrays(
        INPUTS, LABELS[:, 0], layers=list(layers), training={"loss": "hinge", "regularization": 0.05},
        dictionary={"source": source, "count": 60, "seed": 3, "margin": margin, **dictionary}, name="toy",
    )  # fmt: skip


@pytest.mark.parametrize("layers", [({"bias": True},), ({"width": 3}, {"width": 2, "recurrent": True})])
def test_a_toy_source_goes_all_the_way(registered, tmp_path, layers):
    registered(Lattice)
    toy_problem = problem(layers=layers)
    lowered = convexsnn.lower(toy_problem)
    rows = np.concatenate([s.layers[-1].unit_weights() for s in lowered.dictionary.subnetworks])
    assert np.array_equal(rows * 4, np.round(rows * 4)) and len(np.unique(rows)) > 5
    result = convexsnn.train(toy_problem)
    assert result.status == "optimal_on_dictionary" and result.baseline is None
    result.save(tmp_path / "run")
    claim, checked = convexsnn.verify_folder(tmp_path / "run", exact=True)
    assert claim == result.claim and checked.objective == pytest.approx(result.certificate.objective)
    again = load_problem(tmp_path / "run" / "problem.toml")
    assert again.dictionary.source == "lattice" and again.fingerprint() == toy_problem.fingerprint()
    assert np.array_equal(convexsnn.lower(again).dictionary.columns.packed, lowered.dictionary.columns.packed)


def test_a_toy_source_is_taken_by_problem_files_and_commands(registered, cli, tmp_path):
    registered(Lattice)
    assert list(SOURCES)[-1] == "lattice"
    problem().save(tmp_path)
    code, out, err = cli("inspect", tmp_path / "problem.toml")
    assert code == 0 and "(lattice, seed 3)" in out, err
    code, out, err = cli("export", tmp_path / "problem.toml", tmp_path / "program.mps")
    assert code == 0 and (tmp_path / "program.mps").stat().st_size > 0, err
    code, out, err = cli("solve", tmp_path / "problem.toml", "--json", "--out", tmp_path / "run")
    assert code == 0 and json.loads(out)["verified"], err
    code, out, err = cli("verify", tmp_path / "run", "--exact")
    assert code == 0, err


def test_an_unknown_source_is_refused_with_the_nearest(registered):
    with pytest.raises(ProblemFileError) as caught:
        problem("latice")
    assert str(caught.value).endswith("got 'latice'")
    registered(Lattice)
    with pytest.raises(ProblemFileError) as caught:
        problem("latice")
    assert str(caught.value).startswith("dictionary.source: expected one of gaussian, pairs, ")
    assert str(caught.value).endswith("got 'latice'; did you mean 'lattice'?")
    with pytest.raises(ProblemFileError, match="got 'exat'; did you mean 'exact'"):
        get_source("exat")


def test_a_source_that_is_made_without_the_file_is_refused_all_the_same():
    drawing = problem("gaussian")
    with pytest.raises(ProblemFileError, match="got 'gausian'; did you mean 'gaussian'"):
        convexsnn.lower(replace(drawing, dictionary=replace(drawing.dictionary, source="gausian")))


@pytest.mark.parametrize("source", ["admm", "surrogate_gradient"])
def test_an_untrained_source_is_refused_and_never_drawn(source):
    with pytest.raises(LoweringError) as caught:
        Convexification().lower(problem(source))
    message = str(caught.value)
    assert message.startswith(f"dictionary.source: '{source}' trains networks first") and "\n" not in message
    assert "convexsnn.lower(problem)" in message
    with pytest.raises(UnsupportedError, match=f"'{source}' trains and has no weights to draw"):
        convexsnn.dictionary.draw_subnetworks(
            INPUTS, LABELS, problem(source).network, Definition(), source=source
        )


def test_a_source_that_trains_needs_its_trainer(registered):
    registered(Borrowed)
    with pytest.raises(LoweringError, match="^dictionary.source: 'borrowed' trains .* has no trainer; "):
        convexsnn.train(problem("borrowed"))
    hidden = convexsnn.lower(problem("gaussian", count=9, margin=0.0)).dictionary.subnetworks[0].layers

    @register_trainer("borrowed")
    def make(problem, budget):
        width = len(hidden[0].weights)
        return [Trained(convexsnn.Network(hidden, np.ones((width, 1)), "spike", "last"), "hand", 1)]

    toy_problem = problem("borrowed", layers=({"bias": True, "width": hidden[0].units},), margin=0.0)
    result = convexsnn.train(toy_problem)
    assert result.summary()["trained_of"] == 1 and result.trained_as[0]["stopped_by"] == "hand"
    with pytest.raises(LoweringError, match="'borrowed' has one already"):
        register_trainer("borrowed")
    with pytest.raises(LoweringError, match="'gaussian' draws, it does not train"):
        register_trainer("gaussian")


def test_a_class_that_leaves_something_out_is_refused_by_its_name(registered):
    def new_class(**given):
        return type("Toy", (Source,), {"name": "toy", "meaning": "weights", "kind": "draws", **given})

    for kind, method in (("draws", "weights"), ("reads", "read"), ("enumerates", "enumerated")):
        with pytest.raises(UnsupportedError) as caught:
            registered(new_class(kind=kind))
        message = f"source 'toy': class Toy leaves out the method '{method}' of a source that {kind}"
        assert str(caught.value) == message
    for wrong, message in (
        (new_class(meaning=""), "source 'toy': class Toy leaves out 'meaning'"),
        (new_class(kind="guesses"), "source 'toy': kind 'guesses'; expected one of draws, reads, "),
        (new_class(kind="grows"), "source 'toy': begins_with '' is no registered source"),
        (type("Toy", (Lattice,), {"name": "gaussian"}), "source 'gaussian': already registered"),
    ):
        with pytest.raises(UnsupportedError) as caught:
            registered(wrong)
        assert str(caught.value).startswith(message)
    assert "toy" not in SOURCES


def test_rows_of_another_shape_are_refused(registered):
    class Short(Lattice):
        name = "short"

        def weights(self, layer, draw):
            return np.zeros((2, 1))

    registered(Short)
    with pytest.raises(ShapeError, match=r"^source 'short': .*\(60, 3\) expected .* got \(2, 1\)"):
        convexsnn.lower(problem("short"))


def test_a_file_source_of_another_format_is_kept_with_the_run(registered, tmp_path):
    class Text(Source):
        name, meaning, kind, keeps_file = "text", "weights in a text file", "reads", True

        def read(self, path):
            rows = np.loadtxt(path, ndmin=2)
            return (convexsnn.Layer(rows, convexsnn.LIF(1.0, np.full(len(rows), 0.9))),)

    registered(Text)
    np.savetxt(tmp_path / "rows.txt", [[3.0, 0.5], [-1.0, 2.0], [0.25, -4.0]])
    layers = ({"width": 3},)
    result = convexsnn.train(problem("text", layers=layers, file=str(tmp_path / "rows.txt"), margin=0.0))
    result.save(tmp_path / "run")
    assert convexsnn.verify_folder(tmp_path / "run")[0] == result.claim
    again = convexsnn.lower(load_problem(tmp_path / "run" / "problem.toml")).dictionary
    assert np.array_equal(again.columns.packed, result.lowered.dictionary.columns.packed)


@pytest.mark.parametrize("name", list(SOURCES))
def test_every_source_says_what_it_is(name):
    source = get_source(name)
    assert source.name == name and source.meaning[0].isalpha() and "\n" not in source.meaning
    assert source.trains == (name in TRAINERS)
    assert source.covers_all_patterns == (source.enumerates or source.grows)
