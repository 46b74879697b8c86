"""Convolutions as matrix products of the array library, by pieces that fit into a cache.

A piece is some samples, or some rows of windows of one sample. Its windows are written side by side
(`ops.im2col`), and one product does them all. With the channels last the windows are the rows of
the matrix, else its columns, so that no weight and no large array is transposed. A kernel of one
element needs no windows. A depthwise convolution, which has no sums over channels, is a kernel
(`ops.depthwise_conv2d`).
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from onepass import ops
from onepass._array import Array, contiguous, empty, library
from onepass.nn._images import channels_first, channels_last, to_dense

PIECE = 256 << 10  # elements of the windows of a piece: a second-level cache of 1 MiB in float32


def _most(piece: int) -> int:
    """Elements that a piece has at most, and `Room` keeps.

    A sample beyond that is cut by rows into pieces of half of it or so: products of less are slow.
    """
    return 2 * piece


class Piece(NamedTuple):
    """Some samples, rows of their windows, and rows of the image under those."""

    samples: slice
    windows: slice
    rows: slice
    options: dict[str, Any]  # of ops.im2col over it
    number: int  # of its windows

    @property
    def on_padding(self) -> bool:
        """Whether no window touches the image."""
        return bool(self.rows.start == self.rows.stop)


class Room:
    """Memory for the windows of one piece after another.

    Each thread keeps that of its last call: the pages of a new megabyte take as long as a product.
    On a device the library's pool does so, which knows the streams.
    """

    def __init__(self, like: Array) -> None:
        self.like, self.host = like, library(like) is np
        self.flat = getattr(_kept, "flat", _NONE) if self.host else like[:0].reshape(-1)
        if self.flat.dtype != like.dtype:
            self.flat = self.flat.view(like.dtype)

    def take(self, *shape: int) -> Array:
        size = math.prod(shape)
        if self.flat.size < size:
            even = size + size % 2  # to be seen as float64 later
            self.flat = empty((even,), self.like.dtype, self.like)
            if self.host and size <= _most(PIECE):
                _kept.flat = self.flat
        return self.flat[:size].reshape(shape)


_kept, _NONE = threading.local(), np.empty(0)


@dataclass(frozen=True)
class Convolution:
    """``y[n, o] = Σ_c weight[o, c] ⋆ x[n, c]`` without a bias, and its gradients.

    Arrays of images are in C order: (N, C, H, W), or (N, H, W, C) with the channels last.
    """

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]  # above, below, left, right
    dilation: tuple[int, int]
    groups: int
    extents: tuple[int, int] = field(init=False, repr=False, compare=False)  # of a window

    def __post_init__(self) -> None:
        (rows, columns), (down, across) = self.kernel, self.dilation
        extents = (down * (rows - 1) + 1, across * (columns - 1) + 1)
        object.__setattr__(self, "extents", extents)

    def windows(self, height: int, width: int) -> tuple[int, int]:
        """How many there are down and across; 0 or less where the image is too small."""
        (tall, wide), (top, bottom, left, right) = self.extents, self.padding
        return (
            (height + top + bottom - tall) // self.stride[0] + 1,
            (width + left + right - wide) // self.stride[1] + 1,
        )

    def forward(self, x: Array, weight: Array, last: bool) -> Array:
        if last and self.groups > 1 and not self._is_depthwise(weight):
            y = self.forward(to_dense(channels_first(x), False), weight, False)
            return contiguous(channels_last(y))
        n, height, width, _ = _sizes(x, last)
        down, across = self.windows(height, width)
        shape = (n, down, across, len(weight)) if last else (n, len(weight), down, across)
        y = empty(shape, x.dtype, x)
        if n == 0:
            return y
        if self._is_depthwise(weight):
            ops.depthwise_conv2d(x, weight, channels_last=last, out=y, **self._steps())
        elif last:
            self._rows(x, weight, y)
        else:
            self._columns(x, weight, y)
        return y

    def backward(
        self, dy: Array, x: Array, weight: Array, last: bool, to_weight: Array | None, dx: bool
    ) -> Array | None:
        """Writes the weight's gradient to ``to_weight``, where there is one; dx, where wanted."""
        if last and self.groups > 1 and not self._is_depthwise(weight):
            given, image = (to_dense(channels_first(array), False) for array in (dy, x))
            to_x = self.backward(given, image, weight, False, to_weight, dx)
            return None if to_x is None else contiguous(channels_last(to_x))
        to_x = empty(x.shape, x.dtype, x) if dx else None
        if len(x) == 0:
            if to_weight is not None:
                to_weight[...] = 0
        elif self._is_depthwise(weight):
            options = {"channels_last": last, **self._steps()}
            if to_weight is not None:
                ops.depthwise_conv2d_weight_backward(dy, x, self.kernel, out=to_weight, **options)
            if to_x is not None:
                size = x.shape[1:3] if last else x.shape[2:]
                ops.depthwise_conv2d_backward(dy, weight, size, out=to_x, **options)
        elif last:
            self._rows_backward(dy, x, weight, to_weight, to_x)
        else:
            self._columns_backward(dy, x, weight, to_weight, to_x)
        return to_x

    def _steps(self) -> dict[str, Any]:
        return {"stride": self.stride, "padding": self.padding, "dilation": self.dilation}

    def _is_depthwise(self, weight: Array) -> bool:
        return self.groups == len(weight) and weight.shape[1] == 1 and self.groups > 1

    # -- pieces --------------------------------------------------------------------------------

    @property
    def _plain(self) -> bool:
        """Whether the windows are the elements."""
        return self.kernel == self.stride == (1, 1) and not any(self.padding) and self.groups == 1

    def _pieces(self, n: int, height: int, width: int, taps: int) -> tuple[Piece, ...]:
        """``taps`` are those of all channels."""
        cut = _pieces_of if n <= 1024 else _pieces_of.__wrapped__  # long lists are not kept
        return cut(self, n, height, width, taps, PIECE)

    def _cut(self, n: int, height: int, width: int, taps: int, piece: int) -> Iterator[Piece]:
        down, across = self.windows(height, width)
        options = self._steps()
        sample = max(1, down * across * taps)
        tall, (top, _, *beside) = self.extents[0], self.padding
        if sample > _most(piece):
            each = _balanced(down, max(1, piece // (across * taps)))
            for i in range(n):
                for first in range(0, down, each):
                    end = min(first + each, down)
                    begin = first * self.stride[0] - top
                    behind = (end - 1) * self.stride[0] - top + tall
                    low = min(max(begin, 0), height)
                    padding = (max(-begin, 0), max(behind - height, 0), *beside)
                    yield Piece(
                        slice(i, i + 1),
                        slice(first, end),
                        slice(low, max(low, min(behind, height))),  # empty: padding alone
                        {**options, "padding": padding},
                        (end - first) * across,
                    )
            return
        each = _balanced(n, max(1, piece // sample))
        for i in range(0, n, each):
            end = min(i + each, n)
            windows = (end - i) * down * across
            yield Piece(slice(i, end), slice(0, down), slice(0, height), options, windows)

    def _im2col(self, x: Array, piece: Piece, room: Room, last: bool) -> Array:
        """The windows of a piece as a matrix, whose rows or columns they are."""
        image = x[piece.samples, piece.rows] if last else x[piece.samples, :, piece.rows]
        taps, n = self.kernel[0] * self.kernel[1] * x.shape[3 if last else 1], len(image)
        windows = piece.number // n
        cols = room.take(*((n, windows, taps) if last else (taps, n, windows)))
        if piece.on_padding:
            cols[...] = 0
        else:
            ops.im2col(image, self.kernel, out=cols, channels_last=last, **piece.options)
        return cols.reshape((piece.number, taps) if last else (taps, piece.number))

    def _col2im(self, cols: Array, dx: Array, piece: Piece, last: bool) -> None:
        if piece.on_padding:
            return
        height, width = dx.shape[1:3] if last else dx.shape[2:]
        whole = piece.windows == slice(0, self.windows(height, width)[0])
        size = (piece.rows.stop - piece.rows.start, width)
        to = dx[piece.samples, piece.rows] if last else dx[piece.samples, :, piece.rows]
        n = len(to)
        part = ops.col2im(
            cols.reshape(n, -1, cols.shape[1]) if last else cols.reshape(len(cols), n, -1),
            size,
            self.kernel,
            out=to if whole else None,
            channels_last=last,
            **piece.options,
        )
        if not whole:  # neighbouring pieces share rows
            to += part

    # -- the channels last: a row of the matrix for each window --------------------------------

    def _rows(self, x: Array, weight: Array, y: Array) -> None:
        matmul, outputs = library(x).matmul, len(weight)
        by_rows = _by_rows(weight)
        if self._plain:
            matmul(x.reshape(-1, x.shape[3]), by_rows.T, out=y.reshape(-1, outputs))
            return
        room = Room(x)
        for piece in self._pieces(len(x), x.shape[1], x.shape[2], by_rows.shape[1]):
            cols = self._im2col(x, piece, room, True)
            matmul(cols, by_rows.T, out=y[piece.samples, piece.windows].reshape(-1, outputs))

    def _rows_backward(
        self, dy: Array, x: Array, weight: Array, dweight: Array | None, dx: Array | None
    ) -> None:
        matmul, outputs = library(x).matmul, len(weight)
        by_rows = _by_rows(weight)
        total = None
        if self._plain:
            rows, given = x.reshape(-1, x.shape[3]), dy.reshape(-1, outputs)
            if dweight is not None:
                total = matmul(given.T, rows)
            if dx is not None:
                matmul(given, by_rows, out=dx.reshape(rows.shape))
        else:
            room = Room(x)
            pieces = self._pieces(len(x), x.shape[1], x.shape[2], by_rows.shape[1])
            if dx is not None and not _cover(pieces, x.shape[1]):
                dx[...] = 0
            for piece in pieces:
                given = dy[piece.samples, piece.windows].reshape(-1, outputs)
                if dweight is not None:
                    cols = self._im2col(x, piece, room, True)
                    total = _added(total, matmul(given.T, cols))
                if dx is not None:
                    cols = room.take(piece.number, by_rows.shape[1])
                    self._col2im(matmul(given, by_rows, out=cols), dx, piece, True)
        if dweight is not None and total is not None:
            split = total.reshape(outputs, *self.kernel, x.shape[3])
            dweight[...] = split.transpose(0, 3, 1, 2)

    # -- C order, and groups: a column for each window ------------------------------------------

    def _columns(self, x: Array, weight: Array, y: Array) -> None:
        matmul = library(x).matmul
        by_group = self._by_group(weight)
        if self._plain:
            matmul(by_group[0], x.reshape(*x.shape[:2], -1), out=y.reshape(*y.shape[:2], -1))
            return
        room = Room(x)
        for piece in self._pieces(len(x), x.shape[2], x.shape[3], weight[0].size * self.groups):
            cols = self._im2col(x, piece, room, False)
            to = y[piece.samples, :, piece.windows]
            product = matmul(by_group, cols.reshape(self.groups, by_group.shape[2], -1))
            to[...] = product.reshape(to.shape[1], len(to), *to.shape[2:]).transpose(1, 0, 2, 3)

    def _columns_backward(
        self, dy: Array, x: Array, weight: Array, dweight: Array | None, dx: Array | None
    ) -> None:
        matmul = library(x).matmul
        by_group = self._by_group(weight)
        if self._plain and dx is not None:
            given = dy.reshape(*dy.shape[:2], -1)
            matmul(by_group[0].T, given, out=dx.reshape(*dx.shape[:2], -1))
            dx = None
        room = Room(x)
        total = None
        pieces = self._pieces(len(x), x.shape[2], x.shape[3], weight[0].size * self.groups)
        if dx is not None and not _cover(pieces, x.shape[2]):
            dx[...] = 0
        for piece in pieces if dweight is not None or dx is not None else ():
            part = dy[piece.samples, :, piece.windows].transpose(1, 0, 2, 3)
            given = contiguous(part).reshape(*by_group.shape[:2], -1)
            if dweight is not None:
                cols = self._im2col(x, piece, room, False)
                cols = cols.reshape(self.groups, by_group.shape[2], -1)
                total = _added(total, matmul(given, cols.transpose(0, 2, 1)))
            if dx is not None:
                cols = room.take(self.groups, by_group.shape[2], piece.number)
                matmul(by_group.transpose(0, 2, 1), given, out=cols)
                self._col2im(cols.reshape(-1, piece.number), dx, piece, False)
        if dweight is not None and total is not None:
            dweight[...] = total.reshape(dweight.shape)

    def _by_group(self, weight: Array) -> Array:
        return weight.reshape(self.groups, len(weight) // self.groups, -1)


@lru_cache(maxsize=256)  # the layers of a network, over and over
def _pieces_of(
    convolution: Convolution, n: int, height: int, width: int, taps: int, piece: int
) -> tuple[Piece, ...]:
    return tuple(convolution._cut(n, height, width, taps, piece))


def _sizes(x: Array, last: bool) -> tuple[int, int, int, int]:
    """Samples, height, width and channels."""
    n, *rest = x.shape
    return (n, *rest) if last else (n, rest[1], rest[2], rest[0])


def _by_rows(weight: Array) -> Array:
    """The weights (out, in, *kernel) as a matrix (out, kernel · in)."""
    return contiguous(weight.transpose(0, 2, 3, 1)).reshape(len(weight), -1)


def _cover(pieces: tuple[Piece, ...], height: int) -> bool:
    """Whether each piece writes all rows of its images."""
    return all(piece.rows == slice(0, height) for piece in pieces)


def _balanced(count: int, most: int) -> int:
    """The size of equal pieces of ``count`` that are no larger than ``most``."""
    pieces = -(-count // most)
    return -(-count // pieces)


def _added(total: Array | None, part: Array) -> Array:
    if total is None:
        return part
    total += part
    return total
