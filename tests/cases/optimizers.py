"""The optimizers, one record each: see Optimizer and State in _optimizer.py for the fields, and
RMSprop for a model with optional states. No test, and not the benchmark, lists all of them again.
"""

from __future__ import annotations

import numpy as np
from onepass import optim

from ._optimizer import (
    Factor,
    Optimizer,
    Scalar,
    State,
    below_square,
    fraction,
    number,
    rows_of,
    signed,
    square,
)
from ._rounding import Constant, where

# ------------------------------------------------------------------------------------ the formulas
# One parameter, one step; each returns what it was given, updated. step is 1 on the first call.


def lerp(average, value, weight):
    """(1 - weight)·average + weight·value."""
    return average + weight * (value - average)


def fixes(betas, step, bias_correction):
    """1 - βᵗ of the first two."""
    return [1 - beta**step if bias_correction else 1.0 for beta in betas[:2]]


def sgd(p, g, b, *, step, lr=1e-3, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False,
        maximize=False):  # fmt: skip
    g = (-g if maximize else g) + weight_decay * p
    if b is None:
        return p - lr * g, None
    b = g if step == 1 else momentum * b + (1 - dampening) * g
    return p - lr * (g + momentum * b if nesterov else b), b


def adam(p, g, m, v, v_max, *, step, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0,
         maximize=False, decoupled=False, bias_correction=True):  # fmt: skip
    g = -g if maximize else g
    if decoupled:
        p = p * (1 - lr * weight_decay)
    else:
        g = g + weight_decay * p
    m = lerp(m, g, 1 - betas[0])
    v = betas[1] * v + (1 - betas[1]) * g**2
    largest = v
    if v_max is not None:
        v_max = largest = np.maximum(v_max, v)
    fix1, fix2 = fixes(betas, step, bias_correction)
    return p - lr / fix1 * m / (np.sqrt(largest) / np.sqrt(fix2) + eps), m, v, v_max


def adamw(*arrays, weight_decay=1e-2, **options):
    return adam(*arrays, weight_decay=weight_decay, decoupled=True, **options)


def rmsprop(p, g, v, b, a, *, step, lr=1e-2, alpha=0.99, eps=1e-8, weight_decay=0.0, momentum=0.0,
            maximize=False):  # fmt: skip
    g = (-g if maximize else g) + weight_decay * p
    v = alpha * v + (1 - alpha) * g**2
    variance = v
    if a is not None:
        a = lerp(a, g, 1 - alpha)
        variance = v - a**2
    d = g / (np.sqrt(variance) + eps)
    if b is None:
        return p - lr * d, v, None, a
    b = momentum * b + d
    return p - lr * b, v, b, a


def nadam(p, g, m, v, product, *, step, lr=2e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0,
          momentum_decay=4e-3, decoupled_weight_decay=False, bias_correction=True,
          maximize=False):  # fmt: skip
    g = -g if maximize else g
    if decoupled_weight_decay:
        p = p * (1 - lr * weight_decay)
    else:
        g = g + weight_decay * p
    mu, ahead = (betas[0] * (1 - 0.5 * 0.96 ** (t * momentum_decay)) for t in (step, step + 1))
    product = product * mu
    m = lerp(m, g, 1 - betas[0])
    v = betas[1] * v + (1 - betas[1]) * g**2
    denominator = np.sqrt(v / fixes(betas, step, bias_correction)[1]) + eps
    if bias_correction:
        look = (1 - mu) / (1 - product) * g + ahead / (1 - product * ahead) * m
    else:
        look = (1 - mu) * g + ahead * m
    return p - lr * look / denominator, m, v, product


def lion(p, g, m, *, step, lr=1e-4, betas=(0.9, 0.99), weight_decay=0.0, maximize=False):
    g = -g if maximize else g
    ahead = betas[0] * m + (1 - betas[0]) * g
    return p * (1 - lr * weight_decay) - lr * np.sign(ahead), betas[1] * m + (1 - betas[1]) * g


def norm(x):
    return np.sqrt((x * x).total())


