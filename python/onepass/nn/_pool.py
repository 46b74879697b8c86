"""Pooling of images: the largest or the mean element of each window."""

from __future__ import annotations

from typing import Any

from onepass import _numbers as numbers
from onepass import ops
from onepass._array import Array
from onepass.nn._checks import Like, check_gradient
from onepass.nn._images import image, lies_channels_last, pair, to_dense, to_images
from onepass.nn._module import Module
from onepass.nn._signal import Passing

Pair = int | tuple[int, int]


def _taken(owner: str, x: Array) -> tuple[Array, bool, Like]:
    """x as the kernels take it, whether its channels are last, and its kind."""
    kind, last = image(owner, x), lies_channels_last(x)
    return to_dense(x, last), last, kind


class _Pool(Passing, Module):
    """A pool over windows of one size: one kernel forward and one backward.

    Its attributes may change between calls; backward is that of the forward before it.
    """

    kernel_size: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    ceil_mode: bool

    def _make(self, kernel_size: Any, stride: Any, padding: Any, ceil_mode: Any) -> None:
        owner = type(self).__name__
        self.kernel_size = pair(owner, "kernel_size", kernel_size, 1)
        self.stride = self.kernel_size if stride is None else pair(owner, "stride", stride, 1)
        self.padding = pair(owner, "padding", padding, 0)
        self.ceil_mode = numbers.flag(owner, "ceil_mode", ceil_mode)

    def _check_padding(self, spans: tuple[int, ...]) -> None:
        if any(2 * p > span for p, span in zip(self.padding, spans, strict=True)):
            raise ValueError(
                f"{type(self).__name__}: 'padding' is {self.padding}, expected at most half of the "
                f"window, which spans {spans}"
            )

    def _options(self) -> dict[str, Any]:
        return {
            "kernel_size": self.kernel_size,
            "stride": self.stride,
            "padding": self.padding,
            "ceil_mode": self.ceil_mode,
        }

    def extra_repr(self) -> str:
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
            f"ceil_mode={self.ceil_mode}"
        )


class MaxPool2d(_Pool):
    """The largest element of each window of (N, C, H, W); `ops.max_pool2d`.

    The gradient goes to the first of equal elements. y lies in memory as x does, in C order or with
    the channels last.

    Args:
        kernel_size: rows and columns of a window; like all sizes a number for both, or a pair.
        stride: from one window to the next; None for kernel_size.
        padding: around the image, at most half a window; never the largest.
        dilation: from one element of a window to the next.
        ceil_mode: the last windows may reach beyond the padding, also the only one of an image that
            is smaller than it by less than a stride.

    Raises:
        TypeError: a size is not a whole number; in forward and backward, not an array of floats, or
            another dtype.
        ValueError: a size out of range; in forward, another shape or an image that is smaller than
            a window; in backward, another shape than y.

    Example:
        >>> import numpy as np
        >>> from onepass import nn
        >>> nn.MaxPool2d(2)(np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)).tolist()
        [[[[5.0, 7.0], [13.0, 15.0]]]]
    """

    def __init__(
        self,
        kernel_size: Pair,
        stride: Pair | None = None,
        padding: Pair = 0,
        dilation: Pair = 1,
        ceil_mode: bool = False,
    ) -> None:
        self._make(kernel_size, stride, padding, ceil_mode)
        self.dilation = pair("MaxPool2d", "dilation", dilation, 1)
        sizes = zip(self.kernel_size, self.dilation, strict=True)
        self._check_padding(tuple(d * (k - 1) + 1 for k, d in sizes))

    def _options(self) -> dict[str, Any]:
        return {**super()._options(), "dilation": self.dilation}

    def forward(self, x: Array) -> Array:
        array, last, (lib, dtype, shape) = _taken("MaxPool2d", x)
        options = self._options()
        y, indices = ops.max_pool2d(array, channels_last=last, **options)
        y = to_images(y, last)
        self._remember((indices, last, shape, options, (lib, dtype, tuple(y.shape))))
        return y

    def backward(self, dy: Array, *, need_input_grad: bool = True) -> Array | None:
        indices, last, shape, options, y = self.recall()
        if not need_input_grad:
            return None
        check_gradient("MaxPool2d.backward", dy, y)
        dx = ops.max_pool2d_backward(
            to_dense(dy, last), indices, shape[2:], channels_last=last, **options
        )
        return to_images(dx, last)


