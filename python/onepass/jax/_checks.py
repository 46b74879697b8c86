"""What functions of `onepass.jax` are given: arrays, and numbers that may be traced.

A number that Python has goes to a kernel as the bits of a double, in two words of 32: JAX has no
doubles unless ``jax_enable_x64`` is set, and 0.1 as a float32 is another number. One that is an
array goes as it is.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from onepass import _numbers as numbers
from onepass.jax._targets import gathered

FLOATS = ("float32", "float64", "float16", "bfloat16")


def floating(op: str, name: str, x: Any) -> jax.Array:
    """``x`` as an array of floats, whole on each device."""
    if not isinstance(x, (jax.Array, np.ndarray, np.generic, float, list, tuple)):
        raise TypeError(f"{op}: {name!r} is a {type(x).__name__}, expected an array")
    array = jnp.asarray(x)
    if str(array.dtype) not in FLOATS:
        raise TypeError(
            f"{op}: {name!r} has dtype {array.dtype}, expected float32, float64, float16 or "
            "bfloat16"
        )
    whole: jax.Array = gathered(array)
    return whole


def computing(x: jax.Array) -> np.dtype[Any]:
    """The dtype that a kernel computes in."""
    return np.dtype(np.float64 if x.dtype == np.float64 else np.float32)


def per_channel(
    op: str, name: str, given: Any, x: jax.Array, shape: tuple[int, ...]
) -> jax.Array | None:
    """A weight or bias beside ``x``; None where it is None."""
    if given is None:
        return None
    array = floating(op, name, given)
    if array.shape != shape:
        raise ValueError(f"{op}: {name!r} has shape {array.shape}, expected {shape}")
    if array.dtype not in (x.dtype, computing(x)):
        known = " or ".join(dict.fromkeys((str(computing(x)), str(x.dtype))))
        raise TypeError(f"{op}: {name!r} has dtype {array.dtype}, expected {known}")
    return array


def same(op: str, name: str, given: Any, x: jax.Array) -> jax.Array:
    """An array of the shape and dtype of ``x``."""
    array = floating(op, name, given)
    if (array.shape, array.dtype) != (x.shape, x.dtype):
        raise ValueError(
            f"{op}: {name!r} has shape {array.shape} and dtype {array.dtype}, expected "
            f"{x.shape} and {x.dtype}"
        )
    return array


def number(op: str, name: str, value: Any, **limits: Any) -> Any:
    """An operand that is one number, as `numbers.in_range` takes it unless it is an array."""
    if not isinstance(value, jax.Array):
        return bits(numbers.in_range(op, name, value, **limits))
    kinds = (jnp.floating, jnp.integer)
    if value.shape != () or not any(jnp.issubdtype(value.dtype, kind) for kind in kinds):
        raise TypeError(
            f"{op}: {name!r} has shape {value.shape} and dtype {value.dtype}, expected a number "
            "or an array of numbers without axes"
        )
    if jnp.issubdtype(value.dtype, jnp.integer):
        return value.astype(float)  # the widest that JAX has
    return value if value.dtype == np.float64 else value.astype(np.float32)


def bits(*values: float) -> np.ndarray[Any, Any]:
    """Doubles as words of 32 bits."""
    return np.array(values, np.float64).view(np.uint32)


def word(op: str, name: str, value: Any, below: int = 2**64) -> Any:
    """An operand that is a whole number of 64 bits; a key of `jax.random` is one."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "iu":  # as jax.device_get gives it
        value = value[()] if value.ndim == 0 else jnp.asarray(value)
    if not isinstance(value, jax.Array):
        return np.array([numbers.integer(op, name, value, 0, below)], np.uint64).view(np.uint32)
    if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        value = jax.random.key_data(value)
    if value.shape == (2,) and value.dtype == np.uint32:
        return value[::-1]  # a key has its high word first
    if value.shape != () or not jnp.issubdtype(value.dtype, jnp.integer):
        raise TypeError(
            f"{op}: {name!r} has shape {value.shape} and dtype {value.dtype}, expected a whole "
            "number, an integer array without axes, or a key of jax.random"
        )
    return value.astype(np.int32) if value.dtype.itemsize < 4 else value


def stream(op: str, name: str, p: Any, seed: Any, offset: Any, first: Any) -> tuple[Any, ...]:
    """The operands of dropout; ``name`` is that of ``p``."""
    return (
        number(op, name, p, low=0, most=1),
        word(op, "seed", seed),
        word(op, "offset", offset),
        word(op, "first", first, 2**62),
    )
