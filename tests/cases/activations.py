"""The activations, one record each: see Activation and Form in _activation.py for the fields, and
silu or sigmoid for a model. Nothing else in the tests or the benchmark names an activation.
"""

from __future__ import annotations

import math

import numpy as np
from onepass import nn

from ._activation import Activation, Form, Torch
from ._case import EXACT, Tolerance, epsilon, functional, roundings, torch

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


def _celu_slope(x, alpha=1.0):
    q = np.minimum(x, 0).astype(np.longdouble) / alpha  # exp magnifies what float64 rounds here
    return np.asarray(np.exp(q), float)


def _softplus(x, beta=1.0, threshold=20.0):
    y = np.logaddexp(0, np.asarray(x, np.longdouble) * beta) / beta
    return np.where(beta * x > threshold, x, np.asarray(y, float))


def _softplus_slope(x, beta=1.0, threshold=20.0):
    slope = _sigmoid(np.asarray(x, np.longdouble) * beta)
    return np.where(beta * x > threshold, 1.0, np.asarray(slope, float))


def _hardswish_slope(x):
    between = (2 * x + 3) / 6  # x/3 + 1/2 would cancel
    return np.where(x <= -3, 0.0, np.where(x >= 3, 1.0, between))


def _in_range(f):
    """sin and cos as the kernel has them in float64: NaN beyond 2**46."""
    return lambda x: np.where((np.abs(x) > 2**46) & (epsilon(x) < 1e-10), math.nan, f(x))


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


