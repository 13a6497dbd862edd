"""README and docs/ say what is there: links, names, versions; their examples and commands run as written."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import convexsnn
from convexsnn.report.keys_table import schema_table

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXT = {page.relative_to(ROOT).as_posix(): page.read_text(encoding="utf-8") for page in PAGES}

# README.md has a test of its own; of the pages, these need a running cluster, an hour, or an installation
NOT_RUN = ("--scheduler", "bench")
# whole trainings for what has tests of its own
LONG = ("--checkpoint", "--out deep", "verify deep", "--workers", "sequential-mnist", "--validation")


def run(words, folder):
    done = subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, cwd=folder, check=False, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def blocks(language):
    return [
        (page, text) for page, whole in TEXT.items()
        for text in re.findall(rf"^```{language}\n(.*?)^```", whole, flags=re.S | re.M)
    ]  # fmt: skip


@pytest.mark.parametrize("page", TEXT)
def test_links_lead_to_files(page):
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)", TEXT[page])
    for target in targets:
        if "://" in target:
            continue
        file = (ROOT / page).parent / target
        copied = ROOT / "notebooks" / file.name  # the build copies the notebooks into docs
        assert file.exists() or ("notebooks/" in target and copied.exists()), f"{page}: {target}"


def test_every_public_name_is_in_the_reference():
    lists = re.findall(r"^```\{names\}\n(.*?)^```", TEXT["docs/python.md"], flags=re.S | re.M)
    listed = " ".join(lists).split()
    assert sorted(listed) == sorted(convexsnn.__all__)


def test_every_page_is_in_the_table_of_contents():
    for page in TEXT:
        if page.startswith("docs/") and page != "docs/index.md":
            assert re.search(rf"^{Path(page).stem}$", TEXT["docs/index.md"], flags=re.M), page


def test_the_version_stands_in_one_place():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.findall(r"^version: (.*)$", citation, flags=re.M) == [convexsnn.__version__]
    assert not re.search(r"^version = ", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), flags=re.M)
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## \[?([^\]\s]+)", changes, flags=re.M)
    assert headings[0] == "Unreleased" and convexsnn.__version__ in headings


def test_the_readme_is_short():
    assert len(TEXT["README.md"].splitlines()) <= 140


def test_every_key_has_a_row_and_a_meaning():
    rows = [row.split(" | ") for row in schema_table().splitlines()[2:]]
    assert len(rows) > 60 and len({row[0] for row in rows}) == len(rows)
    assert [row for row in rows if not row[-1].strip(" |")] == []


def test_a_reader_who_follows_the_page_adds_a_neuron(tmp_path):
    """The file that the page describes, and its program, in a folder of their own."""
    source = (ROOT / "tests" / "test_extension.py").read_text(encoding="utf-8")
    head = source[source.index("from dataclasses import") : source.index("# [neuron]")]
    (neuron,) = re.findall(r"^# \[neuron\]\n(.*?)^# \[/neuron\]", source, flags=re.S | re.M)
    register, program = [text for page, text in blocks("python") if page == "docs/extending.md"][:2]
    (tmp_path / "my_neuron.py").write_text(head + neuron + register, encoding="utf-8")
    data = """
import numpy as np

inputs = np.random.default_rng(0).normal(size=(30, 4, 2)).round(2)
targets = inputs[:, 0, 0] * inputs[:, -1, 1]
"""
    (tmp_path / "example.py").write_text(data + program, encoding="utf-8")
    assert "optimal_on_dictionary" in run(["example.py"], tmp_path)


@pytest.mark.night
def test_the_program_of_the_cluster_runs_as_written(tmp_path):
    ((_, program),) = [found for found in blocks("python") if found[0] == "docs/cluster.md"]
    (tmp_path / "example.py").write_text(program, encoding="utf-8")
    run(["example.py"], tmp_path)


def prepared(page, line, folder):
    """Write what earlier lines of a page made, or what the page says that the reader has."""
    if "mine.toml" in line:
        ((_, problem),) = [found for found in blocks("toml") if found[0] == page]
        (folder / "mine.toml").write_text(problem, encoding="utf-8")
        rng = np.random.default_rng(0)
        inputs = rng.standard_normal((40, 4, 3))
        np.savez(folder / "mine.npz", inputs=inputs, targets=(inputs[:, 0, 0] > inputs[:, -1, 0]).astype(int))
    elif line.split()[1] in ("verify", "gap"):
        name, out = ("yin-yang-admm", "deep") if "deep" in line else ("exact-xor", "run")
        run(["-m", "convexsnn", "solve", name, "--out", out], folder)


LINES = [
    pytest.param(page, line, id=line, marks=[pytest.mark.night] * any(word in line for word in LONG))
    for page, text in blocks("sh") if page != "README.md"
    for line in re.findall(r"^convexsnn .*$", text, flags=re.M) if not any(word in line for word in NOT_RUN)
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("page", "line"), LINES)
def test_the_commands_run_as_written(page, line, tmp_path):
    prepared(page, line, tmp_path)
    assert run(["-m", *line.split("#")[0].split()], tmp_path)
