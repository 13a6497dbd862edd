"""The tables of a problem file as dataclasses; each field carries its default, its range and its meaning."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from convexsnn.fields import Table, key


def _losses() -> Iterable[str]:
    from convexsnn.programs import LOSSES

    return LOSSES


def _penalties() -> Iterable[str]:
    from convexsnn.programs import PENALTIES

    return PENALTIES


def _sources() -> Iterable[str]:
    from convexsnn.dictionary.sources import SOURCES

    return SOURCES


def _validation() -> Any:
    meaning = "share of the samples held out; the weights that do best on them are kept"
    return key("number", 0.0, meaning, least=0, below=1)


@dataclass(frozen=True)
class DictionarySpec(Table, section="dictionary"):
    """The origin of the dictionary's hidden weights; the keys of ``[dictionary]``."""

    source: str = key(
        "text",
        "gaussian",
        "origin of the hidden weights; gaussian, pairs, reservoir: drawn at random; file: read from a file; "
        "exact: one for every possible pattern; column_generation: added until no pattern at all improves "
        "the objective; admm, surrogate_gradient: trained by that method first",
        _sources,
    )
    weight_box: float = key("number", 10.0, "bound B: every hidden weight lies in [-B, B]", above=0)
    margin: float = key(
        "number",
        1e-6,
        "distance ε that every membrane keeps from its threshold; with 0, patterns are exactly as simulated",
        least=0,
    )
    count: int | None = key(
        "whole",
        None,
        "number of units of the last layer to draw, rounded up to whole subnetworks; if not given, 1000 or "
        "the network's own number, whichever is larger; for a reservoir the network's own number",
        least=1,
    )
    seed: int = key("whole", 0, "seed of the draw", least=0)
    variant: str = key(
        "text",
        "standard",
        "form of gaussian weights: as drawn, scaled to norm 1 for each unit, or orthonormal",
        ("standard", "normalised", "orthogonal"),
    )
    scale: float | Sequence[float] = key(
        "numbers", 1.0, "factor on the drawn weights; from a list each unit draws its own", above=0
    )
    limit: int = key("whole", 1_000_000, "largest number of patterns that source = 'exact' may keep", least=1)
    oracle: str = key(
        "text",
        "auto",
        "method that proves a bound over all patterns: a walk through the cells of weight space, a tree of "
        "linear programs, or a mixed-integer program; auto chooses one of the first two",
        ("auto", "cells", "tree", "mip"),
    )
    cascade: bool = key(
        "flag",
        False,
        "permission for new units to take the last spikes of units in use as inputs (a lower triangular "
        "recurrent matrix); needs source = 'column_generation' and one layer with recurrent = true",
    )
    file: str | None = key(
        "text",
        None,
        "name of an .npz file of hidden layers for source = 'file', with the array names of a saved network",
    )
    max_margin: bool = key(
        "flag",
        True,
        "maximization of margins: in the reconstructed network each unit's weights move to the point of "
        "their cell that is farthest from all thresholds",
    )


@dataclass(frozen=True)
class TrainingSpec(Table, section="training"):
    """Loss, regularisation and penalty; the keys of ``[training]``."""

    method: str = key(
        "text",
        "convex",
        "method of training: the convex program over a dictionary, or ADMM on a deep network with the keys "
        "of [admm]",
        ("convex", "admm"),
        later=True,
    )
    loss: str = key("text", "squared", "loss ℓ between outputs and targets", _losses)
    task: str = key(
        "text",
        None,
        "kind of the targets; if not given, regression for the squared loss and classification for others",
        ("regression", "classification"),
    )
    regularization: float | None = key("number", None, "weight λ of the penalty in the objective", above=0)
    regularization_fraction: float | None = key(
        "number", None, "weight λ as a fraction of λ_max, in place of regularization", above=0
    )
    penalty: str = key(
        "text",
        "l1",
        "penalty on the output weights: ℓ1 norm of all entries, or sum of the ℓ2 norms of each unit's C "
        "weights",
        _penalties,
    )

    def __post_init__(self) -> None:
        from convexsnn.programs import get_loss

        super().__post_init__()
        if self.task is None:
            object.__setattr__(self, "task", get_loss(self.loss).tasks[0])


