"""Explicit convex programs; nothing here knows what a neuron is.

Names are loaded when they are first used: a problem file needs the losses alone, not scipy's solvers.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
