"""CuPy: the formulas as its users write them, elementwise ones fused into one kernel, over the
memory of PyTorch's tensors and on PyTorch's stream, so that both are timed and captured alike.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

from onepass._streams import Function
from onepass.bench._peers._library import Functions, Lacks, Lazily, Library, Step, Steps, only
from onepass.bench._records import case as case_module

cupy: Any = Lazily("cupy")
special: Any = Lazily("cupyx.scipy.special")
torch: Any = Lazily("torch")

LABEL = "cupy"


def shared(tensor: Any) -> Any:
    """A tensor's memory as CuPy sees it."""
    return cupy.asarray(tensor.detach())


def on_stream() -> contextlib.AbstractContextManager[Any]:
    """PyTorch's current stream is CuPy's meanwhile."""
    stream = torch.cuda.current_stream()
    found: contextlib.AbstractContextManager[Any] = cupy.cuda.ExternalStream(stream.cuda_stream)
    return found


# ------------------------------------------------------------------------------------ the formulas


def _sigmoid(x: Any) -> Any:
    return 1 / (1 + cupy.exp(-x))


def _mish(x: Any) -> Any:
    return x * cupy.tanh(cupy.log1p(cupy.exp(x)))


_FUSED: dict[str, Callable[..., Any]] = {
    "relu": lambda x: cupy.maximum(x, 0),
    "sigmoid": _sigmoid,
    "silu": lambda x: x * _sigmoid(x),
    "tanh": lambda x: cupy.tanh(x),
    "gelu": lambda x: 0.5 * x * (1 + special.erf(x * 0.7071067811865476)),
    "mish": _mish,
}


def _softmax(x: Any) -> Any:
    e = cupy.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def _log_softmax(x: Any) -> Any:
    z = x - x.max(axis=-1, keepdims=True)
    return z - cupy.log(cupy.exp(z).sum(axis=-1, keepdims=True))


def _global_norm(arrays: Sequence[Any]) -> Any:
    return cupy.sqrt(sum((a.ravel() ** 2).sum() for a in arrays))


_WHOLE: dict[str, Callable[..., Any]] = {
    "softmax": _softmax,
    "log_softmax": _log_softmax,
    "global_norm": _global_norm,
}


def _adamw(
    p: Any, g: Any, m: Any, v: Any, lr: float, b1: float, b2: float, eps: float, keep: float,
    c1: float, c2: float,
) -> None:  # fmt: skip
    p *= keep
    m *= b1
    m += (1 - b1) * g
    v *= b2
    v += (1 - b2) * g * g
    p -= lr / c1 * m / (cupy.sqrt(v / c2) + eps)


# ----------------------------------------------------------------------------------- the functions


def kernel(case: Any, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> Functions:
    given = [[shared(a) for a in i] if isinstance(i, list) else shared(i) for i in inputs]
    return {LABEL: _called(case.name, given, keywords)}


def _called(name: str, inputs: list[Any], keywords: dict[str, Any]) -> Function:
    if name == "dropout":
        return _dropout(*inputs, **keywords)
    options = only(keywords, axis=-1, approximate="none")
    if options:
        raise Lacks(f"{name} has no {', '.join(options)} here")
    function = cupy.fuse()(_FUSED[name]) if name in _FUSED else _WHOLE[name]

    def run() -> Any:
        with on_stream():
            return function(*inputs)

    return run


def _dropout(x: Any, p: float = 0.5, **_: Any) -> Function:
    def kept(x: Any, drawn: Any) -> Any:
        return cupy.where(drawn >= p, x * (1 / (1 - p)), 0)

    chosen = cupy.fuse()(kept)

    def run() -> Any:
        with on_stream():
            return chosen(x, cupy.random.random(x.shape, dtype="float32"))

    return run


def steps(
    variant: Any, params: Sequence[Any], grads: Sequence[Any], options: dict[str, Any]
) -> Steps:
    """AdamW alone: a launch for each tensor."""
    o = only(variant.record.complete(options), maximize=False, amsgrad=False, bias_correction=True)
    (b1, b2), lr = o["betas"], o["lr"]
    tensors = [case_module.copy_of(p) for p in params]
    held, slopes = [shared(t) for t in tensors], [shared(g) for g in grads]
    states = [(cupy.zeros_like(p), cupy.zeros_like(p)) for p in held]
    update, count = cupy.fuse()(_adamw), 0

    def run() -> None:
        nonlocal count
        count += 1
        numbers = (lr, b1, b2, o["eps"], 1 - lr * o["weight_decay"], 1 - b1**count, 1 - b2**count)
        with on_stream():
            for p, g, (m, v) in zip(held, slopes, states, strict=True):
                update(p, g, m, v, *numbers)

    return {LABEL: Step(run, lambda: tensors)}


LIBRARY = Library(
    "cupy",
    module="cupy",
    install="cupy-cuda13x",
    needs=("torch",),
    kernels=[*_FUSED, *_WHOLE, "dropout"],
    optimizers=["adamw"],
    kernel=kernel,
    steps=steps,
    devices=("cuda",),
)
