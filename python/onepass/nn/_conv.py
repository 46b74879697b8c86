"""The convolution of images: matrix products, then bias, activation and dropout in one pass."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, Literal

import numpy as np

from onepass import _numbers as numbers
from onepass import ops
from onepass._array import Array, convert, empty
from onepass._parameter import Parameter
from onepass.nn import _initialisers as init
from onepass.nn._affine import Affine
from onepass.nn._checks import Like, check_beside, check_dtype, check_gradient
from onepass.nn._convolution import Convolution
from onepass.nn._epilogue import Epilogue
from onepass.nn._facts import bypassable
from onepass.nn._images import (
    image,
    lies_channels_last,
    pair,
    take_mask,
    to_dense,
    to_images,
)

Pair = int | tuple[int, int]


class Conv2d(Affine):
    """``y[n, o, p, q] = b[o] + Σ_{c,i,j} W[o, c, i, j] x[n, c, p·stride - padding + i, …]``.

    Backward: ``dx`` is the transposed convolution of dy, ``dW`` that of x with dy, and
    ``db = Σ dy`` over samples, rows and columns. Weight and bias start uniform in ±1/√(the weights
    of an output), as PyTorch's do.

    x is (N, C, H, W) in C order or with the channels last in memory, and y lies in the same order.
    With the channels last it is faster, except that groups of several channels are then copied to C
    order and back. A float16 or bfloat16 x is computed in float32, and y is
    stored as x is.

    Args:
        in_channels, out_channels: C of x and of y.
        kernel_size: rows and columns of the kernel; like all sizes a number for both, or a pair.
        stride: from one window to the next.
        padding: zeros on each side of the image; "valid" for none, "same" for a y of the size of x
            (with a stride of 1; the odd one of an even kernel lies below and on the right).
        dilation: from one element under the kernel to the next.
        groups: so many convolutions side by side, each of its part of the channels.
        bias: False leaves ``b`` out.
        channels_last: True gives y with the channels last whatever the order of x: set it in the
            first layer and all that follow work so. None keeps the order.
        dtype: "float32" or "float64", of the parameters and of x.

    Attributes:
        weight: `Parameter` (out_channels, in_channels / groups, *kernel_size).
        bias: `Parameter` (out_channels,), or None.

    Raises:
        ValueError: a size out of range, groups that do not divide the channels, "same" with a
            stride, another dtype; in forward, another shape or an image that is smaller than the
            kernel; in backward, another shape than y.
        TypeError: a size that is not a whole number; in forward and backward, another dtype or
            library than the parameters', or no array.

    Source: LeCun et al., Gradient-Based Learning Applied to Document Recognition, 1998.

    Example:
        >>> import numpy as np
        >>> from onepass import nn
        >>> layer = nn.Conv2d(3, 8, 3, padding="same")
        >>> y = layer(np.ones((2, 3, 5, 5), np.float32))
        >>> dx = layer.backward(np.ones_like(y))
        >>> y.shape, dx.shape, layer.weight.grad.shape, layer.bias.grad[0].tolist()
        ((2, 8, 5, 5), (2, 3, 5, 5), (8, 3, 3, 3), 50.0)
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Pair,
        stride: Pair = 1,
        padding: Pair | Literal["same", "valid"] = 0,
        dilation: Pair = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        channels_last: bool | None = None,
        dtype: Any = "float32",
    ) -> None:
        self.in_channels = numbers.integer("Conv2d", "in_channels", in_channels, 1)
        self.out_channels = numbers.integer("Conv2d", "out_channels", out_channels, 1)
        self.kernel_size = pair("Conv2d", "kernel_size", kernel_size, 1)
        self.stride = pair("Conv2d", "stride", stride, 1)
        self.dilation = pair("Conv2d", "dilation", dilation, 1)
        self.groups = numbers.integer("Conv2d", "groups", groups, 1)
        for name in ("in_channels", "out_channels"):
            if getattr(self, name) % self.groups:
                raise ValueError(
                    f"Conv2d: 'groups' is {groups!r}, expected a divisor of {name}, which is "
                    f"{getattr(self, name)}"
                )
        self.padding = self._read_padding(padding)
        if channels_last is not None:
            channels_last = numbers.flag("Conv2d", "channels_last", channels_last)
        self.channels_last = channels_last
        known = check_dtype("Conv2d", dtype)
        shape = (self.out_channels, self.in_channels // self.groups, *self.kernel_size)
        self.weight = Parameter(np.empty(shape, known))
        self.bias = Parameter(np.empty(self.out_channels, known)) if bias else None
        init.kaiming_uniform(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(math.prod(shape[1:]))
            init.uniform(self.bias, -bound, bound)

    def _read_padding(self, padding: Any) -> Any:
        if not isinstance(padding, str):
            return pair("Conv2d", "padding", padding, 0)
        numbers.one_of("Conv2d", "padding", padding, ("same", "valid"))
        if padding == "same" and self.stride != (1, 1):
            raise ValueError(
                f"Conv2d: 'padding' is 'same', expected a stride of 1 with it; stride is "
                f"{self.stride}: give the padding as numbers"
            )
        return padding

    def _convolution(self) -> Convolution:
        # Asked by every forward: the attributes may change between calls, and backward is that of
        # the forward before it.
        return _made(self.kernel_size, self.stride, self.padding, self.dilation, self.groups)

    def fused_forward(self, x: Array, epilogue: Epilogue) -> Array:
        lib, dtype, shape = self._check(x)
        convolution = self._convolution()
        down, across = convolution.windows(*shape[2:])
        if down < 1 or across < 1:
            raise ValueError(
                f"Conv2d: x has shape {shape}, smaller than the kernel: kernel_size="
                f"{self.kernel_size}, padding={self.padding}, dilation={self.dilation}"
            )
        last = lies_channels_last(x) if self.channels_last is None else self.channels_last
        weight = self.weight.data
        stored = to_dense(x, last)
        wide = stored if dtype == weight.dtype else convert(stored, weight.dtype.name)
        product = convolution.forward(wide, weight, last)
        options = epilogue.options(x, (shape[0], self.out_channels, down, across))
        mask = take_mask(options) if last else None
        y, product = self._add_bias(product, epilogue, options, -1 if last else 1)
        y = to_images(y, last)
        if mask is not None:
            y = ops.dropout(y, out=y, **mask)
        if dtype != weight.dtype:
            y = y.astype(dtype)
        like = (lib, dtype, tuple(y.shape))
        self._remember((stored, product, options, mask, last, convolution, like))
        return y

    @bypassable
    def backward(self, dy: Array, *, need_input_grad: bool = True) -> Array | None:
        stored, product, options, mask, last, convolution, y = self.recall()
        check_gradient("Conv2d.backward", dy, y)
        weight = self.weight.data
        if y[1] != weight.dtype:
            dy, stored = (convert(array, weight.dtype.name) for array in (dy, stored))
        if mask is not None:
            dy = ops.dropout_backward(dy, **mask)
        dz = self._bias_gradient(to_dense(dy, last), product, options, -1 if last else 1)
        dweight = None
        if self.weight.requires_grad:
            room = self.weight.room()
            dweight = empty(weight.shape, weight.dtype, weight) if room is None else room
        dx = convolution.backward(dz, stored, weight, last, dweight, need_input_grad)
        if dweight is not None:
            self.weight.accumulate(dweight)
        if dx is None:
            return None
        dx = to_images(dx, last)
        return dx if y[1] == weight.dtype else dx.astype(y[1])

    def _check(self, x: Array) -> Like:
        kind = image("Conv2d", x, self.in_channels)
        if 0 in kind[2][2:]:
            raise ValueError(f"Conv2d: x has shape {kind[2]}, expected rows and columns")
        check_beside("Conv2d", x, kind, self.weight.data)
        return kind

    def extra_repr(self) -> str:
        parts = [f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}"]
        parts.append(f"stride={self.stride}")
        plain = {"padding": (0, 0), "dilation": (1, 1), "groups": 1, "channels_last": None}
        parts += [f"{k}={v!r}" for k, old in plain.items() if (v := getattr(self, k)) != old]
        parts += ["bias=False"] * (self.bias is None)
        return ", ".join(parts)


@lru_cache(maxsize=256)
def _made(
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int] | str,
    dilation: tuple[int, int],
    groups: int,
) -> Convolution:
    if padding == "same":
        spans = (d * (k - 1) for k, d in zip(kernel, dilation, strict=True))
        (top, bottom), (left, right) = ((span // 2, span - span // 2) for span in spans)
    else:
        top, left = (0, 0) if isinstance(padding, str) else padding
        bottom, right = top, left
    return Convolution(kernel, stride, (top, bottom, left, right), dilation, groups)
