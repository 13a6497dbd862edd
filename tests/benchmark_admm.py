"""ADMM on event-MNIST: accuracy beside surrogate gradients, its variants, cost beside BLAS, memory.

Run with ``python tests/benchmark_admm.py accuracy``, ``variants``, ``cost`` or ``memory``. Numbers are
reported, not asserted. Surrogate gradients are the package's own and need torch: the same network, Adam with
a cosine schedule, arctangent surrogate.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from convexsnn.admm.result import judge, train_admm
from convexsnn.admm.training import AdmmTraining
from convexsnn.problem import Problem, load_problem
from convexsnn.problem.specs import GradientSpec

PEER = GradientSpec(epochs=20, batch=100, learning_rate=1e-3)


def surrogate_gradient(problem, seed=0):
    """Return what the simulator says of the same network, trained by the package's own gradients."""
    from convexsnn.gradient.training import train_gradient

    return judge(problem, train_gradient(replace(problem, gradient=replace(PEER, seed=seed))).network)


def accuracy(depths, seeds):
    """Report test accuracy of both on the problems that come with the package."""
    for depth in depths:
        problem = load_problem(f"event-mnist-admm-{depth}")
        ours, theirs = [], []
        for seed in range(seeds):
            begun = time.perf_counter()
            result = train_admm(replace(problem, admm=replace(problem.admm, seed=seed)))
            middle = time.perf_counter()
            peer = surrogate_gradient(problem, seed)
            ended = time.perf_counter()
            ours.append(result.judged.test_accuracy)
            theirs.append(peer.test_accuracy)
            print(
                f"{depth} hidden, seed {seed}: ADMM train {result.judged.train_accuracy:.4f} "
                f"test {ours[-1]:.4f} ({middle - begun:.0f} s); surrogate gradient train "
                f"{peer.train_accuracy:.4f} test {theirs[-1]:.4f} ({ended - middle:.0f} s)",
                flush=True,
            )
        share = np.mean(ours) / np.mean(theirs)
        print(
            f"{depth} hidden: {np.mean(ours):.4f} / {np.mean(theirs):.4f} = {share:.4f}, target 0.97",
            flush=True,
        )


def events(samples, layers=1, width=256, **admm):
    """Return event-MNIST with some of its samples, for full batches."""
    from convexsnn.tasks import event_mnist

    data = event_mnist(train=4000)
    return Problem.from_arrays(
        data["inputs"][:samples], data["targets"][:samples],
        layers=[{"leak": 0.9, "bias": True, "width": width}] * layers,
        training={"method": "admm", "loss": "softmax"}, network={"readout": "output_membrane"},
        admm={"precision": "float32", **admm},
        test_inputs=data["test_inputs"], test_targets=data["test_targets"],
    )  # fmt: skip


def variants(samples, iterations):
    """Report every variant on the same data, full batches for those that keep state."""
    for name in ("published", "eliminated", "proximal", "restarted", "lifted"):
        batch = {"batch": 250, "spike_steps": 8} if name == "lifted" else {}
        problem = events(samples, iterations=iterations, variant=name, tolerance=1e-12, **batch)
        begun = time.perf_counter()
        try:
            result = train_admm(problem)
        except Exception as error:  # a variant that breaks down is a finding, not an end
            print(f"{name:<11} {error}", flush=True)
            continue
        last = result.run.history[-1]
        print(
            f"{name:<11} train {result.judged.train_accuracy:.4f} test {result.judged.test_accuracy:.4f}, "
            f"primal {last.primal_residual:.2g} dual {last.dual_residual:.2g}, "
            f"{time.perf_counter() - begun:.0f} s",
            flush=True,
        )


