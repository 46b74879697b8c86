"""Yogi."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from onepass.ops._yogi import YOGI_RULE
from onepass.optim._optimizer import Optimizer, shared_docs


@shared_docs
class Yogi(Optimizer):
    """m += (1 - β₁)(g - m), v -= (1 - β₂)·sign(v - g²)·g², p -= lr·m̂/(√v̂ + eps).

    m̂ = m/(1 - β₁ᵗ), v̂ = v/(1 - β₂ᵗ), t counted per parameter; g += weight_decay·p before.

    Args:
        eps: added to √v̂.

    Source: Zaheer, Reddi, Sachan, Kale & Kumar, Adaptive Methods for Nonconvex Optimization, 2018.

    Example:
        >>> p = np.float32([1.0])
        >>> optimizer = onepass.optim.Yogi([p], lr=0.5, eps=0.0)
        >>> info = optimizer.step([np.float32([2.0])])
        >>> p
        array([0.5], dtype=float32)
    """

    _rule = YOGI_RULE

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-3,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
        compat: str = "torch",
    ) -> None:
        super().__init__(params, locals())
