"""Bias, activation and dropout in one pass."""

from __future__ import annotations

from onepass import _C
from onepass._array import Array
from onepass.ops._fused import ActivationSpec, resolve


def bias_act(
    x: Array,
    bias: Array,
    *,
    axis: int = 1,
    activation: ActivationSpec = None,
    dropout_p: float = 0.0,
    seed: int | Array = 0,
    offset: int | Array = 0,
    first: int = 0,
    out: Array | None = None,
) -> Array:
    """y = dropout(activation(x + bias)), the bias along ``axis``.

    Args:
        x: array (N, C, …), or with the channels on another axis. Axes other than 1 and -1, and
            arrays that are not C-contiguous, are copied first.
        bias: array (C,), float32 (float64 with float64 ``x``) or the dtype of ``x``.
        axis: axis of ``x`` that the bias runs along.
        activation: name of a function in ``onepass.ops``, or (name, options); None for none.
        dropout_p: probability of dropping an element; 0 draws nothing.
        seed: as in :func:`onepass.ops.dropout`.
        offset: as in :func:`onepass.ops.dropout`.
        first: as in :func:`onepass.ops.dropout`.
        out: array like ``x`` to write to; may be ``x``.

    Returns:
        y, like ``x``.

    Raises:
        TypeError, ValueError: wrong dtype, shape, overlap or option; nothing is written.

    Source: the epilogue of a linear or convolution layer, with Hendrycks & Gimpel, 2016, and
    Srivastava et al., 2014.

    Example:
        >>> import numpy as np
        >>> import onepass
        >>> onepass.ops.bias_act(np.float32([[1, -3]]), np.float32([1, 1]), activation="relu")
        array([[2., 0.]], dtype=float32)
    """
    name, options = resolve("bias_act", activation)
    return _C.bias_act(x, bias, out, axis, name, options, dropout_p, seed, offset, first)


def bias_act_backward(
    dy: Array,
    x: Array,
    bias: Array,
    *,
    axis: int = 1,
    activation: ActivationSpec = None,
    dropout_p: float = 0.0,
    seed: int | Array = 0,
    offset: int | Array = 0,
    first: int = 0,
    out: Array | None = None,
) -> tuple[Array, Array]:
    """dx = activation'(x + bias)·dropout'(dy), dbias = Σ dx over all axes but ``axis``.

    Args:
        dy: gradient of y, like ``x``.
        x: the forward's input.
        bias: the forward's bias.
        axis: as in the forward, like all options that follow.
        activation: as in the forward.
        dropout_p: as in the forward.
        seed: as in the forward.
        offset: as in the forward.
        first: as in the forward.
        out: array like ``x`` for dx; may be ``dy`` or ``x``.

    Returns:
        (dx, dbias): like ``x``, and (C,) in float32 (float64 for float64 ``x``).

    Raises:
        TypeError, ValueError: wrong dtype, shape, overlap or option; nothing is written.

    Source: the derivative of :func:`bias_act`.

    Example:
        >>> import numpy as np
        >>> import onepass
        >>> dx, dbias = onepass.ops.bias_act_backward(
        ...     np.float32([[5, 5]]), np.float32([[1, -3]]), np.float32([1, 1]), activation="relu")
        >>> dbias
        array([5., 0.], dtype=float32)
    """
    name, options = resolve("bias_act_backward", activation)
    return _C.bias_act_backward(
        dy, x, bias, out, axis, name, options, dropout_p, seed, offset, first
    )
