"""Activations and their gradients, elementwise.

Every ``<name>_backward(dy, x)`` works from the input ``x``; its derivative at ±Inf is the limit,
and NaN in ``x`` or ``dy`` gives NaN. All take and return arrays of one shape and one dtype
(float32, float64, float16, bfloat16) with any strides; ``out`` may be exactly an input.
"""

from __future__ import annotations

from typing import Literal

from onepass import _C
from onepass._array import Array

Approximate = Literal["none", "tanh"]


def identity(x: Array, *, out: Array | None = None) -> Array:
    """y = x: a copy, into ``out`` if given.

    Args:
        x: array of any shape.
        out: array like ``x`` to write to.

    Returns:
        y, like ``x``.

    Source: the neutral activation of fused kernels.

    Example:
        >>> onepass.ops.identity(np.float32([1, -2]))
        array([ 1., -2.], dtype=float32)
    """
    return _C.identity(x, out)


def identity_backward(dy: Array, x: Array, *, out: Array | None = None) -> Array:
    """dx = dy.

    Args:
        dy: gradient of y, like ``x``.
        x: the forward's input.
        out: array like ``x`` to write to; may be ``dy``.

    Returns:
        dx, like ``x``.

    Source: the chain rule.

    Example:
        >>> onepass.ops.identity_backward(np.float32([3]), np.float32([1]))
        array([3.], dtype=float32)
    """
    return _C.identity_backward(dy, x, out)


def relu(x: Array, *, out: Array | None = None) -> Array:
    """y = max(x, 0).

    Args:
        x: array of any shape.
        out: array like ``x`` to write to; may be ``x``.

    Returns:
        y, like ``x``.

    Source: Nair & Hinton, Rectified Linear Units Improve Restricted Boltzmann Machines, 2010.

    Example:
        >>> onepass.ops.relu(np.float32([1, -2, 0.5]))
        array([1. , 0. , 0.5], dtype=float32)
    """
    return _C.relu(x, out)


def relu_backward(dy: Array, x: Array, *, out: Array | None = None) -> Array:
    """dx = dy where x > 0, else 0.

    Args:
        dy: gradient of y, like ``x``.
        x: the forward's input.
        out: array like ``x`` to write to; may be ``dy``.

    Returns:
        dx, like ``x``.

    Source: the derivative of :func:`relu`, 0 at 0.

    Example:
        >>> onepass.ops.relu_backward(np.float32([3, 3]), np.float32([1, -1]))
        array([3., 0.], dtype=float32)
    """
    return _C.relu_backward(dy, x, out)


def leaky_relu(x: Array, *, negative_slope: float = 0.01, out: Array | None = None) -> Array:
    """y = x where x > 0, else negative_slope·x.

    Args:
        x: array of any shape.
        negative_slope: slope for negative inputs.
        out: array like ``x`` to write to; may be ``x``.

    Returns:
        y, like ``x``.

    Source: Maas, Hannun & Ng, Rectifier Nonlinearities Improve Neural Network Acoustic Models,
    2013.

    Example:
        >>> onepass.ops.leaky_relu(np.float32([1, -2]), negative_slope=0.5)
        array([ 1., -1.], dtype=float32)
    """
    return _C.leaky_relu(x, out, negative_slope)


def leaky_relu_backward(
    dy: Array, x: Array, *, negative_slope: float = 0.01, out: Array | None = None
) -> Array:
    """dx = dy where x > 0, else negative_slope·dy.

    Args:
        dy: gradient of y, like ``x``.
        x: the forward's input.
        negative_slope: as in the forward.
        out: array like ``x`` to write to; may be ``dy``.

    Returns:
        dx, like ``x``.

    Source: the derivative of :func:`leaky_relu`, negative_slope at 0.

    Example:
        >>> dy, x = np.float32([4, 4]), np.float32([1, -1])
        >>> onepass.ops.leaky_relu_backward(dy, x, negative_slope=0.5)
        array([4., 2.], dtype=float32)
    """
    return _C.leaky_relu_backward(dy, x, out, negative_slope)