def lars(p, g, b, *, step, lr=1e-1, momentum=0.9, weight_decay=0.0, trust_coefficient=1e-3,
         eps=1e-8, nesterov=False, maximize=False):  # fmt: skip
    g = -g if maximize else g
    of_p, of_g = norm(p), norm(g)
    ratio = 1.0
    if number(of_p) != 0 and number(of_g) != 0:
        ratio = trust_coefficient * of_p / (of_g + weight_decay * of_p + eps)
    d = ratio * (g + weight_decay * p)
    if b is None:
        return p - lr * d, None
    b = momentum * b + d
    return p - lr * (d + momentum * b if nesterov else b), b


def lamb(p, g, m, v, *, step, lr=1e-3, betas=(0.9, 0.999), eps=1e-6, weight_decay=0.01,
         maximize=False):  # fmt: skip
    g = -g if maximize else g
    m = lerp(m, g, 1 - betas[0])
    v = betas[1] * v + (1 - betas[1]) * g**2
    root = np.sqrt(v) / np.sqrt(1 - betas[1] ** step)
    u = m / (1 - betas[0] ** step) / (root + eps) + weight_decay * p
    of_p, of_u = norm(p), norm(u)
    ratio = of_p / of_u if number(of_p) != 0 and number(of_u) != 0 else 1.0
    return p - lr * ratio * u, m, v


def adagrad(p, g, s, *, step, lr=1e-2, lr_decay=0.0, weight_decay=0.0, eps=1e-10,
            maximize=False):  # fmt: skip
    g = (-g if maximize else g) + weight_decay * p
    s = s + g**2
    return p - lr / (1 + (step - 1) * lr_decay) * (g / (np.sqrt(s) + eps)), s


def adadelta(p, g, v, u, *, step, lr=1.0, rho=0.9, eps=1e-6, weight_decay=0.0, maximize=False):
    g = (-g if maximize else g) + weight_decay * p
    v = rho * v + (1 - rho) * g**2
    d = np.sqrt(u + eps) / np.sqrt(v + eps) * g
    return p - lr * d, v, rho * u + (1 - rho) * d**2


def adamax(p, g, m, u, *, step, lr=2e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0,
           bias_correction=True, maximize=False):  # fmt: skip
    g = (-g if maximize else g) + weight_decay * p
    m = lerp(m, g, 1 - betas[0])
    u = np.maximum(betas[1] * u, np.abs(g) + eps)
    return p - lr / fixes(betas, step, bias_correction)[0] * (m / u), m, u


def radam(p, g, m, v, *, step, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0,
          decoupled_weight_decay=False, bias_correction=True, maximize=False):  # fmt: skip
    g = -g if maximize else g
    if decoupled_weight_decay:
        p = p * (1 - lr * weight_decay)
    else:
        g = g + weight_decay * p
    m = lerp(m, g, 1 - betas[0])
    v = betas[1] * v + (1 - betas[1]) * g**2
    fix1, fix2 = fixes(betas, step, bias_correction)
    size = lr / fix1
    full = 2 / (1 - betas[1]) - 1
    rho = full - 2 * step * betas[1] ** step / (1 - betas[1] ** step)
    if number(rho) <= 5:
        return p - size * m, m, v
    r = np.sqrt((rho - 4) * (rho - 2) * full / ((full - 4) * (full - 2) * rho))
    return p - size * r * np.sqrt(fix2) * (m / (np.sqrt(v) + eps)), m, v


def adopt(p, g, m, v, *, step, lr=1e-3, betas=(0.9, 0.9999), eps=1e-6, weight_decay=0.0,
          decoupled_weight_decay=False, maximize=False):  # fmt: skip
    g = -g if maximize else g
    if not decoupled_weight_decay:
        g = g + weight_decay * p
    if step == 1:
        return p, m, v + g**2
    if decoupled_weight_decay:
        p = p * (1 - lr * weight_decay)
    n = g / np.maximum(np.sqrt(v), eps)
    most = float(step - 1) ** 0.25
    n = np.maximum(np.minimum(n, most), -most)
    m = lerp(m, n, 1 - betas[0])
    return p - lr * m, m, betas[1] * v + (1 - betas[1]) * g**2


def asgd(p, g, ax, eta, mu, *, step, lr=1e-2, lambd=1e-4, alpha=0.75, t0=1e6, weight_decay=0.0,
         maximize=False):  # fmt: skip
    g = (-g if maximize else g) + weight_decay * p
    if step == 1:
        eta, mu = lr, 1.0
    p = p * (1 - lambd * eta) - eta * g
    ax = p if number(mu) == 1 else lerp(ax, p, mu)
    return p, ax, lr / power(1 + lambd * lr * step, alpha), 1 / np.maximum(1.0, step - t0)


