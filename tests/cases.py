"""The one table of kernels. A row says how a kernel is called, on which inputs, what it must give
and how exactly; tests and bench/run.py iterate over CASES. To add a kernel, add a row.

Nothing here needs pytest.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import reference as ref
from onepass import ops

try:
    import ml_dtypes

    BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
except ImportError:
    BFLOAT16 = None

DTYPES = [np.dtype(d) for d in ("float32", "float64", "float16")]
DTYPES += [BFLOAT16] if BFLOAT16 is not None else []
SIGNIFICAND = {"float64": 53, "float32": 24, "float16": 11, "bfloat16": 8}
SMALLEST = {"float64": 2.0**-1074, "float32": 2.0**-149, "float16": 2.0**-24, "bfloat16": 2.0**-133}


def computing(dtype) -> np.dtype:
    """float64 for float64; float32 for everything else, the 16-bit types being storage only."""
    return np.dtype("float64" if np.dtype(dtype) == np.float64 else "float32")


@dataclasses.dataclass(frozen=True)
class Tolerance:
    """|got - want| <= storage·|want| + eps·(rel·|want| + peak·max|want|) + the smallest number.

    eps is that of the computing type; storage is half a unit in the last place of a 16-bit result
    (0 for the others, whose last rounding is counted in rel). `peak` serves sums that cancel:
    inputs are of size 1, and of a few results even the largest may have cancelled to less.
    `sums` multiplies both for float64, whose sums over many elements have no wider type, the
    reference's own among them. `why` derives rel and peak from the arithmetic.
    """

    rel: float
    peak: float = 0.0
    why: str = ""
    sums: float = 1.0

    def bound(self, want: np.ndarray, stored: np.dtype, computed: np.dtype) -> np.ndarray:
        if stored.name not in SIGNIFICAND:  # bool, bytes of packed bits
            return np.zeros(want.shape)
        eps = 2.0 ** (1 - SIGNIFICAND[computed.name])
        eps *= self.sums if computed == np.float64 else 1.0
        storage = 0.0 if stored.itemsize > 2 else 2.0 ** -SIGNIFICAND[stored.name]
        size = np.abs(want)
        finite = size[np.isfinite(size)]
        top = max(finite.max(initial=0.0), 1.0 if finite.size < 64 else 0.0)
        return (storage + eps * self.rel) * size + eps * self.peak * top + SMALLEST[stored.name]


@dataclasses.dataclass(frozen=True)
class Case:
    """One row.

    name         the kernel (a column of the benchmark and the id of its tests)
    op           op(*inputs, **keywords) -> an array or a tuple of arrays; a function of onepass.ops
                 or a thin wrapper around one
    make         make(rng, shape, dtype, **options) -> inputs: arrays, lists of arrays, None
    reference    the same call in float64, where it returns the results and, behind them, the inputs
                 of `written` as they must be afterwards
    options      keyword sweeps; a key that starts with "with_" is read by `make` alone
    shapes       for the tests; (N, C, ...) where channels matter, whatever the layout
    bench_shapes, bench_options, bytes(itemsize) -> fewest bytes an element of shape can cost
    written      indices of the inputs that are updated in place
    prepare      turns inputs into the arguments of op: a backward runs its forward there
    out, alias   whether op takes `out`, for its first result; which inputs may be that
    """

    name: str
    op: Callable[..., Any]
    make: Callable[..., tuple]
    reference: Callable[..., Any]
    tolerance: Tolerance
    bytes: Callable[[int], float]
    shapes: Sequence[tuple[int, ...]]
    bench_shapes: Sequence[tuple[int, ...]]
    options: Sequence[dict[str, Any]] = ({},)
    bench_options: dict[str, Any] = dataclasses.field(default_factory=dict)
    written: Sequence[int] = ()
    prepare: Callable[..., tuple] = lambda *inputs, **_: inputs
    out: bool = False
    alias: Sequence[int] = ()

    def inputs(self, shape, dtype, options) -> tuple:
        """Fresh inputs, the same at every call."""
        rng = np.random.default_rng([zlib.crc32(self.name.encode()), *shape])
        return self.make(rng, shape, np.dtype(dtype), **options)

    def run(self, inputs, options, **more) -> tuple:
        """Everything the call gives: the results, then the inputs that it updates."""
        keywords = keywords_of(options)
        got = self.op(*self.prepare(*inputs, **keywords), **keywords, **more)
        results = list(got) if isinstance(got, tuple) else [] if got is None else [got]
        return tuple(results + [inputs[i] for i in self.written])

    def expect(self, inputs, options) -> tuple:
        want = self.reference(*map(as_float64, inputs), **keywords_of(options))
        return tuple(want) if isinstance(want, tuple) else (want,)


def keywords_of(options: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in options.items() if not k.startswith("with_")}


def as_float64(value):
    """Floating arrays, also in lists, widened; anything else as it is."""
    if isinstance(value, list):
        return [as_float64(v) for v in value]
    if isinstance(value, np.ndarray) and value.dtype.name in SIGNIFICAND:
        return value.astype(np.float64)
    return value


def _in_place(name: str) -> Callable[..., None]:
    step = getattr(ops, name)

    def call(*args, **keywords):
        step(*args, **keywords)  # what it returns is about the step, not a result

    return call


def _normal(rng, shape, dtype, scale=1.0):
    return np.asarray(rng.standard_normal(shape) * scale).astype(dtype)


def _vector(rng, n, dtype, low=0.5, high=1.5):
    """Per-channel values: float32 with 16-bit arrays, as PyTorch keeps them."""
    return rng.uniform(low, high, n).astype(computing(dtype))


# ------------------------------------------------------------------------------------ elementwise

SIZES = [0, 1, 3, 15, 16, 17, 31, 33, 63, 65, 1023, 1025, 65539]
SHAPES = [(n,) for n in SIZES] + [(), (3, 5, 7), (4, 0, 2), (129, 33)]
BENCH = [(1 << 16,), (1 << 20,), (1 << 24,)]

# Sizes of a float64 result are judged in eps of the computing type; one eps = one or two ulp.
EXACT = Tolerance(0, why="no rounding at all, or one that the reference makes too")
ROUNDED = Tolerance(1.5, why="the slope is rounded to the computing type, then the product")
CURVES = {
    "sigmoid": Tolerance(4, why="exp to about one eps, a sum and a quotient"),
    "tanh": Tolerance(8, why="a rational form of 2.3 eps; the gradient squares 1 + exp"),
    "gelu": Tolerance(8, 2, why="Φ = (1 + erf)/2 cancels for x < 0"),
    "silu": Tolerance(4, why="exp to about one eps, a product, a sum and a quotient"),
    "silu_backward": Tolerance(8, 2, why="σ·(1 + x·(1 - σ)) cancels beside its zero, x = -1.28"),
    "gelu_backward": Tolerance(8, 4, why="Φ cancels for x < 0; the tanh form has no cancellation"),
}


def _activation_rows():
    sweeps = {
        "leaky_relu": [{}, {"negative_slope": 0.25}, {"negative_slope": -0.5}],
        "gelu": [{}, {"approximate": "tanh"}],
    }
    for name in ref.ACTIVATIONS:
        steps = ROUNDED if name == "leaky_relu" else EXACT
        yield Case(
            name,
            getattr(ops, name),
            lambda rng, shape, dtype, **_: (_normal(rng, shape, dtype, 3),),
            functools.partial(ref.activation, name),
            CURVES.get(name, steps),
            lambda s: 2 * s,
            SHAPES,
            BENCH,
            sweeps.get(name, [{}]),
            out=True,
            alias=(0,),
        )
        yield Case(
            f"{name}_backward",
            getattr(ops, f"{name}_backward"),
            lambda rng, shape, dtype, **_: (
                _normal(rng, shape, dtype),
                _normal(rng, shape, dtype, 3),
            ),
            functools.partial(ref.activation_backward, name),
            CURVES.get(f"{name}_backward", CURVES.get(name, steps)),
            lambda s, reads=1 if name == "identity" else 2: (reads + 1) * s,
            SHAPES,
            BENCH,
            sweeps.get(name, [{}]),
            out=True,
            alias=(0, 1),
        )


DROPOUT = [
    {"p": 0.5, "seed": 1},
    {"p": 0.1, "seed": 2**64 - 3, "offset": 7},
    {"p": 0.7, "seed": 2**33 + 5, "offset": 2**64 - 1},
    {"p": 0.0, "seed": 3},
    {"p": 1.0, "seed": 3},
]


def _dropout_rows():
    for name in ("dropout", "dropout_backward"):
        yield Case(
            name,
            getattr(ops, name),
            lambda rng, shape, dtype, **_: (_normal(rng, shape, dtype),),
            ref.dropout,
            Tolerance(1, why="the scale is rounded once, the product once"),
            lambda s: 2 * s,
            [*SHAPES, (5, 4097)],
            BENCH,
            DROPOUT,
            {"p": 0.5, "seed": 1},
            out=True,
            alias=(0,),
        )
    yield Case(
        "dropout_mask",
        ops.dropout_mask,
        lambda rng, shape, dtype, **_: (shape,),
        ref.dropout_mask,
        EXACT,
        lambda s: 1,
        SHAPES,
        BENCH,
        [*DROPOUT, {"p": 0.3, "seed": 8, "packed": True}],
        {"p": 0.5, "seed": 1},
    )


# -------------------------------------------------------------------------- along a channel axis

CHANNEL_SHAPES = [(1, 1), (4, 3), (33, 17), (2, 1025), (65, 129), (1, 5), (0, 3), (2, 3, 7, 7)]
CHANNEL_SHAPES += [(2, 5, 1, 1), (3, 16, 9), (2, 17, 33), (1031, 67), (2, 3, 2, 3, 2)]
CHANNEL_BENCH = [(256, 1024), (4096, 512), (32, 64, 56, 56)]

TAILS = [
    {},
    {"activation": "relu"},
    {"activation": ("leaky_relu", {"negative_slope": 0.2}), "dropout_p": 0.3, "seed": 5},
    {"activation": "gelu", "dropout_p": 0.5, "seed": 6, "offset": 9},
    {"activation": ("gelu", {"approximate": "tanh"})},
    {"activation": "sigmoid", "dropout_p": 0.1, "seed": 2**40},
    {"activation": "tanh"},
]


def _bias_act_rows():
    def make(rng, shape, dtype, axis=1, **_):
        return _normal(rng, shape, dtype, 2), _vector(rng, shape[axis], dtype, -1, 1)

    def make_backward(rng, shape, dtype, axis=1, **_):
        return (_normal(rng, shape, dtype), *make(rng, shape, dtype, axis))

    options = [*TAILS, {"axis": -1, "activation": "relu"}, {"axis": 0, "activation": "tanh"}]
    bench = {"activation": "gelu", "dropout_p": 0.1, "seed": 1}
    yield Case(
        "bias_act",
        ops.bias_act,
        make,
        ref.bias_act,
        Tolerance(8, 3, why="the activation's own, one sum before it and one product after it"),
        lambda s: 2 * s,
        CHANNEL_SHAPES,
        CHANNEL_BENCH,
        options,
        bench,
        out=True,
        alias=(0,),
    )
    yield Case(
        "bias_act_backward",
        ops.bias_act_backward,
        make_backward,
        ref.bias_act_backward,
        Tolerance(12, 40, why="the activation's own, once a term; sums over a channel cancel"),
        lambda s: 3 * s,
        CHANNEL_SHAPES,
        CHANNEL_BENCH,
        options,
        bench,
        out=True,
        alias=(0,),
    )


# One value a channel is an error in training, hence no (1, C).
NORM_SHAPES = [(2, 1), (4, 3), (33, 17), (2, 1025), (65, 129), (1031, 67), (0, 3), (0, 3, 2, 2)]
NORM_SHAPES += [(3, 5, 1, 1), (1, 2, 2), (2, 3, 7, 7), (4, 7, 5, 3), (3, 16, 9), (2, 67, 33)]
NORM_SHAPES += [(2, 3, 2, 3, 2), (2, 2, 149, 151), (5, 513, 7, 7)]
NORM_BENCH = [(256, 1024), (64, 128), (32, 64, 56, 56), (64, 256, 14, 14), (8, 512, 7, 7)]


def _batch_norm_rows():
    def make(
        rng,
        shape,
        dtype,
        channels_last=False,
        with_residual=False,
        with_affine=True,
        with_running=True,
        **_,
    ):
        c = shape[1]
        x = _normal(rng, shape, dtype) * np.asarray(1.5, dtype) + np.asarray(0.75, dtype)
        r = _normal(rng, shape, dtype) if with_residual else None
        if channels_last:
            x, r = (None if a is None else np.moveaxis(a, 1, -1).copy() for a in (x, r))
        w = _vector(rng, c, dtype) if with_affine else None
        b = _vector(rng, c, dtype, -1, 1) if with_affine else None
        mean = _vector(rng, c, dtype) if with_running else None
        var = _vector(rng, c, dtype) if with_running else None
        return x, w, b, mean, var, r

    def make_backward(rng, shape, dtype, **options):
        inputs = make(rng, shape, dtype, **options)
        return (_normal(rng, inputs[0].shape, dtype), *inputs)

    def run(x, w, b, mean, var, residual, **options):
        return ops.batch_norm(x, w, b, mean, var, residual=residual, **options)[0]

    def forward(dy, x, w, b, mean, var, residual, **options):
        if options["training"]:  # then they are outputs, which are not this row's
            mean = var = None
        return dy, ops.batch_norm(x, w, b, mean, var, residual=residual, **options)[1]

    def expect(x, w, b, mean, var, residual, **options):
        norm = ref.BatchNorm(x, w, b, mean, var, residual=residual, **options)
        return norm.y, norm.running_mean, norm.running_var

    def expect_backward(dy, x, w, b, mean, var, residual, **options):
        grads = ref.BatchNorm(x, w, b, mean, var, residual=residual, **options).backward(dy)
        return grads if residual is not None else grads[:3]

    options = [{"training": True, **tail} for tail in TAILS]
    options += [
        {"training": True, "channels_last": True, "activation": "relu", "with_residual": True},
        {"training": True, "with_residual": True, "momentum": 0.3, "eps": 1e-2, "dropout_p": 0.2},
        {"training": True, "with_affine": False, "with_running": False, "channels_last": True,
         "activation": "gelu", "dropout_p": 0.5, "seed": 4, "offset": 11, "with_residual": True},
        {"training": True, "with_affine": False, "activation": "leaky_relu"},
        {"training": False, "activation": "relu", "dropout_p": 0.5, "with_residual": True},
        {"training": False, "channels_last": True, "activation": "tanh", "with_affine": False},
    ]  # fmt: skip
    bench = {"training": True, "activation": "relu"}
    why = (
        "double statistics; centring, scaling and shifting in the computing type, where xh·w and b"
    )
    why += " may cancel; the activation"
    yield Case(
        "batch_norm",
        run,
        make,
        expect,
        Tolerance(6, 6, why=why, sums=8),
        lambda s: 2 * s,
        NORM_SHAPES,
        NORM_BENCH,
        options,
        bench,
        written=(3, 4),
        out=True,
    )
    yield Case(
        "batch_norm_backward",
        lambda dy, saved, out=None, **_: ops.batch_norm_backward(dy, saved, out=out),
        make_backward,
        expect_backward,
        Tolerance(
            16, 40, why=why + "; the three terms of dx and sums over a channel cancel", sums=8
        ),
        lambda s: 3 * s,
        # Of two values in a channel nothing is left of dx: test_kernels has them on their own.
        [s for s in NORM_SHAPES if math.prod(s) != 2 * s[1]] + [(4, 1), (3, 1025)],
        NORM_BENCH,
        options,
        bench,
        prepare=forward,
        out=True,
        alias=(0,),
    )


# ----------------------------------------------------------------------------------------- losses


ROW_SHAPES = [(1, 1), (3, 2), (17, 10), (5, 33), (64, 10), (7, 1023), (3, 65), (1025, 16)]
ROW_SHAPES += [(2, 65539), (2, 4, 5), (33, 17, 3), (2, 3, 4, 5), (2, 31, 7, 7)]


def _cross_entropy_row():
    def make(
        rng, shape, dtype, with_probabilities=False, with_weight=False, with_ignored=None, **_
    ):
        n, c, *rest = shape
        logits = _normal(rng, shape, dtype, 3)
        weight = _vector(rng, c, dtype) if with_weight else None
        if with_probabilities:
            target = rng.dirichlet(np.ones(c), (n, *rest)).astype(dtype)
            return logits, np.moveaxis(target, -1, 1).copy(), weight
        target = rng.integers(0, c, (n, *rest))
        if with_ignored is not None:
            target = np.where(rng.random((n, *rest)) < 0.4, with_ignored, target)
        return logits, target, weight

    return Case(
        "cross_entropy",
        lambda logits, target, weight, **o: ops.cross_entropy(
            logits, target, weight=weight, **o
        ),
        make,
        lambda logits, target, weight, **o: ref.cross_entropy(logits, target, weight=weight, **o),
        Tolerance(8, 8, why="exp of a difference with the largest logit, whose rounding exp turns"
                  " into a relative error; p - t cancels", sums=4),
        lambda s: 2 * s,
        ROW_SHAPES,
        [(64, 10), (256, 1000), (4096, 1024)],
        [
            {},
            {"reduction": "sum"},
            {"reduction": "none"},
            {"label_smoothing": 0.1, "with_weight": True},
            {"with_ignored": -100, "with_weight": True, "label_smoothing": 0.2},
            {"with_ignored": 0, "ignore_index": 0, "reduction": "none", "label_smoothing": 0.3},
            {"with_probabilities": True},
            {"with_probabilities": True, "label_smoothing": 0.1, "with_weight": True},
            {"with_probabilities": True, "reduction": "none", "with_weight": True},
        ],
    )  # fmt: skip


def _norm_row():
    return Case(
        "global_norm",
        ops.global_norm,
        lambda rng, shape, dtype, **_: (_tensors(rng, shape, dtype),),
        lambda arrays, **o: np.asarray(ref.global_norm(arrays, **o)),
        Tolerance(0.5, why="squares in the computing type, partial sums, then double", sums=8),
        lambda s: s,
        SHAPES,
        BENCH,
        [{}, {"ord": 1}, {"ord": math.inf}],
    )


# ------------------------------------------------------------------------------------- optimizers


def _tensors(rng, shape, dtype, scale=1.0):
    """The shape asked for, a small one and an empty one at the end: lists are where updates go
    missing."""
    return [_normal(rng, s, dtype, scale) for s in (shape, (5, 3), (0,))]


def _update_rows():
    def make(states):
        def inputs(rng, shape, dtype, **_):
            state = [_tensors(rng, shape, computing(dtype)) for _ in states]
            for arrays, name in zip(state, states, strict=True):
                if "sq" in name:  # second moments: not negative, of the size of g²
                    arrays[:] = [np.asarray(np.abs(a) + 0.1, a.dtype) for a in arrays]
            return (_tensors(rng, shape, dtype), _tensors(rng, shape, dtype), *state)

        return inputs

    def per_tensor(rule, state_count):
        def expect(params, grads, *states, **options):
            done = [rule(*arrays, **options) for arrays in zip(params, grads, *states, strict=True)]
            return tuple([d[i] for d in done] for i in (0, *range(1, 1 + state_count)))

        return expect

    why = "a handful of roundings of terms no larger than p; g + wd·p and m may cancel"
    sgd = [
        {"step": 2, "lr": 0.1, "weight_decay": 0.01},
        {"step": 1, "lr": 0.1, "maximize": True},
    ]
    momentum = [
        {"step": 1, "lr": 0.1, "momentum": 0.9, "dampening": 0.5},
        {"step": 7, "lr": 0.1, "momentum": 0.9, "dampening": 0.5, "weight_decay": 0.01},
        {"step": 2, "lr": 0.1, "momentum": 0.8, "nesterov": True, "maximize": True},
    ]
    adam = [
        {"step": 1, "lr": 0.1, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0},
        {"step": 9, "lr": 0.05, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1},
        {"step": 10**6, "lr": 0.01, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.01,
         "maximize": True},
    ]  # fmt: skip
    rmsprop = [{"lr": 0.1}, {"lr": 0.05, "alpha": 0.9, "eps": 1e-3, "weight_decay": 0.1}]
    moments, largest = ("exp_avgs", "exp_avg_sqs"), ("exp_avgs", "exp_avg_sqs", "max_exp_avg_sqs")
    for name, op, states, rule, options in (
        ("sgd", "sgd_", (), ref.sgd, sgd),
        ("sgd_momentum", "sgd_", ("momentum_buffers",), ref.sgd, momentum),
        ("adam", "adam_", moments, ref.adam, adam),
        ("adam_amsgrad", "adam_", largest, ref.adam, adam),
        ("adamw", "adamw_", moments, ref.adamw, adam),
        ("adamw_amsgrad", "adamw_", largest, ref.adamw, adam),
        ("rmsprop", "rmsprop_", ("square_avgs",), ref.rmsprop, rmsprop),
    ):
        n = len(states)
        yield Case(
            name,
            _in_place(op),
            make(states),
            per_tensor(rule, n),
            Tolerance(4, 2, why=why),
            lambda s, n=n: 3 * s + 2 * n * max(s, 4),
            SHAPES,
            BENCH,
            options,
            options[-1],
            written=(0, *range(2, 2 + n)),
        )


CASES: list[Case] = [
    *_activation_rows(),
    *_dropout_rows(),
    *_bias_act_rows(),
    *_batch_norm_rows(),
    _cross_entropy_row(),
    _norm_row(),
    *_update_rows(),
]
BY_NAME = {case.name: case for case in CASES}
