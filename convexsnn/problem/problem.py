"""A problem: data, network, dictionary, training, and the optimum if it is known.

A problem is read from a TOML file with the keys of `convexsnn.problem.tables`, or built from arrays with
`Problem.from_arrays`, which takes the same keys.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from convexsnn.arrays import FloatArray, write_npz
from convexsnn.dictionary.sources import get_source
from convexsnn.distinct import DistinctSamples
from convexsnn.errors import ProblemFileError, ShapeError
from convexsnn.fields import as_table, changed
from convexsnn.networks import NetworkSpec
from convexsnn.networks.network import windows
from convexsnn.problem.data import DATA_NAMES, Data
from convexsnn.problem.specs import AdmmSpec, DictionarySpec, GradientSpec, SolverSpec, TrainingSpec
from convexsnn.problem.tables import network_table, settings_of, without_later_defaults
from convexsnn.problem.targets import TargetCode

LONGEST_NAME = 200
SAVED_DATA, SAVED_WITNESSES = "data.npz", "witnesses.npz"  # what a saved problem names
SETTINGS = (
    *("name", "title", "source", "network", "dictionary", "training", "solver", "admm", "gradient"),
    "expected",
)
LARGEST = 1e300  # of a membrane or of the sum of all losses: floats end at 1.8e308


@dataclass(frozen=True, eq=False)
class Problem:
    """The checked input of a run.

    ``dataclasses.replace`` and `with_settings` share the data: only new arrays are checked again.

    Attributes
    ----------
    inputs : (n, T, d) array
    targets : (n,), (n, C) array; (n, T), (n, T, C) where every step is supervised
    test_inputs, test_targets : the same for the test set, or None
    sample_weights : (n,) positive array, or None for all ones
    data : Data
        The arrays, with the results that depend on them alone.
    target_code : TargetCode
        The encoding of the targets for the loss.
    """

    name: str
    inputs: FloatArray
    targets: npt.NDArray[Any]
    network: NetworkSpec
    dictionary: DictionarySpec
    training: TrainingSpec
    solver: SolverSpec = SolverSpec()
    admm: AdmmSpec = AdmmSpec()
    gradient: GradientSpec = GradientSpec()
    test_inputs: FloatArray | None = None
    test_targets: npt.NDArray[Any] | None = None
    sample_weights: FloatArray | None = None
    title: str = ""
    source: str = ""
    expected: Mapping[str, Any] = field(default_factory=dict)
    folder: Path | None = None
    data: Data = field(default=None, repr=False)  # type: ignore[assignment]  # of the arrays
    target_code: TargetCode = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.name.isprintable() or len(self.name) > LONGEST_NAME:
            raise ProblemFileError(f"name: expected one line of at most {LONGEST_NAME} characters that print")
        arrays = {name: getattr(self, name) for name in DATA_NAMES}
        put = object.__setattr__
        put(self, "data", self.data.with_arrays(**arrays) if self.data else Data(**arrays))
        for name in DATA_NAMES:
            put(self, name, getattr(self.data, name))
        windows(self.network, self.inputs.shape[2])  # raises if the shapes do not fit
        loss, task = self.training.loss, self.training.task
        code = self.data.target_code(loss=loss, task=task, supervise=self.network.supervise)
        put(self, "target_code", code)
        self._check_products()
        self._check_regularization()
        for name, spec in (("admm", self.admm), ("gradient", self.gradient)):
            if spec.patience is not None and not spec.validation:
                raise ProblemFileError(
                    f"{name}.patience: {spec.patience} without samples held out; give {name}.validation too"
                )
        if self.dictionary.cascade:
            self._check_cascade()

    def _check_products(self) -> None:
        """Refuse data whose products with weights of the box, or whose losses, may overflow in a sum."""
        steps, d = self.inputs.shape[1:]
        box, layers = self.dictionary.weight_box, self.network.layers
        terms = steps * (d + 2 + self.network.subnetworks * max(layer.width for layer in layers))
        for name in ("inputs", "test_inputs"):
            largest = self.data.largest(name)
            if not terms * max(largest, 1.0) < LARGEST / max(box, 1.0):
                raise ShapeError(
                    f"{name}: {largest:g} times dictionary.weight_box = {box:g}, over {steps} steps, may "
                    f"exceed {LARGEST:g}; use other units"
                )
        target = self.data.largest("targets") if self.target_code.regression else 1.0
        weight, most = self.data.largest("sample_weights"), LARGEST / self.targets.size
        if not 1.0 + target < most**0.5:
            raise ShapeError(f"targets: the squares of {target:g} may exceed {LARGEST:g}; use other units")
        if not weight < most / (1.0 + target) ** 2:
            raise ShapeError(
                f"sample_weights: {weight:g} times losses of targets up to {target:g} may exceed "
                f"{LARGEST:g}; use other units"
            )

    def _check_regularization(self) -> None:
        training = self.training
        if training.method == "admm":
            for name in ("regularization", "regularization_fraction"):
                if getattr(training, name) is not None:
                    raise ProblemFileError(
                        f'training.{name}: {getattr(training, name)} with method = "admm", which has '
                        "admm.ridge and admm.damping instead"
                    )
        elif (training.regularization is None) == (training.regularization_fraction is None):
            raise ProblemFileError(
                "training.regularization: give it, or regularization_fraction, and not both "
                f"(got {training.regularization} and {training.regularization_fraction})"
            )

    def _check_cascade(self) -> None:
        layers, source = self.network.layers, self.dictionary.source
        last = layers[-1]
        for holds, requirement, value in (
            (get_source(source).grows, 'dictionary.source = "column_generation"', repr(source)),
            (len(layers) == 1, "a single layer", f"{len(layers)} layers"),
            (last.recurrent, "a layer with recurrent = true", f"recurrent = {str(last.recurrent).lower()}"),
            (last.width > 1, "a layer of width > 1", f"width = {last.width}"),
        ):
            if not holds:
                raise ProblemFileError(f"dictionary.cascade: true needs {requirement}, got {value}")

    @classmethod
    def from_arrays(
        cls,
        inputs: npt.ArrayLike,
        targets: npt.ArrayLike,
        *,
        layers: Sequence[Mapping[str, Any]],
        training: Mapping[str, Any],
        network: Mapping[str, Any] | None = None,
        dictionary: Mapping[str, Any] | None = None,
        solver: Mapping[str, Any] | None = None,
        admm: Mapping[str, Any] | None = None,
        gradient: Mapping[str, Any] | None = None,
        name: str = "arrays",
        test_inputs: npt.ArrayLike | None = None,
        test_targets: npt.ArrayLike | None = None,
        sample_weights: npt.ArrayLike | None = None,
    ) -> Problem:
        """Make a problem from arrays; the mappings take the keys of the problem file's tables.

        Raises
        ------
        ProblemFileError, ShapeError
            As for a file.
        """
        tables = {
            "name": name,
            "network": {**(network or {}), "layers": list(layers)},
            "dictionary": dictionary or {},
            "training": training,
            "solver": solver or {},
            "admm": admm or {},
            "gradient": gradient or {},
        }
        arrays = dict(
            zip(DATA_NAMES, (inputs, targets, test_inputs, test_targets, sample_weights), strict=True)
        )
        return cls.from_tables(tables, {k: v for k, v in arrays.items() if v is not None})

    @classmethod
    def from_tables(
        cls, tables: Mapping[str, Any], arrays: Mapping[str, Any], folder: Path | None = None
    ) -> Problem:
        """Make a problem from the tables of a problem file and its arrays; ``[data]`` is ignored.

        Raises
        ------
        ProblemFileError, ShapeError
            As for a file.
        """
        settings = settings_of(tables)
        for name in ("inputs", "targets"):
            if name not in arrays:
                names = ", ".join(sorted(arrays)) or "none"
                raise ProblemFileError(f"data: no array {name!r}; found {names}")
        return cls(**settings, **arrays, folder=folder)

    def with_settings(self, **settings: Any) -> Problem:
        """Return the problem with other settings and the same data, without a copy of the data.

        Parameters
        ----------
        **settings
            Per table name: a mapping of the keys to change, or a complete object such as an
            `AdmmSpec`. Also ``name``, ``title``, ``source``, ``expected``.

        Raises
        ------
        ProblemFileError
            Unknown setting or key, or an invalid value; the message names it.
        """
        changes = {}
        for name, value in settings.items():
            if name not in SETTINGS:
                raise ProblemFileError(f"{name}: unknown setting; known: {', '.join(SETTINGS)}")
            present = getattr(self, name)
            if is_dataclass(present) and isinstance(value, Mapping):
                value = changed(present, name, value)
            changes[name] = value
        return replace(self, **changes)

    @property
    def distinct(self) -> DistinctSamples:
        """The distinct samples of the inputs, and the index of each sample among them."""
        return self.data.distinct

    @property
    def rows(self) -> int:
        """Number of supervised rows: n, or n·T where every step is supervised."""
        return len(self.inputs) * (self.inputs.shape[1] if self.network.supervise == "all" else 1)

    @property
    def uses_admm(self) -> bool:
        """Whether ADMM trains the network, or the dictionary's hidden layers."""
        return self.training.method == "admm" or get_source(self.dictionary.source).settings == "admm"

    @property
    def uses_gradients(self) -> bool:
        """Whether gradients train the dictionary's hidden layers."""
        return get_source(self.dictionary.source).settings == "gradient"

    def encoded_targets(self) -> FloatArray:
        """Return the training targets, encoded for the loss, (R, C)."""
        return self.target_code.values("targets", self.targets, len(self.inputs))

    def row_weights(self) -> FloatArray:
        """Return the weight a of every supervised row, (R,)."""
        weights = np.ones(len(self.inputs)) if self.sample_weights is None else self.sample_weights
        return np.repeat(weights, self.rows // len(self.inputs))

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays of this problem, by name."""
        return self.data.arrays()

    def tables(self) -> dict[str, Any]:
        """Return the problem without its data, as the tables of a problem file."""
        return {
            "name": self.name,
            "title": self.title,
            "source": self.source,
            "network": network_table(self.network),
            "dictionary": as_table(self.dictionary),
            "training": as_table(self.training),
            "solver": as_table(self.solver),
            **({"admm": as_table(self.admm)} if self.uses_admm else {}),
            **({"gradient": as_table(self.gradient)} if self.uses_gradients else {}),
            "expected": {k: v for k, v in self.expected.items() if v is not None},
        }

    def fingerprint(self) -> str:
        """Return the SHA-256 of all that determines the optimum: training data, network, training."""
        tables = self.tables()
        stated = {k: without_later_defaults(k, tables[k]) for k in ("network", "training")}
        layers = stated["network"]["layers"]
        stated["network"]["layers"] = [without_later_defaults("network.layers", layer) for layer in layers]
        if self.training.method == "admm":
            stated["admm"] = tables["admm"]
        stated["definition"] = {k: tables["dictionary"][k] for k in ("weight_box", "margin")}
        return self.data.digest(json.dumps(stated, sort_keys=True).encode())

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write ``problem.toml`` and ``data.npz`` into an existing folder."""
        import tomli_w

        write_npz(Path(folder) / SAVED_DATA, self.arrays())
        tables = {**self.tables(), "data": {"file": SAVED_DATA}}
        tables["dictionary"].pop("file", None)
        if get_source(self.dictionary.source).keeps_file:
            tables["dictionary"]["file"] = SAVED_WITNESSES
        (Path(folder) / "problem.toml").write_text(tomli_w.dumps(tables), encoding="utf-8")