def blas_seconds(problem, products, dtype):
    """Time the products, Gram matrices and solves of one full-batch iteration, on random numbers."""
    n, steps, d = problem.inputs.shape
    widths = [d, *(spec.width for spec in problem.network.layers)]
    rng, rows, total = np.random.default_rng(0), n * steps, 0.0

    def run(count, action):
        nonlocal total
        action()
        begun = time.perf_counter()
        action()
        total += count * (time.perf_counter() - begun)

    for k, (below, above) in enumerate(zip(widths, widths[1:], strict=False)):
        x = (rng.random((rows, below), dtype=np.float32) < 0.2).astype(dtype)
        w, e = (
            rng.standard_normal((above, below)).astype(dtype),
            rng.standard_normal((rows, above)).astype(dtype),
        )
        run(2 if k == 0 else 3, lambda x=x, w=w: x @ w.T)  # restart, simulator; above the first a residual
        run(1, lambda x=x, e=e: e.T @ x)
        gram = x.T @ x + np.eye(below, dtype=dtype) * below
        if k:
            run(1, lambda x=x: x.T @ x)
            run(1, lambda e=e, w=w: e @ w)  # targets of the spikes below
            run(1, lambda gram=gram: cho_factor(gram.astype(np.float64)))
        factor = cho_factor(gram.astype(np.float64))
        run(1, lambda factor=factor, w=w: cho_solve(factor, w.T.astype(np.float64)))
        run(1, lambda gram=gram, w=w: w.astype(np.float64) @ gram.astype(np.float64))  # how far drives move
        if k + 1 < len(widths) - 1:
            square = rng.standard_normal((above, above)).astype(dtype)
            run(products / max(1, 2 * len(widths) - 5), lambda e=e, square=square: e @ square)
    a, up = (
        rng.random((n, steps * widths[-1])).astype(dtype),
        rng.standard_normal((10, steps * widths[-1])).astype(dtype),
    )
    run(products / max(1, 2 * len(widths) - 5), lambda: (a @ up.T) @ up)
    return total


def cost():
    """Report an iteration beside the products that it must do."""
    for depth, precision in ((1, "float32"), (1, "float64"), (3, "float32")):
        problem = events(4000, depth, iterations=4, variant="lifted", spike_steps=8, precision=precision)
        history = AdmmTraining(problem).run().history
        seconds = float(np.median([one.seconds for one in history[1:]]))
        must = blas_seconds(problem, history[-1].products, np.dtype(precision))
        print(
            f"{depth} hidden, {precision}: an iteration {seconds:.2f} s, its products, Gram matrices and "
            f"solves {must:.2f} s: {seconds / must:.2f} times",
            flush=True,
        )


def peak(samples, width):
    """Print the peak memory of a training, for `memory`."""
    problem = events(
        samples, width=width, iterations=2, variant="eliminated", precision="float64", tolerance=1e-12
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    AdmmTraining(problem).run()
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"before": before, "after": after}))


def memory():
    """Report how peak memory grows with samples and units."""
    found = {}
    for samples, width in ((1000, 256), (2000, 256), (4000, 256), (4000, 512)):
        command = [sys.executable, __file__, "peak", "--samples", str(samples), "--width", str(width)]
        told = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        found[samples, width] = told["after"]
        print(f"n = {samples}, {width} units: peak {told['after'] / 1e9:.3f} GB", flush=True)
    per_unit = (found[4000, 512] - found[4000, 256]) / (4000 * 6 * 256)
    print(f"by n·T·units: {per_unit:.0f} bytes, {per_unit / 8:.1f} numbers of float64")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("accuracy", "variants", "cost", "memory", "peak"))
    parser.add_argument(
        "--depth", type=int, action="append", help="accuracy: only this number of hidden layers"
    )
    parser.add_argument("--seeds", type=int, default=1, help="accuracy: how many")
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--iterations", type=int, default=20, help="variants: how many")
    parser.add_argument("--width", type=int, default=256)
    given = parser.parse_args()
    match given.what:
        case "accuracy":
            accuracy(given.depth or [1, 2, 3], given.seeds)
        case "variants":
            variants(given.samples, given.iterations)
        case "cost":
            cost()
        case "memory":
            memory()
        case _:
            peak(given.samples, given.width)


if __name__ == "__main__":
    main()
