"""Files of arrays: what is read is checked and never unpickled; what is written is whole or absent."""

import io
import os
import pathlib
import pickle
import tracemalloc
import zipfile

import numpy as np
import pytest

from convexsnn.arrays import (
    read_npz,
    write_npz,
)
from convexsnn.errors import ProblemFileError

ARRAYS = {"a": np.arange(600.0).reshape(20, 30), "b": np.array([True, False]), "text": np.asarray("lif")}


def npz_bytes(save=np.savez_compressed, **arrays):
    buffer = io.BytesIO()
    save(buffer, **(arrays or ARRAYS))
    return buffer.getvalue()


# --- reading --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_come_back_as_they_were(tmp_path, save):
    path = tmp_path / "x.npz"
    path.write_bytes(npz_bytes(save))
    for given in (path, str(path)):
        back = read_npz(given)
        assert back.keys() == ARRAYS.keys()
        for key, array in ARRAYS.items():
            assert back[key].dtype == array.dtype
            assert np.array_equal(back[key], array)


def refused(path):
    """Return why `path` is not read; the message always starts with the path."""
    with pytest.raises(ProblemFileError) as caught:
        read_npz(path)
    assert str(caught.value).startswith(f"{path}: ")
    return str(caught.value).removeprefix(f"{path}: ")  # the name of a temporary folder proves nothing


def test_missing_files_and_folders_are_named(tmp_path):
    assert "no such file" in refused(tmp_path / "nothing.npz")
    assert "folder" in refused(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"\x00", b"hello\n" * 100, b"1,2\n3,4\n", b"\x93NUMPY", b"PK\x03\x04"]
)
def test_files_of_another_kind_are_refused(tmp_path, content):
    path = tmp_path / "x.npz"
    path.write_bytes(content)
    refused(path)


def test_a_text_file_is_not_called_a_pickle(tmp_path):
    path = tmp_path / "x.npz"
    path.write_text("[network]\nlayers = 2\n")
    assert "pickle" not in refused(path)


@pytest.mark.parametrize("part", [0.01, 0.1, 0.5, 0.9, 0.99, 0.999])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_truncated_files_are_refused(tmp_path, save, part):
    content = npz_bytes(save)
    path = tmp_path / "x.npz"
    path.write_bytes(content[: int(part * len(content))])
    refused(path)


def test_damaged_files_are_refused_or_read_but_nothing_else(tmp_path):
    rng = np.random.default_rng(0)
    content, path = npz_bytes(), tmp_path / "x.npz"
    for place in rng.integers(0, len(content), 300):
        damaged = bytearray(content)
        damaged[place] ^= int(rng.integers(1, 256))
        path.write_bytes(bytes(damaged))
        try:
            read_npz(path)  # a flipped bit in a date or a name is no damage to see
        except ProblemFileError as error:
            assert str(error).startswith(str(path))


def test_a_plain_npy_file_is_refused(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, np.ones(3))
    assert "not an .npz file" in refused(path)


def test_a_zip_file_of_something_else_is_refused(tmp_path):
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "no array")
    refused(path)


class Marker:  # unpickling one creates a file, as a hostile pickle would run its command
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return pathlib.Path.touch, (self.path,)


@pytest.mark.parametrize("container", ["npz", "npz, among plain arrays", "npy", "pickle"])
def test_nothing_is_ever_unpickled(tmp_path, container):
    marker, path = tmp_path / "was_here", tmp_path / "x.npz"
    hostile = np.array([Marker(marker)], dtype=object)
    if container == "pickle":
        content = pickle.dumps(Marker(marker))
    elif container == "npy":
        buffer = io.BytesIO()
        np.save(buffer, hostile)
        content = buffer.getvalue()
    else:
        content = npz_bytes(**(ARRAYS if "," in container else {}), hostile=hostile)
    path.write_bytes(content)
    reason = refused(path)
    assert "pickle" in reason or container in ("npy", "pickle")  # refused for being no .npz at all is as good
    assert not marker.exists()
    # the file is as dangerous as this test needs it to be
    loaded = np.load(path, allow_pickle=True)
    if "npz" in container:
        loaded["hostile"]
    assert marker.exists()


# --- writing --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["x.npz", "x.result", "x"])  # numpy alone would add .npz
def test_written_files_have_just_the_name_asked_for(tmp_path, name):
    write_npz(tmp_path / name, ARRAYS)
    write_npz(str(tmp_path / name), ARRAYS)
    assert os.listdir(tmp_path) == [name]
    back = read_npz(tmp_path / name)
    assert all(np.array_equal(back[key], ARRAYS[key]) for key in ARRAYS)


class Unwritable:  # fails while the file is half written, as a full disk would
    def __reduce__(self):
        raise OSError("no space left")


def test_a_failing_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "x.npz"
    write_npz(path, ARRAYS)
    before = path.read_bytes()
    with pytest.raises((OSError, ValueError)):
        write_npz(path, {"a": np.ones(1000), "b": np.array([Unwritable()], dtype=object)})
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["x.npz"]


