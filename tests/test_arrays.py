"""Arrays that come in are checked, and refused by name and place."""

import numpy as np
import pytest

from convexsnn.arrays import (
    check_products,
    digest,
    plain_array,
    positive,
    real_array,
    shape_text,
)
from convexsnn.errors import ShapeError


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


def test_a_digest_is_of_names_types_shapes_and_values():
    one = np.arange(6.0).reshape(2, 3)
    same = np.repeat(one, 2, axis=1)[:, ::2]  # not in one piece
    assert digest(a=one) == digest(a=one.copy(order="F")) == digest(a=same) and len(digest(a=one)) == 64
    others = [{"b": one}, {"a": one.reshape(3, 2)}, {"a": one.astype(np.float32)}, {"a": one + 1e-15}]
    others += [{"a": one.view(np.int64)}, {"a": one, "b": one}, {"a": np.array("x")}, {"a": np.zeros(0)}, {}]
    assert len({digest(a=one), *(digest(**other) for other in others)}) == 10
    assert digest(a=one, b=np.ones(2)) == digest(b=np.ones(2), a=one)
