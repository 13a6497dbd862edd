"""One bit an entry must be as good as a dense matrix: every product and view against numpy."""

import numpy as np
import pytest

from convexsnn import bits
from convexsnn.bits import PackedBits
from convexsnn.distinct import unique_rows
from convexsnn.errors import ShapeError

# whole words of 64 rows and what is left, whole fours of columns and what is left
SHAPES = [(1, 1), (7, 3), (8, 8), (9, 1), (16, 5), (33, 12), (5, 0), (3, 4100), (64, 4), (65, 9), (200, 31)]


@pytest.fixture(params=SHAPES, ids=str)
def dense(request):
    rng = np.random.default_rng(sum(request.param))
    return rng.random(request.param) < 0.4


@pytest.fixture(params=[None, 1, 20], ids=["one block", "a column a block", "a few columns a block"])
def block(request, monkeypatch):
    """Unpack in blocks that no test matrix fits into, besides the usual one that all fit into."""
    if request.param:
        monkeypatch.setattr(bits, "BLOCK", request.param)


def test_packing_and_unpacking_give_the_matrix_back(dense):
    packed = PackedBits.from_array(dense)
    assert packed.shape == dense.shape
    assert packed.toarray().dtype == bool
    assert np.array_equal(packed.toarray(), dense)
    assert packed.nbytes == dense.shape[1] * -(-dense.shape[0] // 8)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float32, np.float64])
def test_zeros_and_ones_of_any_type_are_packed(dtype):
    dense = np.array([[0, 1], [1, 1], [0, 0]])
    assert np.array_equal(PackedBits.from_array(dense.astype(dtype)).toarray(), dense)
    assert np.array_equal(PackedBits.from_array(dense.tolist()).toarray(), dense)


def test_the_packed_matrix_does_not_follow_the_array_it_came_from():
    dense = np.ones((3, 2), bool)
    packed = PackedBits.from_array(dense)
    dense[:] = False
    assert packed.toarray().all()


@pytest.mark.parametrize("outputs", [(), (1,), (3,)], ids=str)
@pytest.mark.parametrize("worth", [1, 10**9])
def test_products_are_those_of_the_dense_matrix(dense, outputs, worth, monkeypatch):
    monkeypatch.setattr(bits, "WORTH", worth)
    monkeypatch.setenv("CONVEXSNN_THREADS", "2")
    rng, packed = np.random.default_rng(0), PackedBits.from_array(dense)
    weights = rng.standard_normal((dense.shape[1], *outputs))
    weights[rng.random(dense.shape[1]) < 0.3] = 0.0
    rows = rng.standard_normal((dense.shape[0], *outputs))
    product, transposed = packed @ weights, packed.transpose_times(rows)
    assert product.shape == (dense.shape[0], *outputs)
    assert transposed.shape == (dense.shape[1], *outputs)
    np.testing.assert_allclose(product, dense @ weights, rtol=1e-12, atol=1e-11)
    np.testing.assert_allclose(transposed, dense.T @ rows, rtol=1e-12, atol=1e-11)


def test_long_columns_are_summed_in_pieces():
    """More rows than the numbers that stay in the first-level cache, more columns than a tile."""
    dense = np.random.default_rng(2).random((9000, 1100)) < 0.5
    weights, rows = np.arange(1100) % 7 - 3.0, np.arange(9000) % 11 - 5.0  # whole numbers: sums are exact
    packed = PackedBits.from_array(dense)
    assert np.array_equal(packed @ weights, dense @ weights)
    assert np.array_equal(packed.transpose_times(rows), dense.T @ rows)


@pytest.mark.parametrize("too_many", [-1, 1])
def test_products_refuse_vectors_of_another_length(too_many):
    packed = PackedBits.from_array(np.ones((5, 8)))
    with pytest.raises(ValueError):
        packed.transpose_times(np.ones(5 + too_many))
    with pytest.raises(ValueError):
        packed @ np.ones(8 + too_many)


def test_columns_are_selected_as_numpy_selects_them(dense):
    packed, count = PackedBits.from_array(dense), dense.shape[1]
    rng = np.random.default_rng(1)
    picked = rng.integers(count, size=6) if count else np.zeros(0, int)
    for columns in (slice(None), slice(1, None, 2), picked, rng.random(count) < 0.5, np.zeros(0, int)):
        assert np.array_equal(packed.select(columns).toarray(), dense[:, columns])
        assert np.array_equal(packed.toarray(columns), dense[:, columns])


def test_counts_are_the_column_sums(dense):
    assert PackedBits.from_array(dense).counts().tolist() == dense.sum(axis=0).tolist()


@pytest.mark.parametrize("rows", [[0], [2, 0, 2], list(range(9)), [4, 3, 2, 1, 0, 8, 7, 6, 5, 4]], ids=str)
@pytest.mark.parametrize("columns", [0, 1, 11])
def test_rows_are_taken_in_the_order_asked_for(rows, columns, block):
    dense = np.random.default_rng(2).random((9, columns)) < 0.5
    subset = PackedBits.from_array(dense).take_rows(np.array(rows))
    assert np.array_equal(subset.toarray(), dense[rows])
    # padding is zero again, or equal columns would no longer compare equal
    assert np.array_equal(subset.packed, PackedBits.from_array(dense[rows]).packed)


def first_and_inverse(items):
    """Return what unique_rows must return, by a dictionary."""
    seen: dict = {}
    inverse = [seen.setdefault(item, len(seen)) for item in items]
    return [inverse.index(k) for k in range(len(seen))], inverse


def test_distinct_columns_come_in_order_of_appearance(dense):
    first, inverse = PackedBits.from_array(dense).unique_columns()
    reference = first_and_inverse([tuple(column) for column in dense.T])
    assert (first.tolist(), inverse.tolist()) == reference
    assert np.array_equal(dense[:, first][:, inverse], dense)


@pytest.mark.parametrize("shape", [(6, 2), (1, 4), (0, 3), (4, 0), (0, 0)], ids=str)
@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
def test_distinct_rows_of_a_table(shape, dtype):
    table = np.random.default_rng(3).integers(2, size=shape).astype(dtype)
    first, inverse = unique_rows(table)
    assert (first.tolist(), inverse.tolist()) == first_and_inverse([tuple(row) for row in table])


def test_distinct_rows_of_a_table_that_is_not_contiguous():
    table = np.array([[1, 0, 1], [2, 5, 2]], np.uint8).T
    first, inverse = unique_rows(table)
    assert (first.tolist(), inverse.tolist()) == ([0, 1], [0, 1, 0])


def test_rows_as_bytes(dense):
    assert np.array_equal(PackedBits.from_array(dense).row_bytes(), np.packbits(dense, axis=1))


@pytest.mark.parametrize(
    "bad",
    [
        [0, 1],
        [[[0, 1]]],
        1,
        [[0, 2]],
        [[0.5, 1]],
        [[np.nan, 1]],
        [[-1, 0]],
        np.zeros((0, 3)),
        [["x", "y"]],
        [[None, 1]],
        [["0", "1"]],
    ],
    ids=repr,
)
def test_only_matrices_of_zeros_and_ones_are_packed(bad):
    with pytest.raises(ShapeError, match="dictionary: expected"):
        PackedBits.from_array(bad)


@pytest.mark.parametrize(
    ("packed", "rows"),
    [
        (np.zeros((2, 1), np.int64), 8),
        (np.zeros(2, np.uint8), 8),
        (np.zeros((2, 2), np.uint8), 8),
        (np.zeros((2, 1), np.uint8), 9),
        (np.zeros((2, 1), bool), 8),
    ],
)
def test_packed_bytes_must_fit_the_rows(packed, rows):
    with pytest.raises(ShapeError, match=f"packed: expected uint8 .* for {rows} rows"):
        PackedBits(packed, rows)