@dataclass(frozen=True)
class AdmmSpec(Table, section="admm"):
    """Settings of ADMM; the keys of ``[admm]``."""

    variant: str = key(
        "text",
        "lifted",
        "variant of the method; published: all output membranes are variables, weights are full fits; "
        "eliminated: outputs are filtered spikes; proximal: weights move in small steps; restarted: every "
        "iteration also begins at the true dynamics; lifted: the spike constraint is also a convex penalty",
        ("published", "eliminated", "proximal", "restarted", "lifted"),
    )
    iterations: int = key("whole", 50, "largest number of passes over the samples", least=1)
    batch: int | None = key(
        "whole", None, "number of samples between two steps of the weights; if not given, all", least=1
    )
    seed: int = key("whole", 0, "seed of the start, of the batches and of random orders", least=0)
    order: str = key(
        "text",
        "reversed",
        "order of the blocks: from the outputs down, from the inputs up, or drawn anew in each iteration",
        ("reversed", "sequential", "random"),
    )
    penalty: float = key("number", 1.0, "penalty weight ρ of the outputs", above=0)
    decay: float = key("number", 1.0, "ratio of a layer's ρ to the ρ of the layer above", above=0)
    spike_penalty: float | None = key(
        "number",
        None,
        "ratio of a layer's spike penalty σ to its ρ; if not given, 30 for variant = 'lifted' and 1 for the "
        "others",
        above=0,
    )
    ramp_width: float | None = key(
        "number",
        None,
        "width of the ramp that replaces the spike when membrane_update = 'linearized'; 1 if not given",
        least=0,
    )
    balance: bool = key(
        "flag",
        False,
        "adaptation of the penalties: all double or halve when one residual is 10 times the other",
    )
    multiplier_warm_up: int = key(
        "whole", 0, "number of iterations before the multipliers start to move", least=0
    )
    sweeps: int = key("whole", 1, "number of sweeps over all blocks in one iteration", least=1)
    spike_update: str = key(
        "text",
        "exact",
        "update of the spikes: least squares within the box [0, 1], or without the box and clamped to it "
        "afterwards, as others do",
        ("exact", "clamped"),
    )
    spike_steps: int | None = key(
        "whole",
        None,
        "largest number of projected-gradient steps in an update of the spikes; if not given, steps go on "
        "until block_tolerance is reached",
        least=1,
    )
    membrane_update: str | None = key(
        "text",
        None,
        "update of the membranes: all time steps at once, one after the other, or at once with the spike "
        "constraint linearized; if not given, linearized for variant = 'lifted' and joint for the others",
        ("joint", "step", "linearized"),
    )
    block_tolerance: float = key("number", 1e-3, "accuracy of the spikes within their own program", above=0)
    damping: float = key(
        "number", 10.0, "damping μ of proximal steps, in units of a feature's mean square", above=0
    )
    step: float = key(
        "number", 2.0, "length of proximal steps, relative to the step that solves their own program", above=0
    )
    schedule: str = key(
        "text",
        "linear",
        "course of the step length: falling to 0 over the iterations, or constant",
        ("linear", "constant"),
    )
    inertia: float = key(
        "number", 0.9, "share of the last step of the weights that is added to the next one", least=0, below=1
    )
    trust: float = key(
        "number",
        1.0,
        "largest root mean square by which a proximal step may change the drives of a layer",
        above=0,
    )
    ridge: float = key("number", 1e-6, "ridge μ of full fits, in units of a feature's mean square", above=0)
    initialization: str = key(
        "text",
        "balanced",
        "distribution of the first weights: uniform in ±1/√fan-in (standard), and then scaled until each "
        "layer fires at the given rate (balanced)",
        ("balanced", "standard"),
    )
    rate: float = key("number", 0.1, "share of time steps with a spike at a balanced start", above=0, below=1)
    precision: str = key(
        "text", "float64", "floating-point type of variables and weights", ("float64", "float32")
    )
    validation: float = _validation()
    patience: int | None = key(
        "whole",
        None,
        "number of iterations without a better accuracy on samples held out after which training stops",
        least=1,
    )
    tolerance: float = key(
        "number", 1e-4, "root mean square of both residuals at which a point counts as stationary", above=0
    )
    checkpoint_every: int = key("whole", 10, "number of iterations between two checkpoints", least=1)


