"""Points of the plane as constant input currents."""

from __future__ import annotations

import numpy as np

from convexsnn.arrays import whole
from convexsnn.tasks.train_test import train_and_test

YIN, YANG, DOT = 0, 1, 2


def _yin_yang_class(x: np.ndarray, y: np.ndarray, big: float, dot: float) -> np.ndarray:
    """Return the class of points in the disc of radius `big` around the origin."""
    to_right, to_left = np.hypot(x - big / 2, y), np.hypot(x + big / 2, y)
    in_yin = (to_right <= dot) | ((to_left > dot) & (to_left <= big / 2)) | ((y > 0) & (to_right > big / 2))
    kind = np.where(in_yin, YIN, YANG)
    return np.where((to_right < dot) | (to_left < dot), DOT, kind)


def yin_yang(steps: int = 4, train: int = 600, test: int = 600, seed: int = 0) -> dict[str, np.ndarray]:
    """Yin, yang and the two dots: three classes that no hyperplane separates.

    The figure is that of Kriener, Göltz, Petrovici, "The Yin-Yang dataset" (2022): radius 1/2, dots of
    radius 1/10, inputs (x, y, 1 - x, 1 - y). The classes are balanced. Each point
    is the input of all `steps` steps.

    Returns
    -------
    dict
        inputs (train, steps, 4) in [0, 1]; targets (train,) in 0..2; the same for test.

    Raises
    ------
    ShapeError
        `steps`, `train` or `test` is not positive.
    """
    whole("steps", steps)
    whole("seed", seed, least=0)
    rng = np.random.default_rng(seed)

    def draw(n: int) -> tuple[np.ndarray, np.ndarray]:
        targets = np.arange(n) % 3
        points = np.empty((n, 2))
        for kind in (YIN, YANG, DOT):
            rows = np.flatnonzero(targets == kind)
            inner = np.empty((0, 2))
            while len(inner) < len(rows):
                xy = rng.uniform(-0.5, 0.5, (40 * len(rows), 2))
                inside = np.hypot(*xy.T) <= 0.5
                fits = inside & (_yin_yang_class(xy[:, 0], xy[:, 1], 0.5, 0.1) == kind)
                inner = np.concatenate([inner, xy[fits]])
            points[rows] = inner[: len(rows)] + 0.5
        signal = np.concatenate([points, 1 - points], axis=1)
        order = rng.permutation(n)
        return np.repeat(signal[order, None], steps, axis=1), targets[order]

    return train_and_test(draw, train, test)
