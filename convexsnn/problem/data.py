"""The data of a problem without its settings: checked once, read-only, shared without copies.

Results that depend on the data alone are computed once and stored with them: the distinct samples, the
encoding of the targets, the digest. Problems that differ only in settings share one `Data`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from convexsnn.arrays import FloatArray, check_products, plain_array, real_array
from convexsnn.distinct import DistinctSamples, distinct_samples
from convexsnn.errors import ShapeError
from convexsnn.problem.targets import TargetCode, target_code

DATA_NAMES = ("inputs", "targets", "test_inputs", "test_targets", "sample_weights")


@dataclass(frozen=True, eq=False)
class Data:
    """Arrays of a problem, copied and read-only; a read-only array that owns its memory is not copied.

    Attributes
    ----------
    inputs : (n, T, d) array
    targets : (n,), (n, C) array; (n, T), (n, T, C) where every step is supervised
    test_inputs, test_targets : the same for the test set, or None
    sample_weights : (n,) positive array, or None for all ones

    Raises
    ------
    ShapeError
        An array is not finite, of the wrong shape, or so large that its squares overflow; the message begins
        with its name.
    """

    inputs: FloatArray
    targets: npt.NDArray[Any]
    test_inputs: FloatArray | None = None
    test_targets: npt.NDArray[Any] | None = None
    sample_weights: FloatArray | None = None
    _codes: dict[tuple[Any, ...], TargetCode] = field(init=False, repr=False, default_factory=dict)
    _largest: dict[str, float] = field(init=False, repr=False, default_factory=dict)
    _digests: dict[bytes, str] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._keep("inputs", _reals("inputs", self.inputs, ("n", "T", "d")))
        n, _, d = self.inputs.shape
        self._keep("targets", _labels("targets", self.targets, n))
        if (self.test_inputs is None) != (self.test_targets is None):
            raise ShapeError("test_inputs: test_inputs and test_targets go together, only one was given")
        if self.test_inputs is not None:
            self._keep("test_inputs", _reals("test_inputs", self.test_inputs, ("n", "T", ("d", d))))
            self._keep("test_targets", _labels("test_targets", self.test_targets, len(self.test_inputs)))
        if self.sample_weights is not None:
            weights = _reals("sample_weights", self.sample_weights, (("n", n),))
            if weights.min() <= 0:
                raise ShapeError(f"sample_weights: {weights.min():g}; every weight must be positive")
            self._keep("sample_weights", weights)

    def _keep(self, name: str, array: np.ndarray) -> None:
        array.flags.writeable = False
        object.__setattr__(self, name, array)

    def with_arrays(self, **arrays: Any) -> Data:
        """Return data with these arrays; this object if all of them are its own arrays."""
        same = all(getattr(self, name) is array for name, array in arrays.items())
        return self if same else Data(**arrays)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays that are not None, by name."""
        return {name: getattr(self, name) for name in DATA_NAMES if getattr(self, name) is not None}

    @cached_property
    def distinct(self) -> DistinctSamples:
        """The distinct samples of the inputs, and the index of each sample among them."""
        samples, which = distinct_samples(self.inputs)
        samples.flags.writeable = which.flags.writeable = False
        return DistinctSamples(samples, which)

    def target_code(self, *, loss: str, task: str, supervise: str) -> TargetCode:
        """Return the encoding of the targets for a loss, after a check of the test set; the result is stored.

        Raises
        ------
        ShapeError
            Wrong shape, invalid labels, or a loss that does not fit the task.
        """
        kind = loss, task, supervise
        if kind not in self._codes:
            n, steps, d = self.inputs.shape
            supervised = steps if supervise == "all" else None
            code = target_code(self.targets, n=n, steps=supervised, loss=loss, task=task)
            if self.test_inputs is not None:
                axes = ("n", ("T", steps) if supervised else "T", ("d", d))
                real_array("test_inputs", self.test_inputs, axes, copy=False)
                code.rows("test_targets", self.test_targets, len(self.test_inputs))
            self._codes[kind] = code
        return self._codes[kind]

    def largest(self, name: str) -> float:
        """Return the largest absolute value of an array of numbers, 0 without one; the result is stored."""
        if name not in self._largest:
            array = getattr(self, name)
            self._largest[name] = 0.0 if array is None else max(float(array.max()), -float(array.min()))
        return self._largest[name]

    def digest(self, stated: bytes) -> str:
        """Return the SHA-256 of `stated` followed by the training data; the result is stored."""
        if stated not in self._digests:
            digest = hashlib.sha256(stated)
            for name in ("inputs", "targets", "sample_weights"):
                value = getattr(self, name)
                if value is not None:
                    array = np.ascontiguousarray(value, dtype="<f8")
                    digest.update(f"{name}{array.shape}".encode())
                    digest.update(array.reshape(-1).view(np.uint8).data)
            self._digests[stated] = digest.hexdigest()
        return self._digests[stated]


def _fixed(value: Any) -> bool:
    """Return whether an array cannot be changed: it is read-only and not a view."""
    flags = getattr(value, "flags", None)
    return flags is not None and flags.owndata and not flags.writeable


def _reals(name: str, value: Any, axes: Any) -> FloatArray:
    array = real_array(name, value, axes, copy=not _fixed(value))
    check_products(name, array)
    return array


def _labels(name: str, value: Any, n: int) -> npt.NDArray[Any]:
    """Return targets in their own type; loss and task decide later what is valid."""
    try:
        labels = plain_array(name, value, copy=not _fixed(value))
    except ShapeError:
        raise
    except ValueError:  # rows of different lengths
        return real_array(name, value, (("n", n),))
    if labels.dtype.kind == "f" and labels.size:
        check_products(name, labels)
    return labels
