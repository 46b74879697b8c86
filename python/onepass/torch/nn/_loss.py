"""Losses: the forward computes the gradient in the same pass, and keeps that alone."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import nn

from onepass.torch.nn._docs import formula
from onepass.torch.nn._loss_functions import pointwise_loss, row_loss

_DOC = """{formula}

`torch.nn.{name}` over the kernel of `onepass.ops.{op}`.
Shapes: {takes}.
The loss has no axes; with reduction="none" it has those of the target.

The forward computes the gradient too, which is all that is kept for the backward. Under autocast a
16-bit input is widened to float32 first, as in torch.

Example:
    >>> import torch
    >>> from onepass.torch import nn
    >>> x = torch.full((2, 3), 0.5, requires_grad=True)
    >>> nn.{name}()(x, {target}).backward()
    >>> x.grad.shape
    torch.Size([2, 3])
"""


def is_cast(x: torch.Tensor) -> bool:
    device = x.device.type  # "meta" has no autocast, and asking for it is an error
    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)


def _widened(x: torch.Tensor) -> torch.Tensor:
    """In float32 under autocast, float16 always: a gradient with its 1/n would vanish there before
    the loss scale reaches it."""
    narrow = x.dtype is torch.float16 or (x.dtype is torch.bfloat16 and is_cast(x))
    return x.float() if narrow else x


def _stored(loss: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """In the dtype of the input, as torch has it; under autocast in float32."""
    return loss if loss.dtype is x.dtype or is_cast(x) else loss.to(x.dtype)


class _Loss(nn.Module):
    op: ClassVar[str]
    reduction: str

    def __init_subclass__(
        cls, *, op: str | None = None, takes: str = "input and target of one shape",
        target: str = "torch.ones(2, 3)", **rest: Any,
    ) -> None:  # fmt: skip
        super().__init_subclass__(**rest)
        if op is not None:
            cls.op = op
            cls.__doc__ = _DOC.format(
                formula=formula(op), name=cls.__name__, op=op, takes=takes, target=target
            )


class _RowLoss(_Loss):
    weight: torch.Tensor | None
    ignore_index: int

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        if target.requires_grad:
            raise ValueError(
                f"{type(self).__name__}: 'target' requires a gradient, which is not computed; pass "
                "target.detach()"
            )
        given, input = input, _widened(input)
        if target.is_floating_point():
            target = target.to(input.dtype)
        weight = None if self.weight is None else _widened(self.weight)
        alone = input.dim() == 1
        if alone:
            input, target = input.unsqueeze(0), target.unsqueeze(0)
        smoothing = getattr(self, "label_smoothing", 0.0)
        loss = row_loss(
            input, target, weight, self.op, smoothing, self.ignore_index, self.reduction
        )
        return _stored(loss.squeeze(0) if alone and self.reduction == "none" else loss, given)


_ROWS = "input (N, C) or (N, C, d1, …), or (C) of one sample; target of class indices\n(N, d1, …)"


class CrossEntropyLoss(
    _RowLoss,
    nn.CrossEntropyLoss,
    op="cross_entropy",
    target="torch.tensor([0, 2])",
    takes=_ROWS + ", l = -weight[t]·log softmax(input)_t, or of probabilities like the input",
): ...  # fmt: skip


class NLLLoss(
    _RowLoss,
    nn.NLLLoss,
    op="nll_loss",
    target="torch.tensor([0, 2])",
    takes=_ROWS,
): ...  # fmt: skip


class _Pointwise(_Loss):
    # Whether the loss is one of input - target, whose gradients are each other's negative.
    symmetric: ClassVar[bool] = False

    def _values(self) -> list[float]:
        return []

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        if target.requires_grad and not self.symmetric:
            raise ValueError(
                f"{type(self).__name__}: 'target' requires a gradient, which is not computed; pass "
                "target.detach()"
            )
        given, input, target = input, _widened(input), _widened(target)
        weight = getattr(self, "weight", None)
        reduction = self.reduction if weight is None else "none"
        if reduction == "batchmean" and input.dim() == 0:  # one sample, as in torch
            reduction = "sum"
        pos_weight = getattr(self, "pos_weight", None)
        if pos_weight is not None:
            pos_weight = _widened(pos_weight)
        loss = pointwise_loss(input, target, pos_weight, self.op, reduction, self._values())
        if weight is not None:
            loss = torch.mul(loss, weight)
            if self.reduction != "none":
                loss = torch.sum(loss) if self.reduction == "sum" else torch.mean(loss)
        return _stored(loss, given)


class MSELoss(_Pointwise, nn.MSELoss, op="mse_loss"):
    symmetric = True


class L1Loss(_Pointwise, nn.L1Loss, op="l1_loss"):
    symmetric = True


class SmoothL1Loss(_Pointwise, nn.SmoothL1Loss, op="smooth_l1_loss"):
    symmetric = True

    def _values(self) -> list[float]:
        return [float(self.beta)]


class HuberLoss(_Pointwise, nn.HuberLoss, op="huber_loss"):
    symmetric = True

    def _values(self) -> list[float]:
        return [float(self.delta)]


class BCELoss(_Pointwise, nn.BCELoss, op="bce_loss"): ...


class BCEWithLogitsLoss(_Pointwise, nn.BCEWithLogitsLoss, op="bce_with_logits"): ...


class KLDivLoss(_Pointwise, nn.KLDivLoss, op="kl_div"):
    def _values(self) -> list[float]:
        return [float(self.log_target)]
