"""Activations and their gradients, elementwise. σ(x) = 1 / (1 + exp(-x)).

Every ``<name>_backward(dy, x)`` works from the input ``x``; those of sigmoid and tanh also take the
output, ``y=``. A declaration has no body: `activation` and `backward_of` make the functions and
complete their docstrings.
"""

from __future__ import annotations

from typing import Literal

from onepass._array import Array
from onepass.ops._declare import activation, backward_of, backward_of_output

__all__ = [
    "abs",
    "abs_backward",
    "celu",
    "celu_backward",
    "elu",
    "elu_backward",
    "gelu",
    "gelu_backward",
    "hardsigmoid",
    "hardsigmoid_backward",
    "hardswish",
    "hardswish_backward",
    "hardtanh",
    "hardtanh_backward",
    "identity",
    "identity_backward",
    "leaky_relu",
    "leaky_relu_backward",
    "mish",
    "mish_backward",
    "relu",
    "relu6",
    "relu6_backward",
    "relu_backward",
    "selu",
    "selu_backward",
    "sigmoid",
    "sigmoid_backward",
    "silu",
    "silu_backward",
    "sin",
    "sin_backward",
    "softplus",
    "softplus_backward",
    "softsign",
    "softsign_backward",
    "tanh",
    "tanh_backward",
]


@activation
def identity(x: Array, *, out: Array | None = None) -> Array:
    """y = x: a copy, into ``out`` if given.

    Source: the neutral activation of fused kernels.

    Example:
        >>> onepass.ops.identity(np.float32([1, -2]))
        array([ 1., -2.], dtype=float32)
    """


identity_backward = backward_of(identity, "dx = dy.")


@activation
def relu(x: Array, *, out: Array | None = None) -> Array:
    """y = max(x, 0).

    Source: Nair & Hinton, Rectified Linear Units Improve Restricted Boltzmann Machines, 2010.

    Example:
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
        >>> onepass.ops.leaky_relu(np.float32([1, -2]), negative_slope=0.5)
        array([ 1., -1.], dtype=float32)
    """


leaky_relu_backward = backward_of(leaky_relu, "dx = dy where x > 0, else negative_slope·dy.")


@activation
def sigmoid(x: Array, *, out: Array | None = None) -> Array:
    """y = σ(x) = 1 / (1 + exp(-x)).

    Source: Rumelhart, Hinton & Williams, Learning representations by back-propagating errors, 1986.

    Example:
        >>> onepass.ops.sigmoid(np.float32([0]))
        array([0.5], dtype=float32)
    """


sigmoid_backward = backward_of_output(sigmoid, "dx = dy·y·(1 - y), y = σ(x).")


@activation
def tanh(x: Array, *, out: Array | None = None) -> Array:
    """y = tanh(x).

    Source: LeCun, Bottou, Orr & Müller, Efficient BackProp, 1998.

    Example:
        >>> onepass.ops.tanh(np.float32([0, np.inf]))
        array([0., 1.], dtype=float32)
    """


tanh_backward = backward_of_output(tanh, "dx = dy·(1 - y²), y = tanh(x).")


@activation
def gelu(
    x: Array, *, approximate: Literal["none", "tanh"] = "none", out: Array | None = None
) -> Array:
    """y = x·Φ(x), Φ the normal distribution function.

    Args:
        approximate: "none"; or "tanh" for y = x/2·(1 + tanh(√(2/π)·(x + 0.044715·x³))).

    Source: Hendrycks & Gimpel, Gaussian Error Linear Units, 2016.

    Example:
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
        >>> onepass.ops.selu(np.float32([1, -np.inf]))
        array([ 1.050701 , -1.7580993], dtype=float32)
    """


selu_backward = backward_of(selu, "dx = scale·dy where x > 0, else scale·alpha·exp(x)·dy.")


@activation
def mish(x: Array, *, out: Array | None = None) -> Array:
    """y = x·tanh(softplus(x)), softplus(x) = log(1 + exp(x)).

    Source: Misra, Mish: A Self Regularized Non-Monotonic Activation Function, 2019.

    Example:
        >>> onepass.ops.mish(np.float32([0, 1, -np.inf]))
        array([ 0.        ,  0.86509836, -0.        ], dtype=float32)
    """


mish_backward = backward_of(
    mish, "dx = dy·(tanh(s) + x·σ(x)/cosh²(s)), s = softplus(x), σ(x) = 1 / (1 + exp(-x))."
)


@activation
def elu(x: Array, *, alpha: float = 1.0, out: Array | None = None) -> Array:
    """y = x where x > 0, else alpha·(exp(x) - 1).

    Args:
        alpha: -alpha is the limit at -Inf.

    Source: Clevert, Unterthiner & Hochreiter, Fast and Accurate Deep Network Learning by
    Exponential Linear Units, 2016.

    Example:
        >>> onepass.ops.elu(np.float32([1, -np.inf]), alpha=0.5)
        array([ 1. , -0.5], dtype=float32)
    """


elu_backward = backward_of(elu, "dx = dy where x > 0, else alpha·exp(x)·dy.")


