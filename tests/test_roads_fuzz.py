"""Mutated files of result folders: refused in one line, or accepted with a claim that is true.

Every input is held to the limits of `guarded` and made from its seed alone.
"""

from collections import Counter

import pytest
from fuzzed_files import LARGEST, Folders

BLOCK = 1000  # inputs of a slow test


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return Folders(tmp_path_factory.mktemp("fuzz"))


@pytest.fixture(autouse=True)
def small_files(monkeypatch):
    monkeypatch.setenv("CONVEXSNN_LARGEST_GB", LARGEST)


def test_mutated_folders_are_refused_or_true(folders):
    found = Counter(folders.one(seed) for seed in range(150))
    assert found["refused"] > 80 and found["accepted, altered"] > 3


def test_claims_about_mutated_problems_are_refused_or_true(folders):
    found = Counter(folders.restated(seed) for seed in range(60))
    assert min(found["refused"], found["accepted"]) > 8


@pytest.mark.night
@pytest.mark.parametrize("block", range(1, 31))
def test_more_mutated_folders_are_refused_or_true(folders, block):
    for seed in range(block * BLOCK, (block + 1) * BLOCK):
        folders.one(seed)


@pytest.mark.night
@pytest.mark.parametrize("block", range(1, 11))
def test_more_claims_about_mutated_problems_are_refused_or_true(folders, block):
    for seed in range(block * BLOCK, (block + 1) * BLOCK):
        folders.restated(seed)
