"""What a network is: neurons, layers, subnetworks; no time loop, no program."""

from convexsnn.networks.architecture import architecture_mismatch
from convexsnn.networks.files import load_network, save_network
from convexsnn.networks.layers import Layer, LayerSpec
from convexsnn.networks.network import FILTERED, Network, NetworkSpec, Subnetwork, readout_kernel
from convexsnn.networks.neurons import LIF, NEURONS, RESETS, Neuron, RecurrentThreshold, Threshold
from convexsnn.networks.windows import Window

__all__ = [
    "FILTERED",
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
    "Window",
    "architecture_mismatch",
    "load_network",
    "readout_kernel",
    "save_network",
]
