"""Arrays that enter and leave the package: checked at entry, never unpickled, written atomically."""

from __future__ import annotations

import hashlib
import io
import math
import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from convexsnn.errors import ProblemFileError, ShapeError
from convexsnn.files import appearing, reading

FloatArray = npt.NDArray[np.floating[Any]]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.integer[Any]]

LARGEST = "CONVEXSNN_LARGEST_GB"
LONGEST_HEADER = 1 << 16  # bytes at the start of an array that say its type and shape

Axis = str | int | tuple[str, int]

fraction = np.frompyfunc(lambda x: Fraction(float(x)), 1, 1)  # exact, entry by entry


def shape_text(axes: Sequence[Axis]) -> str:
    """Return a pattern such as ``("n", "T", ("d", 2))`` as ``(n, T, d=2)``."""
    parts = [f"{a[0]}={a[1]}" if isinstance(a, tuple) else str(a) for a in axes]
    return f"({', '.join(parts)}{',' if len(parts) == 1 else ''})"


def plain_array(name: str, value: Any, *, copy: bool = False, expected: str = "real numbers") -> np.ndarray:
    """Return a caller's array as numpy's own; the one door by which arrays enter the package.

    An object array of numbers alone, such as a nullable column of pandas, becomes one of floats.

    Parameters
    ----------
    copy : bool
        Whether the result must be a copy; otherwise it may be `value` itself.
    expected : str
        What the message about objects calls the array.

    Raises
    ------
    ShapeError
        Masked values; a tensor that requires gradients, since none flow through a training here; objects
        other than numbers, missing values among them; an object that numpy cannot read. The message starts
        with `name`.
    ValueError
        Rows of different lengths.
    """
    for part in _parts(value):
        if isinstance(part, np.ma.MaskedArray) and np.ma.getmaskarray(part).any():
            place = tuple(int(k) for k in np.argwhere(np.ma.getmaskarray(part))[0])
            raise ShapeError(
                f"{name}: masked value at index {place}; fill masked values in, or leave their samples out"
            )
        if getattr(part, "requires_grad", False) is True:
            raise ShapeError(
                f"{name}: a tensor that requires gradients, and none flow through here; give {name}.detach()"
            )
    try:
        raw = np.asarray(value)
        raw = raw.copy() if copy else raw
    except (RuntimeError, TypeError) as error:  # a tensor on another device or of a type that numpy lacks
        raise ShapeError(f"{name}: expected {expected}, got {error}") from error
    if raw.dtype.kind != "O":
        return raw
    for place, entry in np.ndenumerate(raw):
        if not isinstance(entry, (bool, np.bool_)) and not is_number(entry):
            shown = f"{' '.join(repr(entry).split()):.40}"
            raise ShapeError(f"{name}: expected {expected}, got dtype object, {shown} at index {place}")
    try:
        return raw.astype(np.float64)
    except OverflowError as error:
        raise ShapeError(f"{name}: a whole number is too large for a float") from error


def _parts(value: Any) -> Iterator[Any]:
    """Yield an object and, if it is a list, the arrays and lists in it."""
    yield value
    if isinstance(value, (list, tuple)):
        for part in value:
            if not isinstance(part, (int, float, str)):
                yield from _parts(part)


def check_products(name: str, array: np.ndarray) -> None:
    """Raise a ShapeError unless sums of products of two of the finite numbers are surely finite."""
    largest = max(float(array.max()), -float(array.min()))
    if np.isfinite(largest) and not np.isfinite(largest * largest * array.size):
        raise ShapeError(f"{name}: numbers up to {largest:.3g} are too large, their squares overflow")


