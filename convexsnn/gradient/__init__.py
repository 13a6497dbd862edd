"""Gradient training of the same networks in torch: a source of witnesses, and a baseline for comparison.

This is the only folder that imports torch (extra ``torch``).
"""

from convexsnn.errors import NotInstalled

try:
    import torch as torch
except ImportError as error:
    raise NotInstalled("gradient: needs torch; pip install 'convexsnn[torch]'") from error
