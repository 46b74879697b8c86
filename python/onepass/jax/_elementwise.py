"""Activations and dropout, differentiable."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, Concatenate, ParamSpec

import jax

from onepass import _C, ops
from onepass._array import Array
from onepass.jax._checks import floating, stream
from onepass.jax._targets import call, like, together
from onepass.ops._declare import ACTIVATIONS

P = ParamSpec("P")

# The numbers by which the handlers know the activations.
INDEX = {
    name: i for i, name in enumerate(k["name"] for k in _C.kernels() if k["kind"] == "activation")
}


@partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _activated(x: jax.Array, op: str, kernel: str, options: tuple[float, ...]) -> jax.Array:
    (y,) = call(
        "activation", op, [like(x)], x, vmap="broadcast_all", kernel=INDEX[kernel], options=options
    )
    return y


def _activated_forward(
    x: jax.Array, op: str, kernel: str, options: tuple[float, ...]
) -> tuple[jax.Array, jax.Array]:
    return _activated(x, op, kernel, options), x


def _activated_backward(
    op: str, kernel: str, options: tuple[float, ...], x: jax.Array, dy: jax.Array
) -> tuple[jax.Array]:
    (dx,) = call(
        "activation_backward", f"{op}_backward", [like(x)], dy, x, vmap="broadcast_all",
        kernel=INDEX[kernel], options=options,
    )  # fmt: skip
    return (dx,)


_activated.defvjp(_activated_forward, _activated_backward)


def _of(function: Callable[Concatenate[Array, P], Array]) -> Callable[Concatenate[Any, P], Any]:
    """The activation of `onepass.ops`, for JAX."""
    declared = ACTIVATIONS[function.__name__]
    op = declared.name

    def activation(x: Any, *args: P.args, **options: P.kwargs) -> jax.Array:
        if args:
            raise TypeError(f"{op}: {1 + len(args)} arguments without names, expected one: 'x'")
        kernel, numbers = declared.kernel(op, options)
        return _activated(floating(op, "x", x), op, kernel, numbers)

    activation.__name__ = activation.__qualname__ = op
    parameters = dict(inspect.signature(function).parameters)
    del parameters["out"]
    activation.__signature__ = inspect.Signature(list(parameters.values()))  # type: ignore[attr-defined]
    activation.__annotations__ = {"x": "jax.Array", "return": "jax.Array"}
    activation.__doc__ = _DOC.format(**vars(declared)) if function.__doc__ is not None else None
    return activation  # type: ignore[return-value]


_DOC = """{formula}

Args:
    x: array of any shape; float32, float64, float16 or bfloat16.
{described}
Returns:
    y, like ``x``: the bits of `onepass.ops.{name}`. Its gradient is one pass too. Under `jax.vmap`
    the whole batch is one call.

Raises:
    TypeError, ValueError: wrong dtype or option.

Source: {source}

Example:
    >>> import jax
    >>> import onepass.jax
    >>> x = jax.numpy.float32([-2, 3])
    >>> jax.jit(onepass.jax.{name})(x).shape, jax.vmap(jax.grad(onepass.jax.{name}))(x).shape
    ((2,), (2,))
"""

abs = _of(ops.abs)
celu = _of(ops.celu)
elu = _of(ops.elu)
gelu = _of(ops.gelu)
hardsigmoid = _of(ops.hardsigmoid)
hardswish = _of(ops.hardswish)
hardtanh = _of(ops.hardtanh)
identity = _of(ops.identity)
leaky_relu = _of(ops.leaky_relu)
mish = _of(ops.mish)
relu = _of(ops.relu)
relu6 = _of(ops.relu6)
selu = _of(ops.selu)
sigmoid = _of(ops.sigmoid)
silu = _of(ops.silu)
sin = _of(ops.sin)
softplus = _of(ops.softplus)
softsign = _of(ops.softsign)
tanh = _of(ops.tanh)


@jax.custom_vjp
def _dropped(x: jax.Array, random: tuple[Any, ...]) -> jax.Array:
    (y,) = call("dropout", "dropout", [like(x)], x, *random)
    return y


def _dropped_forward(x: jax.Array, random: tuple[Any, ...]) -> tuple[jax.Array, tuple[Any, ...]]:
    return _dropped(x, random), random


def _dropped_backward(random: tuple[Any, ...], dy: jax.Array) -> tuple[jax.Array, None]:
    return _dropped(dy, random), None


_dropped.defvjp(_dropped_forward, _dropped_backward)


def dropout(x: Any, p: Any = 0.5, *, seed: Any, offset: Any = 0, first: Any = 0) -> jax.Array:
    """y = x/(1 - p) where the element is kept, 0 where it is dropped.

    The mask is that of `onepass.ops.dropout`, bit for bit, and the backward computes it again. All
    numbers are operands: a new seed or offset compiles nothing. Under `jax.vmap` each element of
    the batch is a call of its own and, with one seed and offset, gets the same mask; map over
    ``offset`` or ``first`` for different ones.

    Args:
        x: array of any shape.
        p: probability of dropping an element, in [0, 1]; a number, or a floating array without
            axes, which has a gradient of zero.
        seed: 64-bit key: a number, an integer array without axes, or a key of `jax.random`, of
            which ``jax.random.key(5)`` is 5.
        offset: names an independent 64-bit stream, for instance layer and step; likewise.
        first: index that element 0 of ``x`` counts as: a shard of a larger array gets its part of
            that array's mask.

    Returns:
        y, like ``x``.

    Raises:
        ValueError: ``p`` outside [0, 1] or NaN; ``seed`` or ``offset`` outside [0, 2⁶⁴), ``first``
            outside [0, 2⁶²). Of traced numbers it is XLA's error, when the call runs.
        TypeError: wrong dtype.

    Source: Srivastava et al., Dropout: A Simple Way to Prevent Neural Networks from Overfitting,
    2014; Salmon et al., Parallel Random Numbers: As Easy as 1, 2, 3, 2011.

    Example:
        >>> import jax
        >>> import numpy as np
        >>> import onepass
        >>> x = np.ones(8, np.float32)
        >>> y = jax.jit(onepass.jax.dropout)(x, 0.5, seed=7)
        >>> np.array_equal(y, onepass.ops.dropout(x, 0.5, seed=7))
        True
    """
    random = stream("dropout", "p", p, seed, offset, first)
    x, *operands = together(floating("dropout", "x", x), *random)
    return _dropped(x, tuple(operands))
