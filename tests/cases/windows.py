"""Windows over images: im2col, its transpose, and pooling."""

from __future__ import annotations

import numpy as np
from onepass import ops

from cases._case import (
    EXACT,
    Case,
    Tolerance,
    backward_only,
    functional,
    gradients,
    has_torch,
    normal,
    roundings,
    tensor_of,
    torch,
    without_grad,
)


def two(size):
    return size if isinstance(size, tuple) else (size, size)


def four(padding):
    rows, columns = two(padding)
    return rows, rows, columns, columns


class Windows:
    """The windows of an image (N, C, H, W), one by one."""

    def __init__(self, shape, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False):
        self.kernel = two(kernel_size)
        self.stride = self.kernel if stride is None else two(stride)
        self.dilation = two(dilation)
        top, bottom, left, right = padding if np.size(padding) == 4 else four(padding)
        self.before, self.after, self.size = (top, left), (bottom, right), shape[2:]
        self.counts = tuple(self._count(axis, ceil_mode) for axis in (0, 1))

    def _count(self, axis, ceil_mode):
        span = self.dilation[axis] * (self.kernel[axis] - 1) + 1
        room = self.size[axis] + self.before[axis] + self.after[axis] - span
        count = (-(-room // self.stride[axis]) if ceil_mode else room // self.stride[axis]) + 1
        begins_behind = (count - 1) * self.stride[axis] >= self.size[axis] + self.before[axis]
        return count - (ceil_mode and begins_behind)

    def elements(self, axis, window):
        """(tap, element) for each tap of a window along an axis, on the padding too."""
        first = window * self.stride[axis] - self.before[axis]
        return [(i, first + i * self.dilation[axis]) for i in range(self.kernel[axis])]

    def each(self):
        """(row, column, [(tap, y, x)]) of each window, without what lies on the padding."""
        height, width = self.size
        for p in range(self.counts[0]):
            for q in range(self.counts[1]):
                yield (
                    p,
                    q,
                    [
                        (i * self.kernel[1] + j, y, x)
                        for i, y in self.elements(0, p)
                        for j, x in self.elements(1, q)
                        if 0 <= y < height and 0 <= x < width
                    ],
                )

    def counted(self, axis, window, include_pad):
        """The elements of a window that an average counts."""
        size, behind = self.size[axis], self.size[axis] + self.after[axis]
        low, high = (-self.before[axis], behind) if include_pad else (0, size)
        return sum(low <= e < high for _, e in self.elements(axis, window))


def first(x, channels_last):
    """(N, C, H, W) of (N, H, W, C)."""
    return np.moveaxis(x, 3, 1) if channels_last else x


def back(y, channels_last):
    return np.moveaxis(y, 1, 3) if channels_last else y


def im2col(x, kernel_size, channels_last=False, stride=1, **how):
    x = first(x, channels_last)
    windows = Windows(x.shape, kernel_size, stride, **how)
    n, c = x.shape[:2]
    taps, (down, across) = np.prod(windows.kernel), windows.counts
    cols = np.zeros((c, taps, n, down, across))
    for p, q, under in windows.each():
        for tap, i, j in under:
            cols[:, tap, :, p, q] = x[:, :, i, j].T
    if channels_last:
        return cols.transpose(2, 3, 4, 1, 0).reshape(n, down * across, taps * c)
    return cols.reshape(c * taps, n, down * across)


def col2im(cols, like, kernel_size, channels_last=False, stride=1, **how):
    dx = np.zeros(first(like, channels_last).shape)
    windows = Windows(dx.shape, kernel_size, stride, **how)
    n, c = dx.shape[:2]
    taps, (down, across) = int(np.prod(windows.kernel)), windows.counts
    if channels_last:
        cols = cols.reshape(n, down, across, taps, c).transpose(4, 3, 0, 1, 2)
    cols = cols.reshape(c, taps, n, down, across)
    for p, q, under in windows.each():
        for tap, i, j in under:
            dx[:, :, i, j] += cols[:, tap, :, p, q].T
    return back(dx, channels_last)


def max_pool2d(x, kernel_size, channels_last=False, **how):
    x = first(x, channels_last)
    windows = Windows(x.shape, kernel_size, **how)
    y = np.zeros((*x.shape[:2], *windows.counts))
    indices = np.zeros_like(y)
    for p, q, under in windows.each():
        values = np.stack([x[:, :, i, j] for _, i, j in under])
        y[:, :, p, q] = values.max(axis=0)
        indices[:, :, p, q] = np.array([tap for tap, _, _ in under])[values.argmax(axis=0)]
    return back(y, channels_last), back(indices, channels_last)


def max_pool2d_backward(dy, x, kernel_size, channels_last=False, **how):
    _, indices = max_pool2d(x, kernel_size, channels_last, **how)
    dy, indices = first(dy, channels_last), first(indices, channels_last)
    dx = np.zeros(first(x, channels_last).shape)
    for p, q, under in Windows(dx.shape, kernel_size, **how).each():
        for tap, i, j in under:
            dx[:, :, i, j] += np.where(indices[:, :, p, q] == tap, dy[:, :, p, q], 0)
    return back(dx, channels_last)


def avg_pool2d(x, kernel_size, channels_last=False, count_include_pad=True, **how):
    x = first(x, channels_last)
    windows = Windows(x.shape, kernel_size, **how)
    y = np.zeros((*x.shape[:2], *windows.counts))
    for p, q, under in windows.each():
        n = windows.counted(0, p, count_include_pad) * windows.counted(1, q, count_include_pad)
        y[:, :, p, q] = sum(x[:, :, i, j] for _, i, j in under) / n
    return back(y, channels_last)


def avg_pool2d_backward(dy, x, kernel_size, channels_last=False, count_include_pad=True, **how):
    dy = first(dy, channels_last)
    dx = np.zeros(first(x, channels_last).shape)
    windows = Windows(dx.shape, kernel_size, **how)
    for p, q, under in windows.each():
        n = windows.counted(0, p, count_include_pad) * windows.counted(1, q, count_include_pad)
        for _, i, j in under:
            dx[:, :, i, j] += dy[:, :, p, q] / n
    return back(dx, channels_last)


# ---------------------------------------------------------------------------------------- PyTorch


def _first(x, channels_last):
    return x.permute(0, 3, 1, 2) if channels_last else x


def _last(y, channels_last):
    return y.permute(0, 2, 3, 1) if channels_last else y


def _torch_im2col(x, kernel_size, channels_last=False, stride=1, padding=0, dilation=1):
    x = _first(x, channels_last)
    top, bottom, left, right = padding if np.size(padding) == 4 else four(padding)
    padded = functional.pad(x, (left, right, top, bottom))
    cols = functional.unfold(padded, two(kernel_size), dilation, 0, stride)
    if channels_last:
        taps = int(np.prod(two(kernel_size)))
        split = cols.reshape(x.shape[0], x.shape[1], taps, cols.shape[2])
        return split.permute(0, 3, 2, 1).reshape(x.shape[0], cols.shape[2], taps * x.shape[1])
    return cols.permute(1, 0, 2)


def _torch_pool(name):
    def call(x, kernel_size, channels_last=False, **how):
        y = getattr(functional, name)(_first(x, channels_last), kernel_size, **how)
        return _last(y, channels_last)

    return call


def _torch_max(x, kernel_size, channels_last=False, **how):
    """(y, the taps that were the largest): PyTorch has the elements' indices in place of taps."""
    image = _first(x, channels_last)
    y, flat = functional.max_pool2d(image, kernel_size, return_indices=True, **how)
    windows = Windows(image.shape, kernel_size, **how)
    down, across = (torch.arange(n) for n in windows.counts)
    row, column = flat // image.shape[3], flat % image.shape[3]
    i, j = (
        (at - (o * s - before)) // d
        for at, o, s, before, d in zip(
            (row, column),
            (down[:, None], across[None]),
            windows.stride,
            windows.before,
            windows.dilation,
            strict=True,
        )
    )
    taps = (i * windows.kernel[1] + j).to(x.dtype)
    return _last(y, channels_last), _last(taps, channels_last)


# ------------------------------------------------------------------------------------------- rows

SHAPES = [(1, 1, 4, 5), (2, 3, 7, 6), (3, 17, 5, 9), (2, 300, 4, 5), (1, 2, 5, 300), (0, 3, 5, 5)]
BENCH = [(64, 16, 8, 8), (32, 64, 32, 32)]
LAST = {"channels_last": True}
WINDOWS = [
    {"kernel_size": 2},
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 0)},
    {"kernel_size": (2, 3), "stride": (1, 3), "dilation": (3, 1), "padding": (1, 1)},
    {"kernel_size": (1, 2), "dilation": (1, 2)},
    {"kernel_size": 4, "stride": 3, "padding": 2},
]
WINDOWS = [{**how, **last} for how in WINDOWS for last in ({}, LAST)]
SIDES = [{"kernel_size": 2, "padding": (0, 1, 2, 1), **last} for last in ({}, LAST)]
CEIL = [
    {"kernel_size": 3, "stride": 2, "ceil_mode": True},
    {"kernel_size": (2, 3), "stride": (3, 2), "padding": 1, "ceil_mode": True, **LAST},
]
AVERAGES = [how for how in WINDOWS if "dilation" not in how] + CEIL
AVERAGES += [{**how, "count_include_pad": False} for how in AVERAGES if "padding" in how]
BENCH_OPTIONS = {"kernel_size": 3, "padding": 1, "stride": 1, **LAST}


