"""The wait for results of a Dask cluster: it ends, in one line, when scheduler or workers are gone.

Dask itself waits without end for a scheduler that is frozen and for workers that never come back.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from convexsnn.errors import SolverFailed

LOOK = 5.0  # seconds between two looks at the scheduler
GONE = 60.0  # seconds without an answer of the scheduler, or without a worker, that end the wait
LOGS = "DASK_LOGGING__DISTRIBUTED"


def results(client: Any, futures: Sequence[Any]) -> list[Any]:
    """Wait for tasks and return their results.

    Raises
    ------
    SolverFailed
        The workers of a task died, no worker is left for `GONE` seconds, or the scheduler is gone or gives no
        answer for `GONE` seconds. Errors of the task itself are raised unchanged.
    """
    from concurrent.futures import CancelledError

    from distributed.scheduler import KilledWorker

    try:
        return list(client.sync(_watched, client, futures))
    except KilledWorker as error:
        raise SolverFailed(f"workers: died again and again, out of memory? {error}") from error
    except CancelledError as error:
        why = str(error).splitlines()[0] if str(error) else "no reason was given"
        raise SolverFailed(f"workers: the scheduler is gone or cancelled the task: {why}") from error


async def _watched(client: Any, futures: Sequence[Any]) -> Sequence[Any]:
    """Gather results, and look in between whether scheduler and workers are there."""
    gathering = asyncio.ensure_future(client.gather(futures, asynchronous=True))
    # left alone it ends with the client; a cancellation would be logged by dask's own tasks in it
    gathering.add_done_callback(lambda task: task.cancelled() or task.exception())
    seen = time.monotonic()
    while not (await asyncio.wait({gathering}, timeout=LOOK))[0]:
        if await threads_of(client):
            seen = time.monotonic()
        elif time.monotonic() - seen > GONE:
            raise SolverFailed(f"workers: none is left for {GONE:g} seconds")
    return await gathering


async def threads_of(client: Any) -> dict[str, int]:
    """Return the number of threads of each worker, by its address.

    Raises
    ------
    SolverFailed
        The scheduler is gone, or gives no answer for `GONE` seconds.
    """
    try:
        found: dict[str, int] = await asyncio.wait_for(client.scheduler.ncores(), GONE)
        return found
    except TimeoutError as error:
        raise SolverFailed(f"workers: the scheduler gave no answer for {GONE:g} seconds") from error
    except OSError as error:
        raise SolverFailed("workers: the scheduler is gone") from error


@contextmanager
def without_logs() -> Iterator[None]:
    """Keep the logs of Dask from the terminal inside the block, unless its configuration asks for logs.

    A scheduler or worker that is lost fills pages there; what it means is raised, and said in one line.
    """
    loggers: list[logging.Logger] = []
    with suppress(ImportError):  # who needs it says so
        import dask
        import distributed  # noqa: F401  # sets the levels when it is first imported

        if not dask.config.get("logging", None):
            loggers = [logging.getLogger(name) for name in ("distributed", "distributed.client")]
    if not loggers:
        yield
        return
    before = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL + 1)
        os.environ[LOGS] = "critical"  # for the processes of workers
        yield
    finally:
        os.environ.pop(LOGS, None)
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
