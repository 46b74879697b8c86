"""JAX: the same formulas as a user of JAX writes them, compiled by jax.jit."""

from __future__ import annotations

import contextlib
import importlib
import math
import os
from collections.abc import Callable, Sequence
from typing import Any

from onepass._streams import Function
from onepass.bench._peers._library import Functions, Lacks, Lazily, Library, only

jax: Any = Lazily("jax")
jnp: Any = Lazily("jax.numpy")
nn: Any = Lazily("jax.nn")

LABEL = "jax jit"


# ------------------------------------------------------------------------------------ the formulas


def _softplus(x: Any, **options: Any) -> Any:
    only(options, beta=1.0, threshold=20.0)
    return nn.softplus(x)


_ACTIVATIONS: dict[str, Callable[..., Any]] = {
    "relu": lambda x: nn.relu(x),
    "leaky_relu": lambda x, negative_slope=0.01: nn.leaky_relu(x, negative_slope),
    "sigmoid": lambda x: nn.sigmoid(x),
    "tanh": lambda x: jnp.tanh(x),
    "gelu": lambda x, approximate="none": nn.gelu(x, approximate=approximate == "tanh"),
    "silu": lambda x: nn.silu(x),
    "selu": lambda x: nn.selu(x),
    "mish": lambda x: nn.mish(x),
    "elu": lambda x, alpha=1.0: nn.elu(x, alpha),
    "celu": lambda x, alpha=1.0: nn.celu(x, alpha),
    "softplus": _softplus,
    "relu6": lambda x: nn.relu6(x),
    "hardtanh": lambda x, min_val=-1.0, max_val=1.0: jnp.clip(x, min_val, max_val),
    "hardsigmoid": lambda x: nn.hard_sigmoid(x),
    "hardswish": lambda x: nn.hard_swish(x),
    "softsign": lambda x: nn.soft_sign(x),
    "abs": lambda x: jnp.abs(x),
    "sin": lambda x: jnp.sin(x),
}


def dropped(key: Any, x: Any, p: float, shape: tuple[int, ...] | None = None) -> Any:
    keep = jax.random.bernoulli(key, 1 - p, x.shape if shape is None else shape)
    return jnp.where(keep, x / (1 - p), 0)


def _behind(
    key: Any, y: Any, residual: Any, activation: Any = None, dropout_p: float = 0.0, **options: Any
) -> Any:
    only(options, seed=options.get("seed"), offset=0)
    y = y if residual is None else y + residual
    name, own = activation if isinstance(activation, tuple) else (activation, {})
    y = y if name is None else _ACTIVATIONS[name](y, **own)
    return dropped(key, y, dropout_p) if dropout_p else y


def _beside(v: Any, ndim: int, axis: int) -> Any:
    return v.reshape([-1 if i == axis % ndim else 1 for i in range(ndim)])


def _affine(x: Any, w: Any, b: Any) -> Any:
    x = x if w is None else x * w
    return x if b is None else x + b


def batch_norm(key: Any, x: Any, w: Any, b: Any, mean: Any, var: Any, residual: Any, *,
                training: bool, momentum: float = 0.1, eps: float = 1e-5,
                channels_last: bool = False, **behind: Any) -> Any:  # fmt: skip
    axis = x.ndim - 1 if channels_last else 1
    others = tuple(i for i in range(x.ndim) if i != axis)
    wide = [None if v is None else _beside(v, x.ndim, axis) for v in (w, b)]
    here, spread = (x.mean(others), x.var(others)) if training else (mean, var)
    y = (x - _beside(here, x.ndim, axis)) * _beside(jax.lax.rsqrt(spread + eps), x.ndim, axis)
    y = _behind(key, _affine(y, *wide), residual, **behind)
    if not training or mean is None:
        return y, mean, var
    n = math.prod(x.shape[i] for i in others)
    return y, mean + momentum * (here - mean), var + momentum * (spread * (n / (n - 1)) - var)


def _normalised(x: Any, axes: tuple[int, ...], eps: float) -> Any:
    centred = x - x.mean(axes, keepdims=True)
    return centred * jax.lax.rsqrt((centred * centred).mean(axes, keepdims=True) + eps)


def _layer_norm(key: Any, x: Any, w: Any, b: Any, residual: Any, *, axes: int = 1,
                eps: float = 1e-5, **behind: Any) -> Any:  # fmt: skip
    y = _normalised(x, tuple(range(x.ndim - axes, x.ndim)), eps)
    return _behind(key, _affine(y, w, b), residual, **behind)


def _rms_norm(key: Any, x: Any, w: Any, b: Any, residual: Any, *, axes: int = 1,
              eps: float = 1e-5, **behind: Any) -> Any:  # fmt: skip
    squares = (x * x).mean(tuple(range(x.ndim - axes, x.ndim)), keepdims=True)
    return _behind(key, _affine(x * jax.lax.rsqrt(squares + eps), w, None), residual, **behind)


