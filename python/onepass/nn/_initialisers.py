"""The initialisers: each fills an array or a `Parameter` in place and returns it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from onepass import _numbers as numbers
from onepass._docs import shares
from onepass.nn import _fill
from onepass.nn._fill import T, fans

__all__ = [
    "calculate_gain",
    "constant",
    "geometric_mean",
    "kaiming_normal",
    "kaiming_uniform",
    "lecun_normal",
    "lecun_uniform",
    "normal",
    "ones",
    "orthogonal",
    "uniform",
    "xavier_normal",
    "xavier_uniform",
    "zeros",
]

_documented = shares(
    {
        "tensor": "a float array (NumPy or CuPy) or a `Parameter`, at least 2 axes where fans are "
        "needed;\n        filled in place and returned.",
        "seed": "an integer, 0 <= seed < 2**64: the values are a function of the shape and it. "
        "None draws\n        from the generator that `onepass.nn.manual_seed` seeds.",
        "gain": "factor on the values; `calculate_gain` knows that of an activation.",
        "a": "negative slope of the leaky ReLU that follows; 0 is ReLU.",
        "mode": '"fan_in" keeps the variance forward, "fan_out" backward.',
        "nonlinearity": "for `calculate_gain`.",
    },
    needs=("Example",),
    Raises="TypeError: not a float array, or an option that is not a number.\n"
    "    ValueError: too few axes, or an option or the seed out of range.",
)


@_documented
def zeros(tensor: T, *, seed: int | None = None) -> T:
    """All 0; ``seed`` is not read.

    Example:
        >>> import numpy as np
        >>> from onepass import nn
        >>> nn.init.zeros(np.empty(3)).tolist()
        [0.0, 0.0, 0.0]
    """
    return _fill.fill(tensor, 0.0)


@_documented
def ones(tensor: T, *, seed: int | None = None) -> T:
    """All 1; ``seed`` is not read.

    Example:
        >>> import numpy as np
        >>> from onepass import nn
        >>> nn.init.ones(np.empty(3)).tolist()
        [1.0, 1.0, 1.0]
    """
    return _fill.fill(tensor, 1.0)


@_documented
def constant(tensor: T, val: float, *, seed: int | None = None) -> T:
    """All ``val``; ``seed`` is not read.

    Args:
        val: a number.

    Example:
        >>> import numpy as np
        >>> from onepass import nn
        >>> nn.init.constant(np.empty(3), 0.5).tolist()
        [0.5, 0.5, 0.5]
    """
    return _fill.fill(tensor, numbers.as_float("constant", "val", val, "a number"))


@_documented
def normal(tensor: T, mean: float = 0.0, std: float = 1.0, *, seed: int | None = None) -> T:
    """Normal with this mean and standard deviation.

    Args:
        mean: a finite number.
        std: >= 0.

    Example:
        >>> import numpy as np
        >>> from onepass import nn
        >>> bool(abs(nn.init.normal(np.empty(10000), 5.0, 0.1, seed=0).mean() - 5) < 0.01)
        True
    """
    mean, std = numbers.in_range("normal", "mean", mean), numbers.in_range("normal", "std", std, 0)
    return _fill.normal(tensor, mean, std, seed)


@_documented
def uniform(tensor: T, a: float = 0.0, b: float = 1.0, *, seed: int | None = None) -> T:
    """Uniform from ``a`` to ``b``.

    Args:
        a: a finite number.
        b: not below ``a``.

    Example:
        >>> import numpy as np
        >>> from onepass import nn
        >>> bool((abs(nn.init.uniform(np.empty(100), -2.0, 2.0, seed=0)) <= 2).all())
        True
    """
    a = numbers.in_range("uniform", "a", a)
    b = numbers.in_range("uniform", "b", b, a)
    if not math.isfinite(b - a):
        raise ValueError(f"uniform: 'b' is {b!r}, expected a number with finite b - a; a is {a!r}")
    return _fill.uniform(tensor, a, b, seed)


@_documented
def lecun_normal(tensor: T, *, seed: int | None = None) -> T:
    """Normal, variance ``1 / fan_in``, not truncated.

    Source: LeCun et al., Efficient BackProp, 1998; for SELU Klambauer et al., Self-Normalizing
    Neural Networks, 2017.

    Example:
        >>> import numpy as np
        >>> from onepass import nn
        >>> float(nn.init.lecun_normal(np.empty((64, 100)), seed=0).std().round(2))
        0.1
    """
    return _fill.normal(tensor, 0.0, math.sqrt(1 / fans(tensor)[0]), seed)


@_documented
def lecun_uniform(tensor: T, *, seed: int | None = None) -> T:
    """Uniform in ±√(3 / fan_in): variance ``1 / fan_in``.

    Source: LeCun et al., Efficient BackProp, 1998.

    Example:
        >>> import numpy as np
        >>> from onepass import nn
        >>> bool(abs(nn.init.lecun_uniform(np.empty((64, 300)), seed=0)).max() <= 0.1)
        True
    """
    return _fill.uniform_of(tensor, 1 / fans(tensor)[0], seed)


@_documented
def xavier_normal(tensor: T, gain: float = 1.0, *, seed: int | None = None) -> T:
    """Normal, variance ``gain² · 2 / (fan_in + fan_out)``.

    Source: Glorot & Bengio, Understanding the difficulty of training deep feedforward neural
    networks, 2010.

    Example:
        >>> import numpy as np
        >>> from onepass import nn
        >>> float(nn.init.xavier_normal(np.empty((100, 100)), seed=0).std().round(2))
        0.1
    """
    gain = numbers.in_range("xavier_normal", "gain", gain)
    return _fill.normal(tensor, 0.0, gain * math.sqrt(2 / sum(fans(tensor))), seed)


@_documented
def xavier_uniform(tensor: T, gain: float = 1.0, *, seed: int | None = None) -> T:
    """Uniform, variance ``gain² · 2 / (fan_in + fan_out)``.

    Source: Glorot & Bengio, Understanding the difficulty of training deep feedforward neural
    networks, 2010.

    Example:
        >>> import numpy as np
        >>> from onepass import nn
        >>> bool(abs(nn.init.xavier_uniform(np.empty((300, 300)), seed=0)).max() <= 0.1)
        True
    """
    gain = numbers.in_range("xavier_uniform", "gain", gain)
    return _fill.uniform_of(tensor, gain**2 * 2 / sum(fans(tensor)), seed)


@_documented
def kaiming_normal(
    tensor: T,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    *,
    seed: int | None = None,
) -> T:
    """Normal, variance ``gain² / fan``.

    Source: He et al., Delving Deep into Rectifiers, 2015.

    Example:
        >>> import numpy as np
        >>> from onepass import nn
        >>> float(nn.init.kaiming_normal(np.empty((64, 200)), seed=0).std().round(2))
        0.1
    """
    variance = _kaiming("kaiming_normal", tensor, a, mode, nonlinearity)
    return _fill.normal(tensor, 0.0, math.sqrt(variance), seed)


@_documented
def kaiming_uniform(
    tensor: T,
    a: float = 0.0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    *,
    seed: int | None = None,
) -> T:
    """Uniform, variance ``gain² / fan``.

    Source: He et al., Delving Deep into Rectifiers, 2015.

    Example:
        >>> import numpy as np
        >>> from onepass import nn
        >>> bool(abs(nn.init.kaiming_uniform(np.empty((64, 600)), seed=0)).max() <= 0.1)
        True
    """
    variance = _kaiming("kaiming_uniform", tensor, a, mode, nonlinearity)
    return _fill.uniform_of(tensor, variance, seed)


@_documented
def geometric_mean(tensor: T, c: float = 1.0, *, seed: int | None = None) -> T:
    """Normal, variance ``c / √(fan_in · fan_out)``: Glorot's with the geometric mean of the fans.

    Where the fans are equal, ``c = 1`` is Glorot's variance and ``c = 2`` is He's. With ``c = 1``
    a linear layer scales the variance of the signal by √(fan_in / fan_out), and that of the
    gradient by the inverse.

    Args:
        c: > 0.

    Example:
        >>> import numpy as np
        >>> from onepass import nn
        >>> float(nn.init.geometric_mean(np.empty((400, 25)), seed=0).std().round(2))
        0.1
    """
    c = numbers.in_range("geometric_mean", "c", c, above=0)
    return _fill.normal(tensor, 0.0, math.sqrt(c / math.sqrt(math.prod(fans(tensor)))), seed)


@_documented
def orthogonal(tensor: T, gain: float = 1.0, *, seed: int | None = None) -> T:
    """``gain`` times a random matrix (axis 0 × the rest) with orthonormal rows or columns.

    Rows or columns, whichever are fewer: Q of a normal matrix, R's diagonal positive.

    Source: Saxe et al., Exact solutions to the nonlinear dynamics of learning in deep linear neural
    networks, 2014.

    Example:
        >>> import numpy as np
        >>> from onepass import nn
        >>> q = nn.init.orthogonal(np.empty((3, 5)), seed=0)
        >>> bool(np.allclose(q @ q.T, np.eye(3)))
        True
    """
    gain = numbers.in_range("orthogonal", "gain", gain)
    shape = _fill.floats_of(tensor).shape
    if len(shape) < 2:
        raise ValueError(f"orthogonal: 'tensor' has shape {tuple(shape)}, expected at least 2 axes")
    rows, columns = shape[0], math.prod(shape[1:])
    tall = (max(rows, columns), min(rows, columns))
    q, r = np.linalg.qr(_fill.generator(seed).standard_normal(tall))
    q *= np.copysign(1.0, np.diag(r))
    return _fill.fill(tensor, gain * (q.T if rows < columns else q).reshape(shape))


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor on the weights before a nonlinearity that keeps the variance of the signal.

    linear, conv1d/2d/3d, sigmoid: 1; tanh: 5/3; relu: √2; leaky_relu: √(2 / (1 + param²)), param
    0.01 by default; selu: 3/4. The values are PyTorch's.

    Args:
        nonlinearity: one of these names.
        param: the slope of a leaky ReLU.

    Raises:
        TypeError: ``param`` is not a number.
        ValueError: another name.

    Example:
        >>> from onepass import nn
        >>> nn.init.calculate_gain("leaky_relu", 1.0)
        1.0
    """
    slope = 0.01 if param is None else numbers.in_range("calculate_gain", "param", param)
    return _gain("calculate_gain", nonlinearity, slope)


def _gain(owner: str, nonlinearity: str, slope: float) -> float:
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
    numbers.one_of(owner, "nonlinearity", nonlinearity, list(gains))
    return gains[nonlinearity]


def _kaiming(owner: str, tensor: Any, a: float, mode: str, nonlinearity: str) -> float:
    """``gain² / fan``."""
    numbers.one_of(owner, "mode", mode, ("fan_in", "fan_out"))
    a = numbers.in_range(owner, "a", a)
    return _gain(owner, nonlinearity, a) ** 2 / fans(tensor)[mode == "fan_out"]
