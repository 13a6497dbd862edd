"""Every key of a problem file: its type, its default and what it means, in one table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from convexsnn.dictionary.sources import SourceNames

REQUIRED = object()


@dataclass(frozen=True)
class Key:
    """One key: what it takes, a name of `EXPECTED`, its default and what it means."""

    kind: str
    default: Any
    meaning: str
    choices: Sequence[str] = ()
    least: float | None = None
    above: float | None = None
    below: float | None = None
    most: float | None = None


SCHEMA: dict[str, dict[str, Key]] = {
    "": {
        "name": Key("text", REQUIRED, "short name"),
        "title": Key("text", "", "one line for lists"),
        "source": Key("text", "", "paper, data set, or derivation"),
    },
    "data": {
        "file": Key(
            "text",
            None,
            ".npz beside the problem file: inputs (n,T,d), targets; optionally "
            "test_inputs, test_targets, sample_weights (n,)",
        ),
        "generator": Key("text", None, "or a generator of convexsnn.tasks, instead of a file"),
        "arguments": Key("table", {}, "arguments of the generator"),
    },
    "network": {
        "subnetworks": Key("whole", 1, "K, parallel copies of the stack of layers", least=1),
        "readout": Key(
            "text",
            "spike",
            "what the output weights see of the last layer: its spikes, 1{v >= 0} of its membrane after "
            "reset, the mean of its spikes over time, or its spikes summed in leaky output membranes",
            ("spike", "membrane", "rate", "output_membrane"),
        ),
        "readout_leak": Key(
            "number", 0.9, "β of the output membranes (readout = output_membrane)", least=0, most=1
        ),
        "supervise": Key("text", "last", "targets for the last step, or for every step", ("last", "all")),
    },
    "network.layers": {
        "neuron": Key("text", "lif", "kind of the units", ("lif", "threshold", "recurrent_threshold")),
        "leak": Key("numbers", 0.9, "β of a LIF unit; a list is the grid from which each unit takes its own"),
        "threshold": Key("number", None, "θ; 1 for LIF units, 0 for threshold units if not given"),
        "reset": Key(
            "text",
            "subtract",
            "what a spike does to a LIF membrane: θ off before the leak, after it, set to zero, nothing",
            ("subtract", "subtract_after", "zero", "none"),
        ),
        "bias": Key("flag", False, "a trained constant in the drive of each unit"),
        "recurrent": Key("flag", False, "a matrix within the layer: units see each other's last spikes"),
        "width": Key("whole", 1, "units per subnetwork", least=1),
        "kernel": Key(
            "whole",
            None,
            "side of a convolution's square patches; width is then the number of filters",
            least=1,
        ),
        "stride": Key("whole", 1, "distance between neighbouring patches of a convolution", least=1),
        "pool": Key(
            "whole", 1, "average pooling of the layer's inputs, pool × pool, before its weights", least=1
        ),
        "shape": Key(
            "wholes",
            None,
            "(channels, height, width) of the layer's inputs as images; needed by the first layer with "
            "kernel or pool, later ones take it from the layer below",
        ),
    },
    "dictionary": {
        "source": Key(
            "text",
            "gaussian",
            "where the hidden weights come from; exact: every pattern; column_generation: "
            "patterns added until none of all improves; admm, surrogate_gradient: hidden layers that were so "
            "trained",
            SourceNames(),
        ),
        "weight_box": Key("number", 10.0, "B: every hidden weight lies in [-B, B]", above=0),
        "margin": Key(
            "number",
            1e-6,
            "ε: every membrane stays this far from its threshold; 0: closed patterns, exactly as simulated",
            least=0,
        ),
        "count": Key(
            "whole",
            None,
            "units of the last layer to draw, in whole subnetworks; if not given 1000, or the "
            "network's own number if that is larger; for a reservoir its own number",
            least=1,
        ),
        "seed": Key("whole", 0, "seed of the draw", least=0),
        "variant": Key(
            "text",
            "standard",
            "gaussian weights: as drawn, each unit's scaled to norm 1, orthonormal",
            ("standard", "normalised", "orthogonal"),
        ),
        "scale": Key(
            "numbers", 1.0, "factor on the drawn weights; from a list each unit takes its own", above=0
        ),
        "limit": Key("whole", 1_000_000, "source = exact: most patterns to keep", least=1),
        "oracle": Key(
            "text",
            "auto",
            "what proves a bound over all patterns: walking the cells of weight space, a tree of linear "
            "programs, a mixed-integer program",
            ("auto", "cells", "tree", "mip"),
        ),
        "cascade": Key(
            "flag",
            False,
            "source = column_generation, one layer with recurrent = true: new units take the last spikes of "
            "units in use as inputs (a lower triangular matrix)",
        ),
        "file": Key("text", None, "source = file: .npz of hidden layers, named as in a saved network"),
        "max_margin": Key(
            "flag",
            True,
            "in the reconstructed network, move each unit's weights to the point "
            "of its cell that is farthest from all thresholds",
        ),
    },
    "training": {
        "method": Key(
            "text",
            "convex",
            "the convex program over a dictionary, or ADMM on a deep network, with the keys of [admm]",
            ("convex", "admm"),
        ),
        "loss": Key("text", "squared", "ℓ", ("squared", "hinge", "squared_hinge", "logistic", "softmax")),
        "task": Key(
            "text",
            None,
            "regression for squared, classification for the others if not given",
            ("regression", "classification"),
        ),
        "regularization": Key("number", None, "λ > 0", above=0),
        "regularization_fraction": Key("number", None, "or λ as a fraction of λ_max", above=0),
        "penalty": Key(
            "text",
            "l1",
            "on the output weights: ℓ1 on entries, or ℓ2 on each unit's C of them",
            ("l1", "group"),
        ),
    },
    "admm": {
        "variant": Key(
            "text",
            "lifted",
            "published: all output membranes, full fits; eliminated: outputs are filtered spikes; proximal: "
            "small steps of the weights; restarted: every iteration begins at the true dynamics; lifted: and "
            "the spike constraint is a convex penalty",
            ("published", "eliminated", "proximal", "restarted", "lifted"),
        ),
        "iterations": Key("whole", 50, "passes over the samples, at most", least=1),
        "batch": Key("whole", None, "samples between two steps of the weights; if not given, all", least=1),
        "seed": Key("whole", 0, "of the start, the batches and random orders", least=0),
        "order": Key(
            "text",
            "reversed",
            "of the blocks: from the outputs down, from the inputs up, or drawn anew each iteration",
            ("reversed", "sequential", "random"),
        ),
        "penalty": Key("number", 1.0, "ρ of the outputs", above=0),
        "decay": Key("number", 1.0, "ρ of a layer over ρ of the one above", above=0),
        "spike_penalty": Key(
            "number", None, "σ over ρ of a layer; if not given 1, for the variant lifted 30", above=0
        ),
        "ramp_width": Key(
            "number",
            None,
            "of the ramp that stands for the spike where it is linearized; if not given 1 there",
            least=0,
        ),
        "balance": Key("flag", False, "double or halve all penalties where the residuals are 10 times apart"),
        "multiplier_warm_up": Key("whole", 0, "iterations before multipliers move", least=0),
        "sweeps": Key("whole", 1, "over all blocks, in an iteration", least=1),
        "spike_update": Key(
            "text",
            "exact",
            "least squares in the box [0, 1], or without the box and then clamped, as others do",
            ("exact", "clamped"),
        ),
        "spike_steps": Key(
            "whole",
            None,
            "most projected-gradient steps for spikes; if not given, to block_tolerance",
            least=1,
        ),
        "membrane_update": Key(
            "text",
            None,
            "all steps at once, one after the other, or at once with the spike constraint linearized; if not "
            "given joint, for the variant lifted linearized",
            ("joint", "step", "linearized"),
        ),
        "block_tolerance": Key("number", 1e-3, "of spikes in their programs", above=0),
        "damping": Key("number", 10.0, "μ of proximal steps, in mean squares of a feature", above=0),
        "step": Key("number", 2.0, "length of proximal steps, relative to the program's own", above=0),
        "schedule": Key(
            "text",
            "linear",
            "of the step: falling to 0 over the iterations, or constant",
            ("linear", "constant"),
        ),
        "inertia": Key(
            "number", 0.9, "share of the last step of the weights that is added to the next", least=0, below=1
        ),
        "trust": Key(
            "number",
            1.0,
            "most that a proximal step changes the drives of a layer, root mean square",
            above=0,
        ),
        "ridge": Key("number", 1e-6, "μ of full fits, in mean squares of a feature", above=0),
        "initialization": Key(
            "text",
            "balanced",
            "uniform in ±1/√fan-in; balanced: then scaled so that units fire in a share rate of all steps",
            ("balanced", "standard"),
        ),
        "rate": Key("number", 0.1, "firing rate of a balanced start", above=0, below=1),
        "precision": Key("text", "float64", "of variables and weights", ("float64", "float32")),
        "validation": Key(
            "number",
            0.0,
            "share of the samples held out: the weights that do best on them are kept",
            least=0,
            below=1,
        ),
        "patience": Key(
            "whole", None, "iterations without a better accuracy on samples held out, then stop", least=1
        ),
        "tolerance": Key(
            "number", 1e-4, "root mean square of both residuals that counts as stationary", above=0
        ),
        "checkpoint_every": Key("whole", 10, "iterations between two checkpoints", least=1),
    },
    "gradient": {
        "method": Key(
            "text",
            "exodus",
            "of LIF layers: exact through time, by its adjoint or by autograd; slayer: without the reset",
            ("exodus", "bptt", "slayer"),
        ),
        "surrogate": Key(
            "text",
            "arctangent",
            "what stands for the derivative of the spike",
            ("fast_sigmoid", "arctangent", "gaussian", "triangle", "rectangle"),
        ),
        "width": Key("number", 1.0, "of the surrogate, in units of the membrane", least=1e-15, most=1e9),
        "scale": Key("number", 1.0, "factor of the surrogate", above=0, most=1e9),
        "normalize": Key(
            "flag",
            False,
            "batch normalisation of input currents while training; folds into weights and biases at the end",
        ),
        "dropout": Key(
            "number",
            0.0,
            "share of the inputs left out while training, other ones for every sample, the same in all steps",
            least=0,
            below=1,
        ),
        "epochs": Key("whole", 50, "passes over the samples, at most", least=1),
        "batch": Key("whole", 100, "samples of a step", least=1),
        "optimizer": Key("text", "adam", "sgd: with momentum 0.9", ("adam", "sgd")),
        "learning_rate": Key("number", 1e-3, "of the first step", above=0, most=1e9),
        "schedule": Key(
            "text", "cosine", "of the learning rate: falling to 0, or constant", ("cosine", "constant")
        ),
        "weight_decay": Key("number", 0.0, "of all weights, in every step", least=0, most=1e9),
        "rate": Key("number", 0.1, "firing rate of the start", above=0, below=1),
        "seed": Key("whole", 0, "of the start and the batches", least=0),
        "networks": Key(
            "whole", 1, "trained one after the other, of seeds one apart; all give witnesses", least=1
        ),
        "validation": Key(
            "number",
            0.0,
            "share of the samples held out: the weights that do best on them are kept",
            least=0,
            below=1,
        ),
        "patience": Key(
            "whole", None, "epochs without a better result on samples held out, then stop", least=1
        ),
        "precision": Key(
            "text",
            "float32",
            "of the computation; mixed: matrix products in bfloat16",
            ("float32", "float64", "mixed"),
        ),
        "device": Key("text", "auto", "a GPU where there is one, or", ("auto", "cpu", "cuda")),
        "checkpoint_every": Key("whole", 10, "epochs between two checkpoints", least=1),
    },
    "solver": {
        "name": Key("text", "auto", "as listed by convexsnn solvers"),
        "tolerance": Key("number", 1e-6, "relative duality gap to reach", above=0, below=1),
        "time_limit": Key("number", None, "seconds", above=0),
    },
    "expected": {
        "objective": Key("number", None, "the known optimum"),
        "how": Key("text", "", "how it is known"),
    },
}
