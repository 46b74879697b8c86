"""torch.compile over PyTorch's own functions. It takes seconds, so it is asked for by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from onepass._streams import Function
from onepass.bench._peers import _torch, _torch_network
from onepass.bench._peers._library import Functions, Lacks, Lazily, Library, Steps, only
from onepass.bench._records import case as case_module
from onepass.bench._records import cases

torch: Any = Lazily("torch")
functional: Any = Lazily("torch.nn.functional")

_ACTIVATIONS = cases.activations.BY_NAME
_LABEL = "torch compile"


def _behind(y: Any, activation: Any = None, dropout_p: float = 0.0, **options: Any) -> Any:
    only(options, seed=options.get("seed"), offset=0)
    return cases.channels.rival_epilogue(y, activation, dropout_p)


def _batch_norm(x: Any, w: Any, b: Any, mean: Any, var: Any, residual: Any, *, training: bool,
                momentum: float = 0.1, eps: float = 1e-5, channels_last: bool = False,
                **behind: Any) -> Any:  # fmt: skip
    y = x.movedim(-1, 1) if channels_last else x
    y = functional.batch_norm(y, mean, var, w, b, training, momentum, eps)
    y = y.movedim(1, -1) if channels_last else y
    return _behind(y if residual is None else y + residual, **behind)


def _row_norm(norm: Callable[..., Any]) -> Callable[..., Any]:
    def forward(x: Any, w: Any, b: Any, residual: Any, **options: Any) -> Any:
        own = {name: options.pop(name) for name in ("axes", "eps", "num_groups") if name in options}
        y = norm(x, w, b, **own)
        return _behind(y if residual is None else y + residual, **options)

    return forward


def _bias_act(x: Any, bias: Any, *, axis: int = 1, **behind: Any) -> Any:
    return _behind(x + cases.channels.per_channel_tensor(bias, x.ndim, axis), **behind)


# f(x, *others, **keywords) -> y; the gradient is with respect to x and those of `others` that
# _LEAVES counts.
_FORWARD: dict[str, Callable[..., Any]] = {
    **{name: record.torch.call for name, record in _ACTIVATIONS.items()},
    "batch_norm": _batch_norm,
    **{norm.name: _row_norm(norm.torch) for norm in cases.row_norms.NORMS},
    "bias_act": _bias_act,
    "softmax": lambda x, axis=-1: functional.softmax(x, axis),
    "log_softmax": lambda x, axis=-1: functional.log_softmax(x, axis),
    "dropout": lambda x, p, seed=0, offset=0: functional.dropout(x, p),
}
_LEAVES = {"batch_norm": 2, "bias_act": 1, **{norm.name: 2 for norm in cases.row_norms.NORMS}}
_LOSSES = {loss.name: loss.torch for loss in cases.losses.LOSSES if loss.torch is not None}
_GRADIENTS = [f"{name}_backward" for name in _FORWARD if "softmax" not in name]


def kernel(case: Any, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> Functions:
    if case.name in _LOSSES:
        return {_LABEL: _loss(case.name, inputs, keywords)}
    if case.name in _FORWARD:
        x, *others = map(case_module.tensor_of, inputs)
        forward = compiled(_forward(case.name, others, keywords))

        def step() -> Any:
            with torch.no_grad():
                y = forward(x)
            return (y, *others[2:4]) if case.name == "batch_norm" else y

        return {_LABEL: step}
    if case.name == "dropout_backward":
        raise Lacks("its gradient reads the mask that its forward has kept")
    forward, leaves, x, dy = _backward(case, inputs, keywords)
    torch._functorch.config.donated_buffer = False  # so that a graph can be run again
    return {_LABEL: case_module.backward_only(forward, leaves, x, dy)}


def both(case: Any, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> Functions:
    return {_LABEL: case_module.forward_and_backward(*_backward(case, inputs, keywords))}


def compiled(function: Any, whole: bool = True) -> Callable[..., Any]:
    """For these shapes alone. What is compiled belongs to the code of a function, and of many
    shapes of one code the later ones are compiled for any shape, or not at all: so each has its
    own. Where a part of it cannot be compiled, it is an error, and no silent call of that part,
    unless `whole` is false."""
    function.__code__ = function.__code__.replace()
    found: Callable[..., Any] = torch.compile(function, dynamic=False, fullgraph=whole)
    return found


def _forward(name: str, others: Sequence[Any], keywords: dict[str, Any]) -> Callable[[Any], Any]:
    return lambda x: _FORWARD[name](x, *others, **keywords)


def _backward(case: Any, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> tuple[Any, ...]:
    """The compiled forward, the tensors besides x whose gradients are wanted, x and dy."""
    name = case.name.removesuffix("_backward")
    dy, x, *rest = inputs
    others = [case_module.tensor_of(a) for a in rest]
    leaves = [a.requires_grad_() for a in others[: _LEAVES.get(name, 0)] if a is not None]
    return compiled(_forward(name, others, keywords)), leaves, x, dy


def _loss(name: str, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> Function:
    x, target, weight = map(case_module.tensor_of, inputs)
    x.requires_grad_()
    forward = compiled(lambda x: _LOSSES[name](x, target, weight, **keywords))

    def step() -> tuple[Any, Any]:
        loss = forward(x)
        return loss, torch.autograd.grad(loss if loss.ndim == 0 else loss.sum(), x)[0]

    return step


def steps(
    variant: Any, params: Sequence[Any], grads: Sequence[Any], options: dict[str, Any]
) -> Steps:
    tensors = (list(map(case_module.tensor_of, arrays)) for arrays in (params, grads))
    optimizer = variant.torch_optimizer(*tensors, {**options}, foreach=True)
    # A class breaks the graph before its formula, by itself.
    compiled_step = compiled(lambda: optimizer.step(), whole=False)
    return {_LABEL: _torch.step_of(optimizer, compiled_step)}


def pin(threads: int) -> None:
    if torch.get_num_threads() != threads:
        torch._dynamo.reset()  # what was compiled for another number of threads
    _torch.pin(threads)


LIBRARY = Library(
    "torch-compile",
    module="torch",
    install="torch",
    needs=("torch",),
    kernels=[*_FORWARD, *_GRADIENTS, *_LOSSES],
    optimizers=_torch.LIBRARY.optimizers,
    kernel=kernel,
    both=both,
    steps=steps,
    networks={
        "torch compile": _torch_network.plain(compiled),
        "onepass torch compile": _torch_network.front(compiled),
    },
    pin=pin,
    dtypes=_torch.LIBRARY.dtypes,
    devices=_torch.LIBRARY.devices,
)
