"""Keras: its optimizers, activations and norms, on the backend that it has been set to. The moving
variance of its batch norm is that of n values, not of n - 1.

Without KERAS_BACKEND it gets JAX, compiled, where that is installed, and PyTorch, eager, elsewhere:
its default is TensorFlow. Labels name the backend.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Sequence
from typing import Any

from onepass.bench._peers import _jax, _torch
from onepass.bench._peers._library import (
    CLASSES_ALONE,
    Functions,
    Lacks,
    Lazily,
    Library,
    Step,
    Steps,
    only,
)

jax: Any = Lazily("jax")
keras: Any = Lazily("keras")


def _choose() -> None:
    if "KERAS_BACKEND" not in os.environ:
        os.environ["KERAS_BACKEND"] = "jax" if importlib.util.find_spec("jax") else "torch"


def _backend() -> str:
    backend = str(keras.backend.backend())
    if backend not in ("jax", "torch"):
        raise Lacks(f"its backend is {backend}; set KERAS_BACKEND to jax or torch")
    return backend


def _layer(cls: str, x: Any, w: Any, b: Any, axis: Any, eps: float, **more: Any) -> Any:
    """A layer of keras.layers with these weights."""
    layer = getattr(keras.layers, cls)(axis=axis, epsilon=eps, **more)
    layer.build(x.shape)
    layer.gamma.assign(w)
    if b is not None:
        layer.beta.assign(b)
    return layer


def _batch_norm(x: Any, w: Any, b: Any, mean: Any, var: Any, residual: Any, *, training: bool,
                momentum: float = 0.1, eps: float = 1e-5, channels_last: bool = False,
                activation: Any = None, **behind: Any) -> Any:  # fmt: skip
    only(behind, dropout_p=0.0, activation=None)
    if residual is not None or not training or activation not in (None, "relu"):
        raise Lacks("only training, with or without ReLU, is written in Keras here")
    layer = _layer("BatchNormalization", x, w, b, -1 if channels_last else 1, eps,
                   momentum=1 - momentum)  # fmt: skip
    layer.moving_mean.assign(mean)
    layer.moving_variance.assign(var)
    return layer, activation


def _layer_norm(x: Any, w: Any, b: Any, residual: Any, *, axes: int = 1, eps: float = 1e-5) -> Any:
    axis = list(range(-axes, 0))
    return _layer("LayerNormalization", x, w, b, axis, eps), None


def _rms_norm(x: Any, w: Any, b: Any, residual: Any, *, axes: int = 1, eps: float = 1e-5) -> Any:
    layer = keras.layers.RMSNormalization(axis=list(range(-axes, 0)), epsilon=eps)
    layer.build(x.shape)
    layer.scale.assign(w)
    return layer, None


_NORMS: dict[str, Callable[..., Any]] = {
    "batch_norm": _batch_norm,
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
}
_ACTIVATIONS: dict[str, Callable[..., Any]] = {
    "relu": lambda x: keras.ops.relu(x),
    "leaky_relu": lambda x, negative_slope=0.01: keras.ops.leaky_relu(x, negative_slope),
    "sigmoid": lambda x: keras.ops.sigmoid(x),
    "tanh": lambda x: keras.ops.tanh(x),
    "gelu": lambda x, approximate="none": keras.ops.gelu(x, approximate=approximate == "tanh"),
    "silu": lambda x: keras.ops.silu(x),
    "selu": lambda x: keras.ops.selu(x),
    "mish": lambda x: keras.activations.mish(x),
    "elu": lambda x, alpha=1.0: keras.ops.elu(x, alpha),
    "relu6": lambda x: keras.ops.relu6(x),
    "softsign": lambda x: keras.ops.softsign(x),
    "softmax": lambda x, axis=-1: keras.ops.softmax(x, axis),
    "log_softmax": lambda x, axis=-1: keras.ops.log_softmax(x, axis),
}


def kernel(case: Any, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> Functions:
    backend = _backend()
    if case.name in _NORMS:
        layer, activation = _NORMS[case.name](*inputs, **keywords)
        function = _of_layer(layer, activation)
    else:
        function = lambda x: _ACTIVATIONS[case.name](x, **keywords)  # noqa: E731
    return {f"keras {backend}": _called(backend, function, inputs[0])}


def _of_layer(layer: Any, activation: Any) -> Callable[[Any], Any]:
    """y, and the running statistics after it where the layer has them."""
    held = [v.value for v in layer.trainable_variables]
    kept = [v.value for v in layer.non_trainable_variables]

    def function(x: Any) -> Any:
        y, new = layer.stateless_call(held, kept, x, **({"training": True} if kept else {}))
        y = keras.ops.relu(y) if activation == "relu" else y
        return (y, *new) if kept else y

    return function


def _called(backend: str, function: Callable[[Any], Any], x: Any) -> Callable[[], Any]:
    if backend == "jax":
        compiled, given = jax.jit(function), _jax.on_device(x)
        return lambda: jax.block_until_ready(compiled(given))
    given = keras.ops.convert_to_tensor(x)

    def call() -> Any:
        import torch

        with torch.no_grad():
            return function(given)

    return call


# ------------------------------------------------------------------------------------- optimizers


def _adam(name: str) -> Callable[[dict[str, Any]], Any]:
    def make(o: dict[str, Any]) -> Any:
        b1, b2 = only(o, amsgrad=False, bias_correction=True)["betas"]
        decay = o["weight_decay"] if name == "AdamW" else only(o, weight_decay=0.0) and 0.0
        more = {"weight_decay": decay} if decay else {}
        make = getattr(keras.optimizers, name)
        return make(o["lr"], beta_1=b1, beta_2=b2, epsilon=o["eps"], **more)

    return make


def _sgd(o: dict[str, Any]) -> Any:
    o = only(o, weight_decay=0.0, dampening=0.0)
    return keras.optimizers.SGD(o["lr"], o["momentum"], o["nesterov"])


def _lion(o: dict[str, Any]) -> Any:
    return keras.optimizers.Lion(o["lr"], *o["betas"], weight_decay=o["weight_decay"] or None)


def _adadelta(o: dict[str, Any]) -> Any:
    return keras.optimizers.Adadelta(o["lr"], o["rho"], only(o, weight_decay=0.0)["eps"])


# Those that follow the same formula; an epsilon inside the root or beside the uncorrected average
# counts as the same.
_OPTIMIZERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "sgd": _sgd,
    "sgd_momentum": _sgd,
    "adam": _adam("Adam"),
    "adamw": _adam("AdamW"),
    "adamax": _adam("Adamax"),
    "lion": _lion,
    "adadelta": _adadelta,
}


def steps(
    variant: Any, params: Sequence[Any], grads: Sequence[Any], options: dict[str, Any]
) -> Steps:
    backend = _backend()
    given = only(variant.record.complete(options), maximize=False, decoupled_weight_decay=False)
    optimizer = _OPTIMIZERS[variant.name](given)
    variables = [keras.Variable(p) for p in params]
    optimizer.build(variables)
    label = f"keras {backend}"
    if backend == "torch":
        slopes = [keras.ops.convert_to_tensor(g) for g in grads]

        def eager() -> None:
            optimizer.apply(slopes, variables)

        return {label: Step(eager, lambda: [v.value.detach() for v in variables])}
    compiled = jax.jit(
        lambda held, state, slopes: optimizer.stateless_apply(state, slopes, held),
        donate_argnums=(0, 1),
    )
    slopes = _jax.on_device(list(grads))
    held: list[Any] = _jax.on_device(list(params))
    state = _jax.on_device([v.value for v in optimizer.variables])

    def step() -> None:
        nonlocal held, state
        held, state = jax.block_until_ready(compiled(held, state, slopes))

    return {label: Step(step, lambda: held)}


def functional(
    variant: Any, params: Sequence[Any], grads: Sequence[Any], options: dict[str, Any]
) -> Steps:
    if _backend() == "torch":
        raise Lacks(CLASSES_ALONE)
    return steps(variant, params, grads, options)  # compiled: nothing of the class is left


def pin(threads: int) -> None:
    (_jax if _backend() == "jax" else _torch).pin(threads)


LIBRARY = Library(
    "keras",
    module="keras",
    install="keras",
    kernels=[*_NORMS, *_ACTIVATIONS],
    optimizers=list(_OPTIMIZERS),
    kernel=kernel,
    steps=steps,
    functional=functional,
    pin=pin,
    before=_choose,
)
