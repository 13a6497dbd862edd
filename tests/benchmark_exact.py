"""Enumeration, certificates over all patterns, closed form: sizes and times, with a warm-up before each.

Run with ``python tests/benchmark_exact.py``; ``--long`` adds what takes minutes. Numbers are reported, not
asserted. The peer of enumeration is the enumerator of the tests, one HiGHS linear program a check.
"""

import argparse
import resource
import time

import numpy as np
from naive_enumeration import naive_patterns

import convexsnn
from convexsnn.dictionary.dictionary import Definition
from convexsnn.networks import LayerSpec, NetworkSpec
from convexsnn.pricing.enumeration import cell_trains, enumerate_patterns, exact_units

CERTIFIED = (
    (20, 4, 6, 0.09656837197868806),
    (40, 3, 4, 0.11400533528322696),
    (40, 3, 6, 0.12710079220233297),
)


def timed(action):
    begun = time.perf_counter()
    found = action()
    return found, time.perf_counter() - begun


def enumeration(n, steps, d, against_naive):
    inputs = np.random.default_rng(0).standard_normal((n, steps, d))
    spec, definition = LayerSpec(leak=(0.9,)), Definition(1e-3, 5.0)

    def ours():
        return enumerate_patterns(exact_units(inputs, NetworkSpec((spec,)), definition, cell_trains), 10**6)

    ours()
    found, seconds = timed(ours)
    line = (
        f"enumeration n={n} T={steps} d={d}: {found.cells} cells, {found.patterns} patterns, {seconds:.4f} s"
    )
    if against_naive:
        known, slow = timed(lambda: naive_patterns(inputs, spec, definition))
        same = len(known) == found.patterns
        line += f"; one LP a check {slow:.1f} s, {slow / seconds:.0f} times as long, same number: {same}"
    print(line, flush=True)


def lif(n, steps, d, regularization):
    rng = np.random.default_rng(0)
    inputs, targets = rng.standard_normal((n, steps, d)), rng.standard_normal(n)
    return convexsnn.Problem.from_arrays(
        inputs, targets, layers=[{"leak": 0.9}], training={"regularization": regularization},
        dictionary={"source": "column_generation", "margin": 1e-3, "weight_box": 5.0},
        name=f"LIF n={n} T={steps} d={d}",
    )  # fmt: skip


def threshold(n, d, source, bias=False, fraction=0.1, rng=0):
    rng = np.random.default_rng(rng)
    inputs, targets = rng.standard_normal((n, 1, d)), rng.standard_normal(n)
    return convexsnn.Problem.from_arrays(
        inputs, targets, layers=[{"neuron": "threshold", "bias": bias}],
        training={"regularization_fraction": fraction}, dictionary={"source": source},
        name=f"threshold n={n} d={d}{' + bias' if bias else ''}, {source}",
    )  # fmt: skip


def certificate(problem, time_limit=None):
    result, seconds = timed(lambda: convexsnn.train(problem, time_limit=time_limit))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(
        f"{problem.name}: {result.status}, objective {result.certificate.objective:.10f}, lower bound "
        f"{result.certificate.lower_bound:.10f}, gap {result.certificate.gap:.2g}, "
        f"{result.lowered.dictionary.patterns} patterns, {result.network.units} units, {seconds:.2f} s "
        f"(solving {result.seconds['solve']:.4f} s), peak memory so far {memory:.2f} GB",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--long", action="store_true", help="also what takes minutes")
    long = parser.parse_args().long
    enumeration(20, 4, 2, long)
    enumeration(8, 3, 3, long)
    convexsnn.train(lif(8, 2, 2, 0.1))
    for sizes in CERTIFIED[: 3 if long else 2]:
        certificate(lif(*sizes))
    certificate(threshold(20, 100, "exact"))
    certificate(threshold(50, 50, "exact"))
    certificate(threshold(704, 2, "exact", bias=True))
    if long:
        certificate(threshold(100, 20, "column_generation"), time_limit=600.0)


if __name__ == "__main__":
    main()
