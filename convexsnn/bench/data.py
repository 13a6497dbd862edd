"""Export of the benchmark's problems: one .npz per problem and a data set for benchopt."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from convexsnn.arrays import write_npz
from convexsnn.bench.problems import BenchProblem, BitProducts
from convexsnn.programs import L1Program
from convexsnn.training.folder import write_folder

DATASET = '''"""Sparse programs on binary dictionaries.

Minimise over W:  scale * sum_i sample_weight_i loss(X_i W, y_i) + reg * ||W||.

Each problem is NAME.npz beside this file: `packed` (P, ceil(n / 8)) holds column j of X as numpy.packbits
packs it, `rows` is n, `y` (n, C) the targets (numbers, +-1, or one-hot rows for softmax), `sample_weight`
(n,); `scale`, `reg` and `reg_max` (at or above it W = 0 is optimal) are numbers, `loss` is one of squared
(||z - y||^2 / 2), hinge, squared_hinge (max(0, 1 - y z)^2 / 2), logistic, softmax. `groups` (P,) is -1 where
||W|| is the l1 norm of all entries; else it is the group of every row of W, and ||W|| is the sum of the l2
norms of the groups.

Works as a data set of benchopt, and without it: Dataset("NAME").get_data().
"""

from pathlib import Path

import numpy as np

try:
    from benchopt import BaseDataset
except ImportError:

    class BaseDataset:
        def __init__(self, problem):
            self.problem = problem


class Dataset(BaseDataset):
    name = "convexsnn"
    parameters = {"problem": PROBLEMS}

    def get_data(self):
        with np.load(Path(__file__).parent / f"{self.problem}.npz", allow_pickle=False) as file:
            data = {name: file[name] for name in file.files}
        rows = int(data.pop("rows"))
        X = np.unpackbits(data.pop("packed"), axis=1, count=rows).T.astype(bool)
        numbers = {name: float(data[name]) for name in ("scale", "reg", "reg_max")}
        return {"X": X, **data, **numbers, "loss": str(data["loss"])}
'''


def arrays_of(program: L1Program) -> dict[str, np.ndarray]:
    """Return a program as the arrays of its file."""
    columns, penalty = program.shape[0], program.penalty
    if not (penalty.uniform or penalty.euclidean):
        penalty.refuse("the benchmark's files hold the l1 and group norms only")
    groups = np.full(columns, -1) if penalty.uniform else np.asarray(penalty.groups(columns))
    return {
        "packed": program.dictionary.packed,
        "rows": np.array(program.dictionary.rows),
        "y": program.targets,
        "sample_weight": program.sample_weights,
        "scale": np.array(program.scale),
        "reg": np.array(program.regularization),
        "reg_max": np.array(program.regularization_max),
        "loss": np.array(program.loss.name),
        "groups": groups.astype(np.int64),
    }


def write_data(problems: Sequence[BenchProblem | BitProducts], folder: Path) -> list[str]:
    """Write the programs into a new folder, with a ``dataset.py`` that loads them; return their names.

    Problems whose data are not installed, and products, are left out.

    Raises
    ------
    ProblemFileError
        The folder exists or cannot be written.
    """
    programs = [p for p in problems if isinstance(p, BenchProblem) and p.missing() is None]
    names = [problem.name for problem in programs]

    def write(target: Path) -> None:
        for problem in programs:
            write_npz(target / f"{problem.name}.npz", arrays_of(problem.make()))
        (target / "dataset.py").write_text(DATASET.replace("PROBLEMS", repr(names), 1), encoding="utf-8")

    write_folder(folder, write)
    return names