def _group_norm(key: Any, x: Any, w: Any, b: Any, residual: Any, *, num_groups: int | None = None,
                eps: float = 1e-5, **behind: Any) -> Any:  # fmt: skip
    groups = num_groups or math.gcd(x.shape[1], 4)
    split = x.reshape(x.shape[0], groups, -1)
    y = _normalised(split, (2,), eps).reshape(x.shape)
    wide = [None if v is None else _beside(v, x.ndim, 1) for v in (w, b)]
    return _behind(key, _affine(y, *wide), residual, **behind)


def _instance_norm(key: Any, x: Any, w: Any, b: Any, residual: Any, *, eps: float = 1e-5,
                   **behind: Any) -> Any:  # fmt: skip
    y = _normalised(x, tuple(range(2, x.ndim)), eps)
    wide = [None if v is None else _beside(v, x.ndim, 1) for v in (w, b)]
    return _behind(key, _affine(y, *wide), residual, **behind)


def _bias_act(key: Any, x: Any, bias: Any, *, axis: int = 1, **behind: Any) -> Any:
    return _behind(key, x + _beside(bias, x.ndim, axis), None, **behind)


def _dropout(key: Any, x: Any, *, p: float = 0.5, seed: int = 0, offset: int = 0) -> Any:
    return dropped(key, x, p)


def _feature_dropout(key: Any, x: Any, *, p: float = 0.5, seed: int = 0, offset: int = 0) -> Any:
    return dropped(key, x, p, (*x.shape[:2], *[1] * (x.ndim - 2)))


