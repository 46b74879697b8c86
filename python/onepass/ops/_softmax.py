"""Softmax and log-softmax along any axis, and their gradients from the output."""

from __future__ import annotations

from onepass import _C
from onepass._array import Array
from onepass._docs import shares

_RAISES = "TypeError, ValueError: wrong dtype, shape, overlap or axis; nothing is written."
_softmax = shares(
    {
        "x": "array of any shape; float32, float64, float16 or bfloat16. Arrays that are not\n"
        "        C-contiguous are copied first.",
        "out": "array like ``x`` to write to; may be ``x``.",
    },
    Returns="y, like ``x``; NaN along an axis that holds NaN or +Inf, or nothing but -Inf.",
    Raises=_RAISES,
)
_gradient = shares(
    {
        "dy": "gradient of y, like ``y``. Arrays that are not C-contiguous are copied first.",
        "y": "what the forward returned.",
        "axis": "as in the forward.",
        "out": "array like ``y`` to write to; may be ``dy`` or ``y``.",
    },
    Returns="dx, like ``y``.",
    Raises=_RAISES,
)


@_softmax
def softmax(x: Array, axis: int = -1, *, out: Array | None = None) -> Array:
    """y = exp(x - m) / Σ exp(x - m), m = max x, along ``axis``.

    Results below the smallest normal number of the computing type are 0.

    Args:
        axis: along which y adds up to 1.

    Source: Bridle, Probabilistic Interpretation of Feedforward Classification Network Outputs,
    1990.

    Example:
        >>> import numpy as np
        >>> import onepass
        >>> onepass.ops.softmax(np.float32([-np.inf, 0, 0]))
        array([0. , 0.5, 0.5], dtype=float32)
    """
    return _C.softmax(x, out, axis)


@_softmax
def log_softmax(x: Array, axis: int = -1, *, out: Array | None = None) -> Array:
    """y = (x - m) - log Σ exp(x - m), m = max x, along ``axis``.

    Args:
        axis: along which exp(y) adds up to 1.

    Source: the logarithm of :func:`softmax`.

    Example:
        >>> import numpy as np
        >>> import onepass
        >>> onepass.ops.log_softmax(np.float32([-np.inf, 0, 0]))
        array([      -inf, -0.6931472, -0.6931472], dtype=float32)
    """
    return _C.log_softmax(x, out, axis)


@_gradient
def softmax_backward(dy: Array, y: Array, axis: int = -1, *, out: Array | None = None) -> Array:
    """dx = y·(dy - Σ dy·y), the sum along ``axis``.

    Source: the derivative of :func:`softmax`.

    Example:
        >>> import numpy as np
        >>> import onepass
        >>> onepass.ops.softmax_backward(np.float32([1, 0]), np.float32([0.5, 0.5]))
        array([ 0.25, -0.25], dtype=float32)
    """
    return _C.softmax_backward(dy, y, out, axis)


@_gradient
def log_softmax_backward(dy: Array, y: Array, axis: int = -1, *, out: Array | None = None) -> Array:
    """dx = dy - exp(y)·Σ dy, the sum along ``axis``.

    Source: the derivative of :func:`log_softmax`.

    Example:
        >>> import numpy as np
        >>> import onepass
        >>> y = np.log(np.float32([0.25, 0.75]))
        >>> onepass.ops.log_softmax_backward(np.float32([1, 0]), y)
        array([ 0.75, -0.75], dtype=float32)
    """
    return _C.log_softmax_backward(dy, y, out, axis)
