"""Windows over images: pooling, and the rows of windows that make a convolution a product."""

from __future__ import annotations

import operator
from typing import Any

from onepass import _C
from onepass._array import Array

Sizes = Any  # an integer, or a pair: of rows, of columns


def pair(value: Sizes) -> Any:
    """One integer for both axes; anything else is for the border to read."""
    if type(value) is tuple:
        return value
    try:
        return (operator.index(value),) * 2
    except TypeError:
        return value


def sides(padding: Any) -> Any:
    """Padding above, below, left and right, from an integer, a pair, or these four."""
    both = pair(padding)
    if isinstance(both, (tuple, list)) and len(both) == 2:
        return (both[0], both[0], both[1], both[1])
    return both


def im2col(
    x: Array,
    kernel_size: Sizes,
    *,
    stride: Sizes = 1,
    padding: Any = 0,
    dilation: Sizes = 1,
    channels_last: bool = False,
    out: Array | None = None,
) -> Array:
    """cols[c, i, j, n, p, q] = x[n, c, p·stride - padding + i·dilation, q·…], 0 on the padding.

    With it a convolution is a matrix product: weight.reshape(out, -1) @ cols.reshape(taps, -1).

    Args:
        x: array (N, C, H, W) or (C, H, W), or with the channels last; float32, float64, float16 or
            bfloat16. Arrays that are not C-contiguous are copied first.
        kernel_size: rows and columns of a window; like all sizes an integer, or a pair.
        stride: from one window to the next.
        padding: zeros around the image: an integer, a pair, or (above, below, left, right).
        dilation: from one tap of a window to the next.
        channels_last: the channels are the last axis of ``x``, and of each window.
        out: array of the result's shape to write to.

    Returns:
        cols: (C·kernel, N, windows); with the channels last (N, windows, kernel·C).

    Raises:
        TypeError, ValueError: wrong dtype, shape, overlap or size, or a window that is larger than
            the padded image; nothing is written.

    Source: Chellapilla, Puri & Simard, High Performance Convolutional Neural Networks for Document
    Processing, 2006.

    Example:
        >>> import numpy as np
        >>> import onepass
        >>> x = np.arange(4, dtype=np.float32).reshape(1, 1, 1, 4)
        >>> onepass.ops.im2col(x, (1, 3))[:, 0].tolist()
        [[0.0, 1.0], [1.0, 2.0], [2.0, 3.0]]
    """
    return _C.im2col(
        x, out, pair(kernel_size), pair(stride), sides(padding), pair(dilation), channels_last
    )


def col2im(
    cols: Array,
    size: Sizes,
    kernel_size: Sizes,
    *,
    stride: Sizes = 1,
    padding: Any = 0,
    dilation: Sizes = 1,
    channels_last: bool = False,
    out: Array | None = None,
) -> Array:
    """x[n, c, h, w] = Σ cols over all taps that lie on it: the gradient of :func:`im2col`.

    Args:
        cols: array as :func:`im2col` returns it. Arrays that are not C-contiguous are copied first.
        size: (H, W) of the image.
        kernel_size: as of im2col, like all options that follow.
        stride: as of im2col.
        padding: as of im2col.
        dilation: as of im2col.
        channels_last: as of im2col.
        out: array of the result's shape to write to.

    Returns:
        x: (N, C, H, W), or (N, H, W, C). Each element is summed in one order on every device.

    Raises:
        TypeError, ValueError: wrong dtype, shape, overlap or size; nothing is written.

    Source: the transpose of :func:`im2col`.

    Example:
        >>> import numpy as np
        >>> import onepass
        >>> cols = np.ones((3, 1, 2), np.float32)
        >>> onepass.ops.col2im(cols, (1, 4), (1, 3)).tolist()
        [[[[1.0, 2.0, 2.0, 1.0]]]]
    """
    return _C.col2im(
        cols,
        out,
        pair(size),
        pair(kernel_size),
        pair(stride),
        sides(padding),
        pair(dilation),
        channels_last,
    )


def max_pool2d(
    x: Array,
    kernel_size: Sizes,
    *,
    stride: Sizes | None = None,
    padding: Any = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
    channels_last: bool = False,
    out: Array | None = None,
) -> tuple[Array, Array]:
    """y = the largest element of each window of the image; NaN where one of them is.

    Args:
        x: array (N, C, H, W) or (C, H, W), or with the channels last; float32, float64, float16 or
            bfloat16. Arrays that are not C-contiguous are copied first.
        kernel_size: rows and columns of a window; like all sizes an integer, or a pair.
        stride: from one window to the next; None for kernel_size.
        padding: around the image, at most half a window; never the largest.
        dilation: from one tap of a window to the next.
        ceil_mode: a last window may reach beyond the padding.
        channels_last: the channels are the last axis of ``x``.
        out: array (N, C, windows down, windows across) of the dtype of ``x`` to write to.

    Returns:
        (y, indices): y of the dtype of ``x``; indices like it, in float32 (float64 for float64
        ``x``): which tap was the largest, counted along the window's rows, the first of equal ones.

    Raises:
        TypeError, ValueError: wrong dtype, shape, overlap or size; nothing is written.

    Source: Riesenhuber & Poggio, Hierarchical Models of Object Recognition in Cortex, 1999.

    Example:
        >>> import numpy as np
        >>> import onepass
        >>> y, indices = onepass.ops.max_pool2d(np.float32([[[1, 5], [2, 0]]]), 2)
        >>> y.tolist(), indices.tolist()
        ([[[5.0]]], [[[1.0]]])
    """
    kernel = pair(kernel_size)
    steps = kernel if stride is None else pair(stride)
    return _C.max_pool2d(
        x, out, kernel, steps, sides(padding), pair(dilation), ceil_mode, channels_last
    )


