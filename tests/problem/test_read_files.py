"""What a problem file may name and hold: regular files of a stated size, numbers of 64 bits."""

import os

import pytest
from small_problem_files import TABLES, changed, write

from convexsnn.errors import ConvexSNNError, ProblemFileError, ShapeError
from convexsnn.problem import load_problem, load_saved_problem


def refused(path, error=ProblemFileError):
    """Return the one line with which a problem file is refused."""
    with pytest.raises(ConvexSNNError) as caught:
        load_problem(path)
    assert isinstance(caught.value, error) and caught.value.exit_status == 2
    assert "\n" not in str(caught.value)
    return str(caught.value)


PIPES = pytest.mark.skipif(os.name != "posix", reason="pipes and devices")


@PIPES
@pytest.mark.parametrize("name", ["/dev/zero", "/dev/stdin", "/dev/full", "pipe", "link to a pipe"])
def test_only_regular_files_are_read(tmp_path, name):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link to a pipe").symlink_to("pipe")
    told = refused(write(tmp_path, {**TABLES, "data": {"file": name}}))
    assert told.endswith("is a pipe or a device, expected a file")


@PIPES
def test_a_problem_file_that_is_a_pipe_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.toml")
    assert refused(tmp_path / "pipe.toml").endswith("no such problem file")


def test_a_file_larger_than_is_read_is_refused_by_its_size(tmp_path, monkeypatch):
    with open(write(tmp_path), "ab") as file:
        file.truncate((1 << 26) + 1)  # nothing is on the disk
    assert refused(tmp_path / "problem.toml").endswith("67108865 bytes, at most 67108864 are read")
    monkeypatch.setenv("CONVEXSNN_LARGEST_GB", "1e-7")
    (tmp_path / "problem.toml").unlink()
    assert refused(write(tmp_path)).endswith(" bytes, at most 100 are read")
    monkeypatch.setenv("CONVEXSNN_LARGEST_GB", "many")
    assert "CONVEXSNN_LARGEST_GB: expected a positive number" in refused(
        tmp_path / "problem.toml", ShapeError
    )


@pytest.mark.parametrize(
    "number", ["1" * 401, "-9223372036854775809", "9223372036854775808", "0x" + "f" * 20]
)
@pytest.mark.parametrize("key", ["seed = {}", "weight_box = {}", "[[{}]]", "extra = {{ deep = [[{}]] }}"])
def test_a_whole_number_has_64_bits(tmp_path, number, key):
    write(tmp_path)
    line = key.format(number) if "[[" not in key or "deep" in key else f"list = {key.format(number)}"
    (tmp_path / "problem.toml").write_text(f'name = "x"\n[dictionary]\n{line}\n')
    told = refused(tmp_path / "problem.toml")
    assert "more than 64 bits" in told and len(told) < 300


@pytest.mark.parametrize(
    "text", ["x = " + "[" * 100_000, "x = " + "{a=" * 100_000, "[" + "a." * 100_000 + "b]"]
)
def test_deep_nesting_is_refused(tmp_path, text):
    (tmp_path / "problem.toml").write_text(text)
    assert refused(tmp_path / "problem.toml").startswith(str(tmp_path / "problem.toml"))


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("data", "file", "{folder}/data.npz"),
        ("data", "file", "../other/data.npz"),
        ("data", "file", "other.npz"),
        ("data", "file", "/dev/zero"),
        ("data", "file", "./data.npz"),
        ("data", "generator", "parity"),
        ("dictionary", "file", "../witnesses.npz"),
        ("dictionary", "file", "/etc/passwd"),
    ],
)
def test_a_saved_problem_names_no_other_file(tmp_path, section, key, value):
    tables, _ = changed(section, key, value.format(folder=tmp_path))
    assert load_saved_problem(write(tmp_path).parent).name == "small"
    (tmp_path / "other.npz").write_bytes((tmp_path / "data.npz").read_bytes())
    write(tmp_path, tables)
    with pytest.raises(ProblemFileError, match=f"problem.toml: {section}.*: a saved problem has"):
        load_saved_problem(tmp_path)
