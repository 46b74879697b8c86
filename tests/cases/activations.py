"""The activations, one record each: see Activation and Form in _activation.py for the fields, and
silu or sigmoid for a model. Nothing else in the tests or the benchmark names an activation.
"""

from __future__ import annotations

import math

import numpy as np
from onepass import nn

from cases._activation import Activation, Form, Torch
from cases._case import EXACT, Tolerance, functional, roundings, torch

INF = math.inf
SCALE, ALPHA = 1.0507009873554804934, 1.6732632423543772848  # of selu
_erfc = np.frompyfunc(math.erfc, 1, 1)


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


def _normal_cdf(x):
    return np.asarray(_erfc(-x / math.sqrt(2)), float) / 2  # 1 + erf(x) would cancel below 0


def _gelu(x, approximate="none"):
    if approximate == "none":
        return x * _normal_cdf(x)
    # (1 + tanh u)/2 = σ(2u)
    return x * _sigmoid(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))


def _gelu_slope(x, approximate="none"):
    if approximate == "none":
        return _normal_cdf(x) + x * np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)
    c = 2 * math.sqrt(2 / math.pi)
    u = c * (x + 0.044715 * x**3)
    s = _sigmoid(u)
    return s + x * s * _sigmoid(-u) * c * (1 + 3 * 0.044715 * x**2)  # 1 - s would cancel


def _mish_slope(x):
    s = np.logaddexp(0, x)  # softplus
    return np.tanh(s) + x * _sigmoid(x) / np.cosh(s) ** 2  # 1 - tanh² would cancel


def _numpy_sigmoid(x, out):
    one = x.dtype.type(1)
    return np.divide(one, np.add(np.exp(np.negative(x, out=out), out=out), one, out=out), out=out)


def _gradient_of_output(name):
    """aten's gradient where it is a function of y: y is there already, as after a forward."""

    def gradient(dy, x, out):
        y = getattr(torch, name)(x)
        into = getattr(torch.ops.aten, f"{name}_backward").grad_input
        return lambda: into(dy, y, grad_input=out)

    return gradient


BELL = "e/(1 + e)² with e = exp(-|x|) to 0.95 ulp, of which at most as much arrives; 1 + e rounded"
BELL += " and squared (1), the square, the quotient and the product with dy (1.5)"

