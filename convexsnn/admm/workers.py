"""Dask workers on this machine: processes that get equal shares of the threads."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from convexsnn.errors import ProblemFileError
from convexsnn.threads import BLAS, OPENMP, VARIABLE, threads

BEFORE_START = "distributed.nanny.pre-spawn-environ"


@contextmanager
def _worker_variables(share: int) -> Iterator[None]:
    """Let dask start workers whose linear algebra uses `share` threads, unless its own variables are set.

    Dask sets the variables in this process too; here they are taken back. OpenMP's is left out, since dask
    sets it again whenever it starts a lost worker anew: then our own number of threads would change.
    """
    import dask

    before = {name: os.environ.get(name) for name in BLAS.values()}
    variables = {**dask.config.get(BEFORE_START), **dict.fromkeys(before, share), OPENMP: None}
    try:
        with dask.config.set({BEFORE_START: variables}):
            yield
    finally:
        for name in before:
            os.environ.pop(name, None)
        os.environ.update({name: text for name, text in before.items() if text is not None})


def start_workers(make: Callable[..., Any], workers: int) -> Any:
    """Return a client that owns a cluster of `workers` processes on this machine, which share our threads.

    Raises
    ------
    ProblemFileError
        Processes do not start.
    """
    import dask

    # else a worker that dies twice is given up for good if it is just starting again when dask looks
    dask.config.set({"distributed.deploy.lost-worker-timeout": "1000d"})
    scratch = tempfile.mkdtemp(prefix="convexsnn-")  # dask leaves locks in the system's folder for good
    # done at exit, and after all that dask does there, since this is registered before
    weakref.finalize(start_workers, shutil.rmtree, scratch, ignore_errors=True)
    share = max(1, threads() // workers)
    try:
        with dask.config.set({"temporary-directory": scratch}), _worker_variables(share):
            return make(
                n_workers=workers, threads_per_worker=1, env={VARIABLE: share},
                processes=True, host="127.0.0.1",
                # no dashboard; its server is there all the same, and without a port of its own takes 8787
                dashboard_address="127.0.0.1:0", scheduler_kwargs={"dashboard": False},
            )  # fmt: skip
    except RuntimeError as error:
        raise ProblemFileError(
            'workers: processes do not start; a script needs `if __name__ == "__main__":` before what it does'
        ) from error