def sigmoid(x: Array, *, out: Array | None = None) -> Array:
    """y = 1 / (1 + exp(-x)).

    Args:
        x: array of any shape.
        out: array like ``x`` to write to; may be ``x``.

    Returns:
        y, like ``x``.

    Source: Rumelhart, Hinton & Williams, Learning representations by back-propagating errors, 1986.

    Example:
        >>> onepass.ops.sigmoid(np.float32([0]))
        array([0.5], dtype=float32)
    """
    return _C.sigmoid(x, out)


def sigmoid_backward(dy: Array, x: Array, *, out: Array | None = None) -> Array:
    """dx = dy·y·(1 - y) with y = sigmoid(x).

    Args:
        dy: gradient of y, like ``x``.
        x: the forward's input.
        out: array like ``x`` to write to; may be ``dy``.

    Returns:
        dx, like ``x``.

    Source: the derivative of :func:`sigmoid`.

    Example:
        >>> onepass.ops.sigmoid_backward(np.float32([4]), np.float32([0]))
        array([1.], dtype=float32)
    """
    return _C.sigmoid_backward(dy, x, out)


def tanh(x: Array, *, out: Array | None = None) -> Array:
    """y = tanh(x).

    Args:
        x: array of any shape.
        out: array like ``x`` to write to; may be ``x``.

    Returns:
        y, like ``x``.

    Source: LeCun, Bottou, Orr & Müller, Efficient BackProp, 1998.

    Example:
        >>> onepass.ops.tanh(np.float32([0, np.inf]))
        array([0., 1.], dtype=float32)
    """
    return _C.tanh(x, out)


def tanh_backward(dy: Array, x: Array, *, out: Array | None = None) -> Array:
    """dx = dy·(1 - tanh(x)²).

    Args:
        dy: gradient of y, like ``x``.
        x: the forward's input.
        out: array like ``x`` to write to; may be ``dy``.

    Returns:
        dx, like ``x``.

    Source: the derivative of :func:`tanh`.

    Example:
        >>> onepass.ops.tanh_backward(np.float32([2]), np.float32([0]))
        array([2.], dtype=float32)
    """
    return _C.tanh_backward(dy, x, out)


def gelu(x: Array, *, approximate: Approximate = "none", out: Array | None = None) -> Array:
    """y = x·Φ(x), Φ the normal distribution function; or its tanh form.

    ``approximate="tanh"``: y = x/2·(1 + tanh(√(2/π)·(x + 0.044715·x³))).

    Args:
        x: array of any shape.
        approximate: "none" or "tanh".
        out: array like ``x`` to write to; may be ``x``.

    Returns:
        y, like ``x``.

    Raises:
        ValueError: unknown ``approximate``.

    Source: Hendrycks & Gimpel, Gaussian Error Linear Units, 2016.

    Example:
        >>> onepass.ops.gelu(np.float32([0, -np.inf]))
        array([ 0., -0.], dtype=float32)
    """
    if approximate == "none":
        return _C.gelu(x, out)
    if approximate == "tanh":
        return _C.gelu_tanh(x, out)
    raise _unknown_approximate(approximate)


def gelu_backward(
    dy: Array, x: Array, *, approximate: Approximate = "none", out: Array | None = None
) -> Array:
    """dx = dy·(Φ(x) + x·φ(x)), φ the normal density; or the derivative of the tanh form.

    Args:
        dy: gradient of y, like ``x``.
        x: the forward's input.
        approximate: as in the forward.
        out: array like ``x`` to write to; may be ``dy``.

    Returns:
        dx, like ``x``.

    Raises:
        ValueError: unknown ``approximate``.

    Source: the derivative of :func:`gelu`.

    Example:
        >>> onepass.ops.gelu_backward(np.float32([2]), np.float32([0]))
        array([1.], dtype=float32)
    """
    if approximate == "none":
        return _C.gelu_backward(dy, x, out)
    if approximate == "tanh":
        return _C.gelu_tanh_backward(dy, x, out)
    raise _unknown_approximate(approximate)


def _unknown_approximate(given: object) -> ValueError:
    return ValueError(f"gelu: 'approximate' is {given!r}, expected 'none' or 'tanh'")
