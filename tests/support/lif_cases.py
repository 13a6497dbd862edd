"""One layer of LIF neurons with random currents, leaks and thresholds, and what is near."""

import torch

SHAPE = (9, 7, 5)  # steps, samples, units


def case(seed=0, shape=SHAPE, dtype=torch.float64, device="cpu"):
    """Return currents, a leak and a threshold for every unit, and what is wanted of the spikes."""
    make = torch.Generator().manual_seed(seed)
    current = torch.randn(shape, generator=make, dtype=torch.float64) + 0.3
    leak = torch.rand(shape[-1:], generator=make, dtype=torch.float64)
    threshold = 0.5 + torch.rand(shape[-1:], generator=make, dtype=torch.float64)
    wanted = torch.randn(shape, generator=make, dtype=torch.float64)
    return [x.to(device, dtype) for x in (current, leak, threshold, wanted)]


def close(found, expected, tolerance):
    for one, other in zip(found, expected, strict=True):
        assert (one.cpu() - other.cpu()).abs().max() <= tolerance * max(1.0, other.abs().max())