def _image(rng, shape, dtype, channels_last=False, **_):
    n, c, h, w = shape
    return (normal(rng, (n, h, w, c) if channels_last else shape, dtype),)


def _with(forward):
    """What goes back, shaped as the forward's result, and the image."""

    def make(rng, shape, dtype, **options):
        (x,) = _image(rng, shape, dtype, **options)
        y = forward(np.zeros(x.shape), **options)
        y = y[0] if isinstance(y, tuple) else y
        return normal(rng, y.shape, dtype), x

    return make


def _size(x, channels_last=False, **_):
    return x.shape[1:3] if channels_last else x.shape[2:]


def _pooled(dy, x, **options):
    """What max_pool2d_backward takes."""
    return dy, ops.max_pool2d(x, **options)[1], _size(x, **options)


def _sums(count, why):
    """Sums of ``count`` terms, of which the largest may be as large as the largest result."""
    return Tolerance(0.5, roundings(count), why=f"{why}: {count} roundings of the sum", least=3.0)


def _rival(call):
    def rivals(inputs, keywords):
        if not has_torch():
            return {}
        x = tensor_of(inputs[0])
        return {"torch": without_grad(lambda: call(x, **keywords))}

    return rivals


def _rival_back(call):
    def rivals(inputs, keywords):
        if not has_torch():
            return {}
        return {"torch": backward_only(lambda x: call(x, **keywords), [], inputs[1], inputs[0])}

    return rivals


def rows():
    forward = [
        ("im2col", im2col, _torch_im2col, EXACT, WINDOWS + SIDES, lambda s: 10 * s),
        ("max_pool2d", max_pool2d, _torch_max, EXACT, WINDOWS + CEIL, lambda s: 3 * s),
        ("avg_pool2d", avg_pool2d, _torch_pool("avg_pool2d"),
         _sums(16, "at most 16 elements, and a quotient"), AVERAGES, lambda s: 2 * s),
    ]  # fmt: skip
    for name, reference, peer, bound, options, size in forward:
        yield Case(
            name,
            "windows",
            getattr(ops, name),
            _image,
            reference,
            peer,
            bound,
            size,
            SHAPES,
            BENCH,
            _rival(peer),
            options,
            BENCH_OPTIONS,
            out=True,
        )

    def of_col2im(cols, x, **options):
        out = {"out": options.pop("out")} if "out" in options else {}
        return ops.col2im(cols, _size(x, **options), **options, **out)

    def of_avg(dy, x, **options):
        out = {"out": options.pop("out")} if "out" in options else {}
        return ops.avg_pool2d_backward(dy, _size(x, **options), **options, **out)

    max_y = _torch_pool("max_pool2d")
    avg_y = _torch_pool("avg_pool2d")
    backward = [
        ("col2im", of_col2im, col2im, im2col, _torch_im2col, WINDOWS + SIDES, {}),
        ("max_pool2d_backward", ops.max_pool2d_backward, max_pool2d_backward, max_pool2d, max_y,
         WINDOWS + CEIL, {"prepare": _pooled}),
        ("avg_pool2d_backward", of_avg, avg_pool2d_backward, avg_pool2d, avg_y, AVERAGES, {}),
    ]  # fmt: skip
    for name, op, reference, forward_of, peer, options, more in backward:
        yield Case(
            name,
            "windows",
            op,
            _with(forward_of),
            reference,
            lambda dy, x, peer=peer, **o: gradients(peer(x, **o), dy, [x])[0],
            _sums(16, "at most 16 windows cover an element, each with a quotient"),
            lambda s: 3 * s,
            SHAPES,
            BENCH,
            _rival_back(peer),
            options,
            BENCH_OPTIONS,
            out=True,
            **more,
        )