ACTIVATIONS = [
    Activation(
        "identity",
        f=lambda x: x,
        slope=lambda x: np.ones_like(x),
        forms=[Form({}, -INF, INF, 1, 1)],
        kinks=[],
        odd_at_0=True,
        forward=EXACT,
        backward=EXACT,
        module=nn.Identity,
        torch=Torch(
            call=lambda x: x * 1,
            out=lambda x, out: out.copy_(x),
            gradient=lambda dy, x, out: lambda: out.copy_(dy),
        ),
        numpy=lambda x, out: np.copyto(out, x),
    ),
    Activation(
        "relu",
        f=lambda x: np.maximum(x, 0),
        slope=lambda x: np.where(x > 0, 1.0, 0.0),
        forms=[Form({}, 0, INF, 0, 1)],
        kinks=[0.0],
        odd_at_0=False,
        forward=EXACT,
        backward=EXACT,
        module=nn.ReLU,
        torch=Torch(
            call=lambda x: functional.relu(x),
            out=lambda x, out: torch.clamp_min(x, 0, out=out),
            gradient=lambda dy, x, out: lambda: torch.ops.aten.threshold_backward.grad_input(
                dy, x, 0, grad_input=out
            ),
        ),
        numpy=lambda x, out: np.maximum(x, 0, out=out),
    ),
    Activation(
        "leaky_relu",
        f=lambda x, negative_slope=0.01: np.where(x > 0, x, negative_slope * x),
        slope=lambda x, negative_slope=0.01: np.where(x > 0, 1.0, negative_slope),
        forms=[
            Form({}, -INF, INF, 0.01, 1),
            Form({"negative_slope": -0.5}, INF, INF, -0.5, 1),
            Form({"negative_slope": 0.25}, -INF, INF, 0.25, 1),
        ],
        kinks=[0.0],
        odd_at_0=True,
        forward=Tolerance(roundings(2), why="the slope is rounded, then the product"),
        backward=Tolerance(roundings(2), why="the slope is rounded, then the product"),
        module=nn.LeakyReLU,
        torch=Torch(
            call=lambda x, negative_slope=0.01: functional.leaky_relu(x, negative_slope),
            out=lambda x, out, negative_slope=0.01: torch.ops.aten.leaky_relu.out(
                x, negative_slope, out=out
            ),
            gradient=lambda dy, x, out, negative_slope=0.01: lambda: (
                torch.ops.aten.leaky_relu_backward.grad_input(
                    dy, x, negative_slope, False, grad_input=out
                )
            ),
        ),
        numpy=None,
    ),
    Activation(
        "sigmoid",
        f=_sigmoid,
        slope=lambda x: _sigmoid(x) * _sigmoid(-x),
        forms=[Form({}, 0, 1, 0, 0)],
        kinks=[],
        odd_at_0=False,
        forward=Tolerance(roundings(0, 2.41), why="math::sigmoid: 2.41 ulp, stored as it is"),
        backward=Tolerance(roundings(5, 0.95), why=BELL),
        module=nn.Sigmoid,
        torch=Torch(
            call=lambda x: functional.sigmoid(x),
            out=lambda x, out: torch.sigmoid(x, out=out),
            gradient=_gradient_of_output("sigmoid"),
        ),
        numpy=_numpy_sigmoid,
    ),
    Activation(
        "tanh",
        f=np.tanh,
        slope=lambda x: 1 / np.cosh(x) ** 2,
        forms=[Form({}, -1, 1, 0, 0)],
        kinks=[],
        odd_at_0=True,
        forward=Tolerance(roundings(0, 2.60), why="math::tanh: 2.60 ulp, stored as it is"),
        backward=Tolerance(roundings(5, 0.95), why=f"4{BELL}".replace("-|x|", "-2|x|")
                           + "; the float64 formula squares too", sums=2),
        module=nn.Tanh,
        torch=Torch(
            call=lambda x: functional.tanh(x),
            out=lambda x, out: torch.tanh(x, out=out),
            gradient=_gradient_of_output("tanh"),
        ),
        numpy=lambda x, out: np.tanh(x, out=out),
    ),
    Activation(
        "gelu",
        f=_gelu,
        slope=_gelu_slope,
        forms=[
            Form({}, 0, INF, 0, 1),
            Form({"approximate": "tanh"}, 0, INF, 0, 1),
        ],
        kinks=[],
        odd_at_0=True,
        forward=Tolerance(8, 2, why="t·Q(t) of math::mills (6.8 ulp), exp and two products; t² in"
                          " the exponent, rounded, adds t²/4 where t·Q(t) is small beside 1: peak"),
        backward=Tolerance(8, 4, why="the same; Q and t·φ(t) cancel near t = 0.75"),
        module=nn.GELU,
        torch=Torch(
            call=lambda x, approximate="none": functional.gelu(x, approximate=approximate),
            out=lambda x, out, approximate="none": torch.ops.aten.gelu.out(
                x, approximate=approximate, out=out
            ),
            gradient=lambda dy, x, out, approximate="none": lambda: (
                torch.ops.aten.gelu_backward.grad_input(
                    dy, x, approximate=approximate, grad_input=out
                )
            ),
        ),
        numpy=None,
    ),
    Activation(
        "silu",
        f=lambda x: x * _sigmoid(x),
        slope=lambda x: _sigmoid(x) * (1 + x * _sigmoid(-x)),
        forms=[Form({}, 0, INF, 0, 1)],
        kinks=[],
        odd_at_0=True,
        forward=Tolerance(roundings(3, 0.95), why="exp to 0.95 ulp, 1 + e, a product, a quotient"),
        backward=Tolerance(8, 2, why="σ·(1 + x·(1 - σ)) cancels beside its zero, x = -1.28"),
        module=nn.SiLU,
        torch=Torch(
            call=lambda x: functional.silu(x),
            out=lambda x, out: torch.ops.aten.silu.out(x, out=out),
            gradient=lambda dy, x, out: lambda: torch.ops.aten.silu_backward.grad_input(
                dy, x, grad_input=out
            ),
        ),
        numpy=None,
    ),
    Activation(
        "selu",
        f=lambda x: SCALE * np.where(x > 0, x, ALPHA * np.expm1(np.minimum(x, 0))),
        slope=lambda x: SCALE * np.where(x > 0, 1.0, ALPHA * np.exp(np.minimum(x, 0))),
        forms=[Form({}, -SCALE * ALPHA, INF, 0, SCALE)],
        kinks=[0.0],
        odd_at_0=True,
        forward=Tolerance(roundings(2, 1.40), why="math::expm1: 1.40 ulp, scale·alpha rounded, the"
                          " product; in float64 the formula rounds two constants and two products"
                          " (2 eps) and np.expm1 (1 ulp), less than 1.5 times that", sums=2.5),
        backward=Tolerance(roundings(3, 0.95), why="exp: 0.95 ulp, scale·alpha rounded, the product"
                           " and that with dy; in float64 the formula rounds 2.5 eps and np.exp"
                           " (1 ulp), less than 1.5 times that", sums=2.5),
        module=nn.SELU,
        torch=Torch(
            call=lambda x: functional.selu(x),
            out=None,
            gradient=None,
        ),
        numpy=None,
    ),
    Activation(
        "mish",
        f=lambda x: x * np.tanh(np.logaddexp(0, x)),
        slope=_mish_slope,
        forms=[Form({}, 0, INF, 0, 1)],
        kinks=[],
        odd_at_0=True,
        forward=Tolerance(roundings(6, 0.95), why="exp to 0.95 ulp, of which at most as much"
                          " arrives; below zero t·e, 1 + e/2, their product, 1 + h and its product"
                          " in float64, the quotient; above no more; in float64 the formula rounds"
                          " three functions (1 ulp) and a product, less than that", sums=2),
        backward=Tolerance(roundings(13, 0.95), 2, why="above zero 1 + 2e, q and q² (5), p·q, the"
                           " term of t (4, of which half arrives), the sum, the quotient, that with"
                           " dy; below zero two terms of at most 0.3 cancel beside the zero,"
                           " x = -1.19", sums=2),
        module=nn.Mish,
        torch=Torch(
            call=lambda x: functional.mish(x),
            out=lambda x, out: torch.ops.aten.mish.out(x, out=out),
            gradient=None,
        ),
        numpy=None,
    ),
]  # fmt: skip

BY_NAME = {record.name: record for record in ACTIVATIONS}
FORMS = [(record, form) for record in ACTIVATIONS for form in record.forms]


def formula(activation):
    """An argument `activation` (None, a name, or a pair of name and options) as (record, options).
    None is the identity."""
    name, options = activation if isinstance(activation, tuple) else (activation or "identity", {})
    return BY_NAME[name], options
