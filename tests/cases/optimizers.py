"""The optimizers, one record each: see Optimizer and State in _optimizer.py for the fields, and
RMSprop for a model with optional states. Nothing else in the tests or the benchmark lists them.
"""

from __future__ import annotations

import numpy as np
from onepass import optim

from cases._optimizer import (
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

# ------------------------------------------------------------------------------------ the formulas
# One parameter, one step; each returns what it was given, updated. step is 1 on the first call.


def lerp(average, value, weight):
    """(1 - weight)·average + weight·value."""
    return average + weight * (value - average)


def sgd(p, g, b, *, step, lr=1e-3, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False,
        maximize=False):  # fmt: skip
    g = (-g if maximize else g) + weight_decay * p
    if b is None:
        return p - lr * g, None
    b = g if step == 1 else momentum * b + (1 - dampening) * g
    return p - lr * (g + momentum * b if nesterov else b), b


def adam(p, g, m, v, v_max, *, step, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0,
         maximize=False, decoupled=False):  # fmt: skip
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
    denominator = np.sqrt(largest) / np.sqrt(1 - betas[1] ** step) + eps
    return p - lr / (1 - betas[0] ** step) * m / denominator, m, v, v_max


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
          momentum_decay=4e-3, decoupled_weight_decay=False, maximize=False):  # fmt: skip
    g = -g if maximize else g
    if decoupled_weight_decay:
        p = p * (1 - lr * weight_decay)
    else:
        g = g + weight_decay * p
    mu, ahead = (betas[0] * (1 - 0.5 * 0.96 ** (t * momentum_decay)) for t in (step, step + 1))
    product = product * mu
    m = lerp(m, g, 1 - betas[0])
    v = betas[1] * v + (1 - betas[1]) * g**2
    denominator = np.sqrt(v / (1 - betas[1] ** step)) + eps
    look = (1 - mu) / (1 - product) * g + ahead / (1 - product * ahead) * m
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
           maximize=False):  # fmt: skip
    g = (-g if maximize else g) + weight_decay * p
    m = lerp(m, g, 1 - betas[0])
    u = np.maximum(betas[1] * u, np.abs(g) + eps)
    return p - lr / (1 - betas[0] ** step) * (m / u), m, u


def radam(p, g, m, v, *, step, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0,
          decoupled_weight_decay=False, maximize=False):  # fmt: skip
    g = -g if maximize else g
    if decoupled_weight_decay:
        p = p * (1 - lr * weight_decay)
    else:
        g = g + weight_decay * p
    m = lerp(m, g, 1 - betas[0])
    v = betas[1] * v + (1 - betas[1]) * g**2
    size = lr / (1 - betas[0] ** step)
    full = 2 / (1 - betas[1]) - 1
    rho = full - 2 * step * betas[1] ** step / (1 - betas[1] ** step)
    if number(rho) <= 5:
        return p - size * m, m, v
    r = np.sqrt((rho - 4) * (rho - 2) * full / ((full - 4) * (full - 2) * rho))
    return p - size * r * np.sqrt(1 - betas[1] ** step) * (m / (np.sqrt(v) + eps)), m, v


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


# ------------------------------------------------------------------------------------- the records


def _adam(name, cls, rule):
    return Optimizer(
        name,
        cls=cls,
        rule=rule,
        states=[
            State("exp_avg", when=None, start=0.0, draw=signed),
            State("exp_avg_sq", when=None, start=0.0, draw=square),
            State("max_exp_avg_sq", when="amsgrad", start=0.0, draw=square),
        ],
        sweep=[
            {},
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
    _adam("adam", optim.Adam, adam),
    _adam("adamw", optim.AdamW, adamw),
    Optimizer(
        "rmsprop",
        cls=optim.RMSprop,
        rule=rmsprop,
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
        states=[
            State("exp_avg", when=None, start=0.0, draw=signed),
            State("exp_avg_sq", when=None, start=0.0, draw=square),
            Scalar("mu_product", when=None, start=1.0, draw=fraction),
        ],
        sweep=[
            {},
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
        states=[State("exp_avg", when=None, start=0.0, draw=signed)],
        sweep=[{}, {"lr": 0.05, "betas": (0.8, 0.9), "weight_decay": 0.1, "maximize": True}],
        torch=None,
    ),
    Optimizer(
        "lars",
        cls=optim.LARS,
        rule=lars,
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
        "adagrad",
        cls=optim.Adagrad,
        rule=adagrad,
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
        states=[
            State("exp_avg", when=None, start=0.0, draw=signed),
            State("exp_inf", when=None, start=0.0, draw=square),
        ],
        sweep=[
            {},
            {"lr": 0.1, "betas": (0.8, 0.9), "eps": 1e-2, "weight_decay": 0.1, "maximize": True},
        ],
        torch="Adamax",
    ),
    Optimizer(
        "radam",
        cls=optim.RAdam,
        rule=radam,
        states=[
            State("exp_avg", when=None, start=0.0, draw=signed),
            State("exp_avg_sq", when=None, start=0.0, draw=square),
        ],
        sweep=[
            {},
            {"lr": 0.1, "betas": (0.8, 0.9), "weight_decay": 0.1, "maximize": True},
            {"lr": 0.05, "eps": 1e-2, "weight_decay": 0.1, "decoupled_weight_decay": True},
        ],
        torch="RAdam",
    ),
    Optimizer(
        "adopt",
        cls=optim.ADOPT,
        rule=adopt,
        states=[
            State("exp_avg", when=None, start=0.0, draw=signed),
            State("exp_avg_sq", when=None, start=0.0, draw=square),
        ],
        sweep=[
            {},
            {"lr": 0.1, "betas": (0.8, 0.9), "weight_decay": 0.1, "maximize": True},
            {"lr": 0.05, "eps": 0.5, "weight_decay": 0.1, "decoupled_weight_decay": True},
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
