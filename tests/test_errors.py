"""Wrong calls, one line each: the exception, and what its message must name (the argument, the
value given, what was expected). After each refusal every array is as it was."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import assert_same
from onepass import ops, optim

F32 = np.float32
INF, NAN = math.inf, math.nan


def arrays():
    """Fresh arrays for one wrong call; all of them are compared afterwards."""
    rng = np.random.default_rng(0)

    def normal(*shape):
        return rng.standard_normal(shape).astype(F32)

    a = SimpleNamespace(x=normal(4, 5), y=normal(4, 5), six=normal(4, 6), long=normal(64))
    a.image, a.row, a.c5, a.c5b, a.c5c = (
        normal(2, 5, 3),
        normal(1, 5),
        normal(5),
        normal(5),
        normal(5),
    )
    a.c4, a.c6, a.scalar = normal(4), normal(6), normal()
    a.var = np.abs(normal(5))
    a.frozen = normal(4, 5)
    a.frozen5 = normal(5)
    a.frozen.flags.writeable = a.frozen5.flags.writeable = False
    a.f64, a.f64c = rng.standard_normal((4, 5)), rng.standard_normal(5)
    a.half = normal(4, 5).astype(np.float16)
    a.ints, a.bools = np.arange(20).reshape(4, 5), normal(4, 5) > 0
    a.complex, a.big = a.x.astype(np.complex64), a.x.astype(">f4")
    a.objects, a.dates = a.x.astype(object), np.zeros((4, 5), "M8[s]")
    a.extended = a.x.astype(np.longdouble)
    a.labels, a.labels5 = np.array([0, 4, 2, 1]), np.arange(5)
    a.spread = np.lib.stride_tricks.as_strided(a.c4, (4, 5), (4, 0), writeable=True)
    a.p, a.g = [normal(4, 5), normal(3)], [normal(4, 5), normal(3)]
    a.m, a.v = [normal(4, 5), normal(3)], [np.abs(normal(4, 5)), np.abs(normal(3))]
    return a


ADAM = {"step": 1, "lr": 0.1, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0}


def norm(a, x=None, **changes):
    """ops.batch_norm with everything right but what is given."""
    arguments = {"weight": a.c5, "bias": a.c5b, "running_mean": a.c5c, "running_var": a.var}
    options = {"training": True}
    for name, value in changes.items():
        (arguments if name in arguments else options)[name] = value
    return ops.batch_norm(a.x if x is None else x, *arguments.values(), **options)


# A name, the call, the exception, and words of its message (in any case).
ELEMENTWISE = [
    ("int input", lambda a: ops.relu(a.ints), TypeError, ["x", "int64", "float32"]),
    ("bool input", lambda a: ops.relu(a.bools), TypeError, ["x", "bool"]),
    ("complex input", lambda a: ops.tanh(a.complex), TypeError, ["x", "complex64"]),
    ("big-endian input", lambda a: ops.tanh(a.big), TypeError, ["x", "endian"]),
    ("object input", lambda a: ops.tanh(a.objects), TypeError, ["x", "object"]),
    ("date input", lambda a: ops.tanh(a.dates), TypeError, ["x", "datetime64"]),
    ("long double input", lambda a: ops.tanh(a.extended), TypeError, ["x", "float128"]),
    ("None", lambda a: ops.relu(None), TypeError, ["x", "None"]),
    ("a list", lambda a: ops.relu([1.0, 2.0]), TypeError, ["x", "list"]),
    ("a number", lambda a: ops.relu(1.0), TypeError, ["x", "float"]),
    ("a string", lambda a: ops.relu("x"), TypeError, ["x", "str"]),
    ("nothing", lambda a: ops.relu(), TypeError, []),
    ("unknown option", lambda a: ops.relu(a.x, slope=1), TypeError, ["slope"]),
    ("option by position", lambda a: ops.leaky_relu(a.x, 0.1), TypeError, []),
    ("out of another shape", lambda a: ops.relu(a.x, out=a.six), ValueError,
     ["out", "(4, 6)", "(4, 5)"]),
    ("out that would broadcast", lambda a: ops.relu(a.row, out=a.x), ValueError, ["out", "(4, 5)"]),
    ("out of another dtype", lambda a: ops.relu(a.x, out=a.f64), TypeError,
     ["out", "float64", "float32"]),
    ("out that is a list", lambda a: ops.relu(a.x, out=[]), TypeError, ["out", "list"]),
    ("read-only out", lambda a: ops.relu(a.x, out=a.frozen), ValueError, ["out", "read-only"]),
    ("read-only alias", lambda a: ops.relu(a.frozen, out=a.frozen), ValueError,
     ["out", "read-only"]),
    ("stride-0 out", lambda a: ops.relu(a.x, out=a.spread), ValueError, ["out", "stride 0"]),
    ("shifted out", lambda a: ops.relu(a.long[:-1], out=a.long[1:]), ValueError,
     ["out", "overlap", "x"]),
    ("reversed out", lambda a: ops.relu(a.long, out=a.long[::-1]), ValueError,
     ["out", "overlap", "x"]),
    ("transposed out", lambda a: ops.relu(a.x[:, :4], out=a.x[:, :4].T), ValueError,
     ["out", "overlap"]),
    ("out over half of dy", lambda a: ops.relu_backward(a.long[:-3], a.long[:61].copy(),
     out=a.long[3:]), ValueError, ["out", "overlap", "dy"]),
    ("shapes differ", lambda a: ops.relu_backward(a.x, a.six), ValueError,
     ["'dy'", "(4, 6)", "(4, 5)"]),
    ("shapes that broadcast", lambda a: ops.relu_backward(a.x, a.c5), ValueError, ["(5,)"]),
    ("dtypes differ", lambda a: ops.tanh_backward(a.x, a.f64), TypeError,
     ["'dy'", "float64", "float32"]),
    ("gelu form", lambda a: ops.gelu(a.x, approximate="fast"), ValueError,
     ["approximate", "fast", "tanh"]),
    ("gelu form of a gradient", lambda a: ops.gelu_backward(a.x, a.y, approximate=True),
     (TypeError, ValueError), ["approximate", "True"]),
    ("slope", lambda a: ops.leaky_relu(a.x, negative_slope="a"), TypeError, []),
]  # fmt: skip

DROPOUT = [
    *(
        (f"p = {p}", lambda a, p=p: ops.dropout(a.x, p, seed=1), ValueError, ["p", str(p), "1"])
        for p in (-0.1, 1.5, NAN, INF, -1e-300)
    ),
    ("maps without channels", lambda a: ops.feature_dropout(a.x[0], seed=1), ValueError,
     ["feature_dropout", "x", "shape", "two axes"]),
    ("maps of alpha dropout", lambda a: ops.feature_alpha_dropout_backward(a.x[0], seed=1),
     ValueError, ["feature_alpha_dropout_backward", "x", "shape", "two axes"]),
    ("p of alpha dropout", lambda a: ops.alpha_dropout(a.x, 2.0, seed=1), ValueError, ["p", "2"]),
    ("p of a gradient", lambda a: ops.dropout_backward(a.x, 2.0, seed=1), ValueError, ["p", "2"]),
    ("p of a mask", lambda a: ops.dropout_mask((3,), NAN, seed=1), ValueError, ["p", "nan"]),
    ("p is text", lambda a: ops.dropout(a.x, "half", seed=1), TypeError, []),
    ("no seed", lambda a: ops.dropout(a.x, 0.5), TypeError, ["seed"]),
    ("negative seed", lambda a: ops.dropout(a.x, seed=-1), (ValueError, TypeError), ["seed", "-1"]),
    ("large seed", lambda a: ops.dropout(a.x, seed=2**64), (ValueError, TypeError),
     ["seed", str(2**64)]),
    ("fractional seed", lambda a: ops.dropout(a.x, seed=1.5), (TypeError, ValueError), ["seed"]),
    ("large offset", lambda a: ops.dropout(a.x, seed=1, offset=2**64), (ValueError, TypeError),
     ["offset", str(2**64)]),
    ("a mask beyond 63 bits", lambda a: ops.dropout_mask((2**40, 2**40), seed=1), ValueError,
     ["shape", str(2**40), "2**63"]),
    ("a packed mask beyond 63 bits", lambda a: ops.dropout_mask(2**63, seed=1, packed=True),
     ValueError, ["shape", str(2**63), "2**63"]),
    ("negative size", lambda a: ops.dropout_mask((3, -1), seed=1), ValueError, ["shape", "-1"]),
    ("int input of dropout", lambda a: ops.dropout(a.ints, seed=1), TypeError, ["x", "int64"]),
    ("overlap in dropout", lambda a: ops.dropout(a.long[:-1], seed=1, out=a.long[1:]), ValueError,
     ["out", "overlap"]),
]  # fmt: skip

BIAS_ACT = [
    ("bias too long", lambda a: ops.bias_act(a.x, a.c6), ValueError, ["bias", "6", "5"]),
    ("bias along another axis", lambda a: ops.bias_act(a.x, a.c5, axis=0), ValueError,
     ["bias", "5", "4"]),
    ("bias of two axes", lambda a: ops.bias_act(a.x, a.row), ValueError, ["bias", "(1, 5)"]),
    ("scalar bias", lambda a: ops.bias_act(a.x, a.scalar), ValueError, ["bias", "()"]),
    ("int bias", lambda a: ops.bias_act(a.x, a.labels5), TypeError, ["bias", "int64"]),
    ("bias dtype", lambda a: ops.bias_act(a.x, a.f64c), TypeError, ["bias", "float64"]),
    ("bias None", lambda a: ops.bias_act(a.x, None), TypeError, ["bias", "None"]),
    ("axis", lambda a: ops.bias_act(a.x, a.c5, axis=2), ValueError, ["axis", "2"]),
    ("negative axis", lambda a: ops.bias_act(a.x, a.c5, axis=-3), ValueError, ["axis", "-3"]),
    ("activation", lambda a: ops.bias_act(a.x, a.c5, activation="relue"), ValueError,
     ["activation", "relue", "relu"]),
    ("option of the activation", lambda a: ops.bias_act(a.x, a.c5, activation=("relu", {"q": 1})),
     (TypeError, ValueError), ["q"]),
    ("activation type", lambda a: ops.bias_act(a.x, a.c5, activation=3), (TypeError, ValueError),
     ["activation", "3"]),
    ("dropout_p", lambda a: ops.bias_act(a.x, a.c5, dropout_p=1.5), ValueError,
     ["dropout_p", "1.5"]),
    ("dy", lambda a: ops.bias_act_backward(a.six, a.x, a.c5), ValueError, ["(4, 6)", "(4, 5)"]),
    ("dy dtype", lambda a: ops.bias_act_backward(a.f64, a.x, a.c5), TypeError, ["float64"]),
]  # fmt: skip

VECTORS = ("weight", "bias", "running_mean", "running_var")
BATCH_NORM = [
    *((f"norm's {v} too long", lambda a, v=v: norm(a, **{v: a.c6}), ValueError, [v, "6", "5"])
      for v in VECTORS),
    *((f"norm's {v} of two axes", lambda a, v=v: norm(a, **{v: a.row}), ValueError, [v, "(1, 5)"])
      for v in VECTORS),
    *((f"norm's {v} dtype", lambda a, v=v: norm(a, **{v: a.f64c}), TypeError, [v, "float64"])
      for v in VECTORS),
    *((f"norm's {v} int", lambda a, v=v: norm(a, **{v: a.labels5}), TypeError, [v, "int64"])
      for v in VECTORS),
    *((f"norm's {v} list", lambda a, v=v: norm(a, **{v: [1.0] * 5}), TypeError, [v, "list"])
      for v in VECTORS),
    *((f"read-only {v}", lambda a, v=v: norm(a, **{v: a.frozen5}), ValueError, [v, "read-only"])
      for v in VECTORS[2:]),
    ("one array for two statistics", lambda a: norm(a, running_mean=a.var), ValueError,
     ["overlap", "running_mean"]),
    ("statistics inside x", lambda a: norm(a, running_mean=a.x[1]), ValueError,
     ["overlap", "running_mean"]),
    ("one axis", lambda a: norm(a, a.c5), ValueError, ["x", "(5,)"]),
    ("no axis", lambda a: norm(a, a.scalar), ValueError, ["x", "()"]),
    ("one value a channel", lambda a: norm(a, a.row), ValueError, ["(1, 5)", "eval"]),
    ("channel axis", lambda a: norm(a, a.image, channels_last=True), ValueError, ["5", "3"]),
    ("momentum None", lambda a: norm(a, momentum=None), (TypeError, ValueError),
     ["momentum", "None"]),
    ("momentum NaN", lambda a: norm(a, momentum=NAN), ValueError, ["momentum", "nan"]),
    ("eps 0", lambda a: norm(a, eps=0.0), ValueError, ["eps", "0"]),
    ("six axes", lambda a: norm(a, a.x.reshape(2, 5, 2, 1, 1, 1)), ValueError,
     ["x", "(2, 5, 2, 1, 1, 1)", "(N, C, D, H, W)"]),
    ("eps negative in evaluation", lambda a: norm(a, eps=-1e-5, training=False), ValueError,
     ["eps", "-1e-05"]),
    ("training None", lambda a: norm(a, training=None), TypeError, ["training", "None"]),
    ("training by name", lambda a: norm(a, training="no"), TypeError, ["training", "'no'"]),
    ("eps negative", lambda a: norm(a, eps=-1e-5), ValueError, ["eps", "-1e-05"]),
    ("eps NaN", lambda a: norm(a, eps=NAN), ValueError, ["eps", "nan"]),
    ("eps Inf", lambda a: norm(a, eps=math.inf), ValueError, ["eps", "inf"]),
    ("no training", lambda a: ops.batch_norm(a.x, a.c5, a.c5b, a.c5c, a.var), TypeError,
     ["training"]),
    ("eval without statistics", lambda a: norm(a, training=False, running_mean=None,
     running_var=None), ValueError, ["running_mean"]),
    ("residual shape", lambda a: norm(a, residual=a.six), ValueError, ["residual", "(4, 6)"]),
    ("residual dtype", lambda a: norm(a, residual=a.f64), TypeError, ["residual", "float64"]),
    ("residual list", lambda a: norm(a, residual=[]), TypeError, ["residual", "list"]),
    ("norm's activation", lambda a: norm(a, activation="tanhh"), ValueError,
     ["activation", "tanhh", "tanh"]),
    ("norm's dropout_p", lambda a: norm(a, dropout_p=NAN), ValueError, ["dropout_p", "nan"]),
    ("norm's seed", lambda a: norm(a, dropout_p=0.5, seed=-1), (ValueError, TypeError),
     ["seed", "-1"]),
    ("norm's int input", lambda a: norm(a, a.ints), TypeError, ["x", "int64"]),
    ("norm's out", lambda a: norm(a, out=a.six), ValueError, ["out", "(4, 6)"]),
    ("norm's out over running_mean", lambda a: norm(a, running_mean=a.y[0], out=a.y), ValueError,
     ["overlap"]),
    ("dy of a norm", lambda a: ops.batch_norm_backward(a.six, saved(a)), ValueError,
     ["dy", "(4, 6)", "(4, 5)"]),
    ("dy dtype of a norm", lambda a: ops.batch_norm_backward(a.f64, saved(a)), TypeError,
     ["dy", "float64"]),
    ("saved", lambda a: ops.batch_norm_backward(a.x, None), TypeError, ["saved"]),
]  # fmt: skip


def saved(a):
    return ops.batch_norm(a.x, a.c5, a.c5b, None, None, training=True)[1]


CROSS_ENTROPY = [
    ("logits of one axis", lambda a: ops.cross_entropy(a.c5, a.labels5), ValueError,
     ["logits", "(5,)"]),
    ("int logits", lambda a: ops.cross_entropy(a.ints, a.labels), TypeError, ["logits", "int64"]),
    ("too many targets", lambda a: ops.cross_entropy(a.x, a.labels5), ValueError,
     ["target", "(5,)", "(4,)"]),
    ("targets of two axes", lambda a: ops.cross_entropy(a.x, a.ints), ValueError, ["target"]),
    ("bool targets", lambda a: ops.cross_entropy(a.x, a.labels > 1), TypeError, ["target", "bool"]),
    ("list of targets", lambda a: ops.cross_entropy(a.x, [0, 1, 2, 3]), TypeError,
     ["target", "list"]),
    ("probabilities' shape", lambda a: ops.cross_entropy(a.x, a.six), ValueError,
     ["target", "(4, 6)"]),
    ("probabilities' dtype", lambda a: ops.cross_entropy(a.x, a.f64), TypeError,
     ["target", "float64"]),
    ("label above", lambda a: ops.cross_entropy(a.x, a.labels + 1), IndexError, ["target", "5"]),
    ("label below", lambda a: ops.cross_entropy(a.x, a.labels - 1), IndexError, ["target", "-1"]),
    ("class weights", lambda a: ops.cross_entropy(a.x, a.labels, weight=a.c6), ValueError,
     ["weight", "6", "5"]),
    ("int class weights", lambda a: ops.cross_entropy(a.x, a.labels, weight=a.labels5), TypeError,
     ["weight", "int64"]),
    ("reduction", lambda a: ops.cross_entropy(a.x, a.labels, reduction="avg"), ValueError,
     ["reduction", "avg", "mean"]),
    ("smoothing above", lambda a: ops.cross_entropy(a.x, a.labels, label_smoothing=1.5), ValueError,
     ["label_smoothing", "1.5"]),
    ("smoothing below", lambda a: ops.cross_entropy(a.x, a.labels, label_smoothing=-0.1),
     ValueError, ["label_smoothing", "-0.1"]),
    ("smoothing NaN", lambda a: ops.cross_entropy(a.x, a.labels, label_smoothing=NAN), ValueError,
     ["label_smoothing", "nan"]),
]  # fmt: skip

NORM = [
    ("ord", lambda a: ops.global_norm([a.x], ord=3), ValueError, ["ord", "3"]),
    ("ord NaN", lambda a: ops.global_norm([a.x], ord=NAN), ValueError, ["ord", "nan"]),
    ("int in a list", lambda a: ops.global_norm([a.x, a.ints]), TypeError, ["arrays[1]", "int64"]),
    ("None in a list", lambda a: ops.global_norm([a.x, None]), TypeError, ["arrays[1]", "None"]),
    ("no list", lambda a: ops.global_norm(None), TypeError, ["arrays", "None"]),
]


def adam(a, **changes):
    """ops.adam_ with everything right but what is given."""
    arguments = {"params": a.p, "grads": a.g, "exp_avgs": a.m, "exp_avg_sqs": a.v}
    options = dict(ADAM)
    for name, value in changes.items():
        (arguments if name in arguments or "sqs" in name else options)[name] = value
    return ops.adam_(*arguments.values(), **options)


LISTS = ("params", "grads", "exp_avgs", "exp_avg_sqs")
UPDATES = [
    *((f"{n} too short", lambda a, n=n: adam(a, **{n: [a.x]}), ValueError, ["1", "2"])
      for n in LISTS),
    *((f"{n}[1] shape", lambda a, n=n: adam(a, **{n: [a.x, a.c4]}), ValueError,
       ["[1]", "(4,)", "(3,)"]) for n in LISTS),
    *((f"{n}[0] int", lambda a, n=n: adam(a, **{n: [a.ints, a.c4[:3]]}), TypeError,
       [f"{n}[0]", "int64"]) for n in LISTS),
    *((f"{n}[0] list", lambda a, n=n: adam(a, **{n: [[1.0], a.c4[:3]]}), TypeError,
       [f"{n}[0]", "list"]) for n in LISTS),
    *((f"list {n} None", lambda a, n=n: adam(a, **{n: None}), TypeError, [n, "None"])
      for n in LISTS),
    *((f"read-only {n}[0]", lambda a, n=n: adam(a, **{n: [a.frozen, a.c4[:3]]}), ValueError,
       [f"{n}[0]", "read-only"]) for n in LISTS if n != "grads"),
    *((f"stride-0 {n}", lambda a, n=n: adam(a, **{n: [a.spread, a.c6[:3]]}), ValueError,
       [f"{n}[0]"]) for n in LISTS if n != "grads"),
    ("the same parameter twice", lambda a: ops.sgd_([a.x, a.x], [a.y, a.y], step=1, lr=0.1),
     ValueError, ["params[0]", "params[1]"]),
    ("overlapping parameters", lambda a: ops.sgd_([a.long[:9], a.long[8:17]],
     [a.long[20:29], a.long[30:39]], step=1, lr=0.1), ValueError, ["params[0]", "params[1]"]),
    ("a parameter as its state", lambda a: adam(a, exp_avgs=[a.p[0], a.m[1]]), ValueError,
     ["params[0]", "exp_avgs[0]"]),
    ("a gradient inside a parameter", lambda a: ops.sgd_([a.long[:9]], [a.long[5:14]], step=1,
     lr=0.1), ValueError, ["overlap", "grads[0]"]),
    ("gradient dtype", lambda a: adam(a, grads=[a.f64, a.g[1]]), TypeError,
     ["grads[0]", "float64", "float32"]),
    ("a limit that is not a number", lambda a: ops.sgd_(a.p, a.g, max_norm="1.0 or so"), TypeError,
     ["max_norm", "1.0 or so"]),
    ("a momentum in quotes", lambda a: ops.batch_norm(
        a.x, None, None, None, None, training=True, momentum="a"), TypeError, ["momentum", "'a'"]),
    ("a rate in quotes", lambda a: optim.SGD(a.p, lr="0.1"), TypeError, ["lr", "'0.1'"]),
    ("a scale that is not a number", lambda a: optim.SGD(a.p).step(a.g, grad_scale=[1]), TypeError,
     ["grad_scale", "[1]"]),
    ("an option that is not there", lambda a: ops.sgd_(a.p, a.g, maxnorm=1.0), TypeError,
     ["sgd_", "maxnorm", "max_norm"]),
    ("half a step", lambda a: adam(a, step=1.5), TypeError, ["step", "1.5"]),
    ("an option of an activation that is not a number", lambda a: ops.bias_act(
        a.x, a.c5, activation=("leaky_relu", {"negative_slope": "a"})), TypeError,
     ["leaky_relu", "negative_slope", "'a'"]),
    ("a shape of fractions", lambda a: ops.dropout_mask((2, 1.5), seed=0), TypeError,
     ["shape", "1.5"]),
    ("step 0", lambda a: adam(a, step=0), ValueError, ["step", "0"]),
]  # fmt: skip


def bad_option(kind, words, **options):
    given = ", ".join(f"{k}={v}" for k, v in options.items())
    return (f"{kind} {given}", lambda a: getattr(optim, kind)(a.p, **options), ValueError, words)


def duplicated(a):
    return [a.p[0], a.p[1], a.p[0]]


OPTIMIZERS = [
    *(bad_option(k, ["lr", str(v)], lr=v) for k in ("SGD", "Adam", "AdamW")
      for v in (-0.1, NAN, INF)),
    *(bad_option(k, ["weight_decay", str(v)], weight_decay=v) for k in ("SGD", "Adam", "AdamW")
      for v in (-0.1, NAN)),
    bad_option("SGD", ["momentum", "-0.5"], momentum=-0.5),
    bad_option("SGD", ["momentum", "nan"], momentum=NAN),
    bad_option("SGD", ["nesterov", "momentum"], nesterov=True),
    bad_option("SGD", ["nesterov", "dampening"], nesterov=True, momentum=0.9, dampening=0.1),
    *(bad_option(k, ["eps", str(v)], eps=v) for k in ("Adam", "AdamW") for v in (-1e-8, NAN)),
    *(bad_option(k, ["betas", str(b)], betas=v) for k in ("Adam", "AdamW")
      for b, v in ((1.0, (1.0, 0.999)), (-0.1, (-0.1, 0.999)), (1.5, (0.9, 1.5)), (NAN, (NAN, 0.9)),
                   (1.0, (0.9, 1.0)))),
    bad_option("Adam", ["betas"], betas=(0.9,)),
    bad_option("AdamW", ["compat", "pytorch", "torch"], compat="pytorch"),
    ("lr is text", lambda a: optim.SGD(a.p, lr="fast"), (TypeError, ValueError), ["lr", "fast"]),
    ("unknown option of Adam", lambda a: optim.Adam(a.p, beta=0.9), TypeError, ["beta"]),
    ("no parameters", lambda a: optim.SGD([]), ValueError, ["param"]),
    ("params None", lambda a: optim.SGD(None), TypeError, ["params", "None"]),
    ("one bare array", lambda a: optim.SGD(a.x), TypeError, ["params", "list"]),
    ("int parameter", lambda a: optim.SGD([a.x, a.ints]), TypeError, ["params[1]", "int64"]),
    ("list as parameter", lambda a: optim.SGD([a.x, [1.0]]), TypeError, ["params[1]", "list"]),
    ("None as parameter", lambda a: optim.SGD([None]), TypeError, ["params[0]", "None"]),
    ("read-only parameter", lambda a: optim.SGD([a.frozen]), ValueError,
     ["params[0]", "read-only"]),
    ("duplicate parameters", lambda a: optim.SGD(duplicated(a)), ValueError,
     ["params[0]", "params[2]"]),
    ("duplicates in groups", lambda a: optim.SGD([{"params": [a.x]}, {"params": [a.y, a.x]}]),
     ValueError, ["params[0]", "params[2]"]),
    ("overlapping rows", lambda a: optim.SGD([a.x[:3], a.x[2:]]), ValueError,
     ["params[0]", "params[1]", "overlap"]),
    ("stride-0 parameter", lambda a: optim.SGD([a.spread]), ValueError, ["params[0]"]),
    ("group without parameters", lambda a: optim.SGD([{"lr": 0.1}]), (ValueError, KeyError),
     ["params"]),
    ("unknown key in a group", lambda a: optim.SGD([{"params": [a.x], "lrr": 0.1}]),
     (TypeError, ValueError), ["lrr"]),
    ("option of a group", lambda a: optim.SGD([{"params": [a.x], "lr": -1.0}]), ValueError,
     ["lr", "-1"]),
]  # fmt: skip


def step(a, grads=None, kind="AdamW", **controls):
    return getattr(optim, kind)(a.p).step(a.g if grads is None else grads, **controls)


STEPS = [
    ("too few gradients", lambda a: step(a, a.g[:1]), ValueError, ["grads", "1", "2"]),
    ("too many gradients", lambda a: step(a, [*a.g, a.x]), ValueError, ["grads", "3", "2"]),
    ("gradient shape", lambda a: step(a, [a.g[0], a.c4]), ValueError, ["grads[1]", "(4,)", "(3,)"]),
    ("gradient transposed", lambda a: step(a, [a.g[0].T, a.g[1]]), ValueError,
     ["grads[0]", "(5, 4)", "(4, 5)"]),
    ("int gradient", lambda a: step(a, [a.ints, a.g[1]]), TypeError, ["grads[0]", "int64"]),
    ("gradient list", lambda a: step(a, [a.g[0], [1.0, 2.0]]), TypeError, ["grads[1]", "list"]),
    ("gradient of another dtype", lambda a: step(a, [a.f64, a.g[1]]), TypeError,
     ["grads[0]", "float64"]),
    ("gradient inside a parameter", lambda a: step(a, [a.p[0][::-1], a.g[1]]), ValueError,
     ["grads[0]", "overlap"]),
    ("no gradients", lambda a: optim.SGD(a.p).step(), (TypeError, ValueError), ["grads"]),
    ("one bare gradient", lambda a: step(a, a.x), (TypeError, ValueError), ["grads"]),
    ("read-only gradient to be zeroed", lambda a: step(a, [a.frozen, a.g[1]], zero_grad=True),
     ValueError, ["grads[0]", "read-only"]),
    *((f"{name} = {value}", lambda a, n=name, v=value: step(a, **{n: v}), ValueError,
       [name, str(value)])
      for name, value in [("max_norm", -1.0), ("max_norm", NAN), ("max_value", -1.0),
                          ("max_value", NAN), ("grad_scale", 0.0), ("grad_scale", NAN),
                          ("grad_scale", INF), ("nonfinite", "ignore")]),
    ("unknown control", lambda a: step(a, clip=1.0), TypeError, ["clip"]),
]  # fmt: skip

WRONG = [
    *ELEMENTWISE, *DROPOUT, *BIAS_ACT, *BATCH_NORM, *CROSS_ENTROPY, *NORM, *UPDATES, *OPTIMIZERS,
    *STEPS,
]  # fmt: skip


@pytest.mark.parametrize(
    ("call", "error", "words"), [row[1:] for row in WRONG], ids=[r[0] for r in WRONG]
)
def test_wrong_call(call, error, words):
    a, fresh = arrays(), arrays()
    with pytest.raises(error) as refusal:
        call(a)
    message = str(refusal.value)
    missing = [word for word in words if word.lower() not in message.lower()]
    assert not missing, f"{missing} not in: {message}"
    for name, array in vars(a).items():
        for now, before in zip(
            array if isinstance(array, list) else [array],
            getattr(fresh, name) if isinstance(array, list) else [getattr(fresh, name)],
            strict=True,
        ):
            if now.dtype.kind == "f" and now.dtype.isnative and now.itemsize <= 8:
                assert_same(now, before, name)


def test_labels_of_wrong_calls_are_unique():
    labels = [row[0] for row in WRONG]
    assert len(labels) == len(set(labels))


# ---------------------------------------------------------------- what must be allowed beside them


def test_exact_aliases_and_read_only_inputs_are_allowed():
    a = arrays()
    want = ops.tanh(a.x)
    assert_same(ops.tanh(a.x, out=a.x), want)
    ops.tanh(a.frozen)
    interleaved = a.long[::2], a.long[1::2]  # neighbours, not overlapping
    want = ops.tanh(interleaved[0])
    assert_same(ops.tanh(interleaved[0], out=interleaved[1]), want)
    grads = [a.frozen, a.g[1]]
    optim.AdamW(a.p).step(grads)  # read only: the gradient is not written
    wide = np.zeros((4, 10), F32)
    optim.SGD([wide[:, :5], wide[:, 5:]]).step([a.x, a.y])  # columns beside each other


def test_empty_arrays_may_share_an_address():
    empty = np.zeros((0, 3), F32)
    optim.SGD([empty, empty[:0].reshape(0)], lr=1.0).step([empty, np.zeros(0, F32)])
    assert ops.relu(empty, out=empty) is empty


def test_infinite_limits_clip_nothing():
    a, b = arrays(), arrays()
    optim.SGD(a.p, lr=0.1).step(a.g, max_norm=INF, max_value=INF)
    optim.SGD(b.p, lr=0.1).step(b.g)
    for one, other in zip(a.p, b.p, strict=True):
        np.testing.assert_array_equal(one, other)


# ---------------------------------------------------------------------------------- state_dicts


def _with(d, change):
    change(d)
    return d


BAD_STATES = {
    "empty": lambda d: {},
    "None": lambda d: None,
    "fewer groups": lambda d: _with(d, lambda d: d["param_groups"].pop()),
    "more groups": lambda d: _with(d, lambda d: d["param_groups"].append(d["param_groups"][0])),
    "fewer parameters": lambda d: _with(d, lambda d: d["param_groups"][0]["params"].pop()),
    "no state": lambda d: _with(d, lambda d: d.pop("state")),
    "another shape": lambda d: _with(
        d, lambda d: d["state"][0].update(exp_avg=np.zeros((5, 4), F32))
    ),
    "another number of axes": lambda d: _with(
        d, lambda d: d["state"][0].update(exp_avg=np.zeros(20, F32))
    ),
    "a missing moment": lambda d: _with(d, lambda d: d["state"][1].pop("exp_avg_sq")),
    "a parameter that is not there": lambda d: _with(
        d, lambda d: d["state"].update({7: d["state"][0]})
    ),
    "a learning rate out of range": lambda d: _with(
        d, lambda d: d["param_groups"][0].update(lr=-1.0)
    ),
    "a fraction of a step": lambda d: _with(
        d, lambda d: (d["param_groups"][0].update(lr=0.7), d["state"][0].update(step=1.5))
    ),
    "a negative step": lambda d: _with(
        d, lambda d: (d["state"][0]["exp_avg"].fill(7), d["state"][1].update(step=-3))
    ),
    "a complex moment": lambda d: _with(
        d, lambda d: d["state"][1].update(exp_avg=d["state"][1]["exp_avg"] + 1j)
    ),
    "a moment of objects": lambda d: _with(
        d, lambda d: d["state"][1].update(exp_avg=d["state"][1]["exp_avg"].astype(object))
    ),
    "a number for a moment": lambda d: _with(d, lambda d: d["state"][1].update(exp_avg=1.0)),
    "a list for a state": lambda d: _with(d, lambda d: d["state"].update({1: [1]})),
    "Adam's": lambda d: _with(
        d, lambda d: [group.update(decoupled_weight_decay=False) for group in d["param_groups"]]
    ),
}


@pytest.mark.parametrize("name", BAD_STATES)
def test_a_state_dict_that_does_not_fit_changes_nothing(name):
    import copy

    a = arrays()
    groups = [{"params": a.p}, {"params": [a.x], "lr": 0.5}]
    opt = optim.AdamW(groups, lr=0.1)
    opt.step([*a.g, a.y])
    before = copy.deepcopy(opt.state_dict())
    with pytest.raises(ValueError, match=r"load_state_dict|lr"):
        opt.load_state_dict(BAD_STATES[name](copy.deepcopy(before)))
    after = opt.state_dict()
    assert after["param_groups"] == before["param_groups"]
    for index, state in before["state"].items():
        for key, value in state.items():
            np.testing.assert_array_equal(after["state"][index][key], value)


def test_a_foreign_state_dict_is_refused():
    a, b = arrays(), arrays()
    adam, sgd = optim.Adam(a.p), optim.SGD(b.p, lr=0.1, momentum=0.9)
    adam.step(a.g)
    sgd.step(b.g)
    with pytest.raises(ValueError, match="another optimizer"):
        adam.load_state_dict(sgd.state_dict())
