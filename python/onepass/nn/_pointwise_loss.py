"""Losses of elements: one class per function of `onepass.ops`, named as in PyTorch.

A class is one line, and a constructor where there are options. Formula and options are those of the
function.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any, ClassVar, Literal

import numpy as np

from onepass import _numbers as numbers
from onepass import ops
from onepass._array import Array, is_tensor_of_torch, mover, to_numpy
from onepass._keywords import SuggestsKeywords
from onepass.nn._loss import check_arrays, weight_beside

__all__ = [
    "BCELoss",
    "BCEWithLogitsLoss",
    "HuberLoss",
    "KLDivLoss",
    "L1Loss",
    "MSELoss",
    "SmoothL1Loss",
]

Reduction = Literal["none", "mean", "sum"]


class PointwiseLoss(SuggestsKeywords):
    """``loss, dy = loss_fn(y, target)`` by a function of `onepass.ops`; its options are attributes.

    A subclass names the function: ``class MSELoss(PointwiseLoss, op=ops.mse_loss)``.
    """

    op: ClassVar[Callable[..., tuple[Any, Array]]]
    outputs: ClassVar[str] = "numbers"  # what metrics take y for
    reductions: ClassVar[tuple[str, ...]] = ("mean", "sum", "none")
    options: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(
        cls, *, op: Callable[..., tuple[Any, Array]] | None = None, outputs: str = "numbers"
    ) -> None:
        if op is not None and "__init__" not in vars(cls):
            cls.__init__ = _constructor(cls.__name__)  # type: ignore[method-assign]
        super().__init_subclass__()
        if op is None:
            return  # a subclass of a named loss
        cls.op, cls.outputs = staticmethod(op), outputs
        shared = ("input", "target", "reduction", "out")
        cls.options = tuple(o for o in inspect.signature(op).parameters if o not in shared)
        doc = inspect.getdoc(op) or ""
        described = doc.partition("nothing is broadcast.\n")[2].partition("    reduction: ")[0]
        reductions = '"mean" over all elements, "sum" or "none"'
        cls.__doc__ = cls.__doc__ or _DOC.format(
            formula=doc.partition("\n")[0].replace("input", "y"),
            described=described,
            reductions=reductions,
            op=op.__name__,
            cls=cls.__name__,
        )

    def __init__(self, *, reduction: Reduction = "mean") -> None:
        numbers.one_of(type(self).__name__, "reduction", reduction, self.reductions)
        self.reduction: str = reduction

    def __call__(self, y: Array, target: Array) -> tuple[Any, Array]:
        """Loss and the gradient of its sum by ``y``; ``target`` has the shape of ``y``, and is
        taken in its dtype."""
        owner = type(self).__name__
        target = check_arrays(owner, y, target)
        if tuple(y.shape) != tuple(target.shape):
            raise ValueError(
                f"{owner}: 'target' has shape {tuple(target.shape)}, expected that of y, "
                f"{tuple(y.shape)}; reshape one of them"
            )
        if target.dtype != y.dtype:
            target = target.to(y.dtype) if is_tensor_of_torch(y) else target.astype(y.dtype)
        return type(self).op(y, target, reduction=self.reduction, **self._options(y))

    def _options(self, y: Array) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.options}

    def weights(self, target: Array) -> Array:
        """The weight of each loss in their mean."""
        weight = 1.0
        if self.reduction == "batchmean":
            weight = len(target) / math.prod(target.shape) if math.prod(target.shape) else 0.0
        return np.full(tuple(target.shape), weight)

    def divisor(self, target: Array) -> float | None:
        """The divisor of the loss; None for a sum."""
        if self.reduction == "sum":
            return None
        return float(len(target) if self.reduction == "batchmean" else math.prod(target.shape))

    def __repr__(self) -> str:
        shown = "".join(f", {name}={getattr(self, name)!r}" for name in self.options)
        return f"{type(self).__name__}(reduction={self.reduction!r}{shown})"


def _constructor(name: str) -> Callable[..., None]:
    """A constructor with that class's name in messages."""

    def constructor(self: PointwiseLoss, *, reduction: Reduction = "mean") -> None:
        PointwiseLoss.__init__(self, reduction=reduction)

    constructor.__name__, constructor.__qualname__ = "__init__", f"{name}.__init__"
    return constructor


_DOC = """{formula}

``loss, dy = loss_fn(y, target)``, see :func:`onepass.ops.{op}`.

Args:
{described}    reduction: {reductions}.

Raises:
    TypeError, ValueError: an option of another type or value; ``y`` and ``target`` of different
        shapes.

Example:
    >>> import numpy as np
    >>> from onepass import nn
    >>> y = np.full((2, 3), 0.5, np.float32)
    >>> loss, dy = nn.{cls}()(y, np.ones_like(y))
    >>> dy.shape
    (2, 3)
"""


class MSELoss(PointwiseLoss, op=ops.mse_loss): ...


class L1Loss(PointwiseLoss, op=ops.l1_loss): ...


class SmoothL1Loss(PointwiseLoss, op=ops.smooth_l1_loss):
    def __init__(self, *, reduction: Reduction = "mean", beta: float = 1.0) -> None:
        super().__init__(reduction=reduction)
        self.beta = numbers.in_range(type(self).__name__, "beta", beta, 0)


class HuberLoss(PointwiseLoss, op=ops.huber_loss):
    def __init__(self, *, reduction: Reduction = "mean", delta: float = 1.0) -> None:
        super().__init__(reduction=reduction)
        self.delta = numbers.in_range(type(self).__name__, "delta", delta, above=0)


class BCELoss(PointwiseLoss, op=ops.bce_loss, outputs="probabilities"): ...


class BCEWithLogitsLoss(PointwiseLoss, op=ops.bce_with_logits, outputs="logits"):
    def __init__(self, *, reduction: Reduction = "mean", pos_weight: Array | None = None) -> None:
        super().__init__(reduction=reduction)
        if isinstance(pos_weight, (list, tuple, int, float)):
            pos_weight = np.asarray(pos_weight, np.float32)
        if pos_weight is not None:
            weights = to_numpy(pos_weight)
            right = (weights >= 0) & np.isfinite(weights)
            if not right.all():
                raise ValueError(
                    f"{type(self).__name__}: 'pos_weight' has {weights[~right].flat[0]}, expected "
                    "finite numbers >= 0"
                )
        self.pos_weight = pos_weight

    def _options(self, y: Array) -> dict[str, Any]:
        weight = weight_beside(type(self).__name__, "pos_weight", self.pos_weight, y)
        return {"pos_weight": weight}

    def to(self, device: str) -> BCEWithLogitsLoss:
        """Move the weights, as `Module.to` does."""
        if self.pos_weight is not None:
            self.pos_weight = mover(device)(self.pos_weight)
        return self


class KLDivLoss(PointwiseLoss, op=ops.kl_div, outputs="logits"):
    reductions = ("mean", "sum", "none", "batchmean")

    def __init__(
        self,
        *,
        reduction: Reduction | Literal["batchmean"] = "mean",
        log_target: bool = False,
    ) -> None:
        super().__init__(reduction=reduction)  # type: ignore[arg-type]
        self.log_target = numbers.flag(type(self).__name__, "log_target", log_target)
