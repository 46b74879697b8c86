"""Maxout: the largest of each group of neighbouring channels."""

from __future__ import annotations

from onepass import _C
from onepass._array import Array


def maxout(x: Array, pieces: int, axis: int = 1, *, out: Array | None = None) -> Array:
    """y[c] = max(x[c·pieces], …, x[c·pieces + pieces - 1]) along ``axis``.

    Args:
        x: array (N, C·pieces, …), or with the channels on another axis; float32, float64, float16
            or bfloat16. Arrays that are not C-contiguous are copied first.
        pieces: how many neighbouring channels make one.
        axis: axis of the channels.
        out: array (N, C, …) of the dtype of ``x`` to write to.

    Returns:
        y: (N, C, …); NaN where one of the pieces is.

    Raises:
        TypeError, ValueError: wrong dtype, shape, overlap, axis or pieces; nothing is written.

    Source: Goodfellow, Warde-Farley, Mirza, Courville & Bengio, Maxout Networks, 2013.

    Example:
        >>> import numpy as np
        >>> import onepass
        >>> onepass.ops.maxout(np.float32([[1, 3, 2, -1]]), 2)
        array([[3., 2.]], dtype=float32)
    """
    return _C.maxout(x, out, pieces, axis)


def maxout_backward(
    dy: Array, x: Array, pieces: int, axis: int = 1, *, out: Array | None = None
) -> Array:
    """dx = dy at the first of the largest pieces, 0 at the others.

    Args:
        dy: gradient of y, (N, C, …). Arrays that are not C-contiguous are copied first.
        x: the input of the forward.
        pieces: as in the forward.
        axis: as in the forward.
        out: array like ``x`` to write to; may be ``x``.

    Returns:
        dx, like ``x``. A NaN counts as the largest piece.

    Raises:
        TypeError, ValueError: wrong dtype, shape, overlap, axis or pieces; nothing is written.

    Source: the derivative of :func:`maxout`.

    Example:
        >>> import numpy as np
        >>> import onepass
        >>> dy, x = np.float32([[5, 7]]), np.float32([[1, 3, 2, 2]])
        >>> onepass.ops.maxout_backward(dy, x, 2)
        array([[0., 5., 7., 0.]], dtype=float32)
    """
    return _C.maxout_backward(dy, x, out, pieces, axis)
