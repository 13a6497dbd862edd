"""Conversion of a network of this package to a torch module with identical spikes, and back.

The module runs the dynamics of `networks.neurons` in the order of the simulator. LIF layers without
recurrence use one of the gradients of `lif`. Threshold units are LIF units without leak or reset. Recurrent
layers, recurrent threshold units and the membrane readout are unrolled for autograd, since they depend on
spikes of their own layer. For them exodus equals bptt, and slayer omits the gradient through the reset.

[L20] Ledinauskas, Ruseckas, Juršėnas, Buračas, "Training deep spiking neural networks", 2020.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from convexsnn.errors import ShapeError
from convexsnn.gradient.kernels_torch import after_reset, carried
from convexsnn.gradient.lif import lif, spike
from convexsnn.gradient.surrogate import Surrogate
from convexsnn.networks import READOUTS, RESETS, Layer, Network


def _tensor(value: Any, dtype: torch.dtype) -> Tensor:
    return torch.tensor(np.asarray(value), dtype=dtype)


class LayerModule(nn.Module):
    """One layer; weights, bias and recurrent weights are parameters, leak and threshold optionally.

    Parameters
    ----------
    layer : Layer
        A dense layer with the starting values.
    learn_neuron : bool
        Whether leak and threshold of units with a leak are trained too, one value per unit.
    normalize : bool
        Batch normalisation of the input current, over samples and steps ([L20]). `layer` folds it into
        weights and bias. This is exact: after training it is one factor and one constant per unit.
    """

    def __init__(
        self, layer: Layer, surrogate: Surrogate, gradient: str = "exodus", scale: float = 1.0,
        dtype: torch.dtype = torch.float32, learn_neuron: bool = False, normalize: bool = False,
    ) -> None:  # fmt: skip
        """Copy the values of a layer.

        Raises
        ------
        ShapeError
            The layer is a convolution, or `normalize` is set and the layer has no bias.
        UnsupportedError
            The neuron has no leaky form.
        """
        super().__init__()
        if layer.window is not None:
            raise ShapeError("window: gradient training takes dense layers; this one is a convolution")
        if normalize and layer.bias is None:
            raise ShapeError("normalize: folds into a bias, but this layer has none; set bias = true")
        self.norm = nn.BatchNorm1d(layer.units, dtype=dtype) if normalize else None
        self.surrogate, self.gradient, self.scale = surrogate, gradient, scale
        neuron = self.neuron = layer.neuron
        self.weights = nn.Parameter(_tensor(layer.weights, dtype))
        self.bias = None if layer.bias is None else nn.Parameter(_tensor(layer.bias, dtype))
        self.recurrent = None if layer.recurrent is None else nn.Parameter(_tensor(layer.recurrent, dtype))
        form = neuron.leaky_form("training by gradients")
        weight = form.own_weight
        self.own_weight = (
            None if weight is None else nn.Parameter(_tensor(np.broadcast_to(weight, layer.units), dtype))
        )
        self.reset = form.reset
        values = {"leak": 0.0 if form.leak is None else form.leak, "threshold": neuron.threshold}
        for name, value in values.items():
            each = _tensor(np.broadcast_to(value, layer.units).copy() if learn_neuron else value, dtype)
            if learn_neuron and form.leak is not None:
                setattr(self, name, nn.Parameter(each))
            else:
                self.register_buffer(name, each)

    def drive(self, signal: Tensor) -> Tensor:
        """Return the weighted input, (T, n, m), of a signal (T, n, d)."""
        current = nn.functional.linear(signal, self.weights, self.bias)
        current = current.to(self.weights.dtype)  # mixed precision: membranes are not stored in 16 bits
        if self.norm is None:
            return current
        return self.norm(current.reshape(-1, current.shape[-1])).reshape(current.shape)

    def forward(self, signal: Tensor) -> Tensor:
        """Return spikes (T, n, m) of a signal (T, n, d)."""
        if self.recurrent is not None or self.own_weight is not None:
            return self.unrolled(signal)[0]
        return lif(
            self.drive(signal), self.leak, self.threshold, reset=self.reset, surrogate=self.surrogate,  # type: ignore[arg-type]
            gradient=self.gradient, scale=self.scale,
        )  # fmt: skip

    def unrolled(self, signal: Tensor) -> tuple[Tensor, Tensor]:
        """Return spikes and membranes after their reset, (T, n, m), computed step by step."""
        drive = self.drive(signal)
        spikes: list[Tensor] = []
        after: list[Tensor] = []
        carry = torch.zeros_like(drive[0])
        code = RESETS.index(self.reset)
        for t, current in enumerate(drive):
            if self.recurrent is not None and t:
                current = current + nn.functional.linear(spikes[-1], self.recurrent)
            membrane = carry + current
            s = spike(membrane - self.threshold, self.surrogate, self.scale)
            spikes.append(s)
            if self.own_weight is not None:
                after.append(membrane)
                carry = self.own_weight * s
                continue
            if self.gradient == "slayer":
                s = s.detach()  # no gradient through the reset; recurrent weights use `spikes`
            after.append(after_reset(membrane, s, self.threshold, code))  # type: ignore[arg-type]
            carry = carried(membrane, s, self.leak, self.threshold, code)  # type: ignore[arg-type]
        return torch.stack(spikes), torch.stack(after)

    def layer(self) -> Layer:
        """Return the layer with the present values, in float64.

        Raises
        ------
        ShapeError
            A trained threshold is not above 0, or a trained leak is outside [0, 1].
        """

        def array(value: Any) -> Any:
            return None if value is None else value.detach().cpu().double().numpy()

        neuron: Any = self.neuron
        weights, bias, recurrent = array(self.weights), array(self.bias), array(self.recurrent)
        if self.norm is not None:
            norm = self.norm
            factor = array(norm.weight) / np.sqrt(array(norm.running_var) + norm.eps)
            weights = weights * factor[:, None]
            bias = (bias - array(norm.running_mean)) * factor + array(norm.bias)
        if isinstance(self.leak, nn.Parameter):
            leak, theta = array(self.leak), array(self.threshold)
            for name, value, wrong, bounds in (
                ("leak", leak, (leak < 0.0) | (leak > 1.0), "in [0, 1]"),
                ("threshold", theta, theta <= 0.0, "above 0"),
            ):
                if wrong.any():
                    unit = int(wrong.argmax())
                    raise ShapeError(f"{name}: trained to {value[unit]:g} at unit {unit}, must be {bounds}")
            # scaling a unit's membrane to the layer's threshold leaves its spikes unchanged
            factor = neuron.threshold / theta
            weights = weights * factor[:, None]
            bias = None if bias is None else bias * factor
            recurrent = None if recurrent is None else recurrent * factor[:, None]
            neuron = replace(neuron, leak=leak)
        if self.own_weight is not None:
            neuron = replace(neuron, own_weight=array(self.own_weight))
        return Layer(weights, neuron, bias, recurrent)


class NetworkModule(nn.Module):
    """A network: its layers, and the output weights A as a parameter.

    Parameters
    ----------
    network : Network
        Architecture and starting values.
    surrogate, gradient, scale
        As in `lif`.
    """

    def __init__(
        self, network: Network, surrogate: Surrogate | None = None, gradient: str = "exodus",
        scale: float = 1.0, dtype: torch.dtype = torch.float32, learn_neuron: bool = False,
        normalize: bool = False,
    ) -> None:  # fmt: skip
        """Copy the values of a network."""
        super().__init__()
        surrogate = surrogate or Surrogate()
        self.layers = nn.ModuleList(
            LayerModule(layer, surrogate, gradient, scale, dtype, learn_neuron, normalize)
            for layer in network.layers
        )
        self.output_weights = nn.Parameter(_tensor(network.output_weights, dtype))
        self.readout, self.supervise = network.readout, network.supervise
        self.readout_leak, self.surrogate = network.readout_leak, surrogate

    def hidden_weights(self) -> list[nn.Parameter]:
        """Return the weights of every hidden layer."""
        layers: Any = self.layers
        return [layer.weights for layer in layers]

    def spikes(self, inputs: Tensor) -> list[Tensor]:
        """Return the spikes of every layer, (T, n, m), of inputs (n, T, d)."""
        signal, spikes = inputs.transpose(0, 1).to(self.output_weights.dtype), []
        for layer in self.layers:
            signal = layer(signal)
            spikes.append(signal)
        return spikes

    def forward(self, inputs: Tensor) -> Tensor:
        """Return outputs, (n, C) of the last step or (n, T, C) of all, of inputs (n, T, d)."""
        return self.features(inputs) @ self.output_weights

    def features(self, inputs: Tensor) -> Tensor:
        """Return the inputs of the output weights, (n, M) or (n, T, M)."""
        signal = inputs.transpose(0, 1).to(self.output_weights.dtype)
        for layer in self.layers[:-1]:
            signal = layer(signal)
        last: Any = self.layers[-1]
        readout = READOUTS[self.readout]
        if readout.of_membrane:
            features = spike(last.unrolled(signal)[1], last.surrogate, last.scale)
        else:
            features = last(signal)
        if readout.bits:
            return features[-1] if self.supervise == "last" else features.transpose(0, 1)
        return self._filtered(features)

    def _filtered(self, spikes: Tensor) -> Tensor:
        """Return the features φ of the readouts "rate" and "output_membrane"."""
        steps = len(spikes)
        ends = range(1, steps + 1) if self.supervise == "all" else (steps,)
        rows = [
            np.concatenate([READOUTS[self.readout].kernel(t, self.readout_leak), np.zeros(steps - t)])
            for t in ends
        ]
        kernel = torch.tensor(np.array(rows), dtype=spikes.dtype, device=spikes.device)
        features = torch.einsum("rt,tnm->nrm", kernel, spikes)
        return features if self.supervise == "all" else features[:, 0]

    def network(self) -> Network:
        """Return the network with the present values, in float64, for the simulator."""
        layers = tuple(layer.layer() for layer in self.layers)  # type: ignore[operator]
        weights = self.output_weights.detach().cpu().double().numpy()
        return Network(layers, weights, self.readout, self.supervise, self.readout_leak)
