"""The tables of a problem file as objects; `convexsnn.keys` says what each key means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class DictionarySpec:
    """Where the dictionary's hidden weights come from; the keys of ``[dictionary]``."""

    source: str = "gaussian"
    weight_box: float = 10.0
    margin: float = 1e-6
    count: int | None = None
    seed: int = 0
    variant: str = "standard"
    scale: float | Sequence[float] = 1.0
    limit: int = 1_000_000
    oracle: str = "auto"
    cascade: bool = False
    file: str | None = None
    max_margin: bool = True


@dataclass(frozen=True)
class TrainingSpec:
    """Loss, regularisation and penalty; the keys of ``[training]``."""

    method: str = "convex"
    loss: str = "squared"
    task: str = "regression"
    regularization: float | None = None
    regularization_fraction: float | None = None
    penalty: str = "l1"


@dataclass(frozen=True)
class SolverSpec:
    """Which solver and how far; the keys of ``[solver]``."""

    name: str = "auto"
    tolerance: float = 1e-6
    time_limit: float | None = None


@dataclass(frozen=True)
class AdmmSpec:
    """How ADMM trains; the keys of ``[admm]``."""

    variant: str = "lifted"
    iterations: int = 50
    batch: int | None = None
    seed: int = 0
    order: str = "reversed"
    penalty: float = 1.0
    decay: float = 1.0
    spike_penalty: float | None = None
    ramp_width: float | None = None
    balance: bool = False
    multiplier_warm_up: int = 0
    sweeps: int = 1
    spike_update: str = "exact"
    spike_steps: int | None = None
    membrane_update: str | None = None
    block_tolerance: float = 1e-3
    damping: float = 10.0
    step: float = 2.0
    schedule: str = "linear"
    inertia: float = 0.9
    trust: float = 0.5
    ridge: float = 1e-6
    initialization: str = "balanced"
    rate: float = 0.1
    precision: str = "float64"
    validation: float = 0.0
    patience: int | None = None
    tolerance: float = 1e-4
    checkpoint_every: int = 10


@dataclass(frozen=True)
class GradientSpec:
    """How gradients train; the keys of ``[gradient]``."""

    method: str = "exodus"
    surrogate: str = "arctangent"
    width: float = 1.0
    scale: float = 1.0
    normalize: bool = False
    dropout: float = 0.0
    epochs: int = 50
    batch: int = 100
    optimizer: str = "adam"
    learning_rate: float = 1e-3
    schedule: str = "cosine"
    weight_decay: float = 0.0
    rate: float = 0.1
    seed: int = 0
    networks: int = 1
    validation: float = 0.0
    patience: int | None = None
    precision: str = "float32"
    device: str = "auto"
    checkpoint_every: int = 10