@dataclass(frozen=True)
class GradientSpec(Table, section="gradient"):
    """Settings of gradient training; the keys of ``[gradient]``."""

    method: str = key(
        "text",
        "exodus",
        "method of the gradient of LIF layers: exact through time, by an adjoint recursion (exodus) or by "
        "automatic differentiation (bptt), or without the reset (slayer)",
        ("exodus", "bptt", "slayer"),
    )
    surrogate: str = key(
        "text",
        "arctangent",
        "shape of the function that replaces the derivative of the spike",
        ("fast_sigmoid", "arctangent", "gaussian", "triangle", "rectangle"),
    )
    width: float = key(
        "number", 1.0, "width of the surrogate, in units of the membrane", least=1e-15, most=1e9
    )
    scale: float = key("number", 1.0, "factor on the surrogate", above=0, most=1e9)
    normalize: bool = key(
        "flag",
        False,
        "batch normalisation of input currents in training; at the end it is folded into weights and biases",
    )
    dropout: float = key(
        "number",
        0.0,
        "share of the inputs left out in training, drawn for every sample and the same in all its time steps",
        least=0,
        below=1,
    )
    epochs: int = key("whole", 50, "largest number of passes over the samples", least=1)
    batch: int = key("whole", 100, "number of samples in one step", least=1)
    optimizer: str = key(
        "text", "adam", "optimizer: AdamW, or stochastic gradients with momentum 0.9", ("adam", "sgd")
    )
    learning_rate: float = key("number", 1e-3, "learning rate of the first step", above=0, most=1e9)
    schedule: str = key(
        "text", "cosine", "course of the learning rate: falling to 0, or constant", ("cosine", "constant")
    )
    weight_decay: float = key("number", 0.0, "decay of all weights in every step", least=0, most=1e9)
    rate: float = key("number", 0.1, "share of time steps with a spike at the start", above=0, below=1)
    seed: int = key("whole", 0, "seed of the start and of the batches", least=0)
    networks: int = key(
        "whole",
        1,
        "number of networks trained one after the other, with seeds one apart; all give hidden weights",
        least=1,
    )
    validation: float = _validation()
    patience: int | None = key(
        "whole",
        None,
        "number of epochs without a better result on samples held out after which training stops",
        least=1,
    )
    precision: str = key(
        "text",
        "float32",
        "floating-point type of the computation; mixed: float32 with matrix products in bfloat16",
        ("float32", "float64", "mixed"),
    )
    device: str = key(
        "text", "auto", "device of the computation; auto takes a GPU if there is one", ("auto", "cpu", "cuda")
    )
    checkpoint_every: int = key("whole", 10, "number of epochs between two checkpoints", least=1)


@dataclass(frozen=True)
class SolverSpec(Table, section="solver"):
    """Solver, tolerance and time limit; the keys of ``[solver]``."""

    name: str = key("text", "auto", "name of a solver, as listed by convexsnn solvers; auto chooses one")
    tolerance: float = key("number", 1e-6, "relative duality gap to reach", above=0, below=1)
    time_limit: float | None = key("number", None, "time limit in seconds; none if not given", above=0)
