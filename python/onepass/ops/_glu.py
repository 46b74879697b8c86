"""Gated linear units: one half of the channels gates the other."""

from __future__ import annotations

from onepass import _C
from onepass._array import Array
from onepass.ops._fused import ActivationSpec, resolve


def glu(
    x: Array,
    *,
    axis: int = -1,
    activation: ActivationSpec = "sigmoid",
    out: Array | None = None,
) -> Array:
    """y = a·activation(b), a the first half of ``x`` along ``axis`` and b the second.

    "silu" makes it SwiGLU, "gelu" GEGLU, "relu" ReGLU, "identity" the bilinear layer.

    Args:
        x: array with an even extent along ``axis``, of any strides; float32, float64, float16 or
            bfloat16.
        axis: along which ``x`` is halved.
        activation: name of a function in ``onepass.ops``, or (name, options).
        out: array of half the extent to write to.

    Returns:
        y, like ``x`` with half the extent along ``axis``.

    Raises:
        TypeError, ValueError: wrong dtype, shape, overlap, axis or option; nothing is written.

    Source: Dauphin, Fan, Auli & Grangier, Language Modeling with Gated Convolutional Networks,
    2017; Shazeer, GLU Variants Improve Transformer, 2020.

    Example:
        >>> import numpy as np
        >>> import onepass
        >>> onepass.ops.glu(np.float32([2, 4, 0, -np.inf]))
        array([1., 0.], dtype=float32)
    """
    name, options = resolve("glu", activation)
    return _C.glu(x, name, options, axis, out)


def glu_backward(
    dy: Array,
    x: Array,
    *,
    axis: int = -1,
    activation: ActivationSpec = "sigmoid",
    out: Array | None = None,
) -> Array:
    """dx: da = dy·activation(b) in the first half, db = dy·a·activation'(b) in the second.

    Args:
        dy: gradient of y, of half the extent of ``x`` along ``axis``.
        x: the input of the forward.
        axis: as in the forward.
        activation: as in the forward.
        out: array like ``x`` to write to; may be ``x``.

    Returns:
        dx, like ``x``.

    Raises:
        TypeError, ValueError: wrong dtype, shape, overlap, axis or option; nothing is written.

    Source: the derivative of :func:`glu`.

    Example:
        >>> import numpy as np
        >>> import onepass
        >>> onepass.ops.glu_backward(np.float32([4]), np.float32([2, 0]))
        array([2., 2.], dtype=float32)
    """
    name, options = resolve("glu_backward", activation)
    return _C.glu_backward(dy, x, name, options, axis, out)
