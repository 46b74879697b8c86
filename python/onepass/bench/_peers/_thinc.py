"""thinc: spaCy's library, on NumpyOps. It computes in the calling thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from onepass.bench._peers._library import Functions, Lazily, Library, Step, Steps, copied, only

api: Any = Lazily("thinc.api")

_LABEL = "thinc"
_REFILL = 16

_KERNELS: dict[str, Callable[..., Any]] = {
    "relu": lambda ops, x: ops.relu(x),
    "relu_backward": lambda ops, dy, x: ops.backprop_relu(dy, x),
    "sigmoid": lambda ops, x: ops.sigmoid(x),
    "silu": lambda ops, x: ops.swish(x),
    "gelu": lambda ops, x: ops.gelu(x),
    "gelu_backward": lambda ops, dy, x: ops.backprop_gelu(dy, x),
    "mish": lambda ops, x: ops.mish(x),
    "mish_backward": lambda ops, dy, x: ops.backprop_mish(dy, x),
    "hardtanh": lambda ops, x: ops.hard_tanh(x),
    "hardswish": lambda ops, x: ops.hard_swish_mobilenet(x),
    "relu6": lambda ops, x: ops.relu_k(x),
    "softmax": lambda ops, x: ops.softmax(x),
}


def kernel(case: Any, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> Functions:
    only(keywords, approximate="none", min_val=-1.0, max_val=1.0, axis=-1)
    ops, given = api.NumpyOps(), copied(inputs)
    return {_LABEL: lambda: _KERNELS[case.name](ops, *given)}


def steps(
    variant: Any, params: Sequence[Any], grads: Sequence[Any], options: dict[str, Any]
) -> Steps:
    o = variant.record.complete(options)
    o = only(o, maximize=False, amsgrad=False, bias_correction=True, nesterov=False)
    o = only(o, decoupled_weight_decay=False, momentum=0.0, dampening=0.0)
    decoupled = variant.name == "adamw"
    more = {"L2": o["weight_decay"], "L2_is_weight_decay": decoupled, "grad_clip": 0.0}
    more["use_averages"] = False
    if variant.name == "sgd":
        optimizer = api.SGD(o["lr"], **more)
    else:
        b1, b2 = o["betas"]
        optimizer = api.Adam(o["lr"], beta1=b1, beta2=b2, eps=o["eps"], **more)
    held, slopes = copied(params), copied(grads)
    count = 0

    def step() -> None:
        nonlocal count
        if count % _REFILL == 0:  # it clears the gradients: zeros would make its moments subnormal
            for slope, g in zip(slopes, grads, strict=True):
                slope[...] = g
        count += 1
        for i, (p, g) in enumerate(zip(held, slopes, strict=True)):
            optimizer((i, "p"), p, g)
        optimizer.step_schedules()

    return {_LABEL: Step(step, lambda: held)}


LIBRARY = Library(
    "thinc",
    module="thinc",
    install="thinc",
    needs=("numpy",),
    kernels=list(_KERNELS),
    optimizers=["sgd", "adam", "adamw"],
    kernel=kernel,
    steps=steps,
)
