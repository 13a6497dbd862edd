"""ADMM training, dictionaries and prices on a Dask cluster; needs the extra ``distributed``.

A worker holds its shard's data, membranes, spikes and multipliers. The driver sends weights and gets sums, whose
size does not depend on the number of samples. Data and, every ``admm.checkpoint_every`` iterations, variables are
files in a folder that all workers see: a worker that is lost takes nothing with it, since the scheduler hands its
tasks to another, which reads the files and does the iterations since then again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from convexsnn.arrays import FloatArray, IntArray, read_npz, whole, write_npz
from convexsnn.bits import PackedBits
from convexsnn.dictionary import Definition, SpikeDictionary, collect
from convexsnn.errors import NotInstalled, ProblemFileError
from convexsnn.lowering.admm import SplitProblem
from convexsnn.lowering.weights import Weights
from convexsnn.networks import NetworkSpec, Subnetwork
from convexsnn.train.admm import Shards, shards_of
from convexsnn.train.shards import Batch, Order, Reply, Score, Shard, Variables

ARRAYS = ("inputs", "targets", "encoded", "sample_weights")


def connect(workers: int | None = None, scheduler: str | None = None) -> Any:
    """Return a client of a cluster: of `workers` processes on this machine, or of the one at an address.

    Raises
    ------
    NotInstalled
        There is no ``dask.distributed``.
    ProblemFileError
        No scheduler answers at the address.
    """
    try:
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise NotInstalled("workers: need dask; pip install 'convexsnn[distributed]'") from error
    if scheduler is not None:
        try:
            return Client(scheduler, timeout="10s")
        except (OSError, ValueError) as error:
            raise ProblemFileError(f"scheduler: no answer at {scheduler!r} ({error})") from error
    cluster = LocalCluster(
        n_workers=whole("workers", workers), threads_per_worker=1, dashboard_address=None, host="127.0.0.1"
    )
    return Client(cluster)


def on_dask(client: Any, folder: str | os.PathLike[str], count: int | None = None) -> Callable[..., Shards]:
    """Return what `train_admm` takes as `place`: samples on a cluster, one shard a worker.

    Parameters
    ----------
    client : distributed.Client
    folder : path
        Seen by all workers; data and variables are written there.
    count : int, optional
        Shards; as many as there are workers if not given.
    """

    def place(lowered: SplitProblem, rows: IntArray) -> Shards:
        workers = count or len(client.scheduler_info(n_workers=-1)["workers"])
        return DaskShards(client, Path(folder), lowered, rows, min(max(workers, 1), len(rows)))

    return place


def _load_shard(path: Path, constants: dict[str, Any]) -> Shard:
    return Shard(**read_npz(path), **constants)


def _start(shard: Shard, weights: Weights) -> Variables | None:
    return shard.start(weights)


def _sweep(
    shard: Shard, kept: Variables | None, weights: Weights, order: Order, penalty: float, batch: Batch | None
) -> tuple[Variables | None, Reply | None]:
    return shard.sweep(kept, weights, order, penalty, batch)


def _score(shard: Shard, weights: Weights, network: NetworkSpec) -> Score:
    return shard.score(weights, network)


def _pick(pair: tuple[Any, Any], which: int) -> Any:
    return pair[which]


def _write_kept(kept: Variables, path: Path) -> int:
    named = {f"membranes{k}": z for k, z in enumerate(kept.membranes)}
    named |= {f"spikes{k}": a for k, a in enumerate(kept.spikes)}
    write_npz(path, {**named, "outputs": kept.outputs, "multipliers": kept.multipliers})
    return len(kept.membranes)


def _read_kept(path: Path) -> Variables:
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
    """Shards on the workers of a cluster."""

    def __init__(
        self, client: Any, folder: Path, lowered: SplitProblem, rows: IntArray, count: int
    ) -> None:
        """Write the shards' data into `folder` and let workers read it."""
        self.client, self.folder, self.network = client, folder, lowered.problem.network
        self.sent = self.received = self.settled = 0
        self.restarts = True
        self.data: list[Any] = []
        for j, shard in enumerate(shards_of(lowered, rows, count)):
            path = folder / f"shard{j}.npz"
            write_npz(path, {name: np.asarray(getattr(shard, name)) for name in ARRAYS})
            self.restarts = shard.restarts
            names = ("splitting", "code", "first", "restarts")
            self.data.append(
                client.submit(_load_shard, path, {k: getattr(shard, k) for k in names}, pure=False)
            )
        self.kept = [client.submit(_start, one, lowered.weights, pure=False) for one in self.data]

    def sweep(self, weights: Weights, order: Order, penalty: float, batch: Batch | None) -> Reply:  # noqa: D102
        replies = []
        for j, (data, kept) in enumerate(zip(self.data, self.kept, strict=True)):
            pair = self.client.submit(_sweep, data, kept, weights, order, penalty, batch, pure=False)
            self.kept[j] = self.client.submit(_pick, pair, 0, pure=False)
            replies.append(self.client.submit(_pick, pair, 1, pure=False))
        total: Reply | None = None
        for reply in self.client.gather(replies):
            if reply is not None:
                self.received += reply.bytes
                total = reply if total is None else total.plus(reply)
        assert total is not None
        self.sent += len(self.data) * _bytes_of(weights)
        return total

    def score(self, weights: Weights) -> Score:  # noqa: D102
        scores = [self.client.submit(_score, one, weights, self.network, pure=False) for one in self.data]
        total, *others = self.client.gather(scores)
        for score in others:
            total = total.plus(score)
        self.sent += len(self.data) * _bytes_of(weights)
        self.received += len(self.data) * (total.spikes.nbytes + total.entries.nbytes + 24)
        return total

    def variables(self) -> list[Variables | None]:  # noqa: D102
        return list(self.client.gather(self.kept))

    def restore(self, variables: Sequence[Variables | None]) -> None:  # noqa: D102
        for j, own in enumerate(variables):
            if own is not None:
                self._from_file(j, lambda path, own=own: _write_kept(own, path))  # type: ignore[misc]

    def settle(self) -> None:  # noqa: D102
        if self.restarts:  # nothing is kept but the data, which are files already
            return
        self.settled += 1
        for j, kept in enumerate(self.kept):
            self._from_file(
                j, lambda path, kept=kept: self.client.submit(_write_kept, kept, path, pure=False).result()  # type: ignore[misc]
            )

    def _from_file(self, j: int, write: Callable[[Path], Any]) -> None:
        """Let a shard's variables be written, and go on from the file."""
        path = self.folder / f"shard{j}-{self.settled}.npz"
        write(path)
        self.kept[j] = self.client.submit(_read_kept, path, pure=False)
        (self.folder / f"shard{j}-{self.settled - 1}.npz").unlink(missing_ok=True)

    def traffic(self) -> tuple[int, int]:  # noqa: D102
        sent, received = self.sent, self.received
        self.sent = self.received = 0
        return sent, received