class AvgPool2d(_Pool):
    """The mean of each window of (N, C, H, W); `ops.avg_pool2d`.

    y lies in memory as x does, in C order or with the channels last.

    Args:
        kernel_size: rows and columns of a window; like all sizes a number for both, or a pair.
        stride: from one window to the next; None for kernel_size.
        padding: zeros around the image, at most half a window.
        ceil_mode: as of `MaxPool2d`; what lies beyond the padding is not counted.
        count_include_pad: the mean counts the padding.

    Raises:
        TypeError: as `MaxPool2d`.
        ValueError: as `MaxPool2d`.

    Example:
        >>> import numpy as np
        >>> from onepass import nn
        >>> nn.AvgPool2d(2)(np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)).tolist()
        [[[[2.5, 4.5], [10.5, 12.5]]]]
    """

    def __init__(
        self,
        kernel_size: Pair,
        stride: Pair | None = None,
        padding: Pair = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        self._make(kernel_size, stride, padding, ceil_mode)
        self.count_include_pad = numbers.flag("AvgPool2d", "count_include_pad", count_include_pad)
        self._check_padding(self.kernel_size)

    def _options(self) -> dict[str, Any]:
        return {**super()._options(), "count_include_pad": self.count_include_pad}

    def forward(self, x: Array) -> Array:
        array, last, (lib, dtype, shape) = _taken("AvgPool2d", x)
        options = self._options()
        y = to_images(ops.avg_pool2d(array, channels_last=last, **options), last)
        self._remember((last, shape, options, (lib, dtype, tuple(y.shape))))
        return y

    def backward(self, dy: Array, *, need_input_grad: bool = True) -> Array | None:
        last, shape, options, y = self.recall()
        if not need_input_grad:
            return None
        check_gradient("AvgPool2d.backward", dy, y)
        dx = ops.avg_pool2d_backward(to_dense(dy, last), shape[2:], channels_last=last, **options)
        return to_images(dx, last)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, count_include_pad={self.count_include_pad}"


class AdaptiveAvgPool2d(Passing, Module):
    """The means of windows that divide (N, C, H, W) into ``output_size`` rows and columns;
    `ops.adaptive_avg_pool2d`.

    Window i of n covers the elements from ⌊i·H/n⌋ to ⌈(i+1)·H/n⌉: equal windows where n divides H,
    overlapping ones elsewhere, as in PyTorch. An output_size of 1 is global average pooling.

    Args:
        output_size: rows and columns of y; a number for both, or a pair, in which None keeps the
            extent of x.

    Raises:
        TypeError: a size is not a whole number; else as `MaxPool2d`.
        ValueError: as `MaxPool2d`.

    Example:
        >>> import numpy as np
        >>> from onepass import nn
        >>> nn.AdaptiveAvgPool2d(1)(np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)).tolist()
        [[[[7.5]]]]
    """

    def __init__(self, output_size: int | tuple[int | None, int | None]) -> None:
        owner = "AdaptiveAvgPool2d"
        sizes = output_size if isinstance(output_size, (tuple, list)) else (output_size,) * 2
        if len(sizes) != 2:
            raise ValueError(
                f"{owner}: 'output_size' is {output_size!r}, expected a whole number or two"
            )
        down, across = (
            None if n is None else numbers.integer(owner, "output_size", n, 1) for n in sizes
        )
        self.output_size = (down, across)

    def forward(self, x: Array) -> Array:
        array, last, (lib, dtype, shape) = _taken("AdaptiveAvgPool2d", x)
        if 0 in shape[2:]:  # which the border would call an output_size where that is None
            raise ValueError(f"AdaptiveAvgPool2d: x has shape {shape}, expected rows and columns")
        size = tuple(
            n if n is not None else h for n, h in zip(self.output_size, shape[2:], strict=True)
        )
        y = to_images(ops.adaptive_avg_pool2d(array, size, channels_last=last), last)
        self._remember((last, shape[2:], (lib, dtype, tuple(y.shape))))
        return y

    def backward(self, dy: Array, *, need_input_grad: bool = True) -> Array | None:
        last, size, y = self.recall()
        if not need_input_grad:
            return None
        check_gradient("AdaptiveAvgPool2d.backward", dy, y)
        dx = ops.adaptive_avg_pool2d_backward(to_dense(dy, last), size, channels_last=last)
        return to_images(dx, last)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"