def test_writing_over_a_folder_leaves_it_and_nothing_else(tmp_path):
    (tmp_path / "x.npz").mkdir()
    with pytest.raises(OSError):
        write_npz(tmp_path / "x.npz", ARRAYS)
    assert os.listdir(tmp_path) == ["x.npz"]
    assert (tmp_path / "x.npz").is_dir()


def test_objects_are_not_written(tmp_path):
    with pytest.raises(ValueError):
        write_npz(tmp_path / "x.npz", {"a": np.array([{}], dtype=object)})


@pytest.mark.parametrize("key", ["file", "allow_pickle"])
def test_an_array_may_have_any_name(tmp_path, key):
    write_npz(tmp_path / "x.npz", {key: np.ones(2)})
    assert read_npz(tmp_path / "x.npz").keys() == {key}


@pytest.mark.skipif(os.name != "posix", reason="file modes")
def test_written_files_have_the_usual_permissions(tmp_path):
    (tmp_path / "usual").touch()
    write_npz(tmp_path / "x.npz", ARRAYS)
    assert (tmp_path / "x.npz").stat().st_mode == (tmp_path / "usual").stat().st_mode


# --- sizes: checked before memory is taken for them ---------------------------------------------------


def header_of(shape, dtype="<f8", version=1):
    """Return the start of an .npy file that says this shape."""
    text = repr({"descr": dtype, "fortran_order": False, "shape": shape}).encode()
    text += b" " * (-(len(text) + 1 + (10 if version == 1 else 12)) % 64) + b"\n"
    return b"\x93NUMPY" + bytes([version, 0]) + len(text).to_bytes(2 if version == 1 else 4, "little") + text


def zip_of(path, name="a.npy", content=b"", compression=zipfile.ZIP_DEFLATED, zeros=0):
    with zipfile.ZipFile(path, "w", compression) as archive:
        with archive.open(name, "w", force_zip64=True) as member:
            member.write(content)
            for _ in range(zeros >> 20):
                member.write(bytes(1 << 20))
    return path


def peak(work):
    """Return the largest memory that Python and numpy took for some work, in bytes."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_small_file_that_unfolds_to_much_is_refused_unread(tmp_path, monkeypatch):
    monkeypatch.setenv("CONVEXSNN_LARGEST_GB", "0.05")
    path = zip_of(tmp_path / "x.npz", content=header_of((1 << 23,)), zeros=1 << 26)
    assert path.stat().st_size < 150_000
    assert peak(lambda: refused(path)) < 1 << 21
    assert "more than 0.05 GB when unfolded" in refused(path)
    monkeypatch.setenv("CONVEXSNN_LARGEST_GB", "0.07")
    assert read_npz(path)["a"].size == 1 << 23


SHAPES = [
    (10**12,), (1 << 62, 1 << 62), (-1,), (-(1 << 40), -8), (2**63,), (10**400,), (0, 10**30), (3, "a"),
    (2.5,), tuple(range(1, 100)), (True,) * 3,
]  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: str(shape)[:30])
@pytest.mark.parametrize("dtype", ["<f8", "<U0", "|V0", "<U1000000", "O", "|S1"])
@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_header_takes_no_more_memory_than_the_file_has(tmp_path, shape, dtype, version):
    path = zip_of(tmp_path / "x.npz", content=header_of(shape, dtype, version) + bytes(64))
    assert peak(lambda: refused(path)) < 1 << 21


@pytest.mark.parametrize("length", [1 << 31, (1 << 32) - 1, 70_000])
def test_a_long_header_is_not_read(tmp_path, length):
    start = b"\x93NUMPY\x02\x00" + length.to_bytes(4, "little")
    path = zip_of(tmp_path / "x.npz", content=start, zeros=1 << 24)
    assert peak(lambda: refused(path)) < 1 << 22


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_no_other_compression_is_read(tmp_path, compression):
    refused(zip_of(tmp_path / "x.npz", content=header_of((2,)) + bytes(16), compression=compression))


def test_a_name_twice_is_refused(tmp_path):
    path = tmp_path / "x.npz"
    with pytest.warns(UserWarning), zipfile.ZipFile(path, "w") as archive:
        for value in (1.0, 2.0):
            archive.writestr("a.npy", header_of((1,)) + np.float64(value).tobytes())
    assert "'a.npy'" in refused(path)


@pytest.mark.parametrize("before", [b"x", b"\x93NUMPY", b"#!/bin/sh\n"])
def test_an_archive_behind_something_else_is_refused(tmp_path, before):
    """A zip file may begin anywhere, so that the same file is an archive and something else."""
    write_npz(tmp_path / "a.npz", {"a": np.ones(3)})
    (tmp_path / "a.npz").write_bytes(before + (tmp_path / "a.npz").read_bytes())
    with pytest.raises(ProblemFileError, match="damaged or not an .npz file"):
        read_npz(tmp_path / "a.npz")


@pytest.mark.parametrize("by", [-8, 8])
def test_more_or_less_than_the_header_says_is_refused(tmp_path, by):
    refused(zip_of(tmp_path / "x.npz", content=header_of((4,)) + bytes(32 + by)))
