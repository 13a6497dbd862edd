"""Time of the simulator against the matrix products that it must do: python tests/benchmark_simulator.py."""

import time

import numpy as np

from convexsnn import LIF, Layer, Network, simulate

SAMPLES, STEPS, WIDTHS = 2000, 100, (196, 512, 512, 1024)


def seconds(work, repeats=5):
    work()  # warm-up
    taken = []
    for _ in range(repeats):
        begun = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begun)
    return min(taken), float(np.median(taken))


def main():
    rng = np.random.default_rng(0)
    layers = tuple(
        Layer((rng.standard_normal((m, d)) * 2.7 / np.sqrt(d)).astype(np.float32), LIF(1.0, 0.9))
        for d, m in zip(WIDTHS, WIDTHS[1:], strict=False)
    )
    network = Network(layers, np.zeros((WIDTHS[-1], 10)))
    inputs = (rng.random((SAMPLES, STEPS, WIDTHS[0])) < 0.2).astype(np.float32)
    fed = [inputs, *simulate(network, inputs, dtype=np.float32).spikes[:-1]]
    fed = [x.reshape(SAMPLES * STEPS, -1).astype(np.float32) for x in fed]

    def products():
        for x, layer in zip(fed, layers, strict=True):
            x @ layer.weights.T

    alone = seconds(products)
    print(f"matrix products alone        best {alone[0]:.2f} s, median {alone[1]:.2f} s")
    runs = {
        "spikes, outputs": lambda: simulate(network, inputs, dtype=np.float32),
        "and membranes read": lambda: simulate(network, inputs, dtype=np.float32).membranes,
    }
    for what, run in runs.items():
        taken = seconds(run)
        ratios = f"{taken[0] / alone[0]:.2f} x, {taken[1] / alone[1]:.2f} x"
        print(f"simulate, {what:<18} best {taken[0]:.2f} s, median {taken[1]:.2f} s ({ratios})")


if __name__ == "__main__":
    main()
