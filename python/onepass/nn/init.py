"""Initial values: each function fills an array or a `Parameter` in place and returns it.

Shapes follow PyTorch: ``(out, in, *kernel)``; ``fan_in = in · Π kernel``, ``fan_out = out · Π
kernel``. With ``seed`` the values are a function of the shape and the seed; without, they come from
the generator that `onepass.nn.manual_seed` seeds. They are drawn in float64 and rounded, so a
float32 model starts at the rounded values of its float64 twin, on every device.
"""

from __future__ import annotations

import math
from typing import Any, TypeVar

import numpy as np

from onepass.nn._device import Array, namespace
from onepass.nn._parameter import Parameter
from onepass.nn._random import init_generator

T = TypeVar("T")  # an array or a Parameter


def zeros(tensor: T) -> T:
    """All 0."""
    return constant(tensor, 0.0)


def ones(tensor: T) -> T:
    """All 1."""
    return constant(tensor, 1.0)


def constant(tensor: T, val: float) -> T:
    """All ``val``."""
    _array(tensor).fill(val)
    return tensor


def normal(tensor: T, mean: float = 0.0, std: float = 1.0, *, seed: int | None = None) -> T:
    """Normal with this mean and standard deviation."""
    return _fill(tensor, mean + std * _generator(seed).standard_normal(_array(tensor).shape))


def uniform(tensor: T, a: float = 0.0, b: float = 1.0, *, seed: int | None = None) -> T:
    """Uniform from ``a`` to ``b``."""
    return _fill(tensor, _generator(seed).uniform(a, b, _array(tensor).shape))


def lecun_normal(tensor: T, *, seed: int | None = None) -> T:
    """Normal, variance ``1 / fan_in`` (not truncated). Source: LeCun et al. 1998; Klambauer et al.
    2017 for SELU."""
    return _by_variance(tensor, 1 / fans(tensor)[0], False, seed)


def lecun_uniform(tensor: T, *, seed: int | None = None) -> T:
    """Uniform, variance ``1 / fan_in``: ±√(3 / fan_in). Source: LeCun et al. 1998."""
    return _by_variance(tensor, 1 / fans(tensor)[0], True, seed)


def xavier_normal(tensor: T, gain: float = 1.0, *, seed: int | None = None) -> T:
    """Normal, variance ``gain² · 2 / (fan_in + fan_out)``. Source: Glorot and Bengio 2010."""
    return _by_variance(tensor, gain**2 * 2 / sum(fans(tensor)), False, seed)


def xavier_uniform(tensor: T, gain: float = 1.0, *, seed: int | None = None) -> T:
    """Uniform, variance ``gain² · 2 / (fan_in + fan_out)``. Source: Glorot and Bengio 2010."""
    return _by_variance(tensor, gain**2 * 2 / sum(fans(tensor)), True, seed)


def kaiming_normal(
    tensor: T,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    *,
    seed: int | None = None,
) -> T:
    """Normal, variance ``gain² / fan``, gain of the nonlinearity (slope ``a``). Source: He et
    al. 2015."""
    return _by_variance(tensor, _kaiming(tensor, a, mode, nonlinearity), False, seed)


def kaiming_uniform(
    tensor: T,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    *,
    seed: int | None = None,
) -> T:
    """Uniform, variance ``gain² / fan``, gain of the nonlinearity (slope ``a``). Source: He et
    al. 2015."""
    return _by_variance(tensor, _kaiming(tensor, a, mode, nonlinearity), True, seed)


def geometric_mean(tensor: T, c: float = 1.0, *, seed: int | None = None) -> T:
    """Normal, variance ``c / √(fan_in · fan_out)``: Glorot's with the geometric mean of the fans.

    Where the fans are equal, ``c = 1`` is Glorot's variance and ``c = 2`` is He's.
    """
    if not c > 0:
        raise ValueError(f"c={c}: expected c > 0")
    return _by_variance(tensor, c / math.sqrt(math.prod(fans(tensor))), False, seed)


def orthogonal(tensor: T, gain: float = 1.0, *, seed: int | None = None) -> T:
    """``gain`` times a random matrix (axis 0 × the rest) with orthonormal rows or columns.

    Rows or columns, whichever are fewer: Q of a normal matrix, R's diagonal positive. Source: Saxe
    et al. 2014.
    """
    shape = _array(tensor).shape
    if len(shape) < 2:
        raise ValueError(f"orthogonal: shape {tuple(shape)} has fewer than 2 axes")
    rows, columns = shape[0], math.prod(shape[1:])
    q, r = np.linalg.qr(_generator(seed).standard_normal((max(rows, columns), min(rows, columns))))
    q *= np.copysign(1.0, np.diag(r))
    return _fill(tensor, gain * (q.T if rows < columns else q).reshape(shape))


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor on the weights before a nonlinearity that keeps the variance of the signal.

    linear, conv, sigmoid: 1; tanh: 5/3; relu: √2; leaky_relu: √(2 / (1 + param²)), param 0.01 by
    default; selu: 3/4.
    """
    slope = 0.01 if param is None else param
    gains = {
        "linear": 1.0,
        "conv1d": 1.0,
        "conv2d": 1.0,
        "conv3d": 1.0,
        "sigmoid": 1.0,
        "tanh": 5 / 3,
        "relu": math.sqrt(2),
        "leaky_relu": math.sqrt(2 / (1 + slope**2)),
        "selu": 0.75,
    }
    if nonlinearity not in gains:
        raise ValueError(f"nonlinearity={nonlinearity!r}: expected one of {', '.join(gains)}")
    return gains[nonlinearity]


def fans(tensor: Any) -> tuple[int, int]:
    """``(fan_in, fan_out)`` of an array (out, in, *kernel)."""
    shape = _array(tensor).shape
    if len(shape) < 2:
        raise ValueError(f"fan_in and fan_out need 2 axes or more, the shape is {tuple(shape)}")
    field = math.prod(shape[2:])
    return shape[1] * field, shape[0] * field


def _kaiming(tensor: Any, a: float, mode: str, nonlinearity: str) -> float:
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"mode={mode!r}: expected 'fan_in' or 'fan_out'")
    return calculate_gain(nonlinearity, a) ** 2 / fans(tensor)[mode == "fan_out"]


def _by_variance(tensor: T, variance: float, is_uniform: bool, seed: int | None) -> T:
    if is_uniform:
        bound = math.sqrt(3 * variance)
        return uniform(tensor, -bound, bound, seed=seed)
    return normal(tensor, 0.0, math.sqrt(variance), seed=seed)


def _generator(seed: int | None) -> np.random.Generator:
    return init_generator() if seed is None else np.random.Generator(np.random.PCG64(seed))


def _array(tensor: Any) -> Array:
    array = tensor.data if isinstance(tensor, Parameter) else tensor
    namespace(array)
    if array.dtype.kind != "f":
        raise TypeError(f"expected an array of floats, got dtype {array.dtype}")
    return array


def _fill(tensor: T, values: Array) -> T:
    array = _array(tensor)
    array[...] = namespace(array).asarray(values)
    return tensor
