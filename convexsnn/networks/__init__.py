"""What a network is: neurons, layers, subnetworks; no time loop, no program."""

from convexsnn.networks.files import load_network, save_network
from convexsnn.networks.network import (
    Layer,
    LayerSpec,
    Network,
    NetworkSpec,
    Subnetwork,
    architecture_mismatch,
)
from convexsnn.networks.neurons import LIF, NEURONS, RESETS, Neuron, RecurrentThreshold, Threshold

__all__ = [
    "LIF",
    "NEURONS",
    "RESETS",
    "Layer",
    "LayerSpec",
    "Network",
    "NetworkSpec",
    "Neuron",
    "RecurrentThreshold",
    "Subnetwork",
    "Threshold",
    "architecture_mismatch",
    "load_network",
    "save_network",
]
