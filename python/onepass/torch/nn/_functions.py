"""The kernels as functions with a gradient, for tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from onepass import _C
from onepass.torch._library import Differentiable

Given = torch.Tensor | None


def draw_seed(p: float, device: torch.device) -> torch.Tensor | None:
    """The seed of a mask, from torch's generator of the CPU; None where nothing is dropped.

    Hence `torch.manual_seed` repeats a run, and `torch.utils.checkpoint` the mask.

    Raises:
        RuntimeError: a CUDA graph is being captured, which would replay one mask for ever.
    """
    if p == 0.0:
        return None
    if (
        not torch.compiler.is_compiling()
        and device.type == "cuda"
        and torch.cuda.is_current_stream_capturing()
    ):
        raise RuntimeError(
            "dropout: a CUDA graph is being captured, and would draw the same mask at each replay; "
            "capture the model with dropout 0, or use torch.nn.Dropout"
        )
    return torch.randint(0, 2**63 - 1, (), dtype=torch.int64, device="cpu")


def _int(seed: Given) -> int:
    return 0 if seed is None else int(seed)


def _only_first(wanted: Sequence[bool], given: Sequence[bool]) -> list[int]:
    return [0] if wanted[0] else []


# Elementwise.

activation = Differentiable(
    "activation", inputs="Tensor x", options="str name, float[] values", results=1,
    saved="Tensor x",
    run=lambda x, name, values: (_C.activation[name](x, None, *values),),
    fake=lambda x, name, values: (torch.empty_like(x),),
    save=lambda given, results: (given[0],),
    gradient=lambda dy, wanted, x, name, values: [
        _C.activation_backward[name](dy, x, None, *values)],
    fake_gradient=lambda dy, wanted, x, name, values: [torch.empty_like(dy)],
    gradients=_only_first,
)  # fmt: skip

dropout = Differentiable(
    "dropout", inputs="Tensor x, Tensor seed", options="float p", results=1, saved="Tensor seed",
    run=lambda x, seed, p: (_C.dropout(x, None, p, int(seed), 0),),
    fake=lambda x, seed, p: (torch.empty_like(x),),
    save=lambda given, results: (given[1],),
    gradient=lambda dy, wanted, seed, p: [_C.dropout(dy, None, p, int(seed), 0)],
    fake_gradient=lambda dy, wanted, seed, p: [torch.empty_like(dy)],
    gradients=_only_first,
)  # fmt: skip


def _half(x: torch.Tensor, axis: int) -> torch.Tensor:
    shape = list(x.shape)
    shape[axis] //= 2
    return x.new_empty(shape)


glu = Differentiable(
    "glu", inputs="Tensor x", options="str name, float[] values, int axis", results=1,
    saved="Tensor x",
    run=lambda x, name, values, axis: (_C.glu(x, name, tuple(values), axis, None),),
    fake=lambda x, name, values, axis: (_half(x, axis),),
    save=lambda given, results: (given[0],),
    gradient=lambda dy, wanted, x, name, values, axis: [
        _C.glu_backward(dy, x, name, tuple(values), axis, None)],
    fake_gradient=lambda dy, wanted, x, name, values, axis: [torch.empty_like(x)],
    gradients=_only_first,
)  # fmt: skip

_SOFTMAX = {True: (_C.log_softmax, _C.log_softmax_backward),
            False: (_C.softmax, _C.softmax_backward)}  # fmt: skip
softmax = Differentiable(
    "softmax", inputs="Tensor x", options="int axis, bool log", results=1, saved="Tensor y",
    run=lambda x, axis, log: (_SOFTMAX[log][0](x, None, axis),),
    fake=lambda x, axis, log: (torch.empty_like(x),),
    save=lambda given, results: (results[0],),
    gradient=lambda dy, wanted, y, axis, log: [_SOFTMAX[log][1](dy, y, None, axis)],
    fake_gradient=lambda dy, wanted, y, axis, log: [torch.empty_like(y)],
    gradients=_only_first,
)  # fmt: skip


def _bias_gradients(
    dy: Any, wanted: Any, x: Any, bias: Any, seed: Any, axis: int, name: str, values: Any, p: float
) -> list[torch.Tensor]:
    dx, dbias = _C.bias_act_backward(dy, x, bias, None, axis, name, tuple(values), p, _int(seed), 0)
    both = zip(wanted, (dx, dbias.to(bias.dtype)), strict=False)
    return [grad for want, grad in both if want]


bias_act = Differentiable(
    "bias_act", inputs="Tensor x, Tensor bias, Tensor? seed",
    options="int axis, str name, float[] values, float p", results=1,
    saved="Tensor x, Tensor bias, Tensor? seed",
    run=lambda x, bias, seed, axis, name, values, p: (
        _C.bias_act(x, bias, None, axis, name, tuple(values), p, _int(seed), 0),),
    fake=lambda x, *_: (x.new_empty(x.shape),),
    save=lambda given, results: given,
    gradient=_bias_gradients,
    fake_gradient=lambda dy, wanted, x, bias, *_: [
        t.new_empty(t.shape) for want, t in zip(wanted, (x, bias), strict=False) if want],
    gradients=lambda wanted, given: [i for i in (0, 1) if wanted[i]],
)  # fmt: skip


# Norms. `size` is the normalized shape, or the number of groups.

_NORM_BACKWARD: dict[str, Any] = {
    "batch_norm": _C.batch_norm_backward,
    "layer_norm": _C.layer_norm_backward,
    "rms_norm": _C.rms_norm_backward,
    "group_norm": _C.group_norm_backward,
    "instance_norm": _C.instance_norm_backward,
}


def is_channels_last(x: torch.Tensor) -> bool:
    """Whether the channels, axis 1, are the ones that lie closest in memory."""
    return x.dim() > 2 and not x.is_contiguous() and x.movedim(1, -1).is_contiguous()


def _last(x: Given) -> Given:
    return None if x is None else x.movedim(1, -1)


def _laid_out_as(x: torch.Tensor, kind: str) -> torch.Tensor:
    """A result of the same shape, strides included."""
    if kind == "batch_norm" and is_channels_last(x):
        return torch.empty_like(x.movedim(1, -1)).movedim(-1, 1)
    return x.new_empty(x.shape)


def _norm(
    x: torch.Tensor, weight: Given, bias: Given, mean: Given, var: Given, residual: Given,
    seed: Given, batches: Given, kind: str, size: Sequence[int], training: bool,
    momentum: float | None, eps: float, name: str, values: Sequence[float], p: float,
) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    """Writes the running statistics."""
    if momentum is None:  # the cumulative average
        momentum = 0.0 if batches is None else 1.0 / max(int(batches), 1)
    rest = (name, tuple(values), p, _int(seed), 0)
    y: Any
    if kind == "batch_norm":
        last = is_channels_last(x)
        if last:
            x, residual = x.movedim(1, -1), _last(residual)
        y, kept = _C.batch_norm(
            x, weight, bias, mean, var, residual, None, -1 if last else 1, training, momentum, eps,
            *rest,
        )  # fmt: skip
        y = y.movedim(-1, 1) if last else y
    elif kind == "instance_norm":
        y, kept = _C.instance_norm(x, weight, bias, residual, None, mean, var, momentum, eps, *rest)
    elif kind == "group_norm":
        y, kept = _C.group_norm(x, weight, bias, residual, None, size[0], eps, *rest)
    else:
        kernel = _C.layer_norm if kind == "layer_norm" else _C.rms_norm
        y, kept = kernel(x, weight, bias, residual, None, tuple(size), eps, *rest)
    return y, kept[4]


def _pure_norm(*arguments: Any) -> tuple[torch.Tensor, ...]:
    """The same without writing: the new running statistics are results."""
    x, weight, bias, mean, var, *rest = arguments
    new: list[Any] = [None if t is None else t.clone() for t in (mean, var)]
    y, statistics = _norm(x, weight, bias, *new, *rest)
    return (y, statistics, *(x.new_empty(0) if t is None else t for t in new))


def _fake_norm(*arguments: Any) -> tuple[torch.Tensor, ...]:
    x, _, _, mean, var = arguments[:5]
    kind, size = arguments[8:10]
    if kind == "batch_norm":
        rows = x.shape[1]
    elif kind == "instance_norm":
        rows = x.shape[0] * x.shape[1]
    elif kind == "group_norm":
        rows = x.shape[0] * size[0]
    else:
        rows = 1
        for extent in x.shape[: x.dim() - len(size)]:
            rows = rows * extent
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    new = (x.new_empty(0) if t is None else torch.empty_like(t) for t in (mean, var))
    return (_laid_out_as(x, kind), x.new_empty((3, rows), dtype=dtype), *new)


def _norm_places(wanted: Sequence[bool], given: Sequence[bool]) -> list[int]:
    return [i for i in (0, 1, 2, 5) if wanted[i]]


def _norm_gradient(
    dy: Any, wanted: Sequence[bool], x: Any, weight: Given, bias: Given, residual: Given,
    statistics: Any, seed: Given, kind: str, size: Sequence[int], training: bool,
    momentum: float | None, eps: float, name: str, values: Sequence[float], p: float,
) -> list[torch.Tensor]:  # fmt: skip
    last = kind == "batch_norm" and is_channels_last(x)
    if last:
        dy, x, residual = dy.movedim(1, -1), x.movedim(1, -1), _last(residual)
    tail: tuple[Any, ...] = {
        "batch_norm": (-1 if last else 1, training),
        "instance_norm": (),
        "group_norm": tuple(size),
    }.get(kind, (tuple(size),))
    dx, dweight, dbias, *rest = _NORM_BACKWARD[kind](
        dy, x, weight, bias, residual, statistics, *tail, name, tuple(values), p, _int(seed), 0,
        None,
    )  # fmt: skip
    dresidual = rest[0] if rest else None
    if last:
        dx, dresidual = dx.movedim(-1, 1), None if dresidual is None else dresidual.movedim(-1, 1)
    grads: dict[int, Any] = {0: dx, 5: dresidual}
    for place, grad, parameter in ((1, dweight, weight), (2, dbias, bias)):
        if parameter is not None:
            grads[place] = grad.to(parameter.dtype)
    return [grads[i] for i in _norm_places(wanted, ())]


def _fake_norm_gradient(
    dy: Any, wanted: Any, x: Any, weight: Any, bias: Any, residual: Any, statistics: Any, seed: Any,
    kind: str, *_: Any,
) -> list[torch.Tensor]:  # fmt: skip
    grads: dict[int, Any] = {0: _laid_out_as(x, kind), 5: _laid_out_as(x, kind)}
    for place, parameter in ((1, weight), (2, bias)):
        if parameter is not None:
            grads[place] = parameter.new_empty(parameter.shape)
    return [grads[i] for i in _norm_places(wanted, ())]


_norm_function = Differentiable(
    "norm",
    inputs="Tensor x, Tensor? weight, Tensor? bias, Tensor? running_mean, Tensor? running_var, "
    "Tensor? residual, Tensor? seed, Tensor? batches",
    options="str kind, SymInt[] size, bool training, float? momentum, float eps, str name, "
    "float[] values, float p",
    results=4,
    saved="Tensor x, Tensor? weight, Tensor? bias, Tensor? residual, Tensor statistics, "
    "Tensor? seed",
    run=_norm, pure=_pure_norm, fake=_fake_norm,
    save=lambda given, results: (*given[:3], given[5], results[1], given[6]),
    gradient=_norm_gradient, fake_gradient=_fake_norm_gradient, gradients=_norm_places,
)  # fmt: skip


def norm(
    x: torch.Tensor, weight: Given, bias: Given, mean: Given, var: Given, *rest: Any
) -> torch.Tensor:
    """A norm; the running statistics move, in a graph by operators of their own."""
    if not torch.compiler.is_compiling():
        return _norm_function(x, weight, bias, mean, var, *rest)
    y, _, *new = _norm_function.traced(x, weight, bias, mean, var, *rest)
    with torch.no_grad():
        for running, moved in zip((mean, var), new, strict=True):
            if running is not None:
                running.copy_(moved.detach())
    return y


# Losses.


# The forward gives the gradient.
def _scaled(dy: torch.Tensor, dinput: torch.Tensor, per_row: bool) -> torch.Tensor:
    return dinput * (dy.unsqueeze(1) if per_row else dy).to(dinput.dtype)


def _row_loss(
    x: Any, target: Any, weight: Given, name: str, smoothing: float, ignore: int, reduction: str
) -> tuple[torch.Tensor, torch.Tensor]:
    loss: Any
    if name == "cross_entropy":
        loss, dx = _C.cross_entropy(x, target, weight, None, smoothing, ignore, reduction)
    else:
        loss, dx = _C.nll_loss(x, target, weight, None, ignore, reduction)
    return torch.as_tensor(loss), dx


def _fake_row_loss(x: Any, target: Any, weight: Any, *rest: Any) -> tuple[torch.Tensor, ...]:
    shape = (x.shape[0], *x.shape[2:]) if rest[-1] == "none" else ()
    return x.new_empty(shape), x.new_empty(x.shape)


row_loss = Differentiable(
    "row_loss", inputs="Tensor x, Tensor target, Tensor? weight",
    options="str name, float smoothing, int ignore_index, str reduction", results=2,
    saved="Tensor dx",
    run=_row_loss, fake=_fake_row_loss,
    save=lambda given, results: (results[1],),
    gradient=lambda dy, wanted, dx, *rest: [_scaled(dy, dx, rest[-1] == "none")],
    fake_gradient=lambda dy, wanted, dx, *_: [torch.empty_like(dx)],
    gradients=_only_first,
)  # fmt: skip


def _pointwise(
    x: Any, target: Any, pos_weight: Given, name: str, reduction: str, values: Sequence[float]
) -> tuple[torch.Tensor, torch.Tensor]:
    options: Sequence[Any] = [bool(v) for v in values] if name == "kl_div" else values
    extra = (pos_weight,) if name == "bce_with_logits" else ()
    loss, dx = _C.pointwise_loss[name](x, target, *extra, None, reduction, *options)
    return torch.as_tensor(loss), dx


def _pointwise_gradient(dy: Any, wanted: Any, dx: Any, *_: Any) -> list[torch.Tensor]:
    scaled = _scaled(dy, dx, False)
    return [sign for want, sign in zip(wanted, (scaled, -scaled), strict=False) if want]


pointwise_loss = Differentiable(
    "pointwise_loss", inputs="Tensor x, Tensor target, Tensor? pos_weight",
    options="str name, str reduction, float[] values", results=2, saved="Tensor dx",
    run=_pointwise,
    fake=lambda x, target, pos_weight, name, reduction, values: (
        x.new_empty(x.shape if reduction == "none" else ()), x.new_empty(x.shape)),
    save=lambda given, results: (results[1],),
    gradient=_pointwise_gradient,
    fake_gradient=lambda dy, wanted, dx, *_: [
        torch.empty_like(dx) for want in wanted[:2] if want],
    gradients=lambda wanted, given: [i for i in (0, 1) if wanted[i]],
)  # fmt: skip
