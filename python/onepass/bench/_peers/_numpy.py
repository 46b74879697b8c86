"""NumPy: the expressions that a user would write, in place where that reads as well.

Those of activations stand in their records in tests/cases.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from onepass._streams import Function
from onepass.bench._peers._library import Functions, Lacks, Library, Step, Steps, copied, only
from onepass.bench._records import cases

_LABEL, _INTO = "numpy", "numpy out="
_ACTIVATIONS = {
    name: record.numpy
    for name, record in cases.activations.BY_NAME.items()
    if record.numpy is not None
}

# ---------------------------------------------------------------------------------------- kernels


def _batch_norm(x: Any, w: Any, b: Any, mean: Any, var: Any, residual: Any, *, training: bool,
                momentum: float = 0.1, eps: float = 1e-5, activation: Any = None,
                **more: Any) -> Any:  # fmt: skip
    only(more, channels_last=False, dropout_p=0.0)
    if residual is not None or not training or activation not in (None, "relu"):
        raise Lacks("only training, with or without ReLU, is written in NumPy here")
    axes = (0, *range(2, x.ndim))
    wide = [1, -1, *[1] * (x.ndim - 2)]
    n = x.size // x.shape[1]
    here, spread = x.mean(axes), x.var(axes)
    y = x - here.reshape(wide)
    y *= (w / np.sqrt(spread + np.float32(eps))).reshape(wide)
    y += b.reshape(wide)
    if activation == "relu":
        np.maximum(y, 0, out=y)
    mean += momentum * (here - mean)
    var += momentum * (spread * (n / (n - 1)) - var)
    return y, mean, var


def _layer_norm(x: Any, w: Any, b: Any, residual: Any, *, axes: int = 1, eps: float = 1e-5) -> Any:
    last = tuple(range(x.ndim - axes, x.ndim))
    y = x - x.mean(last, keepdims=True)
    y /= np.sqrt((y * y).mean(last, keepdims=True) + np.float32(eps))
    y *= w
    y += b
    return y


def _rms_norm(x: Any, w: Any, b: Any, residual: Any, *, axes: int = 1, eps: float = 1e-5) -> Any:
    last = tuple(range(x.ndim - axes, x.ndim))
    y = x / np.sqrt((x * x).mean(last, keepdims=True) + np.float32(eps))
    y *= w
    return y


def _softmax(x: Any, axis: int = -1) -> Any:
    e = np.exp(x - x.max(axis, keepdims=True))
    e /= e.sum(axis, keepdims=True)
    return e


def _log_softmax(x: Any, axis: int = -1) -> Any:
    y = x - x.max(axis, keepdims=True)
    y -= np.log(np.exp(y).sum(axis, keepdims=True))
    return y


def _mse_loss(x: Any, target: Any, weight: Any) -> Any:
    d = x - target
    loss = np.square(d).mean()
    d *= np.float32(2 / d.size)
    return loss, d


def _l1_loss(x: Any, target: Any, weight: Any) -> Any:
    d = x - target
    return np.abs(d).mean(), np.sign(d) * np.float32(1 / d.size)


def _cross_entropy(x: Any, target: Any, weight: Any) -> Any:
    rows = np.arange(len(x))
    logarithms = _log_softmax(x, 1)
    loss = -logarithms[rows, target].mean()
    gradient = np.exp(logarithms)
    gradient[rows, target] -= 1
    gradient /= len(x)
    return loss, gradient


_KERNELS: dict[str, Callable[..., Any]] = {
    "batch_norm": _batch_norm,
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "softmax": _softmax,
    "log_softmax": _log_softmax,
    "mse_loss": _mse_loss,
    "l1_loss": _l1_loss,
    "cross_entropy": _cross_entropy,
    "global_norm": lambda arrays: np.sqrt(sum(np.vdot(a, a) for a in arrays)),
}


def _dropout(x: Any, p: float, **_: Any) -> Function:
    rng, out = np.random.default_rng(0), np.empty_like(x)
    scale = x.dtype.type(1 / (1 - p)) if p < 1 else x.dtype.type(0)
    return lambda: np.multiply(x, (rng.random(x.shape, np.float32) >= p) * scale, out=out)


def _activation(name: str, x: Any) -> Function:
    out = np.empty_like(x)

    def call() -> Any:
        _ACTIVATIONS[name](x, out)
        return out

    return call


def kernel(case: Any, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> Functions:
    if case.name == "dropout":
        return {_INTO: _dropout(inputs[0], **keywords)}
    if case.name in _ACTIVATIONS:
        if keywords:
            raise Lacks("only the default form is written in NumPy here")
        return {_INTO: _activation(case.name, inputs[0])}
    _check_wide(inputs)
    own = [np.array(a) if isinstance(a, np.ndarray) else a for a in inputs]
    return {_LABEL: lambda: _KERNELS[case.name](*own, **keywords)}


def _check_wide(arrays: Sequence[Any]) -> None:
    """Without sums: NumPy adds up 16 bits in 16 bits."""
    for array in arrays:
        if isinstance(array, np.ndarray) and array.dtype.itemsize < 4:
            raise Lacks(f"not in {array.dtype}")


# -------------------------------------------------------------------------------------- optimizers


def _sgd(params: list[Any], grads: list[Any], o: dict[str, Any]) -> Function:
    o = only(o, weight_decay=0.0, maximize=False)

    def step() -> None:
        for p, g in zip(params, grads, strict=True):
            p -= o["lr"] * g

    return step


def _momentum(params: list[Any], grads: list[Any], o: dict[str, Any]) -> Function:
    o = only(o, weight_decay=0.0, maximize=False, dampening=0.0, nesterov=False)
    buffers = [np.zeros_like(p) for p in params]

    def step() -> None:
        for p, g, buffer in zip(params, grads, buffers, strict=True):
            buffer *= o["momentum"]
            buffer += g
            p -= o["lr"] * buffer

    return step


def _adam(params: list[Any], grads: list[Any], o: dict[str, Any]) -> Function:
    o = only(o, maximize=False, amsgrad=False, bias_correction=True, decoupled_weight_decay=False)
    return _adam_step(params, only(o, weight_decay=0.0) | {"weight_decay": 0.0}, grads)


def _adamw(params: list[Any], grads: list[Any], o: dict[str, Any]) -> Function:
    o = only(o, maximize=False, amsgrad=False, bias_correction=True)
    return _adam_step(params, o, grads)


def _adam_step(params: list[Any], o: dict[str, Any], grads: list[Any]) -> Function:
    lr, (b1, b2), eps, decay = (o[name] for name in ("lr", "betas", "eps", "weight_decay"))
    averages, squares = ([np.zeros_like(p) for p in params] for _ in range(2))
    count = 0

    def step() -> None:
        nonlocal count
        count += 1
        size, root = lr / (1 - b1**count), (1 - b2**count) ** 0.5
        for p, g, m, v in zip(params, grads, averages, squares, strict=True):
            if decay:
                p *= 1 - lr * decay
            m *= b1
            m += (1 - b1) * g
            v *= b2
            v += (1 - b2) * (g * g)
            p -= size * m / (np.sqrt(v) / root + eps)

    return step


_OPTIMIZERS: dict[str, Callable[..., Function]] = {
    "sgd": _sgd,
    "sgd_momentum": _momentum,
    "adam": _adam,
    "adamw": _adamw,
}


def steps(
    variant: Any, params: Sequence[Any], grads: Sequence[Any], options: dict[str, Any]
) -> Steps:
    _check_wide(params)
    given = variant.record.complete(options)
    held = copied(params)
    run = _OPTIMIZERS[variant.name](held, copied(grads), given)
    return {_LABEL: Step(run, lambda: held)}


LIBRARY = Library(
    "numpy",
    module="numpy",
    install="numpy",
    kernels=[*_KERNELS, *_ACTIVATIONS, "dropout"],
    optimizers=list(_OPTIMIZERS),
    kernel=kernel,
    steps=steps,
    functional=steps,
    dtypes=("float32", "float64", "float16", "bfloat16"),
)
