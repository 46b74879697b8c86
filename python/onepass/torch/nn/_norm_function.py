"""Norms as one function with a gradient, for tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NamedTuple

import torch

from onepass import _C
from onepass.torch._differentiable import Differentiable
from onepass.torch._operators import is_plain
from onepass.torch.nn._elementwise import as_word

Given = torch.Tensor | None


class _Kind(NamedTuple):
    """How a norm is called; ``size`` is the normalized shape, or (the number of groups,)."""

    # (x, weight, bias, mean, var, residual, size, training, momentum, *numbers, *rest) → (y, saved)
    forward: Callable[..., tuple[Any, Any]]
    # (dy, x, weight, bias, residual, statistics, size, training, *rest) → dx, dweight, dbias, …
    backward: Callable[..., Sequence[Any]]
    # (x, size) → how many there are of each statistic
    rows: Callable[[torch.Tensor, Sequence[int]], int]
    statistics: int = 3


def is_channels_last(x: torch.Tensor) -> bool:
    """Whether the channels, axis 1, are the ones that lie closest in memory."""
    return x.dim() > 2 and not x.is_contiguous() and x.movedim(1, -1).is_contiguous()


def _last(x: Given) -> Given:
    return None if x is None else x.movedim(1, -1)


def _empty(x: torch.Tensor) -> torch.Tensor:
    """Contiguous; PyTorch makes it in half the time that the extension takes to ask for one."""
    return torch.empty_like(x) if x.is_contiguous() else x.new_empty(x.shape)


def _channel_norm(kernel: Any) -> Callable[..., tuple[Any, Any]]:
    """Of a kernel that takes the axis of the channels.

    With the channels last the dropout is a pass of its own: a mask is that of the elements of
    (N, C, …) in C order, wherever they lie, and the kernel would count them in another order.
    """

    def forward(
        x: Any, weight: Given, bias: Given, mean: Given, var: Given, residual: Given, size: Any,
        training: bool, momentum: float, *rest: Any,
    ) -> tuple[Any, Any]:  # fmt: skip
        if not is_channels_last(x):
            y, saved = kernel(
                x, weight, bias, mean, var, residual, _empty(x), 1, training, momentum, *rest
            )
            return y, saved
        *options, p, seed, offset, first = rest
        x, residual = x.movedim(1, -1), _last(residual)
        y, saved = kernel(
            x, weight, bias, mean, var, residual, _empty(x), -1, training, momentum, *options,
            0.0, 0, 0, 0,
        )  # fmt: skip
        y = y.movedim(-1, 1)
        return (_C.dropout(y, y, p, seed, offset, first) if p else y), saved

    return forward


def _channel_norm_backward(kernel: Any) -> Callable[..., Sequence[Any]]:
    def backward(
        dy: Any, x: Any, weight: Given, bias: Given, residual: Given, statistics: Any, size: Any,
        training: bool, *rest: Any,
    ) -> Sequence[Any]:  # fmt: skip
        if not is_channels_last(x):
            return kernel(  # type: ignore[no-any-return]
                dy, x, weight, bias, residual, statistics, 1, training, *rest, _empty(x), None
            )
        *options, p, seed, _, _ = rest
        dy = _dropped(dy, p, seed).movedim(1, -1)
        x, residual = x.movedim(1, -1), _last(residual)
        dx, dweight, dbias, *dresidual = kernel(
            dy, x, weight, bias, residual, statistics, -1, training, *options, 0.0, 0, 0, 0,
            _empty(x), None,
        )  # fmt: skip
        return dx.movedim(-1, 1), dweight, dbias, *(d.movedim(-1, 1) for d in dresidual)

    return backward


def _instance_norm(
    x: Any, weight: Given, bias: Given, mean: Given, var: Given, residual: Given, size: Any,
    training: bool, momentum: float, *rest: Any,
) -> tuple[Any, Any]:  # fmt: skip
    return _C.instance_norm(x, weight, bias, residual, _empty(x), mean, var, momentum, *rest)


def _row_norm(kernel: Callable[..., Any], shaped: bool) -> Callable[..., tuple[Any, Any]]:
    """Of a kernel that takes a normalized shape, or else the number of groups."""

    def forward(
        x: Any, weight: Given, bias: Given, mean: Given, var: Given, residual: Given, size: Any,
        training: bool, momentum: float, *rest: Any,
    ) -> tuple[Any, Any]:  # fmt: skip
        taken = tuple(size) if shaped else size[0]
        return kernel(x, weight, bias, residual, _empty(x), taken, *rest)  # type: ignore[no-any-return]

    return forward


def _row_norm_backward(
    kernel: Callable[..., Any], take: Callable[[Sequence[int]], tuple[Any, ...]]
) -> Callable[..., Sequence[Any]]:
    def backward(
        dy: Any, x: Any, weight: Given, bias: Given, residual: Given, statistics: Any, size: Any,
        training: bool, *rest: Any,
    ) -> Sequence[Any]:  # fmt: skip
        return kernel(  # type: ignore[no-any-return]
            dy, x, weight, bias, residual, statistics, *take(size), *rest, _empty(x)
        )

    return backward


def _outer(x: torch.Tensor, size: Sequence[int]) -> int:
    return prod(x.shape[: x.dim() - len(size)])


_KINDS = {
    "batch_norm": _Kind(
        _channel_norm(_C.batch_norm),
        _channel_norm_backward(_C.batch_norm_backward),
        lambda x, size: x.shape[1],
    ),
    "batch_renorm": _Kind(
        _channel_norm(_C.batch_renorm),
        _channel_norm_backward(_C.batch_renorm_backward),
        lambda x, size: x.shape[1],
        statistics=5,
    ),
    "instance_norm": _Kind(
        _instance_norm,
        _row_norm_backward(_C.instance_norm_backward, lambda size: ()),
        lambda x, size: x.shape[0] * x.shape[1],
    ),
    "group_norm": _Kind(
        _row_norm(_C.group_norm, shaped=False),
        _row_norm_backward(_C.group_norm_backward, lambda size: (size[0],)),
        lambda x, size: x.shape[0] * size[0],
    ),
    "layer_norm": _Kind(
        _row_norm(_C.layer_norm, shaped=True),
        _row_norm_backward(_C.layer_norm_backward, lambda size: (tuple(size),)),
        _outer,
    ),
    "rms_norm": _Kind(
        _row_norm(_C.rms_norm, shaped=True),
        _row_norm_backward(_C.rms_norm_backward, lambda size: (tuple(size),)),
        _outer,
    ),
}

BY_CHANNEL = ("batch_norm", "batch_renorm")


def _norm(
    x: torch.Tensor, weight: Given, bias: Given, mean: Given, var: Given, residual: Given,
    seed: Given, batches: Given, kind: str, size: Sequence[int], training: bool,
    momentum: float | None, numbers: Sequence[float], name: str, values: Sequence[float], p: float,
) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    """Writes the running statistics. ``numbers`` are eps, and what else the kernel takes there."""
    if momentum is None:  # the cumulative average
        momentum = 0.0 if batches is None else 1.0 / max(int(batches), 1)
    y, saved = _KINDS[kind].forward(
        x, weight, bias, mean, var, residual, size, training, momentum, *numbers, name,
        tuple(values), p, as_word(seed), 0, 0,
    )  # fmt: skip
    return y, saved[4]


def _pure_norm(*arguments: Any) -> tuple[torch.Tensor, ...]:
    """The same without writing: the new running statistics are results."""
    x, weight, bias, mean, var, *rest = arguments
    training = rest[5]
    read = [t.clone() if training and t is not None else t for t in (mean, var)]
    y, statistics = _norm(x, weight, bias, *read, *rest)
    return (y, statistics, *(_moved(x, t, training) for t in read))


def _moved(x: torch.Tensor, running: Given, training: bool) -> torch.Tensor:
    return running if training and running is not None else x.new_empty(0)


def _laid_out_as(x: torch.Tensor, kind: str) -> torch.Tensor:
    """A result of the same shape, strides included."""
    if kind in BY_CHANNEL and is_channels_last(x):
        return torch.empty_like(x.movedim(1, -1)).movedim(-1, 1)
    return x.new_empty(x.shape)


def _fake_norm(*arguments: Any) -> tuple[torch.Tensor, ...]:
    x, _, _, mean, var = arguments[:5]
    kind, size, training = arguments[8:11]
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    shape = _KINDS[kind].statistics, _KINDS[kind].rows(x, size)
    statistics = x.new_empty(shape, dtype=dtype)
    new = (None if t is None else torch.empty_like(t) for t in (mean, var))
    return (_laid_out_as(x, kind), statistics, *(_moved(x, t, training) for t in new))


def _kept(given: Any, results: Any, options: Any) -> tuple[Given, ...]:
    """The residual only where it decides the gradient: of an addition that is all, it does not."""
    residual = None if options[5] == "identity" else given[5]
    return given[0], given[1], given[2], residual, results[1], given[6]


def _norm_gradient(
    dy: Any, wanted: Sequence[bool], x: Any, weight: Given, bias: Given, residual: Given,
    statistics: Any, seed: Given, kind: str, size: Sequence[int], training: bool,
    momentum: float | None, numbers: Sequence[float], name: str, values: Sequence[float], p: float,
) -> list[torch.Tensor]:  # fmt: skip
    number = as_word(seed)
    dx, dweight, dbias, *dresidual = _KINDS[kind].backward(
        dy, x, weight, bias, residual, statistics, size, training, name, tuple(values), p, number,
        0, 0,
    )  # fmt: skip
    if wanted[3] and not dresidual:
        dresidual = [_dropped(dy, p, number)]
    grads = (dx, _of(weight, dweight), _of(bias, dbias), *dresidual)
    return [grad for want, grad in zip(wanted, grads, strict=False) if want]


def _dropped(dy: Any, p: float, seed: int) -> Any:
    """The gradient behind a dropout."""
    return dy if p == 0.0 else _C.dropout(dy, torch.empty_like(dy), p, seed, 0, 0)


def _of(parameter: Given, grad: Any) -> Any:
    return grad if parameter is None or grad.dtype == parameter.dtype else grad.to(parameter.dtype)


def _pure_norm_gradient(dy: Any, *rest: Any) -> list[torch.Tensor]:
    return [grad.clone() if grad is dy else grad for grad in _norm_gradient(dy, *rest)]


def _fake_norm_gradient(
    dy: Any, wanted: Any, x: Any, weight: Any, bias: Any, residual: Any, statistics: Any, seed: Any,
    kind: str, *_: Any,
) -> list[torch.Tensor]:  # fmt: skip
    passed = torch.empty_like(dy) if residual is None else _laid_out_as(x, kind)
    grads = [_laid_out_as(x, kind), weight, bias, passed]
    return [
        torch.empty_like(t) if i in (1, 2) else t
        for i, (want, t) in enumerate(zip(wanted, grads, strict=True))
        if want
    ]


_norm_function = Differentiable(
    "norm",
    inputs="Tensor x, Tensor? weight, Tensor? bias, Tensor? running_mean, Tensor? running_var, "
    "Tensor? residual, Tensor? seed, Tensor? batches",
    options="str kind, SymInt[] size, bool training, float? momentum, float[] numbers, "
    "str name, float[] values, float p",
    results=4,
    saved="Tensor x, Tensor? weight, Tensor? bias, Tensor? residual, Tensor statistics, "
    "Tensor? seed",
    run=_norm, pure=_pure_norm, fake=_fake_norm, save=_kept,
    gradient=_norm_gradient, pure_gradient=_pure_norm_gradient, fake_gradient=_fake_norm_gradient,
    differentiable=(0, 1, 2, 5),
)  # fmt: skip


def norm(*arguments: Any) -> torch.Tensor:
    """A norm, of the arguments of `_norm`; the running statistics move, where it is an operator by
    operators of their own.
    """
    x, _, _, mean, var = arguments[:5]
    if is_plain(x):
        return _norm_function.plain(arguments)
    y, _, *new = _norm_function.traced(*arguments)
    if arguments[10]:  # training
        for running, moved in zip((mean, var), new, strict=True):
            if running is not None:
                running.copy_(moved.detach())
    return y
