"""Dask workers on this machine: processes with equal shares of the threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from convexsnn.errors import ProblemFileError
from convexsnn.files import TemporaryFolder
from convexsnn.threads import BLAS, OPENMP, SAFE, VARIABLE, threads

BEFORE_START = "distributed.nanny.pre-spawn-environ"
_scratch: list[TemporaryFolder] = []  # until the process ends


@contextmanager
def _worker_variables(share: int) -> Iterator[None]:
    """Start workers inside the block with `share` threads for BLAS, and no module from the present folder.

    Dask also sets these variables in the present process; at the end of the block they are restored. The
    variable of OpenMP is not among them: dask sets it again at every restart of a worker, and the number of
    threads of the present process would change.
    """
    import dask

    names = (*BLAS.values(), *SAFE)
    before = {name: os.environ.get(name) for name in names}
    variables = {**dask.config.get(BEFORE_START), **dict.fromkeys(BLAS.values(), share), **SAFE, OPENMP: None}
    try:
        # now, too: a process that dask starts beside its workers takes the variables as they are
        os.environ.update(SAFE)
        with dask.config.set({BEFORE_START: variables}):
            yield
    finally:
        for name in before:
            os.environ.pop(name, None)
        os.environ.update({name: text for name, text in before.items() if text is not None})


def start_workers(make: Callable[..., Any], workers: int) -> Any:
    """Return a client that owns a cluster of processes on this machine, each with an equal share of threads.

    Raises
    ------
    ProblemFileError
        Processes do not start.
    """
    import dask

    # otherwise dask may give up a worker for good that died twice and is just restarting
    dask.config.set({"distributed.deploy.lost-worker-timeout": "1000d"})
    # for lock files, which dask never removes; made before dask's own exit functions, so that it goes after
    scratch = TemporaryFolder()
    _scratch.append(scratch)
    share = max(1, threads() // workers)
    try:
        with dask.config.set({"temporary-directory": str(scratch.path)}), _worker_variables(share):
            return make(
                n_workers=workers, threads_per_worker=1, env={VARIABLE: share},
                processes=True, host="127.0.0.1",
                # without a dashboard its server still runs, on port 8787 if no other port is set
                dashboard_address="127.0.0.1:0", scheduler_kwargs={"dashboard": False},
            )  # fmt: skip
    except RuntimeError as error:
        raise ProblemFileError(
            'workers: processes do not start; a script needs `if __name__ == "__main__":` around its call'
        ) from error