def _keyless(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda key, *inputs, **keywords: function(*inputs, **keywords)


# f(key, *inputs, **keywords) -> y, or (y, what else is new).
_FORWARD: dict[str, Callable[..., Any]] = {
    **{name: _keyless(function) for name, function in _ACTIVATIONS.items()},
    "batch_norm": batch_norm,
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "group_norm": _group_norm,
    "instance_norm": _instance_norm,
    "bias_act": _bias_act,
    "dropout": _dropout,
    "feature_dropout": _feature_dropout,
    "softmax": _keyless(lambda x, axis=-1: nn.softmax(x, axis)),
    "log_softmax": _keyless(lambda x, axis=-1: nn.log_softmax(x, axis)),
    "glu": _keyless(lambda x, axis=-1: nn.glu(x, axis)),
    "global_norm": _keyless(lambda arrays: jnp.sqrt(sum(jnp.vdot(a, a) for a in arrays))),
}
# How many inputs behind x have a gradient that is returned.
_LEAVES = {"batch_norm": 2, "layer_norm": 2, "rms_norm": 1, "group_norm": 2, "instance_norm": 2}
_LEAVES |= {"bias_act": 1}
_GRADIENTS = [f"{name}_backward" for name in (*_ACTIVATIONS, *_LEAVES, "dropout", "glu")]
_GRADIENTS.append("feature_dropout_backward")


def _of_logits(x: Any, t: Any) -> Any:
    return jnp.maximum(x, 0) - x * t + jnp.log1p(jnp.exp(-jnp.abs(x)))


def _huber(x: Any, t: Any) -> Any:
    d = jnp.abs(x - t)
    return jnp.where(d < 1, 0.5 * d * d, d - 0.5)


def _bce(x: Any, t: Any) -> Any:
    return -t * jnp.maximum(jnp.log(x), -100) - (1 - t) * jnp.maximum(jnp.log1p(-x), -100)


def _divergence(x: Any, t: Any) -> Any:
    return jnp.where(t > 0, t * (jnp.log(jnp.where(t > 0, t, 1)) - x), 0)


def _chosen(x: Any, target: Any) -> Any:
    return -jnp.take_along_axis(x, target[:, None], axis=1)


# The mean of these is the loss.
_LOSSES: dict[str, Callable[[Any, Any], Any]] = {
    "mse_loss": lambda x, t: (x - t) ** 2,
    "l1_loss": lambda x, t: jnp.abs(x - t),
    "smooth_l1_loss": _huber,
    "huber_loss": _huber,
    "bce_loss": _bce,
    "bce_with_logits": _of_logits,
    "kl_div": _divergence,
    "cross_entropy": lambda x, t: _chosen(nn.log_softmax(x, axis=1), t),
    "nll_loss": _chosen,
}


# ----------------------------------------------------------------------------------- the functions


def _called(function: Callable[..., Any], inputs: Sequence[Any], draws: bool) -> Function:
    """A compiled f(key, *inputs); where it draws bits, of another key at each call."""
    if draws:
        return _Keyed(function, inputs)
    compiled, given = jax.jit(lambda *inputs: function(None, *inputs)), on_device(inputs)
    return lambda: jax.block_until_ready(compiled(*given))


def _draws(name: str, keywords: dict[str, Any]) -> bool:
    return "dropout" in name or bool(keywords.get("dropout_p", 0.0))


class _Keyed:
    """A compiled f(key, *inputs) of the inputs it is given, and a key for each call."""

    def __init__(self, function: Callable[..., Any], inputs: Sequence[Any]) -> None:
        def keyed(key: Any, *inputs: Any) -> tuple[Any, Any]:
            key, now = jax.random.split(key)
            return function(now, *inputs), key

        self.compiled, self.inputs, self.key = jax.jit(keyed), on_device(inputs), jax.random.key(0)

    def __call__(self) -> Any:
        results, self.key = jax.block_until_ready(self.compiled(self.key, *self.inputs))
        return results


def on_device(value: Any) -> Any:
    """Copies of arrays and tensors, also in lists, as JAX's: where they lie."""
    return jax.tree.map(_copied, value)


def _copied(value: Any) -> Any:
    if hasattr(value, "detach"):
        value = value.detach().contiguous()
        value = jax.dlpack.from_dlpack(value if value.is_floating_point() else value.int())
    return jnp.array(value)


def kernel(case: Any, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> Functions:
    if case.name in _LOSSES:
        return {LABEL: _loss(case.name, inputs, keywords)}
    name = case.name.removesuffix("_backward")
    forward, draws = _FORWARD[name], _draws(name, keywords)
    if name == case.name or "dropout" in name:  # a dropout's gradient is the same by another name
        run = _called(lambda key, *inputs: forward(key, *inputs, **keywords), inputs, draws)
        return {LABEL: run}
    if name in _ACTIVATIONS or name == "glu":  # as ours, from x: only what the slope needs is left
        return {LABEL: _called(_gradient(name, keywords), inputs, draws)}
    return {LABEL: _pull(name, inputs, keywords)}


def both(case: Any, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> Functions:
    name = case.name.removesuffix("_backward")

    def function(key: Any, *inputs: Any) -> Any:
        y, gradients = _with_gradient(name, keywords, key, *inputs)
        return gradients, y

    run: Any = _called(function, inputs, _draws(name, keywords))
    return {LABEL: lambda: run()[0]}


def _gradient(name: str, keywords: dict[str, Any]) -> Callable[..., Any]:
    return lambda key, *inputs: _with_gradient(name, keywords, key, *inputs)[1]


def _with_gradient(name: str, keywords: dict[str, Any], key: Any, dy: Any, *inputs: Any) -> Any:
    y, pull, others = _pulling(name, keywords, key, *inputs)
    return (y, *others), pull(dy)


def _pulling(name: str, keywords: dict[str, Any], key: Any, *inputs: Any) -> Any:
    """y, the function from dy to the gradients, and what else is new."""
    count = 1 + _LEAVES.get(name, 0)
    rest = inputs[count:]

    def forward(*leaves: Any) -> Any:
        found = _FORWARD[name](key, *leaves, *rest, **keywords)
        return (found[0], found[1:]) if isinstance(found, tuple) else (found, ())

    return jax.vjp(forward, *inputs[:count], has_aux=True)


def _pull(name: str, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> Function:
    """The gradient alone, from what a forward has kept."""
    dy, *others = on_device(list(inputs))
    _, pull, _ = jax.jit(lambda key, *inputs: _pulling(name, keywords, key, *inputs))(
        jax.random.key(0), *others
    )
    compiled = jax.jit(lambda pull, dy: pull(dy))
    return lambda: jax.block_until_ready(compiled(pull, dy))


def _loss(name: str, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> Function:
    x, target, weight = inputs
    if weight is not None or keywords:
        raise Lacks("only the mean, without weights, is written in JAX here")
    compiled = jax.jit(jax.value_and_grad(lambda x, t: _LOSSES[name](x, t).mean()))
    given = on_device([x, target])
    return lambda: jax.block_until_ready(compiled(*given))


# ------------------------------------------------------------------------------------- the threads

_started: int | None = None


def pin(threads: int) -> None:
    """XLA makes its threads with the first array, and keeps them: for another number it must begin
    anew. Functions that were compiled before must be compiled anew then."""
    global _started
    if _started == threads:
        return
    os.environ["NPROC"] = os.environ["PJRT_NPROC"] = str(threads)
    _compute_here()
    try:
        importlib.import_module("jax.extend.backend").clear_backends()
    except (ImportError, AttributeError):
        if _started is not None:
            raise Lacks(f"JAX keeps the {_started} threads that it began with") from None
    jnp.zeros(1).block_until_ready()
    _started = threads


def _compute_here() -> None:
    """What one thread computes, the calling one does. By default another does, which takes longer
    where each call is waited for, as it is here, and whose processor time would not count."""
    with contextlib.suppress(AttributeError):  # of a JAX without the choice
        jax.config.update("jax_cpu_enable_async_dispatch", False)


def before() -> None:
    """On a GPU it would take three quarters of all memory at its start."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")


LIBRARY = Library(
    "jax",
    module="jax",
    install="jax",
    kernels=[*_FORWARD, *_GRADIENTS, *_LOSSES],
    kernel=kernel,
    both=both,
    pin=pin,
    before=before,
    devices=("cpu", "cuda"),
    waits=True,
)
