"""The rivals of each row of tests/cases: PyTorch eager (with out= where it has one), PyTorch's
fused optimizers, torch.compile on request, NumPy. Imported where installed.

``peers(case, inputs, keywords)`` gives {name: function}; a row without rivals gives {}. Rivals do
the same work on arrays of their own: for gradients of PyTorch that means the operators its autograd
would call, or its graph run backwards once more, without the forward that built it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

try:
    import torch
    from torch.nn import functional as F
except ImportError:
    torch = None

Function = Callable[[], object]


def _tensor(a: Any) -> Any:
    if isinstance(a, list):
        return [_tensor(b) for b in a]
    return torch.from_numpy(np.ascontiguousarray(a).copy()) if isinstance(a, np.ndarray) else a


def _numpy_elementwise(name: str, x: np.ndarray, out: np.ndarray) -> Function | None:
    one = x.dtype.type(1)
    return {
        "identity": lambda: np.copyto(out, x),
        "relu": lambda: np.maximum(x, 0, out=out),
        "tanh": lambda: np.tanh(x, out=out),
        "sigmoid": lambda: np.divide(
            one, np.add(np.exp(np.negative(x, out=out), out=out), one, out=out), out=out
        ),
    }.get(name)


def _activation(name: str, x: Any, options: dict[str, Any]) -> Callable[..., Any] | None:
    aten = torch.ops.aten
    if name == "gelu":
        approximate = options.get("approximate", "none")
        return lambda out: aten.gelu.out(x, approximate=approximate, out=out)
    if name == "leaky_relu":
        slope = options.get("negative_slope", 0.01)
        return lambda out: aten.leaky_relu.out(x, slope, out=out)
    if name == "relu":
        return lambda out: torch.clamp_min(x, 0, out=out)
    if name == "identity":
        return lambda out: out.copy_(x)
    if name == "silu":
        return lambda out: aten.silu.out(x, out=out)
    function = getattr(torch, name, None)
    return None if function is None else lambda out: function(x, out=out)


def _gradient(name: str, dy: Any, x: Any, options: dict[str, Any]) -> Callable[..., Any] | None:
    aten = torch.ops.aten
    if name == "gelu":
        approximate = options.get("approximate", "none")
        return lambda out: aten.gelu_backward.grad_input(
            dy, x, approximate=approximate, grad_input=out
        )
    if name == "leaky_relu":
        slope = options.get("negative_slope", 0.01)
        return lambda out: aten.leaky_relu_backward.grad_input(dy, x, slope, False, grad_input=out)
    if name == "relu":
        return lambda out: aten.threshold_backward.grad_input(dy, x, 0, grad_input=out)
    if name == "sigmoid":
        y = torch.sigmoid(x)
        return lambda out: aten.sigmoid_backward.grad_input(dy, y, grad_input=out)
    if name == "silu":
        return lambda out: aten.silu_backward.grad_input(dy, x, grad_input=out)
    if name == "tanh":
        y = torch.tanh(x)
        return lambda out: aten.tanh_backward.grad_input(dy, y, grad_input=out)
    return None


def _module(activation: Any) -> Callable[[Any], Any]:
    name, options = activation if isinstance(activation, tuple) else (activation, {})
    if name is None:
        return lambda z: z
    return {
        "relu": torch.relu,
        "leaky_relu": lambda z: F.leaky_relu(z, **options),
        "sigmoid": torch.sigmoid,
        "tanh": torch.tanh,
        "silu": F.silu,
        "gelu": lambda z: F.gelu(z, **options),
    }[name]


def _batch_norm(inputs: tuple, k: dict[str, Any]) -> Callable[[Any], Any]:
    _, w, b, mean, var, residual = (_tensor(a) for a in inputs)
    w, b = (None if a is None else a.requires_grad_() for a in (w, b))
    activation = _module(k.get("activation"))
    p = k.get("dropout_p", 0.0)

    def forward(x: Any) -> Any:
        z = F.batch_norm(x, mean, var, w, b, training=k["training"], eps=k.get("eps", 1e-5))
        z = activation(z if residual is None else z + residual)
        return F.dropout(z, p) if p else z

    return forward


def _backward_of(forward: Callable[[Any], Any], x: np.ndarray, dy: np.ndarray) -> Function:
    leaf, gradient = _tensor(x).requires_grad_(), _tensor(dy)
    y = forward(leaf)
    return lambda: torch.autograd.grad(y, leaf, gradient, retain_graph=True)


def _no_grad(function: Callable[..., Any], *args: Any) -> Function:
    def run() -> None:
        with torch.no_grad():
            function(*args)

    return run


OPTIMIZERS = {
    "sgd": ("SGD", {}),
    "sgd_momentum": ("SGD", {}),
    "adam": ("Adam", {}),
    "adam_amsgrad": ("Adam", {"amsgrad": True}),
    "adamw": ("AdamW", {}),
    "adamw_amsgrad": ("AdamW", {"amsgrad": True}),
}


def torch_optimizer(
    kind: str, params: list, grads: list, keywords: dict[str, Any], **more: Any
) -> Any:
    """A stepped-once PyTorch optimizer over copies of arrays, gradients set."""
    name, extra = OPTIMIZERS[kind]
    tensors = [torch.nn.Parameter(_tensor(p)) for p in params]
    for tensor, grad in zip(tensors, grads, strict=True):
        tensor.grad = _tensor(grad)
    options = {key: value for key, value in keywords.items() if key != "step"}
    optimizer = getattr(torch.optim, name)(tensors, **options, **extra, **more)
    optimizer.step()
    return optimizer


def _updates(case: Any, inputs: tuple, keywords: dict[str, Any]) -> dict[str, Function]:
    params, grads = inputs[0], inputs[1]
    rivals = {}
    for label, more in (("torch fused", {"fused": True}), ("torch foreach", {"foreach": True})):
        rivals[label] = torch_optimizer(case.name, params, grads, keywords, **more).step
    return rivals


def peers(
    case: Any, inputs: tuple, keywords: dict[str, Any], compiled: bool = False
) -> dict[str, Function]:
    """Rivals of a row on the same inputs."""
    name, base = case.name, case.name.removesuffix("_backward")
    rivals: dict[str, Function] = {}
    first = inputs[0]
    if isinstance(first, np.ndarray) and (
        plain := _numpy_elementwise(name, first, np.empty_like(first))
    ):
        rivals["numpy"] = plain
    if torch is None:
        return rivals
    if name in OPTIMIZERS:
        rivals |= _updates(case, inputs, keywords)
    elif name == "global_norm":
        tensors = _tensor(first)
        rivals["torch"] = lambda: torch.nn.utils.get_total_norm(tensors)
    elif base == "dropout":
        x, p = _tensor(first), keywords["p"]
        rivals["torch"] = _no_grad(lambda: F.dropout(x, p))
        rng, out = np.random.default_rng(0), np.empty_like(first)
        scale = first.dtype.type(1 / (1 - p)) if p < 1 else first.dtype.type(0)
        rivals["numpy"] = lambda: np.multiply(
            first, (rng.random(first.shape, np.float32) >= p) * scale, out=out
        )
    elif name == "cross_entropy":
        logits, target = _tensor(first).requires_grad_(), _tensor(inputs[1])
        options = {key: value for key, value in keywords.items() if key != "weight"}
        rivals["torch"] = lambda: torch.autograd.grad(
            F.cross_entropy(logits, target, **options), logits
        )
    elif name == "batch_norm":
        rivals["torch"] = _no_grad(_batch_norm(inputs, keywords), _tensor(first))
    elif name == "batch_norm_backward":
        rivals["torch"] = _backward_of(_batch_norm(inputs[1:], keywords), inputs[1], first)
    elif base == "bias_act":
        x, bias = inputs[-2], _tensor(inputs[-1])
        activation, p = _module(keywords.get("activation")), keywords.get("dropout_p", 0.0)
        shape = [1, -1] + [1] * (x.ndim - 2)
        whole = lambda z: F.dropout(activation(z + bias.view(shape)), p)  # noqa: E731
        if name == "bias_act":
            rivals["torch"] = _no_grad(whole, _tensor(x))
        else:
            bias.requires_grad_()
            rivals["torch"] = _backward_of(whole, x, first)
    else:
        call = (
            _gradient(base, _tensor(first), _tensor(inputs[1]), keywords)
            if name.endswith("_backward")
            else _activation(name, _tensor(first), keywords)
        )
        if call is not None:
            out = torch.empty_like(_tensor(first))
            rivals["torch out="] = lambda: call(out)
            if compiled and not name.endswith("_backward"):
                rivals["torch compiled"] = _compiled(base, _tensor(first), keywords)
    return rivals


def _compiled(name: str, x: Any, options: dict[str, Any]) -> Function:
    function = torch.compile(_module((name, options)) if name != "identity" else torch.clone)
    return _no_grad(function, x)