def power(x, y):
    return np.exp(y * np.log(x))


def rprop(p, g, prev, size, *, step, etas=(0.5, 1.2), step_sizes=(1e-6, 50.0), maximize=False):
    g = -g if maximize else g
    turn = np.sign(g * prev).value
    factor = where(turn > 0, etas[1], where(turn < 0, etas[0], 1.0))
    size = np.minimum(np.maximum(size * factor, step_sizes[0]), step_sizes[1])
    g = where(turn < 0, 0.0, g)
    return p - np.sign(g) * size, g, size


def ademamix(p, g, m1, m2, v, *, step, lr=1e-3, betas=(0.9, 0.999, 0.9999), alpha=5.0, eps=1e-8,
             weight_decay=0.0, total_steps=None, maximize=False):  # fmt: skip
    g = -g if maximize else g
    beta1, beta2, beta3 = betas
    if total_steps is not None and step < total_steps:
        s = Constant(step) / total_steps
        alpha = s * alpha
        beta3 = np.exp(1 / ((1 - s) / np.log(beta1) + s / np.log(beta3)))
    m1 = lerp(m1, g, 1 - beta1)
    m2 = lerp(m2, g, 1 - beta3)
    v = beta2 * v + (1 - beta2) * g**2
    denominator = np.sqrt(v / (1 - beta2**step)) + eps
    to = p * (1 - lr * weight_decay) - lr * (m1 / (1 - beta1**step) + alpha * m2) / denominator
    return to, m1, m2, v


def mean_squares(g, axis):
    return (g * g).total(axis) / g.value.shape[axis]


def adafactor(p, g, row, col, v, *, step, lr=1e-2, beta2_decay=-0.8, eps=(2.0**-52, 1e-3), d=1.0,
              weight_decay=0.0, maximize=False):  # fmt: skip
    if p.value.size == 0:
        return p, row, col, v
    g = -g if maximize else g
    gain = power(Constant(step), beta2_decay)
    root = np.sqrt(Constant(p.value.size))
    alpha = np.maximum(norm(p) / root, eps[1]) * np.minimum(lr, 1 / np.sqrt(Constant(step)))
    if v is not None:
        v = estimate = (1 - gain) * v + gain * (g * g)
    else:
        row = (1 - gain) * row + gain * mean_squares(g, -1)
        col = (1 - gain) * col + gain * mean_squares(g, -2)
        level = np.maximum(row.total(-2) / row.value.shape[-2], eps[0])
        estimate = row / level * col
    u = g / np.maximum(np.sqrt(estimate), eps[0])
    size = alpha / np.maximum(norm(u) / root / d, 1.0)
    return p * (1 - lr * weight_decay) - size * u, row, col, v


def schedulefree(y, z, u, weight_sum, lr_max, *, step, lr, beta, warmup_steps, r, weight_lr_power):
    if step < warmup_steps:
        lr = lr * (Constant(step) / warmup_steps)
    z = y if step == 1 else z
    lr_max = np.maximum(lr_max, lr)
    weight = power(Constant(step), r) * power(lr_max, weight_lr_power)
    weight_sum = weight_sum + weight
    c = weight / weight_sum
    return lerp(y, z, c) + lr * (beta * (1 - c) - 1) * u, z - lr * u, weight_sum, lr_max


def schedulefreesgd(y, g, z, *sums, momentum=0.9, weight_decay=0.0, maximize=False, **options):
    u = (-g if maximize else g) + weight_decay * y
    return schedulefree(y, z, u, *sums, beta=momentum, **options)


def schedulefreeadamw(y, g, z, v, *sums, step, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0,
                      maximize=False, **options):  # fmt: skip
    g = -g if maximize else g
    v = betas[1] * v + (1 - betas[1]) * g**2
    u = g / (np.sqrt(v / (1 - betas[1] ** step)) + eps) + weight_decay * y
    y, z, *sums = schedulefree(y, z, u, *sums, step=step, beta=betas[0], **options)
    return y, z, v, *sums


# ------------------------------------------------------------------------------------- the records


def coupled(step, **options):
    return 1.0


def decoupled(step, *, lr, weight_decay, **options):
    return 1.0 - lr * weight_decay