def max_pool2d_backward(
    dy: Array,
    indices: Array,
    size: Sizes,
    kernel_size: Sizes,
    *,
    stride: Sizes | None = None,
    padding: Any = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
    channels_last: bool = False,
    out: Array | None = None,
) -> Array:
    """dx = Σ dy of the windows whose largest element it is, 0 where there is none.

    Args:
        dy: gradient of y. Arrays that are not C-contiguous are copied first.
        indices: of :func:`max_pool2d`.
        size: (H, W) of the image.
        kernel_size: as in the forward, like all options that follow.
        stride: as in the forward.
        padding: as in the forward.
        dilation: as in the forward.
        ceil_mode: as in the forward.
        channels_last: as in the forward.
        out: array like the image for dx.

    Returns:
        dx, like the image.

    Raises:
        TypeError, ValueError: wrong dtype, shape, overlap or size; nothing is written.

    Source: the derivative of :func:`max_pool2d`.

    Example:
        >>> import numpy as np
        >>> import onepass
        >>> y, indices = onepass.ops.max_pool2d(np.float32([[[1, 5], [2, 0]]]), 2)
        >>> onepass.ops.max_pool2d_backward(np.full_like(y, 7), indices, 2, 2).tolist()
        [[[0.0, 7.0], [0.0, 0.0]]]
    """
    kernel = pair(kernel_size)
    steps = kernel if stride is None else pair(stride)
    return _C.max_pool2d_backward(
        dy,
        out,
        pair(size),
        indices,
        kernel,
        steps,
        sides(padding),
        pair(dilation),
        ceil_mode,
        channels_last,
    )


def avg_pool2d(
    x: Array,
    kernel_size: Sizes,
    *,
    stride: Sizes | None = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    channels_last: bool = False,
    out: Array | None = None,
) -> Array:
    """y = Σ x / n over each window of n elements of the image.

    Args:
        x: array (N, C, H, W) or (C, H, W), or with the channels last; float32, float64, float16 or
            bfloat16. Arrays that are not C-contiguous are copied first.
        kernel_size: rows and columns of a window; like all sizes an integer, or a pair.
        stride: from one window to the next; None for kernel_size.
        padding: zeros around the image, at most half a window.
        ceil_mode: a last window may reach beyond the padding, what lies there is not counted.
        count_include_pad: the n elements include those of the padding.
        channels_last: the channels are the last axis of ``x``.
        out: array (N, C, windows down, windows across) of the dtype of ``x`` to write to.

    Returns:
        y, of the dtype of ``x``.

    Raises:
        TypeError, ValueError: wrong dtype, shape, overlap or size; nothing is written.

    Source: LeCun et al., Gradient-Based Learning Applied to Document Recognition, 1998.

    Example:
        >>> import numpy as np
        >>> import onepass
        >>> onepass.ops.avg_pool2d(np.float32([[[1, 5], [2, 0]]]), 2).tolist()
        [[[2.0]]]
    """
    kernel = pair(kernel_size)
    steps = kernel if stride is None else pair(stride)
    return _C.avg_pool2d(
        x, out, kernel, steps, sides(padding), ceil_mode, count_include_pad, channels_last
    )


def avg_pool2d_backward(
    dy: Array,
    size: Sizes,
    kernel_size: Sizes,
    *,
    stride: Sizes | None = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    channels_last: bool = False,
    out: Array | None = None,
) -> Array:
    """dx = Σ dy / n over the windows that cover the element, each of n elements.

    Args:
        dy: gradient of y. Arrays that are not C-contiguous are copied first.
        size: (H, W) of the image.
        kernel_size: as in the forward, like all options that follow.
        stride: as in the forward.
        padding: as in the forward.
        ceil_mode: as in the forward.
        count_include_pad: as in the forward.
        channels_last: as in the forward.
        out: array like the image for dx.

    Returns:
        dx, like the image.

    Raises:
        TypeError, ValueError: wrong dtype, shape, overlap or size; nothing is written.

    Source: the derivative of :func:`avg_pool2d`.

    Example:
        >>> import numpy as np
        >>> import onepass
        >>> onepass.ops.avg_pool2d_backward(np.float32([[[8]]]), 2, 2).tolist()
        [[[2.0, 2.0], [2.0, 2.0]]]
    """
    kernel = pair(kernel_size)
    steps = kernel if stride is None else pair(stride)
    return _C.avg_pool2d_backward(
        dy,
        out,
        pair(size),
        kernel,
        steps,
        sides(padding),
        ceil_mode,
        count_include_pad,
        channels_last,
    )
