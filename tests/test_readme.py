"""README: its example and its commands run as written. Sessions on pages: commands print what is shown."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {page.name: page.read_text(encoding="utf-8") for page in sorted((ROOT / "docs").glob("*.md"))}


def run(*words, folder):
    environment = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1"}
    done = subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, cwd=folder, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_example_runs_and_is_about_twenty_lines(tmp_path):
    (example,) = re.findall(r"```python\n(.*?)```", README, flags=re.S)
    code = [line for line in example.splitlines() if line.strip()]
    assert len(code) <= 24
    printed = run("-c", example, folder=tmp_path)
    gap, units, accuracy = map(float, printed.splitlines()[-1].split())
    assert gap <= 1e-6 and units > 0 and accuracy > 0.9


BLOCKS = re.findall(r"```sh\n(.*?)```", README, flags=re.S)


@pytest.mark.slow
@pytest.mark.parametrize("line", re.findall(r"^convexsnn .*$", "".join(BLOCKS), flags=re.M))
def test_the_commands_run_as_written(line, tmp_path):
    words = line.split("#")[0].split()
    if words[1] in ("verify", "gap"):  # reads what the line before it wrote
        run("-m", "convexsnn", "solve", "exact-xor", "--out", "run", folder=tmp_path)
    assert run("-m", *words, folder=tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("page", ["get-started.md", "formulation.md"])
def test_commands_print_what_a_page_says(page, tmp_path):
    sessions = re.findall(r"```text\n(\$ convexsnn .*?)```", PAGES[page], flags=re.S)
    assert sessions
    for words, shown in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", "".join(sessions), flags=re.M):
        printed = run("-m", *words.split(), folder=tmp_path)
        first, second = (re.sub(r"^  seconds .*\n", "", text, flags=re.M) for text in (shown, printed))
        assert first.strip() == second.strip()