def by_option(step, *, decoupled_weight_decay=False, **options):
    return decoupled(step, **options) if decoupled_weight_decay else 1.0


def after_the_first(step, **options):
    return by_option(step, **options) if step > 1 else 1.0


def _adam(name, cls, rule, keep):
    return Optimizer(
        name,
        cls=cls,
        rule=rule,
        keep=keep,
        states=[
            State("exp_avg", when=None, start=0.0, draw=signed),
            State("exp_avg_sq", when=None, start=0.0, draw=square),
            State("max_exp_avg_sq", when="amsgrad", start=0.0, draw=square),
        ],
        sweep=[
            {},
            {"lr": 0.05, "weight_decay": 0.1, "bias_correction": False},
            {"lr": 0.1, "betas": (0.8, 0.9), "weight_decay": 0.1},
            {"lr": 0.05, "eps": 1e-2, "maximize": True},
            {"lr": 0.1, "betas": (0.9, 0.95), "amsgrad": True},
            {"lr": 0.01, "betas": (0.0, 0.5), "amsgrad": True, "weight_decay": 0.0},
        ],
        torch=cls.__name__,
    )


OPTIMIZERS = [
    Optimizer(
        "sgd",
        cls=optim.SGD,
        rule=sgd,
        keep=by_option,
        states=[State("momentum_buffer", when="momentum", start=None, draw=signed)],
        sweep=[
            {},
            {"lr": 0.1},
            {"lr": 0.1, "weight_decay": 0.1, "maximize": True},
            {"lr": 0.05, "momentum": 0.9, "dampening": 0.5, "weight_decay": 0.01},
            {"lr": 0.02, "momentum": 0.8, "nesterov": True},
            {"lr": 0.05, "momentum": 0.9},
        ],
        torch="SGD",
    ),
    _adam("adam", optim.Adam, adam, by_option),
    _adam("adamw", optim.AdamW, adamw, decoupled),
    Optimizer(
        "rmsprop",
        cls=optim.RMSprop,
        rule=rmsprop,
        keep=by_option,
        states=[
            State("square_avg", when=None, start=0.0, draw=square),
            State("momentum_buffer", when="momentum", start=0.0, draw=signed),
            State("grad_avg", when="centered", start=0.0, draw=below_square),
        ],
        sweep=[
            {},
            {"lr": 0.05, "alpha": 0.9, "weight_decay": 0.1, "maximize": True},
            {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.01},
            {"lr": 0.01, "alpha": 0.9, "eps": 1e-2, "momentum": 0.5, "maximize": True},
            {"lr": 0.05, "centered": True, "weight_decay": 0.1},
            {"lr": 0.02, "alpha": 0.9, "eps": 1e-3, "centered": True},
            {"lr": 0.01, "momentum": 0.9, "centered": True, "weight_decay": 0.01},
            {"lr": 0.02, "alpha": 0.8, "eps": 1e-3, "momentum": 0.5, "centered": True},
        ],
        torch="RMSprop",
    ),
    Optimizer(
        "nadam",
        cls=optim.NAdam,
        rule=nadam,
        keep=by_option,
        states=[
            State("exp_avg", when=None, start=0.0, draw=signed),
            State("exp_avg_sq", when=None, start=0.0, draw=square),
            Scalar("mu_product", when=None, start=1.0, draw=fraction),
        ],
        sweep=[
            {},
            {"lr": 0.05, "momentum_decay": 0.5, "bias_correction": False},
            {"lr": 0.1, "betas": (0.8, 0.9), "weight_decay": 0.1},
            {"lr": 0.05, "eps": 1e-2, "momentum_decay": 0.5, "maximize": True},
            {"lr": 0.05, "weight_decay": 0.1, "decoupled_weight_decay": True},
        ],
        torch="NAdam",
    ),
    Optimizer(
        "lion",
        cls=optim.Lion,
        rule=lion,
        keep=decoupled,
        states=[State("exp_avg", when=None, start=0.0, draw=signed)],
        sweep=[{}, {"lr": 0.05, "betas": (0.8, 0.9), "weight_decay": 0.1, "maximize": True}],
        torch=None,
    ),
    Optimizer(
        "lars",
        cls=optim.LARS,
        rule=lars,
        keep=coupled,
        states=[State("momentum_buffer", when="momentum", start=0.0, draw=signed)],
        sweep=[
            {"momentum": 0.0},
            {"momentum": 0.0, "lr": 1.0, "weight_decay": 0.1, "eps": 0.1, "maximize": True},
            {},
            {"lr": 1.0, "weight_decay": 0.1, "trust_coefficient": 0.1, "nesterov": True},
            {"lr": 0.5, "momentum": 0.9, "trust_coefficient": 0.02, "maximize": True},
        ],
        torch=None,
    ),
    Optimizer(
        "lamb",
        cls=optim.LAMB,
        rule=lamb,
        keep=coupled,
        states=[
            State("exp_avg", when=None, start=0.0, draw=signed),
            State("exp_avg_sq", when=None, start=0.0, draw=square),
        ],
        sweep=[
            {},
            {"lr": 0.1, "betas": (0.8, 0.9), "weight_decay": 0.1, "maximize": True},
            {"lr": 0.05, "eps": 1e-2, "weight_decay": 0.0},
        ],
        torch=None,
    ),
    Optimizer(
        "adafactor",
        cls=optim.Adafactor,
        rule=adafactor,
        keep=decoupled,
        states=[
            Factor("row_var", when=None, start=0.0, draw=square),
            Factor("col_var", when=None, start=0.0, draw=square),
            Factor("variance", when=None, start=0.0, draw=square),
        ],
        sweep=[
            {},
            {"lr": 0.5, "beta2_decay": -0.5, "eps": (0.3, 0.1), "weight_decay": 0.1},
            {"lr": 0.05, "beta2_decay": 0.0, "eps": (1e-15, 2.0), "d": 1.5, "maximize": True},
        ],
        torch="Adafactor",
    ),
    Optimizer(
        "adagrad",
        cls=optim.Adagrad,
        rule=adagrad,
        keep=by_option,
        states=[State("sum", when=None, start="initial_accumulator_value", draw=square)],
        sweep=[
            {},
            {"lr": 0.1, "lr_decay": 0.1, "weight_decay": 0.1, "maximize": True},
            {"lr": 0.1, "eps": 1e-2, "initial_accumulator_value": 0.5},
        ],
        torch="Adagrad",
    ),
    Optimizer(
        "adadelta",
        cls=optim.Adadelta,
        rule=adadelta,
        keep=by_option,
        states=[
            State("square_avg", when=None, start=0.0, draw=square),
            State("acc_delta", when=None, start=0.0, draw=square),
        ],
        sweep=[{}, {"lr": 0.5, "rho": 0.8, "eps": 1e-3, "weight_decay": 0.1, "maximize": True}],
        torch="Adadelta",
    ),
    Optimizer(
        "adamax",
        cls=optim.Adamax,
        rule=adamax,
        keep=by_option,
        states=[
            State("exp_avg", when=None, start=0.0, draw=signed),
            State("exp_inf", when=None, start=0.0, draw=square),
        ],
        sweep=[
            {},
            {"lr": 0.05, "bias_correction": False},
            {"lr": 0.1, "betas": (0.8, 0.9), "eps": 1e-2, "weight_decay": 0.1, "maximize": True},
        ],
        torch="Adamax",
    ),
    Optimizer(
        "radam",
        cls=optim.RAdam,
        rule=radam,
        keep=by_option,
        states=[
            State("exp_avg", when=None, start=0.0, draw=signed),
            State("exp_avg_sq", when=None, start=0.0, draw=square),
        ],
        sweep=[
            {},
            {"lr": 0.05, "betas": (0.9, 0.95), "bias_correction": False},
            {"lr": 0.1, "betas": (0.8, 0.9), "weight_decay": 0.1, "maximize": True},
            {"lr": 0.05, "eps": 1e-2, "weight_decay": 0.1, "decoupled_weight_decay": True},
        ],
        torch="RAdam",
    ),
    Optimizer(
        "adopt",
        cls=optim.ADOPT,
        rule=adopt,
        keep=after_the_first,
        states=[
            State("exp_avg", when=None, start=0.0, draw=signed),
            State("exp_avg_sq", when=None, start=0.0, draw=square),
        ],
        sweep=[
            {},
            {"lr": 0.1, "betas": (0.8, 0.9), "weight_decay": 0.1, "maximize": True},
            {"lr": 0.05, "eps": 0.5, "weight_decay": 0.1, "decoupled_weight_decay": True},
            {"lr": 0.05, "eps": 0.0, "weight_decay": 0.1, "decoupled_weight_decay": True},
        ],
        torch=None,
    ),
    Optimizer(
        "asgd",
        cls=optim.ASGD,
        rule=asgd,
        keep=coupled,
        states=[
            State("ax", when=None, start=None, draw=signed),
            Scalar("eta", when=None, start=None, draw=fraction),
            Scalar("mu", when=None, start=None, draw=fraction),
        ],
        sweep=[
            {},
            {"lr": 0.1, "lambd": 0.1, "alpha": 0.5, "t0": 3.0, "maximize": True},
            {"lr": 0.05, "lambd": 0.5, "alpha": 1.75, "t0": 0.0, "weight_decay": 0.1},
        ],
        torch="ASGD",
    ),
    Optimizer(
        "rprop",
        cls=optim.Rprop,
        rule=rprop,
        keep=coupled,
        states=[
            State("prev", when=None, start=0.0, draw=signed),
            State("step_size", when=None, start="lr", draw=fraction),
        ],
        sweep=[
            {},
            {"lr": 0.5, "etas": (0.3, 1.7), "step_sizes": (0.05, 0.7), "maximize": True},
        ],
        torch="Rprop",
    ),
    Optimizer(
        "ademamix",
        cls=optim.AdEMAMix,
        rule=ademamix,
        keep=decoupled,
        states=[
            State("exp_avg_fast", when=None, start=0.0, draw=signed),
            State("exp_avg_slow", when=None, start=0.0, draw=signed),
            State("exp_avg_sq", when=None, start=0.0, draw=square),
        ],
        sweep=[
            {},
            {
                "lr": 0.1,
                "betas": (0.8, 0.9, 0.95),
                "alpha": 2.0,
                "total_steps": 20,
                "maximize": True,
            },
            {
                "lr": 0.05,
                "betas": (0.9, 0.95, 0.9),
                "eps": 1e-2,
                "weight_decay": 0.1,
                "total_steps": 5,
            },
        ],
        torch=None,
    ),
    Optimizer(
        "schedulefreesgd",
        cls=optim.ScheduleFreeSGD,
        rule=schedulefreesgd,
        keep=coupled,
        states=[
            State("z", when=None, start=None, draw=signed),
            Scalar("weight_sum", when=None, start=0.0, draw=fraction),
            Scalar("lr_max", when=None, start=0.0, draw=fraction),
        ],
        sweep=[
            {},
            {
                "lr": 0.1,
                "momentum": 0.8,
                "warmup_steps": 10,
                "r": 1.0,
                "weight_lr_power": 1.5,
                "maximize": True,
            },
            {"lr": 0.05, "momentum": 0.5, "weight_decay": 0.1, "r": 0.5, "weight_lr_power": 0.0},
        ],
        torch=None,
    ),
    Optimizer(
        "schedulefreeadamw",
        cls=optim.ScheduleFreeAdamW,
        rule=schedulefreeadamw,
        keep=coupled,
        states=[
            State("z", when=None, start=None, draw=signed),
            State("exp_avg_sq", when=None, start=0.0, draw=square),
            Scalar("weight_sum", when=None, start=0.0, draw=fraction),
            Scalar("lr_max", when=None, start=0.0, draw=fraction),
        ],
        sweep=[
            {},
            {"lr": 0.1, "betas": (0.8, 0.9), "warmup_steps": 10, "r": 1.0, "maximize": True},
            {"lr": 0.05, "eps": 1e-2, "weight_decay": 0.1, "r": 0.5, "weight_lr_power": 0.5},
        ],
        torch=None,
    ),
]

# Those that stand on operations on arrays, whose formula is of no single element: the function of
# ops and the file of their tests.
ON_ARRAYS = {
    optim.Muon: ("muon_", "test_muon.py"),
    optim.SparseAdam: ("sparse_adam_", "test_sparse_adam.py"),
    optim.LBFGS: (None, "test_lbfgs.py"),  # a step evaluates the loss
}

VARIANTS = [variant for record in OPTIMIZERS for variant in record.variants()]
BY_NAME = {variant.name: variant for variant in VARIANTS}


def rows():
    return rows_of(OPTIMIZERS)
