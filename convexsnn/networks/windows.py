"""Windows: average pooling and square patches of the images that a layer takes; both are linear.

An image is (channel, row, column), flattened. With p × p pooling and k × k patches

    gather     x -> the patches of pooled x           a layer's drive is gather(x) · weightsᵀ
    scatter    the transpose of gather                needed by gradients and least squares
    matrix     weights -> the matrix of the whole layer, units in the order (filter, row, column)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from convexsnn.arrays import FloatArray, whole
from convexsnn.errors import ShapeError

if TYPE_CHECKING:
    from scipy.sparse import csr_array


@dataclass(frozen=True)
class Window:
    """Average pooling, then square patches without padding.

    Parameters
    ----------
    shape : (channels, height, width)
        Shape of the layer's inputs.
    pool : int
        p: means of p × p squares that do not overlap; incomplete squares at the edge are dropped.
    kernel : int or None
        k, side of the patches; None if the whole pooled image is one patch.
    stride : int
        Distance between neighbouring patches.

    Raises
    ------
    ShapeError
        A number that is not whole and positive, or a square larger than the image.
    """

    shape: tuple[int, int, int]
    pool: int = 1
    kernel: int | None = None
    stride: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", image_shape(self.shape))
        least_side = min(self.shape[1:])
        object.__setattr__(self, "pool", whole("pool", self.pool, most=least_side))
        if self.kernel is not None:
            kernel = whole("kernel", self.kernel, most=least_side // self.pool)
            object.__setattr__(self, "kernel", kernel)
        most = 1 if self.kernel is None else None  # a single patch has no neighbour
        object.__setattr__(self, "stride", whole("stride", self.stride, most=most))

    @property
    def inputs(self) -> int:
        """Length of a flattened image."""
        c, h, w = self.shape
        return c * h * w

    @property
    def pooled(self) -> tuple[int, int, int]:
        """Shape of the pooled image, (channels, height, width)."""
        c, h, w = self.shape
        return c, h // self.pool, w // self.pool

    @property
    def sides(self) -> tuple[int, int]:
        """Rows and columns of one patch."""
        return self.pooled[1:] if self.kernel is None else (self.kernel, self.kernel)

    @property
    def patch(self) -> int:
        """Length of one flattened patch."""
        return self.shape[0] * self.sides[0] * self.sides[1]

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        (_, h, w), (a, b) = self.pooled, self.sides
        return (h - a) // self.stride + 1, (w - b) // self.stride + 1

    @property
    def positions(self) -> int:
        """Number of patches."""
        return self.grid[0] * self.grid[1]

    def output_shape(self, filters: int) -> tuple[int, int, int]:
        """Return the shape of the layer's units as an image, (filters, rows, columns)."""
        return filters, *self.grid

    def gather(self, x: FloatArray) -> FloatArray:
        """Return the patches of images: `x` (rows, inputs) -> (rows, positions, patch).

        Raises
        ------
        ShapeError
            `x` is not (rows, inputs).
        """
        if x.ndim != 2 or x.shape[1] != self.inputs:
            raise ShapeError(f"x: expected (rows, inputs={self.inputs}), got {x.shape}")
        images = x.reshape(-1, *self.shape)
        return self._patches(self._means(images) if self.pool > 1 else images)

    def _of_squares(self, images: FloatArray) -> list[FloatArray]:
        """Return the p² pixels of every square, as views (rows, *pooled) of `images`."""
        (_, h, w), p = self.pooled, self.pool
        return [images[:, :, i : h * p : p, j : w * p : p] for i, j in np.ndindex(p, p)]

    def _means(self, images: FloatArray) -> FloatArray:
        """Pool images (rows, *shape), to (rows, *pooled)."""
        total = np.zeros((len(images), *self.pooled), np.result_type(images, np.float32))
        for pixels in self._of_squares(images):  # p² long sums; numpy's mean makes many short ones
            total += pixels
        return total / self.pool**2

    def _patches(self, pooled: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Cut pooled images (rows, channels, height, width) into patches, (rows, positions, patch)."""
        views = np.lib.stride_tricks.sliding_window_view(pooled, self.sides, axis=(2, 3))
        views = views[:, :, :: self.stride, :: self.stride].transpose(0, 2, 3, 1, 4, 5)
        return views.reshape(len(pooled), self.positions, self.patch)

    def scatter(self, p: FloatArray) -> FloatArray:
        """Return the transpose of `gather`: `p` (rows, positions, patch) -> (rows, inputs).

        Raises
        ------
        ShapeError
            `p` is not (rows, positions, patch).
        """
        if p.ndim != 3 or p.shape[1:] != (self.positions, self.patch):
            axes = f"(rows, positions={self.positions}, patch={self.patch})"
            raise ShapeError(f"p: expected {axes}, got {p.shape}")
        (c, h, w), (a, b), (rows, columns) = self.pooled, self.sides, self.grid
        if self.kernel is None:
            pooled = p.reshape(-1, c, h, w)
        else:
            pooled = np.zeros((len(p), c, h, w), p.dtype)
            patches = p.reshape(-1, rows, columns, c, a, b).transpose(4, 5, 0, 3, 1, 2)
            for i, j in np.ndindex(a, b):  # one pixel of all patches at a time: k² steps for any image size
                below, right = i + self.stride * rows, j + self.stride * columns
                pooled[:, :, i : below : self.stride, j : right : self.stride] += patches[i, j]
        return self._spread(pooled).reshape(-1, self.inputs)

    def _spread(self, pooled: FloatArray) -> FloatArray:
        """Return the transpose of pooling, (rows, channels, height, width)."""
        if self.pool == 1:
            return pooled
        spread = np.zeros((len(pooled), *self.shape), pooled.dtype)
        for pixels in self._of_squares(spread):
            pixels[...] = pooled / self.pool**2
        return spread

    def matrix(self, weights: FloatArray) -> csr_array:
        """Return the weights of every unit: `weights` (filters, patch) -> (filters · positions, inputs).

        Raises
        ------
        ShapeError
            `weights` is not (filters, patch).
        """
        from scipy.sparse import csr_array

        if weights.ndim != 2 or weights.shape[1] != self.patch:
            raise ShapeError(f"weights: expected (filters, patch={self.patch}), got {weights.shape}")
        filters, (c, h, w) = len(weights), self.pooled
        pixels = self._patches(np.arange(c * h * w).reshape(1, c, h, w))
        columns = np.broadcast_to(pixels, (filters, self.positions, self.patch)).ravel()
        values = np.repeat(weights, self.positions, axis=0).ravel()
        starts = np.arange(0, len(values) + 1, self.patch)
        on_pooled = csr_array((values, columns, starts), shape=(filters * self.positions, c * h * w))
        return on_pooled @ self._pooling(weights.dtype)

    def _pooling(self, dtype: npt.DTypeLike) -> csr_array:
        """Return the matrix of the pooling, (pooled pixels, inputs)."""
        from scipy.sparse import coo_array

        (c, h, w), p = self.pooled, self.pool
        pixels = np.arange(self.inputs).reshape(self.shape)[:, : h * p, : w * p].ravel()
        squares = np.arange(c * h * w).reshape(c, h, w).repeat(p, axis=1).repeat(p, axis=2).ravel()
        weights = np.full(len(pixels), 1.0 / p**2, dtype)
        return coo_array((weights, (squares, pixels)), shape=(c * h * w, self.inputs)).tocsr()


def image_shape(shape: object) -> tuple[int, int, int]:
    """Return `shape` as (channels, height, width), or raise a ShapeError that names it."""
    if not isinstance(shape, (tuple, list)) or len(shape) != 3:
        raise ShapeError(f"shape: expected three whole numbers (channels, height, width), got {shape!r}")
    c, h, w = (whole("shape", side) for side in shape)
    return c, h, w
