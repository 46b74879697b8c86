"""Dropout that keeps a seed and no mask."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import nn

from onepass.torch.nn._docs import formula
from onepass.torch.nn._elementwise import draw_seed
from onepass.torch.nn._elementwise import dropout as drop

_DOC = """{formula}

`torch.nn.{name}` over the kernel of `onepass.ops.{op}`.
Shapes: {takes}; the result is like it.
In evaluation the result is the input.

A seed is kept for the backward, and no mask. The seed comes from torch's generator of the CPU:
`torch.manual_seed` repeats a run, on a device too, without waiting for it. The masks are others
than torch's, and the same in any memory order. ``inplace`` has no effect.

Example:
    >>> import torch
    >>> from onepass.torch import nn
    >>> nn.{name}(1.0)(torch.ones({shape})).any()
    tensor(False)
"""


class _Dropout(nn.Module):
    """Mixin before a dropout of torch, whose constructor and attributes stay."""

    op: ClassVar[str]
    p: float
    # The numbers of axes that are taken; none where all are.
    axes: ClassVar[tuple[int, ...]] = ()
    # The number of axes of one sample, without the axis of the batch; 0 where there is none.
    one_sample: ClassVar[int] = 0

    def __init_subclass__(
        cls, *, op: str, takes: str = "input of any shape", shape: str = "2", **options: Any
    ) -> None:
        super().__init_subclass__(**options)
        cls.op = op
        cls.__doc__ = _DOC.format(
            formula=formula(op), name=cls.__name__, op=op, takes=takes, shape=shape
        )

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if self.axes and input.dim() not in self.axes:
            known = " or ".join(f"{n}" for n in self.axes)
            raise ValueError(
                f"{type(self).__name__}: the input has {input.dim()} axes, expected {known}"
            )
        seed = draw_seed(self.p, input.device) if self.training else None
        if seed is None:
            return input
        if input.dim() == self.one_sample:
            return drop(input.unsqueeze(0), seed, self.op, self.p).squeeze(0)
        return drop(input, seed, self.op, self.p)


class Dropout(_Dropout, nn.Dropout, op="dropout"): ...


class AlphaDropout(_Dropout, nn.AlphaDropout, op="alpha_dropout"): ...


class FeatureAlphaDropout(
    _Dropout, nn.FeatureAlphaDropout, op="feature_alpha_dropout", takes="(N, C, …)", shape="3, 2, 4"
): ...


class Dropout1d(
    _Dropout, nn.Dropout1d, op="feature_dropout", takes="(N, C, L), or (C, L) of one sample",
    shape="3, 2, 4",
):  # fmt: skip
    axes, one_sample = (2, 3), 2


class Dropout2d(
    _Dropout, nn.Dropout2d, op="feature_dropout", takes="(N, C, H, W), or (N, C, L) as in torch",
    shape="3, 2, 4, 4",
):  # fmt: skip
    axes = (3, 4)


class Dropout3d(
    _Dropout, nn.Dropout3d, op="feature_dropout",
    takes="(N, C, D, H, W), or (C, D, H, W) of one sample", shape="3, 2, 4, 4, 4",
):  # fmt: skip
    axes, one_sample = (4, 5), 4


class DropoutBefore(nn.Dropout):
    """In the place of a dropout that the norm before it does, where both are in training.

    ``p`` and the mode stay its own, so that what sets them for every dropout of a model does so.
    """

    _norm: tuple[nn.Module]  # no child

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if self._norm[0].training or not self.training:
            return input
        seed = draw_seed(self.p, input.device)
        return input if seed is None else drop(input, seed, "dropout", self.p)


def absorb_dropout(norm: Any, layer: nn.Dropout) -> DropoutBefore:
    """Lets ``norm``, which has a dropout, follow ``layer``; what stands in its place then."""
    made = DropoutBefore(layer.p, layer.inplace)
    made.train(layer.training)
    made._norm, norm._drops_for = (norm,), (made,)
    return made
