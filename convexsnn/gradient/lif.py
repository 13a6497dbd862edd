"""A layer of LIF neurons in torch, with the dynamics of the simulator and a choice of three gradients.

    u_t = carry(u_{t−1}, s_{t−1}) + I_t,    s_t = 1{u_t >= θ}

With e_t = ∂L/∂s_t from the layers above, σ_t = φ'(u_t − θ) and δ_t = ∂L/∂u_t = ∂L/∂I_t,

    bptt     autograd through the unrolled loop; the reference
    exodus   δ_t = σ_t (e_t − r δ_{t+1}) + k δ_{t+1}     the same gradient by the implicit function theorem
    slayer   δ_t = σ_t e_t + k δ_{t+1}                   without the gradient through the reset

    reset            r       k
    subtract         β θ     β
    subtract_after   θ       β
    zero             β u_t   β (1 − s_t)
    none             0       β

[B22] Bauer, Lenz, Haghighatshoar, Sheik, "EXODUS: stable and efficient training of SNNs", 2022.
[S18] Shrestha & Orchard, "SLAYER: spike layer error reassignment in time", 2018.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from convexsnn.arrays import choice, positive
from convexsnn.errors import ShapeError
from convexsnn.fields import keys_of
from convexsnn.gradient import kernels_cpu, kernels_torch
from convexsnn.gradient.surrogate import Surrogate
from convexsnn.networks.neurons import RESETS
from convexsnn.problem.specs import GradientSpec

GRADIENTS = tuple(keys_of(GradientSpec)["method"].choices)
BACKENDS = ("auto", "fused", "torch")


class _Spike(torch.autograd.Function):
    """1{x >= 0} with the slope of a surrogate as its derivative."""

    @staticmethod
    def forward(context: Any, distance: Tensor, surrogate: Surrogate, scale: float) -> Tensor:
        context.save_for_backward(distance)
        context.surrogate, context.scale = surrogate, scale
        return (distance >= 0).to(distance.dtype)

    @staticmethod
    def backward(context: Any, *grads: Tensor) -> Any:
        (distance,) = context.saved_tensors
        return grads[0] * context.scale * context.surrogate.slope(distance), None, None


def spike(distance: Tensor, surrogate: Surrogate, scale: float = 1.0) -> Tensor:
    """Return 1{x >= 0} as 0.0 and 1.0; its gradient is the surrogate's."""
    return _Spike.apply(distance, surrogate, scale)


class _Adjoint(torch.autograd.Function):
    """The whole layer as one autograd function; `kernels` has its forward and backward pass."""

    @staticmethod
    def forward(
        context: Any, current: Tensor, leak: Tensor, threshold: Tensor, settings: Any, kernels: Any
    ) -> Tensor:
        membranes, spikes = kernels.forward(current, leak, threshold, settings[0])
        context.save_for_backward(membranes, leak, threshold)
        context.settings, context.kernels = settings, kernels
        return spikes

    @staticmethod
    @once_differentiable  # second derivatives are not implemented; an error is better than a wrong value
    def backward(context: Any, *grads: Tensor) -> Any:
        parameters = any(context.needs_input_grad[1:3])
        gradients = context.kernels.backward(
            grads[0].contiguous(), *context.saved_tensors, *context.settings, parameters
        )
        return *gradients, None, None


class _Smooth(torch.autograd.Function):
    """The layer with φ in place of the spike, to compare its adjoint with its exact gradient."""

    @staticmethod
    def forward(
        context: Any, current: Tensor, leak: Tensor, threshold: Tensor, settings: Any, surrogate: Surrogate
    ) -> Tensor:
        membranes, spikes = torch.empty_like(current), torch.empty_like(current)
        carry = torch.zeros_like(current[0])
        for t in range(len(current)):
            membranes[t] = carry + current[t]
            spikes[t] = surrogate.integral(membranes[t] - threshold)
            carry = kernels_torch.carried(membranes[t], spikes[t], leak, threshold, settings[0])
        context.save_for_backward(membranes, spikes, leak, threshold)
        context.settings = settings
        return spikes

    @staticmethod
    @once_differentiable  # second derivatives are not implemented; an error is better than a wrong value
    def backward(context: Any, *grads: Tensor) -> Any:
        return *kernels_torch.adjoint(grads[0], *context.saved_tensors, *context.settings), None, None


def _unrolled(
    current: Tensor, leak: Tensor, threshold: Tensor, reset: int, surrogate: Surrogate, scale: float,
    smooth: bool,
) -> Tensor:  # fmt: skip
    carry, spikes = torch.zeros_like(current[0]), []
    for step in current:
        membrane = carry + step
        distance = membrane - threshold
        spikes.append(surrogate.integral(distance) if smooth else spike(distance, surrogate, scale))
        carry = kernels_torch.carried(membrane, spikes[-1], leak, threshold, reset)
    return torch.stack(spikes)


