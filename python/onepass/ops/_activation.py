"""Activations and their gradients, elementwise.

Every ``<name>_backward(dy, x)`` works from the input ``x``. A declaration has no body: `activation`
and `backward_of` make the functions and complete their docstrings.
"""

from __future__ import annotations

from typing import Literal

from onepass._array import Array
from onepass.ops._declare import activation, backward_of

__all__ = [
    "gelu",
    "gelu_backward",
    "identity",
    "identity_backward",
    "leaky_relu",
    "leaky_relu_backward",
    "mish",
    "mish_backward",
    "relu",
    "relu_backward",
    "selu",
    "selu_backward",
    "sigmoid",
    "sigmoid_backward",
    "silu",
    "silu_backward",
    "tanh",
    "tanh_backward",
]


@activation
def identity(x: Array, *, out: Array | None = None) -> Array:
    """y = x: a copy, into ``out`` if given.

    Source: the neutral activation of fused kernels.

    Example:
        >>> import numpy as np
        >>> import onepass
        >>> onepass.ops.identity(np.float32([1, -2]))
        array([ 1., -2.], dtype=float32)
    """


identity_backward = backward_of(identity, "dx = dy.")


@activation
def relu(x: Array, *, out: Array | None = None) -> Array:
    """y = max(x, 0).

    Source: Nair & Hinton, Rectified Linear Units Improve Restricted Boltzmann Machines, 2010.

    Example:
        >>> import numpy as np
        >>> import onepass
        >>> onepass.ops.relu(np.float32([1, -2, 0.5]))
        array([1. , 0. , 0.5], dtype=float32)
    """


relu_backward = backward_of(relu, "dx = dy where x > 0, else 0.")


@activation
def leaky_relu(x: Array, *, negative_slope: float = 0.01, out: Array | None = None) -> Array:
    """y = x where x > 0, else negative_slope·x.

    Args:
        negative_slope: slope for negative inputs.

    Source: Maas, Hannun & Ng, Rectifier Nonlinearities Improve Neural Network Acoustic Models,
    2013.

    Example:
        >>> import numpy as np
        >>> import onepass
        >>> onepass.ops.leaky_relu(np.float32([1, -2]), negative_slope=0.5)
        array([ 1., -1.], dtype=float32)
    """


leaky_relu_backward = backward_of(leaky_relu, "dx = dy where x > 0, else negative_slope·dy.")


@activation
def sigmoid(x: Array, *, out: Array | None = None) -> Array:
    """y = σ(x) = 1 / (1 + exp(-x)).

    Source: Rumelhart, Hinton & Williams, Learning representations by back-propagating errors, 1986.

    Example:
        >>> import numpy as np
        >>> import onepass
        >>> onepass.ops.sigmoid(np.float32([0]))
        array([0.5], dtype=float32)
    """


sigmoid_backward = backward_of(sigmoid, "dx = dy·σ(x)·(1 - σ(x)).")


@activation
def tanh(x: Array, *, out: Array | None = None) -> Array:
    """y = tanh(x).

    Source: LeCun, Bottou, Orr & Müller, Efficient BackProp, 1998.

    Example:
        >>> import numpy as np
        >>> import onepass
        >>> onepass.ops.tanh(np.float32([0, np.inf]))
        array([0., 1.], dtype=float32)
    """


tanh_backward = backward_of(tanh, "dx = dy·(1 - tanh(x)²).")


@activation
def gelu(
    x: Array, *, approximate: Literal["none", "tanh"] = "none", out: Array | None = None
) -> Array:
    """y = x·Φ(x), Φ the normal distribution function; or its tanh form.

    ``approximate="tanh"``: y = x/2·(1 + tanh(√(2/π)·(x + 0.044715·x³))).

    Args:
        approximate: "none" or "tanh".

    Source: Hendrycks & Gimpel, Gaussian Error Linear Units, 2016.

    Example:
        >>> import numpy as np
        >>> import onepass
        >>> onepass.ops.gelu(np.float32([0, -np.inf]))
        array([ 0., -0.], dtype=float32)
    """


gelu_backward = backward_of(
    gelu, "dx = dy·(Φ(x) + x·φ(x)), φ the normal density; or the derivative of the tanh form."
)


@activation
def silu(x: Array, *, out: Array | None = None) -> Array:
    """y = x·σ(x), σ(x) = 1 / (1 + exp(-x)).

    Source: Elfwing, Uchibe & Doya, Sigmoid-Weighted Linear Units for Neural Network Function
    Approximation in Reinforcement Learning, 2018.

    Example:
        >>> import numpy as np
        >>> import onepass
        >>> onepass.ops.silu(np.float32([0, -np.inf]))
        array([ 0., -0.], dtype=float32)
    """


silu_backward = backward_of(silu, "dx = dy·σ(x)·(1 + x·(1 - σ(x))).")


@activation
def selu(x: Array, *, out: Array | None = None) -> Array:
    """y = scale·x where x > 0, else scale·alpha·(exp(x) - 1).

    scale = 1.0507009873554805, alpha = 1.6732632423543773.

    Source: Klambauer, Unterthiner, Mayr & Hochreiter, Self-Normalizing Neural Networks, 2017.

    Example:
        >>> import numpy as np
        >>> import onepass
        >>> onepass.ops.selu(np.float32([1, -np.inf]))
        array([ 1.050701 , -1.7580993], dtype=float32)
    """


selu_backward = backward_of(selu, "dx = scale·dy where x > 0, else scale·alpha·exp(x)·dy.")


@activation
def mish(x: Array, *, out: Array | None = None) -> Array:
    """y = x·tanh(softplus(x)), softplus(x) = log(1 + exp(x)).

    Source: Misra, Mish: A Self Regularized Non-Monotonic Activation Function, 2019.

    Example:
        >>> import numpy as np
        >>> import onepass
        >>> onepass.ops.mish(np.float32([0, 1, -np.inf]))
        array([ 0.       ,  0.8650984, -0.       ], dtype=float32)
    """


mish_backward = backward_of(
    mish, "dx = dy·(tanh(s) + x·σ(x)/cosh²(s)), s = softplus(x), σ(x) = 1 / (1 + exp(-x))."
)
