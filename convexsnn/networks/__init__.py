"""Networks: neurons, layers, subnetworks, readouts; without a time loop and without a program."""

from convexsnn.networks.architecture import architecture_mismatch
from convexsnn.networks.files import load_network, save_network
from convexsnn.networks.layers import Layer, LayerSpec
from convexsnn.networks.network import Network, NetworkSpec, Subnetwork
from convexsnn.networks.neuron import LeakyForm, last_spikes, register_neuron
from convexsnn.networks.neurons import LIF, NEURONS, RESETS, Neuron, RecurrentThreshold, Threshold
from convexsnn.networks.parameters import GRID, SHARED, TRAINED, Parameter, PerUnit, parameter
from convexsnn.networks.readouts import FILTERED, READOUTS, Readout
from convexsnn.networks.windows import Window

__all__ = [
    "FILTERED",
    "GRID",
    "LIF",
    "NEURONS",
    "READOUTS",
    "RESETS",
    "SHARED",
    "TRAINED",
    "Layer",
    "LayerSpec",
    "LeakyForm",
    "Network",
    "NetworkSpec",
    "Neuron",
    "Parameter",
    "PerUnit",
    "Readout",
    "RecurrentThreshold",
    "Subnetwork",
    "Threshold",
    "Window",
    "architecture_mismatch",
    "last_spikes",
    "load_network",
    "parameter",
    "register_neuron",
    "save_network",
]
