"""Dictionaries: every column and margin recomputed by a slow simulation; written and read again."""

from itertools import product

import numpy as np
import pytest
from small_dictionaries import (
    INPUTS,
    N,
    T,
    draw,
    slow_patterns,
    small_dictionary,
)

from convexsnn.arrays import read_npz, write_npz
from convexsnn.dictionary import (
    Definition,
    collect,
    load_dictionary,
)
from convexsnn.dictionary.dictionary import patterns_of
from convexsnn.errors import LoweringError, ProblemFileError
from convexsnn.networks import (
    RESETS,
    Layer,
    Subnetwork,
    Threshold,
)
from convexsnn.networks.files import layer_arrays

KINDS = [*(("lif", reset) for reset in RESETS), ("threshold", ""), ("recurrent_threshold", "")]
LAYERS = [
    {"neuron": kind, "bias": bias, "recurrent": recurrent}
    | (
        {"reset": reset} if reset else {} if bias else {"threshold": 0.2}
    )  # at 0 a silent input is always a tie
    for (kind, reset), bias, recurrent in product(KINDS, (False, True), (False, True))
    if not (kind == "recurrent_threshold" and recurrent)
]
LAYER_NAMES = ["-".join(str(v) for v in layer.values()) for layer in LAYERS]


def best_margins(slow, least):
    """Return every non-zero pattern of at least this margin, with the best margin among its units."""
    best = {}
    for patterns, margins in slow:
        for column, margin in zip(patterns.T, margins, strict=True):
            if column.any() and margin >= least:
                best[column.tobytes()] = max(margin, best.get(column.tobytes(), 0.0))
    return best


@pytest.mark.parametrize(
    ("readout", "supervise"), [("spike", "last"), ("spike", "all"), ("membrane", "last"), ("membrane", "all")]
)
@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("layer", LAYERS, ids=LAYER_NAMES)
def test_columns_and_margins_are_those_of_a_slow_simulation(layer, depth, readout, supervise):
    layers = [{**layer, "width": 3, "leak": (0.5, 0.9, 1.0)}] * depth
    robust, closed = (Definition(margin, 10.0, readout, supervise) for margin in (1e-6, 0.0))
    subnetworks = draw(layers, robust)
    slow = [slow_patterns(subnetwork, INPUTS, robust) for subnetwork in subnetworks]
    if not best_margins(
        slow, 1e-6
    ):  # a silent layer below leaves every membrane at 0, the readout's threshold
        with pytest.raises(LoweringError, match="none of 12 units"):
            collect(INPUTS, subnetworks, robust)
        robust = closed
    dictionary = collect(INPUTS, subnetworks, robust)
    bits = dictionary.columns.toarray()
    for p in range(dictionary.patterns):
        patterns, margins = slow[dictionary.subnetwork_of[p]]
        unit = dictionary.unit_of[p]
        assert np.array_equal(bits[:, p], patterns[:, unit])
        assert dictionary.margins[p] == pytest.approx(margins[unit], rel=1e-9, abs=1e-12)
    # nothing left out, nothing twice; of equal patterns the best margin
    margin_of = {column.tobytes(): margin for column, margin in zip(bits.T, dictionary.margins, strict=True)}
    assert len(margin_of) == dictionary.patterns
    assert margin_of == pytest.approx(best_margins(slow, robust.margin))
    assert dictionary.candidates == sum(len(margins) for _, margins in slow) == 12
    assert not dictionary.complete  # a sample


def threshold_stack(weights, theta=0.0, bias=None):
    return Subnetwork((Layer(np.asarray(weights, float), Threshold(theta), bias),))


def test_a_tie_belongs_to_the_closed_dictionary_and_not_to_the_robust_one():
    # w = 0 fires on both of x = ±1 at threshold 0, and no weight does so robustly
    inputs = np.array([[[1.0]], [[-1.0]]])
    stack = threshold_stack([[0.0], [2.0], [-3.0]])
    closed = collect(inputs, [stack], Definition(margin=0.0))
    assert closed.columns.toarray().T.tolist() == [[1, 1], [1, 0], [0, 1]]
    assert closed.margins.tolist() == [0.0, 2.0, 3.0]
    robust = collect(inputs, [stack], Definition(margin=1e-6))
    assert robust.columns.toarray().T.tolist() == [[1, 0], [0, 1]]
    assert collect(inputs, [stack], Definition(margin=2.5)).unit_of.tolist() == [2]
    assert collect(inputs, [stack], Definition(margin=2.0)).unit_of.tolist() == [1, 2]  # at least ε


