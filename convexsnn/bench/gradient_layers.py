"""One LIF layer and a whole training step, by each gradient: time, distance from autograd, peak memory.

`bptt` is autograd through a loop that takes the steps apart once; `bptt_indexed` is the usual loop
with current[t], where the gradient of every index is an array of all steps. Every pair of a size and a method
runs in its own process, so that its peak memory is separate.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from convexsnn.errors import ConvexSNNError
from convexsnn.gradient.lif import lif, spike
from convexsnn.gradient.surrogate import Surrogate
from convexsnn.threads import environment, python

LEAK, SPREAD, RATE = 0.9, 0.5, 0.03
SIZES = (700, 128, 128, 35)  # of [B22] for spoken commands, all LIF
TOUCHED = 6  # numbers that go through memory per neuron and step: I, u, s forward; ∂L/∂s, u, ∂L/∂I backward
Row = dict[str, Any]


def _indexed(current: Tensor, leak: float) -> Tensor:
    carry, spikes, surrogate = torch.zeros_like(current[0]), [], Surrogate()
    for t in range(len(current)):
        membrane = carry + current[t]
        spikes.append(spike(membrane - 1.0, surrogate))
        carry = leak * (membrane - spikes[-1])
    return torch.stack(spikes)


METHODS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "bptt": partial(lif, gradient="bptt"),
    "bptt_indexed": _indexed,
    "exodus": partial(lif, gradient="exodus"),
    "slayer": partial(lif, gradient="slayer"),
}


def _peak(device: str) -> float:
    """Return the peak memory so far, in bytes."""
    if device == "cuda":
        return float(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0


def _before(method: str, device: str) -> float:
    """Return `_peak` after a method's kernels are compiled and loaded, so that these do not count."""
    current = torch.zeros(2, 3, 4, device=device, requires_grad=True)
    METHODS[method](current, LEAK).backward(torch.ones_like(current))
    return _peak(device)


def _timed(run: Callable[[], object], repeat: int, device: str) -> list[float]:
    """Return the seconds of every run except the first (warm-up)."""
    seconds = []
    for _ in range(repeat + 1):
        begun = time.perf_counter()
        run()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begun)
    return seconds[1:]


def _far(gradients: Sequence[Tensor], reference: Sequence[Tensor]) -> float:
    """Return the largest difference of gradients over the largest entry of the reference."""
    pairs = list(zip(gradients, reference, strict=True))
    return max(float((one - other).abs().max()) for one, other in pairs) / max(
        float(other.abs().max()) for _, other in pairs
    )


def layer_row(method: str, steps: int, batch: int, units: int, repeat: int, device: str) -> Row:
    """Measure one LIF layer, forward and backward.

    Returns
    -------
    dict
        Median seconds and those of all runs, bytes at the peak beyond the data, difference of ∂L/∂I from
        autograd's, and the share of the bandwidth of a copy that reading and writing once would take.
    """
    torch.manual_seed(0)
    current = (torch.randn(steps, batch, units) * SPREAD).to(device).requires_grad_()
    output_gradient = torch.randn(steps, batch, units).to(device)

    def gradient(name: str) -> Tensor:
        current.grad = None
        METHODS[name](current, LEAK).backward(output_gradient)
        assert current.grad is not None
        return current.grad

    before = _before(method, device)
    seconds = _timed(lambda: gradient(method), repeat, device)
    peak = _peak(device) - before
    far = _far([gradient(method).clone()], [gradient("bptt")])
    copied = output_gradient.clone()
    copy = statistics.median(_timed(lambda: copied.copy_(output_gradient), max(repeat, 5), device))
    middle = statistics.median(seconds)
    share = TOUCHED / 2 * copy / middle  # a copy reads once and writes once
    return {"seconds": middle, "runs": seconds, "difference": far, "peak_bytes": peak, "of_copy": share}


def step_row(method: str, steps: int, batch: int, repeat: int, device: str) -> Row:
    """Measure a training step of three LIF layers, 700 → 128 → 128 → 35: forward, backward, Adam.

    The difference is that of the first step's gradients.
    """
    torch.manual_seed(0)
    inputs = (torch.rand(steps, batch, SIZES[0]) < RATE).float().to(device)
    labels = torch.randint(SIZES[-1], (batch,)).to(device)
    start = [torch.randn(b, a) * 3.0 / a**0.5 for a, b in zip(SIZES, SIZES[1:], strict=False)]

    def parameters() -> list[nn.Parameter]:
        return [nn.Parameter(one.to(device)) for one in start]

    def backward(weights: Sequence[nn.Parameter], name: str) -> None:
        signal = inputs
        for one in weights:
            signal = METHODS[name](nn.functional.linear(signal, one), LEAK)
        nn.functional.cross_entropy(signal.sum(dim=0), labels).backward()

    weights = parameters()
    optimizer = torch.optim.Adam(weights, 1e-4)

    def step() -> None:
        optimizer.zero_grad()
        backward(weights, method)
        optimizer.step()

    before = _before(method, device)
    seconds = _timed(step, repeat, device)
    peak = _peak(device) - before
    pair = parameters(), parameters()
    for copy, name in zip(pair, (method, "bptt"), strict=True):
        backward(copy, name)
    far = _far(*([p.grad for p in copy if p.grad is not None] for copy in pair))
    return {"seconds": statistics.median(seconds), "runs": seconds, "difference": far, "peak_bytes": peak}


def _alone(what: str, **arguments: Any) -> Row:
    """Measure in a fresh process, which ends with this one.

    Raises
    ------
    ConvexSNNError
        The process failed; the message has its last line.
    """
    command = python("convexsnn.bench.gradient_layers", json.dumps([what, arguments]))
    reading, writing = os.pipe()  # nothing is written: it closes when this process ends, however that ends
    try:
        process = subprocess.run(command, stdin=reading, capture_output=True, text=True, env=environment())
    finally:
        os.close(reading)
        os.close(writing)
    if process.returncode:
        last = process.stderr.strip().splitlines()[-1:] or [f"exit status {process.returncode}"]
        raise ConvexSNNError(f"steps: {arguments['steps']}, {arguments['method']}: {last[0]}")
    row: Row = json.loads(process.stdout)
    return row


def run_all(what: str, sizes: Sequence[Row], report: Callable[[Row], None], **common: Any) -> list[Row]:
    """Measure every method at every size, and its speed-up over both loops.

    Parameters
    ----------
    what : {"layer", "step"}
    sizes : sequence of dict
        Arguments of `layer_row` or `step_row` that differ, `steps` among them.
    report : callable
        Called with every row.
    common
        Arguments common to all rows.

    Raises
    ------
    ConvexSNNError
        A process failed.
    """
    rows: list[Row] = []
    for size in sizes:
        row_of: dict[str, Row] = {}
        for method in METHODS:
            row_of[method] = {**size, "method": method, **_alone(what, method=method, **size, **common)}
        for row in row_of.values():
            row["speed_up"] = row_of["bptt"]["seconds"] / row["seconds"]
            row["speed_up_indexed"] = row_of["bptt_indexed"]["seconds"] / row["seconds"]
            rows.append(row)
            report(row)
    return rows


if __name__ == "__main__":
    from convexsnn.bench.worker import leave_with_parent

    leave_with_parent()
    kind, arguments = json.loads(sys.argv[1])
    print(json.dumps((layer_row if kind == "layer" else step_row)(**arguments)))
