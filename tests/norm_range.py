"""Batch norm at the ends of the dtype's range, against a reference in long double, whose exponents
reach 1e4932: for test_norm_range.py and the simulator."""

from __future__ import annotations

import numpy as np
import pytest
from cases.norms import BatchNorm
from onepass import ops

wide = pytest.mark.skipif(
    np.finfo(np.longdouble).maxexp < 8192, reason="long double reaches no further than double"
)
# At the top of the range 1/√variance is a subnormal, which holds 46 (float32: 21) bits.
ERROR = {"float64": 2.0**-44, "float32": 2.0**-19}
TOP = {"float64": [1e150, 1e200, 1e300, 1.5e308], "float32": [1e18, 1e30, 3e38]}
EPILOGUES = {
    "plain": {},
    "relu": {"activation": "relu"},
    "relu, dropout": {"activation": "relu", "dropout_p": 0.5, "seed": 3},
    "dropout": {"dropout_p": 0.25, "seed": 4},
    "tanh": {"activation": "tanh"},
    "residual, sigmoid, dropout": {"activation": "sigmoid", "dropout_p": 0.25, "residual": True},
    "residual, relu": {"activation": "relu", "residual": True},
}


def close(got, want, dtype, what, *, axis=None, bound=None):
    """Each channel within ERROR of its largest value; results beyond the dtype are Inf."""
    limit = np.finfo(dtype).max
    others = None if axis is None else tuple(i for i in range(want.ndim) if i != axis)
    peak = np.max(np.abs(want), axis=others, keepdims=True) if axis is not None else np.abs(want)
    fits = np.abs(want) <= limit
    assert np.isfinite(got[fits]).all(), f"{what}: {got[fits & ~np.isfinite(got)][:3]}"
    assert (got[~fits] == np.sign(want[~fits]) * np.inf).all(), what
    error = np.where(fits, np.abs(np.where(fits, got, 0) - np.where(fits, want, 0)), 0)
    allowed = (bound or ERROR[dtype]) * peak + 4 * np.finfo(dtype).tiny
    assert (error <= allowed).all(), f"{what}: {(error / allowed).max()} of what is allowed"


def arrays(shape, last, dtype, magnitude, gradient, seed=0):
    rng = np.random.default_rng(seed)
    channels = shape[-1 if last else 1]
    x = (rng.uniform(-1, 1, shape) * magnitude).astype(dtype)
    dy = (rng.uniform(-1, 1, shape) * gradient).astype(dtype)
    w, b = rng.uniform(0.5, 2, (2, channels)).astype(dtype)
    residual = rng.standard_normal(shape).astype(dtype)
    return x, dy, w, b, residual


def run(x, dy, w, b, residual, epilogue, last, in_place=False, **options):
    """y, the moved running statistics, dx, dweight, dbias (and dresidual)."""
    epilogue = dict(epilogue)
    if epilogue.get("residual"):
        epilogue["residual"] = residual
    mean, var = np.zeros(len(w), w.dtype), np.ones(len(w), w.dtype)
    options = {"training": True, **options}
    y, saved = ops.batch_norm(
        x, w, b, mean, var, momentum=0.5, channels_last=last, **options, **epilogue
    )
    dy = dy.copy()
    grads = ops.batch_norm_backward(dy, saved, out=dy if in_place else None)
    return [y, mean, var, *(g for g in grads if g is not None)]


def reference(x, dy, w, b, residual, epilogue, last, **options):
    epilogue = dict(epilogue)
    if epilogue.get("residual"):
        epilogue["residual"] = residual.astype(np.longdouble)
    x, dy, w, b = (a.astype(np.longdouble) for a in (x, dy, w, b))
    mean, var = np.zeros(len(w), np.longdouble), np.ones(len(w), np.longdouble)
    options = {"training": True, **options}
    norm = BatchNorm(x, w, b, mean, var, momentum=0.5, channels_last=last, **options, **epilogue)
    dx, dweight, dbias, dresidual = norm.backward(dy)
    all_ = [norm.y, norm.running_mean, norm.running_var, dx, dweight, dbias]
    return all_ if dresidual is None else [*all_, dresidual]


NAMES = ["y", "running_mean", "running_var", "dx", "dweight", "dbias", "dresidual"]


def compare(got, want, dtype, last, what):
    for name, g, w in zip(NAMES, got, want, strict=False):
        axis = None if w.ndim == 1 else (w.ndim - 1 if last else 1)
        # A sum of n terms that cancel is as exact as its terms.
        bound = 2.0**-8 if name in ("dweight", "dbias", "running_mean") else None
        if name in ("dweight", "dbias", "running_mean"):
            scale = np.max(np.abs(w)) if w.size else 0
            limit = np.finfo(dtype).max
            if scale <= limit:
                assert (
                    np.abs(g - w) <= ERROR[dtype] * 64 * scale + 4 * np.finfo(dtype).tiny
                ).all(), f"{what} {name}: {g} {w}"
                continue
        close(g, w, dtype, f"{what} {name}", axis=axis, bound=bound)
