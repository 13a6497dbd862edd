"""ADMM training, dictionaries and prices on a Dask cluster; needs the extra ``distributed``.

A worker holds data, membranes, spikes and multipliers of its shard. The driver sends weights and receives
sums; their size does not depend on the number of samples. A folder that all workers can read has files with
the data and, every ``admm.checkpoint_every`` iterations, with the variables. If a worker is lost, the
scheduler gives its tasks to another worker, which reads the files and repeats the iterations since then.

    with connect(workers=2) as client:
        train_admm(problem, place=on_dask(client))
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import reduce
from math import lcm
from operator import getitem
from pathlib import Path
from typing import Any

import numpy as np

from convexsnn.admm.places import Shards, shards_of
from convexsnn.admm.shards import Batch, Order, Reply, Score, Shard, Variables, check_variables
from convexsnn.admm.splitting import VARIANTS, SplitProblem
from convexsnn.admm.waiting import results as _results
from convexsnn.admm.waiting import threads_of, without_logs
from convexsnn.admm.weights import Sums, Weights
from convexsnn.admm.workers import start_workers
from convexsnn.arrays import FloatArray, IntArray, read_npz, whole, write_npz
from convexsnn.bits import PackedBits
from convexsnn.dictionary import Definition, SpikeDictionary, collect
from convexsnn.distinct import DistinctSamples
from convexsnn.errors import NotInstalled, ProblemFileError, ShapeError
from convexsnn.files import TemporaryFolder
from convexsnn.networks import Subnetwork
from convexsnn.problem import Problem
from convexsnn.simulate import BLOCK

ARRAYS = ("inputs", "targets", "encoded", "sample_weights")
CONSTANTS = ("splitting", "code", "first", "restarts")
PATIENCE = 5  # seconds to wait for a scheduler, and for its first worker
AHEAD = 2  # tasks in progress per worker; a limit, so that the driver does not build all of them at once
WHOLE_ROWS = lcm(8, BLOCK)  # block size in rows: full bytes, and full blocks of the simulator


def connect(workers: int | None = None, scheduler: str | None = None) -> Any:
    """Return a client of a new cluster of `workers` processes, or of the cluster at the address `scheduler`.

    Closing the client stops the processes that it started. They import the calling script; so the script must
    make the call under ``if __name__ == "__main__":``.

    Raises
    ------
    ShapeError
        Both or none of the arguments are set, or `workers` is not positive.
    NotInstalled
        ``dask.distributed`` is not installed.
    ProblemFileError
        No scheduler with a worker answers at the address, or the processes do not start.
    """
    if (workers is None) == (scheduler is None):
        raise ShapeError("workers: give either a number of processes or the address of a scheduler")
    if workers is not None:
        whole("workers", workers)
    try:
        from distributed import Client
    except ImportError as error:
        raise NotInstalled("workers: need dask; pip install 'convexsnn[distributed]'") from error
    if workers is not None:
        return start_workers(Client, workers)
    # in two steps, to close a client whose start fails: the garbage collector may close it in the client's
    # own thread, and then closing waits for itself
    client = Client.__new__(Client)
    try:
        _shake_hands(scheduler)
        Client.__init__(client, scheduler, timeout=PATIENCE)
        client.wait_for_workers(1, timeout=PATIENCE)
    except Exception as error:  # the address may belong to another program: any error is possible
        with suppress(Exception):
            client.close()
        why = str(error) or type(error).__name__
        raise ProblemFileError(f"scheduler: no answer at {scheduler!r}, or no worker: {why}") from error
    return client


def _shake_hands(scheduler: str | None) -> None:
    """Connect to an address and leave again; TimeoutError if nothing answers there within `PATIENCE`.

    The client's own timeout does not cover the answer to its first message, so that it would wait without end
    for a program that listens and says nothing.
    """
    from distributed.comm import connect as open_comm
    from distributed.security import Security

    async def there_and_back() -> None:
        arguments = Security().get_connection_args("client")
        comm = await asyncio.wait_for(open_comm(scheduler, timeout=PATIENCE, **arguments), PATIENCE)
        comm.abort()

    with ThreadPoolExecutor(1) as pool:  # a thread of its own: in a notebook this one has a loop already
        pool.submit(lambda: asyncio.run(there_and_back())).result()


@contextmanager
def cluster(
    problem: Problem, workers: int | None, scheduler: str | None
) -> Iterator[Callable[..., Shards] | None]:
    """Yield the argument `place` of `train_admm` for these workers; None without workers.

    Processes on this machine share a temporary folder; workers of a scheduler share the current folder.

    Raises
    ------
    ShapeError
        The problem is not trained by ADMM, or as in `connect`.
    NotInstalled, ProblemFileError
        As in `connect`.
    """
    if workers is None and scheduler is None:
        yield None
        return
    if problem.training.method != "admm":
        raise ShapeError(
            f'workers: need training.method = "admm", this problem has "{problem.training.method}"'
        )
    with without_logs(), connect(workers, scheduler) as client:
        yield on_dask(client, None if scheduler is None else Path.cwd())


def on_dask(
    client: Any, folder: str | os.PathLike[str] | None = None, count: int | None = None
) -> Callable[..., Shards]:
    """Return the argument `place` of `train_admm` for a cluster: one shard of samples per worker.

    Parameters
    ----------
    client : distributed.Client
    folder : path, optional
        Folder that all workers can read and write. Each training creates a subfolder for data and
        variables, and removes it at the end, also after an error. Default: the system's temporary folder,
        which is enough if all workers run on this machine.
    count : int, optional
        Number of shards. Default: the number of workers.

    Raises
    ------
    ProblemFileError
        The folder does not exist.
    """
    if count is not None:
        whole("count", count)
    if folder is not None and not Path(folder).is_dir():
        raise ProblemFileError(f"folder: no such folder {os.fspath(folder)}")

    def place(lowered: SplitProblem, rows: IntArray) -> Shards:
        shards = max(1, count or len(client.sync(threads_of, client)))
        return DaskShards(client, folder, lowered, rows, min(shards, len(rows)))

    return place


def _submit(client: Any, work: Callable[..., Any], *arguments: Any) -> Any:
    """Return the future of a task. The task contains its arguments, so that any worker can repeat it."""
    import dask

    # no warning: dask would advise to store large arguments on workers, and they would be lost with a worker
    with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1TB"}):
        return client.submit(work, *arguments, pure=False)


def _in_order(client: Any, work: Callable[..., Any], tasks: Iterable[tuple[Any, ...]]) -> Iterator[Any]:
    """Yield the result of `work` for each tuple of arguments, in order; a few tasks run at a time."""
    waiting: deque[Any] = deque()
    most = AHEAD * max(1, len(client.sync(threads_of, client)))
    for task in tasks:
        if len(waiting) == most:
            yield from _results(client, [waiting.popleft()])
        waiting.append(_submit(client, work, *task))
    yield from _results(client, list(waiting))


def _load_shard(path: Path, constants: dict[str, Any]) -> Shard:
    if not path.exists():
        raise ProblemFileError(f"folder: a worker finds no {path}; choose a folder that all workers can read")
    arrays: dict[str, Any] = read_npz(path)
    return Shard(**arrays, **constants)


def _write_variables(variables: Variables, path: Path) -> None:
    write_npz(path, variables.arrays())


def _read_variables(path: Path, shard: Shard | None = None) -> Variables:
    """Return variables from their file; `shard` only makes dask run the task where the data are."""
    return Variables.of_arrays(read_npz(path))


def _bytes_of(weights: Weights) -> int:
    return sum(weights.table(k).nbytes for k in range(len(weights.layers) + 1))


class DaskShards:
    """Shards on the workers of a cluster; `close` releases them and removes their files."""

    def __init__(
        self,
        client: Any,
        folder: str | os.PathLike[str] | None,
        lowered: SplitProblem,
        rows: IntArray,
        count: int,
    ) -> None:
        """Write the data of the shards into a new subfolder of `folder`, and let the workers read it."""
        self.client, self.network = client, lowered.problem.network
        self.restarts = VARIANTS[lowered.problem.admm.variant].restarts
        self.sent = self.received = self.settled = 0
        self.is_settled = False  # whether the files have the present variables of the workers
        parent = None if folder is None else Path(folder).absolute()  # for workers in other folders
        self.files = TemporaryFolder(parent)
        paths, constants, self.sizes = [], [], []
        for j, shard in enumerate(shards_of(lowered, rows, count)):
            paths.append(self.files.path / f"shard{j}.npz")
            write_npz(paths[j], {name: np.asarray(getattr(shard, name)) for name in ARRAYS})
            constants.append({name: getattr(shard, name) for name in CONSTANTS})
            self.sizes.append(len(shard.inputs))
        # in one call, so that the scheduler spreads them over the workers; tasks bound to a worker would wait
        # for it even if it died
        self.data: list[Any] = client.map(_load_shard, paths, constants, pure=False)
        self.states: list[Any] = [None] * count
        if not self.restarts:
            self.states = [_submit(client, Shard.start, data, lowered.weights) for data in self.data]

    def _file(self, j: int, number: int) -> Path:
        return self.files.path / f"shard{j}-{number}.npz"

    def sweep(self, weights: Weights, order: Order, penalty: float, batch: Batch | None) -> Reply:  # noqa: D102
        replies = []
        if self.is_settled:  # start from the files: dask can then forget all earlier tasks
            paths = [self._file(j, self.settled) for j in range(len(self.data))]
            self.states = [
                _submit(self.client, _read_variables, *pair) for pair in zip(paths, self.data, strict=True)
            ]
        for j, data in enumerate(self.data):
            pair = _submit(self.client, Shard.sweep, data, self.states[j], weights, order, penalty, batch)
            if not self.restarts:
                self.states[j] = _submit(self.client, getitem, pair, 0)
            replies.append(_submit(self.client, getitem, pair, 1))
        self.is_settled = False
        received = [reply for reply in _results(self.client, replies) if reply is not None]
        self.received += sum(reply.bytes for reply in received)
        self.sent += len(self.data) * _bytes_of(weights)
        return reduce(Reply.plus, received)

    def _of_every_shard(self, work: Callable[..., Any], weights: Weights, *others: Any) -> list[Any]:
        self.sent += len(self.data) * _bytes_of(weights)
        return _results(self.client, [_submit(self.client, work, one, weights, *others) for one in self.data])

    def inputs_sums(self, weights: Weights) -> Sums:  # noqa: D102
        total: Sums = reduce(Sums.plus, self._of_every_shard(Shard.inputs_sums, weights))
        self.received += len(self.data) * (0 if total.gram is None else total.gram.nbytes)
        return total

    def score(self, weights: Weights) -> Score:  # noqa: D102
        total: Score = reduce(Score.plus, self._of_every_shard(Shard.score, weights, self.network))
        self.received += len(self.data) * (total.spikes.nbytes + total.entries.nbytes + 24)
        return total

    def variables(self) -> list[Variables | None]:
        """Return the variables of every shard, read from the files, for a checkpoint in one file."""
        if self.restarts:
            return [None] * len(self.data)
        self.settle()
        return [_read_variables(self._file(j, self.settled)) for j in range(len(self.data))]

    def restore(self, variables: Sequence[Variables | None]) -> None:  # noqa: D102
        for j, shard in enumerate(check_variables(variables, self.sizes)):
            _write_variables(shard, self._file(j, self.settled))
        self.is_settled = True

    def mark(self) -> tuple[list[Any], bool]:  # noqa: D102
        return list(self.states), self.is_settled

    def back(self, mark: tuple[list[Any], bool]) -> None:  # noqa: D102
        self.states, self.is_settled = list(mark[0]), mark[1]

    def settle(self) -> None:  # noqa: D102
        if self.restarts or self.is_settled:  # without variables the data files are enough
            return
        paths = [self._file(j, self.settled + 1) for j in range(len(self.data))]
        pairs = zip(self.states, paths, strict=True)
        _results(self.client, [_submit(self.client, _write_variables, *pair) for pair in pairs])
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

        with suppress(Exception):  # a worker that is still reading would miss its file
            wait(self.data, timeout=PATIENCE)
        self.data, self.states = [], []
        self.files.remove()


def dictionary_on(
    client: Any,
    inputs: FloatArray | DistinctSamples,
    subnetworks: Sequence[Subnetwork],
    definition: Definition,
    rows: int = 4000,
) -> SpikeDictionary:
    """Return the dictionary of `collect`, bit for bit, from a simulation on a cluster in blocks.

    Parameters
    ----------
    rows : int
        Samples per task, rounded to full blocks of the simulator, so that the order of sums is the same.
    """

    def run(work: Callable[..., Any], tasks: Sequence[tuple[Any, ...]]) -> Iterable[Any]:
        return _in_order(client, work, tasks)

    block = max(1, whole("rows", rows) // WHOLE_ROWS) * WHOLE_ROWS
    return collect(inputs, subnetworks, definition, run=run, block=block)


def prices_on(
    client: Any, columns: PackedBits, dual: FloatArray, rows: int = 1 << 15, patterns: int = 1 << 11
) -> FloatArray:
    """Return Dᵀu, as in `PackedBits.transpose_times`, from a cluster in blocks of rows and columns.

    Raises
    ------
    ShapeError
        D and u have different numbers of rows.
    """
    if len(dual) != columns.rows:
        raise ShapeError(f"dual: expected {columns.rows} rows, got {len(dual)}")
    whole("patterns", patterns)
    rows = max(8, whole("rows", rows) // 8 * 8)  # full bytes of packed columns
    starts = [(a, b) for a in range(0, columns.shape[1], patterns) for b in range(0, columns.rows, rows)]

    def block(low: int, start: int) -> tuple[PackedBits, FloatArray]:
        stop = min(start + rows, columns.rows)
        packed = columns.packed[low : low + patterns, start // 8 : -(-stop // 8)]
        return PackedBits(packed, stop - start), dual[start:stop]

    prices = np.zeros((columns.shape[1], *dual.shape[1:]))
    parts = _in_order(client, PackedBits.transpose_times, (block(*one) for one in starts))
    for (low, _), part in zip(starts, parts, strict=True):
        prices[low : low + len(part)] += part
    return prices
