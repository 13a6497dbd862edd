"""Mutated manifests and claims: `--force` replaces what is ours or refuses in one line; the rest stays."""

import json
import random
import shutil
from collections import Counter
from pathlib import Path

import pytest
from fuzzed_files import mutated
from guarded import outcome

from convexsnn.errors import ProblemFileError
from convexsnn.training.folder import write_folder

RUNS = Path(__file__).parent.parent / "contract" / "runs"
FOREIGN = {"run/notes.txt": b"mine", "run/plots/one.txt": b"mine too", "outside.txt": b"elsewhere"}
BLOCK = 1000


def claim(target):
    (target / "path.json").write_text("{}")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return a folder with a result that has a manifest, and files of the user in it and beside it."""
    place = tmp_path_factory.mktemp("manifest")
    write_folder(place / "run", lambda target: shutil.copytree(RUNS / "path", target, dirs_exist_ok=True))
    (place / "run" / "plots").mkdir()
    for name, content in FOREIGN.items():
        (place / name).write_bytes(content)
    return place


def files_of(place):
    return {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}


def one(whole, place, seed):
    rng = random.Random(seed)
    shutil.copytree(whole, place)
    file = place / "run" / rng.choice(("manifest.json", "manifest.json", "path.json", "certificate.json"))
    if (
        file.name == "manifest.json" and rng.random() < 0.5
    ):  # names that lead elsewhere, of files that are there
        tree = json.loads(file.read_text())
        name = rng.choice(
            ("../outside.txt", "plots/one.txt", "plots", "..", ".", str(place / "outside.txt"), "")
        )
        tree["files"][name] = rng.choice(list(tree["files"].values()))
        file.write_text(json.dumps(tree))
    else:
        file.write_bytes(mutated(rng, file.name, file.read_bytes()))
    before = files_of(place)
    kept, refusal = outcome(write_folder, place / "run", claim, force=True)
    after = files_of(place)
    assert {name: after.get(name) for name in FOREIGN} == FOREIGN
    if refusal is None:
        assert {"notes.txt", "plots"} <= set(kept) and after["run/path.json"] == b"{}"
        assert set(after) >= {f"run/{name}" for name in kept if name != "plots"}
    else:
        assert isinstance(refusal, ProblemFileError) and after == before
    shutil.rmtree(place)
    return "refused" if refusal else "replaced"


def test_mutated_manifests_lose_nothing(whole, tmp_path):
    found = Counter(one(whole, tmp_path / "copy", seed) for seed in range(60))
    assert found["refused"] > 30 and found["replaced"] > 0


@pytest.mark.night
@pytest.mark.parametrize("block", range(1, 6))
def test_more_mutated_manifests_lose_nothing(whole, tmp_path, block):
    for seed in range(block * BLOCK, (block + 1) * BLOCK):
        one(whole, tmp_path / "copy", seed)