def _kernels(current: Tensor, backend: str) -> Any:
    """Return the kernel module: numba on the CPU, Triton on a GPU, plain torch on other devices."""
    if backend == "torch":
        return kernels_torch
    if current.device.type == "cpu" and current.dtype in (torch.float32, torch.float64):
        return kernels_cpu
    if current.device.type == "cuda":
        try:
            from convexsnn.gradient import kernels_triton

            return kernels_triton
        except ImportError:
            pass
    if backend == "fused":
        raise ShapeError(f"backend: 'fused' has no kernels for {current.dtype} on {current.device}")
    return kernels_torch


def _real(name: str, value: Any, current: Tensor) -> Tensor:
    try:
        tensor = torch.as_tensor(value)
        if tensor.is_complex():
            raise TypeError("complex numbers")
    except (TypeError, ValueError, RuntimeError) as error:
        raise ShapeError(f"{name}: expected real numbers, got {value!r}") from error
    return tensor.to(current)


def _each_neuron(name: str, value: Tensor | float, current: Tensor) -> Tensor:
    """Return one value per neuron, flat. `expand` is differentiable: gradients are summed over samples."""
    if isinstance(value, float | int):
        return current.new_full((current[0].numel(),), value)  # created on the device, without a copy
    tensor = _real(name, value, current)
    try:
        each = tensor.expand(current.shape[1:])
    except RuntimeError as error:
        reason = f"{tuple(tensor.shape)} does not fit current {tuple(current.shape)}"
        raise ShapeError(f"{name}: {reason}") from error
    return each.reshape(-1).contiguous()


def lif(
    current: Tensor,
    leak: Tensor | float,
    threshold: Tensor | float = 1.0,
    *,
    reset: str = "subtract",
    surrogate: Surrogate | None = None,
    gradient: str = "exodus",
    scale: float = 1.0,
    smooth: bool = False,
    backend: str = "auto",
) -> Tensor:
    """Return the spikes of a layer of LIF neurons, as 0.0 and 1.0.

    Parameters
    ----------
    current : (T, ..., m) tensor
        Input current of every step; time is the first dimension.
    leak, threshold : float, or tensor that broadcasts to (..., m)
        β and θ; both may require gradients.
    reset : {"subtract", "subtract_after", "zero", "none"}
    surrogate : Surrogate, optional
        Default: an arctangent of width 1.
    gradient : {"exodus", "bptt", "slayer"}
    scale : float
        Factor of the surrogate's slope; the gradient scale of SLAYER.
    smooth : bool
        Replace the spike by the surrogate's integral. The layer then no longer spikes, but finite
        differences can check its gradient. `scale` has no effect.
    backend : {"auto", "fused", "torch"}
        Implementation of exodus and slayer: fused kernels if available, or single steps in torch.

    Raises
    ------
    ShapeError
        A name is not one of the above, the current lacks time or units, a leak or threshold is not real or
        does not fit the current, or the device has no fused kernels.
    """
    choice("reset", reset, RESETS)
    choice("gradient", gradient, GRADIENTS)
    choice("backend", backend, BACKENDS)
    positive("scale", scale)
    if surrogate is not None and not isinstance(surrogate, Surrogate):
        raise ShapeError(f"surrogate: expected a Surrogate, got {surrogate!r}")
    if not isinstance(current, Tensor):
        raise ShapeError(f"current: expected a torch tensor (T, ..., m), got {type(current).__name__}")
    if current.ndim < 2 or not current.numel() or not current.is_floating_point():
        raise ShapeError(f"current: expected floats (T, ..., m), got {current.dtype} {tuple(current.shape)}")
    surrogate, code = surrogate or Surrogate(), RESETS.index(reset)
    flat = [_each_neuron(name, p, current) for name, p in (("leak", leak), ("threshold", threshold))]
    if gradient == "bptt":
        beta, theta = (_real(name, p, current) for name, p in (("leak", leak), ("threshold", threshold)))
        return _unrolled(current, beta, theta, code, surrogate, scale, smooth)
    # a smooth layer has its exact slope, without a factor
    settings: tuple[Any, ...] = code, gradient == "exodus", surrogate, 1.0 if smooth else scale
    table = current.reshape(len(current), -1).contiguous()
    if smooth:
        spikes = _Smooth.apply(table, *flat, settings, surrogate)
    else:
        spikes = _Adjoint.apply(table, *flat, settings, _kernels(current, backend))
    return spikes.reshape(current.shape)
