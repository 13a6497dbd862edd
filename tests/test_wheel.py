"""The wheel alone is enough: built from here, installed in an empty environment, run from elsewhere."""

import json
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.night


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    return path


def test_the_wheel_carries_the_problems_and_the_types(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    shipped = {f"convexsnn/library/{path.name}" for path in (ROOT / "problems").iterdir()}
    code = {str(path.relative_to(ROOT)) for path in (ROOT / "convexsnn").rglob("*.py")}
    assert shipped | code | {"convexsnn/py.typed"} <= names
    assert any(name.endswith("LICENSE") for name in names)
    assert not [name for name in names if name.startswith(("tests/", "notebooks/")) or "__pycache__" in name]


def test_the_wheel_alone_solves_xor(wheel, tmp_path):
    venv.create(tmp_path / "venv", with_pip=True)
    python = str(tmp_path / "venv" / "bin" / "python")
    subprocess.run([python, "-m", "pip", "install", "--quiet", str(wheel)], check=True, capture_output=True)
    (tmp_path / "elsewhere").mkdir()
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [str(tmp_path / "venv" / "bin" / "convexsnn"), "solve", "xor", "--json"],
        cwd=tmp_path / "elsewhere", env=env, capture_output=True, text=True, check=True,
    )  # fmt: skip
    told = json.loads(done.stdout)
    assert told["verified"] is True and told["objective"] == pytest.approx(0.2) and told["out"] is None
    assert not list((tmp_path / "elsewhere").iterdir())
    script = "import convexsnn; print(convexsnn.__file__)"
    where = subprocess.run(
        [python, "-c", script],
        cwd=tmp_path / "elsewhere",
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    assert str(tmp_path / "venv") in where.stdout  # the installed one, not this repository
