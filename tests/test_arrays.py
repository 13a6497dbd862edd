"""The border of the package: what comes in is checked, never unpickled; what goes out is whole or absent."""

import io
import os
import pathlib
import pickle
import tracemalloc
import zipfile

import numpy as np
import pytest

from convexsnn.arrays import (
    check_products,
    digest,
    plain_array,
    positive,
    read_npz,
    real_array,
    shape_text,
    write_npz,
)
from convexsnn.errors import ProblemFileError, ShapeError

ARRAYS = {"a": np.arange(600.0).reshape(20, 30), "b": np.array([True, False]), "text": np.asarray("lif")}


def npz_bytes(save=np.savez_compressed, **arrays):
    buffer = io.BytesIO()
    save(buffer, **(arrays or ARRAYS))
    return buffer.getvalue()


# --- real_array, positive -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("axes", "shown"),
    [((), "()"), (("n",), "(n,)"), ((("m", 3),), "(m=3,)"), (("n", 2, ("d", 4)), "(n, 2, d=4)")],
)
def test_shapes_are_shown_as_python_shows_them(axes, shown):
    assert shape_text(axes) == shown


@pytest.mark.parametrize("value", [[[1, 2]], [[True, False]], np.ones((1, 2), "u1"), np.ones((1, 2), "f4")])
def test_real_numbers_of_any_type_become_a_float_array(value):
    for dtype in (np.float64, np.float32):
        array = real_array("x", value, ("n", ("d", 2)), dtype=dtype)
        assert array.dtype == dtype
        assert array.tolist() == np.asarray(value).tolist()


MASKED = np.ma.masked_equal([[1.0, 2.0], [3.0, -9.0]], -9.0)


class Table:
    """Like a table of pandas: an object that numpy reads as an array of objects."""

    def __init__(self, entries):
        self.entries = entries

    def __array__(self, dtype=None, copy=None):
        return np.array(self.entries, object)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (MASKED, "things: masked value at index (1, 1); fill masked values in"),
        ([MASKED[0], MASKED[1]], "things: masked value at index (1,)"),
        (Table([[1.0, None], [2.0, 3.0]]), "None at index (0, 1)"),
        (Table([[1.0, 2.0], ["a\nb", 3.0]]), "got dtype object, 'a\\nb' at index (1, 0)"),
        (Table([[1.0, 2 + 1j]]), "(2+1j) at index (0, 1)"),
        (Table([[1.0, 1 << 2000]]), "things: a whole number is too large"),
    ],
)
def test_values_that_are_missing_are_refused_by_place(value, told):
    for read in (plain_array, lambda name, value: real_array(name, value, ("n", ("d", 2)))):
        with pytest.raises(ShapeError) as caught:
            read("things", value)
        assert (
            str(caught.value).startswith("things: ")
            and told in str(caught.value)
            and "\n" not in str(caught.value)
        )


def test_a_mask_that_hides_nothing_and_objects_that_are_numbers_are_read():
    assert type(plain_array("x", np.ma.masked_array([1.0, 2.0], [False, False]))) is np.ndarray
    read = plain_array("x", Table([[1, np.float32(0.5)], [True, 2.0]]))
    assert read.dtype == np.float64 and read.tolist() == [[1.0, 0.5], [1.0, 2.0]]


def test_nullable_columns_of_pandas():
    pandas = pytest.importorskip("pandas")
    assert plain_array("y", pandas.Series([1, 2], dtype="Int64")).tolist() == [1, 2]
    with pytest.raises(ShapeError, match="^y: .*(<NA>|nan) at index"):
        real_array("y", pandas.Series([1, None], dtype="Int64"), ("n",))
    with pytest.raises(ShapeError, match="^y: nan at index"):
        real_array("y", pandas.Series([1.0, None]), ("n",))