def dictionary_on(
    client: Any, inputs: FloatArray, subnetworks: Sequence[Subnetwork], definition: Definition, rows: int = 4096
) -> SpikeDictionary:
    """Build a dictionary as `collect` does, simulated on a cluster in blocks of samples and subnetworks."""

    def run(work: Callable[..., Any], tasks: Sequence[tuple[Any, ...]]) -> list[Any]:
        return list(client.gather([client.submit(work, *task, pure=False) for task in tasks]))

    return collect(inputs, subnetworks, definition, run=run, block=rows)


def prices_on(
    client: Any, columns: PackedBits, dual: FloatArray, rows: int = 1 << 16, patterns: int = 1 << 14
) -> FloatArray:
    """Return Dᵀu (P, C), as `PackedBits.transpose_times`, computed on a cluster in blocks of rows and columns."""
    rows = max(8, rows // 8 * 8)
    tasks = []
    for low in range(0, columns.shape[1], patterns):
        for start in range(0, columns.rows, rows):
            stop = min(start + rows, columns.rows)
            packed = columns.packed[low : low + patterns, start // 8 : -(-stop // 8)]
            tasks.append((low, client.submit(_price, PackedBits(packed, stop - start), dual[start:stop], pure=False)))
    found = np.zeros((columns.shape[1], dual.shape[1]))
    for (low, _), part in zip(tasks, client.gather([task for _, task in tasks]), strict=True):
        found[low : low + len(part)] += part
    return found


def _price(columns: PackedBits, dual: FloatArray) -> FloatArray:
    return columns.transpose_times(dual)