def real_array(
    name: str, value: Any, axes: Sequence[Axis], *, dtype: npt.DTypeLike = np.float64, copy: bool = True
) -> FloatArray:
    """Return `value` as a finite floating-point array whose shape fits `axes`.

    Parameters
    ----------
    name : str
        Name of the argument; every error message starts with it.
    axes : sequence of str, int or (str, int)
        A string is an axis of any positive length. An int or a pair is an axis of exactly that length.
    copy : bool
        Whether the result must be a copy; otherwise it may be `value` itself.

    Raises
    ------
    ShapeError
        Not numeric, wrong rank, wrong length, empty, NaN or infinite.
    """
    try:
        raw = plain_array(name, value, expected=f"real numbers {shape_text(axes)}")
        if raw.dtype.kind not in "biuf":
            raise TypeError(f"dtype {raw.dtype}")
        array = raw.astype(dtype, copy=copy)
    except ShapeError:
        raise
    except (TypeError, ValueError) as error:
        raise ShapeError(f"{name}: expected real numbers {shape_text(axes)}, got {error}") from error
    lengths = [a[1] if isinstance(a, tuple) else a for a in axes]
    fits = array.ndim == len(axes) and all(
        isinstance(want, str) or want == have for want, have in zip(lengths, array.shape, strict=True)
    )
    if not fits:
        hint = ""
        if tuple(axes[:2]) == ("n", "T") and len(axes) == 3 and array.ndim == 2:
            hint = f"; one time step: {name}[:, None, :]"
        raise ShapeError(f"{name}: expected {shape_text(axes)}, got {array.shape}{hint}")
    if array.size == 0:
        raise ShapeError(f"{name}: empty, shape {array.shape}")
    # one sum without a temporary array is nearly always enough; a sum of finite numbers may overflow
    with np.errstate(over="ignore", invalid="ignore"):
        total = array.sum()
    if not np.isfinite(total) and not np.isfinite(array).all():
        place = tuple(int(k) for k in np.argwhere(~np.isfinite(array))[0])
        raise ShapeError(f"{name}: {array[place]} at index {place}; every value must be finite")
    return array


def is_number(value: Any) -> bool:
    """Return whether a value is a real number, of Python or numpy; flags are none."""
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)


def is_whole(value: Any) -> bool:
    """Return whether a value is a whole number, of Python or numpy; flags are none."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def choice(name: str, value: Any, choices: Sequence[str]) -> None:
    """Raise a ShapeError that names the argument unless `value` is one of `choices`."""
    if value not in choices:
        raise ShapeError(f"{name}: expected one of {', '.join(choices)}, got {value!r}")


def positive(name: str, value: Any) -> float:
    """Return `value` as a positive finite float, or raise a ShapeError that names it."""
    try:
        if not is_number(value):
            raise TypeError
        number = float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise ShapeError(f"{name}: expected a positive number, got {value!r}") from error
    if not (np.isfinite(number) and number > 0):
        raise ShapeError(f"{name}: expected a positive number, got {value}")
    return number


def between(name: str, value: Any, least: float, most: float) -> float:
    """Return `value` as a float if it is in [least, most], or raise a ShapeError that names it."""
    if not (is_number(value) and least <= value <= most):
        raise ShapeError(f"{name}: expected a number in [{least:g}, {most:g}], got {value!r}")
    return float(value)


def whole(name: str, value: Any, least: int = 1, most: int | None = None) -> int:
    """Return `value` if it is a whole number in [least, most], or raise a ShapeError that names it."""
    if not (is_whole(value) and value >= least) or (most is not None and value > most):
        limits = f">= {least}" if most is None else f"in {least}..{most}"
        raise ShapeError(f"{name}: expected a whole number {limits}, got {value!r}")
    return int(value)


def square_unit(table: np.ndarray) -> float:
    """Return a unit in which squares stay in the floats: 1, or a power of two near the largest size."""
    largest = float(np.abs(table).max(initial=0.0))
    if 1e-100 < largest < 1e100 or not 0 < largest < np.inf:
        return 1.0
    return math.ldexp(1.0, min(math.frexp(largest)[1], 1023))


def row_norms(table: np.ndarray) -> np.ndarray:
    """Return the Euclidean norm of every row, also of rows whose squares underflow or overflow."""
    unit = square_unit(table)
    return unit * np.sqrt(((table / unit) ** 2).sum(axis=1))


def lagged(values: np.ndarray) -> np.ndarray:
    """Return values (n, T, ...) one step later: v_{t−1} at step t, and 0 at the first step."""
    previous = np.zeros_like(values)
    previous[:, 1:] = values[:, :-1]
    return previous


def largest() -> int:
    """Return the most bytes that the arrays of one file may have: 4 GB, or CONVEXSNN_LARGEST_GB.

    Raises
    ------
    ShapeError
        The variable does not hold a positive number.
    """
    text = os.environ.get(LARGEST)
    if text is None:
        return 4 * 10**9
    try:
        return int(positive(LARGEST, float(text)) * 1e9)
    except ValueError as error:
        raise ShapeError(f"{LARGEST}: expected a positive number, got {text!r}") from error


def array_names(path: str | os.PathLike[str]) -> list[str]:
    """Return the names of the arrays in an ``.npz`` file; errors as `read_npz`."""
    with _archive(Path(path)) as archive:
        return [info.filename.removesuffix(".npy") for info in archive.infolist()]


def read_npz(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Read every array of an ``.npz`` file; pickled content is refused, not loaded.

    Sizes are checked before memory is taken for them: what the headers of all arrays say must be what the
    archive holds, and together at most `largest` bytes.

    Raises
    ------
    ProblemFileError
        The file is missing, no regular file, truncated, not an ``.npz``, too large, or holds Python objects.
    """
    path = Path(path)
    with _archive(path) as archive:
        _check_sizes(path, archive)
        arrays = {}
        for info in archive.infolist():
            with archive.open(info) as member:
                name = info.filename.removesuffix(".npy")
                arrays[name] = np.lib.format.read_array(member, allow_pickle=False)
        return arrays


