"""The conditions of a benchmark: machine, threads, versions, and the measured code."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from convexsnn.threads import environment, threads

PACKAGES = (
    "convexsnn", "numpy", "scipy", "numba", "highspy", "cvxpy", "clarabel", "osqp", "scs", "celer", "skglm",
    "scikit-learn", "mlxtend", "torch", "triton",
)  # fmt: skip
THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
MEASURED = ("bits.py", "bit_kernels.py", "programs/*.py", "solvers/*.py", "bench/problems.py")


def cpu_model(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return the processor's name, if the system reports it."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def memory_bytes() -> int | None:
    """Return the size of the machine's memory, if the system reports it."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def versions() -> dict[str, str]:
    """Return the versions of all packages that can matter and are installed."""
    installed = {}
    for name in PACKAGES:
        try:
            installed[name] = version(name)
        except PackageNotFoundError:
            continue
    return installed


def code_digest() -> str:
    """Return a digest of the source files whose speed is measured."""
    root, digest = Path(__file__).parent.parent, hashlib.sha256()
    for pattern in MEASURED:
        for path in sorted(root.glob(pattern)):
            digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def conditions(tolerance: float, time_limit: float, repeat: int) -> dict[str, Any]:
    """Return all conditions of a measurement except problem and solver, ready for JSON."""
    memory, variables = memory_bytes(), environment()
    return {
        "machine": {
            "cpu": cpu_model(),
            "cores": os.cpu_count(),
            "memory_gb": None if memory is None else round(memory / 1e9, 1),
            "system": f"{platform.system()} {platform.machine()}",
        },
        "threads": {"convexsnn": str(threads()), **{name: variables.get(name) for name in THREADS}},
        "python": platform.python_version(),
        "versions": versions(),
        "code": code_digest(),
        "tolerance": tolerance,
        "time_limit": time_limit,
        "repeat": repeat,
    }


def conditions_key(values: Mapping[str, Any]) -> str:
    """Return a short name of the conditions: results under other names are not compared."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]