def test_of_equal_patterns_the_best_margin_stays_in_its_place():
    inputs = np.array([[[1.0]], [[-1.0]]])
    dictionary = collect(inputs, [threshold_stack([[1.0], [-1.0], [3.0], [2.0]])], Definition())
    assert dictionary.unit_of.tolist() == [1, 2]
    assert dictionary.margins.tolist() == [1.0, 3.0]


def test_zeros_are_dropped_and_nothing_else_is_an_error():
    inputs = np.array([[[1.0]], [[2.0]]])
    assert collect(inputs, [threshold_stack([[-1.0], [1.0]])], Definition()).unit_of.tolist() == [1]
    with pytest.raises(LoweringError, match="dictionary: none of 2 units .* 2 never fire") as caught:
        collect(inputs, [threshold_stack([[-1.0], [-2.0]])], Definition())
    assert caught.value.exit_status == 2


def test_equal_samples_are_simulated_once_and_keep_their_rows():
    inputs = np.concatenate([INPUTS, INPUTS[::-1], INPUTS[2:3]])
    for supervise in ("last", "all"):
        definition = Definition(supervise=supervise)
        stacks = draw([{}], definition)
        bits = collect(inputs, stacks, definition).columns.toarray()
        once = collect(INPUTS, stacks, definition).columns.toarray().reshape(N, -1, bits.shape[1])
        expected = np.concatenate([once, once[::-1], once[2:3]]).reshape(bits.shape)
        assert np.array_equal(bits, expected)


@pytest.mark.parametrize("layer", [{"neuron": "lif"}, {"neuron": "recurrent_threshold", "bias": True}])
def test_a_block_of_units_is_as_good_as_all_at_once(layer, monkeypatch):
    (stack,) = draw([layer], Definition(), count=11)
    whole, margins = patterns_of(stack, INPUTS, Definition())
    monkeypatch.setattr("convexsnn.dictionary.dictionary.UNITS_AT_A_TIME", 4)
    blocks, parted = patterns_of(stack, INPUTS, Definition())
    assert np.array_equal(whole.packed, blocks.packed) and np.allclose(margins, parted)


def test_saved_and_loaded_it_is_the_same(tmp_path):
    one = small_dictionary()
    one.save(tmp_path / "dictionary.npz")
    other = load_dictionary(tmp_path / "dictionary.npz")
    assert (other.definition, other.candidates, other.complete) == (
        one.definition,
        one.candidates,
        one.complete,
    )
    for name in ("subnetwork_of", "unit_of", "margins"):
        assert np.array_equal(getattr(one, name), getattr(other, name))
    assert np.array_equal(one.columns.packed, other.columns.packed) and one.columns.rows == other.columns.rows
    assert read_npz(tmp_path / "dictionary.npz")["packed"].nbytes == one.patterns * -(
        -N * T // 8
    )  # one bit an entry
    for a, b in zip(one.subnetworks, other.subnetworks, strict=True):
        first, second = layer_arrays(a.layers), layer_arrays(b.layers)
        assert first.keys() == second.keys() and all(np.array_equal(first[k], second[k]) for k in first)


@pytest.mark.parametrize(
    "change",
    [
        {"packed": None},
        {"rows": None},
        {"rows": np.asarray(8)},
        {"packed": np.zeros((2, 3), np.uint8)},
        {"packed": np.zeros((2, 3))},
        {"margins": np.zeros(3)},
        {"definition": np.zeros(3)},
        {"definition": None},
        {"subnetwork0_layer1_weights": np.full((3, 2), np.nan)},
        {"subnetwork0_layer2_weights": np.ones((3, 9))},
        {"unit_of": None},
    ],
    ids=lambda change: "-".join(f"{k} {'gone' if v is None else 'other'}" for k, v in change.items()),
)
def test_a_damaged_dictionary_is_refused_by_name(tmp_path, change):
    path = tmp_path / "dictionary.npz"
    small_dictionary().save(path)
    arrays = {**read_npz(path), **change}
    write_npz(path, {k: v for k, v in arrays.items() if v is not None})
    with pytest.raises(ProblemFileError) as caught:
        load_dictionary(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"PK\x03\x04" + b[9:]]
)
def test_a_truncated_dictionary_is_refused_by_name(tmp_path, change):
    path = tmp_path / "dictionary.npz"
    small_dictionary().save(path)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ProblemFileError, match="dictionary.npz"):
        load_dictionary(path)
