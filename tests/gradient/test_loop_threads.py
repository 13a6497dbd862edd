"""torch uses the number of threads of the package while it trains, and no kernel uses more."""

import pytest

torch = pytest.importorskip("torch")

from convexsnn.gradient import kernels_cpu  # noqa: E402
from convexsnn.gradient.loop import torch_threads  # noqa: E402
from convexsnn.threads import VARIABLE, use_threads  # noqa: E402


def test_torch_uses_the_number_while_it_trains(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    before = torch.get_num_threads()
    with torch_threads():
        assert torch.get_num_threads() == before
    monkeypatch.setenv(VARIABLE, str(before + 1))
    with torch_threads():
        assert torch.get_num_threads() == before + 1
    with pytest.raises(ValueError, match="wrong"), use_threads(before + 2), torch_threads():
        assert torch.get_num_threads() == before + 2
        raise ValueError("wrong")
    assert torch.get_num_threads() == before


def test_the_kernels_use_no_more_threads_than_torch(monkeypatch):
    for limit, parts in ((1, 1), (2, 2), (9, 3)):
        monkeypatch.setattr(torch, "get_num_threads", lambda limit=limit: limit)
        seen = []
        with use_threads(3):
            kernels_cpu._share(lambda low, high: seen.append((low, high)), 10 * kernels_cpu.WORTH)  # noqa: B023
        assert len(seen) == parts
