"""Windows over images: pooling, depthwise convolutions, and the rows of windows that make any other
convolution a product.
"""

from __future__ import annotations

import operator
from typing import Any

from onepass import _C
from onepass._array import Array

Sizes = Any  # an integer, or a pair: of rows, of columns


def both_axes(value: Sizes) -> Any:
    """One integer for both axes; anything else is for the border to read."""
    if type(value) is tuple:
        return value
    try:
        return (operator.index(value),) * 2
    except TypeError:
        return value


def sides(padding: Any) -> Any:
    """Padding above, below, left and right, from an integer, a pair, or these four."""
    both = both_axes(padding)
    if isinstance(both, (tuple, list)) and len(both) == 2:
        return (both[0], both[0], both[1], both[1])
    return both


def kernel_and_stride(kernel_size: Sizes, stride: Sizes | None) -> tuple[Any, Any]:
    """Those of a pool, whose windows lie side by side unless a stride says otherwise."""
    kernel = both_axes(kernel_size)
    return kernel, kernel if stride is None else both_axes(stride)


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

    With it a convolution is a matrix product: weight.reshape(out, -1) @ cols.reshape(C·taps, -1).
    With the channels last a row has all channels of a tap side by side, so the weights need that
    order too: weight.transpose(0, 2, 3, 1).reshape(out, -1).

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
        cols: (C·taps, N, windows), the taps of a channel one after another; with the channels last
        (N, windows, taps·C).

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
        x,
        out,
        both_axes(kernel_size),
        both_axes(stride),
        sides(padding),
        both_axes(dilation),
        channels_last,
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
        both_axes(size),
        both_axes(kernel_size),
        both_axes(stride),
        sides(padding),
        both_axes(dilation),
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

    A window of dilated taps may have none on the image: its y is -Inf and its index -1, and nothing
    goes back from it.

    Args:
        x: array (N, C, H, W) or (C, H, W), or with the channels last; float32, float64, float16 or
            bfloat16. Arrays that are not C-contiguous are copied first.
        kernel_size: rows and columns of a window; like all sizes an integer, or a pair.
        stride: from one window to the next; None for kernel_size.
        padding: around the image, at most half a window; never the largest.
        dilation: from one tap of a window to the next.
        ceil_mode: the last windows may reach beyond the padding, also the only one of an image that
            is smaller than it by less than a stride.
        channels_last: the channels are the last axis of ``x``.
        out: array to write y to: (N, C, windows down, windows across), or (N, windows down, windows
            across, C) with the channels last, of the dtype of ``x``.

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
    kernel, steps = kernel_and_stride(kernel_size, stride)
    return _C.max_pool2d(
        x, out, kernel, steps, sides(padding), both_axes(dilation), ceil_mode, channels_last
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
    kernel, steps = kernel_and_stride(kernel_size, stride)
    return _C.max_pool2d_backward(
        dy,
        out,
        both_axes(size),
        indices,
        kernel,
        steps,
        sides(padding),
        both_axes(dilation),
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
    """y = Σ x / n over each window, of n elements on the image and its padding.

    Args:
        x: array (N, C, H, W) or (C, H, W), or with the channels last; float32, float64, float16 or
            bfloat16. Arrays that are not C-contiguous are copied first.
        kernel_size: rows and columns of a window; like all sizes an integer, or a pair.
        stride: from one window to the next; None for kernel_size.
        padding: zeros around the image, at most half a window.
        ceil_mode: as of max_pool2d; what lies beyond the padding is not counted.
        count_include_pad: False counts the n elements on the image alone.
        channels_last: the channels are the last axis of ``x``.
        out: as of :func:`max_pool2d`.

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
    kernel, steps = kernel_and_stride(kernel_size, stride)
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
    kernel, steps = kernel_and_stride(kernel_size, stride)
    return _C.avg_pool2d_backward(
        dy,
        out,
        both_axes(size),
        kernel,
        steps,
        sides(padding),
        ceil_mode,
        count_include_pad,
        channels_last,
    )


def adaptive_avg_pool2d(
    x: Array,
    output_size: Sizes,
    *,
    channels_last: bool = False,
    out: Array | None = None,
) -> Array:
    """y = Σ x / n over each of output_size windows, which divide the image; n elements each.

    Window i of k covers the elements ⌊i·H/k⌋ to ⌈(i+1)·H/k⌉ - 1 of an axis of H: those of
    :func:`avg_pool2d` with a kernel and stride of H/k where k divides H; else of unequal sizes, and
    neighbours may share an element. k may exceed H.

    Args:
        x: array (N, C, H, W) or (C, H, W), or with the channels last; float32, float64, float16 or
            bfloat16. Arrays that are not C-contiguous are copied first.
        output_size: windows down and across; an integer, or a pair.
        channels_last: the channels are the last axis of ``x``.
        out: array to write y to, of the dtype of ``x``.

    Returns:
        y: (N, C, windows down, windows across), or (N, windows down, windows across, C) with the
        channels last; of the dtype of ``x``.

    Raises:
        TypeError, ValueError: wrong dtype, shape, overlap or size, or an image without elements;
            nothing is written.

    Source: He et al., Spatial Pyramid Pooling in Deep Convolutional Networks, 2014; the windows are
    PyTorch's.

    Example:
        >>> import numpy as np
        >>> import onepass
        >>> onepass.ops.adaptive_avg_pool2d(np.float32([[[1, 5, 3]]]), (1, 2)).tolist()
        [[[3.0, 4.0]]]
    """
    return _C.adaptive_avg_pool2d(x, out, both_axes(output_size), channels_last)


def adaptive_avg_pool2d_backward(
    dy: Array,
    size: Sizes,
    *,
    channels_last: bool = False,
    out: Array | None = None,
) -> Array:
    """dx = Σ dy / n over the windows that cover the element, each of n elements.

    Args:
        dy: gradient of y. Arrays that are not C-contiguous are copied first.
        size: (H, W) of the image.
        channels_last: as in the forward.
        out: array like the image for dx.

    Returns:
        dx, like the image.

    Raises:
        TypeError, ValueError: wrong dtype, shape, overlap or size; nothing is written.

    Source: the derivative of :func:`adaptive_avg_pool2d`.

    Example:
        >>> import numpy as np
        >>> import onepass
        >>> onepass.ops.adaptive_avg_pool2d_backward(np.float32([[[8, 4]]]), (1, 3)).tolist()
        [[[4.0, 6.0, 2.0]]]
    """
    return _C.adaptive_avg_pool2d_backward(dy, out, both_axes(size), channels_last)


def depthwise_conv2d(
    x: Array,
    weight: Array,
    *,
    stride: Sizes = 1,
    padding: Any = 0,
    dilation: Sizes = 1,
    channels_last: bool = False,
    out: Array | None = None,
) -> Array:
    """y[n, c, p, q] = Σ_{i,j} weight[c, 0, i, j] · x[n, c, p·stride - padding + i·dilation, q·…].

    What PyTorch's conv2d computes with as many groups as channels, and no bias.

    Args:
        x: array (N, C, H, W) or (C, H, W), or with the channels last; float32, float64, float16 or
            bfloat16. Arrays that are not C-contiguous are copied first.
        weight: array (C, 1, rows, columns), whatever the order of ``x``; of its dtype or the one
            that it computes in.
        stride: from one window to the next; like all sizes an integer, or a pair.
        padding: zeros around the image: an integer, a pair, or (above, below, left, right).
        dilation: from one element under the kernel to the next.
        channels_last: the channels are the last axis of ``x``.
        out: array to write y to, of the dtype of ``x``.

    Returns:
        y: (N, C, windows down, windows across), or (N, windows down, windows across, C) with the
        channels last; of the dtype of ``x``.

    Raises:
        TypeError, ValueError: wrong dtype, shape, overlap or size, or a kernel that is larger than
            the padded image; nothing is written.

    Source: Sifre & Mallat, Rigid-Motion Scattering for Texture Classification, 2014.

    Example:
        >>> import numpy as np
        >>> import onepass
        >>> x = np.arange(4, dtype=np.float32).reshape(1, 1, 1, 4)
        >>> onepass.ops.depthwise_conv2d(x, np.float32([[[[1, 10]]]])).tolist()
        [[[[10.0, 21.0, 32.0]]]]
    """
    return _C.depthwise_conv2d(
        x, out, weight, both_axes(stride), sides(padding), both_axes(dilation), channels_last
    )


def depthwise_conv2d_backward(
    dy: Array,
    weight: Array,
    size: Sizes,
    *,
    stride: Sizes = 1,
    padding: Any = 0,
    dilation: Sizes = 1,
    channels_last: bool = False,
    out: Array | None = None,
) -> Array:
    """dx = Σ weight · dy over the windows that cover the element, each with the weight on it.

    Args:
        dy: gradient of y. Arrays that are not C-contiguous are copied first.
        weight: as in the forward.
        size: (H, W) of the image.
        stride: as in the forward.
        padding: as in the forward.
        dilation: as in the forward.
        channels_last: as in the forward.
        out: array like the image for dx.

    Returns:
        dx, like the image. Each element is summed in an order that the sizes alone decide.

    Raises:
        TypeError, ValueError: wrong dtype, shape, overlap or size; nothing is written.

    Source: the derivative of :func:`depthwise_conv2d` by x.

    Example:
        >>> import numpy as np
        >>> import onepass
        >>> dy = np.ones((1, 1, 1, 3), np.float32)
        >>> onepass.ops.depthwise_conv2d_backward(dy, np.float32([[[[1, 10]]]]), (1, 4)).tolist()
        [[[[1.0, 11.0, 11.0, 10.0]]]]
    """
    return _C.depthwise_conv2d_backward(
        dy,
        out,
        both_axes(size),
        weight,
        both_axes(stride),
        sides(padding),
        both_axes(dilation),
        channels_last,
    )


def depthwise_conv2d_weight_backward(
    dy: Array,
    x: Array,
    kernel_size: Sizes,
    *,
    stride: Sizes = 1,
    padding: Any = 0,
    dilation: Sizes = 1,
    channels_last: bool = False,
    out: Array | None = None,
) -> Array:
    """dweight[c, 0, i, j] = Σ_{n,p,q} dy[n, c, p, q] · x[n, c, p·stride - padding + i·dilation, …].

    Long sums keep their digits: at most 32 products are added in float32, then in float64.

    Args:
        dy: gradient of y. Arrays that are not C-contiguous are copied first.
        x: as in the forward.
        kernel_size: rows and columns of the weight.
        stride: as in the forward.
        padding: as in the forward.
        dilation: as in the forward.
        channels_last: as in the forward.
        out: array for dweight.

    Returns:
        dweight: (C, 1, rows, columns), in float32 (float64 for float64 ``x``). Each element is
        summed in an order that the sizes alone decide.

    Raises:
        TypeError, ValueError: wrong dtype, shape, overlap or size; nothing is written.

    Source: the derivative of :func:`depthwise_conv2d` by its weight.

    Example:
        >>> import numpy as np
        >>> import onepass
        >>> x, dy = np.arange(4, dtype=np.float32), np.ones(3, np.float32)
        >>> onepass.ops.depthwise_conv2d_weight_backward(
        ...     dy.reshape(1, 1, 1, 3), x.reshape(1, 1, 1, 4), (1, 2)
        ... ).tolist()
        [[[[3.0, 6.0]]]]
    """
    return _C.depthwise_conv2d_weight_backward(
        x,
        dy,
        out,
        both_axes(kernel_size),
        both_axes(stride),
        sides(padding),
        both_axes(dilation),
        channels_last,
    )
