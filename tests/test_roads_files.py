"""Result folders from anybody: whole in themselves, and whatever they hold, refused in one line."""

import json
import os
import shutil
from pathlib import Path

import pytest

import convexsnn
from convexsnn.errors import VerificationError

RUNS = Path(__file__).parent / "contract" / "runs"
HUGE = "1" + "0" * 400
NO_NUMBERS = [HUGE, "-" + HUGE, "1e400", "NaN", "-Infinity", "[" * 50_000]
OTHERS = ['"xxx"', "{}", "[]", "null", "true", "1e308", "-0.0", "9223372036854775807"]
CLAIMED = {  # what admm.json claims; the rest are curves and settings of the run
    "problem", "status", "scope", "fingerprint", "network", "units", "objective", "lower_bound", "gap",
    "train_accuracy", "test_accuracy",
}  # fmt: skip


@pytest.fixture(params=["gaussian", "exact", "admm", "file"])
def run(request, tmp_path):
    return shutil.copytree(RUNS / request.param, tmp_path / "run")


def claim_of(folder):
    return next(folder / name for name in ("certificate.json", "admm.json") if (folder / name).exists())


def refused(folder):
    with pytest.raises(VerificationError) as caught:
        convexsnn.verify_folder(folder)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 2000
    return str(caught.value)


@pytest.mark.skipif(os.name != "posix", reason="pipes and devices")
@pytest.mark.parametrize("kind", ["pipe", "link", "link to /dev/zero", "folder"])
def test_a_file_that_is_none_is_refused_and_not_waited_for(run, kind):
    make = {
        "pipe": os.mkfifo,
        "link": lambda path: path.symlink_to(RUNS / "exact" / path.name),
        "link to /dev/zero": lambda path: path.symlink_to("/dev/zero"),
        "folder": lambda path: path.mkdir(),
    }
    for path in sorted(run.iterdir()):
        path.rename(run.parent / "aside")
        make[kind](path)
        assert path.name in refused(run)
        path.rmdir() if kind == "folder" else path.unlink()
        (run.parent / "aside").rename(path)
    convexsnn.verify_folder(run)


def put(file, stated, key, value):
    """Write a claim with one value as this text."""
    text = json.dumps({k: v for k, v in stated.items() if k != key})
    file.write_text(f'{text[:-1]}, "{key}": {value}}}')


@pytest.mark.parametrize("value", NO_NUMBERS)
def test_a_number_that_is_none_is_refused_wherever_it_stands(run, value):
    file = claim_of(run)
    stated = json.loads(file.read_text())
    for key in CLAIMED & stated.keys() if file.name == "admm.json" else stated:
        put(file, stated, key, value)
        assert refused(run)


@pytest.mark.parametrize("value", OTHERS)
def test_any_other_value_is_read_or_refused(run, value):
    file = claim_of(run)
    stated = json.loads(file.read_text())
    for key in stated if file.name != "admm.json" else CLAIMED:
        put(file, stated, key, value)
        try:
            convexsnn.verify_folder(run)
        except VerificationError as error:
            assert "\n" not in str(error)


def test_a_missing_key_is_refused(run):
    file = claim_of(run)
    stated = json.loads(file.read_text())
    for key in stated if file.name != "admm.json" else CLAIMED:
        file.write_text(json.dumps({k: v for k, v in stated.items() if k != key}))
        assert file.name in refused(run)


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"3", b"[" * 100_000, b'{"a":' * 100_000, b'{"a": 1, "a": 1}', b"\x00", b"\xff\xfe{"],
)
def test_a_claim_that_is_no_object_is_refused(run, content):
    claim_of(run).write_bytes(content)
    assert claim_of(run).name in refused(run)


@pytest.mark.parametrize("name", ["../data.npz", "/dev/zero", "{folder}/data.npz"])
def test_the_problem_names_no_file_elsewhere(run, name):
    text = (run / "problem.toml").read_text()
    shutil.copy(run / "data.npz", run.parent)
    assert 'file = "data.npz"' in text
    name = name.format(folder=run)
    (run / "problem.toml").write_text(text.replace('file = "data.npz"', f'file = "{name}"'))
    assert refused(run).startswith("problem.toml: data: a saved problem has file = 'data.npz' alone")
