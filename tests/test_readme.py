import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_example_runs_and_is_about_twenty_lines():
    (example,) = re.findall(r"```python\n(.*?)```", README, flags=re.S)
    code = [line for line in example.splitlines() if line.strip()]
    assert len(code) <= 24
    done = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    gap, units, accuracy = map(float, done.stdout.splitlines()[-1].split())
    assert gap <= 1e-6 and units > 0 and accuracy > 0.9


# whole trainings for what has tests of its own
COMMANDS = [
    pytest.param(line, marks=[pytest.mark.slow] * any(key in line for key in ("--checkpoint", "--workers")))
    for line in re.findall(r"^convexsnn .*$", README, flags=re.M)
]


@pytest.mark.parametrize("line", COMMANDS)
def test_the_commands_run_as_written(line, tmp_path):
    words = line.split("#")[0].split()
    if words[1] in ("verify", "gap"):  # reads what the line before it wrote
        first = [sys.executable, "-m", "convexsnn", "solve", "exact-xor", "--out", "run"]
        subprocess.run(first, cwd=tmp_path, check=True)
    done = subprocess.run(
        [sys.executable, "-m", *words], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout
