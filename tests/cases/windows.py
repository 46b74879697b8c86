"""Windows over images: im2col, its transpose, pooling, and depthwise convolutions."""

from __future__ import annotations

import dataclasses

import numpy as np
from onepass import ops

from ._case import (
    EXACT,
    Case,
    Tolerance,
    backward_only,
    computing,
    functional,
    gradients,
    has_torch,
    normal,
    roundings,
    tensor_of,
    torch,
    without_grad,
)


def both_axes(size):
    return size if isinstance(size, tuple) else (size, size)


def sides(padding):
    rows, columns = both_axes(padding)
    return rows, rows, columns, columns


class Windows:
    """The windows of an image (N, C, H, W), one by one."""

    def __init__(self, shape, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False):
        self.kernel = both_axes(kernel_size)
        self.stride = self.kernel if stride is None else both_axes(stride)
        self.dilation = both_axes(dilation)
        top, bottom, left, right = padding if np.size(padding) == 4 else sides(padding)
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
    """(N, C, H, W) of (N, H, W, C), or of either without N."""
    x = x if x.ndim == 4 else x[None]
    return np.moveaxis(x, 3, 1) if channels_last else x


def back(y, channels_last, like):
    """The inverse, with as many axes as `like`."""
    y = np.moveaxis(y, 1, 3) if channels_last else y
    return y if like.ndim == 4 else y[0]


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
    return back(dx, channels_last, like)


def max_pool2d(x, kernel_size, channels_last=False, **how):
    given, x = x, first(x, channels_last)
    windows = Windows(x.shape, kernel_size, **how)
    y = np.full((*x.shape[:2], *windows.counts), -np.inf)
    indices = np.full_like(y, -1)
    for p, q, under in windows.each():
        if not under:
            continue
        values = np.stack([x[:, :, i, j] for _, i, j in under])
        y[:, :, p, q] = values.max(axis=0)
        indices[:, :, p, q] = np.array([tap for tap, _, _ in under])[values.argmax(axis=0)]
    return back(y, channels_last, given), back(indices, channels_last, given)


def max_pool2d_backward(dy, x, kernel_size, channels_last=False, **how):
    _, indices = max_pool2d(x, kernel_size, channels_last, **how)
    dy, indices = first(dy, channels_last), first(indices, channels_last)
    dx = np.zeros(first(x, channels_last).shape)
    for p, q, under in Windows(dx.shape, kernel_size, **how).each():
        for tap, i, j in under:
            dx[:, :, i, j] += np.where(indices[:, :, p, q] == tap, dy[:, :, p, q], 0)
    return back(dx, channels_last, x)


def avg_pool2d(x, kernel_size, channels_last=False, count_include_pad=True, **how):
    given, x = x, first(x, channels_last)
    windows = Windows(x.shape, kernel_size, **how)
    y = np.zeros((*x.shape[:2], *windows.counts))
    for p, q, under in windows.each():
        n = windows.counted(0, p, count_include_pad) * windows.counted(1, q, count_include_pad)
        y[:, :, p, q] = sum(x[:, :, i, j] for _, i, j in under) / n
    return back(y, channels_last, given)


def avg_pool2d_backward(dy, x, kernel_size, channels_last=False, count_include_pad=True, **how):
    dy = first(dy, channels_last)
    dx = np.zeros(first(x, channels_last).shape)
    windows = Windows(dx.shape, kernel_size, **how)
    for p, q, under in windows.each():
        n = windows.counted(0, p, count_include_pad) * windows.counted(1, q, count_include_pad)
        for _, i, j in under:
            dx[:, :, i, j] += dy[:, :, p, q] / n
    return back(dx, channels_last, x)


class Parts(Windows):
    """Windows that divide an image, as many as `counts` says."""

    def __init__(self, shape, output_size):
        self.size, self.counts = shape[2:], both_axes(output_size)

    def each(self):
        for p in range(self.counts[0]):
            for q in range(self.counts[1]):
                rows, columns = self._part(0, p), self._part(1, q)
                yield p, q, [(0, i, j) for i in rows for j in columns]

    def _part(self, axis, window):
        size, count = self.size[axis], self.counts[axis]
        return range(window * size // count, -(-(window + 1) * size // count))


def adaptive_avg_pool2d(x, output_size, channels_last=False):
    given, x = x, first(x, channels_last)
    windows = Parts(x.shape, output_size)
    y = np.zeros((*x.shape[:2], *windows.counts))
    for p, q, under in windows.each():
        y[:, :, p, q] = sum(x[:, :, i, j] for _, i, j in under) / len(under)
    return back(y, channels_last, given)


def adaptive_avg_pool2d_backward(dy, x, output_size, channels_last=False):
    dy = first(dy, channels_last)
    dx = np.zeros(first(x, channels_last).shape)
    for p, q, under in Parts(dx.shape, output_size).each():
        for _, i, j in under:
            dx[:, :, i, j] += dy[:, :, p, q] / len(under)
    return back(dx, channels_last, x)


def depthwise_conv2d(x, weight, channels_last=False, stride=1, **how):
    given, x = x, first(x, channels_last)
    windows = Windows(x.shape, weight.shape[2:], stride, **how)
    taps = weight.reshape(len(weight), weight.shape[2] * weight.shape[3])
    y = np.zeros((*x.shape[:2], *windows.counts))
    for p, q, under in windows.each():
        for tap, i, j in under:
            y[:, :, p, q] += taps[:, tap] * x[:, :, i, j]
    return back(y, channels_last, given)


def depthwise_conv2d_backward(dy, weight, like, channels_last=False, stride=1, **how):
    dy = first(dy, channels_last)
    dx = np.zeros(first(like, channels_last).shape)
    taps = weight.reshape(len(weight), weight.shape[2] * weight.shape[3])
    for p, q, under in Windows(dx.shape, weight.shape[2:], stride, **how).each():
        for tap, i, j in under:
            dx[:, :, i, j] += taps[:, tap] * dy[:, :, p, q]
    return back(dx, channels_last, like)


def depthwise_conv2d_weight_backward(dy, x, kernel_size, channels_last=False, stride=1, **how):
    dy, x = first(dy, channels_last), first(x, channels_last)
    windows = Windows(x.shape, kernel_size, stride, **how)
    dweight = np.zeros((x.shape[1], int(np.prod(windows.kernel))))
    for p, q, under in windows.each():
        for tap, i, j in under:
            dweight[:, tap] += (dy[:, :, p, q] * x[:, :, i, j]).sum(axis=0)
    return dweight.reshape(x.shape[1], 1, *windows.kernel)


# ---------------------------------------------------------------------------------------- PyTorch


def _first(x, channels_last):
    return x.movedim(-1, -3) if channels_last else x


def _last(y, channels_last):
    return y.movedim(-3, -1) if channels_last else y


def _where_it_can(peer, pools=False):
    """``peer``, and None for what PyTorch refuses: no channels; pools with padding above half."""

    def call(*tensors, **options):
        kernel, padding = both_axes(options.get("kernel_size", 1)), options.get("padding", 0)
        if any(0 in t.shape[-3:] for t in tensors):
            return None
        if pools and any(2 * p > k for p, k in zip(both_axes(padding), kernel, strict=True)):
            return None
        return peer(*tensors, **options)

    return call


def _torch_depthwise(x, weight, channels_last=False, padding=0, **how):
    top, bottom, left, right = padding if np.size(padding) == 4 else sides(padding)
    symmetric = (top, left) if (top, left) == (bottom, right) else None
    image = _first(x, channels_last)
    if symmetric is None:
        image, symmetric = functional.pad(image, (left, right, top, bottom)), 0
    y = functional.conv2d(image, weight, padding=symmetric, groups=len(weight), **how)
    return _last(y, channels_last)


def _torch_im2col(x, kernel_size, channels_last=False, stride=1, padding=0, dilation=1):
    x = _first(x, channels_last)
    x = x[None] if x.ndim == 3 else x
    top, bottom, left, right = padding if np.size(padding) == 4 else sides(padding)
    padded = functional.pad(x, (left, right, top, bottom))
    cols = functional.unfold(padded, both_axes(kernel_size), dilation, 0, stride)
    if channels_last:
        taps = int(np.prod(both_axes(kernel_size)))
        split = cols.reshape(x.shape[0], x.shape[1], taps, cols.shape[2])
        return split.permute(0, 3, 2, 1).reshape(x.shape[0], cols.shape[2], taps * x.shape[1])
    return cols.permute(1, 0, 2)


def _torch_pool(name):
    def call(x, channels_last=False, **how):
        return _last(getattr(functional, name)(_first(x, channels_last), **how), channels_last)

    return call


def _torch_max(x, kernel_size, channels_last=False, **how):
    """(y, the taps that were the largest): PyTorch has the elements' indices in place of taps."""
    image = _first(x, channels_last)
    y, flat = functional.max_pool2d(image, kernel_size, return_indices=True, **how)
    windows = Windows((1, *image.shape)[-4:], kernel_size, **how)
    down, across = (torch.arange(n) for n in windows.counts)
    row, column = flat // image.shape[-1], flat % image.shape[-1]
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


def _torch_max_with_indices(x, kernel_size, channels_last=False, **how):
    """With PyTorch's indices as they are: to make taps of them takes longer than to pool."""
    image = _first(x, channels_last)
    y, flat = functional.max_pool2d(image, kernel_size, return_indices=True, **how)
    return _last(y, channels_last), flat


# ------------------------------------------------------------------------------------------- rows

SHAPES = [(1, 1, 4, 5), (2, 3, 7, 6), (3, 17, 5, 9), (2, 300, 4, 9), (1, 2, 5, 300), (0, 3, 5, 5)]
SHAPES += [(2, 0, 4, 5)]
# Channels in units of eight and alone, with more than a block of CUDA has at once.
LASTS = [(2, 64, 5, 6), (1, 301, 4, 5)]
ALONE = [(3, 5, 6)]  # an image without samples
BENCH = [(64, 16, 8, 8), (32, 64, 32, 32)]
LAST = {"channels_last": True}
WINDOWS = [
    {"kernel_size": 2},
    {"kernel_size": 3, "stride": 1, "padding": 1},
    {"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 0)},
    {"kernel_size": (2, 3), "stride": (1, 3), "dilation": (3, 1), "padding": (1, 1)},
    {"kernel_size": (1, 2), "dilation": (1, 2)},
    {"kernel_size": (2, 3), "stride": 2, "dilation": 2},
    {"kernel_size": (1, 4), "stride": 1, "dilation": (1, 3), "padding": (0, 3)},
    {"kernel_size": 4, "stride": 3, "padding": 2},
    {"kernel_size": (4, 5)},
    {"kernel_size": (2, 5), "stride": 1},
]
WINDOWS = [{**how, **last} for how in WINDOWS for last in ({}, LAST)]
SIDES = [{"kernel_size": 2, "padding": (0, 1, 2, 1), **last} for last in ({}, LAST)]
CEIL = [
    {"kernel_size": 3, "stride": 2, "ceil_mode": True},
    {"kernel_size": (2, 3), "stride": (3, 2), "padding": 1, "ceil_mode": True, **LAST},
    {"kernel_size": (2, 1), "stride": (3, 2), "ceil_mode": True},
    {"kernel_size": (3, 6), "stride": (2, 5), "ceil_mode": True},
]
AVERAGES = [how for how in WINDOWS if "dilation" not in how] + CEIL
AVERAGES += [{**how, "count_include_pad": False} for how in AVERAGES if "padding" in how]
# Even ones, uneven ones, more windows than elements along an axis, and than a line has lanes.
PARTS = [
    {"output_size": n, **last} for n in (1, 2, (3, 4), (7, 2), (1, 270)) for last in ({}, LAST)
]
ADAPTIVE = {"output_size": 7, **LAST}
BENCH_OPTIONS = {"kernel_size": 3, "padding": 1, "stride": 1, **LAST}


def _image(rng, shape, dtype, channels_last=False, **_):
    *n, c, h, w = shape
    return (normal(rng, (*n, h, w, c) if channels_last else shape, dtype),)


def _with(forward):
    """What goes back, shaped as the forward's result, and the image."""

    def make(rng, shape, dtype, **options):
        (x,) = _image(rng, shape, dtype, **options)
        y = forward(np.zeros(x.shape), **options)
        y = y[0] if isinstance(y, tuple) else y
        return normal(rng, y.shape, dtype), x

    return make


def _size(x, channels_last=False, **_):
    return x.shape[-3:-1] if channels_last else x.shape[-2:]


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


# More columns than the eight that are read together, and than the sixteen whose weights are kept.
WIDE = [
    {"kernel_size": (2, 9), "padding": (0, 5)},
    {"kernel_size": (1, 19), "stride": (1, 2), "padding": (0, 9)},
]
KERNELS = [how for how in WINDOWS if how["kernel_size"] != (4, 5)] + SIDES
KERNELS += [{**how, **last} for how in WIDE for last in ({}, LAST)]
KERNELS += [{"kernel_size": 3, "stride": 2, "padding": 1}]
# CUDA's shared memory holds the kernels of 40 channels, and of none.
MANY = [{"kernel_size": 10, "padding": 5}, {"kernel_size": (19, 28), "padding": (9, 14)}]
KERNELS += [{**how, **LAST} for how in MANY]
KERNELS = [{"stride": 1, **how} for how in KERNELS]


def _kernels(rng, x, dtype, kernel_size, channels_last=False, **_):
    """A kernel for each channel; of the dtype of x, or the one that it computes in."""
    channels = x.shape[-1 if channels_last else -3]
    wide = dtype if channels_last else computing(dtype)
    return normal(rng, (channels, 1, *both_axes(kernel_size)), wide)


def _depthwise_inputs(rng, shape, dtype, **options):
    (x,) = _image(rng, shape, dtype, **options)
    return x, _kernels(rng, x, dtype, **options)


def _depthwise_back(rng, shape, dtype, kernel_size, **options):
    x, weight = _depthwise_inputs(rng, shape, dtype, kernel_size=kernel_size, **options)
    y = depthwise_conv2d(np.zeros(x.shape), np.zeros(weight.shape), **options)
    return normal(rng, y.shape, dtype), weight, x


def _depthwise_weight_back(rng, shape, dtype, **options):
    dy, _, x = _depthwise_back(rng, shape, dtype, **options)
    return dy, x


def _without_kernel_size(call):
    return lambda *arrays, kernel_size=None, **options: call(*arrays, **options)


def _torch_kernel(x, kernel_size, channels_last=False, **_):
    channels = x.shape[-1 if channels_last else -3]
    return torch.zeros((channels, 1, *both_axes(kernel_size)), dtype=x.dtype, device=x.device)


def _depthwise_rows():
    def run_back(dy, weight, x, kernel_size=None, **options):
        out = {"out": options.pop("out")} if "out" in options else {}
        size = _size(x, **options)
        return ops.depthwise_conv2d_backward(dy, weight, size, **options, **out)

    def torch_back(dy, weight, x, kernel_size=None, **options):
        return gradients(_torch_depthwise(x, weight, **options), dy, [x])[0]

    def torch_weight_back(dy, x, kernel_size, **options):
        weight = _torch_kernel(x, kernel_size, **options).requires_grad_()
        return gradients(_torch_depthwise(x, weight, **options), dy, [weight])[0]

    def rival(inputs, keywords):
        if not has_torch():
            return {}
        x, weight = map(tensor_of, inputs)
        call = _without_kernel_size(_torch_depthwise)
        return {"torch": without_grad(lambda: call(x, weight, **keywords))}

    def rival_back(inputs, keywords):
        if not has_torch():
            return {}
        dy, weight, x = inputs
        call, weight = _without_kernel_size(_torch_depthwise), tensor_of(weight)
        return {"torch": backward_only(lambda x: call(x, weight, **keywords), [], x, dy)}

    def rival_weight_back(inputs, keywords):
        if not has_torch():
            return {}
        dy, x = inputs
        call, image = _without_kernel_size(_torch_depthwise), tensor_of(x)
        weight = _torch_kernel(image, **keywords)
        return {"torch": backward_only(lambda w: call(image, w, **keywords), [], weight, dy)}

    taps = _sums(20, "at most 19 products of two roundings each, added up")
    terms = _sums(34, "products, of which 32 are added in the computing type, and a rounding")
    terms = dataclasses.replace(terms, sums=4.0, least=8.0)
    for name, op, make, reference, peer, bound, rivals in (
        ("", _without_kernel_size(ops.depthwise_conv2d), _depthwise_inputs,
         _without_kernel_size(depthwise_conv2d), _without_kernel_size(_torch_depthwise), taps,
         rival),
        ("_backward", run_back, _depthwise_back, _without_kernel_size(depthwise_conv2d_backward),
         torch_back, taps, rival_back),
        ("_weight_backward", ops.depthwise_conv2d_weight_backward, _depthwise_weight_back,
         depthwise_conv2d_weight_backward, torch_weight_back, terms, rival_weight_back),
    ):  # fmt: skip
        yield Case(
            f"depthwise_conv2d{name}",
            "windows",
            op,
            make,
            reference,
            _where_it_can(peer),
            bound,
            lambda s: 2 * s,
            SHAPES + LASTS + ALONE,
            BENCH,
            rivals,
            KERNELS,
            BENCH_OPTIONS,
            out=True,
        )


def rows():
    yield from _depthwise_rows()
    forward = [
        ("im2col", im2col, _torch_im2col, EXACT, WINDOWS + SIDES, lambda s: 10 * s),
        ("max_pool2d", max_pool2d, _torch_max, EXACT, WINDOWS + CEIL, lambda s: 3 * s),
        ("avg_pool2d", avg_pool2d, _torch_pool("avg_pool2d"),
         _sums(16, "at most 16 elements, and a quotient"), AVERAGES, lambda s: 2 * s),
        ("adaptive_avg_pool2d", adaptive_avg_pool2d, _torch_pool("adaptive_avg_pool2d"),
         _sums(306, "at most 300 columns of 5 elements, and a quotient"), PARTS, lambda s: s),
    ]  # fmt: skip
    for name, reference, peer, bound, options, size in forward:
        yield Case(
            name,
            "windows",
            getattr(ops, name),
            _image,
            reference,
            _where_it_can(peer, pools="pool" in name),
            bound,
            size,
            SHAPES + LASTS + ALONE,
            BENCH,
            _rival(_torch_max_with_indices if name == "max_pool2d" else peer),
            options,
            ADAPTIVE if options is PARTS else BENCH_OPTIONS,
            out=True,
        )

    def of_col2im(cols, x, **options):
        out = {"out": options.pop("out")} if "out" in options else {}
        return ops.col2im(cols, _size(x, **options), **options, **out)

    def of_avg(dy, x, **options):
        out = {"out": options.pop("out")} if "out" in options else {}
        return ops.avg_pool2d_backward(dy, _size(x, **options), **options, **out)

    def of_adaptive(dy, x, output_size, **options):
        return ops.adaptive_avg_pool2d_backward(dy, _size(x, **options), **options)

    covered = _sums(16, "at most 16 windows cover an element, each with a quotient")
    shared = _sums(74, "at most 69 windows across and 2 down cover an element, with quotients")
    max_y = _torch_pool("max_pool2d")
    adaptive_y = _torch_pool("adaptive_avg_pool2d")
    avg_y = _torch_pool("avg_pool2d")
    backward = [
        ("col2im", of_col2im, col2im, im2col, _torch_im2col, WINDOWS + SIDES, 10, {}),
        ("max_pool2d_backward", ops.max_pool2d_backward, max_pool2d_backward, max_pool2d, max_y,
         WINDOWS + CEIL, 3, {"prepare": _pooled}),
        ("avg_pool2d_backward", of_avg, avg_pool2d_backward, avg_pool2d, avg_y, AVERAGES, 2, {}),
        ("adaptive_avg_pool2d_backward", of_adaptive, adaptive_avg_pool2d_backward,
         adaptive_avg_pool2d, adaptive_y, PARTS, 1, {}),
    ]  # fmt: skip
    for name, op, reference, forward_of, peer, options, arrays, more in backward:
        yield Case(
            name,
            "windows",
            op,
            _with(forward_of),
            reference,
            _where_it_can(
                lambda dy, x, peer=peer, **o: gradients(peer(x, **o), dy, [x])[0],
                pools="pool" in name,
            ),
            shared if options is PARTS else covered,
            lambda s, arrays=arrays: arrays * s,
            SHAPES + LASTS if name == "col2im" else SHAPES + LASTS + ALONE,
            BENCH,
            _rival_back(peer),
            options,
            ADAPTIVE if options is PARTS else BENCH_OPTIONS,
            out=True,
            **more,
        )
