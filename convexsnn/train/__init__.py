"""The road in one call."""

import sys
from types import ModuleType
from typing import Any

from convexsnn.train.admm_result import AdmmResult, train_admm
from convexsnn.train.gap import Distance, distance
from convexsnn.train.path import PathRow, RegularizationPath, path
from convexsnn.train.pipeline import Result, lower, reconstruct

__all__ = [
    "AdmmResult",
    "Distance",
    "PathRow",
    "RegularizationPath",
    "Result",
    "distance",
    "lower",
    "path",
    "reconstruct",
    "train_admm",
]


class _CallablePackage(ModuleType):
    """Lets ``convexsnn.train`` be both this package and, called, the function `train`."""

    def __call__(self, *args: Any, **kwargs: Any) -> Result | AdmmResult:
        from convexsnn.roads import train

        return train(*args, **kwargs)


sys.modules[__name__].__class__ = _CallablePackage