def test_a_tensor_is_read_unless_gradients_should_flow_through():
    torch = pytest.importorskip("torch")
    tensor = torch.ones(3, 2)
    assert real_array("x", tensor, ("n", "d")).tolist() == tensor.tolist()
    tensor.requires_grad_()
    for value in (tensor, [tensor[0], tensor[1]]):
        with pytest.raises(ShapeError, match=r"^x: a tensor that requires gradients.*; give x.detach\(\)$"):
            real_array("x", value, ("n", "d"))
    assert real_array("x", tensor.detach(), ("n", "d")).shape == (3, 2)
    with pytest.raises(ShapeError, match="^x: ") as caught:
        real_array("x", torch.ones(3, 2, dtype=torch.bfloat16), ("n", "d"))
    assert "\n" not in str(caught.value)


def test_a_table_of_one_time_step_is_told_the_way_out():
    with pytest.raises(ShapeError, match=r"got \(5, 2\); one time step: inputs\[:, None, :\]$"):
        real_array("inputs", np.ones((5, 2)), ("n", "T", "d"))


@pytest.mark.parametrize("value", [1e160, -1e155, [1e308, 1e308]])
def test_numbers_whose_squares_overflow_are_refused(value):
    with pytest.raises(ShapeError, match="^x: numbers up to .* too large, their squares overflow$"):
        check_products("x", np.atleast_1d(np.array(value)))
    check_products("x", np.full(1000, 1e150))


def test_the_array_returned_is_a_copy():
    given = np.ones(3)
    real_array("x", given, ("n",))[0] = 5
    assert given[0] == 1


@pytest.mark.parametrize(
    ("value", "error_text"),
    [
        ([1.0, 2.0], "expected (n, d=2), got (2,)"),
        ([[1.0, 2.0, 3.0]], "expected (n, d=2), got (1, 3)"),
        (np.zeros((0, 2)), "(0, 2)"),
        ([[1.0, np.nan]], "nan at index (0, 1)"),
        ([[1.0, 2.0], [-np.inf, np.nan]], "-inf at index (1, 0)"),  # the first bad value is the one told
        ([["1", "2"]], "<U1"),
        ([[1j, 2]], "complex128"),
        ([[None, 1]], "object"),
        ([[1, 2], [3]], "expected real numbers (n, d=2)"),
        (np.zeros((1, 2), "M8[s]"), "datetime64"),
    ],
)
def test_bad_arrays_are_named(value, error_text):
    with pytest.raises(ShapeError) as caught:
        real_array("things", value, ("n", ("d", 2)))
    assert str(caught.value).startswith("things: ")
    assert error_text in str(caught.value)


@pytest.mark.filterwarnings("ignore:overflow")
def test_a_number_too_large_for_the_type_asked_for_is_refused():
    with pytest.raises(ShapeError, match="things: inf"):
        real_array("things", [1e300], ("n",), dtype=np.float32)


@pytest.mark.parametrize("value", [1, 0.5, 5e-324, 2**53, np.float32(0.5), np.int8(3), np.float64(2)])
def test_positive_numbers_pass_as_floats(value):
    assert positive("x", value) == value
    assert type(positive("x", value)) is float


HUGE = pytest.param(1 << 2000, id="huge")


@pytest.mark.parametrize(
    "value", [0, -1, -0.0, np.nan, np.inf, True, np.True_, "1", None, [1.0], np.array(1.0), 1j, HUGE]
)
def test_what_is_not_a_positive_number_is_named(value):
    with pytest.raises(ShapeError, match="^step: expected a positive number"):
        positive("step", value)


def test_large_whole_numbers_are_positive_numbers():
    assert positive("x", 10**20) == 1e20


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


def test_a_digest_is_of_names_types_shapes_and_values():
    one = np.arange(6.0).reshape(2, 3)
    same = np.repeat(one, 2, axis=1)[:, ::2]  # not in one piece
    assert digest(a=one) == digest(a=one.copy(order="F")) == digest(a=same) and len(digest(a=one)) == 64
    others = [{"b": one}, {"a": one.reshape(3, 2)}, {"a": one.astype(np.float32)}, {"a": one + 1e-15}]
    others += [{"a": one.view(np.int64)}, {"a": one, "b": one}, {"a": np.array("x")}, {"a": np.zeros(0)}, {}]
    assert len({digest(a=one), *(digest(**other) for other in others)}) == 10
    assert digest(a=one, b=np.ones(2)) == digest(b=np.ones(2), a=one)


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