def _begins_as_archive(file: BinaryIO) -> bool:
    """Return whether there is nothing before an archive, as zipfile would take: numpy reads no such file."""
    file.seek(0)
    return file.read(2) == b"PK"


@contextmanager
def _archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open an ``.npz`` file; what goes wrong inside the block means a damaged file."""
    with reading(path, largest()) as file:
        if not zipfile.is_zipfile(file) or not _begins_as_archive(file):
            raise ProblemFileError(f"{path}: damaged or not an .npz file; expected named arrays")
        try:
            with zipfile.ZipFile(file) as archive:
                yield archive
        except (ProblemFileError, MemoryError):
            raise
        except Exception as error:  # damaged bytes make numpy and zipfile raise nearly anything
            reason = (
                "holds pickled Python objects" if "pickle" in str(error).lower() else "damaged or truncated"
            )
            raise ProblemFileError(f"{path}: {reason}; expected an .npz file of plain arrays") from error


def _check_sizes(path: Path, archive: zipfile.ZipFile) -> None:
    """Raise a ProblemFileError unless every member is an array of the size that its header says."""
    total, most, names = 0, largest(), set()
    for info in archive.infolist():
        total += info.file_size
        if total > most:
            raise ProblemFileError(
                f"{path}: more than {most / 1e9:g} GB when unfolded, the most that is read; see {LARGEST}"
            )
        if not info.filename.endswith(".npy") or info.filename in names:
            raise ProblemFileError(
                f"{path}: {info.filename!r} is not an array; expected an .npz file of plain arrays"
            )
        names.add(info.filename)
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"compression {info.compress_type}")
        with archive.open(info) as member:
            start = io.BytesIO(member.read(LONGEST_HEADER))
        version = np.lib.format.read_magic(start)
        read = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape, _, dtype = read(start)
        if dtype.hasobject:
            raise ValueError("pickle")
        count = math.prod(int(length) for length in shape)
        if min(shape, default=1) < 0 or max(dtype.itemsize, 1) * count > most:
            raise ValueError(f"shape {shape}")
        if start.tell() + dtype.itemsize * count != info.file_size:
            raise ValueError(f"{info.file_size} bytes for shape {shape}")


def write_npz(path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray]) -> None:
    """Write `arrays` to an ``.npz`` file that appears complete or not at all; objects are refused."""
    with appearing(Path(path)) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)


def digest(**arrays: np.ndarray) -> str:
    """Return a hash of names, types, shapes and values."""
    sha = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        sha.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        sha.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return sha.hexdigest()
