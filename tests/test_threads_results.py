"""No result depends on the number of threads."""

import numpy as np
import pytest

import convexsnn
from convexsnn.bits import PackedBits
from convexsnn.blocks import box_qp, chains, lifted_chains
from convexsnn.problem import Problem
from convexsnn.threads import use_threads

COUNTS = (1, 2, 3, 8)


def same_for_all(compute):
    answers = []
    for count in COUNTS:
        with use_threads(count):
            answers.append(compute())
    for answer in answers[1:]:
        for one, other in zip(answers[0], answer, strict=True):
            assert np.array_equal(one, other)


def test_products_with_bits_are_the_same_to_the_bit(monkeypatch):
    monkeypatch.setattr("convexsnn.bits.WORTH", 1)
    rng = np.random.default_rng(0)
    bits = PackedBits.from_array(rng.random((203, 117)) < 0.3)
    w, u = rng.standard_normal((117, 2)), rng.standard_normal((203, 2))
    same_for_all(lambda: (bits @ w, bits.transpose_times(u)))


def test_blocks_of_admm_are_the_same_to_the_bit(monkeypatch):
    for one in (box_qp, chains, lifted_chains):
        monkeypatch.setattr(one, "WORTH", 1)
    rng = np.random.default_rng(1)
    drive, spikes = rng.normal(size=(2, 41, 5, 3))
    same_for_all(lambda: (chains.chain_membranes(drive, spikes, 0.8, 1.0, 1.0, 2.0),))
    same_for_all(lambda: (lifted_chains.lifted_membranes(drive, spikes, 0.8, 1.0, 1.0, 2.0),))


def test_gradients_are_the_same_to_the_bit(monkeypatch):
    torch = pytest.importorskip("torch")
    from convexsnn.gradient import kernels_cpu
    from convexsnn.gradient.lif import lif
    from convexsnn.gradient.surrogate import Surrogate

    monkeypatch.setattr(kernels_cpu, "WORTH", 1)
    current = torch.randn(9, 13, 77, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    surrogate = Surrogate("gaussian", 0.7)  # the exponential is the one that may round by its place

    def both():
        given = current.clone().requires_grad_()
        spikes = lif(given, torch.tensor(0.9), torch.tensor(0.5), gradient="exodus", surrogate=surrogate)
        (spikes * current).sum().backward()
        return spikes.detach().numpy(), given.grad.numpy()

    monkeypatch.setattr(torch, "get_num_threads", lambda: max(COUNTS))  # torch's number limits the kernels'
    same_for_all(both)


@pytest.mark.parametrize("oracle", ["cells", "tree"])
def test_a_training_is_the_same(oracle):
    rng = np.random.default_rng(6)
    test_problem = Problem.from_arrays(
        rng.normal(size=(9, 3, 2)), rng.normal(size=9), layers=[{}],
        training={"loss": "squared", "regularization": 0.05},
        dictionary={"source": "column_generation", "margin": 1e-3, "weight_box": 5.0, "oracle": oracle},
    )  # fmt: skip

    def train():
        result = convexsnn.train(test_problem)
        return [
            np.array([result.certificate.objective, result.claim.oracle_bound]),
            result.network.output_weights,
        ]

    same_for_all(train)
