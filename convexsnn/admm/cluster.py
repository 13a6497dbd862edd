"""ADMM training, dictionaries and prices on a Dask cluster; needs the extra ``distributed``.

A worker holds its shard's data, membranes, spikes and multipliers. The driver sends weights and gets sums,
whose size does not depend on the number of samples. Data and, every ``admm.checkpoint_every`` iterations,
variables are files in a folder that all workers see: a worker that is lost takes nothing with it, since the
scheduler hands its tasks to another, which reads the files and does the iterations since then again.

    with connect(workers=2) as client:
        train_admm(problem, place=on_dask(client))
"""

from __future__ import annotations

import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from math import lcm
from operator import getitem
from pathlib import Path
from typing import Any

import numpy as np

from convexsnn.admm.places import Shards, shards_of
from convexsnn.admm.shards import Batch, Order, Reply, Score, Shard, Variables, check_variables
from convexsnn.admm.splitting import VARIANTS, SplitProblem
from convexsnn.admm.weights import Sums, Weights
from convexsnn.admm.workers import start_workers
from convexsnn.arrays import FloatArray, IntArray, read_npz, whole, write_npz
from convexsnn.bits import PackedBits
from convexsnn.dictionary import Definition, SpikeDictionary, collect
from convexsnn.distinct import DistinctSamples
from convexsnn.errors import NotInstalled, ProblemFileError, ShapeError, SolverFailed
from convexsnn.networks import Subnetwork
from convexsnn.problem import Problem
from convexsnn.simulate import BLOCK

ARRAYS = ("inputs", "targets", "encoded", "sample_weights")
CONSTANTS = ("splitting", "code", "first", "restarts")
PATIENCE = 5  # seconds that a scheduler has to answer, and to have a worker
AHEAD = 2  # tasks by worker that are under way at a time, so that the driver does not lay out all of them
WHOLE_ROWS = lcm(8, BLOCK)  # blocks of rows: whole bytes, and whole blocks of the simulator


def connect(workers: int | None = None, scheduler: str | None = None) -> Any:
    """Return a client of a cluster: of `workers` processes on this machine, or of the one at an address.

    Closing the client ends the processes that were started for it. They import the script that calls this,
    so there the call belongs under ``if __name__ == "__main__":``.

    Raises
    ------
    ShapeError
        Both or neither are given, or no worker at all.
    NotInstalled
        There is no ``dask.distributed``.
    ProblemFileError
        No scheduler with a worker answers at the address, or processes do not start.
    """
    if (workers is None) == (scheduler is None):
        raise ShapeError("workers: give a number of processes or the address of a scheduler, one of both")
    if workers is not None:
        whole("workers", workers)
    try:
        from distributed import Client
    except ImportError as error:
        raise NotInstalled("workers: need dask; pip install 'convexsnn[distributed]'") from error
    if workers is not None:
        return start_workers(Client, workers)
    # in two steps, to close it if it fails halfway: else that is left to the garbage collector, and where it
    # runs in the client's own thread, closing waits for itself
    client = Client.__new__(Client)
    try:
        Client.__init__(client, scheduler, timeout=PATIENCE)
        client.wait_for_workers(1, timeout=PATIENCE)
    except Exception as error:  # whoever answers may be no scheduler: then anything is raised
        with suppress(Exception):
            client.close()
        raise ProblemFileError(f"scheduler: no answer at {scheduler!r}, or no worker: {error}") from error
    return client


@contextmanager
def cluster(
    problem: Problem, workers: int | None, scheduler: str | None
) -> Iterator[Callable[..., Shards] | None]:
    """Yield where a problem's ADMM training is worked on, as `train_admm` takes it; None: here.

    Processes on this machine share a temporary folder, the workers of a scheduler the current one.

    Raises
    ------
    ShapeError
        Workers for a problem that is not trained by ADMM, or as `connect`.
    NotInstalled, ProblemFileError
        As `connect`.
    """
    if workers is None and scheduler is None:
        yield None
        return
    if problem.training.method != "admm":
        raise ShapeError(
            f'workers: are for training.method = "admm", this problem has "{problem.training.method}"'
        )
    with connect(workers, scheduler) as client:
        yield on_dask(client, None if scheduler is None else Path.cwd())


def on_dask(
    client: Any, folder: str | os.PathLike[str] | None = None, count: int | None = None
) -> Callable[..., Shards]:
    """Return what `train_admm` takes as `place`: samples on a cluster, one shard a worker.

    Parameters
    ----------
    client : distributed.Client
    folder : path, optional
        Seen by all workers. Each training makes a folder of its own in it, for data and variables, and
        removes it at the end, also when it fails. The system's temporary folder if not given: enough where
        all workers are on this machine.
    count : int, optional
        Shards; as many as there are workers if not given.

    Raises
    ------
    ProblemFileError
        There is no such folder.
    """
    if count is not None:
        whole("count", count)
    if folder is not None and not Path(folder).is_dir():
        raise ProblemFileError(f"folder: no such folder {os.fspath(folder)}")

    def place(lowered: SplitProblem, rows: IntArray) -> Shards:
        shards = max(1, count or len(client.nthreads()))
        return DaskShards(client, folder, lowered, rows, min(shards, len(rows)))

    return place