LOGISTIC = "math::logistic_slope: 2.10 ulp, the product with dy"

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
        forward=Tolerance(roundings(0, 2.10), why="math::sigmoid: 2.10 ulp, stored as it is"),
        backward=Tolerance(roundings(1, 2.10), why=f"{LOGISTIC}; the float64 formula rounds two"
                           " logistic functions (1.5 each) and two products, less than that",
                           sums=2),
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
        forward=Tolerance(roundings(0, 2.10), why="math::tanh: 2.10 ulp, stored as it is"),
        backward=Tolerance(roundings(1, 2.10), why=f"{LOGISTIC}; the float64 formula squares"
                           " np.cosh (2.5)", sums=2.2),
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
        forward=Tolerance(8, 2, why="float64: t·Q(t) of math::mills (6.8 ulp), exp, two products;"
                          " t² in the exponent, rounded, adds t²/4 where t·Q(t) is small beside 1:"
                          " peak."
                          " float32: docs/numerics.md, held by test_activation_edges.py"),
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
        forward=Tolerance(roundings(4), why="expm1(r), the sums with 2^-k and with 1, the quotient;"
                          " above zero that is at most x/2, and the difference"),
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
        forward=Tolerance(roundings(0, 2.0), why="math::scaled_expm1 with scale·alpha rounded: 2.0"
                          " ulp; in float64 the formula rounds two constants and two products (2"
                          " eps) and np.expm1 (1 ulp), 1.5 times that", sums=2.5),
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
        forward=Tolerance(roundings(7), why="below zero b - 1 (2, of which half arrives), b + 1,"
                          " its product in float64, u, the product with b, the quotient; above zero"
                          " that is at most 0.4 x, and the difference; in float64 the formula has"
                          " three functions (1 ulp) and a product, less than that", sums=2),
        backward=Tolerance(roundings(14), 2, why="b (2), p, p·(b + h) and t·p (4), u (1, and what b"
                           " brings), b·u, the difference, u², two products, the quotient, that"
                           " with dy; below zero two terms of at most 0.3 cancel beside the zero,"
                           " x = -1.19", sums=2),
        module=nn.Mish,
        torch=Torch(
            call=lambda x: functional.mish(x),
            out=lambda x, out: torch.ops.aten.mish.out(x, out=out),
            gradient=None,
        ),
        numpy=None,
    ),
    Activation(
        "elu",
        f=lambda x, alpha=1.0: np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0))),
        slope=lambda x, alpha=1.0: np.where(x > 0, 1.0, alpha * np.exp(np.minimum(x, 0))),
        forms=[
            Form({}, -1, INF, 0, 1),
            Form({"alpha": -0.75}, 0.75, INF, 0, 1),
        ],
        kinks=[0.0],
        odd_at_0=True,
        forward=Tolerance(roundings(1, 1.90), why="math::scaled_expm1: 1.90 ulp, alpha rounded; in"
                          " float64 the formula rounds a product and np.expm1 (1 ulp), less than"
                          " that", sums=2),
        backward=Tolerance(roundings(3, 0.95), why="exp: 0.95 ulp, alpha rounded, the product and"
                           " that with dy; in float64 the formula rounds no more", sums=2),
        module=nn.ELU,
        torch=Torch(
            call=lambda x, alpha=1.0: functional.elu(x, alpha),
            out=lambda x, out, alpha=1.0: torch.ops.aten.elu.out(x, alpha, 1, 1, out=out),
            gradient=lambda dy, x, out, alpha=1.0: lambda: (
                torch.ops.aten.elu_backward.grad_input(
                    dy, alpha, 1, 1, False, x, grad_input=out
                )
            ),
        ),
        numpy=None,
    ),
    Activation(
        "celu",
        f=lambda x, alpha=1.0: np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0) / alpha)),
        slope=_celu_slope,
        forms=[
            Form({}, -1, INF, 0, 1),
            Form({"alpha": 3.0}, -3, INF, 0, 1),
        ],
        kinks=[0.0],
        odd_at_0=True,
        forward=Tolerance(roundings(2, 1.90), why="the quotient, of which at most as much arrives,"
                          " math::scaled_expm1: 1.90 ulp, alpha rounded; in float64 the formula"
                          " rounds two products and np.expm1 (1 ulp), less than that", sums=2),
        backward=Tolerance(roundings(3, 0.95), why="exp: 0.95 ulp, e - e·lost and the product with"
                           " dy; in float64 the formula rounds twice", sums=2),
        module=nn.CELU,
        torch=Torch(
            call=lambda x, alpha=1.0: functional.celu(x, alpha),
            out=None,
            gradient=None,
        ),
        numpy=None,
    ),
    Activation(
        "softplus",
        f=_softplus,
        slope=_softplus_slope,
        forms=[
            Form({}, 0, INF, 0, 1),
            Form({"beta": 3.0, "threshold": 5.0}, 0, INF, 0, 1),
            Form({"beta": -0.75}, -INF, 0, 1, 0),
        ],
        kinks=[5 / 3],
        odd_at_0=False,
        forward=Tolerance(roundings(4, 0.95, 1.69), why="exp to 0.95 ulp of r + lost (1),"
                          " math::log1p: 1.69 ulp, of its argument's error at most as much arrives,"
                          " beta rounded, the quotient, the sum; float64: one rounding", sums=1.2),
        backward=Tolerance(roundings(6), why="r + lost, expm1 of it, the sums with 2^-k and with 1,"
                           " the quotient, the product with dy; float64: two roundings", sums=1.5),
        module=nn.Softplus,
        torch=Torch(
            call=lambda x, beta=1.0, threshold=20.0: functional.softplus(x, beta, threshold),
            out=lambda x, out, beta=1.0, threshold=20.0: torch.ops.aten.softplus.out(
                x, beta, threshold, out=out
            ),
            gradient=lambda dy, x, out, beta=1.0, threshold=20.0: lambda: (
                torch.ops.aten.softplus_backward.grad_input(
                    dy, x, beta, threshold, grad_input=out
                )
            ),
        ),
        numpy=None,
    ),
    Activation(
        "relu6",
        f=lambda x: np.clip(x, 0, 6),
        slope=lambda x: np.where((x > 0) & (x < 6), 1.0, 0.0),
        forms=[Form({}, 0, 6, 0, 0)],
        kinks=[0.0, 6.0],
        odd_at_0=False,
        forward=EXACT,
        backward=EXACT,
        module=nn.ReLU6,
        torch=Torch(
            call=lambda x: functional.relu6(x),
            out=lambda x, out: torch.ops.aten.hardtanh.out(x, 0, 6, out=out),
            gradient=lambda dy, x, out: lambda: torch.ops.aten.hardtanh_backward.grad_input(
                dy, x, 0, 6, grad_input=out
            ),
        ),
        numpy=lambda x, out: np.clip(x, 0, 6, out=out),
    ),
    Activation(
        "hardtanh",
        f=lambda x, min_val=-1.0, max_val=1.0: np.clip(x, min_val, max_val),
        slope=lambda x, min_val=-1.0, max_val=1.0: np.where(
            (x > min_val) & (x < max_val), 1.0, 0.0
        ),
        forms=[
            Form({}, -1, 1, 0, 0),
            Form({"min_val": -0.5, "max_val": 2.0}, -0.5, 2, 0, 0),
        ],
        kinks=[-1.0, 1.0, -0.5, 2.0],
        odd_at_0=True,
        forward=EXACT,
        backward=EXACT,
        module=nn.Hardtanh,
        torch=Torch(
            call=lambda x, min_val=-1.0, max_val=1.0: functional.hardtanh(x, min_val, max_val),
            out=lambda x, out, min_val=-1.0, max_val=1.0: torch.ops.aten.hardtanh.out(
                x, min_val, max_val, out=out
            ),
            gradient=lambda dy, x, out, min_val=-1.0, max_val=1.0: lambda: (
                torch.ops.aten.hardtanh_backward.grad_input(
                    dy, x, min_val, max_val, grad_input=out
                )
            ),
        ),
        numpy=None,
    ),
    Activation(
        "hardsigmoid",
        f=lambda x: np.clip(x + 3, 0, 6) / 6,
        slope=lambda x: np.where((x > -3) & (x < 3), 1 / 6, 0.0),
        forms=[Form({}, 0, 1, 0, 0)],
        kinks=[-3.0, 3.0],
        odd_at_0=False,
        forward=Tolerance(roundings(2), why="the sum and the quotient; so in float64", sums=2),
        backward=Tolerance(roundings(1), why="the quotient; float64: 1/6 and a product", sums=3),
        module=nn.Hardsigmoid,
        torch=Torch(
            call=lambda x: torch.clamp(x + 3, 0, 6) / 6,  # its own has a 1/6 of float32 in float64
            out=lambda x, out: torch.ops.aten.hardsigmoid.out(x, out=out),
            gradient=lambda dy, x, out: lambda: torch.ops.aten.hardsigmoid_backward.grad_input(
                dy, x, grad_input=out
            ),
        ),
        numpy=None,
    ),
    Activation(
        "hardswish",
        f=lambda x: x * np.clip(x + 3, 0, 6) / 6,
        slope=_hardswish_slope,
        forms=[Form({}, 0, INF, 0, 1)],
        kinks=[-3.0, 3.0],
        odd_at_0=True,
        forward=Tolerance(roundings(3), why="the sum, the quotient and the product; so in float64",
                          sums=2),
        backward=Tolerance(roundings(3), why="the sum, the quotient and the product with dy; so in"
                           " float64", sums=2),
        module=nn.Hardswish,
        torch=Torch(
            call=lambda x: functional.hardswish(x),
            out=lambda x, out: torch.ops.aten.hardswish.out(x, out=out),
            gradient=None,
        ),
        numpy=None,
    ),
    Activation(
        "softsign",
        f=lambda x: x / (1 + np.abs(x)),
        slope=lambda x: 1 / (1 + np.abs(x)) ** 2,
        forms=[Form({}, -1, 1, 0, 0)],
        kinks=[],
        odd_at_0=True,
        forward=Tolerance(roundings(2), why="the sum and the quotient; so in float64", sums=2),
        backward=Tolerance(roundings(3), why="the square, the quotient and the product with dy; the"
                           " float64 formula rounds the sum, twice, the square, the quotient and"
                           " the product (2.5)", sums=2.7),
        module=nn.Softsign,
        torch=Torch(
            call=lambda x: functional.softsign(x),
            out=None,
            gradient=None,
        ),
        numpy=None,
    ),
    Activation(
        "abs",
        f=np.abs,
        slope=np.sign,
        forms=[Form({}, INF, INF, -1, 1)],
        kinks=[0.0],
        odd_at_0=False,
        forward=EXACT,
        backward=EXACT,
        module=nn.Abs,
        torch=Torch(
            call=lambda x: torch.abs(x),
            out=lambda x, out: torch.abs(x, out=out),
            gradient=None,
        ),
        numpy=lambda x, out: np.abs(x, out=out),
    ),
    Activation(
        "sin",
        f=_in_range(np.sin),
        slope=_in_range(np.cos),
        forms=[Form({}, math.nan, math.nan, math.nan, math.nan)],
        kinks=[],
        odd_at_0=True,
        forward=Tolerance(roundings(0, 0.79), why="math::sin: 0.79 ulp, stored as it is; NumPy's"
                          " has no more", sums=2),
        backward=Tolerance(roundings(1, 0.79), why="math::cos: 0.79 ulp, the product with dy; NumPy"
                           " has no more", sums=2),
        module=nn.Sin,
        torch=Torch(
            call=lambda x: torch.sin(x),
            out=lambda x, out: torch.sin(x, out=out),
            gradient=None,
        ),
        numpy=lambda x, out: np.sin(x, out=out),
    ),
]  # fmt: skip

BY_NAME = {record.name: record for record in ACTIVATIONS}
FORMS = [(record, form) for record in ACTIVATIONS for form in record.forms]


def formula(activation):
    """An argument `activation` (None, a name, or a pair of name and options) as (record, options).
    None is the identity."""
    name, options = activation if isinstance(activation, tuple) else (activation or "identity", {})
    return BY_NAME[name], options
