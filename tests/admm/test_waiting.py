"""The wait for a cluster's results: it goes on while scheduler and workers live, and else ends."""

import asyncio
import logging
import os

import pytest

from convexsnn.admm import waiting
from convexsnn.admm.cluster import on_dask
from convexsnn.errors import SolverFailed

pytest.importorskip("distributed")


class Fake:
    """A client whose results come after some looks at the scheduler, which answers from a list or never."""

    def __init__(self, looks, answers, silent=None):
        self.looks, self.answers, self.silent, self.asked = looks, answers, silent, 0
        self.scheduler = self

    def sync(self, work, *arguments):
        return asyncio.run(work(*arguments))

    async def gather(self, futures, asynchronous):
        assert asynchronous
        while self.looks is None or self.asked < self.looks:
            await asyncio.sleep(0)
        return [f"result of {one}" for one in futures]

    async def ncores(self):
        self.asked += 1
        if self.silent == "frozen":
            await asyncio.Event().wait()
        if self.silent:
            raise OSError("connection closed")
        return self.answers[min(self.asked, len(self.answers)) - 1]


@pytest.fixture(autouse=True)
def limits(monkeypatch):
    monkeypatch.setattr(waiting, "LOOK", 1e-4)
    monkeypatch.setattr(waiting, "GONE", 0.01)


@pytest.mark.parametrize("looks", [0, 1, 300])
def test_a_task_may_take_long_while_scheduler_and_workers_live(looks):
    client = Fake(looks, [{"worker": 1}])
    assert waiting.results(client, ["a", "b"]) == ["result of a", "result of b"]
    assert client.asked >= looks


def test_workers_may_come_back(monkeypatch):
    monkeypatch.setattr(waiting, "GONE", 1e9)
    client = Fake(9, [{}, {}, {}, {"worker": 1}])
    assert waiting.results(client, ["a"]) == ["result of a"]


@pytest.mark.parametrize("before", [[], [{"worker": 1}, {"worker": 1}]])
def test_without_a_worker_the_wait_ends(before):
    client = Fake(None, [*before, {}])
    with pytest.raises(SolverFailed, match=r"^workers: none is left for 0\.01 seconds$"):
        waiting.results(client, ["a"])
    assert client.asked > len(before)


@pytest.mark.parametrize(
    "silent, said",
    [("frozen", r"gave no answer for 0\.01 seconds"), ("closed", "is gone")],
)
def test_a_scheduler_that_gives_no_answer_ends_every_wait(silent, said):
    client, said = Fake(None, [], silent), f"^workers: the scheduler {said}$"
    with pytest.raises(SolverFailed, match=said):
        waiting.results(client, ["a"])
    with pytest.raises(SolverFailed, match=said):
        on_dask(client)(None, range(3))  # the number of shards is the number of workers


@pytest.mark.parametrize("logging_wanted", [None, {"distributed": "info"}])
def test_logs_of_dask_stay_from_the_terminal_unless_they_are_asked_for(monkeypatch, logging_wanted):
    import dask

    monkeypatch.delenv(waiting.LOGS, raising=False)
    loggers = [logging.getLogger(name) for name in ("distributed", "distributed.client")]
    before = [logger.level for logger in loggers]
    with dask.config.set(logging=logging_wanted), waiting.without_logs():
        quiet = [not logger.isEnabledFor(logging.CRITICAL) for logger in loggers]
        assert quiet == [logging_wanted is None] * 2
        assert os.environ.get(waiting.LOGS) == ("critical" if logging_wanted is None else None)
    assert waiting.LOGS not in os.environ
    assert [logger.level for logger in loggers] == before