def _submit(client: Any, work: Callable[..., Any], *arguments: Any) -> Any:
    """Return the future of a task that carries its arguments, so that it can be done again anywhere."""
    import dask

    # dask would advise to keep large arguments on workers, where they are lost with them
    with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1TB"}):
        return client.submit(work, *arguments, pure=False)


def _results(client: Any, futures: Sequence[Any]) -> list[Any]:
    """Wait for tasks and return what they made.

    Raises
    ------
    SolverFailed
        Whoever works on a task dies, or the scheduler is gone; besides, what the task itself raised.
    """
    from concurrent.futures import CancelledError

    from distributed.scheduler import KilledWorker

    try:
        return list(client.gather(futures))
    except KilledWorker as error:
        raise SolverFailed(f"workers: died again and again, short of memory? {error}") from error
    except CancelledError as error:
        raise SolverFailed(f"workers: the scheduler is gone, or gave up: {error}") from error


def _in_order(client: Any, work: Callable[..., Any], tasks: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
    """Yield what `work` makes of each tuple of arguments, a few of them being under way at a time."""
    waiting: deque[Any] = deque()
    most = AHEAD * max(1, len(client.nthreads()))
    for task in tasks:
        if len(waiting) == most:
            yield from _results(client, [waiting.popleft()])
        waiting.append(_submit(client, work, *task))
    yield from _results(client, list(waiting))


def _load_shard(path: Path, constants: dict[str, Any]) -> Shard:
    if not path.exists():
        raise ProblemFileError(f"folder: a worker finds no {path}; take one that all workers see")
    arrays: dict[str, Any] = read_npz(path)
    return Shard(**arrays, **constants)


def _write_kept(kept: Variables, path: Path) -> None:
    named = {f"membranes{k}": z for k, z in enumerate(kept.membranes)}
    named |= {f"spikes{k}": a for k, a in enumerate(kept.spikes)}
    write_npz(path, {**named, "outputs": kept.outputs, "multipliers": kept.multipliers})


def _read_kept(path: Path, beside: Shard | None = None) -> Variables:
    """Return variables from their file; a task that is given data too is done where these are."""
    found = read_npz(path)
    layers = range(sum(name.startswith("membranes") for name in found))
    return Variables(
        [found[f"membranes{k}"] for k in layers],
        [found[f"spikes{k}"] for k in layers],
        found["outputs"],
        found["multipliers"],
    )


def _bytes_of(weights: Weights) -> int:
    return sum(weights.table(k).nbytes for k in range(len(weights.layers) + 1))


class DaskShards:
    """Shards on the workers of a cluster; `close` forgets them and removes their files."""

    def __init__(
        self,
        client: Any,
        folder: str | os.PathLike[str] | None,
        lowered: SplitProblem,
        rows: IntArray,
        count: int,
    ) -> None:
        """Write the shards' data into a new folder in `folder` and let workers read it."""
        self.client, self.network = client, lowered.problem.network
        self.restarts = VARIANTS[lowered.problem.admm.variant].restarts
        self.sent = self.received = self.settled = 0
        self.is_settled = False  # whether the files have what workers hold
        parent = None if folder is None else Path(folder).absolute()  # workers may run elsewhere
        self.own = tempfile.TemporaryDirectory(prefix="admm-", dir=parent, ignore_cleanup_errors=True)
        paths, constants, self.sizes = [], [], []
        for j, shard in enumerate(shards_of(lowered, rows, count)):
            paths.append(Path(self.own.name) / f"shard{j}.npz")
            write_npz(paths[j], {name: np.asarray(getattr(shard, name)) for name in ARRAYS})
            constants.append({name: getattr(shard, name) for name in CONSTANTS})
            self.sizes.append(len(shard.inputs))
        # all at once, so that the scheduler spreads them out; bound to workers they would wait for dead ones
        self.data: list[Any] = client.map(_load_shard, paths, constants, pure=False)
        self.kept: list[Any] = [None] * count
        if not self.restarts:
            self.kept = [_submit(client, Shard.start, data, lowered.weights) for data in self.data]

    def _file(self, j: int, number: int) -> Path:
        return Path(self.own.name) / f"shard{j}-{number}.npz"

    def sweep(self, weights: Weights, order: Order, penalty: float, batch: Batch | None) -> Reply:  # noqa: D102
        replies = []
        if self.is_settled:  # go on from the files: all that led to them is forgotten
            files = [self._file(j, self.settled) for j in range(len(self.data))]
            self.kept = [
                _submit(self.client, _read_kept, *both) for both in zip(files, self.data, strict=True)
            ]
        for j, data in enumerate(self.data):
            pair = _submit(self.client, Shard.sweep, data, self.kept[j], weights, order, penalty, batch)
            if not self.restarts:
                self.kept[j] = _submit(self.client, getitem, pair, 0)
            replies.append(_submit(self.client, getitem, pair, 1))
        self.is_settled = False
        total: Reply | None = None
        for reply in _results(self.client, replies):
            if reply is not None:
                self.received += reply.bytes
                total = reply if total is None else total.plus(reply)
        assert total is not None
        self.sent += len(self.data) * _bytes_of(weights)
        return total

    def inputs_sums(self, weights: Weights) -> Sums:  # noqa: D102
        parts = [_submit(self.client, Shard.inputs_sums, one, weights) for one in self.data]
        total, *others = _results(self.client, parts)
        for sums in others:
            total = total.plus(sums)
        self.sent += len(self.data) * _bytes_of(weights)
        self.received += len(self.data) * (0 if total.gram is None else total.gram.nbytes)
        return total

    def score(self, weights: Weights) -> Score:  # noqa: D102
        tasks = [_submit(self.client, Shard.score, data, weights, self.network) for data in self.data]
        total, *others = _results(self.client, tasks)
        for score in others:
            total = total.plus(score)
        self.sent += len(self.data) * _bytes_of(weights)
        self.received += len(self.data) * (total.spikes.nbytes + total.entries.nbytes + 24)
        return total

    def variables(self) -> list[Variables | None]:
        """Return what every shard keeps, from the files: a checkpoint in one file has it all."""
        if self.restarts:
            return [None] * len(self.data)
        self.settle()
        return [_read_kept(self._file(j, self.settled)) for j in range(len(self.data))]

    def restore(self, variables: Sequence[Variables | None]) -> None:  # noqa: D102
        for j, own in enumerate(check_variables(variables, self.sizes)):
            _write_kept(own, self._file(j, self.settled))
        self.is_settled = True

    def settle(self) -> None:  # noqa: D102
        if self.restarts or self.is_settled:  # where nothing is kept, data are all, and files already
            return
        following = [self._file(j, self.settled + 1) for j in range(len(self.data))]
        pairs = zip(self.kept, following, strict=True)
        _results(self.client, [_submit(self.client, _write_kept, *pair) for pair in pairs])
        for j in range(len(self.data)):
            self._file(j, self.settled).unlink(missing_ok=True)
        self.settled += 1
        self.is_settled = True

    def traffic(self) -> tuple[int, int]:  # noqa: D102
        sent, received = self.sent, self.received
        self.sent = self.received = 0
        return sent, received

    def close(self) -> None:  # noqa: D102
        from distributed import wait

        with suppress(Exception):  # whoever still reads would complain of files that are gone
            wait(self.data, timeout=PATIENCE)
        self.data, self.kept = [], []
        self.own.cleanup()


def dictionary_on(
    client: Any,
    inputs: FloatArray | DistinctSamples,
    subnetworks: Sequence[Subnetwork],
    definition: Definition,
    rows: int = 4000,
) -> SpikeDictionary:
    """Return what `collect` does, bit for bit, simulated on a cluster in blocks of samples and subnetworks.

    Parameters
    ----------
    rows : int
        Samples of one task; rounded to whole blocks of the simulator, so that no sum is in another order.
    """

    def run(work: Callable[..., Any], tasks: Sequence[tuple[Any, ...]]) -> Iterable[Any]:
        return _in_order(client, work, tasks)

    block = max(1, whole("rows", rows) // WHOLE_ROWS) * WHOLE_ROWS
    return collect(inputs, subnetworks, definition, run=run, block=block)


def prices_on(
    client: Any, columns: PackedBits, dual: FloatArray, rows: int = 1 << 15, patterns: int = 1 << 11
) -> FloatArray:
    """Return Dᵀu, as `PackedBits.transpose_times`, computed on a cluster in blocks of rows and columns.

    Raises
    ------
    ShapeError
        D and u have different numbers of rows.
    """
    if len(dual) != columns.rows:
        raise ShapeError(f"dual: expected {columns.rows} rows, got {len(dual)}")
    whole("patterns", patterns)
    rows = max(8, whole("rows", rows) // 8 * 8)  # whole bytes of packed columns
    starts = [(a, b) for a in range(0, columns.shape[1], patterns) for b in range(0, columns.rows, rows)]

    def block(low: int, start: int) -> tuple[PackedBits, FloatArray]:
        stop = min(start + rows, columns.rows)
        packed = columns.packed[low : low + patterns, start // 8 : -(-stop // 8)]
        return PackedBits(packed, stop - start), dual[start:stop]

    found = np.zeros((columns.shape[1], *dual.shape[1:]))
    parts = _in_order(client, PackedBits.transpose_times, (block(*one) for one in starts))
    for (low, _), part in zip(starts, parts, strict=True):
        found[low : low + len(part)] += part
    return found
