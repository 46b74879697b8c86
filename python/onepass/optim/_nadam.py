"""NAdam."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from onepass.ops._nadam import NADAM_RULE
from onepass.optim._optimizer import Optimizer, shared_docs


@shared_docs
class NAdam(Optimizer):
    """p -= lr·((1 - μₜ)/(1 - Pₜ)·g + μₜ₊₁/(1 - Pₜμₜ₊₁)·m)/(√v̂ + eps), with m and v as in `Adam`.

    μₜ = β₁(1 - 0.96^(t·momentum_decay)/2), and Pₜ is the product of all μ up to t: a number that
    each parameter keeps beside its step count. Before that g += weight_decay·p.

    Args:
        eps: added to √v̂.
        momentum_decay: how fast μ grows from β₁/2 to β₁.
        decoupled_weight_decay: p *= 1 - lr·weight_decay instead of the penalty.

    Source: Dozat, Incorporating Nesterov Momentum into Adam, 2016, in PyTorch's form.

    Example:
        >>> p = np.zeros(1, np.float32)
        >>> optimizer = onepass.optim.NAdam([p], lr=0.5)
        >>> info = optimizer.step([np.float32([2.0])])
        >>> p.round(3)
        array([-0.528], dtype=float32)
    """

    _rule = NADAM_RULE

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        *,
        maximize: bool = False,
        compat: str = "torch",
    ) -> None:
        super().__init__(params, locals())
