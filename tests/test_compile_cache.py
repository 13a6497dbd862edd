"""Where nothing can be written, kernels are compiled without a cache, and that is said once."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from convexsnn import compile_cache
from convexsnn.compile_cache import SAID, can_write

ROOT = Path(__file__).parent.parent
SCRIPT = "from convexsnn.cli import main; main()"
WITHOUT_POWER = """
import ctypes, os, sys
DROP, WRITE_ANYWHERE = 24, 1
if os.geteuid() == 0 and ctypes.CDLL(None).prctl(DROP, WRITE_ANYWHERE, 0, 0, 0):
    sys.exit(77)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""  # root can write everywhere, unless it gives that up


@pytest.fixture
def sealed(tmp_path):
    """Return a copy of the package that nobody can write, as a container has it."""
    package = shutil.copytree(
        ROOT / "convexsnn", tmp_path / "site" / "convexsnn", ignore=shutil.ignore_patterns("__pycache__")
    )
    shutil.copytree(ROOT / "problems", package / "library")
    for path in [package, *package.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    yield tmp_path / "site"
    for path in [package, *package.rglob("*")]:
        path.chmod(0o755)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="file modes, and what root may do")
def test_a_read_only_package_without_a_home_solves_and_says_so_once(sealed, tmp_path):
    variables = {k: v for k, v in os.environ.items() if not k.startswith(("NUMBA", "XDG", "CONVEXSNN"))}
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_POWER, "-P", "-B", "-c", SCRIPT, "solve", "xor"],
        capture_output=True, text=True, cwd="/",
        env={**variables, "HOME": "/proc/none", "PYTHONPATH": str(sealed)},
    )  # fmt: skip
    if done.returncode == 77:
        pytest.skip("root that cannot give up its power")
    assert done.returncode == 0, done.stderr
    assert "optimal_on_dictionary" in done.stdout
    assert done.stderr.startswith("convexsnn: note: no folder for compiled code")
    assert done.stderr.count("\n") == 1


def test_a_folder_that_can_be_made_can_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    assert can_write(tmp_path) and can_write(tmp_path / "a" / "b")
    assert not can_write(tmp_path / "file" / "a") and not can_write(tmp_path / "file")
    assert not can_write(Path("/proc/none/of/this")) and list(tmp_path.iterdir()) == [tmp_path / "file"]
    monkeypatch.setattr(compile_cache.os, "access", lambda *_: False)
    assert not can_write(tmp_path)


def test_where_a_folder_can_be_written_nothing_changes(capsys, monkeypatch):
    from numba.core.dispatcher import Dispatcher

    before = Dispatcher.enable_caching
    compile_cache.keep_or_do_without()
    assert Dispatcher.enable_caching is before and capsys.readouterr().err == "" and SAID not in os.environ
