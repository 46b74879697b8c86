"""Adam and AdamW."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from onepass.ops._adam import ADAM_RULE
from onepass.optim._optimizer import Optimizer, shared_docs


@shared_docs
class Adam(Optimizer):
    """m += (1 - β₁)(g - m), v = β₂v + (1 - β₂)g², p -= lr·m̂/(√v̂ + eps), g += weight_decay·p.

    m̂ = m/(1 - β₁ᵗ), v̂ = v/(1 - β₂ᵗ), t counted per parameter; with amsgrad v̂ is the running
    maximum of v, corrected.

    Args:
        eps: added to √v̂.
        amsgrad: the maximum of past v, the same for all groups.
        decoupled_weight_decay: p *= 1 - lr·weight_decay instead: :class:`AdamW`'s update.

    Source: Kingma & Ba, Adam: A Method for Stochastic Optimization, 2014; Reddi et al., 2018.

    Example:
        >>> p = np.float32([1.0])
        >>> optimizer = onepass.optim.Adam([p], lr=0.5)
        >>> info = optimizer.step([np.float32([2.0])], max_norm=1.0)
        >>> p, info.grad_norm
        (array([0.5], dtype=float32), 2.0)
    """

    _rule = ADAM_RULE

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        decoupled_weight_decay: bool = False,
        compat: str = "torch",
    ) -> None:
        super().__init__(params, locals())


@shared_docs
class AdamW(Adam):
    """Adam with decoupled weight decay: p *= 1 - lr·weight_decay, then Adam's step.

    Args:
        eps: added to √v̂.
        weight_decay: scaled by lr.
        amsgrad: the maximum of past v, the same for all groups.

    Source: Loshchilov & Hutter, Decoupled Weight Decay Regularization, 2017.

    Example:
        >>> p = np.float32([1.0])
        >>> optimizer = onepass.optim.AdamW([p], lr=0.5, weight_decay=0.5)
        >>> info = optimizer.step([np.float32([0.0])])
        >>> p
        array([0.75], dtype=float32)
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        compat: str = "torch",
    ) -> None:
        Optimizer.__init__(self, params, {**locals(), "decoupled_weight_decay": True})
