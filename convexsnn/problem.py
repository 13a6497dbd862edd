"""A problem: data, network, dictionary, training, and the answer where it is known.

Read from a TOML file whose keys are listed in `convexsnn.keys`, or made from arrays with
`Problem.from_arrays`, which takes the same keys.
"""

from __future__ import annotations

import hashlib
import json
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from convexsnn.arrays import FloatArray, read_npz, real_array, write_npz
from convexsnn.errors import ConvexSNNError, ProblemFileError, ShapeError
from convexsnn.keys import SCHEMA, Key
from convexsnn.networks import NEURONS, LayerSpec, NetworkSpec
from convexsnn.networks.layers import layer_parameters
from convexsnn.networks.network import windows
from convexsnn.schema import read_section
from convexsnn.specs import AdmmSpec, DictionarySpec, GradientSpec, SolverSpec, TrainingSpec
from convexsnn.targets import TargetCode, target_code
from convexsnn.tasks import generate, nearest

LATER_KEYS = {
    "network": ("readout_leak",),
    "network.layers": ("kernel", "stride", "pool", "shape"),
    "training": ("method",),
}
DATA_NAMES = ("inputs", "targets", "test_inputs", "test_targets", "sample_weights")


@dataclass(frozen=True, eq=False)
class Problem:
    """Everything that a run needs, checked.

    Attributes
    ----------
    inputs : (n, T, d) array
    targets : (n,), (n, C) array; (n, T), (n, T, C) where every step is supervised
    test_inputs, test_targets : the same for the test set, or None
    sample_weights : (n,) positive array, or None for all ones
    target_code : TargetCode
        How targets become the numbers a loss takes.
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
    target_code: TargetCode = field(init=False)

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        set_(self, "inputs", real_array("inputs", self.inputs, ("n", "T", "d")))
        n, steps, d = self.inputs.shape
        windows(self.network, d)  # refuses shapes that do not fit
        supervised = steps if self.network.supervise == "all" else None
        training = self.training
        set_(
            self,
            "target_code",
            target_code(self.targets, n=n, steps=supervised, loss=training.loss, task=training.task),
        )
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
        for name, spec in (("admm", self.admm), ("gradient", self.gradient)):
            if spec.patience is not None and not spec.validation:
                raise ProblemFileError(
                    f"{name}.patience: {spec.patience} without samples held out; give {name}.validation too"
                )
        if self.dictionary.cascade:
            self._check_cascade()
        if (self.test_inputs is None) != (self.test_targets is None):
            raise ShapeError("test_inputs: test_inputs and test_targets go together, only one was given")
        if self.test_inputs is not None:
            test = real_array(
                "test_inputs", self.test_inputs, ("n", "T" if not supervised else ("T", steps), ("d", d))
            )
            set_(self, "test_inputs", test)
            self.target_code.rows("test_targets", self.test_targets, len(test))
        if self.sample_weights is not None:
            weights = real_array("sample_weights", self.sample_weights, (("n", n),))
            if weights.min() <= 0:
                raise ShapeError(f"sample_weights: {weights.min():g}; every weight must be positive")
            set_(self, "sample_weights", weights)

    def _check_cascade(self) -> None:
        layers, source = self.network.layers, self.dictionary.source
        last = layers[-1]
        for holds, needed, given in (
            (source == "column_generation", 'dictionary.source = "column_generation"', repr(source)),
            (len(layers) == 1, "a single layer", f"{len(layers)} layers"),
            (last.recurrent, "a layer with recurrent = true", f"recurrent = {str(last.recurrent).lower()}"),
            (last.width > 1, "a layer of width > 1", f"width = {last.width}"),
        ):
            if not holds:
                raise ProblemFileError(f"dictionary.cascade: true needs {needed}, got {given}")

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
        return _from_tables(tables, {k: v for k, v in arrays.items() if v is not None}, None)

    @property
    def rows(self) -> int:
        """Number of supervised rows: n, or n·T where every step is supervised."""
        return len(self.inputs) * (self.inputs.shape[1] if self.network.supervise == "all" else 1)

    @property
    def uses_admm(self) -> bool:
        """Whether ADMM trains the network, or the dictionary's hidden layers."""
        return self.training.method == "admm" or self.dictionary.source == "admm"

    @property
    def uses_gradients(self) -> bool:
        """Whether gradients train the dictionary's hidden layers."""
        return self.dictionary.source == "surrogate_gradient"

    def encoded_targets(self) -> FloatArray:
        """Return the training targets as the loss takes them, (R, C)."""
        return self.target_code.values("targets", self.targets, len(self.inputs))

    def row_weights(self) -> FloatArray:
        """Return the weight a of every supervised row, (R,)."""
        weights = np.ones(len(self.inputs)) if self.sample_weights is None else self.sample_weights
        return np.repeat(weights, self.rows // len(self.inputs))

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the data that this problem has, by name."""
        return {k: np.asarray(getattr(self, k)) for k in DATA_NAMES if getattr(self, k) is not None}

    def tables(self) -> dict[str, Any]:
        """Return the problem without its data, as the tables of a problem file."""

        def given(spec: Any) -> dict[str, Any]:
            return {
                k: list(v) if isinstance(v, tuple) else v for k, v in asdict(spec).items() if v is not None
            }

        network = given(self.network)
        network["layers"] = [layer.table() for layer in self.network.layers]
        return {
            "name": self.name,
            "title": self.title,
            "source": self.source,
            "network": network,
            "dictionary": given(self.dictionary),
            "training": given(self.training),
            "solver": given(self.solver),
            **({"admm": given(self.admm)} if self.uses_admm else {}),
            **({"gradient": given(self.gradient)} if self.uses_gradients else {}),
            "expected": {k: v for k, v in self.expected.items() if v is not None},
        }

    def fingerprint(self) -> str:
        """Return the SHA-256 of what the optimum depends on: training data, network, training."""
        tables = self.tables()
        stated = {k: _without_later_defaults(k, tables[k]) for k in ("network", "training")}
        layers = stated["network"]["layers"]
        stated["network"]["layers"] = [_without_later_defaults("network.layers", layer) for layer in layers]
        if self.training.method == "admm":
            stated["admm"] = tables["admm"]
        stated["definition"] = {k: tables["dictionary"][k] for k in ("weight_box", "margin")}
        digest = hashlib.sha256(json.dumps(stated, sort_keys=True).encode())
        for name in ("inputs", "targets", "sample_weights"):
            value = getattr(self, name)
            if value is not None:
                array = np.ascontiguousarray(value, dtype="<f8")
                digest.update(f"{name}{array.shape}".encode() + array.tobytes())
        return digest.hexdigest()

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write ``problem.toml`` and ``data.npz`` into an existing folder."""
        import tomli_w

        write_npz(Path(folder) / "data.npz", self.arrays())
        tables = {**self.tables(), "data": {"file": "data.npz"}}
        tables["dictionary"].pop("file", None)
        if self.dictionary.source == "file":
            tables["dictionary"]["file"] = "witnesses.npz"
        (Path(folder) / "problem.toml").write_text(tomli_w.dumps(tables), encoding="utf-8")


def _without_later_defaults(section: str, table: Mapping[str, Any]) -> dict[str, Any]:
    """Drop keys that are younger than the first fingerprints and at their defaults: those stay valid."""
    later = {name: SCHEMA[section][name].default for name in LATER_KEYS.get(section, ())}
    return {name: value for name, value in table.items() if name not in later or value != later[name]}


def layer_keys(table: Any) -> dict[str, Key]:
    """Return the keys of a layer's table: those of every layer, and what its neuron declares beside them.

    Raises
    ------
    ProblemFileError
        There is no such neuron.
    """
    keys = dict(SCHEMA["network.layers"])
    keys["neuron"] = replace(keys["neuron"], choices=tuple(NEURONS))
    chosen = {"neuron": table["neuron"]} if isinstance(table, Mapping) and "neuron" in table else {}
    neuron = read_section("network.layers", chosen, {"neuron": keys["neuron"]})["neuron"]
    for declared in layer_parameters(neuron):
        kind = "text" if declared.choices else "numbers" if declared.per_unit else "number"
        keys[declared.name] = Key(kind, declared.default, declared.meaning, declared.choices)
    return keys


def _layer(k: int, table: Any) -> LayerSpec:
    values = read_section("network.layers", table, layer_keys(table))
    declared = {name: values.pop(name) for name in values.keys() - SCHEMA["network.layers"].keys()}
    leak = values.pop("leak")
    grid = tuple(float(b) for b in (leak if isinstance(leak, (list, tuple)) else [leak]))
    try:
        return LayerSpec(leak=grid, parameters=declared, **values)
    except ShapeError as error:
        raise ProblemFileError(f"network.layers[{k}].{error}") from error


def _from_tables(tables: Mapping[str, Any], arrays: Mapping[str, Any], folder: Path | None) -> Problem:
    sections = {k for k in SCHEMA if k and "." not in k}
    head = read_section("", {k: v for k, v in tables.items() if k not in sections})
    read = {k: read_section(k, tables.get(k, {})) for k in sections - {"network", "data"}}
    given = tables.get("network", {})
    if not isinstance(given, Mapping):
        raise ProblemFileError(f"network: expected a table, got {given!r}")
    network = dict(given)
    layers = network.pop("layers", None)
    if not isinstance(layers, Sequence) or isinstance(layers, str) or not layers:
        raise ProblemFileError(
            f"network.layers: expected at least one [[network.layers]] table, got {layers!r}"
        )
    specs = tuple(_layer(k, layer) for k, layer in enumerate(layers, start=1))
    try:
        spec = NetworkSpec(specs, **read_section("network", network))
    except ShapeError as error:
        raise ProblemFileError(f"network.{error}") from error
    training = read["training"]
    training["task"] = training["task"] or (
        "regression" if training["loss"] == "squared" else "classification"
    )
    for name in ("inputs", "targets"):
        if name not in arrays:
            raise ProblemFileError(f"data: no array {name!r}; found {', '.join(sorted(arrays)) or 'none'}")
    return Problem(
        network=spec,
        dictionary=DictionarySpec(**read["dictionary"]),
        training=TrainingSpec(**training),
        solver=SolverSpec(**read["solver"]),
        admm=AdmmSpec(**read["admm"]),
        gradient=GradientSpec(**read["gradient"]),
        expected=read["expected"],
        folder=folder,
        **head,
        **arrays,
    )


def _data(table: Any, folder: Path) -> dict[str, np.ndarray]:
    data = read_section("data", table)
    if (data["file"] is None) == (data["generator"] is None):
        raise ProblemFileError(
            f"data.file: give it, or generator, and not both (got {data['file']!r} and {data['generator']!r})"
        )
    if data["generator"] is not None:
        return generate(data["generator"], data["arguments"])
    arrays = read_npz(folder / data["file"])
    for name in arrays:
        if name not in DATA_NAMES:
            hint = nearest(name, dict.fromkeys(DATA_NAMES))
            raise ProblemFileError(f"{data['file']}: unknown array {name!r}{hint}")
    return arrays


def library() -> Path:
    """Return the folder of the problems that come with the package."""
    installed = Path(__file__).parent / "library"
    return installed if installed.is_dir() else Path(__file__).parent.parent / "problems"


def problem_path(name_or_path: str | os.PathLike[str]) -> Path:
    """Return the file of a problem: a path to a TOML file, or a name from the library.

    Raises
    ------
    ProblemFileError
        No such file or name (the message has the nearest one), or the path is a folder.
    """
    path = Path(name_or_path)
    shipped = {p.stem: p for p in sorted(library().glob("*.toml"))}
    if len(path.parts) == 1 and path.name in shipped and not path.is_file():
        return shipped[path.name]
    if path.is_dir():
        raise ProblemFileError(
            f"{path}: is a folder, expected a problem file (.toml) or a name from the library"
        )
    if path.is_file():
        return path
    if path.suffix == ".toml" or len(path.parts) != 1:
        raise ProblemFileError(f"{path}: no such problem file")
    raise ProblemFileError(f"{path}: no such problem{nearest(path.name, shipped)}")


def load_problem(name_or_path: str | os.PathLike[str]) -> Problem:
    """Read and check a problem, from a TOML file or by its name in the library.

    Raises
    ------
    ProblemFileError
        The file or its data cannot be read or breaks the schema; the message names file and key.
    """
    path = problem_path(name_or_path)
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
        data = _data(tables.get("data", {}), path.parent)
        return _from_tables(tables, data, path.parent)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise ProblemFileError(f"{path}: {error}") from error
    except ConvexSNNError as error:
        raise type(error)(f"{path.name}: {error}") from error