@activation(valid=lambda alpha: alpha > 0, expected="a number > 0")
def celu(x: Array, *, alpha: float = 1.0, out: Array | None = None) -> Array:
    """y = x where x > 0, else alpha·(exp(x/alpha) - 1).

    Args:
        alpha: above 0; -alpha is the limit at -Inf.

    Source: Barron, Continuously Differentiable Exponential Linear Units, 2017.

    Example:
        >>> onepass.ops.celu(np.float32([1, -np.inf]), alpha=0.5)
        array([ 1. , -0.5], dtype=float32)
    """


celu_backward = backward_of(celu, "dx = dy where x > 0, else exp(x/alpha)·dy.")


@activation(valid=lambda beta: beta != 0, expected="a number other than 0")
def softplus(
    x: Array, *, beta: float = 1.0, threshold: float = 20.0, out: Array | None = None
) -> Array:
    """y = log(1 + exp(beta·x))/beta, and x itself where beta·x > threshold.

    Args:
        beta: how sharply y bends; not 0.
        threshold: for beta·x, above which y = x.

    Source: Dugas, Bengio, Bélisle, Nadeau & Garcia, Incorporating Second-Order Functional
    Knowledge for Better Option Pricing, 2001.

    Example:
        >>> onepass.ops.softplus(np.float32([0, 100, -np.inf]))
        array([  0.6931472, 100.       ,   0.       ], dtype=float32)
    """


softplus_backward = backward_of(softplus, "dx = dy·σ(beta·x), and dy where beta·x > threshold.")


@activation
def relu6(x: Array, *, out: Array | None = None) -> Array:
    """y = min(max(x, 0), 6).

    Source: Krizhevsky, Convolutional Deep Belief Networks on CIFAR-10, 2010.

    Example:
        >>> onepass.ops.relu6(np.float32([-1, 2, 9]))
        array([0., 2., 6.], dtype=float32)
    """


relu6_backward = backward_of(relu6, "dx = dy where 0 < x < 6, else 0.")


@activation(valid=lambda min_val, max_val: min_val <= max_val, expected="'min_val' <= 'max_val'")
def hardtanh(
    x: Array, *, min_val: float = -1.0, max_val: float = 1.0, out: Array | None = None
) -> Array:
    """y = min(max(x, min_val), max_val).

    Args:
        min_val: the lower bound of y.
        max_val: the upper bound of y, not below ``min_val``.

    Source: Collobert, Large Scale Machine Learning, 2004.

    Example:
        >>> onepass.ops.hardtanh(np.float32([-3, 0.5, 3]), max_val=2.0)
        array([-1. ,  0.5,  2. ], dtype=float32)
    """


hardtanh_backward = backward_of(hardtanh, "dx = dy where min_val < x < max_val, else 0.")


@activation
def hardsigmoid(x: Array, *, out: Array | None = None) -> Array:
    """y = min(max(x + 3, 0), 6)/6.

    Source: Howard et al., Searching for MobileNetV3, 2019.

    Example:
        >>> onepass.ops.hardsigmoid(np.float32([-3, 0, 9]))
        array([0. , 0.5, 1. ], dtype=float32)
    """


hardsigmoid_backward = backward_of(hardsigmoid, "dx = dy/6 where -3 < x < 3, else 0.")


@activation
def hardswish(x: Array, *, out: Array | None = None) -> Array:
    """y = x·min(max(x + 3, 0), 6)/6.

    Source: Howard et al., Searching for MobileNetV3, 2019.

    Example:
        >>> onepass.ops.hardswish(np.float32([-np.inf, 1.5, 9]))
        array([-0.   ,  1.125,  9.   ], dtype=float32)
    """


hardswish_backward = backward_of(
    hardswish, "dx = 0 where x <= -3, dy where x >= 3, and dy·(x/3 + 1/2) between."
)


@activation
def softsign(x: Array, *, out: Array | None = None) -> Array:
    """y = x/(1 + |x|).

    Source: Glorot & Bengio, Understanding the Difficulty of Training Deep Feedforward Neural
    Networks, 2010.

    Example:
        >>> onepass.ops.softsign(np.float32([-1, 3, np.inf]))
        array([-0.5 ,  0.75,  1.  ], dtype=float32)
    """


softsign_backward = backward_of(softsign, "dx = dy/(1 + |x|)².")


@activation
def abs(x: Array, *, out: Array | None = None) -> Array:
    """y = |x|.

    Source: Jarrett, Kavukcuoglu, Ranzato & LeCun, What is the Best Multi-Stage Architecture for
    Object Recognition?, 2009.

    Example:
        >>> onepass.ops.abs(np.float32([-1, 2]))
        array([1., 2.], dtype=float32)
    """


abs_backward = backward_of(abs, "dx = dy where x > 0, -dy where x < 0, 0 where x = 0.")


@activation
def sin(x: Array, *, out: Array | None = None) -> Array:
    """y = sin(x), x in radians; NaN at ±Inf.

    Right however large x is in float32, float16 and bfloat16. In float64 y is NaN where abs(x) is
    above 2**46, the bound of the exact reduction.

    Source: Sitzmann, Martel, Bergman, Lindell & Wetzstein, Implicit Neural Representations with
    Periodic Activation Functions, 2020.

    Example:
        >>> onepass.ops.sin(np.float32([0, 1]))
        array([0.        , 0.84147096], dtype=float32)
    """


sin_backward = backward_of(sin, "dx = dy·cos(x); NaN where sin(x) is.")
