"""Patterns and witnesses. Names are loaded at their first use: reading a problem needs the sources alone."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
