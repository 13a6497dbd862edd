"""Which files of a folder are ours: those that its manifest lists with their digests.

``manifest.json`` is written with every result folder. Folders of versions without one are known by their
claim, and their files by name and content. A file that was changed since is the user's.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Callable, Iterable, Set
from contextlib import suppress
from pathlib import Path
from typing import Any

from convexsnn.arrays import array_names
from convexsnn.errors import ConvexSNNError, ProblemFileError
from convexsnn.files import is_regular, parse_toml, read_json, read_text, reading
from convexsnn.problem import load_saved_problem

MANIFEST = "manifest.json"
FORMAT = 1
CERTIFICATE = "certificate.json"
PLOT_DATA = "path.json"
ADMM = "admm.json"
CLAIMS = {  # keys that each of them has had in every version
    CERTIFICATE: {"fingerprint", "lower_bound", "objective", "patterns", "scope", "status"},
    PLOT_DATA: {"chosen", "regularization_max", "result", "rows", "seconds"},
    ADMM: {"fingerprint", "iterations", "network", "objective", "scope", "status"},
}
PROBLEM = {"problem.toml", "data.npz"}
LARGEST = 1 << 62  # a file of ours may have any size: it is read in pieces


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a regular file; errors as `reading`."""
    sha = hashlib.sha256()
    with reading(path, LARGEST) as file:
        while piece := file.read(1 << 20):
            sha.update(piece)
    return sha.hexdigest()


def is_name(name: str) -> bool:
    """Return whether this is the plain name of a file, which leads to no other folder."""
    return name not in ("", ".", "..") and not set(name) & set("/\\\0") and ":" not in name


def write_manifest(folder: Path, names: Iterable[str]) -> None:
    """List files of a folder with their digests in ``manifest.json``."""
    values = {"format": FORMAT, "files": {name: digest_of(folder / name) for name in sorted(names)}}
    (folder / MANIFEST).write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def listed(folder: Path) -> dict[str, str] | None:
    """Return the names and digests in a folder's manifest; None without a manifest of ours."""
    if not is_regular(folder / MANIFEST):
        return None
    try:
        values = read_json(folder / MANIFEST)
    except ProblemFileError:
        return None
    files = values.get("files")
    if values.keys() != {"format", "files"} or values["format"] != FORMAT or not isinstance(files, dict):
        return None
    plain = all(is_name(name) and isinstance(digest, str) for name, digest in files.items())
    return files if plain else None


def own_files(folder: Path) -> tuple[Set[str], Set[str]] | None:
    """Return the names of the files that we wrote, and of others in their place; None if nothing is ours.

    What has a name of ours and is not as we wrote it is in the way of a new result.
    """
    files = listed(folder)
    if files is None:
        owned = _older(folder)
        if not owned & CLAIMS.keys():
            return None
    else:
        owned = {name for name, digest in files.items() if _unchanged(folder / name, digest)} | {MANIFEST}
    names = {path.name for path in folder.iterdir()} - owned
    return owned, {name for name in names if name in (files or {}) or _test_of(name) is not None}


def _unchanged(path: Path, digest: str) -> bool:
    with suppress(ProblemFileError, OSError):
        return is_regular(path) and digest_of(path) == digest
    return False


def check_whole(folder: Path) -> None:
    """Raise a ProblemFileError if a file of a result folder is a link, a folder, a pipe or a device.

    A result folder is whole in itself; whoever made it, to read it opens nothing that lies elsewhere.
    """
    for name in sorted(path.name for path in folder.iterdir()):
        if _test_of(name) is not None and not is_regular(folder / name):
            raise ProblemFileError(f"{name}: is no regular file; a result folder is whole in itself")


# folders of versions without a manifest


def _has_keys(keys: Set[str]) -> Callable[[Path], bool]:
    return lambda path: read_json(path).keys() >= keys


def _has_arrays(*patterns: str) -> Callable[[Path], bool]:
    """Return a test for an .npz file of just such arrays, with one of every pattern."""

    def test(path: Path) -> bool:
        names = array_names(path)
        used = {pattern for name in names for pattern in patterns if re.fullmatch(pattern, name)}
        return used == set(patterns) and all(any(re.fullmatch(p, name) for p in patterns) for name in names)

    return test


def _is_written_problem(path: Path) -> bool:
    """Return whether a problem file is as our writer leaves it, comments and layout included."""
    import tomli_w

    text = read_text(path)
    tables: Any = parse_toml(text)
    return tables["data"] == {"file": "data.npz"} and tomli_w.dumps(tables) == text


def _is_curves(path: Path) -> bool:
    """Return whether a picture has the size and the maker of the curves that every version has drawn."""
    with reading(path, LARGEST) as file:
        head = file.read(64)
    signature, size, maker = head[:16], struct.unpack(">II", head[16:24]), head[37:57]
    return signature == PNG and size in CURVES_SIZES and maker == b"tEXtSoftware\0Matplot"


PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
CURVES = "curves.png"
CURVES_SIZES = {(960, 720), (960, 1005)}  # of two and of three panels
LAYERS = r"layer\d+_\w+"
NETWORK = _has_arrays(LAYERS, "output_weights|readout|readout_leak|supervise")
KNOWN: dict[str, Callable[[Path], bool]] = {
    **{name: _has_keys(keys) for name, keys in CLAIMS.items()},
    MANIFEST: lambda path: False,
    CURVES: _is_curves,
    "certificate.npz": _has_arrays("dual", "weights", "columns"),
    "data.npz": _has_arrays("inputs", "targets|test_inputs|test_targets|sample_weights"),
    "dictionary.npz": _has_arrays(
        r"subnetwork\d+_" + LAYERS,
        "packed", "subnetwork_of", "unit_of",
        "candidates|complete|definition|margins|readout|rows|supervise",
    ),
    "network.npz": NETWORK,
    "problem.toml": _is_written_problem,
    "witnesses.npz": _has_arrays(LAYERS),
}  # fmt: skip


def _older(folder: Path) -> Set[str]:
    """Return the files that are ours by name and content."""
    found = {path.name for path in folder.iterdir() if _is_known(path)}
    if ADMM not in found:
        found -= {CURVES}  # drawn beside that claim alone
    return found if _is_of_claim(folder, found) else found - PROBLEM


def _is_of_claim(folder: Path, found: Set[str]) -> bool:
    """Return whether problem and data of a folder are those of its claim."""
    with suppress(ConvexSNNError, OSError, KeyError):
        claims = [read_json(folder / name) for name in (CERTIFICATE, ADMM) if name in found]
        fingerprint = load_saved_problem(folder).fingerprint() if found >= PROBLEM else None
        return all(claim["fingerprint"] == fingerprint for claim in claims)
    return False


def _test_of(name: str) -> Callable[[Path], bool] | None:
    return NETWORK if re.fullmatch(r"trained-\d+\.npz", name) else KNOWN.get(name)


def _is_known(path: Path) -> bool:
    test = _test_of(path.name)
    with suppress(ProblemFileError, OSError, ValueError, KeyError, TypeError, struct.error):
        return test is not None and is_regular(path) and test(path)
    return False
