"""Losses as functions with a gradient, for tensors: the forward computes it, and keeps it alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from onepass import _C
from onepass.torch._differentiable import Differentiable

Given = torch.Tensor | None


def _scaled(dy: torch.Tensor, dinput: torch.Tensor, per_row: bool) -> torch.Tensor:
    return dinput * (dy.unsqueeze(1) if per_row else dy).to(dinput.dtype)


def _row_loss(
    x: Any, target: Any, weight: Given, name: str, smoothing: float, ignore: int, reduction: str
) -> tuple[Any, Any]:
    if name == "cross_entropy":
        return _C.cross_entropy(x, target, weight, None, smoothing, ignore, reduction)
    return _C.nll_loss(x, target, weight, None, ignore, reduction)


def _fake_row_loss(x: Any, target: Any, weight: Any, *rest: Any) -> tuple[torch.Tensor, ...]:
    shape = (x.shape[0], *x.shape[2:]) if rest[-1] == "none" else ()
    return x.new_empty(shape), x.new_empty(x.shape)


row_loss = Differentiable(
    "row_loss", inputs="Tensor x, Tensor target, Tensor? weight",
    options="str name, float smoothing, int ignore_index, str reduction", results=2,
    saved="Tensor dx",
    run=_row_loss, fake=_fake_row_loss,
    save=lambda given, results, options: (results[1],),
    gradient=lambda dy, wanted, dx, *rest: [_scaled(dy, dx, rest[-1] == "none")],
    fake_gradient=lambda dy, wanted, dx, *_: [torch.empty_like(dx)],
)  # fmt: skip


def _pointwise(
    x: Any, target: Any, pos_weight: Given, name: str, reduction: str, values: Sequence[float]
) -> tuple[Any, Any]:
    options: Sequence[Any] = [bool(v) for v in values] if name == "kl_div" else values
    extra = (pos_weight,) if name == "bce_with_logits" else ()
    return _C.pointwise_loss[name](x, target, *extra, None, reduction, *options)


def _pointwise_gradient(dy: Any, wanted: Any, dx: Any, *_: Any) -> list[torch.Tensor]:
    scaled = _scaled(dy, dx, False)
    if not wanted[1]:
        return [scaled]
    return [scaled, -scaled] if wanted[0] else [-scaled]


pointwise_loss = Differentiable(
    "pointwise_loss", inputs="Tensor x, Tensor target, Tensor? pos_weight",
    options="str name, str reduction, float[] values", results=2, saved="Tensor dx",
    run=_pointwise,
    fake=lambda x, target, pos_weight, name, reduction, values: (
        x.new_empty(x.shape if reduction == "none" else ()), x.new_empty(x.shape)),
    save=lambda given, results, options: (results[1],),
    gradient=_pointwise_gradient,
    fake_gradient=lambda dy, wanted, dx, *_: [torch.empty_like(dx) for want in wanted if want],
    differentiable=(0, 1),
)  # fmt: skip
